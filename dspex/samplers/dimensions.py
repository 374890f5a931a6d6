"""Variables as columns of numbers, for samplers that model them.

A `Dimension` writes a value of its variable as one or more columns and reads it back. Numbers are modelled
all together, other variables each by kernels of their own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.errors import StateError
from dspex.samplers.kernels import CategoryKernels, Kernels, OrderKernels, SubsetKernels
from dspex.variables import Choice, Domain, Float, Int, Order, Pool, Subset, canonical_json

__all__ = [
    "CategoryDimension",
    "Dimension",
    "ListedDimension",
    "NumberDimension",
    "OrderDimension",
    "PoolDimension",
    "SubsetDimension",
    "dimension_of",
]

Array = NDArray[np.float64]

_COUNTABLE = 2**40  # cells up to which a float tells neighbouring ones apart with room to spare


class Dimension(ABC):
    """How one variable is written as columns."""

    width: int = 1

    @abstractmethod
    def encode(self, value: Any) -> Sequence[float] | None:
        """The columns of a value, or ``None`` when it is no value of this variable (any more)."""

    @abstractmethod
    def decode(self, columns: Array) -> Any:
        """The value nearest to some columns."""


class NumberDimension(Dimension):
    """A number on the unit interval: linear or logarithmic, continuous or in ``cells`` of equal right."""

    def __init__(self, domain: Float | Int) -> None:
        self._domain = domain
        self._log = domain.log
        size = domain.size()
        self.cells = 0 if math.isinf(size) else int(size)
        if domain.log:
            margin = 0.5 if isinstance(domain, Int) else 0.0
            self._low, self._high = math.log(domain.low - margin), math.log(domain.high + margin)

    def encode(self, value: Any) -> Sequence[float] | None:
        domain = self._domain
        if value is None or not domain.low <= value <= domain.high:
            return None  # unset, or from a trial whose bounds were wider
        if self.cells == 1:
            return (0.5,)
        if self._log:
            return ((math.log(value) - self._low) / (self._high - self._low),)
        if self.cells:
            step = domain.step or 1
            return ((round((value - domain.low) / step) + 0.5) / self.cells,)
        span = domain.high / 2 - domain.low / 2  # halves, because high - low may overflow
        return ((value / 2 - domain.low / 2) / span,)

    def decode(self, columns: Array) -> Any:
        domain, share = self._domain, float(columns[0])
        if self.cells == 1:
            return domain.low
        if self._log:
            number = math.exp(self._low * (1 - share) + self._high * share)
        elif self.cells:
            # In whole numbers, because a cell of a huge Int has no exact float.
            cell = min(int(share * 2**53) * self.cells >> 53, self.cells - 1)
            if isinstance(domain, Int):
                return domain.low + cell * domain.step
            number = domain.low + cell * (domain.step or 0.0)
        else:
            number = domain.low * (1 - share) + domain.high * share
        number = min(max(number, domain.low), domain.high)
        return round(number) if isinstance(domain, Int) else domain.validate(number)

    def snap(self, shares: Array) -> Array:
        """The middles of the cells that ``shares`` fall into."""
        if self.cells == 0 or self.cells > _COUNTABLE:
            return shares
        if self.cells == 1:
            return np.full_like(shares, 0.5)
        if not self._log:
            return (np.minimum(np.floor(shares * self.cells), self.cells - 1) + 0.5) / self.cells
        span = self._high - self._low
        numbers = np.rint(np.exp(self._low + shares * span))
        middles: Array = np.log(np.minimum(np.maximum(numbers, self._domain.low), self._domain.high))
        return (middles - self._low) / span

    def middles(self) -> Array:
        """The middles of all cells, of which there have to be few."""
        if self._log and self.cells > 1:
            numbers = np.arange(int(self._domain.low), int(self._domain.high) + 1)
            return (np.log(numbers) - self._low) / (self._high - self._low)
        return (np.arange(self.cells) + 0.5) / self.cells


class ListedDimension(Dimension):
    """A variable that has kernels of its own."""

    @abstractmethod
    def kernels(self, points: Array) -> Kernels:
        """Densities around ``points`` (one row each) and the prior."""


class CategoryDimension(ListedDimension):
    """One of some options, as its position."""

    def __init__(self, domain: Domain[Any], options: Sequence[Any]) -> None:
        self._domain = domain
        self._options = tuple(options)
        self._has_none = any(option is None for option in options)
        self._positions = {self._key(option): index for index, option in enumerate(options)}

    @property
    def size(self) -> int:
        """How many options there are."""
        return len(self._options)

    def _position(self, value: Any) -> int:
        return self._domain.index(value) if isinstance(self._domain, Choice) else self._positions[self._key(value)]

    def _key(self, value: Any) -> str:
        return canonical_json(self._domain.encode(value))

    def encode(self, value: Any) -> Sequence[float] | None:
        if value is None and not self._has_none:
            return None
        try:
            return (float(self._position(value)),)
        except (KeyError, StateError):
            return None

    def decode(self, columns: Array) -> Any:
        return self._options[int(columns[0])]

    def kernels(self, points: Array) -> Kernels:
        return CategoryKernels(points[:, 0], self.size)


class PoolDimension(ListedDimension):
    """One of the candidates of a pool, as its place in it; there are more of them each time one looks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def size(self) -> int:
        """How many candidates there are now."""
        return len(self._pool)

    def encode(self, value: Any) -> Sequence[float] | None:
        item = self._pool.get(value)
        return None if item is None else (float(item.index),)

    def decode(self, columns: Array) -> Any:
        return self._pool[int(columns[0])].id

    def kernels(self, points: Array) -> Kernels:
        return CategoryKernels(points[:, 0], self.size)


