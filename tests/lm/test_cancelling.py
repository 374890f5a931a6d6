"""Cancelling a run ends the calls that wait in it, on every way, and they are accounted; no thread is left waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from dspex.data import Usage
from dspex.errors import DeadlineExceeded, LMServerError
from dspex.execution import Budget, Run, active_run
from dspex.execution.giving_up import give_up_on_cancel
from dspex.lm import LM, BaseLM, Completion, Delta, LMRequest, LMResponse, MockLM
from dspex.lm.gate import Permit
from tests.lm.callers import ASK, Caller, Streamer
from tests.lm.server import Server, answer, chunk, trickle

PATIENCE = 60.0
"""Seconds after which a test gives up waiting for what should have happened."""


class Stuck(BaseLM):
    """Waits inside its own code, where nothing reaches it, until the test lets it go."""

    def __init__(self, **options: Any) -> None:
        super().__init__("test/stuck", **{"price": (1.0, 1.0), **options})
        self.waits = threading.Event()
        self.released = threading.Event()
        self.returned = threading.Event()

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        self.waits.set()
        self.released.wait(PATIENCE)
        self.returned.set()
        return LMResponse((Completion("late"),), self.usage(prompt_tokens=1, completion_tokens=1), self.model)


class Halting(Stuck):
    """Stuck after the first piece of its answer."""

    def _stream(self, request: LMRequest, timeout: float | None) -> Generator[Delta | LMResponse, None, None]:
        yield Delta("la")
        yield self._send(request, timeout)


def cancelled(call: Callable[[], Any], run: Run, when: threading.Event) -> BaseException:
    """What ``call`` ends in on a thread, when ``run`` is cancelled after ``when``."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert when.wait(PATIENCE)
    run.cancel("the user left")
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the thread still waits in the call"
    (error,) = raised
    return error


def lost(run: Run) -> None:
    assert (run.usage.calls, run.usage.failed_calls, run.usage.unknown_calls) == (0, 1, 1)


@pytest.mark.parametrize("kind", [Stuck, Halting])
def test_a_call_in_a_backend_that_nothing_reaches_is_given_up(way: Streamer, kind: type[Stuck]) -> None:
    lm, run = kind(), Run()
    try:
        error = cancelled(lambda: way(lm, ASK, run), run, lm.waits)
        assert isinstance(error, DeadlineExceeded)
        assert "the user left" in str(error)
        lost(run)
        assert not lm.returned.is_set()
    finally:
        lm.released.set()
    assert lm.returned.wait(PATIENCE)
    lost(run)  # what came later is not counted


@pytest.mark.parametrize("streams", [False, True], ids=["body", "stream"])
def test_a_call_over_http_ends(way: Streamer, streams: bool) -> None:
    came, gone = threading.Event(), threading.Event()

    def stuck(handler: Any) -> None:
        came.set()
        try:
            if streams:
                handler.send_response(200)
                handler.send_header("Content-Type", "text/event-stream")
                handler.end_headers()
                while not handler.server.stopping.wait(0.02):
                    handler.wfile.write(b": nothing new\n\n")
            else:
                trickle(handler)
        except OSError:
            gone.set()
            handler.close_connection = True

    with Server(stuck, otherwise=answer()) as server:
        lm = LM("openai/served", api_base=server.url, api_key="none", cache=False, price=(1.0, 1.0), timeout=PATIENCE)
        run = Run()
        error = cancelled(lambda: way(lm, ASK, run), run, came)
        assert isinstance(error, DeadlineExceeded)
        assert gone.wait(PATIENCE), "the connection is still open"
        lost(run)
        assert len(server.requests) == 1


