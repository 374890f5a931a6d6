"""The wiring of a program: which variable each reader reads, and the space that follows from it.

A reader is a declared variable of one module. Most readers own their variable. A *linked* reader reads another
one: the variable of the nearest enclosing module of the class that declares it, or of a subclass, which may
redeclare it; where there is no such module, a free variable that all its readers share under the first reader's
path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from dspex.errors import DefinitionError
from dspex.modules.layout import Layout, Node, variable_path
from dspex.variables import (
    Condition,
    Constraint,
    Derived,
    Entry,
    Handle,
    Space,
    constraints_of,
    declared,
    effective_domain,
    link_of,
    slot_of,
)

if TYPE_CHECKING:
    from dspex.modules.module import Module

__all__ = ["Wiring", "enclosing_value"]


class Wiring:
    """Paths to readers and readers to sources for one layout; shared by all copies of a program.

    ``targets`` maps a variable's path to its readers, the source first, each as (thing index, attribute);
    ``links`` lists the readers that must be given another's value, as (reader, attribute, source,
    attribute); ``lookups`` names the enclosing variables that derived variables of a module ask for.
    ``is_single`` says that there is one module, nothing to watch and nothing to resolve in a copy of it, and
    ``space_seen`` is a space that was made of this wiring, whatever the values were then.
    """

    __slots__ = (
        "_aliases",
        "_nodes",
        "_sources",
        "is_single",
        "layout",
        "links",
        "lookups",
        "paths",
        "space_hash",
        "space_seen",
        "targets",
    )

    def __init__(self, layout: Layout, things: Sequence[Any]) -> None:
        self.layout = layout
        self.space_hash: str | None = None
        self.space_seen: Space | None = None
        self.targets: dict[str, list[tuple[int, str]]] = {}
        self.links: list[tuple[int, str, int, str]] = []
        self.lookups: list[tuple[int, Handle, int, str]] = []
        self.paths: dict[tuple[int, str], str] = {}
        self._nodes = {node.index: node for node in layout.nodes}
        free: dict[int, tuple[int, str]] = {}
        linked: list[tuple[int, str, tuple[int, str]]] = []
        for node in layout.nodes:
            module = things[node.index]
            for name, variable in declared(type(module)).items():
                source = self._source(node.index, name, variable, things, free, ())
                if source == (node.index, name):
                    path = variable_path(node.path, module, name)
                    if path in self.targets:
                        raise DefinitionError(
                            f"two variables of the program have the path `{path}`; rename one of them"
                        )
                    self.paths[source] = path
                    self.targets[path] = [source]
                else:
                    linked.append((node.index, name, source))
        self._aliases: dict[str, str] = {}
        for reader, name, source in linked:
            self.links.append((reader, name, *source))
            path = self.paths[source]
            self.targets[path].append((reader, name))
            self.paths[reader, name] = path
            self._aliases[variable_path(self._nodes[reader].path, things[reader], name)] = path
        for node in layout.nodes:
            self._find_lookups(node, things)
        self._sources = tuple(
            (index, name, _default(things[index], name)) for (index, name), *_ in self.targets.values()
        )
        self.is_single = not (len(things) > 1 or layout.snapshots or layout.watched or self.links or self.lookups)

    def _source(
        self,
        index: int,
        name: str,
        variable: Any,
        things: Sequence[Any],
        free: dict[int, tuple[int, str]],
        seen: tuple[tuple[int, str], ...],
    ) -> tuple[int, str]:
        """Follow links from a reader to the reader that owns the value."""
        module = things[index]
        link = None if isinstance(variable, Derived) else link_of(module, variable)
        if link is None:
            return index, name
        if (index, name) in seen:
            raise DefinitionError(
                f"`{type(module).__name__}.{name}` is linked to itself in a circle; assign a value or a "
                "Domain to one of the variables of the circle"
            )
        owner = self._enclosing(index, link, things)
        if owner is None:
            return free.setdefault(id(link), (index, name))
        found = declared(type(things[owner]))[link.name]
        if found is not link:
            variable.check_link(
                module,
                found,
                f"`{variable_path(self._nodes[index].path, module, name)}` is {link.label}, which "
                f"{type(things[owner]).__name__} redeclares",
            )
        return self._source(owner, link.name, found, things, free, (*seen, (index, name)))

    def _enclosing(self, index: int, variable: Handle, things: Sequence[Any]) -> int | None:
        """The nearest module at or above ``index`` that has ``variable``."""
        at: int | None = index
        while at is not None:
            if _has(things[at], variable):
                return at
            at = self.layout.parents.get(at)
        return None

    def _find_lookups(self, node: Node, things: Sequence[Any]) -> None:
        for variable in declared(type(things[node.index])).values():
            if isinstance(variable, Derived):
                for asked in variable.inputs.values():
                    if isinstance(asked, Handle):
                        owner = self._enclosing(node.index, asked, things)
                        if owner is not None and owner != node.index:
                            self.lookups.append((node.index, asked, owner, asked.name))

    def value(self, module: Module, name: str) -> Any:
        """The value a source has now: the module's own, or the default of the free variable it stands for."""
        state = module.__dict__
        if name in state:
            return state[name]
        if isinstance(declared(type(module))[name], Derived):
            return getattr(module, name)
        return _default(module, name)

    def values(self, things: Sequence[Any]) -> list[Any]:
        """The current value of every path, in the order of ``space()``; None for a derived one."""
        return [things[index].__dict__.get(name, default) for index, name, default in self._sources]

    def space(self, things: Sequence[Any]) -> Space:
        """The space of the program whose things these are; its defaults are the current values."""
        entries = []
        constraints = []
        for node in self.layout.nodes:
            module = things[node.index]
            own = declared(type(module))
            for name, variable in own.items():
                path = self.paths[node.index, name]
                if self.targets[path][0] == (node.index, name):
                    entries.append(self._entry(path, node, module, name, variable, things))
            for rule in constraints_of(type(module)).values():
                constraints.append(self._constraint(rule, node, things))
        return Space(entries, constraints, reachable=False)

    def _conditions(self, node: Node) -> tuple[Condition, ...]:
        """What a module is active under; where a choice is linked, its variable stands elsewhere."""
        if not self._aliases:
            return node.conditions
        return tuple(attrs.evolve(one, path=self._aliases.get(one.path, one.path)) for one in node.conditions)

    def _entry(self, path: str, node: Node, module: Module, name: str, variable: Any, things: Sequence[Any]) -> Entry:
        readers = tuple(
            variable_path(self._nodes[index].path, things[index], reader) for index, reader in self.targets[path][1:]
        )
        if isinstance(variable, Derived):
            inputs = {argument: self._input_path(asked, node, things) for argument, asked in variable.inputs.items()}
            return Entry(
                path,
                None,
                conditions=self._conditions(node),
                readers=readers,
                doc=variable.doc,
                inputs=inputs,
                compute=variable.fn,
            )
        link: Any = link_of(module, variable)  # a free variable: the first reader stands for it
        tunable = slot_of(module, name).tunable
        owner = variable if link is None else link
        return Entry(
            path,
            effective_domain(module, variable) if link is None else link.domain,
            self.value(module, name),
            owner.tunable if tunable is None else tunable,
            conditions=self._conditions(node),
            readers=readers,
            doc=variable.doc or owner.doc,
            optional=owner.optional,
        )

    def _constraint(self, rule: Any, node: Node, things: Sequence[Any]) -> Constraint:
        inputs = {argument: self._input_path(asked, node, things) for argument, asked in rule.inputs.items()}
        prefix = f"{node.path}." if node.path else ""
        return Constraint(name=f"{prefix}{rule.name}", inputs=inputs, reason=rule.reason, check=rule.fn)

    def _input_path(self, asked: Any, node: Node, things: Sequence[Any]) -> str:
        if not isinstance(asked, Handle):
            return self.paths[node.index, asked]
        owner = self._enclosing(node.index, asked, things)
        if owner is None:
            raise DefinitionError(
                f"`{node.path or type(things[node.index]).__name__}` computes from `{asked.name}`, but no "
                "enclosing module declares that variable"
            )
        return self.paths[owner, asked.name]


def _has(module: Any, variable: Handle) -> bool:
    """Whether ``variable`` is one of the module's, as its class or a base declares it; a subclass may redeclare it."""
    return variable.owner is not None and isinstance(module, variable.owner)


def _default(module: Module, name: str) -> Any:
    """What a source reads while nothing is assigned to it; None for a derived one."""
    variable = declared(type(module))[name]
    if isinstance(variable, Derived):
        return None
    return (link_of(module, variable) or variable).default_value()


def enclosing_value(module: Module, variable: Handle) -> Any:
    """A linked variable's value on a module outside a run: from the nearest known enclosing module."""
    top: Any = None
    at: Any = module
    while at is not None:
        if at is not module and _has(at, variable):
            return getattr(at, variable.name)
        top = at
        parent = at.__dict__.get("_parent")
        at = parent() if parent is not None else None
    wiring, things = top._wiring()
    for reader, name, source, attribute in wiring.links:  # a free variable: its first reader has the value
        if things[reader] is module and slot_of(module, name).link is variable:
            return wiring.value(things[source], attribute)
    return variable.default_value()
