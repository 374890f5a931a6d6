"""Configurations of a conditional space as rows of numbers, to be drawn, changed a little, and compared.

A row has columns for every variable, as its `Dimension` writes them, also for those that are not active: then what
stands there counts for nothing. What is compared (`Layout.columns`) has numbers, subsets and orders that are not active
in the middle of their domains and categories at a level of their own, so that the variable on which a branch hangs is
what tells branches apart (as Lévesque et al., "Bayesian Optimization for Conditional Hyperparameter Spaces", IJCNN
2017, do).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.dimensions import (
    CategoryDimension,
    Dimension,
    NumberDimension,
    OrderDimension,
    PoolDimension,
    SubsetDimension,
    dimension_of,
)
from dspex.samplers.gp_process import Columns
from dspex.samplers.presence import Rules
from dspex.samplers.sequences import SOBOL_DIMENSIONS, sobol
from dspex.variables import Domain, Pool

__all__ = ["Flags", "Layout"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEW = 16  # values of a variable that are all tried when it is changed by itself
_SMOOTH = 64  # cells from which on a number is treated as continuous
_INACTIVE = -1.0
_STRIDES = (-8, -4, -2, -1, 1, 2, 4, 8)


class Layout:
    """The columns of some variables. Variables that cannot be written as columns are left out.

    Args:
        domains: The variables, by path.
        pools: The candidates of the open-ended ones.
    """

    def __init__(self, domains: Mapping[str, Domain[Any]], pools: Mapping[str, Pool]) -> None:
        # A pool that is empty, too, has nothing to write yet.
        found = {path: dimension_of(domain, pools.get(path) or None) for path, domain in domains.items()}
        self.dimensions: dict[str, Dimension] = {path: one for path, one in found.items() if one is not None}
        self.paths = list(self.dimensions)
        self.spans: list[slice] = []
        numbers: list[tuple[int, int, float, float]] = []  # column, variable, scale, middle
        codes: list[tuple[int, int]] = []
        smooth = []
        start = 0
        for variable, dimension in enumerate(self.dimensions.values()):
            self.spans.append(slice(start, start + dimension.width))
            columns = range(start, start + dimension.width)
            if isinstance(dimension, NumberDimension):
                numbers.append((start, variable, 1.0, 0.5))
                if _is_smooth(dimension):
                    smooth.append(len(numbers) - 1)
            elif isinstance(dimension, SubsetDimension):
                # The square of the distance is the part of the options in which two subsets differ.
                numbers += [(column, variable, 0.5 / dimension.width**0.5, 0.0) for column in columns]
            elif isinstance(dimension, OrderDimension):
                # Spearman's distance in parts of the largest, which is between an order and its reverse.
                size = dimension.width
                scale = (3 / max(size * (size * size - 1), 1)) ** 0.5
                numbers += [(column, variable, scale, (size - 1) / 2) for column in columns]
            else:
                codes.append((start, variable))
            start += dimension.width
        self.width = start
        self.widths = np.array([one.width for one in self.dimensions.values()], dtype=np.intp)
        """How many columns of a row each variable has."""
        table = np.array(numbers).reshape(-1, 4)
        self.places = table[:, 0].astype(np.intp)
        """Which column of a row each column of numbers is."""
        self.of_number = table[:, 1].astype(np.intp)
        """Which variable it belongs to."""
        self._scales, self._middles = table[:, 2], table[:, 3]
        pairs = np.array(codes, dtype=np.intp).reshape(-1, 2)
        self._codes, self._of_code = pairs[:, 0], pairs[:, 1]
        self.smooth = np.array(smooth, dtype=np.intp)
        """Columns of numbers along which there are slopes to follow."""

    def encode(self, params: Mapping[str, Any]) -> tuple[Array, Flags] | None:
        """The row of a trial and which variables it had; ``None`` when a value is no longer in its domain."""
        row, had = np.zeros(self.width), np.zeros(len(self.paths), dtype=bool)
        for variable, (path, dimension) in enumerate(self.dimensions.items()):
            columns = dimension.encode(params[path]) if path in params else None
            if columns is None:
                if params.get(path) is None:
                    continue  # not there, or left unset
                return None
            row[self.spans[variable]] = columns
            had[variable] = True
        return row, had

    def key(self, row: Array, active: Flags) -> bytes:
        """The same for rows that are the same configuration."""
        written: Array = np.where(active.repeat(self.widths), row, -1.0).round(12)
        return written.tobytes()

    def decode(self, row: Array, variable: int) -> Any:
        """The value of a variable in a row."""
        return self.dimensions[self.paths[variable]].decode(row[self.spans[variable]])

    def columns(self, rows: Array, active: Flags) -> Columns:
        """Rows as what is compared."""
        numbers = np.where(active[:, self.of_number], rows[:, self.places], self._middles) * self._scales
        codes = np.where(active[:, self._of_code], rows[:, self._codes], _INACTIVE)
        return Columns(numbers, codes, self.of_number, self._of_code, len(self.paths))

    def snapped(self, row: Array) -> Array:
        """A row with its numbers in the middles of their cells."""
        found = row.copy()
        for span, dimension in zip(self.spans, self.dimensions.values(), strict=True):
            if isinstance(dimension, NumberDimension):
                found[span] = dimension.snap(found[span])
        return found

    def tree(self, rules: Rules) -> Tree:
        """Which variables are active in which rows, by rules."""
        return Tree(self, rules)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Rows spread evenly: a Sobol sequence, turned by a random amount."""
        rows = np.empty((count, self.width))
        shares = _sobol(count, min(len(self.paths), SOBOL_DIMENSIONS))
        shares = np.concatenate([shares, rng.random((count, len(self.paths) - shares.shape[1]))], axis=1)
        shares = (shares + rng.random(len(self.paths))) % 1.0
        for variable, dimension in enumerate(self.dimensions.values()):
            share = shares[:, variable]
            if isinstance(dimension, NumberDimension):
                drawn = dimension.snap(share)[:, None]
            elif isinstance(dimension, SubsetDimension):
                smallest, largest = dimension.sizes
                size = np.floor(smallest + share * (largest - smallest + 1))
                ranks = rng.random((count, dimension.width)).argsort(axis=1).argsort(axis=1)
                drawn = np.where(ranks < size[:, None], 1.0, -1.0)
            elif isinstance(dimension, OrderDimension):
                drawn = rng.random((count, dimension.width)).argsort(axis=1).astype(float)
            else:
                drawn = np.floor(share * _size(dimension))[:, None]
            rows[:, self.spans[variable]] = drawn
        return rows

    def neighbours(self, row: Array, variable: int, rng: np.random.Generator) -> Array:
        """Rows in which one variable has another value: all others when there are few; none of a continuous number."""
        span, dimension = self.spans[variable], self.dimensions[self.paths[variable]]
        here = row[span]
        if isinstance(dimension, NumberDimension):
            found = np.empty((0, 1)) if _is_smooth(dimension) else _near(dimension, float(here[0]), rng)[:, None]
        elif isinstance(dimension, SubsetDimension):
            found = _flipped(here, *dimension.sizes, rng)
        elif isinstance(dimension, OrderDimension):
            found = _moved(here, rng)
        else:
            size = _size(dimension)
            others = np.arange(size) if size <= FEW else rng.choice(size, FEW, replace=False)
            found = others[others != here[0]].astype(float)[:, None]
        rows = np.repeat(row[None], len(found), axis=0)
        rows[:, span] = found
        return rows


