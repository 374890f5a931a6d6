"""Batches on asyncio: bounded, cancelled at their deadline; and the ways between the two worlds."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dspex.errors import DeadlineExceeded, DefinitionError
from dspex.execution import Outcome, Run, in_thread, map_async, run_blocking, run_many, stream_async


def test_values_come_in_order_and_never_more_at_once_than_allowed() -> None:
    now = most = 0

    async def work(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001 * (number % 3))
        now -= 1
        return number * 2

    assert asyncio.run(map_async(work, range(60), concurrency=5)) == [number * 2 for number in range(60)]
    assert most == 5
    assert asyncio.run(map_async(work, [])) == []


def test_what_a_function_raises_stops_nothing() -> None:
    async def work(number: int) -> float:
        return 1 / number

    outcomes = run_many(work, [1, 0, 2])
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, ZeroDivisionError)


def test_an_async_callable_object_is_async_too() -> None:
    class Work:
        async def __call__(self, number: int) -> int:
            await asyncio.sleep(0)
            return number + 1

    assert [outcome.value for outcome in run_many(Work(), [1, 2])] == [2, 3]


def test_map_raises_the_first_error_and_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def work(number: int) -> None:
        if number == 1:
            await asyncio.sleep(0.01)
            raise ValueError("one")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    with pytest.raises(ValueError, match="one"):
        asyncio.run(map_async(work, range(100), concurrency=3))
    assert cancelled == [0, 2]


@pytest.mark.parametrize("broken", ["items", "on_result"])
def test_what_is_not_the_functions_fault_ends_the_batch(broken: str) -> None:
    def items() -> Iterator[int]:
        yield 1
        if broken == "items":
            raise RuntimeError("broken items")
        yield 2

    def on_result(outcome: Outcome[int, int]) -> None:
        if broken == "on_result":
            raise RuntimeError("broken on_result")

    async def work(number: int) -> int:
        return number

    async def main() -> None:
        async for _ in stream_async(work, items(), on_result=on_result):
            pass

    with pytest.raises(RuntimeError, match=f"broken {broken}"):
        asyncio.run(main())


def test_a_function_that_is_not_async_is_an_error() -> None:
    async def main() -> None:
        async for _ in stream_async(abs, [1]):  # type: ignore[arg-type]  # the point
            pass

    with pytest.raises(TypeError, match="coroutine"):
        asyncio.run(main())


def test_an_item_past_its_deadline_has_its_task_cancelled() -> None:
    ended: list[int] = []
    cancelled: list[tuple[int, str]] = []

    async def work(number: int) -> int:
        try:
            await asyncio.sleep(30 if number in (1, 2) else 0)
        except asyncio.CancelledError:
            ended.append(number)
            raise
        return number

    outcomes = run_many(
        work, range(8), concurrency=2, deadline=3.0, cancel=lambda number, why: cancelled.append((number, why))
    )
    assert [outcome.ok for outcome in outcomes] == [True, False, False, True, True, True, True, True]
    assert str(outcomes[1].error) == "it took longer than its deadline of 3 s"
    assert sorted(ended) == [1, 2]
    assert sorted(number for number, _ in cancelled) == [1, 2]


def test_a_task_that_swallows_its_cancellation_is_abandoned() -> None:
    async def work(number: int) -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)
        return number

    async def main() -> list[Outcome[int, int]]:
        return [outcome async for outcome in stream_async(work, [1], deadline=0.05)]

    (outcome,) = asyncio.run(main())
    assert isinstance(outcome.error, DeadlineExceeded)


def test_its_own_deadline_error_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.execution.tasks.grace", lambda deadline: 30.0)
    begun: list[Run] = []

    async def work(run: Run) -> None:
        begun.append(run)
        try:
            await asyncio.sleep(30)
        finally:
            run.check()

    while not begun:  # on a machine that stalls the time may be up before
        (outcome,) = run_many(work, [Run()], deadline=0.05, cancel=Run.cancel)
    assert str(outcome.error) == "the run was cancelled: it took longer than its deadline of 0.05 s"


def test_a_task_that_cancels_itself_is_an_outcome() -> None:
    async def work(number: int) -> int:
        if number == 0:
            raise asyncio.CancelledError
        return number

    outcomes = run_many(work, range(3))
    assert [type(outcome.error) for outcome in outcomes] == [asyncio.CancelledError, type(None), type(None)]


def test_leaving_early_cancels_what_is_in_flight() -> None:
    ended: list[int] = []
    runs = [Run() for _ in range(20)]

    async def work(item: tuple[int, Run]) -> int:
        number, _ = item
        if number == 0:
            return 0
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(number)
        return 1

    async def main() -> None:
        stream = stream_async(work, list(enumerate(runs)), concurrency=4, cancel=lambda item, why: item[1].cancel(why))
        async with contextlib.aclosing(stream):
            async for outcome in stream:
                assert outcome.value == 0
                break

    asyncio.run(main())
    assert sorted(ended) == [number for number, run in enumerate(runs) if run.cancelled]
    assert 3 <= len(ended) <= 4


def test_the_cancel_event_ends_it_from_another_thread() -> None:
    event = threading.Event()
    runs = [Run() for _ in range(10)]
    begun: list[Run] = []

    async def work(run: Run) -> None:
        begun.append(run)
        if len(begun) == 3:
            threading.Thread(target=event.set).start()
        await asyncio.sleep(30)

    outcomes = run_many(work, runs, concurrency=3, cancel=Run.cancel, cancel_event=event)
    assert outcomes == []
    assert sum(run.cancelled for run in runs) == 3


def test_cancelling_the_consumer_cancels_the_items() -> None:
    begun: list[int] = []
    ended: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(number)

    async def main() -> None:
        task = asyncio.create_task(map_async(work, range(10), concurrency=4))
        while len(begun) < 4:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(ended) == [0, 1, 2, 3]

    asyncio.run(main())


def test_items_have_contexts_of_their_own() -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    async def work(number: int) -> str:
        before = variable.get()
        variable.set(f"item {number}")
        await asyncio.sleep(0)
        return before

    async def main() -> list[str]:
        variable.set("caller")
        return await map_async(work, range(10), concurrency=2)

    assert asyncio.run(main()) == ["caller"] * 10


def test_ctrl_c_returns_what_is_finished() -> None:
    async def work(number: int) -> int:
        if number == 8:
            main = threading.main_thread().ident
            threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT]).start()
        if number >= 5:
            await asyncio.sleep(30)
        return number

    outcomes = run_many(work, range(12), concurrency=4)
    assert outcomes.interrupted
    assert [outcome.value for outcome in outcomes] == [0, 1, 2, 3, 4]


def test_no_threads_are_made() -> None:
    before = threading.active_count()
    counts: list[int] = []

    async def work(_: int) -> None:
        await asyncio.sleep(0.001)
        counts.append(threading.active_count())

    asyncio.run(map_async(work, range(50), concurrency=25))
    assert max(counts) <= before


def test_blocking_on_a_coroutine_with_and_without_a_running_loop() -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    variable.set("caller")

    async def inner() -> str:
        await asyncio.sleep(0)
        return variable.get()

    async def outer() -> str:
        return run_blocking(inner()) + "!"

    async def deep() -> str:
        return run_blocking(outer()) + "?"

    assert run_blocking(inner()) == "caller"
    assert run_blocking(outer()) == "caller!"
    assert asyncio.run(deep()) == "caller!?"


def test_errors_cross_over() -> None:
    async def fail() -> None:
        raise KeyError("lost")

    async def outer() -> None:
        run_blocking(fail())

    with pytest.raises(KeyError, match="lost"):
        run_blocking(fail())
    with pytest.raises(KeyError, match="lost"):
        asyncio.run(outer())


def test_awaiting_a_blocking_function() -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    variable.set("caller")

    def blocking(number: int) -> tuple[int, str, bool]:
        return number, variable.get(), threading.current_thread().daemon

    def stop(_: int) -> None:
        raise StopIteration

    assert run_blocking(in_thread(blocking, 3)) == (3, "caller", True)
    with pytest.raises(ZeroDivisionError):
        run_blocking(in_thread(divmod, 1, 0))
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        run_blocking(in_thread(stop, 3))


def test_threads_of_blocking_functions_are_used_again() -> None:
    async def main() -> set[int]:
        return {await in_thread(threading.get_ident) for _ in range(50)}

    # Not just one: a thread that an earlier test left to itself may end its call in between, and is the next one then.
    assert len(asyncio.run(main())) < 25


def test_a_blocking_function_is_left_to_itself_when_its_task_is_cancelled() -> None:
    released, done = threading.Event(), threading.Event()

    def slow() -> None:
        released.wait(60)
        done.set()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(slow), 0.05)

    asyncio.run(main())
    assert not done.is_set()
    released.set()
    assert done.wait(30)


def test_a_blocking_function_that_can_be_stopped_is_waited_for_when_its_task_is_cancelled() -> None:
    begun, stopped = threading.Event(), threading.Event()
    written = []

    def work() -> None:
        begun.set()
        assert stopped.wait(60)
        time.sleep(0.1)
        written.append(1)
        raise OSError("nobody is there to be told")

    async def main() -> None:
        task = asyncio.create_task(in_thread(work, stop=stopped.set))
        await in_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert written == [1]
    assert run_blocking(in_thread(max, 2, 5, stop=stopped.set)) == 5
    with pytest.raises(ZeroDivisionError):
        run_blocking(in_thread(divmod, 1, 0, stop=stopped.set))


@pytest.mark.parametrize("number", [0, True, 2.0])
def test_a_concurrency_that_cannot_be_meant(number: Any) -> None:
    async def work(item: int) -> int:
        return item

    with pytest.raises(DefinitionError, match="concurrency must be a whole number, 1 or more"):
        stream_async(work, [1], concurrency=number)
