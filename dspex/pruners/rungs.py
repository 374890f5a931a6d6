"""The rungs of successive halving: how far each trial has come, and who goes on.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2; after Jamieson
and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping

from dspex.trials import FrozenTrial

__all__ = ["Rungs"]


class Rungs:
    """What some trials of one study had reached when they passed each rung, kept in order as they arrive.

    Args:
        min_resource: The steps of the first rung.
        reduction_factor: Each rung is at so many times the steps of the one before, and one of so many goes on.
        bootstrap_count: Nobody goes on from a rung that no more trials than this have reached.
        sign: What a value is multiplied with so that smaller is better.
    """

    def __init__(self, min_resource: int, reduction_factor: int, bootstrap_count: int, *, sign: float) -> None:
        self._min_resource = min_resource
        self._factor = reduction_factor
        self._bootstrap_count = bootstrap_count
        self._sign = sign
        self._by_trial: list[dict[int, float]] = []  # rung -> number -> loss
        self._ordered: list[list[float]] = []  # rung -> sorted losses

    def take(self, trial: FrozenTrial) -> None:
        """Notes how far a trial has come; one that has been put back has come nowhere."""
        reached = self._passed(trial.intermediate_values)
        for rung in range(max(len(reached), len(self._by_trial))):
            self._set(rung, trial.number, reached[rung] if rung < len(reached) else None)

    def ends(self, trial: FrozenTrial) -> bool:
        """Whether the last report of a trial that has been taken brought it to a rung from which it does not go on."""
        step = trial.last_step
        if step is None:
            return False
        reached = self._passed(trial.intermediate_values)
        before = self._passed({other: value for other, value in trial.intermediate_values.items() if other != step})
        if math.isnan(trial.intermediate_values[step]):
            return step >= self._steps_of(len(before))
        return not all(self._goes_on(rung, reached[rung]) for rung in range(len(before), len(reached)))

    def _goes_on(self, rung: int, loss: float) -> bool:
        ordered = self._ordered[rung]
        if len(ordered) <= self._bootstrap_count:
            return False
        # With fewer than `reduction_factor` trials on the rung, the best of them goes on.
        promoted = max(len(ordered) // self._factor, 1)
        return loss <= ordered[promoted - 1]

    def _set(self, rung: int, number: int, loss: float | None) -> None:
        while len(self._by_trial) <= rung:
            self._by_trial.append({})
            self._ordered.append([])
        old = self._by_trial[rung].get(number)
        if old == loss:
            return
        if old is not None:
            del self._by_trial[rung][number]
            del self._ordered[rung][bisect.bisect_left(self._ordered[rung], old)]
        if loss is not None:
            self._by_trial[rung][number] = loss
            bisect.insort(self._ordered[rung], loss)

    def _passed(self, values: Mapping[int, float]) -> list[float]:
        """The loss with which each rung was passed that these reports reach; with a NaN none is."""
        reached: list[float] = []
        for step in sorted(values):
            while step >= self._steps_of(len(reached)) and not math.isnan(values[step]):
                reached.append(self._sign * values[step])
        return reached

    def _steps_of(self, rung: int) -> int:
        factor: int = self._factor**rung
        return self._min_resource * factor
