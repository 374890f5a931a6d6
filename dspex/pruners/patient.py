"""Patience: a trial that still improves is let alone."""

from __future__ import annotations

import math

from dspex.errors import StudyError
from dspex.pruners.base import Pruner
from dspex.pruners.checks import number_in
from dspex.trials import FrozenTrial, StudyView
from dspex.trials.checks import at_least

__all__ = ["PatientPruner"]


class PatientPruner(Pruner):
    """Lets another pruner decide only when a trial has not improved for a while.

    It has not when the best of its last ``patience + 1`` values is worse, by more than ``min_delta``, than the best
    one before them. A NaN is worse than anything.

    Args:
        wrapped_pruner: Who decides then; ``None`` ends the trial at once.
        patience: So many values more than the last one may pass without improvement.
        min_delta: How much worse, in units of the objective, still counts as no worse.

    Raises:
        StudyError: when ``wrapped_pruner`` is no pruner, or a number is negative.

    >>> from dspex.study import create_study
    >>> trial = create_study(pruner=PatientPruner(None, patience=1)).ask()
    >>> answers = []
    >>> for step, loss in enumerate([3.0, 1.0, 2.0, 2.0]):
    ...     trial.report(loss, step)
    ...     answers.append(trial.should_prune())
    >>> answers
    [False, False, False, True]
    """

    def __init__(self, wrapped_pruner: Pruner | None, patience: int, min_delta: float = 0.0) -> None:
        if wrapped_pruner is not None and not isinstance(wrapped_pruner, Pruner):
            raise StudyError(
                f"wrapped_pruner must be a Pruner or None, got {wrapped_pruner!r} ({type(wrapped_pruner).__name__}); "
                "write PatientPruner(MedianPruner(), patience=3)"
            )
        self.wrapped_pruner = wrapped_pruner
        self.patience = at_least("patience", patience, 0)
        self.min_delta = number_in("min_delta", min_delta, 0.0)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        sign = view.directions[0].sign
        reported = (sign * trial.intermediate_values[step] for step in sorted(trial.intermediate_values))
        losses = [math.inf if math.isnan(loss) else loss for loss in reported]
        before, lately = losses[: -self.patience - 1], losses[-self.patience - 1 :]
        if not before or min(before) + self.min_delta >= min(lately):
            return False
        return self.wrapped_pruner is None or self.wrapped_pruner.prune(view, trial)

    def __repr__(self) -> str:
        return f"PatientPruner({self.wrapped_pruner!r}, patience={self.patience}, min_delta={self.min_delta})"
