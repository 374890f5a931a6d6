"""What a study has measured, as what Gaussian processes are fitted to.

An exact process costs the third power of the points it sees, so it sees `MOST` of them at most: the best half, and of
the others those about which the points taken before say least (the greedy choice by posterior variance, a pivoted
Cholesky decomposition: Burt et al., "Convergence of Sparse Variational Inference in Gaussian Processes Regression",
JMLR 2020). Both the choice and the hyperparameters are made anew whenever there are a sixteenth more trials (at most
32), from the trials up to then, in the order in which they finished: so whoever reads the study has the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.gp_process import LENGTH, Columns, Process, fit_hyperparameters, matern
from dspex.samplers.layout import Flags, Layout
from dspex.samplers.ranking import ranking_for
from dspex.trials import FrozenTrial, StudyDirection, TrialState
from dspex.variables import Domain, Pool

__all__ = ["MOST", "Observations", "milestone"]

Array = NDArray[np.float64]

MOST = 256
"""Points that a process sees at most."""

_LONGEST = 32  # trials that are added before points and hyperparameters are chosen anew
_LOOKED_AT = 2048  # of the points that are not the best: so many, the most recent ones, are chosen from
_MOST_PENDING = 32


def milestone(count: int) -> int:
    """The number of trials, of ``count``, by which hyperparameters are chosen.

    >>> [milestone(count) for count in (5, 31, 33, 100, 1000)]
    [5, 31, 32, 96, 992]
    """
    return count - count % min(max(count // 16, 1), _LONGEST)


class Observations:
    """The finished trials that have a place in a layout, in the order in which they finished.

    Args:
        domains: The variables.
        pools: Of the open-ended ones.
        directions: The study's.
    """

    def __init__(
        self, domains: Mapping[str, Domain[Any]], pools: Mapping[str, Pool], directions: Sequence[StudyDirection]
    ) -> None:
        self.layout = Layout(domains, pools)
        self._signs = np.array([direction.sign for direction in directions])
        self._ranking = ranking_for(directions, most=MOST // 2)
        self._name = zlib.crc32("\n".join(domains).encode())
        self._read = 0
        self._rows: list[Array] = []
        self._had: list[Flags] = []
        self._trials: list[FrozenTrial] = []
        self._keys: set[bytes] = set()
        self._ranked = 0
        self._kept: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._fitted: dict[str, Array] = {}

    def read(self, finished: Sequence[FrozenTrial]) -> None:
        """Takes in what has finished since the last time; ``finished`` is all that ever has."""
        for trial in finished[self._read :]:
            encoded = self.layout.encode(trial.params)
            if encoded is not None:
                self._rows.append(encoded[0])
                self._had.append(encoded[1])
                self._trials.append(trial)
                self._keys.add(self.layout.key(*encoded))
        self._read = len(finished)
        until = milestone(len(self._trials))
        if until > self._ranked:
            for trial in self._trials[self._ranked : until]:
                self._ranking.add(trial)
            self._ranked = until
            self._kept = self._chosen(until)
            self._fitted.clear()

    def _chosen(self, until: int) -> NDArray[np.intp]:
        most = MOST - _LONGEST
        if until <= most:
            return np.arange(until)
        place = {trial.number: index for index, trial in enumerate(self._trials[:until])}
        best = np.array([place[number] for number in self._ranking.best(most // 2)], dtype=np.intp)
        others = np.setdiff1d(np.arange(until), best)[-_LOOKED_AT:]
        kept = np.concatenate([best, others[self._telling(best, others, most - len(best))]])
        kept.sort()
        return kept

    def _telling(self, known: NDArray[np.intp], others: NDArray[np.intp], count: int) -> NDArray[np.intp]:
        """Places of the ``count`` others about which the known ones and those taken before say least."""
        relevance = np.full(len(self.layout.paths), np.exp(-2 * LENGTH[0]) / max(len(self.layout.paths), 1))
        here, there = self._columns(known), self._columns(others)
        covariance = matern(here.between(here, relevance))[0]
        covariance[np.diag_indices(len(known))] += 1e-2
        explained = np.linalg.solve(np.linalg.cholesky(covariance), matern(here.between(there, relevance))[0])
        left = 1 - (explained * explained).sum(axis=0)
        parts = np.zeros((count, len(others)))
        taken = []
        for step in range(count):
            index = int(np.argmax(left))
            taken.append(index)
            row = matern(there.chosen(np.array([index])).between(there, relevance))[0][0]
            row -= explained[:, index] @ explained + parts[:step, index] @ parts[:step]
            parts[step] = row / np.sqrt(max(left[index], 0.0) + 1e-2)
            left = left - parts[step] ** 2
            left[taken] = -np.inf
        return np.array(taken, dtype=np.intp)

    def _columns(self, places: Sequence[int] | NDArray[np.intp]) -> Columns:
        return self.layout.columns(
            np.array([self._rows[place] for place in places]).reshape(-1, self.layout.width),
            np.array([self._had[place] for place in places]).reshape(-1, len(self.layout.paths)),
        )

    @property
    def places(self) -> NDArray[np.intp]:
        """The trials that processes see: those kept, and all since."""
        return np.concatenate([self._kept, np.arange(self._ranked, len(self._trials))])

    def trials(self, places: NDArray[np.intp]) -> list[FrozenTrial]:
        """The trials themselves."""
        return [self._trials[place] for place in places]

    def rows(self, places: NDArray[np.intp]) -> Array:
        """Their rows."""
        return np.array([self._rows[place] for place in places]).reshape(-1, self.layout.width)

    def had(self, places: NDArray[np.intp]) -> Flags:
        """Which variables they had."""
        return np.array([self._had[place] for place in places]).reshape(-1, len(self.layout.paths))

    def is_new(self, row: Array, active: Flags, running: Sequence[Mapping[str, Any]]) -> bool:
        """Whether no trial had this configuration, nor one that is ``running`` has it."""
        key = self.layout.key(row, active)
        return key not in self._keys and all(self.layout.key(*one) != key for one in self._encoded(running))

    def _encoded(self, running: Sequence[Mapping[str, Any]]) -> list[tuple[Array, Flags]]:
        return [encoded for params in running if params and (encoded := self.layout.encode(params)) is not None]

    def columns(self, places: NDArray[np.intp]) -> Columns:
        """Their columns."""
        return self._columns(places)

    def losses(self, places: NDArray[np.intp]) -> Array:
        """What was measured (objectives, trials), less is better; NaN for trials that were pruned or crashed."""
        told = [
            self._signs * trial.values
            if trial.state is TrialState.COMPLETE and trial.values is not None
            else np.full(len(self._signs), np.nan)
            for trial in self.trials(places)
        ]
        return np.array(told).reshape(-1, len(self._signs)).T

    def pending(self, running: Sequence[Mapping[str, Any]]) -> Columns | None:
        """Where the trials are that are running with these values."""
        found = self._encoded(running)[-_MOST_PENDING:]
        if not found:
            return None
        return self.layout.columns(np.array([row for row, _ in found]), np.array([had for _, had in found]))

    def process(
        self, name: str, places: NDArray[np.intp], values: Array, pending: Columns | None, seed: int
    ) -> tuple[Process, Standard]:
        """The posterior of what is called ``name``, in standard units, and the units.

        The hyperparameters are those of the last milestone, and what is measured later does not change them.
        """
        columns = self._columns(places)
        theta = self._fitted.get(name)
        if theta is None:
            before = (places < self._ranked).nonzero()[0]
            rng = np.random.default_rng([seed, self._ranked, self._name, zlib.crc32(name.encode())])
            targets = Standard(values[before]).targets
            theta = self._fitted[name] = fit_hyperparameters(columns.chosen(before), targets, rng)
        standard = Standard(values)
        return Process(columns, standard.targets, theta, pending), standard


class Standard:
    """Values with mean 0 and variance 1; what is not known (of pruned and crashed trials) is put in the middle of the
    others.

    >>> Standard(np.array([1.0, 3.0, np.inf, np.nan])).targets.round(2).tolist()
    [-1.41, 0.71, 0.71, 0.71]
    """

    def __init__(self, values: Array) -> None:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        # Squares of what is beyond 1e154 would be without end.
        self._scale = max(abs(low), abs(high), 1e-300)
        shares = np.clip(values, low, high) / self._scale
        seen = shares[~np.isnan(shares)]
        self._mean = float(seen.mean()) if len(seen) else 0.0
        deviation = float(seen.std()) if len(seen) else 0.0
        self._deviation = deviation if deviation > 1e-12 else 1.0
        middle = float(np.median(seen)) if len(seen) else 0.0
        self.targets: Array = (np.where(np.isnan(shares), middle, shares) - self._mean) / self._deviation

    def of(self, value: float) -> float:
        """A value in standard units."""
        return (value / self._scale - self._mean) / self._deviation
