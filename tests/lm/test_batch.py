"""`BatchLM` against a real server on this machine: what goes out, what comes back, what it costs, what fails."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import dspex
from dspex import LM, BatchLM, Budget, Evaluate, Example, Module, Predict
from dspex.errors import (
    DefinitionError,
    LMAuthError,
    LMBillingError,
    LMContentFilterError,
    LMContextWindowError,
    LMError,
    LMRateLimitError,
    LMRequestError,
    LMServerError,
    LMTimeoutError,
)
from dspex.execution import Crew
from dspex.lm import BaseLM, Cache, LMRequest, LMResponse, MockLM
from dspex.lm.flow import flow
from dspex.lm.waits import Pause
from tests.lm.batch_server import BatchServer, cut_off, cut_short, good, refuse, reset, reset_after, rows_of, text_of

LONG = 3600.0
FAST: dict[str, Any] = {"settle": 0.01, "quiet": 0.05, "poll": 0.01}
CREW: dict[str, Any] = {"settle": 0.01, "quiet": LONG, "max_wait": LONG, "poll": 0.01}
"""Only that everybody waits lets a job go out."""


def batched(server: BatchServer, *, shape: str = "openai", fast: dict[str, Any] = FAST, **options: Any) -> BatchLM:
    return BatchLM(live(server, shape=shape, **options), **fast)


def live(server: BatchServer, *, shape: str = "openai", **options: Any) -> LM:
    options = {"api_key": "sk-very-secret", "max_tokens": 50, **options}
    if shape == "anthropic":
        return LM("anthropic/claude-haiku-4-5", api_base=server.url, **options)
    return LM("openai/gpt-4o-mini", api_base=f"{server.url}/v1", **options)


def ask_all(lm: BaseLM, *texts: str) -> list[Any]:
    """Ask side by side; answers or errors."""
    crew = Crew(len(texts), len(texts))

    async def ask(text: str) -> Any:
        with crew.member():
            return await lm.agenerate(LMRequest.of(text))

    async def main() -> list[Any]:
        return await asyncio.gather(*map(ask, texts), return_exceptions=True)

    return asyncio.run(main())


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as made:
        yield made


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries wait for next to nothing."""
    monkeypatch.setattr("dspex.lm.retry.FIRST_WAIT", 0.001)


both = pytest.mark.parametrize("shape", ["openai", "anthropic"])


