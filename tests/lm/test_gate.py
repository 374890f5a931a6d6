"""What stands before the calls: the pace, the circuit breaker, the places, and the chain of fallbacks."""

from __future__ import annotations

import asyncio
import gc
import math
import pickle
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dspex.data import Usage
from dspex.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    DefinitionError,
    LMAuthError,
    LMBillingError,
    LMCircuitOpenError,
    LMConnectionError,
    LMContentFilterError,
    LMContextWindowError,
    LMError,
    LMRateLimitError,
    LMRequestError,
    LMServerError,
    LMTimeoutError,
)
from dspex.execution import Budget, Run, map_threads, run_many
from dspex.lm import LM, BaseLM, Cache, Completion, LMRequest, LMResponse, MockLM
from dspex.lm.gate import Breaker, Permit, Places, breaker_and_pace
from dspex.lm.pace import TOLERATED, Account, Bucket, Pace, account_of
from tests.interrupts import interrupted
from tests.lm.callers import ASK, Caller

# The pace.


def test_a_provider_is_not_slowed_down_before_it_refuses() -> None:
    bucket = Bucket(now=0.0)
    assert [bucket.take(1.0, now=0.001 * number) for number in range(1000)] == [0.0] * 1000
    assert bucket.rate == math.inf


def simulated(limit: float, seconds: float, *, clients: int = 200) -> tuple[int, int]:
    """Calls answered and refused in the last half of the time, when so many clients always want another."""
    clock = 0.0
    pace = Pace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dspex.lm.pace.time.monotonic", lambda: clock)
        pace.reset()
        level, served, refused = limit, 0, 0
        wake = [(0.0, 0.0, False)] * clients  # when, since when in line, and whether it may be sent then
        while clock < seconds:
            clock += 0.01
            level = min(limit, level + 0.01 * limit)
            for client, (moment, taken, admitted) in enumerate(wake):
                if moment > clock:
                    continue
                if not admitted:
                    wait = pace.take(0.0)
                    if wait > pace.horizon:
                        pace.give_back(0.0)
                    wake[client] = (clock + min(wait, pace.horizon), clock, wait <= pace.horizon)
                    continue
                wake[client] = (clock + 0.05, 0.0, False)
                if level >= 1:
                    level -= 1
                    served += clock > seconds / 2
                    pace.answered(0.0, 0.0)
                else:
                    refused += clock > seconds / 2
                    pace.refused(0.0, taken=taken, retry_after=None)
    return served, refused


@pytest.mark.parametrize("limit", [5.0, 50.0])
def test_the_pace_finds_a_limit_that_is_not_told(limit: float) -> None:
    served, refused = simulated(limit, 120.0)
    assert served > 0.7 * limit * 60
    assert refused < 2 * TOLERATED * (served + refused)


def test_a_refusal_now_and_then_slows_nobody_down() -> None:
    pace = Pace()
    for number in range(2000):
        pace.take(10.0)
        if number % 12 == 11:
            pace.refused(10.0, taken=time.monotonic(), retry_after=None)
        else:
            pace.answered(10.0, 10.0)
    assert pace.requests.rate == math.inf


def test_a_single_refusal_early_on_is_no_limit_met() -> None:
    pace = Pace()
    for refused in [False] * 5 + [True] + [False] * 5 + [True]:
        pace.take(10.0)
        if refused:
            pace.refused(10.0, taken=time.monotonic(), retry_after=None)
        else:
            pace.answered(10.0, 10.0)
    assert pace.requests.rate == math.inf


def test_what_was_on_its_way_at_a_refusal_does_not_count_again() -> None:
    pace = Pace()
    taken = time.monotonic()
    for _ in range(100):
        pace.take(0.0)
    for _ in range(20):
        pace.refused(0.0, taken=taken, retry_after=None)
    once = pace.requests.rate
    for _ in range(80):
        pace.refused(0.0, taken=taken, retry_after=None)
    assert pace.requests.rate == once < math.inf


