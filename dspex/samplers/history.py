"""What a sampler has seen of one branch: its trials as rows of numbers, added to as they finish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.dimensions import Dimension, NumberDimension
from dspex.samplers.parzen import Columns
from dspex.samplers.ranking import ranking_for
from dspex.trials import FrozenTrial, StudyDirection

__all__ = ["BranchHistory"]

Array = NDArray[np.float64]
Places = NDArray[np.intp]


class BranchHistory:
    """The trials that have a value for every variable of a branch, in the order of their numbers.

    Args:
        dimensions: The branch's variables.
        directions: The study's.
        most: The largest number of good trials that `split` is asked for.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], directions: Sequence[StudyDirection], *, most: int) -> None:
        # Numbers first, because they are modelled together.
        self.dimensions = dict(sorted(dimensions.items(), key=lambda item: not isinstance(item[1], NumberDimension)))
        self.columns = Columns(list(self.dimensions.values()))
        self._rows = np.empty((64, self.columns.width))
        self._numbers = np.empty(64, dtype=np.int64)
        self._ranking = ranking_for(directions, most=most)
        self._running: dict[int, Sequence[float]] = {}
        self.count = 0
        self.ranked = 0
        """Trials that have completed or were pruned: those that `split` may call good."""

    def finish(self, trial: FrozenTrial) -> None:
        """Adds a trial that has completed, was pruned or crashed."""
        self._running.pop(trial.number, None)
        row = self.encode(trial.params)
        if row is None:
            return
        if self.count == len(self._numbers):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._numbers = np.concatenate([self._numbers, np.empty_like(self._numbers)])
        place = int(self._numbers[: self.count].searchsorted(trial.number))
        if place < self.count:
            self._rows[place + 1 : self.count + 1] = self._rows[place : self.count]
            self._numbers[place + 1 : self.count + 1] = self._numbers[place : self.count]
        self._rows[place] = row
        self._numbers[place] = trial.number
        self.count += 1
        if not trial.crashed:  # else it is one of the others, however few there are
            self.ranked += 1
            self._ranking.add(trial)

    def start(self, number: int, params: Mapping[str, Any]) -> None:
        """Notes a trial that is running, or is going to run, with values for all of the branch."""
        row = self.encode(params)
        if row is not None:
            self._running[number] = row

    def drop(self, number: int) -> None:
        """Forgets a running trial."""
        self._running.pop(number, None)

    def encode(self, params: Mapping[str, Any]) -> Sequence[float] | None:
        """The row of some values, or ``None`` when one is missing or no longer in its domain."""
        row: list[float] = []
        for path, dimension in self.dimensions.items():
            columns = dimension.encode(params[path]) if path in params else None
            if columns is None:
                return None
            row.extend(columns)
        return row

    def split(self, good: int, most: int, *, asking: int) -> tuple[Array, Array]:
        """The rows of the best ``good`` trials, and of at most ``most`` others and the running ones.

        The others are the more recent half, and of the older ones every so many-th. Trial ``asking`` is left
        out.
        """
        good_places = self._numbers[: self.count].searchsorted(sorted(self._ranking.best(good)))
        others = _spread(self.count - len(good_places), most)
        # The i-th of the others is as many places further on as good ones come before it.
        others = others + (good_places - np.arange(len(good_places))).searchsorted(others, side="right")
        running = [row for number, row in sorted(self._running.items()) if number != asking]
        bad = self._rows.take(others, axis=0)
        return self._rows.take(good_places, axis=0), np.concatenate([bad, np.asarray(running)]) if running else bad


def _spread(count: int, most: int) -> Places:
    """Which of ``count`` to take: the more recent half of ``most``, and of the older ones every so many-th."""
    if count <= most:
        return np.arange(count)
    older, wanted = count - most // 2, most - most // 2
    return np.concatenate([np.arange(wanted) * (older - 1) // max(wanted - 1, 1), np.arange(older, count)])
