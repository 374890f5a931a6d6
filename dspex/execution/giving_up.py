"""Waiting that ends with its run: what blocks is left to itself, what awaits is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from dspex.execution.kept_threads import call_on_thread
from dspex.execution.run import Run

__all__ = ["end_on_cancel", "give_up_on_cancel"]

R = TypeVar("R")


def give_up_on_cancel(run: Run, fn: Callable[..., R], *args: Any) -> R:
    """``fn(*args)``, in the caller's context on another thread; what it comes to after a `Run.cancel` is dropped.

    A thread that waits inside somebody else's code cannot be woken. So the call is made on one of its own, while the
    caller waits for its end or for the run's, whichever comes first. Raises what ``fn`` does, and `DeadlineExceeded`
    when the run is cancelled first.

    >>> give_up_on_cancel(Run(), pow, 2, 10)
    1024
    """
    outcome: SimpleQueue[tuple[Any, BaseException | None] | None] = SimpleQueue()

    def tell(value: Any, error: BaseException | None) -> None:
        outcome.put((value, error))

    def wake() -> None:
        outcome.put(None)

    call_on_thread(tell, fn, *args)
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


async def end_on_cancel(run: Run | None, main: Awaitable[R]) -> R:
    """What ``main`` comes to; it is cancelled when ``run`` is, from any thread. Raises `DeadlineExceeded` then."""
    if run is None:
        return await main
    import asyncio  # slow to load

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    waiting, woken, before = True, False, task.cancelling()

    def wake() -> None:
        nonlocal woken
        if waiting:
            woken = True
            task.cancel()

    def wake_from_anywhere() -> None:
        with suppress(RuntimeError):  # the loop has ended, and all that waited with it
            loop.call_soon_threadsafe(wake)

    run.on_cancel(wake_from_anywhere)
    try:
        return await main
    except asyncio.CancelledError:
        if woken and task.cancelling() == before + 1:  # and nobody else wants it cancelled
            run.check()
        raise
    finally:
        waiting = False
        run.off_cancel(wake_from_anywhere)
        if woken:
            task.uncancel()
