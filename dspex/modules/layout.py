"""The layout of a program: which modules it has, at which paths, and what else must follow a copy.

A program is an ordinary Python object graph. Before it can be searched or run, three questions are asked of
it once, and the answers kept until its structure changes:

* which modules are in it, and what is each one's *path*: attributes, list positions, dict keys, joined by
  dots (``answer.stepwise``, ``steps.0``); a module met at two paths has the first as its own;
* which values *hold* a module and so must be rebuilt around its copy: containers, bound methods, closures,
  partials and tools, however nested; everything else is shared between copies by reference;
* which captures cannot be rebuilt (an object of a foreign class that keeps a module in an attribute, a
  function that reads a module from a global): those raise `BindingError`, because a copy would silently go
  on using the original, untuned.

A layout speaks of *things* by index, never of the objects themselves, so all copies of a program share one.
"""

from __future__ import annotations

import collections
import dis
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from dspex.errors import BindingError, DefinitionError
from dspex.modules.captures import captured_module
from dspex.tools import Tool
from dspex.variables import Condition, declared

if TYPE_CHECKING:
    from dspex.modules.module import Module

__all__ = ["INTERNAL", "Layout", "Node", "discover", "variable_path"]

INTERNAL = frozenset({"_slots", "_run", "_path", "_stamp", "_parent", "_layout", "_things", "_links", "_space"})
"""Attributes that dspex itself keeps in a module's ``__dict__``."""

_ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None), type, range, slice})
_WATCHED_SIZE = 64
"""A container without modules is watched element by element up to this size; beyond it, by its length."""

_WATCHED_CONTAINERS = 256
"""No more containers without modules are watched per program: what holds so many is data."""

Rebuild: TypeAlias = Callable[[Any, Sequence[Any]], Any]
"""Makes a thing's copy from (the original thing, the copies made so far by index)."""


class Node:
    """One module of the layout: its index among the things, its path and the conditions it is active under."""

    __slots__ = ("attributes", "conditions", "index", "path")

    def __init__(self, index: int, path: str, conditions: tuple[Condition, ...]) -> None:
        self.index = index
        self.path = path
        self.conditions = conditions
        self.attributes: tuple[tuple[str, int], ...] = ()  # (attribute, index of the thing it holds)


class Layout:
    """The structure shared by a program and all its copies; made by `discover`."""

    __slots__ = ("holders", "nodes", "parents", "places", "rebuilds", "snapshots", "stamps", "watched")

    def __init__(
        self,
        nodes: tuple[Node, ...],
        parents: Mapping[int, int],
        rebuilds: tuple[tuple[int, Rebuild], ...],
        stamps: tuple[tuple[int, Any, Any], ...],
        snapshots: tuple[tuple[int, Any], ...],
        watched: tuple[tuple[Any, Any], ...],
    ) -> None:
        self.nodes = nodes
        self.parents = parents
        self.rebuilds = rebuilds
        self.stamps = stamps
        self.snapshots = snapshots  # of the containers that hold modules, by index
        self.watched = watched  # the containers that hold none and are shared, each with its elements or their count
        # What every copy goes through, without the rest of the nodes.
        self.places = tuple((node.index, node.path) for node in nodes)
        self.holders = tuple((node.index, node.attributes) for node in nodes if node.attributes)

    def holds(self, things: Sequence[Any]) -> bool:
        """Whether ``things`` still have this structure: nothing assigned, opened, linked or appended since."""
        for index, stamp, slots in self.stamps:
            state = things[index].__dict__
            if state.get("_stamp") is not stamp or state.get("_slots") is not slots:
                return False
        for index, snapshot in self.snapshots:
            if not _same_container(things[index], snapshot, things):
                return False
        for container, snapshot in self.watched:  # noqa: SIM110 - each call comes here, and `all` makes a generator
            if not _same_container(container, snapshot, things):
                return False
        return True


