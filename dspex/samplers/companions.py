"""Which variables of a define-by-run objective come together.

A trial that declares its variables while it runs has no tree of conditions. But two variables that every
trial so far had both or neither of are of the same branch, as far as anyone can tell.
"""

from __future__ import annotations

import threading
from typing import Any

from dspex.trials import FrozenTrial, StudyView, TrialState
from dspex.variables import Domain

__all__ = ["Companions", "StudyCompanions"]


class Companions:
    """The variables seen so far, divided into groups that always came together."""

    def __init__(self) -> None:
        self._group_of: dict[str, int] = {}
        self._groups: dict[int, dict[str, None]] = {}
        self._domains: dict[str, Domain[Any]] = {}
        self._next = 0

    def add(self, trial: FrozenTrial) -> None:
        """Divides the groups by what this trial had and did not have."""
        present = trial.distributions
        self._domains.update(present)
        unseen = [path for path in present if path not in self._group_of]
        for group in {self._group_of[path] for path in present if path in self._group_of}:
            members = self._groups[group]
            inside = [path for path in members if path in present]
            if len(inside) < len(members):
                for path in inside:
                    del members[path]
                self._new_group(inside)
        if unseen:
            self._new_group(unseen)

    def of(self, path: str) -> dict[str, Domain[Any]]:
        """The group of a variable with the domains that were last seen; empty when it is not known."""
        group = self._group_of.get(path)
        if group is None:
            return {}
        return {member: self._domains[member] for member in self._groups[group]}

    def _new_group(self, paths: list[str]) -> None:
        self._groups[self._next] = dict.fromkeys(paths)
        for path in paths:
            self._group_of[path] = self._next
        self._next += 1


class StudyCompanions:
    """The companions in the finished trials of one study, read as they finish. Thread-safe."""

    def __init__(self) -> None:
        self._companions = Companions()
        self._finished: set[int] = set()
        self._cursor = 0
        self._lock = threading.Lock()

    def branch(self, view: StudyView, path: str, domain: Domain[Any]) -> dict[str, Domain[Any]]:
        """The variables that came with ``path`` whenever it did, itself included."""
        with self._lock:
            changed, self._cursor = view.changes(self._cursor)
            for trial in changed:
                useful = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
                if useful and trial.number not in self._finished:
                    self._finished.add(trial.number)
                    self._companions.add(trial)
            return {**self._companions.of(path), path: domain}
