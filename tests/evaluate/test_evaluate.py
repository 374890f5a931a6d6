"""`Evaluate`: many examples, on tasks and on threads."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from dspex.data import Evaluation, Example, Prediction, Usage
from dspex.errors import (
    DataError,
    DefinitionError,
    LMAuthError,
    LMRequestError,
    LMTimeoutError,
    MetricError,
    ParseError,
)
from dspex.evaluate import Evaluate, EvaluationResult, Scorer, aevaluate_one, evaluate_one
from dspex.execution import Budget, Run, active_run
from dspex.lm import MockLM
from dspex.modules import Predict
from tests.evaluate.fakes import Fake, examples, right


@pytest.fixture(params=[True, False], ids=["tasks", "threads"])
def natively_async(request: pytest.FixtureRequest) -> bool:
    """Both ways of running examples, which every test here holds to the same behaviour."""
    return bool(request.param)


def test_rows_are_in_the_order_of_the_examples(natively_async: bool) -> None:
    class Uneven(Fake):
        async def aexecute(self, inputs: Any, *, run: Run) -> Prediction:
            await asyncio.sleep(0.02 if inputs["question"] == "a" else 0)
            return self._answered(inputs, run)

        def execute(self, inputs: Any, *, run: Run) -> Prediction:
            time.sleep(0.02 if inputs["question"] == "a" else 0)
            return self._answered(inputs, run)

    devset = examples(6)
    result = Evaluate(devset, right)(Uneven(natively_async=natively_async))
    assert [row.example_id for row in result.rows] == [example.id for example in devset]
    assert [prediction.answer for prediction in result.predictions] == list("ABCDEF")
    assert list(result.examples) == devset
    assert (result.score, result.failed, result.errors, result.complete) == (1.0, 0, 0, True)
    assert result.stopped == ""
    assert result.seconds >= 0.02


def test_concurrency_is_used_and_bounded(natively_async: bool) -> None:
    class Together(Fake):
        """Whoever comes first waits for the others, three times."""

        def execute(self, inputs: Any, *, run: Run) -> Prediction:
            self._enter(run)
            threads.wait(60)
            self._leave()
            return self._answered(inputs, run)

        async def aexecute(self, inputs: Any, *, run: Run) -> Prediction:
            self._enter(run)
            await asyncio.wait_for(tasks.wait(), 60)
            self._leave()
            return self._answered(inputs, run)

    threads, tasks = threading.Barrier(4), asyncio.Barrier(4)
    program = Together(natively_async=natively_async)
    assert Evaluate(examples(12), right, concurrency=4)(program).score == 1.0
    assert program.most_at_once == 4


def test_natively_async_programs_need_no_threads() -> None:
    names = set()
    program = Fake(lambda question: names.add(threading.current_thread().name))
    Evaluate(examples(8), lambda e, p: 1.0, concurrency=4)(program)
    assert names == {threading.main_thread().name}


def test_failures_are_kept_apart_from_scores(natively_async: bool) -> None:
    def answer(question: str) -> str:
        if question == "a":
            raise LMTimeoutError("too slow")
        if question == "b":
            raise ParseError("no answer in it")
        return question.upper() if question == "c" else "wrong"

    program = Fake(answer, natively_async=natively_async)
    result = Evaluate(examples(4), right, retries=0)(program)
    assert [row.status for row in result.rows] == ["failed", "ok", "ok", "ok"]
    assert [row.score for row in result.rows] == [None, 0.0, 1.0, 0.0]
    assert result.score == pytest.approx(1 / 3)
    assert (result.failed, result.errors, result.complete) == (1, 1, False)
    assert "1 failed (LMTimeoutError), 1 raised (ParseError)" in str(result)


def test_a_hanging_example_ends_at_its_deadline_and_holds_up_nobody(natively_async: bool) -> None:
    class Hanging(Fake):
        def execute(self, inputs: Any, *, run: Run) -> Prediction:
            self._enter(run)
            if inputs["question"] == "a":
                released.wait(60)
            return self._answered(inputs, run)

        async def aexecute(self, inputs: Any, *, run: Run) -> Prediction:
            self._enter(run)
            if inputs["question"] == "a":
                await asyncio.sleep(60)
            return self._answered(inputs, run)

    released = threading.Event()
    program = Hanging(natively_async=natively_async)
    result = Evaluate(examples(6), right, concurrency=1, deadline=4.0)(program)
    released.set()
    assert [row.status for row in result.rows] == ["failed"] + ["ok"] * 5
    assert result.rows[0].error == "DeadlineExceeded: the deadline of 4 s is over"
    assert program.seen[0].cancelled
    assert not program.seen[1].cancelled


def test_several_objectives(natively_async: bool) -> None:
    def metric(example: Example, prediction: Prediction) -> dict[str, float]:
        return {"score": right(example, prediction), "length": len(prediction.answer)}

    def answer(question: str) -> str:
        if question == "d":
            raise ParseError("no")
        return question.upper() if question == "a" else question * 3

    usage = Usage(calls=1, prompt_tokens=8, completion_tokens=2, cost=0.25)
    result = Evaluate(examples(4), metric)(Fake(answer, natively_async=natively_async, usage=usage))
    assert result.score == result.objectives["score"] == 0.25
    assert result.objectives["length"] == (1 + 3 + 3 + 0) / 4  # the one that raised has the failure score
    assert result.objectives["cost"] == 0.25
    assert result.objectives["tokens"] == 10.0
    assert result.usage == Usage(calls=4, prompt_tokens=32, completion_tokens=8, cost=1.0)
    assert result.by_example("length") == dict(zip([e.id for e in examples(4)], [1.0, 3.0, 3.0, 0.0], strict=True))


def test_a_metric_that_changes_its_objectives_is_refused(natively_async: bool) -> None:
    def fickle(example: Example, prediction: Prediction) -> dict[str, float]:
        return {"score": 1.0} if prediction.answer == "A" else {"score": 1.0, "recall": 0.5}

    with pytest.raises(
        MetricError, match=r"returned the objectives 'score'(, 'recall')? .* but 'score'(, 'recall')? before"
    ):
        Evaluate(examples(3), fickle)(Fake(natively_async=natively_async))


def test_a_wrong_metric_stops_at_once(natively_async: bool) -> None:
    def metric(example: Any, prediction: Any) -> Any:
        return "yes"

    program = Fake(natively_async=natively_async, latency=0.01)
    with pytest.raises(MetricError, match=r"metric 'metric' returned 'yes' \(str\)"):
        Evaluate(examples(50), metric, concurrency=2)(program)
    assert program.calls <= 6


def test_a_used_up_budget_returns_what_is_finished(natively_async: bool) -> None:
    budget = Budget(calls=5)
    program = Fake(natively_async=natively_async, usage=Usage(calls=1, cost=0.1), reserve=True)
    result = Evaluate(examples(12), right, concurrency=2, budget=budget)(program)
    assert len(result.rows) == 5
    assert (result.planned, result.failed, result.complete) == (12, 0, False)
    assert re.match(r"BudgetExceeded: Budget\(calls=5\): (5|4 \(and 1 in flight\)) of 5 calls are used", result.stopped)
    assert "stopped after 5 of 12" in str(result)
    assert budget.spent.calls == result.usage.calls == 5
    assert program.calls <= 7


def test_the_first_examples_all_failing_beyond_repair_is_raised(natively_async: bool) -> None:
    def keyless(question: str) -> str:
        raise LMAuthError("set OPENAI_API_KEY")

    program = Fake(keyless, natively_async=natively_async)
    with pytest.raises(LMAuthError, match="set OPENAI_API_KEY"):
        Evaluate(examples(50), right, concurrency=2)(program)
    assert program.calls <= 8


def test_a_few_of_them_are_only_failed(natively_async: bool) -> None:
    def sometimes(question: str) -> str:
        if question != "a":
            raise LMRequestError("unknown model")
        return "A"

    result = Evaluate(examples(20), right, concurrency=1)(Fake(sometimes, natively_async=natively_async))
    assert (len(result.rows), result.failed, result.score) == (20, 19, 1.0)


def test_a_slow_world_is_never_raised(natively_async: bool) -> None:
    def slow(question: str) -> str:
        raise LMTimeoutError("too slow")

    result = Evaluate(examples(8), right, retries=0)(Fake(slow, natively_async=natively_async))
    assert (result.failed, str(result.score)) == (8, "nan")
    assert str(result).startswith("nothing was scored: all 8 examples failed (LMTimeoutError)")


def test_rollouts_differ_by_id_and_seed(natively_async: bool) -> None:
    answers = iter("AxAA" * 10)
    program = Fake(lambda question: next(answers), natively_async=natively_async)
    result = Evaluate(examples(1), right, rollouts=4, seed=100, concurrency=1)(program)
    assert [(run.rollout_id, run.seed) for run in program.seen] == [(0, 100), (1, 101), (2, 102), (3, 103)]
    assert [(row.rollout, row.score) for row in result.rows] == [(0, 1.0), (1, 0.0), (2, 1.0), (3, 1.0)]
    assert result.score == 0.75
    assert result.objectives["consistency"] == pytest.approx(3 / 6)  # of 6 pairs, 3 agree


def test_each_row_is_handed_over_before_more_is_started(natively_async: bool) -> None:
    rows: list[Evaluation] = []
    program = Fake(natively_async=natively_async)

    def write(row: Evaluation) -> None:
        rows.append(row)
        assert program.calls == len(rows)

    result = Evaluate(examples(6), right, concurrency=1)(program, on_result=write, fingerprint="f", trial=3)
    assert tuple(rows) == result.rows
    assert {(row.fingerprint, row.trial) for row in rows} == {("f", 3)}


def test_what_on_result_raises_ends_it(natively_async: bool) -> None:
    def full(row: Evaluation) -> None:
        raise OSError("disk full")

    program = Fake(natively_async=natively_async, latency=0.005)
    with pytest.raises(OSError, match="disk full"):
        Evaluate(examples(50), right, concurrency=2)(program, on_result=full)
    assert program.calls <= 8


def test_it_works_inside_a_running_loop(natively_async: bool) -> None:
    async def main() -> EvaluationResult:
        return Evaluate(examples(4), right)(Fake(natively_async=natively_async))

    assert asyncio.run(main()).score == 1.0


def test_acall_does_not_block_the_loop(natively_async: bool) -> None:
    class Waiting(Fake):
        def execute(self, inputs: Any, *, run: Run) -> Prediction:
            self._enter(run)
            assert ticked.wait(60)  # which nobody sets while the loop is held up
            return self._answered(inputs, run)

        async def aexecute(self, inputs: Any, *, run: Run) -> Prediction:
            self._enter(run)
            while not ticked.is_set():
                await asyncio.sleep(0)
            return self._answered(inputs, run)

    ticked = threading.Event()

    async def main() -> EvaluationResult:
        asyncio.get_running_loop().call_later(0.01, ticked.set)
        return await Evaluate(examples(4), right, concurrency=2).acall(Waiting(natively_async=natively_async))

    assert asyncio.run(main()).score == 1.0


def test_cancelling_acall_cancels_what_is_in_flight(natively_async: bool) -> None:
    program = Fake(natively_async=natively_async, latency=0.1)

    async def main() -> None:
        task = asyncio.create_task(Evaluate(examples(40), right, concurrency=2).acall(program))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.3)

    asyncio.run(main())
    assert program.calls <= 4


def test_nothing_is_written_down_any_more_when_acall_was_cancelled(natively_async: bool) -> None:
    writing = threading.Event()
    written = []

    def write(row: Evaluation) -> None:
        writing.set()
        time.sleep(0.1)
        written.append(row.example_id)

    async def main() -> list[str]:
        program = Fake(natively_async=natively_async)
        task = asyncio.create_task(Evaluate(examples(6), right, concurrency=6).acall(program, on_result=write))
        while not writing.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return list(written)

    known = asyncio.run(main())
    time.sleep(0.3)
    assert known
    assert written == known


def test_lm_replaces_the_configured_one(natively_async: bool) -> None:
    class Model:
        def generate(self, request: Any) -> Any: ...

    model = Model()
    program = Fake(natively_async=natively_async)
    Evaluate(examples(2), right)(program, lm=model)
    assert all(run.settings.lm is model for run in program.seen)


def test_a_metric_may_ask_models_and_await(natively_async: bool) -> None:
    async def judge(example: Example, prediction: Prediction) -> bool:
        run = active_run()
        assert run is not None
        run.account(Usage(calls=2, cost=0.5))
        await asyncio.sleep(0.001)
        return right(example, prediction)

    program = Fake(natively_async=natively_async, usage=Usage(calls=1))
    for deadline in (None, 10.0):
        result = Evaluate(examples(4), judge, deadline=deadline)(program)
        assert result.score == 1.0
        assert result.usage.calls == 4
        assert result.metric_usage == Usage(calls=8, cost=2.0)
        assert result.objectives["calls"] == 1.0


def test_a_blocking_metric_may_wait_for_what_other_examples_have() -> None:
    lm = MockLM({"": {"answer": "x", "ok": "yes"}}, latency=0.001, max_concurrency=2)
    program, judge = Predict("question -> answer", lm=lm), Predict("question, answer -> ok", lm=lm)

    def judged(example: Example, prediction: Prediction) -> bool:
        return bool(judge(question=example.question, answer=prediction.answer).ok == "yes")

    result = Evaluate(examples(12), judged, concurrency=6)(program)
    assert result.score == 1.0
    assert len(lm.calls) == 24


def test_a_slow_blocking_metric_does_not_serialise_tasks() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def slow(example: Example, prediction: Prediction) -> float:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return 1.0

    Evaluate(examples(40), slow, concurrency=40)(Fake())
    assert most > 1


def test_functions_are_programs() -> None:
    async def program(question: str) -> Prediction:
        return Prediction(answer=question.upper())

    assert Evaluate(examples(3), right)(program).score == 1.0


def test_dspys_words() -> None:
    program = Fake(latency=0.01)
    evaluate = Evaluate(devset=examples(6), metric=right, num_threads=2, display_progress=False)
    assert evaluate(program).score == 1.0
    assert program.most_at_once == 2
    assert repr(evaluate) == "Evaluate(6 examples, right, concurrency=2)"


@pytest.mark.parametrize(
    ("devset", "message"),
    [
        ([], r"devset is empty: there is nothing to run the program on\.\nWrite: devset = \[Example\("),
        (
            [*examples(1), Example(question="a", answer="b")],
            r"devset\[1\] does not say which of its fields are inputs: .*\n"
            r"Write: devset = \[example\.with_inputs\('question', \.\.\.\) for example in devset\]",
        ),
        ([{"question": "a"}], r"devset\[0\] must be an Example, got \{'question': 'a'\} \(dict\)\.\nWrite: from_dicts"),
        ("devset", r"devset must be a list of examples, got 'devset' \(str\)"),
    ],
)
def test_a_devset_that_cannot_be_used_is_explained(devset: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Evaluate(devset, right)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"concurrency": 0}, r"concurrency must be a whole number from 1 on, got 0 \(int\); write .*concurrency=8"),
        ({"rollouts": 1.5}, r"rollouts must be a whole number from 1 on, got 1\.5 \(float\)"),
        ({"confidence": 95}, r"confidence must lie between 0 and 1, got 95; write confidence=0\.95"),
        ({"retries": -1}, r"retries must be a whole number from 0 on"),
    ],
)
def test_wrong_arguments_are_explained_before_anything_runs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Evaluate(examples(1), right, **arguments)


def test_a_metric_of_other_parameters_is_refused_before_anything_runs() -> None:
    with pytest.raises(MetricError, match=r"is called with \(example, prediction\)"):
        Evaluate(examples(1), lambda prediction: 1.0)


def _takes_other(query: str, tone: str = "plain") -> Prediction:
    raise AssertionError("nothing is run")


async def _takes_more(question: str, context: str) -> Prediction:
    raise AssertionError("nothing is run")


class Callable:
    def __call__(self, query: str) -> Prediction:
        raise AssertionError("nothing is run")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (_takes_other, r"function _takes_other\(query: 'str', tone: 'str' = 'plain'\).* missing .* argument: 'query'"),
        (_takes_more, r"function _takes_more\(.* missing a required argument: 'context'"),
        (lambda: None, r"function <lambda>\(\) .* unexpected keyword argument 'question'"),
        (Callable(), r"function Callable\(query: 'str'\) .* missing a required argument: 'query'"),
    ],
)
def test_a_function_that_does_not_take_the_inputs_is_an_error_before_anything_is_run(
    program: Any, message: str
) -> None:
    devset = [Example(question=letter, other=1, right="x").with_inputs("question") for letter in "ab"]
    message += r".*def answer\(question\): .*example\.with_inputs"
    judge = Scorer.of(right)
    for call in (Evaluate(devset, judge), lambda program: asyncio.run(Evaluate(devset, judge).acall(program))):
        with pytest.raises(DefinitionError, match=message) as caught:
            call(program)
        assert f"the inputs (question) of example {devset[0].id}:" in str(caught.value)
    with pytest.raises(DefinitionError, match=message):
        evaluate_one(program, devset[1], judge)
    with pytest.raises(DefinitionError, match=message):
        asyncio.run(aevaluate_one(program, devset[1], judge))


def test_a_wrapped_function_is_judged_by_what_is_called() -> None:
    @functools.wraps(_takes_other)
    def wrapped(**inputs: Any) -> Prediction:
        return Prediction(answer=inputs["question"].upper())

    devset = examples(2)
    assert Evaluate(devset, right)(wrapped).score == 1.0
    assert Evaluate(devset, right)(functools.lru_cache(wrapped)).score == 1.0
    with pytest.raises(DefinitionError, match="missing a required argument: 'tone'"):
        Evaluate([*devset, Example(question="a", tone="b").with_inputs("question")], right)(lambda question, tone: 0)