class Tree:
    """The variables of a layout as branches of a conditional space."""

    def __init__(self, layout: Layout, rules: Rules) -> None:
        self._always = np.ones(len(layout.paths), dtype=bool)
        self._rules: dict[int, list[tuple[int, slice, Array]]] = {}
        place = {path: variable for variable, path in enumerate(layout.paths)}
        for variable, path in enumerate(layout.paths):
            rule = rules[path]
            # What hangs on a variable that is not written here, and not there now, is not there either.
            if rule is None or any(parent not in place for parent, _ in rule):
                self._always[variable] = False
            elif rule:
                self._rules[variable] = [
                    (place[parent], layout.spans[place[parent]], _encoded(layout, parent, values))
                    for parent, values in rule
                ]

    def active(self, rows: Array) -> Flags:
        """Which variables (columns) are active in some rows."""
        found = np.repeat(self._always[None], len(rows), axis=0)
        done: set[int] = set()

        def settle(variable: int) -> None:
            if variable in done:
                return
            done.add(variable)
            for parent, span, values in self._rules.get(variable, ()):
                settle(parent)
                off = np.abs(rows[:, None, span] - values).max(axis=2)
                holds = (off < 1e-9).any(axis=1)
                found[:, variable] &= found[:, parent] & holds

        for variable in self._rules:
            settle(variable)
        return found


def _encoded(layout: Layout, path: str, values: Iterable[Any]) -> Array:
    dimension = layout.dimensions[path]
    found = [columns for value in values if (columns := dimension.encode(value)) is not None]
    return np.array(found).reshape(len(found), dimension.width)


def _size(dimension: Dimension) -> int:
    assert isinstance(dimension, CategoryDimension | PoolDimension)
    return dimension.size


def _is_smooth(dimension: NumberDimension) -> bool:
    return dimension.cells == 0 or dimension.cells > _SMOOTH


@lru_cache(maxsize=32)
def _sobol(count: int, dimensions: int) -> Array:
    points = [[sobol(index, place, scramble=0) for place in range(dimensions)] for index in range(count)]
    return np.array(points).reshape(count, dimensions)


def _near(dimension: NumberDimension, share: float, rng: np.random.Generator) -> Array:
    """The other cells when they are few, otherwise near and far ones."""
    if dimension.cells <= FEW:
        found = dimension.middles()
    else:
        found = share + np.array(_STRIDES) / dimension.cells
        found = dimension.snap(np.concatenate([found[(found >= 0) & (found <= 1)], rng.random(3)]))
    return found[np.abs(found - share) > 1e-12]


def _flipped(here: Array, smallest: int, largest: int, rng: np.random.Generator) -> Array:
    """Subsets with one option more or less, or one for another."""
    flips = np.repeat(here[None], len(here), axis=0)
    flips[np.diag_indices(len(here))] *= -1
    taken, left = (here > 0).nonzero()[0], (here < 0).nonzero()[0]
    swaps = [(one, other) for one in taken for other in left]
    rows = [flips]
    for index in rng.permutation(len(swaps))[:FEW]:
        swapped = here.copy()
        swapped[list(swaps[index])] *= -1
        rows.append(swapped[None])
    found = np.concatenate(rows)
    sizes = (found > 0).sum(axis=1)
    fitting: Array = found[(sizes >= smallest) & (sizes <= largest)]
    return fitting


def _moved(here: Array, rng: np.random.Generator) -> Array:
    """Orders in which two options have changed places."""
    pairs = [(one, other) for one in range(len(here)) for other in range(one)]
    found = []
    for index in rng.permutation(len(pairs))[: 2 * FEW]:
        one, other = pairs[index]
        row = here.copy()
        row[[one, other]] = row[[other, one]]
        found.append(row)
    return np.array(found).reshape(len(found), len(here))