class _Ref:
    """In a snapshot: the thing of this index."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def _same_container(container: Any, snapshot: Any, things: Sequence[Any]) -> bool:
    if isinstance(snapshot, int):
        return len(container) == snapshot
    elements = container.values() if isinstance(container, dict) else container
    if len(elements) != len(snapshot):
        return False
    for element, expected in zip(elements, snapshot, strict=True):
        if element is not (things[expected.index] if type(expected) is _Ref else expected):
            return False
    return True


def variable_path(module_path: str, module: Module, name: str) -> str:
    """The path of a module's variable; a `ModuleChoice`'s choice stands at the module's own path."""
    if name == type(module)._variable_at_own_path:
        return module_path or name
    return f"{module_path}.{name}" if module_path else name


def children(module: Module) -> Iterator[tuple[str, Any]]:
    """The attributes of a module that may hold other modules, in the order they were assigned."""
    kind = type(module)
    skipped = (INTERNAL, declared(kind), kind._without_modules)
    for name, value in module.__dict__.items():
        if type(value) not in _ATOMS and not any(name in names for names in skipped):
            yield name, value


def discover(root: Module, module_type: type[Module]) -> tuple[Layout, tuple[Any, ...]]:
    """The layout of ``root`` and its things, the modules among them in the order of their paths.

    Raises:
        BindingError: something holds a module in a way that cannot follow a copy.
        DefinitionError: a module sits under a dict key that is no path segment, or one module object is
            shared by alternatives that exclude each other.
    """
    return _Discovery(root, module_type).run()


