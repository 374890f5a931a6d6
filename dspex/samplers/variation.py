"""How children differ from their parents: crossovers and mutations of numbers, on the unit cube.

A number stands on the scale of its domain (0 its lowest value, 1 its highest; logarithmic where the domain is), so
that none weighs more than another.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.errors import StudyError

__all__ = [
    "BLXAlphaCrossover",
    "BaseCrossover",
    "BaseMutation",
    "PolynomialMutation",
    "SBXCrossover",
    "SPXCrossover",
    "UNDXCrossover",
    "UniformCrossover",
    "UniformMutation",
    "VSBXCrossover",
]

Array = NDArray[np.float64]

_TINY = 1e-10


class BaseCrossover(ABC):
    """Makes a child of some parents."""

    n_parents: int = 2
    """How many parents a child has."""

    @abstractmethod
    def crossover(self, parents: Array, rng: np.random.Generator, *, objectives: int) -> Array:
        """A child of ``parents`` (one a row, a number a column), perhaps outside the unit cube."""

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({', '.join(arguments)})"


class UniformCrossover(BaseCrossover):
    """Each number from the first parent, or with probability ``swapping_prob`` from the second (Syswerda, "Uniform
    Crossover in Genetic Algorithms", ICGA 1989).

    >>> child = UniformCrossover().crossover(np.array([[0.1, 0.2], [0.8, 0.9]]), np.random.default_rng(0), objectives=2)
    >>> child[0] in (0.1, 0.8) and child[1] in (0.2, 0.9)
    True
    """

    def __init__(self, swapping_prob: float = 0.5) -> None:
        self.swapping_prob = probability("swapping_prob", swapping_prob)

    def crossover(self, parents: Array, rng: np.random.Generator, *, objectives: int) -> Array:
        child: Array = np.where(rng.random(parents.shape[1]) < self.swapping_prob, parents[1], parents[0])
        return child


class BLXAlphaCrossover(BaseCrossover):
    """Uniform between the parents and ``alpha`` of their distance beyond (Eshelman and Schaffer, "Real-Coded Genetic
    Algorithms and Interval-Schemata", FOGA 1993)."""

    def __init__(self, alpha: float = 0.5) -> None:
        self.alpha = at_least_zero("alpha", alpha)

    def crossover(self, parents: Array, rng: np.random.Generator, *, objectives: int) -> Array:
        low, high = parents.min(axis=0), parents.max(axis=0)
        beyond = self.alpha * (high - low)
        child: Array = low - beyond + (high - low + 2 * beyond) * rng.random(parents.shape[1])
        return child


class _Simulated(BaseCrossover):
    """What the simulated binary crossovers share: two children are made, and one of them is taken."""

    def __init__(
        self, eta: float | None = None, uniform_crossover_prob: float = 0.5, use_child_gene_prob: float = 0.5
    ) -> None:
        self.eta = None if eta is None else at_least_zero("eta", eta)
        self.uniform_crossover_prob = probability("uniform_crossover_prob", uniform_crossover_prob)
        self.use_child_gene_prob = probability("use_child_gene_prob", use_child_gene_prob)

    @abstractmethod
    def _children(self, parents: Array, eta: float, rng: np.random.Generator) -> Array:
        """Two children, one a row."""

    def crossover(self, parents: Array, rng: np.random.Generator, *, objectives: int) -> Array:
        eta = self.eta if self.eta is not None else 20.0 if objectives > 1 else 2.0
        numbers = parents.shape[1]
        genes = np.where(rng.random(numbers) < self.use_child_gene_prob, self._children(parents, eta, rng), parents)
        swapped = rng.random(numbers) < self.uniform_crossover_prob
        child: Array = np.where(swapped ^ (rng.random() < 0.5), genes[1], genes[0])
        return child


class SBXCrossover(_Simulated):
    """Simulated binary crossover within bounds (Deb and Agrawal, Complex Systems 1995; Deb, "An Efficient Constraint
    Handling Method for Genetic Algorithms", 2000).

    Args:
        eta: The larger, the nearer the children are to their parents; by default 2 with one objective, 20 with several.
        uniform_crossover_prob: How often the children swap a number.
        use_child_gene_prob: How often a number is the child's own and not its parent's.
    """

    def _children(self, parents: Array, eta: float, rng: np.random.Generator) -> Array:
        low = np.asarray(parents.min(axis=0))
        high = np.asarray(parents.max(axis=0))
        gap: Array = np.maximum(high - low, _TINY)
        drawn = rng.random((parents.shape[1],))
        below: Array = 1 + 2 * low / gap
        above: Array = 1 + 2 * (1 - high) / gap
        return np.stack(
            [
                0.5 * (low + high - gap * _spread(drawn, below, eta)),
                0.5 * (low + high + gap * _spread(drawn, above, eta)),
            ]
        )


def _spread(drawn: Array, room: Array, eta: float) -> Array:
    alpha = 2 - room ** -(eta + 1)
    inner = drawn * alpha
    spread: Array = np.where(drawn <= 1 / alpha, inner, 1 / np.maximum(2 - inner, _TINY)) ** (1 / (eta + 1))
    return spread


class VSBXCrossover(_Simulated):
    """Vector simulated binary crossover, whose children reach every direction (Ballester and Carter, "Real-Parameter
    Genetic Algorithms for Finding Multiple Optimal Solutions in Multi-modal Optimization", GECCO 2003).

    Args:
        eta: The larger, the nearer the children are to their parents; by default 2 with one objective, 20 with several.
        uniform_crossover_prob: How often the children swap a number.
        use_child_gene_prob: How often a number is the child's own and not its parent's.
    """

    def _children(self, parents: Array, eta: float, rng: np.random.Generator) -> Array:
        drawn = rng.random(parents.shape[1])
        first = (1 / np.maximum(2 * drawn, _TINY)) ** (1 / (eta + 1))
        second = (1 / np.maximum(2 * (1 - drawn), _TINY)) ** (1 / (eta + 1))
        one, two = parents
        if rng.random() <= 0.5:
            child = 0.5 * ((1 + first) * one + (1 - second) * two)
        else:
            child = 0.5 * ((1 - first) * one + (1 + second) * two)
        if rng.random() <= 0.5:
            other = 0.5 * ((3 - first) * one - (1 - second) * two)
        else:
            other = 0.5 * (-(1 - first) * one + (3 - second) * two)
        return np.stack([child, other])


class SPXCrossover(BaseCrossover):
    """Uniform on the simplex of three parents, made larger about its middle (Tsutsui et al., "Multi-parent
    Recombination with Simplex Crossover in Real Coded Genetic Algorithms", GECCO 1999).

    Args:
        epsilon: How much larger; by default the square root of 2 more than there are numbers.
    """

    n_parents = 3

    def __init__(self, epsilon: float | None = None) -> None:
        self.epsilon = None if epsilon is None else at_least_zero("epsilon", epsilon)

    def crossover(self, parents: Array, rng: np.random.Generator, *, objectives: int) -> Array:
        epsilon = math.sqrt(parents.shape[1] + 2) if self.epsilon is None else self.epsilon
        middle = parents.mean(axis=0)
        corners = middle + epsilon * (parents - middle)
        offset = np.zeros(parents.shape[1])
        for k in range(len(parents) - 1):
            offset = rng.random() ** (1 / (k + 1)) * (corners[k] - corners[k + 1] + offset)
        child: Array = corners[-1] + offset
        return child


class UNDXCrossover(BaseCrossover):
    """Normal about the middle of two parents, along their difference and, as far as a third is from it, across (Ono and
    Kobayashi, "A Real-coded Genetic Algorithm for Function Optimization Using Unimodal Normal Distribution Crossover",
    ICGA 1997).

    Args:
        sigma_xi: The standard deviation along the difference, in units of it.
        sigma_eta: The one across, in units of the third parent's distance; by default 0.35 over the square root of how
            many numbers there are.
    """

    n_parents = 3

    def __init__(self, sigma_xi: float = 0.5, sigma_eta: float | None = None) -> None:
        self.sigma_xi = at_least_zero("sigma_xi", sigma_xi)
        self.sigma_eta = None if sigma_eta is None else at_least_zero("sigma_eta", sigma_eta)

    def crossover(self, parents: Array, rng: np.random.Generator, *, objectives: int) -> Array:
        numbers = parents.shape[1]
        sigma_eta = 0.35 / math.sqrt(numbers) if self.sigma_eta is None else self.sigma_eta
        difference = parents[1] - parents[0]
        along = difference / max(float(np.linalg.norm(difference)), _TINY)
        third = parents[2] - parents[0]
        distance = float(np.linalg.norm(third - (third @ along) * along))
        # An isotropic draw without its part along the difference is normal in the directions across.
        across = rng.normal(0.0, sigma_eta, numbers)
        across -= (across @ along) * along
        middle = (parents[0] + parents[1]) / 2
        child: Array = middle + rng.normal(0.0, self.sigma_xi) * difference + distance * across
        return child


class BaseMutation(ABC):
    """Changes a number a little."""

    @abstractmethod
    def mutation(self, share: float, rng: np.random.Generator) -> float:
        """What becomes of a number at ``share`` of its domain; on the unit interval again."""

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({', '.join(arguments)})"


class PolynomialMutation(BaseMutation):
    """Polynomial mutation within bounds (Deb and Agrawal, "A Niched-Penalty Approach for Constraint Handling in Genetic
    Algorithms", ICANNGA 1999); the larger ``eta``, the smaller the step.

    >>> 0.0 <= PolynomialMutation().mutation(0.02, np.random.default_rng(1)) <= 1.0
    True
    """

    def __init__(self, eta: float = 20.0) -> None:
        self.eta = at_least_zero("eta", eta)

    def mutation(self, share: float, rng: np.random.Generator) -> float:
        drawn, power = rng.random(), self.eta + 1
        if drawn <= 0.5:
            step = (2 * drawn + (1 - 2 * drawn) * (1 - share) ** power) ** (1 / power) - 1
        else:
            step = 1 - (2 * (1 - drawn) + (2 * drawn - 1) * share**power) ** (1 / power)
        return min(max(float(share + step), 0.0), 1.0)


class UniformMutation(BaseMutation):
    """Draws the number anew from its domain, as Optuna does by default."""

    def mutation(self, share: float, rng: np.random.Generator) -> float:
        return rng.random()


def probability(name: str, value: Any) -> float:
    """``value`` as a float, when it is a probability.

    Raises:
        StudyError: when it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise StudyError(f"{name} must be a probability from 0 to 1, got {value!r} ({type(value).__name__})")
    return float(value)


def at_least_zero(name: str, value: Any) -> float:
    """``value`` as a float, when it is a number that is not negative.

    Raises:
        StudyError: when it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise StudyError(f"{name} must be a number >= 0, got {value!r} ({type(value).__name__})")
    return float(value)
