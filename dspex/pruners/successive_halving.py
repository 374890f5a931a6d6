"""Asynchronous successive halving.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2; after Jamieson
and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections.abc import Mapping

from dspex.pruners.base import Pruner
from dspex.pruners.median import at_least
from dspex.trials import FrozenTrial, PerView, StudyView

__all__ = ["SuccessiveHalvingPruner"]


class _Rungs:
    """What the trials of one study had reached when they passed each rung."""

    def __init__(self) -> None:
        self.cursor = 0
        self.by_trial: list[dict[int, float]] = []  # rung -> number -> loss
        self.ordered: list[list[float]] = []  # rung -> sorted losses
        self.lock = threading.Lock()

    def set(self, rung: int, number: int, loss: float | None) -> None:
        while len(self.by_trial) <= rung:
            self.by_trial.append({})
            self.ordered.append([])
        old = self.by_trial[rung].pop(number, None)
        if old is not None:
            del self.ordered[rung][bisect.bisect_left(self.ordered[rung], old)]
        if loss is not None:
            self.by_trial[rung][number] = loss
            bisect.insort(self.ordered[rung], loss)


class SuccessiveHalvingPruner(Pruner):
    """Lets only the best ``1 / reduction_factor`` of the trials that reach a rung go on to the next one.

    The rungs are at ``min_resource * reduction_factor ** (k + min_early_stopping_rate)`` steps for k = 0, 1,
    ...; a step counts as that much resource. A trial passes a rung with the first value it reports there or
    later, and is compared with all trials that have passed it so far, so nobody waits for anybody.

    Args:
        min_resource: The steps every trial gets at least.
        reduction_factor: One of so many goes on.
        min_early_stopping_rate: Moves the first rung up by so many powers of the factor.

    Raises:
        StudyError: when ``min_resource`` is below 1, ``reduction_factor`` below 2 or the rate below 0.

    >>> from dspex.study import create_study
    >>> study = create_study(pruner=SuccessiveHalvingPruner(reduction_factor=2))
    >>> asked = [study.ask() for _ in range(4)]
    >>> for loss, trial in enumerate(asked):
    ...     trial.report(float(loss), step=1)
    >>> [trial.should_prune() for trial in asked]
    [False, False, True, True]
    """

    def __init__(self, *, min_resource: int = 1, reduction_factor: int = 4, min_early_stopping_rate: int = 0) -> None:
        self.min_resource = at_least("min_resource", min_resource, 1)
        self.reduction_factor = at_least("reduction_factor", reduction_factor, 2)
        self.min_early_stopping_rate = at_least("min_early_stopping_rate", min_early_stopping_rate, 0)
        self._studies = PerView(_Rungs)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        sign = view.directions[0].sign
        reached = self._passed(trial.intermediate_values, sign)
        before = {step: value for step, value in trial.intermediate_values.items() if step != trial.last_step}
        new = range(len(self._passed(before, sign)), len(reached))  # the rungs passed by the last report
        if not new:
            return False
        rungs = self._studies.of(view)
        with rungs.lock:
            self._read(view, rungs)
            return not all(self._goes_on(rungs.ordered[rung], reached[rung]) for rung in new)

    def _goes_on(self, ordered: list[float], loss: float) -> bool:
        # With fewer than `reduction_factor` trials on the rung, the best of them goes on.
        promoted = max(len(ordered) // self.reduction_factor, 1)
        return loss <= ordered[promoted - 1]

    def _read(self, view: StudyView, rungs: _Rungs) -> None:
        changed, rungs.cursor = view.changes(rungs.cursor)
        sign = view.directions[0].sign
        for trial in changed:
            reached = self._passed(trial.intermediate_values, sign)
            for rung in range(max(len(reached), len(rungs.by_trial))):
                rungs.set(rung, trial.number, reached[rung] if rung < len(reached) else None)

    def _passed(self, values: Mapping[int, float], sign: float) -> list[float]:
        """The loss with which each rung was passed that these reports reach; NaN counts as the worst."""
        reached: list[float] = []
        for step in sorted(values):
            while step >= self._steps_of(len(reached)):
                loss = sign * values[step]
                reached.append(math.inf if math.isnan(loss) else loss)
        return reached

    def _steps_of(self, rung: int) -> int:
        factor: int = self.reduction_factor ** (rung + self.min_early_stopping_rate)
        return self.min_resource * factor

    def __repr__(self) -> str:
        return (
            f"SuccessiveHalvingPruner(min_resource={self.min_resource}, "
            f"reduction_factor={self.reduction_factor}, "
            f"min_early_stopping_rate={self.min_early_stopping_rate})"
        )
