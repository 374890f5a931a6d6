"""`Evaluate` on real programs: modules over a mock model, on both of its ways."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import dspex
from dspex import Example, MockLM, Predict
from dspex.data import Usage
from dspex.errors import DefinitionError, LMTimeoutError
from dspex.evaluate import Evaluate, answer_exact_match


class Blocking(dspex.Module):
    """The same question by a sync ``forward``, which makes the whole program blocking."""

    def __init__(self) -> None:
        self.answer = Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question)


@pytest.fixture(params=["tasks", "threads"])
def program(request: pytest.FixtureRequest) -> dspex.Module:
    """A program for each way of running examples."""
    made = Predict("question -> answer") if request.param == "tasks" else Blocking()
    assert made.natively_async is (request.param == "tasks")
    return made


def devset(count: int = 8) -> list[Example]:
    return [Example(question=f"q{index}", answer=f"A{index}").with_inputs("question") for index in range(count)]


def answering(messages: list[dict[str, str]], **_: Any) -> dict[str, str]:
    """A0 for q0, and so on."""
    question = messages[-1]["content"]
    return {"answer": next(f"A{index}" for index in range(99, -1, -1) if f"q{index}" in question)}


def test_a_program_is_scored_with_its_usage(program: dspex.Module) -> None:
    lm = MockLM(answering, price=(1.0, 2.0))
    result = Evaluate(devset(), answer_exact_match)(program, lm=lm)
    assert (result.score, result.failed, result.errors) == (1.0, 0, 0)
    assert len(lm.calls) == result.usage.calls == 8
    assert result.usage.cost is not None
    assert result.objectives["cost"] == pytest.approx(result.usage.cost / 8)
    assert sum((row.usage for row in result.rows), Usage()) == result.usage


def test_bound_programs_are_evaluated_with_their_values(program: dspex.Module) -> None:
    path = next(path for path in program.space().tunable if path.endswith("instructions"))
    lm = MockLM(lambda messages: {"answer": "yes" if "shout" in messages[0]["content"] else "no"})
    examples = [Example(question="q", answer="yes").with_inputs("question")]
    evaluate = Evaluate(examples, answer_exact_match)
    assert evaluate(program.bind({path: "shout!"}), lm=lm).score == 1.0
    assert evaluate(program, lm=lm).score == 0.0


def test_answers_that_do_not_parse_are_wrong_not_failed() -> None:
    lm = MockLM(lambda messages: {"answer": "many"})
    result = Evaluate(devset(3), answer_exact_match)(Predict("question -> answer: int"), lm=lm)
    assert (result.score, result.failed, result.errors) == (0.0, 0, 3)
    assert all(row.error.startswith("ParseError: ") for row in result.rows)


def test_infrastructure_errors_are_failed_not_wrong(program: dspex.Module) -> None:
    def failing(number: int) -> Exception | None:
        return LMTimeoutError("too slow") if number % 2 else None

    lm = MockLM(answering, failures=failing, retries=0)
    result = Evaluate(devset(8), answer_exact_match, retries=0, concurrency=1)(program, lm=lm)
    assert (result.score, result.failed) == (1.0, 4)


def test_the_budget_is_a_hard_cap(program: dspex.Module) -> None:
    lm = MockLM(answering, latency=0.002)
    budget = dspex.Budget(calls=5)
    result = Evaluate(devset(20), answer_exact_match, budget=budget, concurrency=4)(program, lm=lm)
    assert len(lm.calls) == 5
    assert (len(result.rows), result.score) == (5, 1.0)
    assert result.stopped.startswith("BudgetExceeded")


def test_the_deadline_ends_a_call_that_hangs(program: dspex.Module) -> None:
    lm = MockLM(answering, latency=lambda: 30.0 if len(lm.calls) == 1 else 0.0)
    result = Evaluate(devset(4), answer_exact_match, deadline=4.0, concurrency=1)(program, lm=lm)
    assert [row.status for row in result.rows] == ["failed", "ok", "ok", "ok"]


def test_a_judge_may_be_a_program_that_blocks(program: dspex.Module) -> None:
    judge = Predict("answer -> right: bool")
    threads = set()

    def metric(example: Example, prediction: dspex.Prediction) -> bool:
        threads.add(threading.current_thread())
        verdict: bool = judge(answer=prediction.answer).right
        return verdict

    def script(messages: list[dict[str, str]], **_: Any) -> dict[str, Any]:
        if "right" in messages[0]["content"]:
            return {"right": True}
        return answering(messages)

    with dspex.context(lm=MockLM(script, latency=0.01)):
        result = Evaluate(devset(48), metric, concurrency=24)(program)
    assert result.score == 1.0
    assert (result.usage.calls, result.metric_usage.calls) == (48, 48)
    assert len(threads) > 1


def test_rollouts_are_asked_for_separately_even_with_a_cache() -> None:
    answers = iter(["A0", "no", "A0"])
    lm = MockLM(lambda messages: {"answer": next(answers)}, cache=True)
    evaluate = Evaluate(devset(1), answer_exact_match, rollouts=3, concurrency=1)
    first = evaluate(Predict("question -> answer"), lm=lm)
    assert (first.score, first.usage.calls) == (pytest.approx(2 / 3), 3)
    again = evaluate(Predict("question -> answer"), lm=lm)
    assert (again.score, again.usage.calls, again.usage.cached_calls) == (first.score, 0, 3)


def test_a_model_that_is_missing_is_said_at_once() -> None:
    with pytest.raises(dspex.errors.LMRequestError, match="no model to ask"):
        Evaluate(devset(20), answer_exact_match)(Predict("question -> answer"))


class TwoSteps(dspex.Module):
    def __init__(self) -> None:
        self.first = Predict("question -> topic")
        self.second = Predict("topic, context: list[str] -> count: int, label: Literal['yes', 'no']")

    def forward(self, question: str) -> dspex.Prediction:
        return self.second(topic=self.first(question=question).topic, context=[])


@pytest.mark.parametrize(
    ("demo", "said"),
    [
        ({"topic": "a", "count": "many"}, r"demos\[1\]\.count = 'many' \(str\) does not fit .*valid integer"),
        ({"topic": "a", "label": "maybe"}, r"demos\[1\]\.label = 'maybe' \(str\) does not fit .*'yes' or 'no'"),
        ({"context": 7, "count": 1}, r"demos\[1\]\.context = 7 \(int\) does not fit .*valid list"),
        ({"topic": "a", "count": None}, r"demos\[1\]\.count = None does not fit .*or an Example without 'count'"),
    ],
)
def test_a_demo_whose_values_do_not_fit_is_refused_before_anything_is_paid(demo: dict[str, Any], said: str) -> None:
    lm = MockLM(lambda messages: {"topic": "t", "count": 1, "label": "yes"})
    program = TwoSteps()
    # What is missing is fine, and so is what reads as a value of the type.
    program.second.demos = (dspex.Example(topic=7, count="3"), dspex.Example(demo))
    with pytest.raises(DefinitionError, match=f"(?s){said}"):
        Evaluate(devset(2), lambda example, prediction: True)(program, lm=lm)
    assert not lm.calls
