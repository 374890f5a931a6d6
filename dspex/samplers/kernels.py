"""Kernel densities for each kind of variable: numbers, categories, subsets and orders.

Numbers: Gaussians truncated to the unit interval, each as wide as the distance to its farther neighbour
(Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011, section 4.2), but not narrower
than the "magic clipping" that Watanabe, "Tree-Structured Parzen Estimator: Understanding Its Algorithm
Components and Their Roles for Better Empirical Performance", 2023, section 3.3.4, describes. Categories: the
observed one with most of the mass, the rest spread evenly (Aitchison and Aitken, "Multivariate binary
discrimination by the kernel method", Biometrika 1976). Subsets: the same for each option by itself. Orders:
Mallows' model (Mallows, "Non-null ranking models", Biometrika 1957), drawn by repeated insertion.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CategoryKernels", "Kernels", "NumberKernels", "OrderKernels", "SubsetKernels"]

Array = NDArray[np.float64]
Places = NDArray[np.intp]

_REACH = 4.0  # widths from its middle at which a Gaussian has lost all but 3e-5 of its mass
_ROOT = math.sqrt(2 * math.pi)


class Kernels(ABC):
    """One density around each of ``count`` observations, and the uniform prior, which counts as the last kernel."""

    count: int
    log_prior: float
    """The prior's log density, which is the same everywhere."""

    @abstractmethod
    def log_density(self, points: Array) -> Array:
        """Log densities of points (rows) under the kernel of each observation (columns)."""

    @abstractmethod
    def draw(self, which: Places, rng: np.random.Generator) -> Array:
        """One point from each of the kernels ``which``; ``count`` is the prior."""


class NumberKernels(Kernels):
    """Truncated Gaussians on the unit cube, one factor for each of several numbers.

    Args:
        points: The observations, one a row, a number a column.
        narrowest: For each number the least that a kernel is wide: half a cell, or 0 for a continuous one.
    """

    log_prior = 0.0

    def __init__(self, points: Array, narrowest: Array) -> None:
        self.count = len(points)
        self._middles = np.ascontiguousarray(points.T)  # a number a row: what belongs together lies together
        self._widths = _widths(self._middles, narrowest)
        # The sum over the numbers of -(x - middle)^2 / (2 width^2) is a product of matrices and a constant.
        halves = -0.5 / (self._widths * self._widths)
        weighted = self._middles * halves
        self._squares, self._products = halves, -2 * weighted
        constants = weighted
        constants *= self._middles
        constants -= self._log_norms()
        self._constants = constants.sum(axis=0)

    def _log_norms(self) -> Array:
        """The logarithm of what each Gaussian is divided by, so that its mass in the unit interval is 1."""
        middles, widths = self._middles.ravel(), self._widths.ravel()
        norms = widths * _ROOT
        # Only kernels near an end lose mass beyond it.
        above = 1 - middles
        near = (np.minimum(middles, above) < _REACH * widths).nonzero()[0]
        inverse = 1 / widths[near]
        ends = np.empty((2, len(near)))  # of the unit interval, in widths from the middle
        np.multiply(inverse, above[near], out=ends[0])
        np.subtract(ends[0], inverse, out=ends[1])
        upper, lower = _normal_cdf(ends)
        norms[near] *= upper - lower
        logs: Array = np.log(norms, out=norms)
        return logs.reshape(self._middles.shape)

    def log_density(self, points: Array) -> Array:
        result: Array = points @ self._products
        result += (points * points) @ self._squares
        result += self._constants
        return result

    def draw(self, which: Places, rng: np.random.Generator) -> Array:
        drawn = rng.random((len(which), len(self._middles)))
        kernel = (which < self.count).nonzero()[0]
        taken = which[kernel]
        middles, widths = self._middles.take(taken, axis=1).T.ravel(), self._widths.take(taken, axis=1).T.ravel()
        found = middles + widths * rng.standard_normal(len(middles))
        outside = ((found < 0) | (found > 1)).nonzero()[0]
        for _ in range(20):
            if not len(outside):
                break
            again = middles[outside] + widths[outside] * rng.standard_normal(len(outside))
            found[outside] = again
            outside = outside[(again < 0) | (again > 1)]
        drawn[kernel] = np.minimum(np.maximum(found, 0.0), 1.0).reshape(len(kernel), drawn.shape[1])
        return drawn


class CategoryKernels(Kernels):
    """The observed option with most of the mass, the others with the rest."""

    def __init__(self, positions: Array, size: int) -> None:
        self.count = len(positions)
        self._positions = positions
        self._size = size
        spread = 1.0 / (self.count + 1)  # the more is known, the less is left to chance
        self._hit = (1 + spread) / (1 + size * spread)
        self._miss = spread / (1 + size * spread)
        self.log_prior = -math.log(size)

    def log_density(self, points: Array) -> Array:
        if self._size < len(points):  # a row for each option, and not for each point
            return self._rows(np.arange(self._size)).take(points[:, 0].astype(np.intp), axis=0)
        return self._rows(points[:, 0])

    def _rows(self, positions: NDArray[Any]) -> Array:
        rows: Array = np.where(positions[:, None] == self._positions, math.log(self._hit), math.log(self._miss))
        return rows

    def draw(self, which: Places, rng: np.random.Generator) -> Array:
        anywhere, leaves = rng.random((2, len(which)))
        drawn: Array = np.floor(anywhere * self._size)
        kernel = ((leaves < self._hit - self._miss) & (which < self.count)).nonzero()[0]
        drawn[kernel] = self._positions[which[kernel]]
        return drawn[:, None]