class TestOneJob:
    @both
    def test_what_is_asked_side_by_side_is_one_job_and_each_gets_its_own_answer(
        self, server: BatchServer, shape: str
    ) -> None:
        server.shuffles = True
        texts = [f"question {number}" for number in range(20)]
        answers = ask_all(batched(server, shape=shape, fast=CREW), *texts)
        assert [answer.text for answer in answers] == [f"answer to {text}" for text in texts]
        assert len(server.jobs) == 1
        assert server.live == 0
        assert "very-secret" in str(server.headers[0])

    @both
    def test_a_request_has_the_very_body_of_a_live_one(self, server: BatchServer, shape: str) -> None:
        bodies: list[Any] = []
        server.answer = lambda body: (bodies.append(body), (200, None))[1]
        request = LMRequest.of(
            messages=[{"role": "system", "content": "Be brief. " * 800}, {"role": "user", "content": "Hm?"}],
            temperature=0.5,
            stop=["\n"],
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        )
        lm = live(server, shape=shape, cache=False)
        sent: list[Any] = []
        from tests.lm import batch_server

        found = batch_server.text_of
        try:
            batch_server.text_of = lambda body: (sent.append(body), found(body))[1]
            lm.generate(request)
        finally:
            batch_server.text_of = found
        BatchLM(lm, **FAST).generate(request)
        assert bodies == sent

    @pytest.mark.parametrize("kind", ["chat", "text", "responses"])
    def test_every_interface(self, server: BatchServer, kind: Any) -> None:
        response = batched(server, model_type=kind).generate(LMRequest.of("Hm?"))
        assert (response.text, response.usage.prompt_tokens, response.usage.completion_tokens) == (
            "answer to Hm?",
            12,
            3,
        )
        (job,) = server.jobs.values()
        assert job.endpoint == ("/v1/responses" if kind == "responses" else "/v1/chat/completions")

    def test_what_litellm_asks_through_another_interface_is_batched_too(self, server: BatchServer) -> None:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        lm = BatchLM(LM("openai/gpt-5.4", api_base=f"{server.url}/v1", api_key="sk-x", reasoning_effort="low"), **FAST)
        assert lm.generate(LMRequest.of("Hm?", tools=[tool])).text == "answer to Hm?"
        assert server.live == 0
        assert [job.endpoint for job in server.jobs.values()] == ["/v1/responses"]

    def test_jobs_are_split_by_number_and_size(self, server: BatchServer) -> None:
        lm = batched(server, fast={**CREW, "max_requests": 8})
        assert all(not isinstance(one, Exception) for one in ask_all(lm, *map(str, range(20))))
        assert sorted(len(job.rows) for job in server.jobs.values()) == [4, 8, 8]
        server.jobs.clear()
        lm = batched(server, fast={**CREW, "max_bytes": 2000})
        assert all(not isinstance(one, Exception) for one in ask_all(lm, *("x" * 600 + str(n) for n in range(5))))
        assert len(server.jobs) == 3

    def test_models_of_one_kind_share_a_job_and_others_have_their_own(self, server: BatchServer) -> None:
        lm = batched(server, fast=CREW)
        other = lm.copy(temperature=0.1)

        crew = Crew(2, 2)

        async def ask(model: BaseLM, text: str) -> Any:
            with crew.member():
                return await model.acall(text)

        async def main() -> Any:
            return await asyncio.gather(ask(lm, "a"), ask(other, "b"))

        assert asyncio.run(main()) == [["answer to a"], ["answer to b"]]
        (job,) = server.jobs.values()
        assert [row["body"].get("temperature") for row in job.rows] == [None, 0.1]

    def test_a_stream_comes_in_one_piece(self, server: BatchServer) -> None:
        *_, response = batched(server).stream(LMRequest.of("Hm?"))
        assert response.text == "answer to Hm?"
        assert not batched(server)._queue.store.jobs()[0].open


