"""What ends trials that are not worth finishing."""

from __future__ import annotations

from abc import ABC, abstractmethod

from dspex.trials import FrozenTrial, StudyView

__all__ = ["Pruner"]


class Pruner(ABC):
    """Says, after a trial has reported or recorded something, whether going on with it is worth what it costs.

    A pruner sees a `StudyView` and nothing else of the study. Its answer depends only on what has been reported and
    recorded, not on how often it was asked. It is asked of trials that have only rows in the ledger, too. Every method
    may be called from several threads at once.
    """

    @abstractmethod
    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        """Whether ``trial``, which is running, should end now."""
