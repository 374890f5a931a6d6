"""A mixture of product kernels over several variables: the density of the trials it was made of.

Joint over the variables, so that values which were good together are drawn together (the "multivariate" TPE
of Watanabe 2023, section 3.3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.dimensions import Dimension, ListedDimension, NumberDimension
from dspex.samplers.kernels import Kernels, NumberKernels

__all__ = ["Mixture"]

Array = NDArray[np.float64]


class Mixture:
    """One product kernel for each row and one for the prior, weighted.

    Args:
        dimensions: The variables in the order of their columns, numbers first.
        rows: Encoded observations.
        weights: One for each row; the prior weighs 1.
    """

    def __init__(self, dimensions: Sequence[Dimension], rows: Array, weights: Array) -> None:
        self._numbers = [one for one in dimensions if isinstance(one, NumberDimension)]
        listed = [one for one in dimensions if isinstance(one, ListedDimension)]
        start = len(self._numbers)
        self._blocks: list[tuple[slice, Kernels]] = []
        if self._numbers:
            kernels = NumberKernels(rows[:, :start], [number.cells for number in self._numbers])
            self._blocks.append((slice(0, start), kernels))
        for dimension in listed:
            columns = slice(start, start + dimension.width)
            self._blocks.append((columns, dimension.kernels(rows[:, columns])))
            start += dimension.width
        self._width = start
        all_weights = np.append(weights, 1.0)
        self._weights = all_weights / all_weights.sum()

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Points of the mixture, one a row."""
        edges = self._weights.cumsum()
        which = edges.searchsorted(rng.random(count), side="right").clip(0, len(edges) - 1)
        points = np.empty((count, self._width))
        for columns, kernels in self._blocks:
            points[:, columns] = kernels.draw(which, rng)
        for column, number in enumerate(self._numbers):
            if number.cells:
                points[:, column] = number.snap(points[:, column])
        return points

    def log_density(self, points: Array) -> Array:
        """The log density at each point."""
        total: Array = np.log(self._weights)
        for columns, kernels in self._blocks:
            total = kernels.log_density(points[:, columns]) + total
        top = total.max(axis=1, keepdims=True)
        total -= top
        np.exp(total, out=total)
        density: Array = np.log(total.sum(axis=1)) + top[:, 0]
        return density
