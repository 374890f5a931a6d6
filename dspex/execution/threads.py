"""Many items at once on threads: bounded, with a deadline for each; and what one puts out while it runs."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from dspex.errors import DeadlineExceeded
from dspex.execution.outcome import LONGEST_ENDING, LONGEST_GRACE, Outcome, grace

__all__ = ["Threads", "produced"]

T = TypeVar("T")
R = TypeVar("R")

_POLL = 0.05


class _Job(Generic[T]):
    __slots__ = ("expires", "index", "item", "started")

    def __init__(self, index: int, item: T, deadline: float | None) -> None:
        self.index = index
        self.item = item
        self.started = time.monotonic()
        self.expires = 0.0 if deadline is None else self.started + deadline


class _Crash:
    """What must end the batch."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Left:
    """A worker found nothing more to do."""


class Threads(Generic[T, R]):
    """One batch on threads; `dspex.execution.stream_threads` says what the arguments are.

    Workers draw items and queue outcomes; the consumer of `outcomes` looks after deadlines while it waits. A
    job that is late is taken from its worker, which ends when it comes back, and another takes its place.
    """

    def __init__(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        *,
        concurrency: int,
        deadline: float | None = None,
        cancel: Callable[[T, str], None] | None = None,
        on_result: Callable[[Outcome[T, R]], None] | None = None,
        cancel_event: threading.Event | None = None,
    ) -> None:
        self._fn = fn
        self._items = iter(items)
        self._deadline = deadline
        self._grace = grace(deadline)
        self._cancel = cancel
        self._on_result = on_result
        self._cancel_event = cancel_event
        self._wanted = min(concurrency, len(items)) if isinstance(items, Sized) else concurrency
        self._context = contextvars.copy_context()
        self._queue: SimpleQueue[Outcome[T, R] | _Crash | _Left] = SimpleQueue()
        self._drawing = threading.Lock()  # guards the iterator, which may be slow
        self._next = 0
        self._drained = False
        self._lock = threading.Lock()  # guards what is in flight, and what is told
        self._in_flight: dict[int, _Job[T]] = {}
        self._telling = 0  # workers that are with ``on_result``
        self._told = threading.Condition(self._lock)
        self._workers = 0

    def outcomes(self) -> Iterator[Outcome[T, R]]:
        """The outcomes, as they come."""
        try:
            for _ in range(self._wanted):
                if not self._add_worker():
                    break
            while self._workers or not self._queue.empty():
                got = self._wait()
                if isinstance(got, _Left):
                    self._workers -= 1
                elif isinstance(got, _Crash):
                    raise got.error
                elif got is not None:
                    yield got
                elif self._cancel_event is not None and self._cancel_event.is_set():
                    return
                else:
                    yield from self._expired()
        except KeyboardInterrupt:
            # What has finished is handed over before the interruption goes on.
            self._stop("interrupted by Ctrl-C")
            while not self._queue.empty():
                got = self._queue.get()
                if isinstance(got, Outcome):
                    yield got
            raise
        finally:
            self._stop("the batch it belonged to was ended")

    def drain(self) -> None:
        """Start no further item; those in flight go on."""
        self._drained = True

    def _wait(self) -> Outcome[T, R] | _Crash | _Left | None:
        """The next event, or ``None`` when there is a deadline or the cancel event to look after."""
        timeout: float | None = None
        if self._queue.empty():
            if self._deadline is not None:
                with self._lock:
                    # All have the same deadline, so the one started first expires first.
                    first = next(iter(self._in_flight.values()), None)
                expires = time.monotonic() + self._deadline if first is None else first.expires
                timeout = max(0.0, expires + self._grace - time.monotonic())
            if self._cancel_event is not None:
                if self._cancel_event.is_set():
                    return None
                timeout = _POLL if timeout is None else min(timeout, _POLL)
        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            return None

    def _expired(self) -> Iterator[Outcome[T, R]]:
        if self._deadline is None:
            return
        now = time.monotonic()
        with self._lock:
            late = [job for job in self._in_flight.values() if job.expires + self._grace <= now]
            for job in late:
                del self._in_flight[job.index]
        for job in late:
            error = DeadlineExceeded(f"it took longer than its deadline of {self._deadline:g} s")
            if self._cancel is not None:
                self._cancel(job.item, str(error))
            self._workers -= 1
            self._add_worker()
            outcome: Outcome[T, R] = Outcome(job.index, job.item, error=error, seconds=now - job.started)
            if self._on_result is not None:
                self._on_result(outcome)
            yield outcome

    def _add_worker(self) -> bool:
        thread = threading.Thread(target=self._work, name="dspex-worker", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            if not self._workers:
                raise
            return False
        self._workers += 1
        return True

    def _stop(self, reason: str) -> None:
        self._drained = True
        with self._lock:
            jobs = list(self._in_flight.values())
            self._in_flight.clear()
        if self._cancel is not None:
            for job in jobs:
                self._cancel(job.item, reason)
        with self._told:
            # What is being written down is written when the batch has ended, not some time after it.
            self._told.wait_for(lambda: not self._telling, LONGEST_ENDING)

    # In the workers.

    def _work(self) -> None:
        try:
            while (job := self._draw()) is not None:
                outcome = self._perform(job)
                with self._lock:
                    if self._in_flight.pop(job.index, None) is None:
                        return  # taken away: its outcome is known, and another worker is in this one's place
                    self._telling += 1
                try:
                    if self._on_result is not None:
                        self._on_result(outcome)
                    self._queue.put(outcome)
                finally:
                    with self._told:
                        self._telling -= 1
                        if self._drained:
                            self._told.notify_all()
                # Not kept alive, nor what it holds, while the next item is waited for.
                del outcome, job
        except BaseException as error:
            self._queue.put(_Crash(error))
        self._queue.put(_Left())

    def _draw(self) -> _Job[T] | None:
        with self._drawing:
            if self._drained:
                return None
            try:
                item = next(self._items)
            except StopIteration:
                return None
            with self._lock:
                job = _Job(self._next, item, self._deadline)
                self._in_flight[self._next] = job
            self._next += 1
            return job

    def _perform(self, job: _Job[T]) -> Outcome[T, R]:
        value: R | None = None
        error: BaseException | None = None
        try:
            value = self._context.copy().run(self._fn, job.item)
        except BaseException as raised:
            error = raised
        seconds = time.monotonic() - job.started
        return Outcome(job.index, job.item, value=value, error=error, seconds=seconds)


class _Ended:
    """The producer has returned, or raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def produced(fn: Callable[[Callable[[T], None]], object], stop: Callable[[], None] | None) -> Generator[T, None, None]:
    """What ``fn`` puts out; `dspex.execution.produce_on_thread` says more."""
    context = contextvars.copy_context()
    queue: SimpleQueue[T | _Ended] = SimpleQueue()

    def work() -> None:
        error: BaseException | None = None
        try:
            context.run(fn, queue.put)
        except BaseException as raised:
            error = raised
        queue.put(_Ended(error))

    def items() -> Generator[T, None, None]:
        thread = threading.Thread(target=work, name="dspex-stream", daemon=True)
        thread.start()
        ended = False
        try:
            while True:
                item = queue.get()
                if isinstance(item, _Ended):
                    ended = True
                    break
                yield item
        finally:
            if not ended:
                if stop is not None:
                    stop()
                thread.join(LONGEST_GRACE)
        if item.error is not None:
            try:
                raise item.error
            finally:
                del item  # or the error would hold itself by its traceback

    return items()
