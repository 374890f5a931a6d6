"""Many things at once: the only place that makes threads and tasks.

===================  =====================  ======================  =========================================
\\                    on threads             on asyncio              gives
===================  =====================  ======================  =========================================
values, all or none  `map_threads`          `map_async`             a list in order; the first error is raised
outcomes             `stream_threads`       `stream_async`          each `Outcome` as it comes
a whole batch        `run_many`             `run_many`              `Outcomes`, also after Ctrl-C
from the other side  `in_thread`            `run_blocking`          one result
what one puts out    `produce_on_thread`    `produce_in_task`       each item as it comes
===================  =====================  ======================  =========================================

asyncio is loaded by those that need it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, TypeVar, cast

from dspex.execution.outcome import LONGEST_ENDING, Outcome, Outcomes, checked_concurrency, checked_deadline
from dspex.execution.threads import Threads, produced

__all__ = [
    "in_thread",
    "map_async",
    "map_threads",
    "produce_in_task",
    "produce_on_thread",
    "run_blocking",
    "run_many",
    "stream_async",
    "stream_threads",
]

T = TypeVar("T")
R = TypeVar("R")


def stream_threads(
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    concurrency: int = 8,
    deadline: float | None = None,
    cancel: Callable[[T, str], None] | None = None,
    on_result: Callable[[Outcome[T, R]], None] | None = None,
    cancel_event: threading.Event | None = None,
) -> Iterator[Outcome[T, R]]:
    """Call ``fn(item)`` for each item on at most ``concurrency`` threads; yield outcomes as they come.

    ``items`` are drawn one by one, as threads get free. What ``fn`` raises is in the outcome and stops
    nothing; what ``items`` or ``on_result`` raise ends the iteration and is raised here. ``on_result`` is
    called with each outcome before its thread takes another item, so that what it writes down is written
    before more is started.

    An item that takes longer than ``deadline`` seconds, and does not end within a moment of it, is abandoned:
    its outcome is `DeadlineExceeded`, another thread takes its place, and ``cancel(item, reason)`` is called,
    which should cancel its `Run`, so that it can make no further call to a model.
    Leaving the iteration early (``break``, Ctrl-C, ``cancel_event``) cancels what is in flight. Workers are
    daemons, which keep no interpreter alive, and see the caller's context variables.

    Raises `DefinitionError` when ``concurrency`` or ``deadline`` is not more than 0.

    >>> sorted(outcome.result() for outcome in stream_threads(abs, [-1, 2, -3], concurrency=2))
    [1, 2, 3]
    """
    return Threads(
        fn,
        items,
        concurrency=checked_concurrency(concurrency),
        deadline=checked_deadline(deadline),
        cancel=cancel,
        on_result=on_result,
        cancel_event=cancel_event,
    ).outcomes()


def stream_async(
    afn: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    concurrency: int = 8,
    deadline: float | None = None,
    cancel: Callable[[T, str], None] | None = None,
    on_result: Callable[[Outcome[T, R]], None] | None = None,
    cancel_event: threading.Event | None = None,
) -> AsyncGenerator[Outcome[T, R], None]:
    """Await ``afn(item)`` for each item, at most ``concurrency`` at once; yield outcomes as they come.

    As `stream_threads`, with a task for each item. One that takes longer than ``deadline`` seconds has its
    task cancelled; should it not end even so, it is abandoned. After a ``break``, call ``aclose()`` (or use
    `contextlib.aclosing`) to cancel what is in flight at once.

    >>> async def double(item):
    ...     return 2 * item
    >>> async def main():
    ...     return [outcome.result() async for outcome in stream_async(double, [1, 2, 3])]
    >>> sorted(run_blocking(main()))
    [2, 4, 6]
    """
    from dspex.execution.tasks import Tasks

    return Tasks(
        afn,
        items,
        concurrency=checked_concurrency(concurrency),
        deadline=checked_deadline(deadline),
        cancel=cancel,
        on_result=on_result,
        cancel_event=cancel_event,
    ).outcomes()


def map_threads(fn: Callable[[T], R], items: Iterable[T], *, concurrency: int = 8) -> list[R]:
    """The values of ``fn(item)``, in order, worked out on at most ``concurrency`` threads.

    The first error is raised, once the items in flight have ended; no further item is started.

    >>> map_threads(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    batch: Threads[T, R] = Threads(fn, items, concurrency=checked_concurrency(concurrency))
    values: dict[int, R] = {}
    first: BaseException | None = None
    for outcome in batch.outcomes():
        if outcome.error is None:
            values[outcome.index] = outcome.result()
        else:
            first = first or outcome.error
            batch.drain()
    if first is not None:
        raise first
    return [values[index] for index in range(len(values))]


async def map_async(afn: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], *, concurrency: int = 8) -> list[R]:
    """The values of ``await afn(item)``, in order, at most ``concurrency`` at once.

    The first error is raised, once the items in flight have been cancelled; no further item is started.

    >>> async def double(item):
    ...     return 2 * item
    >>> run_blocking(map_async(double, [1, 2, 3]))
    [2, 4, 6]
    """
    from dspex.execution.tasks import Tasks

    values: dict[int, R] = {}

    def stop_at_error(outcome: Outcome[T, R]) -> None:
        if not outcome.ok:
            batch.drain()

    batch = Tasks(afn, items, concurrency=checked_concurrency(concurrency), on_result=stop_at_error)
    stream = batch.outcomes()
    try:
        async for outcome in stream:
            values[outcome.index] = outcome.result()
    finally:
        await stream.aclose()
    return [values[index] for index in range(len(values))]


