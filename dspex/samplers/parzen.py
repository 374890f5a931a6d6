"""A mixture of product kernels over several variables: the density of the trials it was made of.

Joint over the variables, so that values which were good together are drawn together (the "multivariate" TPE
of Watanabe 2023, section 3.3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.dimensions import Dimension, ListedDimension, NumberDimension
from dspex.samplers.kernels import Kernels, NumberKernels

__all__ = ["Columns", "Mixture"]

Array = NDArray[np.float64]

_RECENT = 25  # trials that weigh fully


class Weights(NamedTuple):
    """What the kernels of a mixture weigh; the prior weighs as much as one whole trial."""

    edges: Array
    """The sums of the first 1, 2, ... weights, the prior's last, as parts of all."""
    logs: Array
    log_prior: float


@lru_cache(maxsize=1024)
def recency(count: int) -> Weights:
    """The last trials weigh fully, older ones less the older they are, as in hyperopt (Bergstra et al. 2013)."""
    weights = np.ones(count + 1)
    if count > _RECENT:
        weights[: count - _RECENT] = np.linspace(1 / count, 1, count - _RECENT)
    weights /= weights.sum()
    return Weights(weights.cumsum(), np.log(weights[:-1]), math.log(weights[-1]))


class Columns:
    """The columns of several variables: all numbers together, then every other variable by itself.

    Args:
        dimensions: The variables in the order of their columns, numbers first.
    """

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self.numbers = [one for one in dimensions if isinstance(one, NumberDimension)]
        self.narrowest = np.array([0.5 / number.cells if number.cells else 0.0 for number in self.numbers])
        self.in_cells = [(column, number) for column, number in enumerate(self.numbers) if number.cells]
        self.listed: list[tuple[slice, ListedDimension]] = []
        self.width = len(self.numbers)
        for dimension in dimensions:
            if isinstance(dimension, ListedDimension):
                self.listed.append((slice(self.width, self.width + dimension.width), dimension))
                self.width += dimension.width


class Mixture:
    """One product kernel for each row and one for the prior.

    Args:
        columns: The variables.
        rows: Encoded observations, oldest first.
    """

    def __init__(self, columns: Columns, rows: Array) -> None:
        self._columns = columns
        self._weights = recency(len(rows))
        self._blocks: list[tuple[slice, Kernels]] = []
        if columns.numbers:
            numbers = slice(0, len(columns.numbers))
            self._blocks.append((numbers, NumberKernels(rows[:, numbers], columns.narrowest)))
        self._blocks += [(place, dimension.kernels(rows[:, place])) for place, dimension in columns.listed]

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Points of the mixture, one a row."""
        edges = self._weights.edges
        which = np.minimum(edges.searchsorted(rng.random(count), side="right"), len(edges) - 1)
        points = np.empty((count, self._columns.width))
        for place, kernels in self._blocks:
            points[:, place] = kernels.draw(which, rng)
        for column, number in self._columns.in_cells:
            points[:, column] = number.snap(points[:, column])
        return points

    def log_density(self, points: Array) -> Array:
        """The log density at each point."""
        place, kernels = self._blocks[0]
        total = kernels.log_density(points[:, place])
        prior = self._weights.log_prior + kernels.log_prior
        for place, kernels in self._blocks[1:]:
            total += kernels.log_density(points[:, place])
            prior += kernels.log_prior
        total += self._weights.logs
        top = np.maximum(total.max(axis=1, initial=-math.inf), prior)
        total -= top[:, None]
        # Most kernels are so far away that nothing is left of them, which takes the processor several times as long to
        # find out; at -700 they make no difference to a sum of at least 1 either.
        np.maximum(total, -700.0, out=total)
        np.exp(total, out=total)
        density: Array = np.log(total.sum(axis=1) + np.exp(prior - top)) + top
        return density
