"""`produce_on_thread` and `produce_in_task`: what one call puts out, while it runs; and the parts of a run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from dspex.data import Usage
from dspex.errors import DeadlineExceeded
from dspex.execution import Activation, Run, in_thread, produce_in_task, produce_on_thread
from dspex.execution.background import await_in_background, iterate_in_background

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


async def gathered(stream: Any) -> list[Any]:
    return [item async for item in stream]


def test_items_come_in_order_and_while_it_runs() -> None:
    taken = threading.Event()

    def produce(put: Any) -> None:
        put(1)
        assert taken.wait(30)
        put(2)

    items = produce_on_thread(produce)
    assert next(items) == 1
    taken.set()
    assert list(items) == [2]

    async def main() -> list[int]:
        taken.clear()
        found = []
        async for item in produce_in_task(lambda put: in_thread(produce, put)):
            found.append(item)
            taken.set()
        return found

    assert asyncio.run(main()) == [1, 2]


def test_items_of_several_threads_and_of_the_task_come_as_they_were_put() -> None:
    async def produce(put: Any) -> None:
        for number in range(200):
            if number % 2:
                put(number)
            else:
                await in_thread(put, number)

    assert asyncio.run(gathered(produce_in_task(produce))) == list(range(200))


def test_an_error_comes_after_the_items() -> None:
    def fail(put: Any) -> None:
        put(1)
        raise KeyError("no more")

    async def afail(put: Any) -> None:
        fail(put)

    items = produce_on_thread(fail)
    assert next(items) == 1
    with pytest.raises(KeyError, match="no more"):
        next(items)

    async def main() -> None:
        stream = produce_in_task(afail)
        assert await anext(stream) == 1
        with pytest.raises(KeyError, match="no more"):
            await anext(stream)

    asyncio.run(main())


def test_leaving_stops_it() -> None:
    stopped = threading.Event()
    ended = threading.Event()

    def produce(put: Any) -> None:
        put(1)
        assert stopped.wait(30)
        put(2)
        ended.set()

    items = produce_on_thread(produce, stop=stopped.set)
    assert next(items) == 1
    items.close()
    assert stopped.is_set()
    assert ended.wait(30)
    assert list(items) == []

    async def aproduce(put: Any) -> None:
        try:
            put(1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        stopped.clear()
        ended.clear()
        async with contextlib.aclosing(produce_in_task(aproduce, stop=stopped.set)) as stream:
            assert await anext(stream) == 1

    asyncio.run(main())
    assert stopped.is_set()
    assert ended.is_set()


def test_it_sees_the_context_of_the_call_and_begins_with_the_first_item() -> None:
    begun = []

    def produce(put: Any) -> None:
        begun.append(threading.current_thread().name)
        put(COLOUR.get())

    async def aproduce(put: Any) -> None:
        put(COLOUR.get())

    token = COLOUR.set("red")
    items = produce_on_thread(produce)
    stream = produce_in_task(aproduce)
    COLOUR.reset(token)
    assert not begun
    assert list(items) == ["red"]
    assert asyncio.run(gathered(stream)) == ["red"]


def test_a_part_of_a_run_counts_into_it_and_ends_with_it() -> None:
    run = Run(deadline=1000.0, rollout_id=3, seed=4)
    with run.branch() as part:
        part.account(Usage(calls=1))
        part.cancel("left")
        assert (part.deadline, part.rollout_id, part.seed) == (run.deadline, 3, 4)
        with pytest.raises(DeadlineExceeded, match="left"):
            part.check()
        run.check()
    with run.branch() as part:
        run.cancel("all of it")
        with pytest.raises(DeadlineExceeded, match="all of it"):
            part.check()
    assert run.usage.calls == 1
    with run.branch() as part, pytest.raises(DeadlineExceeded, match="all of it"):
        part.check()  # made of a run that was over


def test_cancelling_a_run_ends_what_its_threads_wait_for_in_the_background() -> None:
    run = Run()
    cancelled: list[str] = []

    async def hang(name: str) -> None:
        run.cancel("enough")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(name)

    async def items() -> Any:
        yield 1
        await hang("stream")

    with Activation(run), pytest.raises(DeadlineExceeded, match="enough"):
        await_in_background(hang("call"))
    run = Run()
    with Activation(run):
        stream = iterate_in_background(items())
        assert next(stream) == 1
        with pytest.raises(DeadlineExceeded, match="enough"):
            next(stream)
    assert cancelled == ["call", "stream"]


def test_a_part_of_a_run_has_the_time_that_the_run_has_left() -> None:
    run = Run()
    with run.branch() as part:
        assert part.remaining() is None
        run.limit(1000.0)
        assert part.deadline == run.deadline
        part.limit(5000.0)
        assert part.deadline == run.deadline
        part.limit(100.0)
        assert part.deadline is not None
        assert run.deadline is not None
        assert part.deadline.at < run.deadline.at
        run.limit(1e-9)
        with pytest.raises(DeadlineExceeded):
            part.check()
