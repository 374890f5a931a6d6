"""Coroutines of blocking code: one event loop a process, on a thread of its own.

What is awaited there can be cancelled at any moment, which a blocking call cannot: so a deadline holds, however a
provider trickles, and blocking callers share one pool of connections.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dspex.execution.active import active_run

if TYPE_CHECKING:
    from dspex.execution.run import Run

__all__ = ["await_in_background", "iterate_in_background", "start_in_background"]

R = TypeVar("R")

_GRACE = 1.0
"""Seconds that a caller waits for what it cancelled to end."""

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def await_in_background(main: Coroutine[Any, Any, R], timeout: float | None = None) -> R:
    """The result of ``main``, awaited on the background loop in the caller's context; blocks.

    After ``timeout`` seconds, when the caller is interrupted, and when the run that is active here is cancelled, so is
    it. Raises `TimeoutError`, or for the run `DeadlineExceeded`.

    >>> async def answer():
    ...     return 42
    >>> await_in_background(answer(), timeout=10)
    42
    """
    return _awaited(main, timeout, active_run())


def _awaited(main: Coroutine[Any, Any, R], timeout: float | None = None, run: Run | None = None) -> R:
    result: Future[R] = Future()
    finished = threading.Event()
    tasks: list[asyncio.Task[R]] = []
    loop = _running()

    def start() -> None:
        task = loop.create_task(main)
        tasks.append(task)
        task.add_done_callback(finish)

    def finish(task: asyncio.Task[R]) -> None:
        finished.set()
        if not result.set_running_or_notify_cancel():
            if not task.cancelled():
                task.exception()  # looked at, so that it is not reported as lost
        elif task.cancelled():
            result.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            result.set_exception(error)
        else:
            result.set_result(task.result())

    loop.call_soon_threadsafe(start, context=contextvars.copy_context())
    if run is not None:
        run.on_cancel(result.cancel)
    try:
        return result.result(timeout)
    except BaseException:
        if result.cancel():  # or it was, with its run
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
            finished.wait(_GRACE)
            if run is not None:
                run.check()
        raise
    finally:
        if run is not None:
            run.off_cancel(result.cancel)


def iterate_in_background(stream: AsyncGenerator[R, None], timeout: float | None = None) -> Generator[R, None, None]:
    """The items of an async generator, which runs on the background loop; closing it closes that.

    After ``timeout`` seconds of waiting for items it is closed. Raises `TimeoutError`.
    """
    left = timeout
    try:
        while True:
            began = time.monotonic()
            try:
                item = await_in_background(_next(stream), left)
            except StopAsyncIteration:
                return
            if left is not None:
                left = max(0.0, left - (time.monotonic() - began))
            yield item
    finally:
        # It is still running, if it took longer to cancel than it was waited for; and it may take long to close.
        with suppress(RuntimeError, TimeoutError):
            _awaited(stream.aclose(), _GRACE)  # also when the run is cancelled


def start_in_background(main: Coroutine[Any, Any, None]) -> None:
    """Let ``main`` run on the background loop, in a context of its own; nobody waits for it."""
    loop = _running()

    def start() -> None:
        task = loop.create_task(main)
        _started.add(task)
        task.add_done_callback(_started.discard)

    loop.call_soon_threadsafe(start, context=contextvars.Context())


_started: set[asyncio.Task[None]] = set()
"""A loop keeps no task alive."""


async def _next(stream: AsyncGenerator[R, None]) -> R:
    return await anext(stream)


def _running() -> asyncio.AbstractEventLoop:
    global _loop
    loop = _loop
    if loop is None:
        with _lock:
            if _loop is None:
                _loop = asyncio.new_event_loop()
                threading.Thread(target=_loop.run_forever, name="dspex-background", daemon=True).start()
            loop = _loop
    return loop


def _after_fork() -> None:
    # The parent's thread is not here, so nobody runs its loop.
    global _loop, _lock
    _lock = threading.Lock()
    if _loop is not None:
        _inherited.append(_loop)  # not closed: its selector is the parent's too
        _loop = None


_inherited: list[asyncio.AbstractEventLoop] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
