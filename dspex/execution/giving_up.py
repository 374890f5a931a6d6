"""Blocking calls that are given up when their run is cancelled.

A thread that waits inside somebody else's code cannot be woken. So such a call is made on a thread of its own, while
the caller waits for its end or for the run's, whichever comes first. Threads are kept and used again; one whose call
was given up comes back when that call returns.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from dspex.execution.run import Run

__all__ = ["give_up_on_cancel"]

R = TypeVar("R")

_IDLE_SECONDS = 10.0


def give_up_on_cancel(run: Run, fn: Callable[..., R], *args: Any) -> R:
    """``fn(*args)``, in the caller's context on another thread; what it comes to after a `Run.cancel` is dropped.

    Raises what ``fn`` does, and `DeadlineExceeded` when the run is cancelled first.

    >>> give_up_on_cancel(Run(), pow, 2, 10)
    1024
    """
    outcome: SimpleQueue[tuple[Any, BaseException | None] | None] = SimpleQueue()
    try:
        worker = _idle.pop() if _idle else _Worker()
    except IndexError:  # another thread was faster
        worker = _Worker()

    def wake() -> None:
        outcome.put(None)

    worker.jobs.put((contextvars.copy_context(), fn, args, outcome))
    run.on_cancel(wake)
    try:
        found = outcome.get()
    finally:
        run.off_cancel(wake)
    if found is None:
        run.check()
        raise AssertionError("a run that woke its calls is cancelled")
    value, error = found
    if error is not None:
        try:
            raise error
        finally:
            del error, found  # its traceback would hold this frame, and this frame it
    return value  # type: ignore[no-any-return]  # it is what fn returned


class _Worker:
    __slots__ = ("jobs",)

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._work, name="dspex-call", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                try:
                    _idle.remove(self)
                except ValueError:
                    continue  # it was taken in this moment
                return
            context, fn, args, outcome = job
            value: Any = None
            error: BaseException | None = None
            try:
                value = context.run(fn, *args)
            except BaseException as raised:
                error = raised
            # Idle before the outcome is known, so that the caller's next call finds this worker.
            _idle.append(self)
            outcome.put((value, error))
            del job, context, fn, args, outcome, value, error


_idle: deque[_Worker] = deque()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)