class TestMoney:
    @both
    def test_half_the_price_and_exact_usage(self, server: BatchServer, shape: str) -> None:
        usage = batched(server, shape=shape).generate(LMRequest.of("Hm?")).usage
        full = live(server, shape=shape, cache=False).generate(LMRequest.of("Hm?")).usage
        assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (1, 12, 3)
        assert full.cost is not None
        assert usage.cost == pytest.approx(full.cost / 2)

    def test_half_of_a_price_that_is_given(self, server: BatchServer) -> None:
        usage = batched(server, price=(10.0, 20.0)).generate(LMRequest.of("Hm?")).usage
        assert usage.cost == pytest.approx((12 * 10 + 3 * 20) / 2e6)

    def test_an_unknown_price_stays_unknown(self, server: BatchServer) -> None:
        lm = BatchLM(LM("openai/nobody-knows", api_base=f"{server.url}/v1"), **FAST)
        assert lm.generate(LMRequest.of("Hm?")).usage.cost is None

    def test_answers_are_cached_as_the_models_own(self, server: BatchServer) -> None:
        lm = live(server)
        BatchLM(lm, **FAST)("Hm?")
        response = lm.generate(LMRequest.of("Hm?"))
        assert response.cached
        assert server.live == 0
        lm("Another?")
        assert BatchLM(lm, **FAST).generate(LMRequest.of("Another?")).cached
        assert len(server.jobs) == 1

    def test_what_is_asked_twice_at_once_is_asked_once_when_it_is_cached(self, server: BatchServer) -> None:
        answers = ask_all(batched(server), "same", "same", "same")
        assert sorted(answer.cached for answer in answers) == [False, True, True]
        assert sum(answer.usage.calls for answer in answers) == 1
        assert server.billed == {"same": 1}
        answers = ask_all(batched(server, cache=False), "own", "own", "own")
        assert sum(answer.usage.calls for answer in answers) == 3
        assert server.billed["own"] == 3

    def test_what_is_asked_twice_at_once_on_threads(self, server: BatchServer) -> None:
        lm = batched(server)
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(lm("same"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [["answer to same"]] * 4
        assert server.billed == {"same": 1}

    def test_a_budget_is_held_before_and_settled_with_the_results(self, server: BatchServer) -> None:
        budget = Budget(usd=1.0, calls=10)
        held: list[Any] = []
        server.answer = lambda body: (held.append(budget.in_flight), (200, None))[1]
        with dspex.context(budget=budget):
            answers = ask_all(batched(server, fast=CREW), "a", "b")
        assert held[0].calls == 2
        assert held[0].usd > 0
        assert budget.in_flight.calls == 0
        assert budget.spent.calls == 2
        assert budget.spent.usd == pytest.approx(sum(answer.usage.cost for answer in answers))

    def test_a_budget_that_is_too_small_for_all_at_once_takes_turns(self, server: BatchServer) -> None:
        with dspex.context(budget=Budget(tokens=400)):
            answers = ask_all(batched(server, max_tokens=20), *"abcdef")
        assert [answer.text for answer in answers] == [f"answer to {text}" for text in "abcdef"]
        assert len(server.jobs) > 1


class TestFailures:
    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            ("expired", LMTimeoutError),
            ("canceled", LMError),
            ("errored", LMServerError),
            ((429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}), LMRateLimitError),
            ((500, {"error": {"message": "broke", "code": None}}), LMServerError),
            ((400, {"error": {"message": "bad", "code": None}}), LMRequestError),
            ((400, {"error": {"message": "long", "code": "context_length_exceeded"}}), LMContextWindowError),
            (
                (400, {"error": {"message": "content_policy_violation", "code": "content_policy_violation"}}),
                LMContentFilterError,
            ),
            ((402, {"error": {"message": "insufficient_quota", "code": "insufficient_quota"}}), LMBillingError),
            ("missing", LMServerError),
        ],
        ids=str,
    )
    def test_a_request_that_fails_in_its_job_is_typed_as_a_live_one(
        self, server: BatchServer, made: Any, expected: type[LMError]
    ) -> None:
        server.answer = lambda body: made if text_of(body) == "bad" else (200, None)
        fine, bad = ask_all(batched(server, retries=0), "fine", "bad")
        assert fine.text == "answer to fine"
        assert type(bad) is expected
        assert bad.model == "openai/gpt-4o-mini"
        assert bad.billed is (made == "missing")

    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            ("expired", LMTimeoutError),
            ("canceled", LMError),
            ("errored", LMServerError),
            ((400, {"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}}), LMRequestError),
            ((429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}), LMRateLimitError),
            ((529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}), LMServerError),
        ],
        ids=str,
    )
    def test_the_same_in_the_other_shape(self, server: BatchServer, made: Any, expected: type[LMError]) -> None:
        server.answer = lambda body: made if text_of(body) == "bad" else (200, None)
        fine, bad = ask_all(batched(server, shape="anthropic", retries=0), "fine", "bad")
        assert fine.text == "answer to fine"
        assert type(bad) is expected

    def test_what_may_pass_is_asked_again_in_another_job(self, server: BatchServer) -> None:
        server.answer = lambda body: "expired" if not server.billed and server.asked["a"] < 2 else (200, None)
        response = batched(server).generate(LMRequest.of("a"))
        assert (response.text, response.usage.calls, response.usage.failed_calls) == ("answer to a", 1, 1)
        assert response.usage.cost is not None
        assert len(server.jobs) == 2

    def test_what_failed_together_comes_back_together(
        self, server: BatchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []

        class Noted(Pause):
            def __init__(self, seconds: float) -> None:
                pauses.append(seconds)
                super().__init__(seconds)

        monkeypatch.setattr("dspex.lm.flow.Pause", Noted)
        failures: dict[str, Any] = {
            "a": "expired",
            "b": "errored",
            "c": (500, {"error": {"message": "broke", "code": None}}),
            "d": (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
        }
        server.answer = lambda body: failures.pop(text_of(body), (200, None))
        answers = ask_all(batched(server, fast=CREW), *"abcde")
        assert [answer.text for answer in answers] == [f"answer to {text}" for text in "abcde"]
        assert pauses == [0.0] * 4
        assert [len(job.rows) for job in server.jobs.values()] == [5, 4]

    @both
    def test_what_the_provider_says_is_written_down_without_secrets(
        self, server: BatchServer, tmp_path: Path, shape: str
    ) -> None:
        told = "no such key: sk-very-secret"
        server.answer = lambda _: (400, {"type": "error", "error": {"type": "invalid_request_error", "message": told}})
        lm = batched(server, shape=shape, fast={**FAST, "folder": tmp_path}, retries=0)
        errors = [ask_all(lm, "a")[0]]
        if shape == "openai":
            server.fails = [{"code": "invalid", "message": told}]
            errors += ask_all(lm, "b")
        server.fault("poll", *[refuse(404, told)] * 5)
        errors += ask_all(lm, "c")
        assert "vanished" in str(errors[-1])
        for error in errors:
            assert "no such key: ***" in str(error)
        assert "very-secret" not in repr([*errors, *lm.jobs()])
        written = b"".join(file.read_bytes() for file in tmp_path.glob("batches.db*"))
        assert b"no such key: ***" in written
        assert b"very-secret" not in written

    @both
    @pytest.mark.parametrize(
        "fault", [refuse(429, retry_after="0.01"), refuse(500), reset], ids=["429", "500", "reset"]
    )
    def test_a_submission_that_fails_is_made_again(self, server: BatchServer, shape: str, fault: Any) -> None:
        server.fault("submit", fault, fault)
        if shape == "openai":
            server.fault("upload", fault)
        assert batched(server, shape=shape)("a") == ["answer to a"]
        assert server.billed == {"a": 1}

    @both
    def test_a_submission_whose_answer_is_lost_is_found_and_not_paid_twice(
        self, server: BatchServer, shape: str
    ) -> None:
        ask_all(batched(server, shape=shape), "x")  # an older job of the same size
        server.fault("submit", reset_after)
        assert batched(server, shape=shape)("a") == ["answer to a"]
        assert server.billed == {"x": 1, "a": 1}
        assert len(server.jobs) == 2

    def test_a_submission_that_is_refused_for_good(self, server: BatchServer) -> None:
        server.fault("upload", refuse(401))
        lm = batched(server)
        with pytest.raises(LMAuthError) as caught:
            lm("a")
        assert not caught.value.billed
        assert not lm.jobs()
        assert "very-secret" not in repr(caught.value)
        assert lm("a") == ["answer to a"]

    def test_an_endpoint_that_is_not_there(self, server: BatchServer) -> None:
        lm = BatchLM(LM("openai/gpt-4o-mini", api_base=f"{server.url}/nothing/v1", api_key="sk-x"), **FAST)
        with pytest.raises(LMRequestError, match="there is no batch endpoint at"):
            lm("a")

    @both
    def test_failures_while_polling_and_fetching_are_waited_out(self, server: BatchServer, shape: str) -> None:
        server.fault("poll", refuse(500), reset, refuse(429), cut_short, refuse(404))
        server.fault("results", refuse(503), cut_off, cut_short, reset)
        assert [one.text for one in ask_all(batched(server, shape=shape), "a", "b")] == ["answer to a", "answer to b"]
        assert server.billed == {"a": 1, "b": 1}

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("invalid_model", LMRequestError),
            ("token_limit_exceeded", LMRateLimitError),
            ("billing_hard_limit_reached", LMBillingError),
        ],
    )
    def test_a_job_that_fails_as_a_whole_says_so(self, server: BatchServer, code: str, expected: type[LMError]) -> None:
        server.fails = [{"code": code, "message": "not this way"}]
        lm = batched(server, fast=CREW, retries=0)
        first, second = ask_all(lm, "a", "b")
        assert type(first) is type(second) is expected
        assert f"batch_1 of openai/gpt-4o-mini failed as a whole: {code}: not this way" in str(first)
        assert not first.billed
        (job,) = lm.jobs()
        assert (job.status, job.open) == ("failed", 0)
        assert batched(server)("a") == ["answer to a"]

    @both
    def test_a_job_that_vanished_says_so_and_is_asked_anew_by_the_next_call(
        self, server: BatchServer, shape: str
    ) -> None:
        server.polls = LONG
        server.fault("poll", *[refuse(404)] * 5)
        lm = batched(server, shape=shape)
        with pytest.raises(LMError, match=r"batch_1 of .* has vanished") as caught:
            lm("a")
        assert caught.value.billed
        assert lm.jobs()[0].status == "vanished"
        server.polls = 1
        assert lm("a") == ["answer to a"]