def test_a_wish_to_be_left_alone_holds_for_all() -> None:
    pace = Pace()
    pace.take(1.0)
    pace.refused(1.0, taken=time.monotonic(), retry_after=30.0)
    assert 10 < pace.take(1.0) <= 30
    assert 10 < pace.held() <= 30


def test_what_the_provider_says_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.lm.pace.time", SimpleNamespace(monotonic=lambda: 100.0))
    pace = Pace()
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "58s",
        "x-ratelimit-limit-tokens": "100000",
        "x-ratelimit-remaining-tokens": "1000",
        "x-ratelimit-reset-tokens": "59.4s",
    }
    pace.listen(headers)
    assert pace.requests.rate == pytest.approx(1.0)
    assert [round(pace.take(10.0), 1) for _ in range(4)] == [0, 0, 1, 2]
    pace.listen(headers)  # four are on their way, which the provider does not know yet
    assert pace.take(0.0) == pytest.approx(3.0, abs=0.05)
    assert pace.take(6000.0) == pytest.approx(4.0, abs=0.2)
    tokens = pace.tokens
    assert tokens.rate == pytest.approx(99_000 / 59.4)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1h2m3s", 3723.0), ("6m0s", 360.0), ("120ms", 0.12), ("1.5s", 1.5), ("3", 3.0), ("", None)]
)
def test_durations(text: str, seconds: float | None) -> None:
    headers = {f"x-ratelimit-{name}-requests": "9" for name in ("limit", "remaining")}
    assert account_of({**headers, "x-ratelimit-reset-requests": text}, "requests") == Account(9, 9, seconds)


def test_moments_and_nonsense() -> None:
    headers = {f"anthropic-ratelimit-tokens-{name}": "9" for name in ("limit", "remaining")}
    past = account_of({**headers, "anthropic-ratelimit-tokens-reset": "2020-01-01T00:00:00Z"}, "tokens")
    assert past == Account(9, 9, 0.0)
    assert account_of({**headers, "anthropic-ratelimit-tokens-reset": "soon"}, "tokens") == Account(9, 9, None)
    assert account_of({**headers, "anthropic-ratelimit-tokens-limit": "many"}, "tokens") is None
    assert account_of({}, "tokens") is None


def test_accounts_are_shared_by_name_and_key_and_the_key_is_not_kept() -> None:
    one = LM("openai/gpt-shared", api_key="sk-canary-account-1")
    twin, other = LM("openai/gpt-shared", api_key="sk-canary-account-1"), LM("openai/gpt-shared", api_key="sk-2")
    assert one.gate is not None
    assert twin.gate is not None
    assert other.gate is not None
    assert one.gate.pace is twin.gate.pace is one.copy(temperature=1.0).gate.pace  # type: ignore[union-attr]
    assert one.gate.breaker is twin.gate.breaker
    assert one.gate.pace is not other.gate.pace
    assert "sk-canary-account-1" not in repr(vars(__import__("dspex.lm.gate", fromlist=["x"])))


class Refusing(BaseLM):
    """Refuses what is more than ``limit`` a second."""

    def __init__(self, limit: float, **options: Any) -> None:
        super().__init__("test/refusing", breaker=100, retries=50, **options)
        self.limit = limit
        self.level = limit
        self.at = time.monotonic()
        self.lock = threading.Lock()
        self.refused = 0

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        with self.lock:
            now = time.monotonic()
            self.level = min(self.limit, self.level + (now - self.at) * self.limit)
            self.at = now
            if self.level < 1:
                self.refused += 1
                raise LMRateLimitError("slow down", model=self.model)
            self.level -= 1
        return LMResponse((Completion("x"),), self.usage(prompt_tokens=1, completion_tokens=1), self.model)


def test_many_threads_keep_to_a_limit_that_they_learn() -> None:
    lm = Refusing(100.0)
    map_threads(lambda number: lm(str(number)), range(300), concurrency=32)
    assert lm.gate is not None
    assert lm.gate.pace.requests.rate < 300
    assert lm.refused < 400


# The circuit breaker.


