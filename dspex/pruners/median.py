"""The median rule: a trial ends when it is worse than half of its predecessors were at the same step.

Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.3.
"""

from __future__ import annotations

import bisect
import math
import threading

from dspex.errors import StudyError
from dspex.pruners.base import Pruner
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState

__all__ = ["MedianPruner"]


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


class MedianPruner(Pruner):
    """Ends a trial whose best reported value is worse than the median of the completed trials at the same
    step.

    Args:
        n_startup_trials: No trial is ended before this many have completed.
        n_warmup_steps: No trial is ended before this step.
        interval_steps: Steps between two looks, counted from the end of the warm-up; the trial is looked at
            by its first report in each interval.
        n_min_trials: How many completed trials must have reported at a step before it is compared.

    Raises:
        StudyError: when a number is negative, or ``interval_steps`` or ``n_min_trials`` is 0.

    >>> from dspex.study import create_study
    >>> study = create_study(pruner=MedianPruner(n_startup_trials=2))
    >>> for loss in (1.0, 2.0, 9.0):
    ...     trial = study.ask()
    ...     trial.report(loss, step=0)
    ...     prune = trial.should_prune()
    ...     finished = study.tell(trial, loss)
    >>> prune
    True
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        n_min_trials: int = 1,
    ) -> None:
        self.n_startup_trials = at_least("n_startup_trials", n_startup_trials, 0)
        self.n_warmup_steps = at_least("n_warmup_steps", n_warmup_steps, 0)
        self.interval_steps = at_least("interval_steps", interval_steps, 1)
        self.n_min_trials = at_least("n_min_trials", n_min_trials, 1)
        self._studies = PerView(_Steps)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < self.n_warmup_steps or not self._due(trial, step):
            return False
        steps = self._studies.of(view)
        with steps.lock:
            steps.read(view)
            if len(steps.completed) < self.n_startup_trials:
                return False
            others = steps.values.get(step, [])
            if len(others) < max(self.n_min_trials, 1):
                return False
            median = _median(others)
        sign = view.directions[0].sign
        losses = [sign * value for value in trial.intermediate_values.values() if not math.isnan(value)]
        return not losses or min(losses) > median

    def _due(self, trial: FrozenTrial, step: int) -> bool:
        interval = (step - self.n_warmup_steps) // self.interval_steps
        begins = self.n_warmup_steps + interval * self.interval_steps
        return not any(begins <= other < step for other in trial.intermediate_values)

    def __repr__(self) -> str:
        return (
            f"MedianPruner(n_startup_trials={self.n_startup_trials}, n_warmup_steps={self.n_warmup_steps}, "
            f"interval_steps={self.interval_steps}, n_min_trials={self.n_min_trials})"
        )


def at_least(name: str, value: int, smallest: int) -> int:
    """``value``, when it is a whole number and not too small."""
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise StudyError(f"{name} must be a whole number >= {smallest}, got {value!r} ({type(value).__name__})")
    return value


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
