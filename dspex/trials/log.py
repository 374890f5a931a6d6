"""All trials of a study, and which of them changed since one last looked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import overload

from dspex.errors import StorageError
from dspex.forks import held_at_forks
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
        self._history: list[int] = []  # the trial that each change was of
        self._lock = held_at_forks(threading.Lock(), order=4)

    def put(self, *trials: FrozenTrial) -> None:
        """Adds trials, or replaces the snapshots with the same numbers.

        A reader of a shared storage sees trials in the order in which they changed, so within one call the
        numbers may come in any order; after it there is no gap.
        """
        with self._lock:
            known = len(self._trials)
            new = sorted((trial for trial in trials if trial.number >= known), key=lambda trial: trial.number)
            for index, trial in enumerate(new, start=known):
                if trial.number != index:
                    raise StorageError(f"trial {index} is missing from the study, though trial {trial.number} is there")
            # The history first: Ctrl-C may come between any two lines, and no change may be there untold.
            self._history.extend([trial.number for trial in trials])
            self._trials.extend(new)
            for trial in trials:
                self._trials[trial.number] = trial

    def changes(self, cursor: int) -> tuple[list[FrozenTrial], int]:
        """The trials that changed after ``cursor`` (0: all), oldest change first, and the next cursor."""
        with self._lock:
            newest_first = dict.fromkeys(reversed(self._history[cursor:]))
            known = len(self._trials)  # Ctrl-C may have kept out one that the history names
            return [self._trials[number] for number in reversed(newest_first) if number < known], len(self._history)

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