class Switch(BaseLM):
    """Fails until it is switched on."""

    def __init__(self, error: type[Exception] = LMServerError, **options: Any) -> None:
        super().__init__("test/switch", **{"retries": 0, "breaker": 3, **options})
        self.error: type[Exception] | None = error
        self.asked = 0

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        self.asked += 1
        if self.error is not None:
            raise self.error("out of order")
        return LMResponse((Completion("x"),), self.usage(prompt_tokens=1, completion_tokens=1), self.model)


def test_a_model_that_fails_in_a_row_is_left_alone(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.lm.gate.FIRST_COOLDOWN", 20.0)
    lm = Switch()
    assert lm.gate is not None
    breaker = lm.gate.breaker
    for _ in range(3):
        with pytest.raises(LMServerError):
            call(lm)
    run = Run()
    with pytest.raises(
        LMCircuitOpenError, match=r"test/switch failed 3 times in a row .* may try in \d+.* s"
    ) as caught:
        call(lm, ASK, run)
    assert 0 < (caught.value.retry_after or 0) <= 20
    assert (lm.asked, run.usage) == (3, Usage())
    breaker._next_try = 0.0  # as if the time had passed
    with pytest.raises(LMServerError):
        call(lm)  # the probe
    with pytest.raises(LMCircuitOpenError) as caught:
        call(lm)
    assert 20 < (caught.value.retry_after or 0) <= 40  # twice as long
    assert lm.asked == 4
    breaker._next_try = 0.0
    lm.error = None
    assert call(lm).text == call(lm).text == "x"


def test_one_probe_at_a_time() -> None:
    breaker = Breaker()
    breaker._cooldown = 0.0
    for _ in range(3):
        breaker.failed(3)
    breaker._next_try = 0.0
    assert breaker.closed_for(3) == 0.0
    assert breaker.closed_for(3) > 0.0
    breaker.failed(3)
    assert breaker.closed_for(3) > 5.0  # what fails as the probe doubles the wait
    before = breaker._next_try
    breaker.failed(3)
    assert breaker._next_try == before  # what was on its way does not
    assert breaker.closed_for(10) == 0.0  # somebody more patient


@pytest.mark.parametrize("error", [LMRateLimitError, LMAuthError, LMRequestError, LMContentFilterError])
def test_a_refusal_is_a_sign_of_life(error: type[Exception]) -> None:
    lm = Switch(error)
    for _ in range(10):
        with pytest.raises(error):
            lm("?")
    assert lm.asked == 10


@pytest.mark.parametrize("error", [LMConnectionError, LMTimeoutError, ConnectionError])
def test_failures_of_the_world_open_the_circuit(error: type[Exception]) -> None:
    lm = Switch(error)
    for _ in range(3):
        with pytest.raises(LMError):
            lm("?")
    with pytest.raises(LMCircuitOpenError):
        lm("?")
    assert Switch(error, breaker=None).gate is None


def test_a_deadline_of_the_callers_own_opens_no_circuit(call: Caller) -> None:
    lm = MockLM(["x"], latency=9, breaker=2, retries=0)
    while len(lm.calls) < 4:  # on a machine that stalls the time may be up before the call
        with pytest.raises((LMTimeoutError, DeadlineExceeded)):
            call(lm, ASK, Run(deadline=0.02))


# Places.


@pytest.mark.parametrize("side", ["threads", "tasks"])
def test_so_many_at_once_and_no_more(side: str) -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def answer(messages: Any) -> str:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.002)
        with lock:
            busy -= 1
        return "x"

    class Busy(BaseLM):
        def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
            return LMResponse((Completion(answer(None)),), self.usage(prompt_tokens=1, completion_tokens=1))

    lm = Busy("test/busy", max_concurrency=3)
    copy = lm.copy(temperature=0.5)

    def ask(number: int) -> None:
        (lm if number % 2 else copy)(str(number))

    async def aask(number: int) -> None:
        await (lm if number % 2 else copy).acall(str(number))

    outcomes = run_many(aask if side == "tasks" else ask, range(90), concurrency=30)
    assert all(outcome.ok for outcome in outcomes)
    assert most == 3
    assert lm._places is not None
    assert lm._places.free == 3


