"""`Subset` and `Order`: which of some options, and in which order."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from dspex.errors import DefinitionError
from dspex.variables.codec import Json
from dspex.variables.domain import MAX_CANDIDATES, Domain
from dspex.variables.messages import shown
from dspex.variables.options import Options, option_from_json

__all__ = ["Order", "Subset"]

T = TypeVar("T")


class Subset(Domain[tuple[T, ...]]):
    """Some of the given options: a tuple in declared order, of ``min_size`` to ``max_size`` of them.

    Values may be given as any list, tuple or set of options. The first value is the smallest subset: empty,
    or the first ``min_size`` options.

    Raises `DefinitionError` without options, for an option that stands there twice, and for sizes that no
    subset has.

    >>> Subset("web", "mail", "code").validate({"code", "web"})
    ('web', 'code')
    >>> Subset("web", "mail", "code", max_size=1).size()
    4
    """

    __slots__ = ("_options", "max_size", "min_size")
    _example: ClassVar[str] = "Subset('title', 'text')"

    _options: Options
    min_size: int
    max_size: int | None

    def __init__(self, *options: T, min_size: int = 0, max_size: int | None = None) -> None:
        if not options:
            raise DefinitionError("Subset(): no options to take from. Write Subset('web', 'mail').")
        for name, size in (("min_size", min_size), ("max_size", max_size)):
            if size is None and name == "max_size":
                continue
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(options):
                raise DefinitionError(
                    f"Subset(..., {name}={size!r}): {name} has to be a whole number from 0 to "
                    f"{len(options)}, the number of options."
                )
        if max_size is not None and min_size > max_size:
            raise DefinitionError(
                f"Subset(..., min_size={min_size}, max_size={max_size}): min_size is above max_size. Write "
                f"min_size={max_size}, max_size={min_size}."
            )
        self._set(_options=Options("Subset", options), min_size=min_size, max_size=max_size)

    @property
    def options(self) -> tuple[T, ...]:
        """The options in declared order."""
        return self._options.values

    @property
    def _largest(self) -> int:
        return len(self._options.values) if self.max_size is None else self.max_size

    def validate(self, value: Any, *, name: str = "value") -> tuple[T, ...]:
        if not isinstance(value, list | tuple | set | frozenset):
            self._refuse(name, value, self._fits())
        taken: set[int] = set()
        for item in value:
            position = self._options.find(item)
            if position is None:
                self._refuse(name, value, f"{self._fits()}, not {shown(item)}")
            if position in taken:
                self._refuse(name, value, f"each option at most once, not {shown(item)} twice")
            taken.add(position)
        if not self.min_size <= len(taken) <= self._largest:
            self._refuse(name, value, self._fits())
        return tuple(self._options.values[position] for position in sorted(taken))

    def _fits(self) -> str:
        if self.min_size == 0 and self.max_size is None:
            return "a tuple of its options"
        return f"a tuple of {self.min_size} to {self._largest} of its options"

    def first(self) -> tuple[T, ...]:
        return tuple(self._options.values[position] for position in range(self.min_size))

    def size(self) -> int:
        count = len(self._options.values)
        return sum(math.comb(count, size) for size in range(self.min_size, self._largest + 1))

    def sample(self, rng: random.Random) -> tuple[T, ...]:
        count = len(self._options.values)
        rank = rng.randrange(self.size())
        size = self.min_size
        while rank >= (block := math.comb(count, size)):
            rank -= block
            size += 1
        return tuple(self._options.values[position] for position in sorted(rng.sample(range(count), size)))

    def encode(self, value: tuple[T, ...]) -> Json:
        return [self._options.encode(_position(self._options, item, self)) for item in value]

    def decode(self, json: Json) -> tuple[T, ...]:
        return self.validate(_decoded(self, self._options, json), name="the saved value")

    def candidates(self) -> tuple[tuple[T, ...], ...] | None:
        if self.size() > MAX_CANDIDATES:
            return None
        options = self._options.values
        sizes = range(self.min_size, self._largest + 1)
        return tuple(subset for size in sizes for subset in itertools.combinations(options, size))

    def covers(self, other: Domain[Any]) -> bool:
        if isinstance(other, Subset):
            return (
                self.min_size <= other.min_size
                and other._largest <= self._largest
                and self.contains_in_order(other.options)
            )
        values = other.candidates()
        return values is not None and all(self.contains(value) for value in values)

    def contains_in_order(self, options: tuple[Any, ...]) -> bool:
        """Whether all of these are options here, declared in the same order."""
        positions = [self._options.find(option) for option in options]
        known = [position for position in positions if position is not None]
        return len(known) == len(positions) and known == sorted(known)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        keywords: dict[str, Any] = {"min_size": self.min_size} if self.min_size else {}
        if self.max_size is not None:
            keywords["max_size"] = self.max_size
        return self._options.values, keywords

    def _json(self) -> dict[str, Json]:
        return {"options": self._options.to_json(), "min_size": self.min_size, "max_size": self.max_size}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Subset[Any]:
        options = map(option_from_json, json["options"])
        return cls(*options, min_size=json["min_size"], max_size=json["max_size"])


class Order(Domain[tuple[T, ...]]):
    """The given options in any order: a tuple that holds each of them once. Declared order comes first.

    Raises `DefinitionError` for fewer than two options, and for an option that stands there twice.

    >>> Order("facts", "rules", "tone").size()
    6
    >>> Order("facts", "rules").validate(["rules", "facts"])
    ('rules', 'facts')
    """

    __slots__ = ("_options",)
    _example: ClassVar[str] = "Order('title', 'text')"

    _options: Options

    def __init__(self, *options: T) -> None:
        if len(options) < 2:
            raise DefinitionError(
                f"Order({', '.join(map(repr, options))}): at least two options are needed to have an order. "
                f"Write Order('facts', 'rules')."
            )
        self._set(_options=Options("Order", options))

    @property
    def options(self) -> tuple[T, ...]:
        """The options in declared order."""
        return self._options.values

    def validate(self, value: Any, *, name: str = "value") -> tuple[T, ...]:
        fits = f"a tuple with each of its {len(self._options.values)} options once"
        if not isinstance(value, list | tuple):
            self._refuse(name, value, fits)
        positions: list[int] = []
        for item in value:
            position = self._options.find(item)
            if position is None:
                self._refuse(name, value, f"{fits}, not {shown(item)}")
            positions.append(position)
        if len(positions) != len(self._options.values) or len(set(positions)) != len(positions):
            self._refuse(name, value, fits)
        return tuple(self._options.values[position] for position in positions)

    def first(self) -> tuple[T, ...]:
        return self._options.values

    def size(self) -> int:
        return math.factorial(len(self._options.values))

    def sample(self, rng: random.Random) -> tuple[T, ...]:
        count = len(self._options.values)
        return tuple(self._options.values[position] for position in rng.sample(range(count), count))

    def encode(self, value: tuple[T, ...]) -> Json:
        return [self._options.encode(_position(self._options, item, self)) for item in value]

    def decode(self, json: Json) -> tuple[T, ...]:
        return self.validate(_decoded(self, self._options, json), name="the saved value")

    def candidates(self) -> tuple[tuple[T, ...], ...] | None:
        if self.size() > MAX_CANDIDATES:
            return None
        return tuple(itertools.permutations(self._options.values))

    def covers(self, other: Domain[Any]) -> bool:
        if isinstance(other, Order):
            return len(other._options.values) == len(self._options.values) and self.contains(other.options)
        values = other.candidates()
        return values is not None and all(self.contains(value) for value in values)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._options.values, {}

    def _json(self) -> dict[str, Json]:
        return {"options": self._options.to_json()}

    @classmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Order[Any]:
        return cls(*map(option_from_json, json["options"]))


def _position(options: Options, item: Any, domain: Domain[Any]) -> int:
    position = options.find(item)
    if position is None:
        domain._refuse("value", item, "one of its options")
    return position


def _decoded(domain: Domain[Any], options: Options, json: Json) -> tuple[Any, ...]:
    if not isinstance(json, list):
        domain._refuse("the saved value", json, "a list of its options")
    positions = [options.find_encoded(item) for item in json]
    if None in positions:
        domain._refuse("the saved value", json, "a list of its options")
    return tuple(options.values[position] for position in positions if position is not None)
