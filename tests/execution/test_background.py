"""Coroutines of blocking code, on the process's own loop."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from dspex.execution import map_threads
from dspex.execution.background import await_in_background, iterate_in_background

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def later(seconds: float, value: Any = None) -> Any:
    await asyncio.sleep(seconds)
    return value


def test_results_errors_and_the_callers_context() -> None:
    async def seen() -> tuple[str, bool]:
        return colour.get(), threading.current_thread() is threading.main_thread()

    async def fail() -> None:
        raise ZeroDivisionError("mine")

    colour.set("red")
    assert await_in_background(seen()) == ("red", False)
    with pytest.raises(ZeroDivisionError, match="mine"):
        await_in_background(fail())


def test_many_threads_share_one_loop() -> None:
    async def loop_of(number: int) -> tuple[int, int]:
        await asyncio.sleep(0.001)
        return number, id(asyncio.get_running_loop())

    found = map_threads(lambda number: await_in_background(loop_of(number)), range(50), concurrency=16)
    assert [number for number, _ in found] == list(range(50))
    assert len({loop for _, loop in found}) == 1


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.execution.background._GRACE", 60.0)


def test_a_timeout_cancels_what_was_awaited_and_waits_for_its_end() -> None:
    begun, ended = [], []

    async def work() -> None:
        begun.append(True)
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    while not begun:  # on a machine that stalls the time may be up before
        with pytest.raises(TimeoutError):
            await_in_background(work(), timeout=0.05)
    assert ended == [True]


def test_blocking_code_inside_a_running_loop() -> None:
    async def main() -> Any:
        return await_in_background(later(0.01, "x"))

    assert asyncio.run(main()) == "x"


def test_items_of_an_async_generator_and_its_end() -> None:
    ended = []

    async def count() -> AsyncGenerator[int, None]:
        try:
            for number in range(100):
                await asyncio.sleep(0)
                yield number
        finally:
            await asyncio.sleep(0.005)
            ended.append(True)

    assert list(iterate_in_background(count())) == list(range(100))
    for _ in zip(range(3), stream := iterate_in_background(count()), strict=False):
        pass
    stream.close()
    assert ended == [True, True]


def test_a_stream_that_does_not_want_to_close_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.execution.background._GRACE", 0.1)
    closing = threading.Event()

    async def items() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            closing.set()
            await asyncio.Event().wait()

    def leave() -> None:
        stream = iterate_in_background(items(), 600)
        next(stream)
        stream.close()

    thread = threading.Thread(target=leave, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert closing.wait(60)


def test_only_waiting_for_items_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("dspex.execution.background.time", SimpleNamespace(monotonic=lambda: now[0]))
    ended = []

    async def items() -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                yield number
            now[0] += 1000.0  # it takes so long for the next one
            yield 3
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    seen = []

    def consume() -> None:
        for number in iterate_in_background(items(), timeout=900.0):
            now[0] += 1000.0  # and so long to do something with this one
            seen.append(number)

    with pytest.raises(TimeoutError):
        consume()
    assert (seen, ended) == ([0, 1, 2, 3], [True])


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    assert await_in_background(later(0.0, 1)) == 1
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if await_in_background(later(0.0, 2), timeout=5) == 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
