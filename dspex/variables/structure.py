"""What a space works out once: which variables are active when, and what is computed from what.

A space is immutable, so all of this is done when it is made, and a question about a state is a few lookups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import attrs

from dspex.errors import DefinitionError, StateError
from dspex.variables.codec import Json
from dspex.variables.entries import Condition, Constraint, Entry
from dspex.variables.messages import did_you_mean, shown
from dspex.variables.values import same

__all__ = ["Rule", "Structure"]

_CACHED = 4096


class Rule(NamedTuple):
    """How a derived variable is computed."""

    compute: Callable[..., Any] | None
    inputs: tuple[tuple[str, str], ...]


class Active(NamedTuple):
    """What is active under some values."""

    paths: tuple[str, ...]
    """In the space's order."""

    members: frozenset[str]
    """The same, to look paths up in."""

    counted: tuple[str, ...]
    """The paths that can be set and make a difference: the active ones, and what active derived ones read."""


class Structure:
    """The index of a space's entries; see `Space` for what the questions mean.

    With ``reachable=False`` a condition may ask for a value that its variable cannot have (any more).
    """

    __slots__ = (
        "_active_cache",
        "_cacheable",
        "_checked",
        "_conditional",
        "_encoded",
        "_selectors",
        "_untyped",
        "constraints",
        "defaults",
        "derived",
        "entries",
        "order",
        "paths",
    )

    def __init__(
        self, entries: Iterable[Entry], constraints: tuple[Constraint, ...], *, reachable: bool = True
    ) -> None:
        found = _by_path(entries)
        self.entries = {path: _with_conditions(entry, found, reachable) for path, entry in found.items()}
        self.paths = tuple(found)
        self.order = _sorted(
            {path: [one.path for one in entry.conditions] for path, entry in found.items()},
            "is active only under a condition on itself",
        )
        self.derived = self._rules()
        self.defaults: dict[str, Any] = {path: entry.default for path, entry in found.items() if not entry.is_derived}
        self._encoded: dict[str, Json] = {}
        self.constraints = self._checked_constraints(constraints)
        wanted = {path for _, paths in self.constraints for path in paths}
        # Whatever a derived input is itself derived from comes along when it is computed.
        self._checked = tuple(
            path for path, rule in self.derived.items() if path in wanted and rule.compute is not None
        )
        self._conditional = tuple(
            (path, tuple((one.path, one.value) for one in self.entries[path].conditions))
            for path in self.order
            if self.entries[path].conditions
        )
        values = [(parent, value) for _, conditions in self._conditional for parent, value in conditions]
        self._selectors = tuple(dict.fromkeys(parent for parent, _ in values))
        # Inside of containers, a dict key does not tell 1 from True.
        self._cacheable = not any(isinstance(value, tuple | list | dict) for _, value in values)
        # Nothing else is equal to a string, so among strings the types need not be told apart.
        self._untyped = all(type(value) is str for _, value in values)
        self._active_cache: dict[Any, Active] = {}

    def _rules(self) -> dict[str, Rule]:
        needs: dict[str, list[str]] = {}
        for entry in self.entries.values():
            needs[entry.path] = list((entry.inputs or {}).values())
            for argument, path in (entry.inputs or {}).items():
                if path not in self.entries:
                    raise DefinitionError(
                        f"{entry.path}: it is derived from {path!r} (as {argument}), which is not in the "
                        f"space.{did_you_mean(path, self.entries)}"
                    )
        rules: dict[str, Rule] = {}
        for path in _sorted(needs, "is derived from itself"):
            entry = self.entries[path]
            if entry.inputs is not None:
                rules[path] = Rule(entry.compute, tuple(entry.inputs.items()))
        return rules

    def _checked_constraints(
        self, constraints: tuple[Constraint, ...]
    ) -> tuple[tuple[Constraint, tuple[str, ...]], ...]:
        names: set[str] = set()
        for constraint in constraints:
            if constraint.name in names:
                raise DefinitionError(f"Two constraints are called {constraint.name!r}. Give each a name of its own.")
            names.add(constraint.name)
            for argument, path in constraint.inputs.items():
                if path not in self.entries:
                    raise DefinitionError(
                        f"The constraint {constraint.name!r} reads {path!r} (as {argument}), which is not in "
                        f"the space.{did_you_mean(path, self.entries)}"
                    )
        return tuple((constraint, tuple(constraint.inputs.values())) for constraint in constraints)

    def searched(self) -> tuple[str, ...]:
        """Return the tunable paths, without those whose conditions fail whatever is chosen for the rest."""
        reachable: set[str] = set()
        for path in self.order:
            if all(one.path in reachable and self._may_be(one) for one in self.entries[path].conditions):
                reachable.add(path)
        return tuple(path for path, entry in self.entries.items() if entry.tunable and path in reachable)

    def _may_be(self, condition: Condition) -> bool:
        parent = self.entries[condition.path]
        if not parent.tunable:
            return same(parent.default, condition.value)
        try:
            parent.validate(condition.value)
        except StateError:
            return False
        return True

    def encode(self, path: str, value: Any) -> Json:
        """Return a value as JSON; that of a default is worked out once."""
        if value is not self.defaults[path]:
            return self.entries[path].encode(value)
        if path not in self._encoded:
            self._encoded[path] = self.entries[path].encode(value)
        return self._encoded[path]

    def active(self, values: Mapping[str, Any]) -> Active:
        """Return what is active; a missing value counts as the default."""
        get, defaults = values.get, self.defaults
        chosen = [get(path, defaults[path]) for path in self._selectors]
        if self._untyped:
            key: Any = tuple(chosen)
        elif self._cacheable:
            key = (*chosen, *map(type, chosen))
        else:
            return self._compute_active(values)
        try:
            found = self._active_cache.get(key)
        except TypeError:  # a choice between lists or dicts
            return self._compute_active(values)
        if found is None:
            found = self._compute_active(values)
            if len(self._active_cache) >= _CACHED:
                self._active_cache.clear()
            self._active_cache[key] = found
        return found

    def _compute_active(self, values: Mapping[str, Any]) -> Active:
        inactive: set[str] = set()
        for path, conditions in self._conditional:
            for parent, wanted in conditions:
                if parent in inactive or not same(values.get(parent, self.defaults[parent]), wanted):
                    inactive.add(path)
                    break
        paths = tuple([path for path in self.paths if path not in inactive]) if inactive else self.paths
        sources = self.sources(paths)
        return Active(paths, frozenset(paths), tuple([path for path in self.defaults if path in sources]))

    def compute(self, path: str, values: Mapping[str, Any]) -> Any:
        """Return the value of the derived variable at ``path`` for complete values."""
        rule = self.derived[path]
        if rule.compute is None:
            raise StateError(
                f"{path} is derived, and a space that was read from JSON does not know how. Ask the "
                f"program's own space: program.space()."
            )
        given = {
            argument: values[source] if source in values else self.compute(source, values)
            for argument, source in rule.inputs
        }
        try:
            return rule.compute(**given)
        except Exception as error:
            listed = ", ".join(f"{argument} = {shown(value)}" for argument, value in given.items())
            raise StateError(f"{path} could not be derived from {listed}: {type(error).__name__}: {error}") from error

    def with_derived(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return complete values with those of all derived variables."""
        complete = dict(values)
        for path in self.derived:
            complete[path] = self.compute(path, complete)
        return complete

    def with_checked(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return complete values with those of the derived variables that constraints read."""
        if not self._checked:
            return values
        complete = dict(values)
        for path in self._checked:
            complete[path] = self.compute(path, complete)
        return complete

    def violated(self, values: Mapping[str, Any]) -> list[Constraint]:
        """Return the constraints that apply to these complete values and do not hold."""
        if not self.constraints:
            return []
        active = self.active(values).members
        complete = self.with_checked(values)
        return [
            constraint
            for constraint, paths in self.constraints
            if all(path in active and path in complete for path in paths) and not constraint.holds(complete)
        ]

    def sources(self, paths: Iterable[str]) -> set[str]:
        """Return the paths that can be set on which these depend."""
        found: set[str] = set()
        for path in paths:
            rule = self.derived.get(path)
            found |= {path} if rule is None else self.sources(source for _, source in rule.inputs)
        return found


def _by_path(entries: Iterable[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        if not isinstance(entry, Entry):
            raise DefinitionError(
                f"Space([{shown(entry)}]): this is no Entry. Write Space([Entry('depth', Int(1, 5))]), or "
                f"Space.of(depth=Int(1, 5))."
            )
        if entry.path in found:
            raise DefinitionError(f"Two variables have the path {entry.path!r}. Give each a path of its own.")
        found[entry.path] = entry
    return found


def _with_conditions(entry: Entry, entries: Mapping[str, Entry], reachable: bool) -> Entry:
    if not entry.conditions:
        return entry
    conditions = tuple(_checked_condition(entry, one, entries, reachable) for one in entry.conditions)
    unchanged = all(one is other for one, other in zip(conditions, entry.conditions, strict=True))
    return entry if unchanged else attrs.evolve(entry, conditions=conditions)


def _checked_condition(entry: Entry, condition: Condition, entries: Mapping[str, Entry], reachable: bool) -> Condition:
    parent = entries.get(condition.path)
    if parent is None:
        raise DefinitionError(
            f"{entry.path}: its condition names {condition.path!r}, which is not in the "
            f"space.{did_you_mean(condition.path, entries)}"
        )
    if parent.is_derived:
        raise DefinitionError(
            f"{entry.path}: its condition names {condition.path!r}, which is derived. Make it depend on what "
            f"that is derived from."
        )
    try:
        value = parent.validate(condition.value)
    except StateError as error:
        if not reachable:
            return condition
        raise DefinitionError(f"{entry.path}: it could never be active, because {error}") from error
    return condition if same(value, condition.value) else Condition(condition.path, value)


def _sorted(needs: Mapping[str, Sequence[str]], wrong: str) -> tuple[str, ...]:
    """Return the paths so that each comes after those it needs, otherwise in their given order."""
    done: dict[str, None] = {}
    for path, needed in needs.items():
        if not all(need in done for need in needed):
            break
        done[path] = None
    else:
        return tuple(done)  # as it usually is: parents come first
    for start in needs:
        stack: list[tuple[str, bool]] = [(start, False)]
        trail: list[str] = []
        while stack:
            path, leaving = stack.pop()
            if leaving:
                trail.pop()
                done[path] = None
                continue
            if path in done:
                continue
            if path in trail:
                cycle = " → ".join((*trail[trail.index(path) :], path))
                raise DefinitionError(f"{path} {wrong}: {cycle}.")
            trail.append(path)
            stack.append((path, True))
            stack.extend((need, False) for need in reversed(needs[path]) if need not in done)
    return tuple(done)