class SubsetKernels(Kernels):
    """Each option of the observed subset kept or flipped by itself."""

    def __init__(self, points: Array, smallest: int, largest: int) -> None:
        self.count, self._options = points.shape
        self._points = points
        self._sizes = (smallest, largest)
        spread = 1.0 / (self.count + 1)
        self._flip = spread / (1 + 2 * spread)
        self.log_prior = -self._options * math.log(2)

    def log_density(self, points: Array) -> Array:
        keep, flip = math.log(1 - self._flip), math.log(self._flip)
        result: Array = (self._options - points @ self._points.T) / 2
        result *= flip - keep
        result += self._options * keep
        return result

    def draw(self, which: Places, rng: np.random.Generator) -> Array:
        drawn = np.where(rng.random((len(which), self._options)) < 0.5, 1.0, -1.0)
        kernel = np.flatnonzero(which < self.count)
        kept = np.where(rng.random((len(kernel), self._options)) < self._flip, -1.0, 1.0)
        drawn[kernel] = self._points[which[kernel]] * kept
        smallest, largest = self._sizes
        for row in drawn:
            taken = np.flatnonzero(row > 0)
            if len(taken) > largest:
                row[rng.choice(taken, len(taken) - largest, replace=False)] = -1.0
            elif len(taken) < smallest:
                left = np.flatnonzero(row < 0)
                row[rng.choice(left, smallest - len(taken), replace=False)] = 1.0
        return drawn


class OrderKernels(Kernels):
    """Mallows' model around the observed order: each pair that is swapped costs the same factor."""

    def __init__(self, places: Array) -> None:
        self.count, self._options = places.shape
        self._places = places
        self._first, self._second = np.triu_indices(self._options, k=1)
        spread = 1.0 / (self.count + 1)
        self._factor = 2 * spread / (1 + 2 * spread)  # how much less likely one swap makes an order
        self.log_prior = -math.lgamma(self._options + 1)

    def log_density(self, points: Array) -> Array:
        swaps: Array = (len(self._first) - self._signs(points) @ self._signs(self._places).T) / 2
        n, q = self._options, self._factor
        norm = sum(math.log((1 - q**i) / (1 - q)) for i in range(1, n + 1))
        result: Array = swaps * math.log(q) - norm
        return result

    def _signs(self, places: Array) -> Array:
        return np.sign(places[:, self._second] - places[:, self._first])

    def draw(self, which: Places, rng: np.random.Generator) -> Array:
        drawn = np.empty((len(which), self._options))
        for row, kernel in zip(drawn, which, strict=True):
            if kernel == self.count:
                row[:] = rng.permutation(self._options)
            else:
                order = self._inserted(np.argsort(self._places[kernel]), rng)
                row[order] = np.arange(self._options)
        return drawn

    def _inserted(self, reference: Places, rng: np.random.Generator) -> list[int]:
        order: list[int] = []
        for index, option in enumerate(reference):
            # Placed k before the end, an option is swapped with k others.
            weights = self._factor ** np.arange(index + 1)
            swaps = int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum()))
            order.insert(index - swaps, int(option))
        return order


def _widths(middles: Array, narrowest: Array) -> Array:
    """Each kernel's width for each number (a row): the distance to its farther neighbour, within bounds."""
    numbers, count = middles.shape
    order = _order(middles)
    ordered = middles.take(order)
    # The ends of the interval are no observations, so they do not widen the outermost kernels.
    gaps = np.zeros((numbers, count + 1))
    np.subtract(ordered[:, 1:], ordered[:, :-1], out=gaps[:, 1:-1])
    if count == 1:
        gaps[:, 0], gaps[:, -1] = middles[:, 0], 1 - middles[:, 0]
    usual = 1.0 / min(100.0, 2.0 + count)
    widths = np.empty(numbers * count)
    widths[order] = np.maximum(gaps[:, :-1], gaps[:, 1:])
    bounded: Array = widths.reshape(numbers, count)
    np.maximum(bounded, np.maximum(narrowest, usual)[:, None], out=bounded)
    return np.minimum(bounded, 1.0, out=bounded)


def _order(middles: Array) -> Places:
    """As `numpy.argsort` of each row, as places in the whole array. The bits of floats that are not negative are in the
    order of the floats, so the last ones, which make no difference, can carry the place: to sort them takes half the
    time, and equal ones stay in their order on every machine."""
    places = (1 << middles.size.bit_length()) - 1
    order: Places = middles.view(np.int64) & ~places
    order |= np.arange(middles.size).reshape(middles.shape)
    order.sort(axis=1)
    order &= places
    return order


def _normal_cdf(z: Array) -> Array:
    """The standard normal distribution function, to 3e-4 (Page, "Approximations to the Cumulative Normal Function
    and its Inverse for Use on a Pocket Calculator", Applied Statistics 1977)."""
    result: Array = z * z
    result *= 0.044715
    result += 1.0
    result *= z
    result *= math.sqrt(2 / math.pi)
    np.tanh(result, out=result)
    result += 1.0
    result *= 0.5
    return result
