"""Which of the finished trials are the best: kept in order as they arrive, not sorted at each ask."""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.trials import FrozenTrial, StudyDirection, TrialState

__all__ = ["Ranking", "crowding", "fronts", "ranking_for", "violation"]


class Ranking(ABC):
    """Trials from best to worst: the completed and feasible ones, then pruned, infeasible and crashed ones."""

    @abstractmethod
    def add(self, trial: FrozenTrial) -> None:
        """Adds a trial that has completed, was pruned or crashed."""

    @abstractmethod
    def best(self, count: int) -> list[int]:
        """The numbers of the best ``count`` trials."""


def ranking_for(directions: Sequence[StudyDirection], *, most: int) -> Ranking:
    """An empty ranking by one objective, or by several, that is asked for the best ``most`` at most."""
    signs = [direction.sign for direction in directions]
    return ValueRanking(signs[0]) if len(signs) == 1 else ParetoRanking(signs, most)


class ValueRanking(Ranking):
    """By the only objective; of equal trials the earlier one first.

    Pruned trials follow the completed ones: those that got farthest first, among them by what they reported.
    """

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._ordered: list[tuple[float, float, float, int]] = []

    def add(self, trial: FrozenTrial) -> None:
        bisect.insort(self._ordered, (*self._key(trial), trial.number))

    def _key(self, trial: FrozenTrial) -> tuple[float, float, float]:
        if trial.crashed:
            return (3.0, 0.0, 0.0)
        if not trial.feasible:
            return (2.0, violation(trial), 0.0)
        if trial.state is TrialState.COMPLETE:
            assert trial.value is not None
            return (0.0, self._sign * trial.value, 0.0)
        step = trial.last_step
        if step is None:
            return (1.0, math.inf, 0.0)
        value = self._sign * trial.intermediate_values[step]
        return (1.0, -float(step), math.inf if math.isnan(value) else value)

    def best(self, count: int) -> list[int]:
        return [entry[3] for entry in self._ordered[:count]]


class ParetoRanking(Ranking):
    """By several objectives: front after front, and within the last one by how lonely a trial is.

    Fronts and crowding distance as in Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II",
    IEEE Transactions on Evolutionary Computation 2002, section III. A trial that ``most`` others dominate will
    never be among the best ``most``, so it is forgotten, and what is kept stays small.
    """

    def __init__(self, signs: Sequence[float], most: int) -> None:
        self._signs = np.asarray(signs)
        self._most = most
        # What is kept is ordered by the first loss, because sorting what is sorted already costs little.
        self._numbers = np.empty(0, dtype=np.int64)
        self._losses = np.empty((len(signs), 0))  # an objective a row
        self._dominators = np.empty(0, dtype=np.int64)  # how many dominate each; exact, as all of them are kept
        self._others: list[tuple[float, int]] = []  # pruned (0), infeasible (by violation) and crashed ones, ordered

    def add(self, trial: FrozenTrial) -> None:
        if trial.values is None or not trial.feasible:
            bisect.insort(self._others, (math.inf if trial.crashed else violation(trial), trial.number))
            return
        new = self._signs * np.asarray(trial.values)
        no_better, no_worse = self._compare(new)
        self._dominators += no_better > no_worse  # the one and not the other
        first = self._losses[0].searchsorted(new[0], "left")
        last = self._losses[0].searchsorted(new[0], "right")
        place = int(first + self._numbers[first:last].searchsorted(trial.number))
        self._numbers = _inserted(self._numbers, place, trial.number)
        self._losses = _inserted(self._losses, place, new)
        self._dominators = _inserted(self._dominators, place, np.count_nonzero(no_worse > no_better))
        if self._dominators.max() >= self._most:
            kept = self._dominators < self._most
            self._numbers, self._losses = self._numbers[kept], self._losses[:, kept]
            self._dominators = self._dominators[kept]

    def _compare(self, loss: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of the trials are nowhere better than ``loss``, and which nowhere worse."""
        no_better = self._losses[0] >= loss[0]
        no_worse = self._losses[0] <= loss[0]
        for row, value in zip(self._losses[1:], loss[1:], strict=True):
            no_better &= row >= value
            no_worse &= row <= value
        return no_better, no_worse

    def _dominated(self, front: NDArray[np.intp]) -> NDArray[np.int64]:
        """How many of a front dominate each trial."""
        # Of those that are nowhere better than one of the front, only its equals are nowhere worse.
        ahead = self._losses[:, front, None]
        no_better, equal = self._losses[0] >= ahead[0], self._losses[0] == ahead[0]
        for row, own in zip(self._losses[1:], ahead[1:], strict=True):
            no_better &= row >= own
            equal &= row == own
        found: NDArray[np.int64] = (no_better > equal).sum(axis=0)
        return found

    def best(self, count: int) -> list[int]:
        assert count <= self._most, "more trials than were kept"
        chosen: list[int] = []
        dominators = self._dominators.copy()  # of those that have not been chosen yet
        while len(chosen) < count:
            front = (dominators == 0).nonzero()[0]
            if not len(front):
                break
            if len(front) > count - len(chosen):
                lonely = np.argsort(-crowding(self._losses[:, front]), kind="stable")
                front = front[lonely[: count - len(chosen)]]
            chosen += self._numbers[front].tolist()
            if len(chosen) < count:
                dominators -= self._dominated(front)
                dominators[front] = -1
        return chosen + [number for _, number in self._others[: count - len(chosen)]]


def _inserted(values: NDArray[Any], place: int, new: Any) -> NDArray[Any]:
    """As `numpy.insert` along the last axis, which takes five times as long for one."""
    found = np.empty((*values.shape[:-1], values.shape[-1] + 1), dtype=values.dtype)
    found[..., :place], found[..., place], found[..., place + 1 :] = values[..., :place], new, values[..., place:]
    return found


def violation(trial: FrozenTrial) -> float:
    """By how much a trial violates its constraints, all together."""
    return sum(max(value, 0.0) for value in trial.constraints.values())


def crowding(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each trial (a column) is from its neighbours; without end for the best in an objective."""
    distance = np.zeros(losses.shape[1])
    for row in losses:
        order = np.argsort(row, kind="stable")
        ordered = row[order]
        span = ordered[-1] - ordered[0]
        distance[order[0]] = distance[order[-1]] = math.inf
        if span > 0 and math.isfinite(span):
            distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
    return distance


def fronts(losses: NDArray[np.float64], violations: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Which of some trials (columns of ``losses``) no other one dominates, which only those do, and so on.

    A feasible trial dominates every other, and of two infeasible ones the one that violates less dominates (Deb et al.
    2002, section VI).
    """
    no_worse = (losses[:, :, None] <= losses[:, None, :]).all(axis=0)
    feasible = violations <= 0
    both = feasible[:, None] & feasible[None, :]
    dominates = np.where(both, no_worse & ~no_worse.T, violations[:, None] < violations[None, :])
    dominators = dominates.sum(axis=0)
    found = []
    left = np.ones(len(violations), dtype=bool)
    while left.any():
        front = (left & (dominators == 0)).nonzero()[0]
        found.append(front)
        left[front] = False
        dominators = dominators - dominates[front].sum(axis=0)
    return found
