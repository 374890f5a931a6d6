"""Watching a search: what it tells whoever looks on."""

from __future__ import annotations

import math
import time
from typing import Any

from dspex.data import Evaluation, Usage

__all__ = ["ConsoleWatcher", "Watcher"]


class Watcher:
    """Hears what a search does; every method does nothing unless it is overridden.

    Called from the search's worker threads and tasks; what a method raises ends the search, so raise nothing.
    """

    def phase(self, name: str) -> None:
        """A new phase begins: ``"proposing demos"``, ``"bracket 2: 9 candidates"``."""

    def evaluated(self, row: Evaluation) -> None:
        """One example was run and is in the ledger."""

    def improved(self, score: float, changes: Any) -> None:
        """There is a new best configuration; ``changes`` is its difference from the start."""

    def finished(self, trial: int) -> None:
        """A trial is closed."""

    def close(self) -> None:
        """The search is over."""


class ConsoleWatcher(Watcher):
    """Tells it on a terminal: a live line with counts, score and bill, and a line for each event.

    Where there is no terminal, only the events are written.
    """

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.status import Status

        self.console = console or Console(stderr=True, highlight=False)
        self.usage = Usage()
        self.rows = 0
        self.trials = 0
        self.best = math.nan
        self.began = time.perf_counter()
        self.name = "starting"
        self.shown = 0.0
        self.status = Status("starting", console=self.console) if self.console.is_terminal else None
        if self.status is not None:
            self.status.start()

    def phase(self, name: str) -> None:
        """Write the phase down."""
        self.name = name
        self._write(f"{name}", "bold")

    def evaluated(self, row: Evaluation) -> None:
        """Count, and refresh the live line ten times a second at most."""
        self.rows += 1
        self.usage.add(row.usage)
        if self.status is not None and time.perf_counter() - self.shown > 0.1:
            self.shown = time.perf_counter()
            best = "" if math.isnan(self.best) else f" · best {self.best:.3f}"
            self.status.update(f"{self.name} · {self.trials} trials · {self.rows} evaluations{best} · {self.usage}")

    def improved(self, score: float, changes: Any) -> None:
        """Write the new best down."""
        self.best = score
        paths = ", ".join(getattr(changes, "changed", {})) or "the program's own values"
        self._write(f"  best so far {score:.3f}: {paths}", "green")

    def finished(self, trial: int) -> None:
        """Count."""
        self.trials += 1

    def close(self) -> None:
        """Take the live line away."""
        if self.status is not None:
            self.status.stop()

    def _write(self, text: str, style: str) -> None:
        from rich.text import Text

        seconds = time.perf_counter() - self.began
        self.console.print(Text(f"{seconds:6.1f} s  ", style="dim") + Text(text, style=style))