class _Discovery:
    def __init__(self, root: Module, module_type: type[Module]) -> None:
        self.root = root
        self.module_type = module_type
        self.things: list[Any] = []
        self.index_of: dict[int, int] = {}
        self.nodes: dict[int, Node] = {}  # by index
        self.parents: dict[int, int] = {}
        self.conditions: dict[int, list[tuple[Condition, ...]]] = {}
        self.rebuilds: list[tuple[int, Rebuild]] = []
        self.snapshots: list[tuple[int, Any]] = []
        self.watched: list[tuple[Any, Any]] = []
        self.functions: list[tuple[str, types.FunctionType]] = []
        self.opaque: list[tuple[str, Any]] = []
        # Data may be a graph, which has many more ways through it than things in it: each is looked at once.
        self.walked: set[tuple[int, tuple[Condition, ...]]] = set()
        self.without_modules: set[int] = set()
        self.shared: dict[int, Any] = {}  # with the things, so that no other thing gets the id of one
        self.scanning: set[int] = set()
        self.reentered: set[int] = set()

    def run(self) -> tuple[Layout, tuple[Any, ...]]:
        self.walk(self.root, "", (), None, ())
        done = 0
        while done < len(self.things):  # scanning a capture may add modules, which are scanned in their turn
            thing = self.things[done]
            if isinstance(thing, self.module_type):
                self.scan_module(done, thing)
            done += 1
        for index, node in self.nodes.items():
            node.conditions = self.settle_conditions(index, node.path)
        self.refuse_hidden_captures()
        nodes = tuple(self.nodes[index] for index in sorted(self.nodes))
        states = [(node.index, self.things[node.index].__dict__) for node in nodes]
        stamps = tuple((index, state.get("_stamp"), state.get("_slots")) for index, state in states)
        layout = Layout(nodes, self.parents, tuple(self.rebuilds), stamps, tuple(self.snapshots), tuple(self.watched))
        return layout, tuple(self.things)

    # -- paths -------------------------------------------------------------------------------------------

    def walk(
        self,
        value: Any,
        path: str,
        conditions: tuple[Condition, ...],
        parent: int | None,
        stack: tuple[int, ...],
    ) -> None:
        """Give every module below ``value`` its path; ``stack`` holds the ids on the way down."""
        if id(value) in stack:
            return
        if isinstance(value, self.module_type):
            index = self.index_of.get(id(value))
            if index is None:
                index = self.add(value)
                self.nodes[index] = Node(index, path, conditions)
                self.conditions[index] = [conditions]
                if parent is not None:
                    self.parents[index] = parent
            elif conditions in self.conditions[index]:
                return
            else:
                self.conditions[index].append(conditions)
            own = self.nodes[index].path
            for name, child in children(value):
                condition = value._condition_of(name, own)
                below = (*conditions, condition) if condition else conditions
                self.walk(child, f"{own}.{name}" if own else name, below, index, (*stack, id(value)))
            return
        if (id(value), conditions) in self.walked:
            return
        if isinstance(value, dict):
            self.walked.add((id(value), conditions))
            for key, child in value.items():
                if type(child) in _ATOMS:
                    continue
                if not isinstance(key, str) or not key or "." in key:
                    if self.holds_module(child):
                        raise DefinitionError(
                            f"`{path}` holds a module under the key {key!r}, which cannot be part of a path.\n"
                            f"  wrong:  self.{path or 'parts'} = {{{key!r}: Predict(...)}}\n"
                            f"  right:  self.{path or 'parts'} = {{'name': Predict(...)}}"
                            "  # a non-empty str without dots"
                        )
                    continue
                self.walk(child, f"{path}.{key}" if path else key, conditions, parent, (*stack, id(value)))
        elif isinstance(value, list | tuple | collections.deque):
            self.walked.add((id(value), conditions))
            for position, child in enumerate(value):
                if type(child) not in _ATOMS:
                    below_path = f"{path}.{position}" if path else str(position)
                    self.walk(child, below_path, conditions, parent, (*stack, id(value)))

    def holds_module(self, value: Any) -> bool:
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, self.module_type):
                return True
            if isinstance(one, dict | list | tuple | collections.deque) and id(one) not in self.without_modules:
                self.without_modules.add(id(one))
                waiting.extend(one.values() if isinstance(one, dict) else one)
        return False

    def settle_conditions(self, index: int, path: str) -> tuple[Condition, ...]:
        """A module reached in several ways is active when its most general way is."""
        ways = sorted(self.conditions[index], key=len)
        general = ways[0]
        for way in ways[1:]:
            if way[: len(general)] != general:
                raise DefinitionError(
                    f"the module at `{path}` is shared by alternatives that exclude each other "
                    f"({_spell(general)} and {_spell(way)}), so its variables would have two conditions.\n"
                    "  right:  give each alternative a module of its own, or hold the shared one in an "
                    "attribute outside the ModuleChoice as well"
                )
        return general

    # -- what must be rebuilt ----------------------------------------------------------------------------

    def add(self, thing: Any) -> int:
        index = len(self.things)
        self.things.append(thing)
        self.index_of[id(thing)] = index
        return index

    def scan_module(self, index: int, module: Module) -> None:
        node = self.nodes[index]
        held = []
        for name, value in children(module):
            place = f"{node.path}.{name}" if node.path else name
            found = self.scan(value, place, index)
            if found is not None:
                held.append((name, found))
        node.attributes = tuple(held)
        for base in type(module).__mro__:
            if base.__module__.partition(".")[0] != "dspex":
                for name in ("forward", "flow"):
                    function = base.__dict__.get(name)
                    if isinstance(function, types.FunctionType):
                        self.functions.append((f"{base.__name__}.{name}", function))

    def scan(self, value: Any, place: str, parent: int) -> int | None:
        """The index of ``value`` when a copy of the program needs a copy of it, else None: it is shared."""
        known = self.index_of.get(id(value))
        if known is not None:
            return known
        kind = type(value)
        if kind in _ATOMS or isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            return None
        if isinstance(value, self.module_type):  # a module that only a capture holds: part of the program
            self.walk(value, place, self.nodes[parent].conditions, parent, ())
            return self.index_of[id(value)]
        if id(value) in self.scanning:
            self.reentered.add(id(value))
            return None
        if id(value) in self.shared:
            return None
        self.scanning.add(id(value))
        try:
            found = self.scan_holder(value, place, parent)
        finally:
            self.scanning.discard(id(value))
        if found is None:
            self.shared[id(value)] = value
        return found

    def scan_holder(self, value: Any, place: str, parent: int) -> int | None:
        if isinstance(value, dict):
            held = [(k, self.scan(v, f"{place}.{k}", parent)) for k, v in value.items()]
            return self.container(value, held, _rebuild_dict)
        if isinstance(value, set | frozenset) and any(
            isinstance(item, self.module_type) and id(item) not in self.index_of for item in value
        ):
            raise DefinitionError(
                f"`{place}` is a set that holds modules, whose order and so whose paths differ from run to run.\n"
                f"  wrong:  self.{place} = {{Predict(...), Predict(...)}}\n"
                f"  right:  self.{place} = [Predict(...), Predict(...)]"
            )
        if isinstance(value, list | tuple | set | frozenset | collections.deque):
            held = [(i, self.scan(v, f"{place}.{i}", parent)) for i, v in enumerate(value)]
            return self.container(value, held, _rebuild_sequence)
        if isinstance(value, types.MethodType):
            owner = self.scan(value.__self__, place, parent)
            if owner is None:
                return None
            return self.rebuilt(value, lambda old, copies: types.MethodType(old.__func__, copies[owner]))
        if isinstance(value, functools.partial):
            function = self.scan(value.func, place, parent)
            arguments = self.scan(value.args, place, parent)
            keywords = self.scan(value.keywords, place, parent)
            if function is arguments is keywords is None:
                return None
            return self.rebuilt(value, _partial_rebuilder(function, arguments, keywords))
        if isinstance(value, types.FunctionType):
            return self.scan_function(value, place, parent)
        if isinstance(value, Tool):
            function = self.scan(value.func, place, parent)
            if function is None:
                return None
            return self.rebuilt(value, lambda old, copies: old.with_function(copies[function]))
        self.opaque.append((place, value))
        return None

    def container(self, value: Any, held: list[tuple[Any, int | None]], rebuild: Any) -> int | None:
        indices = tuple((key, index) for key, index in held if index is not None)
        elements = tuple(value.values() if isinstance(value, dict) else value)
        if not indices:
            # A module may be put into it later, which must be noticed; what never changes and huge data need no look.
            if isinstance(value, list | dict | collections.deque) and len(self.watched) < _WATCHED_CONTAINERS:
                self.watched.append((value, elements if len(elements) <= _WATCHED_SIZE else len(elements)))
            return None
        index = self.rebuilt(value, functools.partial(rebuild, indices))
        snapshot = tuple(
            element if found is None else _Ref(found) for element, (_, found) in zip(elements, held, strict=True)
        )
        self.snapshots.append((index, snapshot))
        return index

    def scan_function(self, function: types.FunctionType, place: str, parent: int) -> int | None:
        self.functions.append((place, function))
        cells = {}
        recursive = set()
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # a name of the enclosing function that is not assigned yet
                continue
            if content is function:
                recursive.add(name)
                continue
            found = self.scan(content, f"{place}.{name}", parent)
            if found is not None:
                cells[name] = found
        defaults = self.scan(function.__defaults__ or (), place, parent)
        keywords = self.scan(function.__kwdefaults__ or {}, place, parent)
        wrapped = self.scan(function.__dict__, place, parent)
        if not cells and defaults is keywords is wrapped is None:
            return None
        return self.rebuilt(function, _function_rebuilder(cells, recursive, defaults, keywords, wrapped))

    def rebuilt(self, value: Any, rebuild: Rebuild) -> int:
        if id(value) in self.reentered:
            raise BindingError(
                f"{value!r} holds a module and, through what it holds, itself: it cannot be rebuilt around "
                "a copy of the program.\n"
                "  right:  break the circle, or make the pieces methods of a dspex.Module"
            )
        index = self.add(value)
        self.rebuilds.append((index, rebuild))
        return index

    # -- what cannot be --------------------------------------------------------------------------------

    def refuse_hidden_captures(self) -> None:
        modules = {id(self.things[index]): node.path for index, node in self.nodes.items()}
        for place, function in self.functions:
            for name in _globals_read(function.__code__):
                value = function.__globals__.get(name)
                if id(value) in modules and isinstance(value, self.module_type):
                    raise BindingError(
                        f"`{place}` reads the global `{name}`, which is the module "
                        f"{_named(modules[id(value)])} of this program: a copy of the program "
                        "would go on using the original.\n"
                        f"  wrong:  def {function.__name__}(...): {name}(...)\n"
                        f"  right:  make it a method that uses self, or pass `{name}` in as an argument"
                    )
        for place, value in self.opaque:
            where = captured_module(value, modules, self.module_type)
            if where is not None:
                attribute, path = where
                kind = type(value).__name__
                raise BindingError(
                    f"`{place}` is a {kind} that holds the module {_named(path)} of this program "
                    f"in `{attribute}`, where a copy of the program cannot re-point it.\n"
                    f"  right:  make {kind} a dspex.Module, or give it a plain function or a bound method"
                )


