"""One example: what is scored, what is failed, what is tried again, what is raised."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from dspex.data import Evaluation, Example, Prediction, Score, Usage
from dspex.errors import (
    BudgetExceeded,
    DataError,
    DeadlineExceeded,
    DefinitionError,
    LMAuthError,
    LMContextWindowError,
    LMRateLimitError,
    LMTimeoutError,
    MetricError,
    ParseError,
    StorageError,
    TrialPruned,
)
from dspex.evaluate import ExampleRun, Scorer, Terms, aevaluate_one, as_program, evaluate_one
from dspex.execution import Budget, TraceEntry, active_run
from tests.evaluate.fakes import Fake, examples, right

EXAMPLE = examples(1)[0]

Evaluator = Callable[..., Evaluation]


def _awaited(*args: Any, **kwargs: Any) -> Evaluation:
    return asyncio.run(aevaluate_one(*args, **kwargs))


@pytest.fixture(params=["blocking", "awaited"])
def evaluate(request: pytest.FixtureRequest) -> Evaluator:
    """Both drivers, which every test here holds to the same behaviour."""
    return evaluate_one if request.param == "blocking" else _awaited


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between tries are taken note of, and take no time."""
    paused: list[float] = []

    def draw(low: float, high: float) -> float:
        return high

    monkeypatch.setattr("dspex.evaluate.one.random.uniform", draw)
    monkeypatch.setattr("dspex.evaluate.steps.Pause.perform", lambda self: paused.append(self.seconds))

    async def aperform(self: Any) -> None:
        paused.append(self.seconds)

    monkeypatch.setattr("dspex.evaluate.steps.Pause.aperform", aperform)
    return paused


