"""What the trials of a study have tried already: whole configurations, and candidates of pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.samplers.base import candidates_of
from dspex.trials import FrozenTrial, StudyView

__all__ = ["Configurations", "TriedCandidates", "configuration"]


class Configurations:
    """The configurations of the trials, but for those that the world made fail; read as they change, so not by several
    threads at once."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._running: dict[int, str] = {}
        self._cursor = 0

    def has(self, view: StudyView, params: Mapping[str, Any]) -> bool:
        """Whether a trial has these values, and what became of it is due to them."""
        changed, self._cursor = view.changes(self._cursor)
        for trial in changed:
            self._running.pop(trial.number, None)
            if not trial.params or trial.failed_externally:
                continue
            if trial.state.is_finished:
                self._known.add(configuration(trial.params))
            else:  # of one that declares its variables on the way these may be the first of them only
                self._running[trial.number] = configuration(view.params(trial))
        text = configuration(params)
        return text in self._known or text in self._running.values()


class TriedCandidates:
    """Which candidates of the open-ended variables a trial has used that the world did not make fail."""

    def __init__(self) -> None:
        self._tried: dict[str, set[Any]] = {}

    def take(self, trial: FrozenTrial) -> None:
        """Notes what a trial uses."""
        if trial.failed_externally:
            return
        for path, domain in trial.distributions.items():
            if domain.open_ended:
                self._tried.setdefault(path, set()).add(trial.params[path])

    def untried(self, view: StudyView, path: str) -> list[str]:
        """The ids of the candidates that no trial has used, oldest first.

        Raises:
            StudyError: when the variable has no candidates at all.
        """
        tried = self._tried.get(path, set())
        return [item for item in candidates_of(view, path) if item not in tried]


def configuration(params: Mapping[str, Any]) -> str:
    """A text that is the same for the same values."""
    return repr(sorted(params.items(), key=lambda item: item[0]))