class Two(Module):
    def __init__(self) -> None:
        self.first = Predict("question -> draft")
        self.second = Predict("draft -> answer")

    async def aforward(self, question: str) -> Any:
        return await self.second.acall(draft=(await self.first.acall(question=question)).draft)

    def forward(self, question: str) -> Any:
        return self.second(draft=self.first(question=question).draft)


class Blocking(Module):
    def __init__(self) -> None:
        self.answer = Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question)


def say(body: dict[str, Any]) -> Any:
    """An answer in the format of the chat adapter, with all fields that are asked for; the draft is the question."""
    question = re.findall(r"q[0-9]+", text_of(body))
    fields = {"draft": question[0] if question else "", "answer": "yes", "verdict": "yes"}
    return 200, good("\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()))


DEVSET = [Example(question=f"q{number}", answer="yes").with_inputs("question") for number in range(24)]


def exact(example: Any, prediction: Any) -> bool:
    return bool(prediction.answer == example.answer)


class TestEvaluate:
    def test_all_examples_at_once_and_one_job(self, server: BatchServer) -> None:
        server.answer = say
        result = Evaluate(DEVSET, exact)(Predict("question -> answer"), lm=batched(server, fast=CREW))
        assert (result.score, result.failed) == (1.0, 0)
        assert [len(job.rows) for job in server.jobs.values()] == [24]
        assert result.usage.calls == 24
        assert result.usage.prompt_tokens == 24 * 12

    def test_a_program_of_two_steps_makes_two_jobs(self, server: BatchServer) -> None:
        server.answer = say
        result = Evaluate(DEVSET, exact)(Two(), lm=batched(server, fast=CREW))
        assert (result.score, result.usage.calls) == (1.0, 48)
        assert [len(job.rows) for job in server.jobs.values()] == [24, 24]

    def test_a_blocking_program_runs_on_as_many_threads(self, server: BatchServer) -> None:
        server.answer = say
        lm = batched(server, fast=CREW)
        result = Evaluate(DEVSET, exact, concurrency=2)(Blocking(), lm=lm)
        assert (result.score, result.usage.calls) == (1.0, 24)
        assert len(server.jobs) == 1

    def test_threads_are_bounded(self, server: BatchServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dspex.evaluate.batch._MOST_THREADS", 10)
        server.answer = say
        result = Evaluate(DEVSET, exact)(Blocking(), lm=batched(server, fast=CREW))
        assert result.score == 1.0
        assert [len(job.rows) for job in server.jobs.values()] == [10, 10, 4]

    def test_the_model_of_a_predictor_counts_too(self, server: BatchServer) -> None:
        server.answer = say
        program = Predict("question -> answer", lm=batched(server, fast=CREW))
        assert Evaluate(DEVSET, exact, concurrency=1)(program).score == 1.0
        assert len(server.jobs) == 1

    def test_another_model_keeps_the_number_it_was_given(self) -> None:
        most, now = [0], [0]

        async def slow(question: str) -> Any:
            now[0] += 1
            most[0] = max(most[0], now[0])
            await asyncio.sleep(0)
            now[0] -= 1
            return dspex.Prediction(answer="yes")

        Evaluate(DEVSET, exact, concurrency=3)(slow, lm=MockLM(["x"]))
        assert most[0] == 3

    def test_a_metric_that_asks_waits_too(self, server: BatchServer) -> None:
        server.answer = say
        judge = Predict("question, answer -> verdict")

        def metric(example: Any, prediction: Any) -> bool:
            return bool(judge(question=example.question, answer=prediction.answer).verdict == "yes")

        with dspex.context(lm=batched(server, fast=CREW)):
            result = Evaluate(DEVSET, metric)(Blocking())
        assert (result.score, result.usage.calls, result.metric_usage.calls) == (1.0, 24, 24)
        assert [len(job.rows) for job in server.jobs.values()] == [24, 24]

    def test_failures_are_no_zeros(self, server: BatchServer) -> None:
        server.answer = lambda body: "errored" if re.search(r"q3\b", text_of(body)) else say(body)
        lm = batched(server, fast=CREW, retries=0)
        result = Evaluate(DEVSET, exact, retries=0)(Predict("question -> answer"), lm=lm)
        assert (result.failed, result.score) == (1, 1.0)

    def test_a_deadline_ends_the_waiting_and_the_job_is_found_again(self, server: BatchServer) -> None:
        server.answer = say
        server.polls = LONG
        lm = batched(server, fast=CREW)
        result = Evaluate(DEVSET, exact, deadline=0.5, retries=0)(Predict("question -> answer"), lm=lm)
        assert result.failed == 24
        server.polls = 1
        result = Evaluate(DEVSET, exact)(Predict("question -> answer"), lm=batched(server, fast=CREW))
        assert (result.score, result.usage.calls) == (1.0, 24)
        assert set(server.billed.values()) == {1}


class TestStudies:
    def test_a_search_through_the_batch_endpoint(self, server: BatchServer) -> None:
        server.answer = say
        with dspex.context(lm=batched(server)):
            result = dspex.optimize(
                Predict("question -> answer", temperature=dspex.Float(0.0, 1.0)),
                DEVSET,
                exact,
                budget=Budget(calls=40),
            )
        assert result.usage.calls <= 40
        assert server.live == 0
        assert max(len(job.rows) for job in server.jobs.values()) > 1

    def test_an_objective_of_ones_own(self, server: BatchServer) -> None:
        lm = batched(server)
        study = dspex.create_study(direction="maximize")
        study.optimize(
            lambda trial: float(len(lm(f"a {trial.suggest_int('n', 1, 3)}", temperature=0.0)[0])),
            n_trials=4,
            n_jobs=2,
        )
        assert study.best_value == len("answer to a 1")
        assert set(server.billed.values()) == {1}


class TestTheModelItself:
    def test_it_is_saved_without_secrets_and_made_again(self) -> None:
        lm = BatchLM("openai/gpt-4o-mini", temperature=0.5, api_key="sk-very-secret")
        data = json.loads(json.dumps(lm.to_json()))
        assert "very-secret" not in json.dumps(data) + repr(lm)
        again = BaseLM.from_json(data)
        assert isinstance(again, BatchLM)
        assert again == lm
        assert again.params["temperature"] == 0.5

    def test_its_pacing_is_saved_too(self, tmp_path: Path) -> None:
        own: dict[str, Any] = {"settle": 0.5, "quiet": 1.0, "max_wait": 7.0, "poll": 3.0}
        own |= {"max_requests": 5, "max_bytes": 999, "retries": 1, "deadline": 9.0}
        saved = json.loads(json.dumps(BatchLM(LM("openai/gpt-4o-mini", retries=2), **own).to_json()))
        again = BaseLM.from_json(saved)
        assert isinstance(again, BatchLM)
        assert (again.retries, again.deadline, again.lm.retries) == (1, 9.0, 2)
        assert attrs.asdict(again._queue.pacing) | {"retries": 1, "deadline": 9.0} == own
        assert again.to_json() == saved
        other = BaseLM.from_json(saved, poll=4.0, folder=tmp_path, api_key="sk-x")
        assert isinstance(other, BatchLM)
        assert (other._queue.pacing.poll, other._queue.store.path.parent) == (4.0, tmp_path)
        assert BaseLM.from_json({"type": "BatchLM", "lm": saved["lm"]}).retries == 2

    @pytest.mark.parametrize("name", ["poll", "settle"])
    def test_it_never_asks_without_pause(self, name: str) -> None:
        with pytest.raises(DefinitionError, match=f"{name} must be more than 0 seconds, not 0: .* write {name}=10"):
            BatchLM("openai/gpt-4o-mini", **{name: 0})

    def test_who_waits_for_another_call_keeps_the_deadline_of_its_own(
        self, server: BatchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        began = time.monotonic()
        now = [began]
        monkeypatch.setattr("dspex.lm.batch.time", SimpleNamespace(monotonic=lambda: now[0]))
        ends: list[Any] = []
        usual = flow
        monkeypatch.setattr("dspex.lm.batch.flow", lambda *given: (ends.append(given[4]), usual(*given))[1])
        lm = BatchLM(live(server), **FAST, deadline=LONG)
        request = LMRequest.of("a")

        async def main() -> LMResponse:
            assert lm._queue.follow(lm.key(request)) is None  # somebody asks the same
            task = asyncio.create_task(lm.agenerate(request))
            while not lm._queue._leaders[lm.key(request)]:
                await asyncio.sleep(0)
            now[0] += 1000
            lm._queue.led(lm.key(request))  # and comes to nothing
            return await task

        assert asyncio.run(main()).text == "answer to a"
        assert ends == [began + LONG]

    def test_it_has_the_keys_of_the_model(self) -> None:
        lm = LM("openai/gpt-4o-mini", temperature=0.5)
        request = LMRequest.of("Hm?")
        assert BatchLM(lm).key(request) == lm.key(request)
        assert BatchLM(lm).copy(temperature=0.1).key(request) == lm.copy(temperature=0.1).key(request)

    def test_it_pickles(self, server: BatchServer) -> None:
        import pickle

        lm = pickle.loads(pickle.dumps(batched(server)))
        assert lm("a") == ["answer to a"]

    def test_what_a_fallback_with_a_cache_of_its_own_answered_is_taken(
        self, server: BatchServer, tmp_path: Path
    ) -> None:
        spare = LM("openai/spare", api_base=f"{server.url}/v1", api_key="sk-x", cache=Cache(tmp_path / "spare"))
        server.answer = lambda body: (200, None) if body["model"] == "spare" else "errored"
        lm = batched(server, retries=0, fallbacks=[spare])
        assert lm("a") == ["answer to a"]
        (other,) = lm.fallbacks
        assert isinstance(other, BatchLM)
        assert [job.open for job in lm.jobs()] == [0]
        assert [job.open for job in other.jobs()] == [0]

    def test_fallbacks_are_asked_through_their_batch_endpoints(self, server: BatchServer) -> None:
        spare = LM("openai/spare", api_base=f"{server.url}/v1", api_key="sk-x", price=(1.0, 1.0))
        server.answer = lambda body: (200, None) if body["model"] == "spare" else "errored"
        lm = batched(server, retries=0, fallbacks=[spare, MockLM(["never"])])
        response = lm.generate(LMRequest.of("a"))
        assert (response.model, response.text) == ("openai/spare", "answer to a")
        assert len(server.jobs) == 2

    @pytest.mark.parametrize("wrong", [MockLM(["a"]), "groq/llama", "local/smollm2-135m", 3, LM("groq/llama")])
    def test_a_model_without_a_batch_endpoint(self, wrong: Any) -> None:
        with pytest.raises(DefinitionError, match="BatchLM asks through the batch endpoint of openai or anthropic"):
            BatchLM(wrong)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"poll": -1},
            {"quiet": "soon"},
            {"max_requests": 0},
            {"max_bytes": 1.5},
            {"temperature": 1.0},
            {"resume": 3},
            {"resume": [3]},
            {"folder": 3},
        ],
    )
    def test_arguments_that_cannot_be_meant(self, wrong: Any) -> None:
        with pytest.raises(DefinitionError, match=next(iter(wrong))):
            BatchLM(LM("openai/gpt-4o-mini"), **wrong)

    def test_no_key_and_no_prompt_is_written_down(self, server: BatchServer, tmp_path: Path) -> None:
        lm = batched(server, cache=False, fast={**FAST, "folder": tmp_path})
        lm("a prompt that is mine")
        files = b"".join(path.read_bytes() for path in tmp_path.glob("batches.db*"))
        assert b"very-secret" not in files
        assert b"mine" not in files.replace(b"answer to a prompt that is mine", b"")
        assert len(list(rows_of(server))) == 1
