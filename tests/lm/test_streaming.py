"""Streaming: what comes piece by piece is what comes as a whole, and costs the same."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from dspex.data import Usage
from dspex.errors import DeadlineExceeded, LMAuthError, LMServerError, LMTimeoutError
from dspex.execution import Budget, Run, track_usage
from dspex.lm import BaseLM, Cache, Completion, Delta, LMRequest, LMResponse, MockLM, Restart
from tests.lm.callers import ASK, STREAMERS, Streamer


class Piecewise(BaseLM):
    """Streams a text in given pieces, and breaks off after some of them as often as it is told."""

    def __init__(self, pieces: list[str], *, breaks: int = 0, after: int = 1, **options: Any) -> None:
        super().__init__("test/piecewise", **{"price": (1.0, 1.0), **options})
        self.pieces = pieces
        self.breaks = breaks
        self.after = after

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        usage = self.usage(prompt_tokens=7, completion_tokens=len(self.pieces))
        return LMResponse((Completion("".join(self.pieces), "stop"),), usage, self.model)

    def _stream(self, request: LMRequest, timeout: float | None) -> Any:
        for number, piece in enumerate(self.pieces):
            if self.breaks and number == self.after:
                self.breaks -= 1
                raise LMServerError("broke off", model=self.model, billed=True)
            yield Delta(piece)
        yield self._send(request, timeout)

    async def _astream(self, request: LMRequest, timeout: float | None) -> Any:
        for event in self._stream(request, timeout):
            await asyncio.sleep(0)
            yield event


def texts(events: list[Any], kind: str = "text", completion: int = 0) -> str:
    """What a consumer has in the end, who throws away what a restart makes void."""
    shown: list[str] = []
    for event in events:
        if isinstance(event, Restart):
            shown.clear()
        elif isinstance(event, Delta) and (event.kind, event.completion) == (kind, completion):
            shown.append(event.text)
    return "".join(shown)


@settings(deadline=None, max_examples=60)
@given(
    pieces=st.lists(st.text(min_size=1, max_size=5), max_size=8),
    breaks=st.integers(0, 2),
    after=st.integers(0, 4),
    side=st.sampled_from(STREAMERS),
)
def test_a_stream_is_the_whole_answer_however_it_is_cut(
    pieces: list[str], breaks: int, after: int, side: Streamer
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dspex.lm.retry.FIRST_WAIT", 0.0)
        run, whole = Run(), Run()
        events = side(Piecewise(pieces, breaks=breaks, after=after), ASK, run)
        expected = Piecewise(pieces).generate(ASK, whole)
    response = events[-1]
    broke = min(breaks, breaks if after < len(pieces) else 0)
    assert response.completions == expected.completions
    assert texts(events) == expected.text
    assert sum(isinstance(event, Restart) for event in events) == (broke if after else 0)
    assert (run.usage.calls, run.usage.failed_calls) == (1, broke)
    assert run.usage.total_tokens == whole.usage.total_tokens
    assert (run.usage.cost is None) == (broke > 0)  # who knows what a broken answer is billed


def test_the_mock_streams_words_and_several_completions(stream: Streamer) -> None:
    lm = MockLM([["one two", "three"]])
    events = stream(lm, LMRequest.of("?", n=2))
    assert events[:-1] == [Delta("one "), Delta("two"), Delta("three", "text", 1)]
    assert [one.text for one in events[-1].completions] == ["one two", "three"]
    assert lm.history[-1]["response"] is events[-1]


def test_a_streamed_answer_is_cached_and_a_cached_one_streams(stream: Streamer) -> None:
    lm = MockLM(["Paris it is"], cache=Cache())
    first = stream(lm)
    run = Run()
    again = stream(lm, ASK, run)
    assert lm.generate(ASK).cached
    assert len(lm.calls) == 1
    assert again[-1].cached
    assert texts(again) == texts(first) == "Paris it is"
    assert run.usage == Usage(cached_calls=1, saved_tokens=first[-1].usage.total_tokens)


def test_reasoning_streams_apart(stream: Streamer) -> None:
    class Thinker(BaseLM):
        def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
            return LMResponse((Completion("Paris", reasoning="hmm"),), self.usage(prompt_tokens=1, completion_tokens=1))

    events = stream(Thinker("test/thinker"))
    assert (texts(events, "reasoning"), texts(events)) == ("hmm", "Paris")
    assert LMResponse.from_json(events[-1].to_json()).completions == events[-1].completions


def test_closing_a_stream_ends_the_call_and_counts_it() -> None:
    lm = Piecewise(["a"] * 100, max_concurrency=1)
    run = Run(budget=Budget(calls=5))
    with track_usage() as usage:
        run = Run(budget=Budget(calls=5))
        events = lm.stream(ASK, run)
        assert next(events) == Delta("a")
        events.close()
    assert (run.usage.calls, run.usage.failed_calls, run.usage.cost) == (0, 1, None)
    assert usage.total == run.usage
    assert run.budget is not None
    assert (run.budget.in_flight.calls, run.budget.spent.calls) == (0, 1)
    assert lm.gate is not None
    assert lm.gate.places is not None
    assert lm.gate.places.free == 1


def test_cancelling_or_leaving_an_async_stream_counts_it() -> None:
    async def main() -> None:
        lm = MockLM(["a b c d"], latency=20.0, price=(1.0, 1.0), repeat=True)
        run = Run()

        async def consume() -> None:
            async for _ in lm.astream(ASK, run):
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (run.usage.failed_calls, run.usage.cost) == (1, None)
        quick = Piecewise(["a"] * 100)
        other = Run()
        async for _ in quick.astream(ASK, other):
            break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (other.usage.failed_calls, other.usage.cost) == (1, None)

    asyncio.run(main())


def test_only_waiting_counts_against_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("dspex.lm.driving.time", SimpleNamespace(monotonic=lambda: now[0]))
    lm = MockLM(["a b c d"], timeout=600.0)

    async def main() -> str:
        seen = []
        async for event in lm.astream(ASK):
            now[0] += 1000.0  # the consumer takes its time
            seen.append(event)
        return texts(seen)

    assert asyncio.run(main()) == "a b c d"


def test_a_stream_that_takes_too_long(stream: Streamer) -> None:
    with pytest.raises(LMTimeoutError):
        stream(MockLM(["a b"], latency=9, timeout=0.02, retries=0))
    with pytest.raises((LMTimeoutError, DeadlineExceeded)):
        stream(MockLM(["a b"], latency=9), ASK, Run(deadline=0.02))


def test_a_fallback_takes_over_in_the_middle(stream: Streamer) -> None:
    lm = Piecewise(["from ", "a"], breaks=9, retries=1, fallbacks=[MockLM(["from b"], model="mock/b")])
    events = stream(lm)
    assert texts(events) == "from b" == events[-1].text
    assert events[-1].model == "mock/b"
    assert events[-1].usage.failed_calls == 2
    assert [type(event).__name__ for event in events] == ["Delta", "Restart"] * 2 + ["Delta", "Delta", "LMResponse"]


@pytest.mark.parametrize("on", ["threads", "tasks"])
@pytest.mark.parametrize("then", ["retry", "fallback"])
def test_a_stream_that_is_left_between_two_attempts_counts_only_what_was_sent(on: str, then: str) -> None:
    other = MockLM(["from b"], model="mock/b", max_concurrency=1)
    lm = Piecewise(
        ["from ", "a"], breaks=9, retries=int(then == "retry"), fallbacks=[other], max_concurrency=1, timeout=None
    )
    run = Run(budget=Budget(calls=5))
    if on == "threads":
        events = lm.stream(ASK, run)
        assert [type(next(events)), type(next(events))] == [Delta, Restart]
        events.close()
    else:

        async def main() -> None:
            async with aclosing(lm.astream(ASK, run)) as stream:
                assert [type(await anext(stream)), type(await anext(stream))] == [Delta, Restart]

        asyncio.run(main())
    assert (lm.breaks, other.calls) == (8, [])
    assert (run.usage.calls, run.usage.failed_calls) == (0, 1)
    assert run.budget is not None
    assert (run.budget.in_flight.calls, run.budget.spent.calls) == (0, 1)
    for one in (lm, other):
        assert one.gate is not None
        assert one.gate.places is not None
        assert one.gate.places.free == 1


def test_what_a_fallback_has_in_its_cache_stands_in_for_what_was_shown(stream: Streamer) -> None:
    other = MockLM(["from b"], model="mock/b", cache=Cache())
    other.generate(ASK)
    lm = Piecewise(["from ", "a"], breaks=1, retries=0, fallbacks=[other])
    events = stream(lm)
    assert texts(events) == "from b" == events[-1].text
    assert events[-1].cached


def test_errors_come_out_where_the_stream_is_read(stream: Streamer) -> None:
    with pytest.raises(LMAuthError):
        stream(MockLM(["x"], failures=[LMAuthError]))
