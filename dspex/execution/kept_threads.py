"""Threads for single calls, kept for the next ones: starting one costs more than most calls."""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["call_on_thread"]

_IDLE_SECONDS = 10.0


def call_on_thread(tell: Callable[[Any, BaseException | None], None], fn: Callable[..., Any], *args: Any) -> None:
    """Call ``fn(*args)``, in the caller's context, on another thread, a daemon that ``tell``s the value and the error.

    There is a thread for each call, however many wait. ``tell`` must not raise.
    """
    try:
        worker = _idle.pop() if _idle else _Worker()
    except IndexError:  # another thread was faster
        worker = _Worker()
    worker.jobs.put((contextvars.copy_context(), tell, fn, args))


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
            context, tell, fn, args = job
            value: Any = None
            error: BaseException | None = None
            try:
                value = context.run(fn, *args)
            except BaseException as raised:
                error = raised
            del job, context, fn, args  # what nobody else holds ends here
            # Idle before the outcome is known, so that the caller's next call finds this worker.
            _idle.append(self)
            tell(value, error)
            del tell, value, error


_idle: deque[_Worker] = deque()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)
