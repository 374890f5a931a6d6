"""A mixture of product kernels over several variables: the density of the trials it was made of.

Joint over the variables, so that values which were good together are drawn together (the "multivariate" TPE
of Watanabe 2023, section 3.3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.dimensions import Dimension

__all__ = ["Mixture"]

Array = NDArray[np.float64]


class Mixture:
    """One product kernel for each row and one for the prior, weighted.

    Args:
        dimensions: The variables, in the order of their columns.
        rows: Encoded observations.
        weights: One for each row; the prior weighs 1.
    """

    def __init__(self, dimensions: Sequence[Dimension], rows: Array, weights: Array) -> None:
        stops = np.cumsum([dimension.width for dimension in dimensions])
        self._columns = [
            slice(int(stop) - dimension.width, int(stop))
            for stop, dimension in zip(stops, dimensions, strict=True)
        ]
        self._kernels = [
            dimension.kernels(rows[:, columns])
            for dimension, columns in zip(dimensions, self._columns, strict=True)
        ]
        self._width = int(stops[-1])
        all_weights = np.append(weights, 1.0)
        self._weights = all_weights / all_weights.sum()

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Points of the mixture, one a row."""
        edges = np.cumsum(self._weights)
        which = np.minimum(np.searchsorted(edges, rng.random(count), side="right"), len(edges) - 1)
        points = np.empty((count, self._width))
        for kernels, columns in zip(self._kernels, self._columns, strict=True):
            points[:, columns] = kernels.draw(which, rng)
        return points

    def log_density(self, points: Array) -> Array:
        """The log density at each point."""
        total = np.log(self._weights) + self._kernels[0].log_density(points[:, self._columns[0]])
        for kernels, columns in zip(self._kernels[1:], self._columns[1:], strict=True):
            total += kernels.log_density(points[:, columns])
        top = total.max(axis=1, keepdims=True)
        np.subtract(total, top, out=total)
        np.exp(total, out=total)
        density: Array = np.log(total.sum(axis=1)) + top[:, 0]
        return density
