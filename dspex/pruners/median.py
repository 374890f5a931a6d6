"""The median rule: a trial ends when it is worse than half of its predecessors were at the same step.

Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.3.
"""

from __future__ import annotations

from dspex.pruners.percentile import PercentilePruner

__all__ = ["MedianPruner"]


class MedianPruner(PercentilePruner):
    """Ends a trial whose best reported value is worse than the median of the completed trials at the same
    step: `PercentilePruner` with 50 per cent.

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
        n_startup_trials: int = 5,
        n_warmup_steps: int = 0,
        interval_steps: int = 1,
        *,
        n_min_trials: int = 1,
    ) -> None:
        super().__init__(50.0, n_startup_trials, n_warmup_steps, interval_steps, n_min_trials=n_min_trials)

    def __repr__(self) -> str:
        return f"MedianPruner({self._arguments()})"