class SubsetDimension(ListedDimension):
    """Some of the options: one column for each, 1 where it is taken and -1 where not."""

    def __init__(self, domain: Subset[Any]) -> None:
        self._domain = domain
        self._options = domain.options
        self.width = len(self._options)
        self._positions = _positions(domain, self._options)
        self.sizes = (domain.min_size, self.width if domain.max_size is None else domain.max_size)

    def encode(self, value: Any) -> Sequence[float] | None:
        if value is None:
            return None
        columns = [-1.0] * self.width
        for item in self._domain.encode(value):
            columns[self._positions[canonical_json(item)]] = 1.0
        return columns

    def decode(self, columns: Array) -> Any:
        return tuple(option for option, taken in zip(self._options, columns, strict=True) if taken > 0)

    def kernels(self, points: Array) -> Kernels:
        return SubsetKernels(points, *self.sizes)


class OrderDimension(ListedDimension):
    """An order of the options: one column for each, its place."""

    def __init__(self, domain: Order[Any]) -> None:
        self._domain = domain
        self._options = domain.options
        self.width = len(self._options)
        self._positions = _positions(domain, self._options)

    def encode(self, value: Any) -> Sequence[float] | None:
        if value is None:
            return None
        columns = [0.0] * self.width
        for place, item in enumerate(self._domain.encode(value)):
            columns[self._positions[canonical_json(item)]] = float(place)
        return columns

    def decode(self, columns: Array) -> Any:
        return tuple(self._options[position] for position in np.argsort(columns, kind="stable"))

    def kernels(self, points: Array) -> Kernels:
        return OrderKernels(points)


def dimension_of(domain: Domain[Any], pool: Pool | None) -> Dimension | None:
    """The dimension of a variable, or ``None`` for a domain of one's own that cannot list its values.

    >>> number = dimension_of(Int(1, 10), None)
    >>> number.decode(np.array(number.encode(3)))
    3
    """
    if domain.open_ended:
        return None if pool is None else PoolDimension(pool)
    if isinstance(domain, Float | Int):
        return NumberDimension(domain)
    if isinstance(domain, Subset):
        return SubsetDimension(domain)
    if isinstance(domain, Order):
        return OrderDimension(domain)
    # `candidates` gives up on long lists; options that are written out are all there.
    options = getattr(domain, "options", None) or domain.candidates()
    return CategoryDimension(domain, options) if options else None


def _positions(domain: Subset[Any] | Order[Any], options: Sequence[Any]) -> dict[str, int]:
    return {canonical_json(domain.encode((option,))[0]): index for index, option in enumerate(options)}
