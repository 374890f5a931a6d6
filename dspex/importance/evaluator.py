"""What an evaluator of importance is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from dspex.importance.targets import Target
from dspex.study import Study

__all__ = ["ImportanceEvaluator"]


class ImportanceEvaluator(ABC):
    """A way to say how much each variable matters; for one's own, implement `evaluate`."""

    @abstractmethod
    def evaluate(self, study: Study, params: Sequence[str] | None = None, *, target: Target = None) -> dict[str, float]:
        """Path → importance (0 or more, not normalized) for ``params``, by default all variables, largest first.

        Raises:
            StudyError: when there are too few trials, no target is chosen among several objectives, or ``params``
                names what no trial has.
        """