def test_a_place_comes_back_however_the_call_ends() -> None:
    lm = MockLM(["x"], repeat=True, max_concurrency=1, failures=[LMAuthError, LMServerError], latency=0.01)
    with pytest.raises(LMAuthError):
        lm("?")
    assert lm("?") == ["x"]
    with pytest.raises(BudgetExceeded):
        lm.generate(ASK, Run(budget=Budget(tokens=1)))
    assert lm("?") == ["x"]

    async def main() -> None:
        slow = lm.copy()
        slow._latency = 9.0  # type: ignore[attr-defined]
        tasks = [asyncio.create_task(slow.agenerate(ASK)) for _ in range(5)]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert lm("?") == ["x"]
    stream = lm.stream(ASK)
    next(stream)
    stream.close()
    gc.collect()
    assert lm._places is not None
    assert lm._places.free == 1


def test_waiting_for_a_place_ends_with_the_time_there_is(call: Caller) -> None:
    lm = MockLM(["x"], repeat=True, max_concurrency=1, deadline=0.05)
    assert lm._places is not None
    other = Permit()
    lm._places.take(other)
    with pytest.raises(LMTimeoutError, match=r"none of its 1 places \(max_concurrency\) was free") as caught:
        call(lm)
    assert not caught.value.billed
    with pytest.raises(DeadlineExceeded):
        call(lm.copy(), ASK, Run(deadline=0.02))
    lm._places.leave(other)
    lm.deadline = None
    assert call(lm).text == "x"


def test_a_blocking_call_that_waits_for_its_own_event_loop_says_so() -> None:
    lm = MockLM(["x"], repeat=True, max_concurrency=1)

    async def main() -> None:
        assert lm._places is not None
        lm._places.take(Permit())  # as a task of this loop does, which cannot end while this thread is blocked
        with (
            pytest.warns(RuntimeWarning, match=r"on the thread of an event loop.*await program\.acall"),
            pytest.raises(DeadlineExceeded),
        ):
            lm.generate(ASK, Run(deadline=0.02))

    asyncio.run(main())


def test_cancelling_a_run_ends_its_wait_for_a_place() -> None:
    lm = MockLM(["x"], max_concurrency=1)
    assert lm._places is not None
    lm._places.take(Permit())
    run = Run()
    threading.Timer(0.05, run.cancel).start()
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        lm.generate(ASK, run)
    assert not lm.calls


def test_places_are_given_in_order_and_not_to_those_who_left() -> None:
    places = Places(1)
    permits = [Permit() for _ in range(5)]
    holder, first, second, third, fourth = permits
    assert places.take(holder) is None
    waiting = [places.take(permit) for permit in permits[1:]]

    def given() -> list[bool]:
        return [place is not None and place.done() for place in waiting]

    places.leave(first)
    assert given() == [False] * 4
    places.leave(holder)
    places.leave(holder)  # once more changes nothing
    assert given() == [False, True, False, False]
    places.leave(second)
    assert given() == [False, True, True, False]
    place = waiting[3]
    assert place is not None
    place.cancel()  # it was cancelled, and has not left yet
    places.leave(third)
    assert places.free == 0
    places.leave(fourth)
    assert places.free == 1


def test_who_leaves_while_places_are_given_passes_his_on() -> None:
    places = Places(1)
    holder, first, second, third = (Permit() for _ in range(4))
    assert places.take(holder) is None
    waiting = [places.take(permit) for permit in (first, second, third)]
    assert waiting[0] is not None
    waiting[0].add_done_callback(lambda _: places.leave(first))
    places.leave(holder)
    assert [place is not None and place.done() for place in waiting] == [True, True, False]
    places.leave(second)
    places.leave(third)
    assert places.free == 1


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from(["take", "leave"]), st.integers(0, 5))))
def test_no_place_is_lost_or_given_twice(number: int, steps: list[tuple[str, int]]) -> None:
    places, permits = Places(number), [Permit() for _ in range(6)]
    line: list[int] = []  # who has asked and not left, in order: the first ``number`` have places
    told: dict[int, Any] = {}
    for step, who in steps:
        if step == "leave":
            places.leave(permits[who])
            line = [one for one in line if one != who]
        elif who not in line:
            told[who] = places.take(permits[who])
            line.append(who)
        has = {one for one in line if told[one] is None or told[one].done()}
        assert has == set(line[:number])
        assert places.free == number - len(has)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("streams", [False, True])
