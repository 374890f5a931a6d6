"""Variables as factors of an additive model: each value as a row of features whose inner products are its kernel.

A category has one feature per value, so that values have nothing in common; a number has features whose inner
products are a squared-exponential kernel on its own scale; a subset one per option; an order one per pair of options
(the Kendall kernel: Jiao & Vert, "The Kendall and Mallows Kernels for Permutations", ICML 2015). A variable that is
not active has only zeros: it contributes nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.errors import StudyError
from dspex.samplers.dimensions import Dimension, ListedDimension, NumberDimension, dimension_of
from dspex.variables import Domain, Order, Pool, Subset

__all__ = ["Array", "Factor", "Levels", "Whole"]

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

LENGTH = 0.35
"""Length-scale of a number's kernel, as a share of its range."""

GRID = 13
"""Values of a number, and of what else has very many, that are compared for one trial."""

MOST_LISTED = 64
"""So many values of a variable are all compared; of more, those that have been tried and some others."""


@attrs.frozen(eq=False)
class Levels:
    """The values of one factor that are compared: columns as its `Dimension` writes them, and their features."""

    columns: Array
    features: Array


class Factor:
    """One variable of the model."""

    def __init__(self, path: str, domain: Domain[Any], pool: Pool | None) -> None:
        dimension = dimension_of(domain, pool)
        if dimension is None:
            raise StudyError(f"{path}: {domain!r} cannot list its values, so they cannot be modelled")
        self.path, self.domain = path, domain
        self.dimension: Dimension = dimension
        self._pool = pool
        self.is_number = isinstance(dimension, NumberDimension)
        self.is_category = isinstance(dimension, ListedDimension) and not isinstance(domain, Subset | Order)

    def encode(self, value: Any) -> Sequence[float]:
        """The columns of a value; NaN for none, and for one that the domain no longer has."""
        columns = None if value is None and not self.is_category else self.dimension.encode(value)
        return (math.nan,) * self.dimension.width if columns is None else columns

    def count(self) -> float:
        """How many values there are by now."""
        if self._pool is not None and self.domain.open_ended:
            return len(self._pool)
        options = getattr(self.domain, "options", None) if self.is_category else None
        return self.domain.size() if options is None else len(options)

    def known(self, columns: Array, rng: np.random.Generator) -> Array:
        """The values of a category (first columns) that are told apart: all, or those in ``columns`` and some."""
        if not self.is_category:
            return np.zeros(0)
        count = int(self.count())
        if count <= MOST_LISTED:
            return np.arange(count, dtype=np.float64)
        tried = columns[~np.isnan(columns[:, 0]), 0]
        return np.unique(np.concatenate([tried, rng.integers(count, size=MOST_LISTED // 4)]))

    def candidates(self, seen: Array, known: Array, rng: np.random.Generator) -> Array:
        """The columns of values to compare. ``seen`` are columns that trials have, the most interesting first."""
        dimension = self.dimension
        if self.is_category:
            return known[:, None]
        if isinstance(dimension, NumberDimension) and not 0 < dimension.cells <= MOST_LISTED // 2:
            # One value from each stretch, so that over the trials every value may come up, and a few as they were.
            shares = (np.arange(GRID) + rng.random(GRID)) / GRID
            return np.unique(dimension.snap(np.concatenate([shares, seen[:3, 0]])))[:, None]
        if self.domain.size() <= MOST_LISTED:
            values: Sequence[Any] = self.domain.candidates() or ()
        else:
            draw = random.Random(int(rng.integers(2**62)))
            values = [self.domain.sample(draw) for _ in range(MOST_LISTED // 2)]
        drawn = np.array([self.encode(value) for value in values]).reshape(-1, dimension.width)
        return np.unique(np.concatenate([drawn, seen[: MOST_LISTED // 4]]), axis=0)

    def features(self, columns: Array, known: Array) -> Array:
        """One row per row of ``columns``; ``known`` are the values (first columns) that a category is to tell apart."""
        active = ~np.isnan(columns[:, 0])
        if self.is_category:
            found: Array = (columns[:, :1] == known[None, :]).astype(np.float64)
            return found
        filled = np.where(active[:, None], columns, 0.0)
        if self.is_number:
            found = _number_features(filled[:, 0])
        elif isinstance(self.domain, Subset):
            found = filled / math.sqrt(self.dimension.width)
        else:
            first, second = np.triu_indices(self.dimension.width, 1)
            found = np.sign(filled[:, first] - filled[:, second]) / math.sqrt(max(len(first), 1))
        return found * active[:, None]


def _number_features(shares: Array) -> Array:
    """Features of shares in [0, 1] with inner products exp(-d^2 / 2 LENGTH^2), to four digits."""
    knots, whiten = _knots()
    found: Array = _similar(shares, knots) @ whiten
    return found


@cache
def _knots() -> tuple[Array, Array]:
    knots = np.linspace(-0.1, 1.1, 12)
    values, vectors = np.linalg.eigh(_similar(knots, knots))
    large = values > 1e-7 * values[-1]
    return knots, vectors[:, large] / np.sqrt(values[large])


def _similar(one: Array, other: Array) -> Array:
    found: Array = np.exp(-0.5 * ((one[:, None] - other[None, :]) / LENGTH) ** 2)
    return found


def factors_of(domains: Mapping[str, Domain[Any]], pools: Mapping[str, Pool]) -> dict[str, Factor]:
    """The factors of the variables that can be modelled."""
    found = {}
    for path, domain in domains.items():
        if dimension_of(domain, pools.get(path)) is not None:
            found[path] = Factor(path, domain, pools.get(path))
    return found
