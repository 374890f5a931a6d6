"""All trials of a study, and which of them changed since one last looked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import overload

from dspex.errors import StorageError
from dspex.trials.frozen import FrozenTrial

__all__ = ["TrialLog"]


class TrialLog(Sequence[FrozenTrial]):
    """The trials of one study by number, with a cursor for readers that only want the changes.

    Thread-safe. A reader that keeps its cursor reads every change once, in the order of the last change of
    each trial, so what it costs depends on what happened and not on how many trials there are.

    >>> from dspex.trials import TrialState
    >>> log = TrialLog()
    >>> log.put(FrozenTrial(number=0, state=TrialState.RUNNING))
    >>> changed, cursor = log.changes(0)
    >>> [trial.number for trial in changed], log.changes(cursor)[0]
    ([0], [])
    """

    def __init__(self) -> None:
        self._trials: list[FrozenTrial] = []
        self._changed: dict[int, int] = {}  # number -> revision, in the order of the revisions
        self._revision = 0
        self._lock = threading.Lock()

    def put(self, *trials: FrozenTrial) -> None:
        """Adds trials, or replaces the snapshots with the same numbers.

        A reader of a shared storage sees trials in the order in which they changed, so within one call the
        numbers may come in any order; after it there is no gap.
        """
        with self._lock:
            known = len(self._trials)
            new = [trial for trial in trials if trial.number >= known]
            if new:
                self._grow(new)
            for trial in trials:
                self._trials[trial.number] = trial
                self._revision += 1
                self._changed.pop(trial.number, None)
                self._changed[trial.number] = self._revision

    def _grow(self, new: list[FrozenTrial]) -> None:
        for index, trial in enumerate(sorted(new, key=lambda trial: trial.number), start=len(self._trials)):
            if trial.number != index:
                raise StorageError(f"trial {index} is missing from the study, though trial {trial.number} is there")
            self._trials.append(trial)

    def changes(self, cursor: int) -> tuple[list[FrozenTrial], int]:
        """The trials that changed after ``cursor`` (0: all), oldest change first, and the next cursor."""
        with self._lock:
            found = []
            for number in reversed(self._changed):
                if self._changed[number] <= cursor:
                    break
                found.append(self._trials[number])
            found.reverse()
            return found, self._revision

    def snapshot(self) -> list[FrozenTrial]:
        """All trials, by number."""
        with self._lock:
            return list(self._trials)

    def __len__(self) -> int:
        return len(self._trials)

    def __iter__(self) -> Iterator[FrozenTrial]:
        return iter(self.snapshot())

    @overload
    def __getitem__(self, index: int) -> FrozenTrial: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrozenTrial]: ...

    def __getitem__(self, index: int | slice) -> FrozenTrial | list[FrozenTrial]:
        return self._trials[index]
