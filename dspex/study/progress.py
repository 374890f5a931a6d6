"""The progress bar of `Study.optimize`."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from dspex.trials import FrozenTrial, StudyDirection, TrialState

__all__ = ["Progress"]


class Progress:
    """A rich progress bar on standard error: trials run of all, the best value of these, time gone and to go.

    Without ``n_trials`` it shows how much of ``timeout`` (seconds) is over, and without either just the count.
    """

    def __init__(self, n_trials: int | None, timeout: float | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress as RichProgress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._by_time = n_trials is None and timeout is not None
        self._bar = RichProgress(
            TextColumn("{task.fields[trials]} trials"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=timeout if self._by_time else n_trials, trials=0)
        self._trials = 0
        self._best = math.inf  # as a loss
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def advance(self, trial: FrozenTrial, directions: Sequence[StudyDirection]) -> None:
        """``trial`` has finished."""
        with self._lock:
            self._trials += 1
            if len(directions) == 1 and trial.state is TrialState.COMPLETE and trial.feasible:
                self._best = min(self._best, directions[0].sign * trial.values[0])  # type: ignore[index]  # it is complete
            shown = "" if math.isinf(self._best) else f"best {directions[0].sign * self._best:.4g}"
            done = self._bar.tasks[0].elapsed if self._by_time else self._trials
            self._bar.update(self._task, completed=done, trials=self._trials, description=shown)