class Flaky:
    """Raises the errors one after another, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self, question: str) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return question.upper()


def test_a_right_answer(evaluate: Evaluator) -> None:
    before = time.time()
    program = Fake(usage=Usage(calls=1, prompt_tokens=5, cost=0.25))
    row = evaluate(program, EXAMPLE, right, rollout=3, seed=10, fingerprint="f", trial=7)
    assert (row.status, row.scores, row.error) == ("ok", {"score": 1.0}, "")
    assert (row.example_id, row.rollout, row.trial, row.fingerprint) == (EXAMPLE.id, 3, 7, "f")
    assert row.output == {"answer": "A"}
    assert row.usage == Usage(calls=1, prompt_tokens=5, cost=0.25)
    assert row.latency is not None
    assert before <= row.started <= time.time()
    (run,) = program.seen
    assert (run.rollout_id, run.seed) == (3, 13)
    assert Evaluation.from_json(row.to_json()) == row


def test_feedback_and_objectives_are_in_the_row(evaluate: Evaluator) -> None:
    row = evaluate(Fake(), EXAMPLE, lambda e, p: Score(0.5, "why", objectives={"brevity": 0.9}))
    assert (row.scores, row.feedback) == ({"score": 0.5, "brevity": 0.9}, "why")


@pytest.mark.parametrize("error", [ParseError("no field"), ValueError("bad"), LMContextWindowError("long")])
def test_the_programs_own_errors_are_wrong_answers(evaluate: Evaluator, error: Exception) -> None:
    program = Fake(Flaky(error), usage=Usage(calls=1))
    row = evaluate(program, EXAMPLE, right)
    assert (row.status, row.scores) == ("ok", {"score": 0.0})
    assert row.error == f"{type(error).__name__}: {error}"
    assert row.output is None
    assert program.calls == 1
    assert row.usage.calls == 1


def test_the_failure_score_may_have_objectives(evaluate: Evaluator) -> None:
    program = Fake(Flaky(ParseError("x")))
    row = evaluate(program, EXAMPLE, right, failure_score={"recall": -1, "errors": 5})
    assert row.scores == {"score": -1.0, "recall": -1.0, "errors": 5.0}


@pytest.mark.parametrize("error", [LMTimeoutError("t"), ConnectionResetError("c"), TimeoutError("t")])
def test_infrastructure_errors_are_retried(evaluate: Evaluator, error: Exception, pauses: list[float]) -> None:
    program = Fake(Flaky(error, error), usage=Usage(calls=1, cost=0.5))
    row = evaluate(program, EXAMPLE, right)
    assert (row.status, row.scores, row.error) == ("ok", {"score": 1.0}, "")
    assert program.calls == 3
    assert row.usage == Usage(calls=3, cost=1.5)  # what the tries took that came to nothing is paid too
    assert pauses == [0.5, 1.0]


def test_then_the_row_is_failed_and_has_no_score(evaluate: Evaluator) -> None:
    program = Fake(Flaky(*[LMTimeoutError("too slow")] * 9), usage=Usage(calls=1))
    row = evaluate(program, EXAMPLE, right, retries=1)
    assert (row.status, row.scores, row.error) == ("failed", {}, "LMTimeoutError: too slow")
    assert program.calls == 2
    assert row.usage.calls == 2


def test_what_a_retry_cannot_mend_is_not_retried(evaluate: Evaluator) -> None:
    program = Fake(Flaky(LMAuthError("set OPENAI_API_KEY")))
    row = evaluate(program, EXAMPLE, right)
    assert (row.status, program.calls) == ("failed", 1)


def test_the_providers_wish_is_respected(evaluate: Evaluator, pauses: list[float]) -> None:
    evaluate(Fake(Flaky(LMRateLimitError("slow down", retry_after=12.0))), EXAMPLE, right)
    assert pauses == [12.0]


def test_no_pause_outlasts_the_deadline(evaluate: Evaluator, pauses: list[float]) -> None:
    program = Fake(Flaky(LMRateLimitError("slow down", retry_after=12.0)))
    row = evaluate(program, EXAMPLE, right, deadline=5.0)
    assert (row.status, row.error, pauses) == ("failed", "LMRateLimitError: slow down", [])


@pytest.mark.parametrize(
    "error",
    [BudgetExceeded("spent"), DefinitionError("bad"), StorageError("corrupt"), TrialPruned()],
    ids=lambda error: type(error).__name__,
)
def test_what_no_example_would_survive_is_raised(evaluate: Evaluator, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        evaluate(Fake(Flaky(error)), EXAMPLE, right)
    assert caught.value is error


def test_a_metric_that_raises_is_named_with_place_and_example(evaluate: Evaluator) -> None:
    def accuracy(example: Any, prediction: Any) -> float:
        return float(prediction.anser == example.answer)

    with pytest.raises(MetricError) as caught:
        evaluate(Fake(), EXAMPLE, accuracy)
    message = str(caught.value)
    assert message.startswith("metric 'accuracy' raised AttributeError: Prediction has no field 'anser'")
    assert "test_one.py:" in message
    assert f"for example {EXAMPLE.id}: Example(question='a', answer='A')" in message
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_metric_that_returns_nonsense_is_raised(evaluate: Evaluator) -> None:
    with pytest.raises(MetricError, match="returned None"):
        evaluate(Fake(), EXAMPLE, lambda e, p: None)


def test_a_metric_that_asks_a_model_may_be_retried_alone(evaluate: Evaluator) -> None:
    program = Fake()
    judge = Flaky(LMTimeoutError("judge is slow"))
    row = evaluate(program, EXAMPLE, lambda e, p: judge(p.answer) == "A")
    assert (row.status, row.scores, program.calls) == ("ok", {"score": 1.0}, 1)

    judge = Flaky(*[LMTimeoutError("judge is slow")] * 3)
    row = evaluate(program, EXAMPLE, lambda e, p: judge(p.answer) == "A")
    assert (row.status, row.error) == ("failed", "LMTimeoutError: judge is slow")
    assert row.output == {"answer": "A"}


def test_the_metrics_own_calls_are_not_the_programs() -> None:
    def judge(example: Any, prediction: Any) -> float:
        run = active_run()
        assert run is not None
        assert run.budget is budget
        run.account(Usage(calls=5))
        return 1.0

    budget = Budget(calls=100)
    one = ExampleRun(Fake(usage=Usage(calls=1)), EXAMPLE, Scorer(judge), Terms(budget=budget))
    assert one.perform().evaluation.usage.calls == 1
    assert one.judge.usage.calls == 5


def test_async_metrics_and_blocking_ones(evaluate: Evaluator) -> None:
    async def judge(example: Any, prediction: Any) -> bool:
        await asyncio.sleep(0)
        assert active_run() is not None
        return right(example, prediction)

    assert evaluate(Fake(), EXAMPLE, judge).score == 1.0
    assert evaluate(Fake(), EXAMPLE, Scorer(right)).score == 1.0


def test_the_trace_reaches_the_metric(evaluate: Evaluator) -> None:
    class Tracing(Fake):
        def _answered(self, inputs: Any, run: Any) -> Prediction:
            run.record(TraceEntry("answer", dict(inputs)))
            return super()._answered(inputs, run)

    def metric(example: Any, prediction: Any, trace: list[TraceEntry]) -> float:
        return float([entry.path for entry in trace] == ["answer"])

    assert evaluate(Tracing(), EXAMPLE, metric).score == 1.0


def test_awaiting_is_cancelled_at_the_deadline() -> None:
    cancelled = []

    class Hanging(Fake):
        async def aexecute(self, inputs: Any, *, run: Any) -> Prediction:
            self._enter(run)
            run.account(Usage(calls=1))
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            raise AssertionError

    program = Hanging()
    row = _awaited(program, EXAMPLE, right, deadline=2.0)
    assert (row.status, row.error) == ("failed", "DeadlineExceeded: the deadline of 2 s is over")
    assert cancelled == [True]
    assert program.seen[0].cancelled
    assert row.usage.calls == 1
    assert 2.0 <= row.latency < 30


def test_a_blocked_thread_is_given_up_at_the_deadline() -> None:
    program = Fake(latency=8.0)
    row = evaluate_one(program, EXAMPLE, right, deadline=2.0)
    assert (row.status, row.error) == ("failed", "DeadlineExceeded: the deadline of 2 s is over")
    assert program.seen[0].cancelled


def test_a_deadline_noticed_by_the_program_itself_is_the_same(evaluate: Evaluator) -> None:
    def late(question: str) -> str:
        raise DeadlineExceeded("the deadline of 0.1 s is over")

    row = evaluate(Fake(late), EXAMPLE, right, deadline=0.1, retries=0)
    assert (row.status, row.error) == ("failed", "DeadlineExceeded: the deadline of 0.1 s is over")


def test_functions_are_programs(evaluate: Evaluator) -> None:
    def plain(question: str) -> dict[str, str]:
        assert active_run() is not None
        return {"answer": question.upper()}

    async def awaiting(question: str) -> str:
        await asyncio.sleep(0)
        return question.upper()

    row = evaluate(plain, EXAMPLE, lambda e, p: p["answer"] == e.answer)
    assert (row.score, row.output) == (1.0, {"answer": "A"})
    row = evaluate(awaiting, EXAMPLE, lambda e, p: p == e.answer)
    assert (row.score, row.output) == (1.0, {"output": "A"})


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("question -> answer", r"got 'question -> answer' \(str\); write dspex.Predict\('question -> answer'\)"),
        (3, r"got 3 \(int\); write a subclass of dspex.Module"),
        (Fake, r"got the class Fake; write Fake\(\.\.\.\)"),
    ],
)
def test_what_is_no_program_is_explained(program: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        as_program(program)


def test_strange_outputs_do_not_lose_the_row(evaluate: Evaluator) -> None:
    class Thing:
        def __repr__(self) -> str:
            return "<a thing>"

    row = evaluate(Fake(lambda q: Prediction(thing=Thing(), tags=("x",))), EXAMPLE, lambda e, p: 1.0)
    assert row.output == {"thing": "<a thing>", "tags": ["x"]}


def test_an_example_without_inputs_is_explained(evaluate: Evaluator) -> None:
    with pytest.raises(DataError, match=r"example.with_inputs\('question', \.\.\.\)"):
        evaluate(Fake(), Example(question="a"), right)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retries": 1.5}, r"retries must be a whole number from 0 on, got 1\.5 \(float\)"),
        ({"deadline": 0}, r"deadline must be more than 0 seconds"),
        ({"deadline": "30"}, r"deadline must be a number of seconds, not '30' \(str\)"),
        ({"budget": 5}, r"budget must be a Budget, got 5 \(int\); write for example budget=dspex.Budget"),
        ({"failure_score": "0"}, r"failure_score must be a finite number, .*got '0' \(str\)"),
        ({"failure_score": {}}, r"failure_score must be a finite number"),
        ({"seed": "a"}, r"seed must be a whole number or None, got 'a' \(str\); write seed=0"),
    ],
)
def test_wrong_terms_are_explained(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        evaluate_one(Fake(), EXAMPLE, right, **arguments)
