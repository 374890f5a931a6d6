"""The percentile rule: a trial ends when it is worse than most of its predecessors were at the same step."""

from __future__ import annotations

import bisect
import math
import threading

from dspex.pruners.base import Pruner
from dspex.pruners.checks import first_in_interval, number_in
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.trials.checks import at_least

__all__ = ["PercentilePruner"]


class _Steps:
    """What the completed trials of one study reported, by step."""

    def __init__(self) -> None:
        self.cursor = 0
        self.completed: set[int] = set()
        self.values: dict[int, list[float]] = {}  # step -> sorted losses
        self.lock = threading.Lock()

    def read(self, view: StudyView) -> None:
        changed, self.cursor = view.changes(self.cursor)
        sign = view.directions[0].sign
        for trial in changed:
            if trial.state is TrialState.COMPLETE and trial.number not in self.completed:
                self.completed.add(trial.number)
                for step, value in trial.intermediate_values.items():
                    if not math.isnan(value):
                        bisect.insort(self.values.setdefault(step, []), sign * value)


class PercentilePruner(Pruner):
    """Keeps the best ``percentile`` per cent: ends a trial whose best reported value is worse than that percentile
    of the completed trials' values at the same step.

    Percentiles between two values are interpolated, as numpy does. A trial that has reported nothing but NaN is
    ended; a NaN of another trial is left out.

    Args:
        percentile: How many per cent of the trials are kept, from 0 to 100.
        n_startup_trials: No trial is ended before this many have completed.
        n_warmup_steps: No trial is ended before this step.
        interval_steps: Steps between two looks, counted from the end of the warm-up; the trial is looked at
            by its first report in each interval.
        n_min_trials: How many completed trials must have reported at a step before it is compared.

    Raises:
        StudyError: when the percentile is not between 0 and 100, a number is negative, or ``interval_steps`` or
            ``n_min_trials`` is 0.

    >>> from dspex.study import create_study
    >>> study = create_study(pruner=PercentilePruner(25.0, n_startup_trials=4))
    >>> for loss in (1.0, 2.0, 3.0, 4.0, 1.8):
    ...     trial = study.ask()
    ...     trial.report(loss, step=0)
    ...     prune = trial.should_prune()
    ...     finished = study.tell(trial, loss)
    >>> prune
    True
    """

    def __init__(
        self,
        percentile: float,
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        *,
        n_min_trials: int = 1,
    ) -> None:
        self.percentile = number_in("percentile", percentile, 0.0, 100.0)
        self.n_startup_trials = at_least("n_startup_trials", n_startup_trials, 0)
        self.n_warmup_steps = at_least("n_warmup_steps", n_warmup_steps, 0)
        self.interval_steps = at_least("interval_steps", interval_steps, 1)
        self.n_min_trials = at_least("n_min_trials", n_min_trials, 1)
        self._studies = PerView(_Steps)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or not first_in_interval(trial, warmup=self.n_warmup_steps, interval=self.interval_steps):
            return False
        sign = view.directions[0].sign
        losses = [sign * value for value in trial.intermediate_values.values() if not math.isnan(value)]
        steps = self._studies.of(view)
        with steps.lock:
            steps.read(view)
            if len(steps.completed) < max(self.n_startup_trials, 1):
                return False
            if not losses:
                return True
            others = steps.values.get(step, [])
            return len(others) >= self.n_min_trials and min(losses) > _percentile(others, self.percentile, sign)

    def __repr__(self) -> str:
        return f"PercentilePruner({self.percentile}, {self._arguments()})"

    def _arguments(self) -> str:
        return (
            f"n_startup_trials={self.n_startup_trials}, n_warmup_steps={self.n_warmup_steps}, "
            f"interval_steps={self.interval_steps}, n_min_trials={self.n_min_trials}"
        )


def _percentile(losses: list[float], percentile: float, sign: float) -> float:
    """As `numpy.percentile` to the last bit, of losses (``sign`` times a value) that are sorted already.

    To the last bit it is that of the values themselves: where they are rounded, which trials are pruned hangs on it.
    """
    last = len(losses) - 1
    place = (percentile if sign > 0 else 100 - percentile) / 100 * last
    below = math.floor(place)
    above = min(below + 1, last)
    low, high = (losses[below], losses[above]) if sign > 0 else (-losses[last - below], -losses[last - above])
    if low == high:
        return sign * low
    share = place - below
    return sign * (low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share))
