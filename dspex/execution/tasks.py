"""Many items at once on asyncio: bounded, with a deadline for each; the ways between the two worlds; and what one
task puts out while it runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from dspex.errors import DeadlineExceeded
from dspex.execution.kept_threads import call_on_thread
from dspex.execution.outcome import LONGEST_GRACE, Outcome, grace

__all__ = ["Tasks", "aproduced", "block_on", "thread_call"]

T = TypeVar("T")
R = TypeVar("R")

_POLL = 0.05


class _Job(Generic[T, R]):
    __slots__ = ("expired", "index", "item", "started", "task", "timer")

    task: asyncio.Task[R]

    def __init__(self, index: int, item: T) -> None:
        self.index = index
        self.item = item
        self.started = time.monotonic()
        self.timer: asyncio.TimerHandle | None = None
        self.expired: DeadlineExceeded | None = None


class Tasks(Generic[T, R]):
    """One batch on asyncio; `dspex.execution.stream_async` says what the arguments are.

    A task for each item in flight; the next item starts in the callback of one that is done.
    """

    def __init__(
        self,
        afn: Callable[[T], Coroutine[Any, Any, R]],
        items: Iterable[T],
        *,
        concurrency: int,
        deadline: float | None = None,
        cancel: Callable[[T, str], None] | None = None,
        on_result: Callable[[Outcome[T, R]], None] | None = None,
        cancel_event: threading.Event | None = None,
    ) -> None:
        self._afn = afn
        self._items = iter(items)
        self._concurrency = concurrency
        self._deadline = deadline
        self._grace = grace(deadline)
        self._cancel = cancel
        self._on_result = on_result
        self._cancel_event = cancel_event
        self._active: dict[asyncio.Task[R], _Job[T, R]] = {}
        self._ready: deque[Outcome[T, R]] = deque()
        self._crash: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._next = 0
        self._drained = False

    async def outcomes(self) -> AsyncGenerator[Outcome[T, R], None]:
        """The outcomes, as they come."""
        self._loop = loop = asyncio.get_running_loop()
        try:
            self._fill()
            if self._cancel_event is not None:
                self._watch(self._cancel_event)
            while self._active or self._ready or self._crash is not None:
                while self._ready:
                    yield self._ready.popleft()
                if self._crash is not None:
                    raise self._crash
                if self._active:
                    self._waiter = loop.create_future()
                    await self._waiter
        finally:
            left = self._stop("the batch it belonged to was ended")
            if left:
                await asyncio.wait(left, timeout=self._grace)

    def drain(self) -> None:
        """Start no further item; those in flight go on."""
        self._drained = True

    def _fill(self) -> None:
        try:
            while len(self._active) < self._concurrency and not self._drained and self._crash is None:
                try:
                    item = next(self._items)
                except StopIteration:
                    self._drained = True
                    return
                job: _Job[T, R] = _Job(self._next, item)
                job.task = task = self._loop.create_task(self._afn(item))
                self._next += 1
                self._active[task] = job
                if self._deadline is not None:
                    job.timer = self._loop.call_later(self._deadline, self._expire, job)
                task.add_done_callback(self._done)
        except BaseException as error:
            self._end(error)

    def _done(self, task: asyncio.Task[R]) -> None:
        job = self._active.pop(task, None)
        # Asked for in any case: an exception that nobody looks at is reported as lost.
        error = asyncio.CancelledError("it cancelled itself") if task.cancelled() else task.exception()
        if job is None:
            return
        if job.timer is not None:
            job.timer.cancel()
        if job.expired is not None:
            error = error if isinstance(error, DeadlineExceeded) else job.expired
        self._emit(job, None if error is not None else task.result(), error)

    def _emit(self, job: _Job[T, R], value: R | None, error: BaseException | None) -> None:
        seconds = time.monotonic() - job.started
        outcome = Outcome(job.index, job.item, value=value, error=error, seconds=seconds)
        if self._on_result is not None:
            try:
                self._on_result(outcome)
            except BaseException as raised:
                self._end(raised)
                return
        self._ready.append(outcome)
        self._fill()
        self._wake()

    def _expire(self, job: _Job[T, R]) -> None:
        job.expired = DeadlineExceeded(f"it took longer than its deadline of {self._deadline:g} s")
        if self._cancel is not None:
            self._cancel(job.item, str(job.expired))
        job.task.cancel()
        job.timer = self._loop.call_later(self._grace, self._abandon, job)

    def _abandon(self, job: _Job[T, R]) -> None:
        # It swallowed its cancellation; it may go on, but is not waited for.
        if self._active.pop(job.task, None) is not None:
            self._emit(job, None, job.expired)

    def _watch(self, event: threading.Event) -> None:
        if event.is_set():
            self._stop("the batch it belonged to was cancelled")
            self._wake()
        elif self._active:
            self._loop.call_later(_POLL, self._watch, event)

    def _stop(self, reason: str) -> list[asyncio.Task[R]]:
        self._drained = True
        jobs = list(self._active.values())
        self._active.clear()
        for job in jobs:
            if job.timer is not None:
                job.timer.cancel()
            if self._cancel is not None:
                self._cancel(job.item, reason)
            job.task.cancel()
        return [job.task for job in jobs]

    def _end(self, error: BaseException) -> None:
        self._crash = self._crash or error
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def block_on(main: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine to its end from blocking code; `dspex.execution.run_blocking` says more."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    context = contextvars.copy_context()
    results: list[R] = []
    errors: list[BaseException] = []
    cancels: list[Callable[[], object]] = []
    left, ended = False, threading.Event()

    async def cancellable() -> R:
        task = asyncio.current_task()
        assert task is not None
        cancels.append(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        if left:
            task.cancel()
        return await main

    def work() -> None:
        try:
            results.append(context.run(asyncio.run, cancellable()))
        except BaseException as error:
            errors.append(error)
        ended.set()

    thread = threading.Thread(target=work, name="dspex-loop", daemon=True)
    thread.start()
    try:
        ended.wait()  # joining a thread is not to be interrupted and done again
    except BaseException:  # Ctrl-C, in a notebook
        left = True
        with suppress(RuntimeError):  # the loop has ended in the meantime
            for cancel in cancels:
                cancel()
        ended.wait()
        raise
    if errors:
        raise errors[0]
    return results[0]


async def thread_call(stop: Callable[[], None] | None, patience: float, fn: Callable[..., R], *args: Any) -> R:
    """Await a blocking function on a thread; `dspex.execution.in_thread` says more."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def settle(value: R, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):
            # A future refuses it, as it would end whoever awaits.
            future.set_exception(RuntimeError(f"{fn!r} raised StopIteration"))
        else:
            future.set_exception(error)

    def tell(value: R, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop has ended in the meantime, so nobody waits
            loop.call_soon_threadsafe(settle, value, error)

    call_on_thread(tell, fn, *args)
    if stop is None:
        return await future
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop()
        future.add_done_callback(_looked_at)
        await asyncio.wait([future], timeout=patience)
        raise


def aproduced(
    afn: Callable[[Callable[[T], None]], Coroutine[Any, Any, object]], stop: Callable[[], None] | None
) -> AsyncGenerator[T, None]:
    """What ``afn`` puts out; `dspex.execution.produce_in_task` says more."""
    context = contextvars.copy_context()

    async def items() -> AsyncGenerator[T, None]:
        loop = asyncio.get_running_loop()
        home = threading.get_ident()
        ready: deque[T] = deque()
        waiter: asyncio.Future[None] | None = None

        def wake(_: object = None) -> None:
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

        def put(item: T) -> None:
            ready.append(item)
            if threading.get_ident() == home:
                wake()
            else:
                with suppress(RuntimeError):  # the loop has ended in the meantime, so nobody waits
                    loop.call_soon_threadsafe(wake)

        task = loop.create_task(afn(put), context=context)
        task.add_done_callback(wake)
        try:
            while True:
                while ready:
                    yield ready.popleft()
                if task.done():
                    break
                waiter = loop.create_future()
                await waiter
        finally:
            if not task.done():
                if stop is not None:
                    stop()
                task.cancel()
                task.add_done_callback(_looked_at)
                await asyncio.wait([task], timeout=LONGEST_GRACE)
        task.result()

    return items()


def _looked_at(future: asyncio.Future[Any]) -> None:
    # An exception that nobody looks at is reported as lost.
    if not future.cancelled():
        future.exception()
