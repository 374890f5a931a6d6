"""NSGA-III: NSGA-II for many objectives, spread along reference directions.

Deb and Jain, "An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based Nondominated Sorting
Approach, Part I", IEEE Transactions on Evolutionary Computation 2014, section IV; constraints as in part II (Jain and
Deb, same issue).
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.errors import StudyError
from dspex.samplers.nsgaii import NSGAIISampler
from dspex.samplers.ranking import fronts
from dspex.samplers.variation import BaseCrossover, BaseMutation
from dspex.trials.checks import at_least

__all__ = ["NSGAIIISampler"]

Array = NDArray[np.float64]


class NSGAIIISampler(NSGAIISampler):
    """Breeds the next trials from the best so far, for three and more objectives.

    As `NSGAIISampler`, but who of the last front survives is decided by reference directions: those near a direction
    that few survivors are near.

    Args:
        population_size: Trials in a generation; about as many as there are reference points is usual.
        mutation: How a number mutates; by default polynomially, to one nearby. Other variables are drawn anew.
        mutation_prob: How often a variable mutates; by default once per child on average.
        crossover: How numbers are crossed; uniform by default.
        crossover_prob: How often a child has more than one parent.
        swapping_prob: How often a child has a variable from the second parent.
        reference_points: One direction a row, an objective a column, nothing negative; by default evenly spread.
        dividing_parameter: How finely they are spread then: in how many parts each objective's axis is divided.
        seed: Makes the draws repeatable.

    Raises:
        StudyError: when an argument makes no sense; at an ask, when the reference points have not as many columns as
            the study has objectives.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=NSGAIIISampler(population_size=10, seed=0), directions=["minimize"] * 3)
    >>> def objective(trial):
    ...     x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    ...     return x, y, 2 - x - y
    >>> study.optimize(objective, n_trials=30)
    >>> len(study.best_trials)
    30
    """

    def __init__(
        self,
        *,
        population_size: int = 50,
        mutation: BaseMutation | None = None,
        mutation_prob: float | None = None,
        crossover: BaseCrossover | None = None,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        reference_points: Any = None,
        dividing_parameter: int = 3,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            population_size=population_size,
            mutation=mutation,
            mutation_prob=mutation_prob,
            crossover=crossover,
            crossover_prob=crossover_prob,
            swapping_prob=swapping_prob,
            seed=seed,
        )
        self.dividing_parameter = at_least("dividing_parameter", dividing_parameter, 1)
        self.reference_points = None if reference_points is None else _directions(reference_points)

    def _survivors(self, losses: Array, violations: Array, rng: np.random.Generator) -> tuple[NDArray[np.intp], Array]:
        objectives = len(losses)
        points = self.reference_points
        if points is None:
            points = simplex(objectives, self.dividing_parameter)
        elif points.shape[1] != objectives:
            raise StudyError(
                f"reference_points have {points.shape[1]} columns and the study has {objectives} objectives; give one "
                "column for each"
            )
        places: list[int] = []
        ranks: list[int] = []
        for rank, front in enumerate(fronts(losses, violations)):
            room = self.population_size - len(places)
            if len(front) > room:
                front = np.array(places_of(losses, places, front.tolist(), room, points, rng), dtype=np.intp)
            places += front.tolist()
            ranks += [rank] * len(front)
            if len(places) == self.population_size:
                break
        return np.array(places), np.array(ranks, dtype=np.float64)[:, None]

    def _arguments(self) -> str:
        points = None if self.reference_points is None else self.reference_points.tolist()
        return f"{super()._arguments()}, reference_points={points}, dividing_parameter={self.dividing_parameter}"


def simplex(objectives: int, parts: int) -> Array:
    """Das and Dennis's points: all ways of dealing ``parts`` equal shares out to the objectives.

    >>> simplex(2, 2).tolist()
    [[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]
    """
    dealt = combinations_with_replacement(range(objectives), parts)
    return np.array([np.bincount(one, minlength=objectives) for one in dealt], dtype=np.float64)


def places_of(
    losses: Array, taken: list[int], front: list[int], room: int, points: Array, rng: np.random.Generator
) -> list[int]:
    """The ``room`` of ``front`` that go on beside ``taken``, so that the reference directions are served evenly."""
    everybody = taken + front
    nearest, distance = _associate(_normalized(losses[:, everybody].T), points)
    served = np.bincount(nearest[: len(taken)], minlength=len(points))
    waiting: dict[int, list[tuple[float, int]]] = {}
    for index, place in enumerate(front, start=len(taken)):
        waiting.setdefault(int(nearest[index]), []).append((float(distance[index]), place))
    found: list[int] = []
    while len(found) < room:
        fewest = min(served[point] for point in waiting)
        tied = [point for point in waiting if served[point] == fewest]
        point = tied[int(rng.integers(len(tied)))]
        near = waiting[point]
        # The first of a direction is the nearest one, the others come as they are drawn.
        chosen = near.index(min(near)) if fewest == 0 else int(rng.integers(len(near)))
        found.append(near.pop(chosen)[1])
        served[point] += 1
        if not near:
            del waiting[point]
    return found


def _normalized(losses: Array) -> Array:
    """Losses (one trial a row) on the scale from the ideal point, 0, to the hyperplane through the extreme ones, 1."""
    finite = np.where(np.isfinite(losses), losses, math.nan)
    known = np.isfinite(losses).any(axis=0)
    low = np.where(known, np.nanmin(np.where(known, finite, 0.0), axis=0), 0.0)
    high = np.where(known, np.nanmax(np.where(known, finite, 0.0), axis=0), 0.0)
    margin = 3 * (high - low)  # where an infinity is put, which no plane goes through
    shifted: Array = np.clip(losses, low - margin, high + margin)
    shifted = shifted - shifted.min(axis=0)
    weights = np.where(np.eye(losses.shape[1]) > 0, 1.0, 1e6)
    extreme = shifted[np.argmin((shifted[None, :, :] * weights[:, None, :]).max(axis=2), axis=1)]
    spans = shifted.max(axis=0)
    try:
        inverse = np.linalg.solve(extreme, np.ones(losses.shape[1]))
    except np.linalg.LinAlgError:
        inverse = np.full(losses.shape[1], math.nan)
    # A plane that cuts an axis nowhere, or below the ideal point, is none.
    if not (np.isfinite(inverse).all() and (inverse > 0).all()):
        inverse = 1 / np.where(spans > 0, spans, 1.0)
    return shifted * inverse


def _associate(shares: Array, points: Array) -> tuple[NDArray[np.intp], Array]:
    """Of each row the nearest direction, and how far it is from it."""
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    along = shares @ unit.T
    squares = (shares * shares).sum(axis=1)[:, None] - along * along
    nearest = np.argmin(squares, axis=1)
    return nearest, np.sqrt(np.maximum(squares[np.arange(len(shares)), nearest], 0.0))


def _directions(points: Any) -> Array:
    try:
        found: Array = np.array(points, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if (
        found.ndim != 2
        or not found.size
        or not np.isfinite(found).all()
        or (found < 0).any()
        or not found.any(axis=1).all()
    ):
        raise StudyError(
            f"reference_points must be rows of numbers >= 0, none of them all 0, got {points!r}; write for example "
            "reference_points=[[1, 0], [0.5, 0.5], [0, 1]]"
        )
    return found
