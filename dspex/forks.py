"""What must be at rest when a process forks: a child inherits what the parent's other threads were in the middle of."""

from __future__ import annotations

import logging  # noqa: F401 - so that its own lock is taken after these: whoever holds one of them may log
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

__all__ = ["Traffic", "held_at_forks"]


class _Lock(Protocol):
    def acquire(self) -> object: ...

    def release(self) -> object: ...


LockT = TypeVar("LockT", bound=_Lock)

_adding = threading.RLock()
_known: dict[int, weakref.WeakSet[_Lock]] = {}
_held: list[_Lock] = []


def held_at_forks(lock: LockT, *, order: int) -> LockT:
    """Has ``lock`` held while this process forks, for as long as it lives, and gives it back.

    So the child finds it free, and whole what it guards. A lock that is taken while another is held has a greater
    ``order``: they are held in this order, so that a fork and a thread never wait for each other. In use are, from
    the outermost to the innermost: a study's choice (0) and its image of the storage (1), a storage (2, 3), a
    transaction, a log, a ledger and a pool (4), a database (5), a record of batch jobs (6), a cache's file (7).

    >>> lock = held_at_forks(threading.Lock(), order=0)
    """
    with _adding:
        _known.setdefault(order, weakref.WeakSet()).add(lock)
    return lock


class Traffic:
    """Lets any number of threads use a thing at once, and a thread that forks wait until none does.

    >>> traffic = held_at_forks(Traffic(longest=60.0), order=0)
    >>> with traffic.one():
    ...     pass
    """

    def __init__(self, *, longest: float) -> None:
        self._longest = longest
        """Seconds that a use may last; one that Ctrl-C cut short could have left its mark."""
        self._lock = threading.RLock()  # what is entered: Ctrl-C while a condition is would leave it taken for ever
        self._changed = threading.Condition(self._lock)
        self._using: set[int] = set()
        self._forking = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """While this thread uses it."""
        me = threading.get_ident()
        try:
            with self._lock:
                while self._forking not in (0, me):
                    self._changed.wait()
                self._using.add(me)
            yield
        finally:
            with self._lock:
                self._using.discard(me)
                self._changed.notify_all()

    def acquire(self) -> None:
        """Lets no other thread begin to use it, and waits until none does."""
        me = threading.get_ident()
        self._lock.acquire()
        self._forking = me
        try:
            self._changed.wait_for(lambda: not self._using - {me}, timeout=self._longest)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Lets it be used again."""
        self._forking = 0
        self._using.clear()
        self._changed.notify_all()
        self._lock.release()


def _before_fork() -> None:
    _adding.acquire()
    for order in sorted(_known):
        for lock in list(_known[order]):
            lock.acquire()
            _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().release()
    _adding.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