def run_many(
    fn: Callable[[T], R] | Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    concurrency: int = 8,
    deadline: float | None = None,
    cancel: Callable[[T, str], None] | None = None,
    on_result: Callable[[Outcome[T, R]], None] | None = None,
    cancel_event: threading.Event | None = None,
) -> Outcomes[T, R]:
    """The outcomes of ``fn(item)`` for all items, by index, from blocking code.

    An async ``fn`` runs as tasks (see `stream_async`), any other on threads (see `stream_threads`). On Ctrl-C
    what has finished is returned, marked ``interrupted``.

    >>> [outcome.value for outcome in run_many(abs, [-1, 2, -3])]
    [1, 2, 3]
    """
    finished: list[Outcome[T, R]] = []

    def keep(outcome: Outcome[T, R]) -> None:
        # What the caller could not write down is not finished.
        if on_result is not None:
            on_result(outcome)
        finished.append(outcome)

    options: dict[str, Any] = {
        "concurrency": concurrency,
        "deadline": deadline,
        "cancel": cancel,
        "on_result": keep,
        "cancel_event": cancel_event,
    }
    interrupted = False
    try:
        if _is_async(fn):
            run_blocking(_exhaust(cast("Callable[[T], Coroutine[Any, Any, R]]", fn), items, options))
        else:
            for _ in stream_threads(cast("Callable[[T], R]", fn), items, **options):
                pass
    except KeyboardInterrupt:
        interrupted = True
    outcomes = Outcomes(sorted(finished, key=lambda outcome: outcome.index))
    outcomes.interrupted = interrupted
    return outcomes


def run_blocking(main: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine to its end from blocking code, also where an event loop is running already.

    In that case it runs on a loop of its own in a thread of its own, and the running loop waits; code that
    can await should await instead. The coroutine sees the caller's context variables, and Ctrl-C cancels it.

    >>> async def answer():
    ...     return 42
    >>> run_blocking(answer())
    42
    """
    from dspex.execution.tasks import block_on

    return block_on(main)


async def in_thread(
    fn: Callable[..., R], *args: Any, stop: Callable[[], None] | None = None, patience: float = LONGEST_ENDING
) -> R:
    """Await a blocking function, on a daemon thread that does nothing else until it returns.

    Not in asyncio's shared pool, which has few threads and delays the interpreter's exit by those in flight.
    When the awaiting task is cancelled, the thread is left to itself and its result is dropped; with ``stop``, that is
    called first, which should make ``fn`` end, and ``patience`` seconds are waited at most for what it still has to do.

    >>> run_blocking(in_thread(max, 2, 5))
    5
    """
    from dspex.execution.tasks import thread_call

    return await thread_call(stop, patience, fn, *args)


def produce_on_thread(
    fn: Callable[[Callable[[T], None]], object], *, stop: Callable[[], None] | None = None
) -> Generator[T, None, None]:
    """Run ``fn(put)`` on a thread of its own; yield what it puts, from whatever thread, as it comes.

    The thread starts with the first item that is asked for, and sees the context variables of the caller of this
    function. It never waits for its consumer: what is not taken yet is kept. What ``fn`` raises is raised here, after
    all that it had put. Leaving the iteration early calls ``stop()``, which should make ``fn`` end, and waits a moment
    for that; a thread that goes on is left to itself, and what it puts is dropped. It is a daemon.

    >>> def count(put):
    ...     for number in range(3):
    ...         put(number)
    >>> list(produce_on_thread(count))
    [0, 1, 2]
    """
    return produced(fn, stop)


def produce_in_task(
    afn: Callable[[Callable[[T], None]], Coroutine[Any, Any, object]], *, stop: Callable[[], None] | None = None
) -> AsyncGenerator[T, None]:
    """Run ``afn(put)`` in a task of its own; as `produce_on_thread`. The task is cancelled when the iteration is left.

    After a ``break``, call ``aclose()`` (or use `contextlib.aclosing`), so that it is cancelled at once.

    >>> async def count(put):
    ...     for number in range(3):
    ...         put(number)
    >>> async def main():
    ...     return [number async for number in produce_in_task(count)]
    >>> run_blocking(main())
    [0, 1, 2]
    """
    from dspex.execution.tasks import aproduced

    return aproduced(afn, stop)


async def _exhaust(afn: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], options: dict[str, Any]) -> None:
    async for _ in stream_async(afn, items, **options):
        pass


def _is_async(fn: Any) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
