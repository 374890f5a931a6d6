"""What every model does around a call: deadlines, retries, accounts, the budget; the same on both sides."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from dspex.data import Usage
from dspex.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    DefinitionError,
    LMAuthError,
    LMConnectionError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
)
from dspex.execution import Activation, Budget, Run, context, map_async, run_many
from dspex.lm import BaseLM, Completion, LMRequest, LMResponse, MockLM, inspect_history, lm_named, register_lm
from dspex.lm.retry import LONGEST_WAIT, wait_before_retry
from tests.lm.callers import ASK, Caller


class Plain(BaseLM):
    """A backend that implements as little as it can."""

    def __init__(self, behave: Callable[[], str], **options: Any) -> None:
        super().__init__("plain/plain", **options)
        self.behave = behave
        self.timeouts: list[float | None] = []

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        self.timeouts.append(timeout)
        return LMResponse((Completion(self.behave()),), self.usage(prompt_tokens=1, completion_tokens=1), self.model)


def test_retries_are_counted_in_the_run_and_in_the_response(call: Caller) -> None:
    lm = MockLM(["x"], failures=[LMServerError, LMRateLimitError], price=(1.0, 1.0))
    run = Run()
    response = call(lm, ASK, run)
    assert (response.usage.calls, response.usage.failed_calls, response.usage.cost) == (1, 2, response.usage.cost)
    assert response.usage.cost == pytest.approx((5 + 1) / 1e6)
    assert run.usage == response.usage
    assert len(lm.calls) == 3


def test_an_error_that_no_retry_helps_is_raised_at_once(call: Caller) -> None:
    lm = MockLM(["x"], failures=[LMAuthError])
    run = Run()
    with pytest.raises(LMAuthError):
        call(lm, ASK, run)
    assert len(lm.calls) == 1
    assert run.usage == Usage(failed_calls=1)


def test_retries_end(call: Caller) -> None:
    lm = MockLM(["x"], failures=1.0, retries=2)
    with pytest.raises(LMServerError):
        call(lm)
    assert len(lm.calls) == 3


def test_a_timed_out_call_may_be_billed(call: Caller) -> None:
    run = Run()
    with pytest.raises(LMTimeoutError):
        call(MockLM(["x"], latency=9, timeout=0.01, retries=0, price=(1.0, 1.0)), ASK, run)
    assert (run.usage.failed_calls, run.usage.cost) == (1, None)
    free = Run()
    with pytest.raises(LMTimeoutError):
        call(MockLM(["x"], latency=9, timeout=0.01, retries=0), ASK, free)
    assert free.usage.cost == 0.0


def test_other_errors_of_a_backend_pass_through_and_are_counted(call: Caller) -> None:
    def fail() -> str:
        raise ZeroDivisionError("mine")

    run = Run()
    with pytest.raises(ZeroDivisionError, match="mine"):
        call(Plain(fail), ASK, run)
    assert (run.usage.failed_calls, run.usage.cost) == (1, None)


@pytest.mark.parametrize(
    ("raised", "kind"), [(TimeoutError("slow"), LMTimeoutError), (ConnectionResetError("gone"), LMConnectionError)]
)
def test_built_in_errors_of_a_transport_are_typed_and_retried(
    call: Caller, raised: Exception, kind: type[Exception]
) -> None:
    seen = 0

    def fail() -> str:
        nonlocal seen
        seen += 1
        raise raised

    with pytest.raises(kind, match=f"plain/plain .*{raised}") as caught:
        call(Plain(fail, retries=1))
    assert seen == 2
    assert caught.value.__cause__ is raised


def test_a_backend_without_async_is_awaited_on_a_thread() -> None:
    lm = Plain(lambda: str(threading.current_thread() is threading.main_thread()))
    assert lm("?") == ["True"]
    assert asyncio.run(lm.acall("?")) == ["False"]


def test_awaiting_ends_at_the_timeout_whatever_the_backend_does() -> None:
    released = threading.Event()
    lm = Plain(lambda: str(released.wait(60)), timeout=0.05, retries=0)
    with pytest.raises(LMTimeoutError, match=r"plain/plain did not answer in 0\.05 s"):
        asyncio.run(lm.acall("?"))
    released.set()


def test_the_deadline_shortens_the_timeout(call: Caller) -> None:
    lm = Plain(lambda: "x", timeout=5000)
    call(lm)
    call(lm, ASK, Run(deadline=2000))
    call(lm, ASK, Run(budget=Budget(seconds=1000)))
    call(lm, ASK, Run(deadline=100_000))
    assert [math.ceil((timeout or 0) / 1000) for timeout in lm.timeouts] == [5, 2, 1, 5]
    unlimited = Plain(lambda: "x", timeout=None)
    call(unlimited)
    assert unlimited.timeouts == [None]


def test_a_run_that_is_over_makes_no_call(call: Caller) -> None:
    lm = MockLM(["x"], cache=True)
    run = Run()
    run.cancel("abandoned")
    with pytest.raises(DeadlineExceeded, match="abandoned"):
        call(lm, ASK, run)
    assert lm.calls == []
    assert not run.usage


def test_a_deadline_in_the_middle_of_a_call_is_the_reason_given(call: Caller) -> None:
    lm = MockLM(["x"], latency=9)
    while not lm.calls:  # on a machine that stalls the time may be up before the call
        run = Run(deadline=0.05)
        with pytest.raises((DeadlineExceeded, LMTimeoutError)):
            call(lm, ASK, run)
    assert run.usage.failed_calls == 1


def test_cancelling_a_run_ends_its_wait_for_a_retry() -> None:
    run = Run()

    def refuse(_: int) -> LMRateLimitError:
        threading.Timer(0.05, run.cancel).start()
        return LMRateLimitError("later", retry_after=30.0)

    lm = MockLM(["x"], failures=refuse)
    with pytest.raises(DeadlineExceeded, match="the run was cancelled"):
        lm.generate(ASK, run)
    assert len(lm.calls) == 1


def test_an_abandoned_thread_makes_no_further_call() -> None:
    lm = MockLM(["x"], repeat=True)
    cancelled, gone = threading.Event(), threading.Event()

    def work(run: Run) -> None:
        try:
            lm.generate(ASK, run)
            assert cancelled.wait(60)
            lm.generate(ASK, run)
        finally:
            gone.set()

    def cancel(run: Run, why: str) -> None:
        run.cancel(why)
        cancelled.set()

    (outcome,) = run_many(work, [Run()], deadline=3.0, cancel=cancel)
    assert isinstance(outcome.error, DeadlineExceeded)
    assert gone.wait(60)
    assert len(lm.calls) == 1


def test_cancelling_a_task_counts_the_call_as_unknown() -> None:
    lm = MockLM(["x"], latency=30, price=(1.0, 1.0))
    run = Run(budget=Budget(calls=5, tokens=100_000))

    async def main() -> None:
        task = asyncio.create_task(lm.agenerate(ASK, run))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (run.usage.failed_calls, run.usage.cost) == (1, None)
    assert run.budget is not None
    assert run.budget.in_flight.calls == 0
    assert run.budget.spent.calls == 1
    assert run.budget.spent.tokens == lm.estimate(ASK).total_tokens


def test_a_call_outside_of_any_run_joins_the_one_that_is_going_on(call: Caller) -> None:
    run = Run()
    with Activation(run):
        call(MockLM(["x"]))
        assert MockLM(["y"])("?") == ["y"]
    assert run.usage.calls == 2
    other = Run()
    with Activation(run):
        call(MockLM(["x"]), ASK, other)
    assert (run.usage.calls, other.usage.calls) == (2, 1)


def test_the_seed_of_a_run_goes_to_the_model_and_into_the_key(call: Caller) -> None:
    lm = MockLM(lambda messages, seed=None: str(seed), cache=True)
    assert [call(lm, ASK, Run(seed=seed)).text for seed in (1, 2, 1, None)] == ["1", "2", "1", "None"]
    assert len(lm.calls) == 3
    assert call(lm, ASK.replace(params={"seed": 7}), Run(seed=1)).text == "7"
    assert call(MockLM(lambda messages, seed=None: str(seed), seed=5), ASK, Run(seed=1)).text == "1"
    assert call(lm.copy(seed=5), ASK, Run(seed=1)).text == "5"


def test_the_configured_budget_counts_bare_calls(call: Caller) -> None:
    lm = MockLM(["x"], repeat=True)
    with context(budget=Budget(calls=2)):
        call(lm)
        call(lm)
        with pytest.raises(BudgetExceeded, match=r"Budget\(calls=2\): 2 of 2 calls are used"):
            call(lm)
    assert len(lm.calls) == 2


def test_failed_attempts_use_up_calls(call: Caller) -> None:
    lm = MockLM(["x"], failures=1.0, retries=10)
    run = Run(budget=Budget(calls=3))
    with pytest.raises(BudgetExceeded):
        call(lm, ASK, run)
    assert len(lm.calls) == 3


def test_cached_answers_use_up_nothing(call: Caller) -> None:
    lm = MockLM(["x"], cache=True, price=(1.0, 1.0))
    run = Run(budget=Budget(calls=1))
    first = call(lm, ASK, run)
    for _ in range(3):
        call(lm, ASK, run)
    assert run.usage == Usage(
        calls=1,
        cached_calls=3,
        prompt_tokens=first.usage.prompt_tokens,
        completion_tokens=1,
        cost=first.usage.cost,
        saved_cost=3 * (first.usage.cost or 0),
        saved_tokens=3 * first.usage.total_tokens,
    )


def test_an_unknown_cost_stays_unknown_when_it_is_saved() -> None:
    lm = MockLM(["x"], cache=True, price=None)
    lm("?")
    usage = lm.generate(LMRequest.of("?")).usage
    assert (usage.cost, usage.saved_cost) == (0.0, None)


def test_what_a_caller_does_to_its_usage_does_not_reach_the_cache() -> None:
    lm = MockLM(["x"], cache=True, price=(1.0, 1.0))
    response = lm.generate(ASK)
    cost, tokens = response.usage.cost, response.usage.total_tokens
    response.usage.add(Usage(calls=100, cost=5.0))
    again = lm.generate(ASK)
    again.usage.add(Usage(calls=100, cost=5.0))
    assert lm.generate(ASK).usage == Usage(cached_calls=1, saved_cost=cost, saved_tokens=tokens)


def test_waits_grow_and_keep_to_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.lm.retry.FIRST_WAIT", 0.5)
    error = LMServerError("x")
    waits = [[wait_before_retry(error, attempt, retries=99, left=None) or 0 for _ in range(50)] for attempt in range(9)]
    for attempt, several in enumerate(waits):
        top = min(0.5 * 2**attempt, LONGEST_WAIT)
        assert 0 <= min(several) < 0.4 * top < 0.6 * top < max(several) <= top
    assert wait_before_retry(error, 3, retries=3, left=None) is None
    assert wait_before_retry(error, 0, retries=3, left=0.0) is None
    wished = LMRateLimitError("x", retry_after=10.0)
    assert 10 <= (wait_before_retry(wished, 0, retries=3, left=None) or 0) <= 12.5
    assert wait_before_retry(wished, 0, retries=3, left=5) is None
    assert wait_before_retry(LMRateLimitError("x", retry_after=61.0), 0, retries=3, left=None) is None


def test_history() -> None:
    lm = MockLM({"a": "A", "b": "B"})
    lm(messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "a"}])
    asyncio.run(lm.acall("b"))
    assert [call["outputs"] for call in lm.history] == [["A"], ["B"]]
    last = lm.history[-1]
    assert last["messages"] == [{"role": "user", "content": "b"}]
    assert (last["model"], last["kwargs"], last["cost"], last["usage"].calls) == ("mock/mock", {}, 0.0, 1)
    assert lm.inspect_history(2) == (
        "[system]\ns\n[user]\na\n[answer of mock/mock: 1 call, 2 tokens, $0]\nA\n\n"
        "[user]\nb\n[answer of mock/mock: 1 call, 2 tokens, $0]\nB"
    )
    assert repr(lm.inspect_history()) == "[user]\nb\n[answer of mock/mock: 1 call, 2 tokens, $0]\nB"
    assert inspect_history(1) == lm.inspect_history(1)
    assert MockLM(["x"]).inspect_history() == "no calls yet"
    assert lm.inspect_history(0) == inspect_history(0) == "no calls yet"
    for wrong in (-1, None, "all"):
        with pytest.raises(DefinitionError, match="n must be how many calls to show"):
            lm.inspect_history(wrong)  # type: ignore[arg-type]  # that is the test
    many = MockLM(["x"], repeat=True)
    for _ in range(100):
        many("?")
    assert len(many.history) == 64


def test_models_by_name() -> None:
    lm = MockLM(["registered"], model="mock/registered-one")
    assert register_lm(lm) is lm
    assert lm_named("mock/registered-one") is lm
    other = MockLM(["other"])
    register_lm(other, name="mock/registered-one")
    assert lm_named("mock/registered-one") is other
    configured = MockLM(["configured"], model="openai/not-registered")
    with context(lm=configured):
        assert lm_named("openai/not-registered") is configured
    assert lm_named("openai/not-registered") is not configured
    assert lm_named("openai/not-registered") is lm_named("openai/not-registered")
    with pytest.raises(
        TypeError, match=r"no model is registered as 'nonsense'.*\n.*\"openai/nonsense\".*\n.*register_lm"
    ):
        lm_named("nonsense")
    with pytest.raises(TypeError, match=r"lm must be a model, not 'x' \(str\)"):
        register_lm("x")  # type: ignore[arg-type]  # the point


# The cap.


@pytest.mark.parametrize("side", ["threads", "tasks"])
@pytest.mark.parametrize(
    ("limits", "failures"),
    [
        ({"calls": 37}, ()),
        ({"calls": 37}, 0.3),
        ({"tokens": 5_000}, ()),
        ({"usd": 0.02}, 0.2),
        ({"usd": 0.03, "tokens": 9_000, "calls": 150}, 0.1),
    ],
)
def test_the_cap_holds_at_concurrency_64(side: str, limits: dict[str, Any], failures: Any) -> None:
    budget = Budget(**limits)
    run = Run(budget=budget)
    served: list[Usage] = []
    lock = threading.Lock()
    over: list[Any] = []

    def answer(messages: list[dict[str, Any]], **params: Any) -> str:
        number = int(messages[-1]["content"])
        used, held = budget.spent, budget.in_flight  # in this order: a call that ends in between is in neither
        for name, limit in limits.items():
            if getattr(held, name) + getattr(used, name) > limit + 1e-12:
                over.append((name, held, used))
        return "x" * (number * 37 % 400)

    lm = MockLM(
        answer,
        latency=lambda: 0.001,
        failures=failures,
        price=(2.0, 8.0),
        max_tokens=120,
        retries=2,
    )

    def ask(number: int) -> None:
        response = lm.generate(LMRequest.of(str(number)), run)
        with lock:
            served.append(response.usage)

    async def aask(number: int) -> None:
        served.append((await lm.agenerate(LMRequest.of(str(number)), run)).usage)

    outcomes = run_many(aask if side == "tasks" else ask, range(400), concurrency=64)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert over == []
    assert any(isinstance(error, BudgetExceeded) for error in errors)
    assert all(isinstance(error, (BudgetExceeded, LMServerError)) for error in errors)
    assert len(lm.calls) <= limits.get("calls", 10**9)
    assert run.usage.total_tokens <= limits.get("tokens", 10**9)
    assert run.usage.cost is not None
    assert run.usage.cost <= limits.get("usd", 10**9)
    # Nothing stays held, and nothing is counted twice or lost.
    assert budget.in_flight.calls == 0
    assert budget.spent.calls == len(lm.calls) == run.usage.calls + run.usage.failed_calls
    assert budget.spent.tokens == run.usage.total_tokens
    assert budget.spent.usd == pytest.approx(run.usage.cost)
    assert sum(usage.calls for usage in served) == run.usage.calls
    # And most of it was used: what is left is less than the bound of one call.
    left = budget.remaining()
    bound = lm.estimate(LMRequest.of("399"))
    assert (
        (left.calls is not None and left.calls < 1)
        or (left.tokens is not None and left.tokens < bound.total_tokens)
        or (left.usd is not None and left.usd < (bound.cost or 0))
    )


@settings(max_examples=40, deadline=None)
@given(
    calls=st.none() | st.integers(1, 80),
    tokens=st.none() | st.integers(1, 20_000),
    usd=st.none() | st.floats(1e-5, 0.05),
    lengths=st.lists(st.integers(0, 900), min_size=64, max_size=160),
    share=st.sampled_from([0.0, 0.2, 0.9]),
    concurrency=st.sampled_from([1, 7, 64]),
)
def test_no_mix_of_calls_passes_any_cap(
    calls: int | None, tokens: int | None, usd: float | None, lengths: list[int], share: float, concurrency: int
) -> None:
    limits = {"calls": calls, "tokens": tokens, "usd": usd}
    run = Run(budget=Budget(**limits) if any(limits.values()) else None)
    lm = MockLM(
        lambda messages: "x" * lengths[int(messages[-1]["content"])],
        latency=lambda: 0.0005,
        failures=share,
        price=(2.0, 8.0),
        max_tokens=200,
        retries=1,
    )

    async def ask(number: int) -> None:
        await lm.agenerate(LMRequest.of(str(number)), run)

    outcomes = run_many(ask, range(len(lengths)), concurrency=concurrency)
    assert all(isinstance(one.error, (BudgetExceeded, LMServerError, type(None))) for one in outcomes)
    assert len(lm.calls) == run.usage.calls + run.usage.failed_calls
    assert run.usage.cost is not None
    assert len(lm.calls) <= (calls or 10**9)
    assert run.usage.total_tokens <= (tokens or 10**9)
    assert run.usage.cost <= (usd or 10**9)


def test_the_bound_of_a_call_is_not_passed_by_the_call() -> None:
    lm = MockLM(lambda messages: messages[-1]["content"] * 9, price=(3.0, 5.0), max_tokens=50)
    for text in ("", "a", "ü" * 100, "日本" * 50, "x" * 999):
        request = LMRequest.of(text)
        bound, used = lm.estimate(request), lm.generate(request).usage
        assert used.total_tokens <= bound.total_tokens
        assert (used.cost or 0) <= (bound.cost or 0)
        several = request.replace(params={"n": 3})
        assert lm.generate(several).usage.completion_tokens <= lm.estimate(several).completion_tokens == 150


def test_a_budget_that_waits_for_calls_in_flight_ends_with_the_run() -> None:
    budget = Budget(tokens=10_000)
    held = budget.reserve(Usage(calls=1, prompt_tokens=9_000))
    lm = MockLM(["x"], max_tokens=1_000)
    with pytest.raises(DeadlineExceeded):
        lm.generate(ASK, Run(budget=budget, deadline=0.1))

    async def main() -> None:
        with pytest.raises(DeadlineExceeded):
            await lm.agenerate(ASK, Run(budget=budget, deadline=0.1))

    asyncio.run(main())
    assert lm.calls == []
    threading.Timer(0.05, held.settle, [Usage(calls=1, prompt_tokens=100)]).start()
    assert lm.generate(ASK, Run(budget=budget)).text == "x"


def test_five_hundred_calls_are_on_their_way_at_once() -> None:
    class Together(BaseLM):
        async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
            await barrier.wait()
            return self._send(request, timeout)

        def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
            return LMResponse((Completion("x"),), self.usage(prompt_tokens=1, completion_tokens=1), self.model)

    barrier = asyncio.Barrier(500)
    lm = Together("test/together", timeout=60)

    async def main() -> list[LMResponse]:
        return await map_async(lambda _: lm.agenerate(ASK), range(500), concurrency=500)

    assert [response.text for response in asyncio.run(main())] == ["x"] * 500