def test_an_interrupt_between_two_steps_loses_no_place(streams: bool, fails: bool) -> None:
    lm = MockLM(["x"], repeat=True, max_concurrency=1, retries=0, failures=1.0 if fails else 0.0)
    assert lm._places is not None

    def call() -> None:
        with suppress(LMServerError):
            list(lm.stream(ASK)) if streams else lm.generate(ASK)

    lines = 1
    gc.freeze()  # what other tests left is not looked at hundreds of times
    try:
        while interrupted(lines, call, ("lm",)):
            if streams:
                gc.collect()  # one that was cut off
            assert lm._places.free == 1
            lines += 1
    finally:
        gc.unfreeze()
    assert lines > 50


def test_pickled_models_have_gates_of_their_own() -> None:
    lm = MockLM(["x"], max_concurrency=2, breaker=5)
    twin = pickle.loads(pickle.dumps(lm))
    assert twin.gate is not None
    assert twin.gate.places is not None
    assert (twin.gate.places.number, twin.gate.threshold) == (2, 5)
    assert twin.gate.places is not lm.gate.places  # type: ignore[union-attr]


# Deadlines.


def test_a_deadline_holds_for_all_attempts_together(call: Caller) -> None:
    lm = MockLM(["x"], latency=0.08, timeout=0.03, retries=100, deadline=0.2)
    run = Run()
    with pytest.raises(LMTimeoutError):
        call(lm, ASK, run)
    assert 1 <= run.usage.failed_calls == len(lm.calls) < 20


def test_a_deadline_includes_the_fallbacks(call: Caller) -> None:
    last = MockLM(["x"], latency=9)
    lm = MockLM(["x"], latency=9, timeout=0.05, retries=0, deadline=0.1, fallbacks=[last])
    with pytest.raises(LMTimeoutError):
        call(lm)
    assert len(last.calls) <= 1


# Fallbacks.


@pytest.mark.parametrize(
    "error",
    [
        LMRateLimitError,
        LMServerError,
        LMConnectionError,
        LMTimeoutError,
        LMContextWindowError,
        LMAuthError,
        LMBillingError,
    ],
)
def test_another_model_answers_when_this_one_cannot(call: Caller, error: type[LMError]) -> None:
    second = MockLM(["from b"], model="mock/b", price=(2.0, 2.0))
    lm = MockLM(["from a"], model="mock/a", failures=1.0, retries=1, price=(1.0, 1.0), fallbacks=[second])
    lm._failure = lambda number: error("no")
    run = Run()
    response = call(lm, ASK, run)
    tries = 2 if error.retryable else 1
    assert (response.text, response.model, len(lm.calls)) == ("from b", "mock/b", tries)
    assert (response.usage.calls, response.usage.failed_calls) == (1, tries)
    assert run.usage == response.usage
    assert lm.history[-1]["model"] == "mock/b"
    assert second.history[-1]["model"] == "mock/b"


@pytest.mark.parametrize("error", [LMRequestError, LMContentFilterError, ValueError])
def test_what_no_other_model_would_mend_is_raised(call: Caller, error: type[Exception]) -> None:
    second = MockLM(["from b"])
    with pytest.raises(error):
        call(MockLM(["x"], failures=[error], fallbacks=[second]))
    assert not second.calls


