"""How many configurations a space has: independent variables multiply, the branches of a choice add."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dspex.variables.entries import Entry
from dspex.variables.values import same

__all__ = ["count_configurations"]


class _Nothing:
    """A value that no condition asks for: of an inactive variable, or any other value of an active one."""


_NOTHING = _Nothing()


def count_configurations(entries: Mapping[str, Entry], order: Sequence[str]) -> int | float:
    """Return how many different active configurations the tunable variables have.

    ``order`` has each path after those its conditions name.
    """
    return _count([path for path in order if not entries[path].is_derived], entries, {})


def _count(paths: Sequence[str], entries: Mapping[str, Entry], fixed: Mapping[str, Any]) -> int | float:
    """Count over ``paths``, in order; what their conditions name is in ``paths`` too, or fixed."""
    total: int | float = 1
    for group in _connected(paths, entries):
        total *= _count_group(group, entries, fixed)
    return total


def _count_group(paths: Sequence[str], entries: Mapping[str, Entry], fixed: Mapping[str, Any]) -> int | float:
    # The first has no condition on the others, so that its activity is known.
    first, rest = entries[paths[0]], paths[1:]
    if not all(same(fixed[one.path], one.value) for one in first.conditions):
        return _count(rest, entries, {**fixed, first.path: _NOTHING})
    if not first.tunable or first.domain is None:
        return _count(rest, entries, {**fixed, first.path: first.default})
    size = first.domain.size()
    total: int | float = 0
    wanted: list[Any] = []
    for condition in (one for path in rest for one in entries[path].conditions if one.path == first.path):
        known = any(same(condition.value, value) for value in wanted)
        if not known and first.domain.contains(condition.value):
            wanted.append(condition.value)
            total += _count(rest, entries, {**fixed, first.path: condition.value})
    others = size - len(wanted)
    return total + (others * _count(rest, entries, {**fixed, first.path: _NOTHING}) if others else 0)


def _connected(paths: Sequence[str], entries: Mapping[str, Entry]) -> Iterable[list[str]]:
    """Return groups of paths without conditions between them, each in the given order."""
    group_of = {path: [path] for path in paths}
    for path in paths:
        for condition in entries[path].conditions:
            mine, other = group_of[path], group_of.get(condition.path)
            if other is not None and other is not mine:
                if len(mine) > len(other):
                    mine, other = other, mine
                other.extend(mine)
                for member in mine:
                    group_of[member] = other
    place = {path: position for position, path in enumerate(paths)}
    groups = {id(group): group for group in group_of.values()}
    return [sorted(group, key=place.__getitem__) for group in groups.values()]
