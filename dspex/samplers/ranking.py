"""Which of the finished trials are the best: kept in order as they arrive, not sorted at each ask."""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dspex.trials import FrozenTrial, StudyDirection, TrialState

__all__ = ["Ranking", "ranking_for"]


class Ranking(ABC):
    """Trials from best to worst: the completed and feasible ones, then pruned, then infeasible ones."""

    @abstractmethod
    def add(self, trial: FrozenTrial) -> None:
        """Adds a trial that has completed or was pruned."""

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
        if not trial.feasible:
            return (2.0, _violation(trial), 0.0)
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
        self._losses = np.empty((0, len(signs)))
        self._dominators = np.empty(0, dtype=np.int64)  # how many dominate each; exact, as all of them are kept
        self._others: list[tuple[float, int]] = []  # pruned (0) and infeasible ones (by violation), ordered

    def add(self, trial: FrozenTrial) -> None:
        if trial.values is None or not trial.feasible:
            bisect.insort(self._others, (_violation(trial), trial.number))
            return
        new = self._signs * np.asarray(trial.values)
        no_better = (self._losses >= new).all(axis=1)
        no_worse = (self._losses <= new).all(axis=1)
        self._dominators += no_better & ~no_worse
        first = np.searchsorted(self._losses[:, 0], new[0], "left")
        last = np.searchsorted(self._losses[:, 0], new[0], "right")
        place = int(first + np.searchsorted(self._numbers[first:last], trial.number))
        self._numbers = np.insert(self._numbers, place, trial.number)
        self._losses = np.insert(self._losses, place, new, axis=0)
        self._dominators = np.insert(self._dominators, place, (no_worse & ~no_better).sum())
        kept = self._dominators < self._most
        if not kept.all():
            self._numbers, self._losses = self._numbers[kept], self._losses[kept]
            self._dominators = self._dominators[kept]

    def best(self, count: int) -> list[int]:
        assert count <= self._most, "more trials than were kept"
        chosen: list[int] = []
        dominators = self._dominators.copy()  # of those that have not been chosen yet
        while len(chosen) < count:
            front = np.flatnonzero(dominators == 0)
            if not len(front):
                break
            if len(front) > count - len(chosen):
                lonely = np.argsort(-_crowding(self._losses[front]), kind="stable")
                front = front[lonely[: count - len(chosen)]]
            for index in front:
                loss = self._losses[index]
                dominators -= (self._losses >= loss).all(axis=1) & (self._losses != loss).any(axis=1)
            dominators[front] = -1
            chosen += [int(number) for number in self._numbers[front]]
        return chosen + [number for _, number in self._others[: count - len(chosen)]]


def _violation(trial: FrozenTrial) -> float:
    return sum(max(value, 0.0) for value in trial.constraints.values())


def _crowding(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    distance = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = math.inf
        if span > 0 and math.isfinite(span):
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance
