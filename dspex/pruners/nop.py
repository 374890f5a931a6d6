"""No pruning."""

from __future__ import annotations

from dspex.pruners.base import Pruner
from dspex.trials import FrozenTrial, StudyView

__all__ = ["NopPruner"]


class NopPruner(Pruner):
    """Never ends a trial.

    >>> from dspex.study import create_study
    >>> trial = create_study(pruner=NopPruner()).ask()
    >>> trial.report(1e9, step=0)
    >>> trial.should_prune()
    False
    """

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        return False

    def __repr__(self) -> str:
        return "NopPruner()"
