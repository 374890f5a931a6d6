"""One ledger of calls: by path, model, trial and example; exact whoever calls at once."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from typing import Any

import pytest

import dspex
from dspex.data import Usage
from dspex.errors import DefinitionError, LMServerError
from dspex.execution import Run, UsageLedger, current, map_async, map_threads, track_usage
from dspex.lm import Cache, LMRequest, MockLM


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.lm.retry.FIRST_WAIT", 0.001)


class Two(dspex.Module):
    def __init__(self, lm: MockLM) -> None:
        self.first = dspex.Predict("question -> answer", lm=lm)
        self.second = dspex.Predict("question -> answer", model="mock/tracked-b")

    def forward(self, question: str) -> Any:
        self.first(question=question)
        return self.second(question=question)


def program(**options: Any) -> Two:
    options = {"repeat": True, "price": (1.0, 1.0), **options}
    dspex.lm.register_lm(MockLM([{"answer": "b"}], model="mock/tracked-b", repeat=True, price=(2.0, 2.0)))
    return Two(MockLM([{"answer": "a"}], model="mock/tracked-a", **options))


def test_by_path_and_by_model() -> None:
    with track_usage() as usage:
        prediction = program()(question="?")
    assert usage.total == prediction.usage
    assert set(usage.by("path", "model")) == {("first", "mock/tracked-a"), ("second", "mock/tracked-b")}
    assert usage.by("path")["first"].calls == usage.by("model")["mock/tracked-b"].calls == 1
    assert "first · mock/tracked-a: 1 call" in repr(usage)
    assert [row["path"] for row in usage.to_json()] == ["first", "second"]
    with pytest.raises(DefinitionError, match="not by 'module'"):
        usage.by("module")
    with pytest.raises(DefinitionError, match="usage is told apart by path, model, trial, example"):
        usage.by()


@pytest.mark.parametrize("how", ["called", "awaited", "streamed", "astreamed"])
def test_a_prediction_has_the_usage_of_its_own_calls_within_another_program_too(how: str) -> None:
    helper = program()  # no part of the program that uses it
    seen: list[Usage] = []

    class Outer(dspex.Module):
        def __init__(self) -> None:
            self.ask = dspex.Predict("question -> answer", model="mock/tracked-b")

        async def forward(self, question: str) -> Any:
            await self.ask.acall(question=question)
            for _ in range(2):
                if how == "called":
                    inner = helper(question=question)
                elif how == "awaited":
                    inner, _ = await asyncio.gather(helper.acall(question=question), self.ask.acall(question="!"))
                elif how == "streamed":
                    inner = list(helper.stream(question=question))[-1].prediction
                else:
                    inner = [event async for event in helper.astream(question=question)][-1].prediction
                seen.append(inner.usage)
            return await self.ask.acall(question=question)

    with track_usage() as usage:
        prediction = Outer()(question="?")
    assert [one.calls for one in seen] == [2, 2]
    assert prediction.usage.total_tokens == usage.total.total_tokens
    assert prediction.usage.calls == (8 if how == "awaited" else 6)
    assert list(Outer().render(question="?")) == ["ask", "first", "second"]


def test_streams_of_one_run_have_the_usage_of_their_own_calls() -> None:
    run = Run()
    finals = [list(program().stream(question="?", run=run))[-1] for _ in range(2)]
    assert [final.prediction.usage.calls for final in finals] == [2, 2]
    assert run.usage.calls == 4


def test_by_example_and_by_trial() -> None:
    devset = [dspex.Example(question=str(n), answer="b").with_inputs("question") for n in range(5)]
    metric = lambda example, prediction: prediction.answer == example.answer  # noqa: E731 - one line says it
    with track_usage() as usage:
        result = dspex.Evaluate(devset, metric, progress=False)(program())
    assert {key: one.calls for key, one in usage.by("example").items()} == {example.id: 2 for example in devset}
    assert usage.total == result.usage
    train, test = (
        [dspex.Example(question=f"{n} {part}", answer="b").with_inputs("question") for n in range(6)]
        for part in ("train", "test")
    )
    with track_usage() as usage:
        found = dspex.LabeledFewShot(seed=0).optimize(program(), train, metric, valset=devset, testset=test)
    trials = usage.by("trial")
    assert set(trials) - {None}
    assert sum(one.calls for one in trials.values()) == found.usage.calls == usage.total.calls


def test_failures_and_what_the_cache_saved() -> None:
    lm = MockLM(["x"], repeat=True, failures=[LMServerError, None], cache=Cache(), price=(1.0, 1.0))
    with track_usage() as usage:
        paid = lm.generate(LMRequest.of("?"))
        lm("?")
        lm("?")
    total = usage.total
    assert (total.calls, total.failed_calls, total.cached_calls) == (1, 1, 2)
    assert (total.cost, total.saved_cost) == (paid.usage.cost, pytest.approx(2 * (paid.usage.cost or 0)))


@pytest.mark.parametrize("side", ["threads", "tasks"])
def test_exact_whoever_calls_at_once(side: str) -> None:
    lm = MockLM(lambda messages: "x" * (int(messages[-1]["content"]) % 40), failures=0.2, price=(1.0, 1.0), retries=2)

    def ask(number: int) -> None:
        with contextlib.suppress(LMServerError):
            lm(str(number))

    async def aask(number: int) -> None:
        with contextlib.suppress(LMServerError):
            await lm.acall(str(number))

    with track_usage() as usage, dspex.execution.Activation(Run()) as run:
        if side == "threads":
            map_threads(ask, range(400), concurrency=16)
        else:
            asyncio.run(map_async(aask, range(400), concurrency=64))
    assert usage.total == run.usage
    assert usage.total.calls + usage.total.failed_calls == len(lm.calls)


def test_a_cancelled_call_is_in_it() -> None:
    async def main() -> Usage:
        with track_usage() as usage:
            task = asyncio.create_task(MockLM(["x"], latency=9, price=(1.0, 1.0)).acall("?"))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return usage.total

    assert asyncio.run(main()) == Usage(failed_calls=1, cost=None)


def test_blocks_nest_and_end_and_others_do_not_see_them() -> None:
    lm = MockLM(["x"], repeat=True)
    with track_usage() as outer:
        lm("?")
        with track_usage() as inner:
            lm("?")
            thread = threading.Thread(target=lm, args=("?",))  # a thread of somebody else's
            thread.start()
            thread.join()
        lm("?")
    lm("?")
    assert (outer.total.calls, inner.total.calls) == (3, 1)
    assert current().ledgers == ()


def test_a_program_keeps_its_ledger_on_threads_of_any_make() -> None:
    class Threaded(dspex.Module):
        def __init__(self) -> None:
            self.ask = dspex.Predict("question -> answer", lm=MockLM([{"answer": "x"}], repeat=True))

        def forward(self, question: str) -> Any:
            threads = [threading.Thread(target=self.ask, kwargs={"question": str(n)}) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return "done"

    with track_usage() as usage:
        Threaded()(question="?")
    assert usage.by("path")["ask"].calls == 4


def test_settings_travel_without_the_ledgers() -> None:
    with track_usage():
        twin = pickle.loads(pickle.dumps(current()))
    assert twin.ledgers == ()
    ledger = UsageLedger()
    ledger.add(Usage(calls=1), model="m")
    rows = ledger.rows
    next(iter(rows.values())).calls = 99
    assert ledger.total.calls == 1
