"""Who works side by side, and whether anybody still does: what a model that answers many at once has to know."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Crew", "crew_here", "waiting"]


class Crew:
    """``items`` things to do, ``places`` of them at once; whoever does one says when it waits for an answer.

    While one of them works, it may still ask something. When all wait, nothing more can come until one is answered.
    A request belongs to whatever started it, in this thread or task, and in those that dspex's executors make of it.

    >>> crew = Crew(places=1, items=2)
    >>> with crew.member():
    ...     before = crew.working
    ...     with waiting():
    ...         before, crew.working
    (1, 0)
    >>> crew.working                                      # the second one has not begun
    1
    """

    __slots__ = ("_items", "_lock", "_places", "_waiting")

    def __init__(self, places: int, items: int) -> None:
        self._places = places
        self._items = items
        self._waiting = 0
        self._lock = threading.Lock()

    @property
    def working(self) -> int:
        """How many run, or are about to, and do not wait."""
        with self._lock:
            return min(self._places, self._items) - self._waiting

    @contextmanager
    def member(self) -> Iterator[None]:
        """Do one of the things in this block."""
        token = _member.set(_Member(self))
        try:
            yield
        finally:
            _member.reset(token)
            with self._lock:
                self._items -= 1


class _Member:
    """One thing that is being done; it may wait in several threads or tasks of its own."""

    __slots__ = ("crew", "waits")

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.waits = 0

    def wait(self, change: int) -> None:
        crew = self.crew
        with crew._lock:
            before = self.waits > 0
            self.waits += change
            crew._waiting += (self.waits > 0) - before


_member: ContextVar[_Member | None] = ContextVar("dspex_crew_member", default=None)


def crew_here() -> Crew | None:
    """The crew that this thread or task works in."""
    member = _member.get()
    return None if member is None else member.crew


@contextmanager
def waiting() -> Iterator[None]:
    """What works here waits for an answer, as long as the block lasts."""
    member = _member.get()
    if member is None:
        yield
        return
    member.wait(1)
    try:
        yield
    finally:
        member.wait(-1)