def test_what_failing_fallbacks_took_is_in_the_answers_usage(call: Caller) -> None:
    def failing(name: str, **options: Any) -> MockLM:
        lm = MockLM(["x"], model=name, failures=1.0, price=(1.0, 1.0), **options)
        lm._failure = lambda number: LMServerError("no", billed=True)
        return lm

    last = MockLM(["from d"], model="mock/d", price=(2.0, 2.0))
    between = [failing("mock/b", retries=0, fallbacks=[failing("mock/c", retries=2)]), last]
    lm = failing("mock/a", retries=1, fallbacks=between)
    run = Run()
    response = call(lm, ASK, run)
    assert (response.text, response.usage.calls, response.usage.failed_calls) == ("from d", 1, 6)
    assert run.usage == response.usage
    with pytest.raises(LMServerError) as caught:
        call(failing("mock/b", retries=0, fallbacks=[failing("mock/c", retries=2)]), ASK)
    assert caught.value.spent.failed_calls == pickle.loads(pickle.dumps(caught.value)).spent.failed_calls == 4


def test_when_all_fail_the_first_says_so_with_the_others_notes(call: Caller) -> None:
    lm = MockLM(
        ["x"],
        failures=[LMAuthError("no key")],
        fallbacks=[
            MockLM(["x"], model="mock/b", failures=[LMBillingError("empty")]),
            MockLM(["x"], model="mock/c", failures=[LMRequestError("bad")]),
        ],
    )
    with pytest.raises(LMAuthError, match="no key") as caught:
        call(lm)
    assert caught.value.__notes__ == ["fallback mock/b: LMBillingError: empty", "fallback mock/c: LMRequestError: bad"]


def test_an_answer_is_cached_as_the_models_that_gave_it(call: Caller) -> None:
    cache = Cache()
    second = MockLM(["from b"], model="mock/b", cache=cache)
    lm = MockLM(["from a"], model="mock/a", failures=[LMAuthError], fallbacks=[second], cache=cache)
    assert call(lm).text == "from b"
    assert cache.get(second.key(ASK)) is not None
    assert cache.get(lm.key(ASK)) is None
    assert call(lm).text == "from a"  # which is asked first again
    assert call(second).cached


def test_a_circuit_that_is_open_falls_back_at_once(call: Caller) -> None:
    lm = Switch(breaker=1, fallbacks=[MockLM({"": "from b"})])
    assert call(lm).text == call(lm).text == "from b"
    assert lm.asked == 1


def test_a_fallback_is_not_held_to_a_schema_it_cannot_keep(call: Caller) -> None:
    plain = MockLM({"": "x"}, capabilities=())
    held = MockLM({"": "x"})
    schema = {"type": "object"}
    for second in (plain, held):
        call(MockLM(["x"], failures=[LMAuthError], fallbacks=[second]), ASK.replace(schema=schema))
    assert (plain.calls[0].schema, held.calls[0].schema) == (None, schema)


def test_names_and_lists_of_fallbacks() -> None:
    lm = LM("openai/a", fallbacks=["openai/b", MockLM(["x"])])
    assert [other.model for other in lm.fallbacks] == ["openai/b", "mock/mock"]
    twin = BaseLM.from_json(lm.to_json())
    assert [other.model for other in twin.fallbacks] == ["openai/b", "mock/mock"]
    with pytest.raises(DefinitionError, match=r"fallbacks must be models, not 3 \(int\)"):
        MockLM(["x"], fallbacks=[3])  # type: ignore[list-item]
    for name in ("max_concurrency", "breaker"):
        with pytest.raises(DefinitionError, match=f"{name} must be a whole number, 1 or more, or None, not 0"):
            MockLM(["x"], **{name: 0})
    with pytest.raises(DefinitionError, match="deadline must be more than 0"):
        LM("openai/a", deadline=0)


def test_pickled_and_shared_accounts_know_nothing_in_a_new_process() -> None:
    breaker, pace = breaker_and_pace(("test/fork",))
    breaker.failed(1)
    pace.refused(0.0, taken=time.monotonic(), retry_after=20.0)
    breaker.reset()
    pace.reset()
    assert breaker.closed_for(1) == 0.0
    assert pace.take(1.0) == 0.0
