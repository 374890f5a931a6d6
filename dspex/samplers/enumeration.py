"""All configurations of a conditional space, numbered: the n-th is worked out and not looked up."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.variables import Condition, Space
from dspex.variables.values import same

__all__ = ["Enumeration"]

_INACTIVE = -1
_OTHER = -2  # a value that no condition names: all of these leave the rest of the space alike


class Enumeration:
    """The configurations of ``space``, each with the values of its active variables, in a random order.

    Independent variables multiply and the branches of a choice add, so there may be far more configurations than could
    be listed. What a configuration is depends on its number and ``seed`` only.

    Args:
        space: Its tunable variables are enumerated; the others have their defaults.
        options: Path → the values to take, for each tunable variable.
        seed: Of the order.

    >>> from dspex.variables import Choice, Entry
    >>> space = Space([
    ...     Entry("kind", Choice("a", "b"), "a"),
    ...     Entry("k", Choice(1, 2), 1, conditions=[Condition("kind", "a")]),
    ... ])
    >>> sorted(map(str, Enumeration(space, {"kind": ["a", "b"], "k": [1, 2]}, seed=0)))
    ["{'kind': 'a', 'k': 1}", "{'kind': 'a', 'k': 2}", "{'kind': 'b'}"]
    """

    def __init__(self, space: Space, options: Mapping[str, Sequence[Any]], *, seed: int) -> None:
        paths = [path for path in space if space[path].domain is not None]
        self._tunable = frozenset(space.tunable)  # without those that no value of the others makes active
        self._options = {path: options[path] if path in self._tunable else (space[path].default,) for path in paths}
        self._conditions = {path: space[path].conditions for path in paths}
        self._order = tuple(_after_their_conditions(self._conditions))
        self._counts: dict[Any, int] = {}
        self.size = self._count(self._order, {})  # no __len__, because it may be beyond what `len` can say
        self._seed = seed
        self._half = max((self.size - 1).bit_length() + 1, 2) // 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.size:
            raise IndexError(index)
        found: dict[str, int] = {}
        self._choose(self._order, {}, self._shuffled(index), found)
        return {
            path: self._options[path][found[path]]
            for path in self._options
            if path in self._tunable and found[path] != _INACTIVE
        }

    def _shuffled(self, index: int) -> int:
        """Where ``index`` comes to lie in a random order that nobody has to write down.

        A Feistel network permutes the numbers of so many bits, and is applied until it gives one that there is (Black
        and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002).
        """
        mask = (1 << self._half) - 1
        while True:
            for round_ in range(4):
                left, right = index >> self._half, index & mask
                mixed = random.Random(f"{self._seed}/{round_}/{right}").getrandbits(self._half)
                index = right << self._half | (left ^ mixed)
            if index < self.size:
                return index

    def _named(self, condition: Condition) -> int:
        """Which option a condition asks for; one that is none never holds."""
        listed = enumerate(self._options[condition.path])
        return next(
            (index for index, value in listed if same(value, condition.value)), len(self._options[condition.path])
        )

    def _blocks(self, paths: Sequence[str], chosen: Mapping[str, int]) -> tuple[list[tuple[int, Sequence[int]]], str]:
        """The first path's options, put together where they leave the rest alike: what each stands for and which."""
        first, rest = paths[0], paths[1:]
        conditions = self._conditions[first]
        if not all(chosen.get(condition.path) == self._named(condition) for condition in conditions):
            return [(_INACTIVE, (_INACTIVE,))], first
        asked = {self._named(one) for path in rest for one in self._conditions[path] if one.path == first}
        count = len(self._options[first])
        named = [index for index in range(count) if index in asked]
        others = [index for index in range(count) if index not in asked]
        blocks: list[tuple[int, Sequence[int]]] = [(index, (index,)) for index in named]
        return ([(_OTHER, others), *blocks] if others else blocks), first

    def _count(self, paths: Sequence[str], chosen: Mapping[str, int]) -> int:
        total = 1
        for group in self._groups(paths):
            mentioned = {one.path for path in group for one in self._conditions[path]}
            key = (tuple(group), tuple(sorted((path, chosen[path]) for path in mentioned if path in chosen)))
            if key not in self._counts:
                blocks, first = self._blocks(group, chosen)
                self._counts[key] = sum(
                    len(members) * self._count(group[1:], {**chosen, first: stands_for})
                    for stands_for, members in blocks
                )
            total *= self._counts[key]
        return total

    def _choose(self, paths: Sequence[str], chosen: Mapping[str, int], index: int, found: dict[str, int]) -> None:
        """Writes the options of configuration ``index`` of ``paths`` into ``found``."""
        for group in self._groups(paths):
            index, place = divmod(index, self._count(group, chosen))
            blocks, first = self._blocks(group, chosen)
            for stands_for, members in blocks:
                below = {**chosen, first: stands_for}
                each = self._count(group[1:], below)
                if place < each * len(members):
                    found[first] = members[place // each]
                    self._choose(group[1:], below, place % each, found)
                    break
                place -= each * len(members)

    def _groups(self, paths: Sequence[str]) -> list[list[str]]:
        """Paths without conditions between them, each group in the given order."""
        group_of: dict[str, list[str]] = {}
        for path in paths:
            group = group_of[path] = [path]
            for condition in self._conditions[path]:
                other = group_of.get(condition.path)
                if other is not None and other is not group:
                    other.extend(group)
                    for member in group:
                        group_of[member] = other
                    group = other
        place = {path: position for position, path in enumerate(paths)}
        return [sorted(group, key=place.__getitem__) for group in {id(one): one for one in group_of.values()}.values()]


def _after_their_conditions(conditions: Mapping[str, Sequence[Condition]]) -> list[str]:
    """The paths, each after those that its conditions name."""
    found: dict[str, None] = {}

    def visit(path: str) -> None:
        for condition in conditions[path]:
            if condition.path not in found:
                visit(condition.path)
        found[path] = None

    for path in conditions:
        if path not in found:
            visit(path)
    return list(found)