def _named(path: str) -> str:
    return f"`{path}`" if path else "at the root"


def _globals_read(code: types.CodeType) -> set[str]:
    """The names that a function, or one nested in it, reads as globals; names of attributes are not among them."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_read(constant)
    return names


def _spell(conditions: tuple[Condition, ...]) -> str:
    return " and ".join(f"{c.path}={c.value!r}" for c in conditions) or "always"


def _rebuild_dict(indices: tuple[tuple[Any, int], ...], old: Any, copies: Sequence[Any]) -> Any:
    new = old.copy()
    for key, index in indices:
        new[key] = copies[index]
    return new


def _rebuild_sequence(indices: tuple[tuple[Any, int], ...], old: Any, copies: Sequence[Any]) -> Any:
    new = list(old)
    for position, index in indices:
        new[position] = copies[index]
    kind = type(old)
    if kind is list:
        return new
    return kind._make(new) if hasattr(kind, "_make") else kind(new)


def _partial_rebuilder(function: int | None, arguments: int | None, keywords: int | None) -> Rebuild:
    def rebuild(old: Any, copies: Sequence[Any]) -> Any:
        return functools.partial(
            old.func if function is None else copies[function],
            *(old.args if arguments is None else copies[arguments]),
            **(old.keywords if keywords is None else copies[keywords]),
        )

    return rebuild


def _function_rebuilder(
    cells: Mapping[str, int],
    recursive: set[str],
    defaults: int | None,
    keywords: int | None,
    wrapped: int | None,
) -> Rebuild:
    def rebuild(old: Any, copies: Sequence[Any]) -> Any:
        # Cells that hold no module stay the same objects: what a closure shares by `nonlocal`, it goes on
        # sharing.
        closure = tuple(
            types.CellType(copies[cells[name]]) if name in cells else (types.CellType() if name in recursive else cell)
            for name, cell in zip(old.__code__.co_freevars, old.__closure__ or (), strict=True)
        )
        new = types.FunctionType(
            old.__code__,
            old.__globals__,
            old.__name__,
            old.__defaults__ if defaults is None else copies[defaults],
            closure,
        )
        for name, cell in zip(old.__code__.co_freevars, closure, strict=True):
            if name in recursive:
                cell.cell_contents = new
        new.__kwdefaults__ = old.__kwdefaults__ if keywords is None else copies[keywords]
        new.__qualname__, new.__doc__, new.__module__ = old.__qualname__, old.__doc__, old.__module__
        new.__annotations__ = old.__annotations__
        new.__dict__.update(old.__dict__ if wrapped is None else copies[wrapped])
        return new

    return rebuild
