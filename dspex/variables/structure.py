"""What a space works out once: which variables are active when, what derived ones need, how many states there are.

A space is immutable, so all of this is computed when it is made, and a question about a state is a few lookups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dspex.errors import DefinitionError, StateError
from dspex.variables.entries import Condition, Constraint, Entry
from dspex.variables.messages import did_you_mean, shown

__all__ = ["Structure"]

_CACHED = 4096


class Structure:
    """The index of a space's entries; see `Space` for what the questions mean."""

    __slots__ = (
        "_active_cache",
        "_all",
        "_conditional",
        "_selectors",
        "constraints",
        "defaults",
        "derived",
        "order",
    )

    def __init__(
        self, entries: Mapping[str, Entry], constraints: tuple[Constraint, ...], *, reachable: bool = True
    ) -> None:
        for entry in entries.values():
            for condition in entry.conditions:
                _check_condition(entry, condition, entries, reachable=reachable)
            for argument, path in (entry.inputs or {}).items():
                if path not in entries:
                    raise DefinitionError(
                        f"{entry.path}: it is derived from {path!r} (as {argument}), which is not in the space."
                        f"{did_you_mean(path, entries)}"
                    )
        names: set[str] = set()
        for rule in constraints:
            if rule.name in names:
                raise DefinitionError(
                    f"Two constraints are called {rule.name!r}. Give each a name of its own."
                )
            names.add(rule.name)
            for argument, path in rule.inputs.items():
                if path not in entries:
                    raise DefinitionError(
                        f"The constraint {rule.name!r} reads {path!r} (as {argument}), which is not in the space."
                        f"{did_you_mean(path, entries)}"
                    )
        by_condition = {path: [one.path for one in entry.conditions] for path, entry in entries.items()}
        self.order = _sorted(by_condition, "is active only under a condition on itself")
        by_input = {path: list((entry.inputs or {}).values()) for path, entry in entries.items()}
        self.derived: tuple[tuple[str, Callable[..., Any] | None, tuple[tuple[str, str], ...]], ...] = tuple(
            (path, entries[path].compute, tuple((entries[path].inputs or {}).items()))
            for path in _sorted(by_input, "is derived from itself")
            if entries[path].is_derived
        )
        self.defaults: dict[str, Any] = {
            path: entry.default for path, entry in entries.items() if not entry.is_derived
        }
        self.constraints = tuple((rule, tuple(rule.inputs.values())) for rule in constraints)
        self._all = tuple(entries)
        self._conditional = tuple(
            (path, tuple((one.path, one.value) for one in entries[path].conditions))
            for path in self.order
            if entries[path].conditions
        )
        self._selectors = tuple(dict.fromkeys(parent for _, ones in self._conditional for parent, _ in ones))
        self._active_cache: dict[Any, tuple[tuple[str, ...], frozenset[str]]] = {}

    def active(self, values: Mapping[str, Any]) -> tuple[tuple[str, ...], frozenset[str]]:
        """Return the active paths, in the space's order and as a set."""
        if not self._conditional:
            key: Any = ()
        else:
            get, defaults = values.get, self.defaults
            chosen = [get(path, defaults[path]) for path in self._selectors]
            key = (*chosen, *map(type, chosen))  # 1, 1.0 and True are different choices
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

    def _compute_active(self, values: Mapping[str, Any]) -> tuple[tuple[str, ...], frozenset[str]]:
        inactive: set[str] = set()
        for path, conditions in self._conditional:
            for parent, wanted in conditions:
                if parent in inactive or not same(values.get(parent, self.defaults[parent]), wanted):
                    inactive.add(path)
                    break
        paths = tuple([path for path in self._all if path not in inactive]) if inactive else self._all
        return paths, frozenset(paths)

    def compute(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with those of all derived variables."""
        complete = dict(values)
        for path, _, _ in self.derived:
            complete[path] = self.compute_one(path, complete)
        return complete

    def compute_one(self, path: str, values: Mapping[str, Any]) -> Any:
        """Return the value of the derived variable at ``path``."""
        for name, compute, inputs in self.derived:
            if name != path:
                continue
            if compute is None:
                raise StateError(
                    f"{path} is derived, and a space that was read from JSON does not know how. Ask the program's own "
                    f"space: program.space()."
                )
            given = {
                argument: values[source] if source in values else self.compute_one(source, values)
                for argument, source in inputs
            }
            try:
                return compute(**given)
            except Exception as error:
                listed = ", ".join(f"{argument} = {shown(value)}" for argument, value in given.items())
                raise StateError(
                    f"{path} could not be derived from {listed}: {type(error).__name__}: {error}"
                ) from error
        raise KeyError(path)

    def violated(self, values: Mapping[str, Any]) -> list[Constraint]:
        """Return the constraints that apply to these (complete) values and do not hold."""
        if not self.constraints:
            return []
        active = self.active(values)[1]
        complete: Mapping[str, Any] = self.compute_known(values) if self.derived else values
        return [
            rule
            for rule, paths in self.constraints
            if all(path in active and path in complete for path in paths) and not rule.holds(complete)
        ]

    def compute_known(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with those derived variables that constraints read and that can be computed."""
        wanted = {path for _, paths in self.constraints for path in paths}
        complete = dict(values)
        for path, compute, _ in self.derived:
            if path in wanted and compute is not None:
                complete[path] = self.compute_one(path, values)
        return complete

    def size(self, entries: Mapping[str, Entry]) -> int | float:
        """Return how many different active configurations of the tunable variables there are."""
        groups = _connected(self._all, {path: [one for one, _ in ones] for path, ones in self._conditional})
        return math.prod(self._group_size(group, entries) for group in groups)

    def _group_size(self, group: list[str], entries: Mapping[str, Entry]) -> int | float:
        members = [path for path in self.order if path in set(group) and not entries[path].is_derived]
        selectors = [path for path in members if path in self._selectors]

        def walk(position: int, chosen: dict[str, Any]) -> int | float:
            if position == len(selectors):
                return math.prod(
                    _size(entries[path])
                    for path in members
                    if path not in selectors and self._holds(entries[path], chosen)
                )
            path = selectors[position]
            entry = entries[path]
            if not self._holds(entry, chosen):
                return walk(position + 1, chosen)
            if not entry.tunable:
                return walk(position + 1, {**chosen, path: entry.default})
            wanted: list[Any] = []
            for value in itertools.chain.from_iterable(
                (value for parent, value in ones if parent == path) for _, ones in self._conditional
            ):
                if (
                    entry.domain is not None
                    and entry.domain.contains(value)
                    and not any(same(value, one) for one in wanted)
                ):
                    wanted.append(value)
            total: int | float = sum(walk(position + 1, {**chosen, path: value}) for value in wanted)
            others = _size(entry) - len(wanted)
            return total + (others * walk(position + 1, {**chosen, path: _OTHER}) if others else 0)

        return walk(0, {})

    def _holds(self, entry: Entry, chosen: Mapping[str, Any]) -> bool:
        return all(one.path in chosen and same(chosen[one.path], one.value) for one in entry.conditions)


class _Other:
    """A value that no condition asks for."""


_OTHER = _Other()


def same(one: Any, other: Any) -> bool:
    """Whether two values are one, where 1, 1.0 and True are three."""
    return one is other or (type(one) is type(other) and bool(one == other))


def _size(entry: Entry) -> int | float:
    return entry.domain.size() if entry.tunable and entry.domain is not None else 1


def _check_condition(
    entry: Entry, condition: Condition, entries: Mapping[str, Entry], *, reachable: bool
) -> None:
    parent = entries.get(condition.path)
    if parent is None:
        raise DefinitionError(
            f"{entry.path}: its condition names {condition.path!r}, which is not in the space."
            f"{did_you_mean(condition.path, entries)}"
        )
    if parent.domain is None:
        raise DefinitionError(
            f"{entry.path}: its condition names {condition.path!r}, which is derived. Make it depend on what that is "
            f"derived from."
        )
    if reachable and not (condition.value is None and parent.optional):
        try:
            parent.domain.validate(condition.value, name=condition.path)
        except StateError as error:
            raise DefinitionError(f"{entry.path}: it could never be active, because {error}") from error


def _sorted(needs: Mapping[str, Iterable[str]], wrong: str) -> tuple[str, ...]:
    """Return the paths so that each comes after those it needs, otherwise in their given order."""
    done: dict[str, None] = {}
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
            stack.extend((need, False) for need in reversed(list(needs[path])) if need not in done)
    return tuple(done)


def _connected(paths: Iterable[str], edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    group_of: dict[str, list[str]] = {path: [path] for path in paths}
    for path, others in edges.items():
        for other in others:
            one, two = group_of[path], group_of[other]
            if one is not two:
                one.extend(two)
                for member in two:
                    group_of[member] = one
    return list({id(group): group for group in group_of.values()}.values())
