"""One ledger of calls: who asked which model, for which example of which trial, and what it took."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.data.usage import Usage
from dspex.errors import DefinitionError
from dspex.execution.settings import context, current

if TYPE_CHECKING:
    from dspex.execution.run import Run

__all__ = ["Origin", "UsageLedger", "track_usage"]


class Origin(NamedTuple):
    """Where calls came from: ``None`` where there is no trial or example, ``path`` ``""`` for the root or no module."""

    path: str
    model: str
    trial: int | None
    example: str | None


class UsageLedger:
    """What was asked of models within a `track_usage` block, while it goes on and after.

    Every attempt counts, at the moment it ends: answers, answers from a cache (with what they would have cost, apart
    from what was billed), failed attempts and those that were cancelled. Safe for threads and tasks.

    >>> from dspex.lm import MockLM
    >>> with track_usage() as usage:
    ...     _ = MockLM(["Paris"], failures=[ConnectionError])("Capital of France?")
    >>> usage.total
    <Usage: 1 call (1 failed), 7 tokens, $0>
    >>> usage.by("model")
    {'mock/mock': <Usage: 1 call (1 failed), 7 tokens, $0>}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[Origin, Usage] = {}

    def add(self, usage: Usage, *, model: str, path: str = "", run: Run | None = None) -> None:
        """Count ``usage`` of ``model`` in, asked by the module at ``path`` within ``run``."""
        trial = example = None
        if run is not None:
            trial = run.trial
            if run.example is not None:
                example = run.example.id
        origin = Origin(path, model, trial, example)
        with self._lock:
            row = self._rows.get(origin)
            if row is None:
                self._rows[origin] = usage.copy()
            else:
                row.add(usage)

    @property
    def total(self) -> Usage:
        """All of it."""
        with self._lock:
            return sum(self._rows.values(), Usage())

    @property
    def rows(self) -> dict[Origin, Usage]:
        """By origin, in the order of their first calls."""
        with self._lock:
            return {origin: usage.copy() for origin, usage in self._rows.items()}

    def by(self, *names: str) -> dict[Any, Usage]:
        """Totals by ``"path"``, ``"model"``, ``"trial"`` or ``"example"``; by several, the keys are tuples.

        Raises `DefinitionError` for another name, and for none.
        """
        for name in names or ("",):
            if name not in Origin._fields:
                raise DefinitionError(
                    f"usage is told apart by {', '.join(Origin._fields)}, not by {name!r}; "
                    'write for example usage.by("path", "model")'
                )
        totals: dict[Any, Usage] = {}
        for origin, usage in self.rows.items():
            values = tuple(getattr(origin, name) for name in names)
            key = values if len(names) > 1 else values[0]
            if key in totals:
                totals[key].add(usage)
            else:
                totals[key] = usage
        return totals

    def to_json(self) -> list[dict[str, Any]]:
        """A plain dict for each origin, with its usage."""
        return [{**origin._asdict(), "usage": usage.to_json()} for origin, usage in self.rows.items()]

    def __repr__(self) -> str:
        lines = [f"<UsageLedger: {self.total}>"]
        if len(paths := self.by("path", "model")) > 1:
            lines += [f"  {path or '(root)'} · {model}: {usage}" for (path, model), usage in paths.items()]
        return "\n".join(lines)


@contextmanager
def track_usage() -> Iterator[UsageLedger]:
    """Keep a ledger of all model calls of this thread or task, and of what dspex starts for it, in the block.

    Blocks may be nested: each ledger has all of its own block. Runs that had started before are not in it.

    >>> with track_usage() as usage:
    ...     pass
    >>> usage.total
    <Usage: 0 calls, 0 tokens, $0>
    """
    ledger = UsageLedger()
    with context(ledgers=(*current().ledgers, ledger)):
        yield ledger
