"""Fixed bounds: a trial ends when a value it reports lies outside them."""

from __future__ import annotations

import math

from dspex.errors import StudyError
from dspex.pruners.base import Pruner
from dspex.pruners.checks import first_in_interval, number_in
from dspex.trials import FrozenTrial, StudyView
from dspex.trials.checks import at_least

__all__ = ["ThresholdPruner"]


class ThresholdPruner(Pruner):
    """Ends a trial that reports a value below ``lower``, above ``upper``, or NaN, whatever the study's direction.

    Args:
        lower: The smallest value that is let go on; ``None`` for any.
        upper: The largest value that is let go on; ``None`` for any.
        n_warmup_steps: No trial is ended before this step.
        interval_steps: Steps between two looks, counted from the end of the warm-up; the trial is looked at
            by its first report in each interval.

    Raises:
        StudyError: when neither bound is given, a bound is no number, ``lower`` is above ``upper``, or a number
            of steps makes no sense.

    >>> from dspex.study import create_study
    >>> trial = create_study(pruner=ThresholdPruner(upper=1.0)).ask()
    >>> trial.report(1.5, step=0)
    >>> trial.should_prune()
    True
    """

    def __init__(
        self,
        lower: float | None = None,
        upper: float | None = None,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
    ) -> None:
        if lower is None and upper is None:
            raise StudyError("a ThresholdPruner needs a bound; write ThresholdPruner(upper=1.0), or lower=...")
        self.lower = None if lower is None else number_in("lower", lower, -math.inf)
        self.upper = None if upper is None else number_in("upper", upper, -math.inf)
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise StudyError(f"lower must not be above upper, got lower={lower!r} and upper={upper!r}")
        self.n_warmup_steps = at_least("n_warmup_steps", n_warmup_steps, 0)
        self.interval_steps = at_least("interval_steps", interval_steps, 1)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or not first_in_interval(trial, warmup=self.n_warmup_steps, interval=self.interval_steps):
            return False
        value = trial.intermediate_values[step]
        if math.isnan(value):
            return True
        return (self.lower is not None and value < self.lower) or (self.upper is not None and value > self.upper)

    def __repr__(self) -> str:
        return (
            f"ThresholdPruner(lower={self.lower}, upper={self.upper}, n_warmup_steps={self.n_warmup_steps}, "
            f"interval_steps={self.interval_steps})"
        )