def test_a_stream_ends_between_its_pieces(stream: Streamer) -> None:
    came = threading.Event()

    def halting(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        import json

        handler.wfile.write(b"data: " + json.dumps(chunk({"content": "Par"})).encode() + b"\n\n")
        handler.wfile.flush()
        came.set()
        handler.server.stopping.wait(PATIENCE)

    with Server(halting) as server:
        lm = LM("openai/served", api_base=server.url, api_key="none", cache=False, timeout=PATIENCE)
        run = Run()
        assert isinstance(cancelled(lambda: stream(lm, ASK, run), run, came), DeadlineExceeded)
        lost(run)


def test_a_mock_that_takes_its_time_ends(way: Streamer) -> None:
    came = threading.Event()

    def latency() -> float:
        came.set()
        return PATIENCE

    run = Run()
    lm = MockLM(["Paris"], latency=latency, timeout=None)
    assert isinstance(cancelled(lambda: way(lm, ASK, run), run, came), DeadlineExceeded)
    assert run.usage.failed_calls == 1


def test_the_pause_before_a_retry_ends(way: Streamer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()

    class Failing(Stuck):
        def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
            raise LMServerError("out of order", model=self.model)

    def long(*_: Any, **__: Any) -> float:
        waits.set()
        return 2 * PATIENCE

    monkeypatch.setattr("dspex.lm.flow.wait_before_retry", long)
    run = Run()
    assert isinstance(cancelled(lambda: way(Failing(), ASK, run), run, waits), DeadlineExceeded)
    assert run.usage.failed_calls == 1


def test_waiting_for_a_place_ends(way: Streamer) -> None:
    lm, run = Stuck(max_concurrency=1), Run()
    first = threading.Thread(target=lm.generate, args=(ASK,))
    first.start()
    assert lm._places is not None
    places, queued = lm._places, threading.Event()
    usual = places.take

    def take(permit: Permit) -> Any:
        place = usual(permit)
        if place is not None:
            queued.set()
        return place

    try:
        assert lm.waits.wait(PATIENCE)
        places.take = take  # type: ignore[method-assign]  # to see that it waits
        assert isinstance(cancelled(lambda: way(lm, ASK, run), run, queued), DeadlineExceeded)
        assert not run.usage  # it was never asked
    finally:
        lm.released.set()
        first.join(PATIENCE)
    assert way(lm, ASK)  # and nobody has the place


def test_a_task_that_outlived_a_cancellation_hears_of_its_run() -> None:
    lm, run = Stuck(), Run()

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        await lm.agenerate(ASK, run)  # as if to tidy up

    try:
        assert isinstance(cancelled(lambda: asyncio.run(main()), run, lm.waits), DeadlineExceeded)
    finally:
        lm.released.set()


def test_the_budget_keeps_what_the_cancelled_call_may_cost(call: Caller) -> None:
    budget = Budget(usd=1.0)
    lm, run = Stuck(params={"max_tokens": 10}), Run(budget=budget)
    try:
        cancelled(lambda: call(lm, ASK, run), run, lm.waits)
        bound = lm.estimate(ASK)
        assert budget.spent.usd == pytest.approx(bound.cost)
    finally:
        lm.released.set()


def test_a_run_that_others_share_ends_for_all() -> None:
    run, started = Run(), threading.Semaphore(0)
    release = threading.Event()

    class Counted(Stuck):
        def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
            started.release()
            release.wait(PATIENCE)
            return LMResponse((Completion("late"),), Usage(calls=1), self.model)

    lm, raised = Counted(), []

    def work() -> None:
        try:
            lm.generate(ASK, run)
        except DeadlineExceeded as error:
            raised.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert started.acquire(timeout=PATIENCE)
    run.cancel()
    for thread in threads:
        thread.join(PATIENCE)
    release.set()
    assert len(raised) == run.usage.failed_calls == 8


def test_threads_are_used_again() -> None:
    run = Run()
    seen = {give_up_on_cancel(run, threading.get_ident) for _ in range(50)}
    # Not just one: a thread that an earlier test left to itself may end its call in between, and is the next one then.
    assert len(seen) < 25
    assert threading.get_ident() not in seen


def test_what_is_called_elsewhere_has_the_context_and_raises_here() -> None:
    run = Run()
    assert give_up_on_cancel(run, active_run) is None

    def fail() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        give_up_on_cancel(run, fail)


def test_without_a_run_a_call_stays_on_its_thread() -> None:
    class Where(Stuck):
        def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
            self.thread = threading.get_ident()
            return LMResponse((Completion("x"),), Usage(calls=1), self.model)

    lm = Where()
    lm.generate(ASK)
    assert lm.thread == threading.get_ident()
    lm.generate(ASK, Run())
    assert lm.thread != threading.get_ident()


def test_waking_is_for_what_still_waits() -> None:
    run, woken = Run(), []
    first, second = (lambda: woken.append("first")), (lambda: woken.append("second"))
    run.on_cancel(first)
    run.on_cancel(second)
    run.off_cancel(first)
    run.cancel()
    run.cancel()
    assert woken == ["second"]
    run.on_cancel(first)  # it is cancelled already
    assert woken == ["second", "first"]
