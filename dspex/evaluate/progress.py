"""How far an evaluation is: a bar on a terminal, with the running score and cost."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dspex.data import Evaluation, Usage

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Bar", "Progress", "Tally", "progress_for"]


class Tally:
    """The running totals of an evaluation, kept in constant time per row.

    >>> tally = Tally()
    >>> tally.add(Evaluation(example_id="a", status="ok", scores={"score": 0.5}))
    >>> tally.add(Evaluation(example_id="b", status="failed", error="LMTimeoutError: ..."))
    >>> str(tally)
    'score 0.500, 1 failed, $0'
    """

    __slots__ = ("failed", "scored", "total", "usage")

    def __init__(self) -> None:
        self.scored = 0
        self.failed = 0
        self.total = 0.0
        self.usage = Usage()

    def add(self, row: Evaluation) -> None:
        """Count a finished row in."""
        self.usage.add(row.usage)
        if row.ok:
            self.scored += 1
            self.total += row.scores["score"]
        else:
            self.failed += 1

    def __str__(self) -> str:
        parts = [f"score {self.total / self.scored:.3f}" if self.scored else "no score yet"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        parts.append(_cost(self.usage))
        return ", ".join(parts)


class Progress:
    """Shows nothing; the interface of `Bar`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def advance(self, tally: Tally) -> None:
        """One more row is finished, and these are the totals."""


class Bar(Progress):
    """A rich progress bar on standard error: done of total, running score and cost, time gone and to go."""

    def __init__(self, total: int, *, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress as RichProgress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = RichProgress(
            TextColumn("evaluate"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[tally]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            refresh_per_second=8,
        )
        self._task = self._progress.add_task("evaluate", total=total, tally=Tally())

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def advance(self, tally: Tally) -> None:
        # The tally is formatted only when the bar is drawn, a few times a second.
        self._progress.update(self._task, advance=1, tally=tally)


def progress_for(wanted: bool | None, total: int) -> Progress:
    """A bar when ``wanted``, none when not; ``None`` wants one where standard error is a terminal."""
    if wanted is None:
        wanted = sys.stderr is not None and sys.stderr.isatty()
    return Bar(total) if wanted else Progress()


def _cost(usage: Usage) -> str:
    cost = usage.cost
    if cost is not None:
        return f"${cost:.4g}"
    return f"at least ${usage.known_cost:.4g}" if usage.known_cost else "cost unknown"
