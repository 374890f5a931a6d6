"""A Gaussian process over mixed configurations: exact, with hyperparameters at the largest posterior density.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, sections 2.2, 4.2 and 5.4. The covariance is a
Matérn one (5/2) of a distance to which every variable adds its part, as much as its relevance says: numbers the square
of their difference, categories whether they differ, subsets and orders how much (`Columns`). Each of these is a squared
distance in some Euclidean space, so the covariance is a valid one.

The scale of the function is integrated out (with an inverse gamma prior), which leaves relevances and noise to be
estimated. Their priors: length scales log-normal and growing with the square root of the number of variables (Hvarfner
et al., "Vanilla Bayesian Optimization Performs Great in High Dimensions", ICML 2024); noise log-normal and broad.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.samplers.quasi_newton import minimize

__all__ = ["Columns", "Process", "fit_hyperparameters", "negative_log_posterior"]

Array = NDArray[np.float64]

# The mode of the density of a length is this far below the middle of that of its logarithm.
LENGTH = (math.sqrt(2) - 3.0, math.sqrt(3))  # of log lengths: mode, less half the logarithm of how many; deviation
NOISE = (math.log(1e-4), 3.0)  # mean and deviation of the log noise, in parts of the function's variance
BOUNDS = ((-10.0, 9.0), (math.log(1e-7), math.log(10.0)))  # of log relevances and log noise
FREEDOM = 2.0  # degrees of, of the inverse gamma prior of the scale
_STEPS = 40
_SMALL = 48  # rows up to which one matrix is inverted at once


@attrs.frozen(eq=False)
class Columns:
    """Configurations as columns, one a row: ``numbers`` (n, a) and ``codes`` (n, b).

    A column of numbers belongs to the variable ``of_number`` (a), and variables may have several, over which squares of
    differences are added; one of codes to ``of_code`` (b), and adds 1 where they differ.
    """

    numbers: Array
    codes: Array
    of_number: NDArray[np.intp]
    of_code: NDArray[np.intp]
    variables: int

    def __len__(self) -> int:
        return len(self.numbers)

    def distances(self) -> Array:
        """Squared distances (variables, n, n) between all rows, by variable."""
        found = np.zeros((self.variables, len(self), len(self)))
        for column, variable in enumerate(self.of_number):
            found[variable] += (self.numbers[:, None, column] - self.numbers[None, :, column]) ** 2
        for column, variable in enumerate(self.of_code):
            found[variable] += self.codes[:, None, column] != self.codes[None, :, column]
        return found

    def between(self, other: Columns, relevance: Array) -> Array:
        """Squared distances (n, len(other)), each variable weighted by its ``relevance``."""
        scale = np.sqrt(relevance[self.of_number])
        one, two = self.numbers * scale, other.numbers * scale
        found: Array = (one * one).sum(axis=1)[:, None] + (two * two).sum(axis=1) - 2 * (one @ two.T)
        np.maximum(found, 0.0, out=found)
        for column, variable in enumerate(self.of_code):
            found += relevance[variable] * (self.codes[:, None, column] != other.codes[None, :, column])
        return found

    def chosen(self, rows: NDArray[np.intp]) -> Columns:
        """Some of the rows."""
        return attrs.evolve(self, numbers=self.numbers[rows], codes=self.codes[rows])


def matern(squares: Array) -> tuple[Array, Array]:
    """The covariance at squared distances, and its derivative by them."""
    root = np.sqrt(5 * squares)
    decay = np.exp(-root)
    return (1 + root + root * root / 3) * decay, -5 / 6 * (1 + root) * decay


def inverse_of_lower(root: NDArray[Any]) -> Array:
    """The inverse of a lower triangular matrix, by halves: numpy has none that knows of the zeros."""
    count = len(root)
    if count <= _SMALL:
        whole: Array = np.linalg.inv(root)
        return whole
    half = count // 2
    found = np.zeros_like(root)
    found[:half, :half] = inverse_of_lower(root[:half, :half])
    found[half:, half:] = inverse_of_lower(root[half:, half:])
    found[half:, :half] = -found[half:, half:] @ root[half:, :half] @ found[:half, :half]
    return found


def negative_log_posterior(theta: Array, distances: Array, targets: Array) -> tuple[float, Array]:
    """Of log relevances and the log noise (the last one), up to a constant, and its gradient."""
    count, variables = len(targets), len(distances)
    relevance, noise = np.exp(theta[:-1]), math.exp(theta[-1])
    squares = (relevance @ distances.reshape(variables, -1)).reshape(count, count)
    covariance, slope = matern(squares)
    covariance[np.diag_indices(count)] += noise
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return math.inf, np.zeros_like(theta)
    half = inverse_of_lower(root)
    inverse = half.T @ half
    solved = inverse @ targets
    spread = FREEDOM + float(targets @ solved)
    freedom = count + FREEDOM
    value = 0.5 * freedom * math.log(spread) + float(np.log(np.diag(root)).sum())
    weights = 0.5 * (inverse - freedom / spread * np.outer(solved, solved))
    gradient = np.empty_like(theta)
    gradient[:-1] = relevance * (distances.reshape(variables, -1) @ (weights * slope).ravel())
    gradient[-1] = noise * np.trace(weights)
    middle, width = LENGTH[0] + 0.5 * math.log(variables), LENGTH[1]
    off = (-0.5 * theta[:-1] - middle) / width
    noise_off = (theta[-1] - NOISE[0]) / NOISE[1]
    value += 0.5 * float(off @ off) + 0.5 * noise_off**2
    gradient[:-1] -= 0.5 * off / width
    gradient[-1] += noise_off / NOISE[1]
    return value, gradient


def fit_hyperparameters(columns: Columns, targets: Array, rng: np.random.Generator, *, restarts: int = 1) -> Array:
    """The log relevances and the log noise of largest posterior density that were found, from the prior's middle and
    ``restarts`` other starts."""
    distances = columns.distances()
    variables = columns.variables
    low, high = (np.array([BOUNDS[0][end]] * variables + [BOUNDS[1][end]]) for end in (0, 1))
    middle = -2 * (LENGTH[0] + 0.5 * math.log(max(variables, 1)))
    starts = [np.array([middle] * variables + [math.log(1e-2)])]
    if len(targets) < 2:
        return starts[0]
    for _ in range(restarts):
        # Nearer to one than the prior is: where a function is rough, length scales are far below the prior's middle.
        starts.append(np.append(rng.normal(0.0, 1.5, variables), rng.uniform(math.log(1e-6), 0.0)))
    found = [
        minimize(
            lambda theta: negative_log_posterior(theta, distances, targets),
            start,
            low,
            high,
            steps=_STEPS,
            tolerance=1e-3,
        )
        for start in starts
    ]
    return min(found, key=lambda one: one[1])[0]


class Process:
    """The posterior after some observations.

    Args:
        columns: Where was observed.
        targets: What, standardised.
        theta: Log relevances and the log noise.
        pending: Where results are being waited for: what they will be is taken to be what is expected, so the mean
            stays and the variance falls (the "kriging believer" of Ginsbourger et al., "Kriging Is Well-Suited to
            Parallelize Optimization", 2010).
    """

    def __init__(self, columns: Columns, targets: Array, theta: Array, pending: Columns | None = None) -> None:
        self.relevance = np.exp(theta[:-1])
        self._noise = math.exp(theta[-1])
        self._columns = columns
        self._half = inverse_of_lower(self._root(columns))
        solved = self._half @ targets
        self._solved = self._half.T @ solved
        self.scale = (FREEDOM + float(solved @ solved)) / (FREEDOM + len(targets))
        """The variance of the function."""
        self.noise = math.sqrt(self.scale * self._noise)
        """The standard deviation of what is measured."""
        self._seen: Columns = columns
        self._whole: Array = self._half
        if pending is not None and len(pending):
            self._seen = attrs.evolve(
                columns,
                numbers=np.concatenate([columns.numbers, pending.numbers]),
                codes=np.concatenate([columns.codes, pending.codes]),
            )
            self._whole = inverse_of_lower(self._root(self._seen))

    def _root(self, columns: Columns) -> NDArray[Any]:
        covariance, _ = matern(columns.between(columns, self.relevance))
        covariance[np.diag_indices(len(columns))] = 1 + self._noise
        return np.linalg.cholesky(covariance)

    def posterior(self, where: Columns) -> tuple[Array, Array]:
        """Mean and standard deviation of the function, without noise, at some configurations."""
        covariance, _ = matern(self._seen.between(where, self.relevance))
        mean: Array = self._solved @ covariance[: len(self._columns)]
        known = self._whole @ covariance
        variance = np.maximum(1 - np.einsum("ij,ij->j", known, known), 1e-12)
        return mean, np.sqrt(self.scale * variance)

    def slopes(self, where: Columns, columns: NDArray[np.intp]) -> tuple[float, float, Array, Array]:
        """Mean and standard deviation at one configuration, and the derivatives of both by some columns of numbers."""
        covariance, slope = matern(self._seen.between(where, self.relevance)[:, 0])
        known = self._whole @ covariance
        variance = self.scale * max(1 - float(known @ known), 1e-12)
        offsets = where.numbers[:, columns] - self._seen.numbers[:, columns]
        changes = 2 * self.relevance[self._seen.of_number[columns]] * offsets * slope[:, None]
        deviation = math.sqrt(variance)
        seen = len(self._columns)
        mean = float(self._solved @ covariance[:seen])
        by_deviation = -self.scale * ((self._whole.T @ known) @ changes) / deviation
        return mean, deviation, self._solved @ changes[:seen], by_deviation
