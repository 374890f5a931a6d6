"""The flow driver: one generator, two drivers, the same meaning."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest

import dspex
from dspex import MockLM, Module, Predict
from dspex.execution import Run, active_run, in_thread
from dspex.modules import Call, Gather


class Both(Module):
    def __init__(self) -> None:
        self.predict = Predict("x -> y: int")
        self.closed: list[str] = []

    def flow(self, xs: list[int]) -> Any:
        try:
            try:
                yield Call(self.predict, wrong=1)
            except dspex.errors.DataError:
                first = yield Call(self.predict, x="0")
            rest = yield Gather(Call(self.predict, x=str(x)) for x in xs)
            return [first.y, *(r.y for r in rest)]
        finally:
            self.closed.append("closed")


def number(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
    return {"y": int(messages[-1]["content"].split("x ## ]]")[-1].split()[0])}


def test_needs_are_answered_errors_thrown_in_and_batches_kept_in_order() -> None:
    program = Both()
    with dspex.context(lm=MockLM(number, latency=0.01)):
        assert program(xs=[3, 1, 2]) == [0, 3, 1, 2]
        assert asyncio.run(program.acall(xs=[3, 1, 2])) == [0, 3, 1, 2]
    assert program.closed == ["closed", "closed"]


class Meeting:
    """A need that is only ever answered while `size` of its kind are being performed at once."""

    def __init__(self, size: int) -> None:
        self.threads = threading.Barrier(size, timeout=30)
        self.here = 0
        self.size = size
        self.all_here = asyncio.Event()

    def perform(self, run: Any) -> str:
        self.threads.wait()
        return "met"

    async def aperform(self, run: Any) -> str:
        self.here += 1
        if self.here == self.size:
            self.all_here.set()
        await asyncio.wait_for(self.all_here.wait(), 30)
        return "met"


class Party(Module):
    def flow(self, size: int) -> Any:
        meeting = Meeting(size)
        return (yield Gather([meeting] * size))


def test_a_batch_runs_in_parallel_on_both_sides() -> None:
    assert Party()(size=8) == ["met"] * 8
    assert asyncio.run(Party().acall(size=8)) == ["met"] * 8


def test_cancelling_the_task_closes_the_flow() -> None:
    program = Both()

    async def main() -> None:
        task = asyncio.create_task(program.acall(xs=[1]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with dspex.context(lm=MockLM(number, latency=5)):
        asyncio.run(main())
    assert program.closed == ["closed"]


def test_a_decorated_async_forward_is_awaited() -> None:
    def traced(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **inputs: Any) -> Any:
            return function(*args, **inputs)

        return call

    class Program(Module):
        @traced
        async def forward(self, x: int) -> int:
            return x + 1

    assert Program()(x=1) == 2
    assert asyncio.run(Program().acall(x=1)) == 2


def test_a_subclass_of_predict_may_call_the_forward_it_inherits() -> None:
    class Loud(Predict):
        def forward(self, **inputs: Any) -> Any:
            result = super().forward(**inputs)
            result["y"] = result.y * 2
            return result

    with dspex.context(lm=MockLM(number)):
        assert Loud("x -> y: int")(x="4").y == 8


@pytest.mark.parametrize("whole", ["blocking", "async", "joined", "in a run", "async in a run"])
def test_cancelling_the_task_ends_what_the_programs_threads_ask(whole: str) -> None:
    asked, ended = threading.Event(), threading.Event()

    class Hanging(dspex.lm.BaseLM):
        ends_with_run = True

        def _send(self, request: Any, timeout: float | None) -> Any:
            asked.set()
            run = active_run()
            assert run is not None
            run.pause(3600.0)
            raise AssertionError("its run is cancelled")

    class Blocking(Module):
        def __init__(self) -> None:
            self.ask = Predict("question -> answer")

        def forward(self, question: str) -> Any:
            try:
                while True:
                    self.ask(question=question)
            finally:
                ended.set()

    class Awaiting(Module):
        def __init__(self) -> None:
            self.inner = Blocking()

        async def forward(self, question: str) -> Any:
            return await (Blocking() if whole == "joined" else self.inner).acall(question=question)

    program: Module = Blocking() if whole in ("blocking", "in a run") else Awaiting()

    async def main() -> None:
        given = {"question": "?"}
        call = program.aexecute(given, run=run) if "in a run" in whole else program.acall(**given)
        task = asyncio.create_task(call)
        assert await in_thread(asked.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await in_thread(ended.wait, 30)

    with dspex.context(lm=Hanging("test/hanging", price=(0.0, 0.0))), dspex.track_usage() as usage:
        run = Run()
        asyncio.run(main())
    assert (usage.total.calls, usage.total.failed_calls) == (0, 1)
    assert not run.cancelled
