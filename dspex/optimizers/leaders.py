"""Which configuration is ahead, at every moment of a search."""

from __future__ import annotations

from collections.abc import Mapping

from dspex.optimizers.scores import Scores, is_ahead
from dspex.variables import VariableState

__all__ = ["Leaders"]


class Leaders:
    """The best of the configurations on the whole valset; until there is one, of those that have got furthest.

    ``start`` is the program's own state. What the search itself prefers goes before both.
    """

    def __init__(self, start: VariableState, objectives: Mapping[str, str]) -> None:
        self._start = start
        self._objectives = objectives
        self._furthest: Scores | None = None
        self.best: Scores | None = None
        self.preferred: VariableState | None = None

    @property
    def state(self) -> VariableState:
        """The one that is ahead; at first the start."""
        if self.preferred is not None:
            return self.preferred
        ahead = self.best or self._furthest
        return self._start if ahead is None else ahead.state

    def compare(self, scores: Scores) -> None:
        """Keep the best of the configurations that have been run on the most examples, until one has been on all."""
        if self.best is not None:
            return
        old = self._furthest
        count = sum(row.ok for row in scores.rows)
        most = 0 if old is None else sum(row.ok for row in old.rows)
        if count > most or (old is not None and count == most and is_ahead(scores, old, self._objectives)):
            self._furthest = scores

    def consider(self, scores: Scores) -> bool:
        """Whether what has been scored on the whole valset is the best by that."""
        better = self.best is None or is_ahead(scores, self.best, self._objectives)
        if better:
            self.best = scores
        return better
