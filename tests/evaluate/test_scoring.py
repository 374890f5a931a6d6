"""How metrics are called, and what they may return."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from dspex.data import Evaluation, Example, Prediction, Score, Usage
from dspex.errors import MetricError
from dspex.evaluate import Scorer
from dspex.execution import Run

EXAMPLE = Example(question="2 + 2?", answer="4").with_inputs("question")


def read(value: Any) -> tuple[dict[str, float], str]:
    def accuracy(example: Example, prediction: Prediction) -> Any:
        return value

    scorer = Scorer(accuracy)
    return scorer.read(scorer.call(EXAMPLE, Prediction(), [], Run()), EXAMPLE)


@pytest.mark.parametrize(
    ("value", "scores"),
    [
        (True, {"score": 1.0}),
        (0, {"score": 0.0}),
        (0.25, {"score": 0.25}),
        (-3, {"score": -3.0}),
        (np.float32(0.5), {"score": 0.5}),
        (np.bool_(True), {"score": 1.0}),
        (np.array(2), {"score": 2.0}),
        (Decimal("0.5"), {"score": 0.5}),
        (Fraction(1, 4), {"score": 0.25}),
        (Score(0.5), {"score": 0.5}),
        (Score(0.5, objectives={"recall": 0.1}), {"score": 0.5, "recall": 0.1}),
        ({"score": 1, "brevity": 0.5}, {"score": 1.0, "brevity": 0.5}),
        ({"recall": 0.2}, {"score": 0.2, "recall": 0.2}),
    ],
)
def test_what_a_metric_may_return(value: Any, scores: dict[str, float]) -> None:
    found, feedback = read(value)
    assert (found, feedback) == (scores, "")
    assert next(iter(found)) == "score"
    assert all(type(number) is float for number in found.values())


def test_feedback_is_kept() -> None:
    assert read(Score(0.0, "The city is missing."))[1] == "The city is missing."
    assert read({"score": Score(0.0, "too long"), "b": Score(1.0, "fine")})[1] == "score: too long\nb: fine"


def test_which_of_several_objectives_is_the_main_one_is_said_and_not_guessed() -> None:
    value = {"recall": 0.2, "brevity": True}
    with pytest.raises(
        MetricError,
        match=r"(?s)metric 'accuracy' returned \{'recall': 0\.2, 'brevity': True\}, 2 objectives of which none is "
        r"called 'score'.*Say which of them programs are ranked by: \{\"score\": \.\.\., 'brevity': \.\.\.\}",
    ):
        read(value)

    def scored(*ranked_by: str) -> dict[str, float]:
        return Scorer(lambda example, prediction: value, ranked_by=ranked_by).read(value, EXAMPLE)[0]

    assert scored("cost", "brevity", "recall") == {"score": 1.0, "recall": 0.2, "brevity": 1.0}
    with pytest.raises(MetricError, match="none is called 'score'"):
        scored("score")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "returned None (NoneType), which is no score (is there a path without a `return`?)"),
        ("yes", "returned 'yes' (str), which is no score"),
        (math.nan, "returned nan (float), which is no score"),
        (10**400, "(int), which is no score"),
        ({"score": 10**400}, "(dict), which is no score"),
        (Decimal("sNaN"), "(Decimal), which is no score"),
        (np.float64("inf"), "(float64), which is no score"),
        ([1.0], "returned [1.0] (list), which is no score"),
        (np.array([1.0, 2.0]), "(ndarray), which is no score"),
        ({}, "returned {} (dict), which is no score"),
        ({"score": None}, "returned {'score': None} (dict), which is no score"),
        (Prediction(answer=4), "returned Prediction(answer=4) (Prediction), which is no score"),
        (1 + 2j, "returned (1+2j) (complex), which is no score"),
    ],
)
def test_what_is_no_score_is_named_with_example_and_advice(value: Any, said: str) -> None:
    with pytest.raises(MetricError) as caught:
        read(value)
    message = str(caught.value)
    assert message.startswith("metric 'accuracy' returned")
    assert said in message
    assert f"for example {EXAMPLE.id}: Example(question='2 + 2?', answer='4')" in message
    assert message.endswith(
        "Return a float or bool, dspex.Score(value, feedback), or a dict of named objectives such as "
        '{"score": 0.5, "brevity": 0.9}.'
    )


def test_measured_names_are_taken() -> None:
    with pytest.raises(MetricError, match=r"an objective called 'cost', which dspex measures itself"):
        read({"score": 1.0, "cost": 2.0})
    with pytest.raises(MetricError, match=r"whose objective 3 \(int\) is no name"):
        read({3: 1.0})


def _two(example: Any, prediction: Any) -> float:
    return 0.0


def _three(example: Any, prediction: Any, trace: Any) -> float:
    return float(trace is not None)


def _dspy(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> float:
    return float(trace is not None)


def _other_default(example: Any, prediction: Any, threshold: float = 0.5) -> float:
    return threshold


class _Object:
    def __call__(self, example: Any, prediction: Any) -> float:
        return 1.0

    def method(self, example: Any, prediction: Any, trace: Any) -> float:
        return 2.0 if trace == ["entry"] else 0.0


@pytest.mark.parametrize(
    ("metric", "with_trace", "expected"),
    [
        (_two, False, 0.0),
        (_two, True, 0.0),
        (_three, False, 1.0),
        (_dspy, False, 0.0),
        (_dspy, True, 1.0),
        (_other_default, True, 0.5),
        (_Object(), True, 1.0),
        (_Object().method, False, 2.0),
        (lambda *arguments: float(len(arguments)), False, 2.0),
        (max, False, None),
    ],
)
def test_the_trace_goes_to_who_asks_for_it(metric: Any, with_trace: bool, expected: float | None) -> None:
    scorer = Scorer(metric, with_trace=with_trace)
    if expected is not None:
        assert scorer.call(EXAMPLE, Prediction(), ["entry"], Run()) == expected  # type: ignore[list-item]


def test_a_metric_with_other_parameters_is_refused_at_once() -> None:
    def judge(prediction: Any) -> float:
        return 1.0

    with pytest.raises(
        MetricError,
        match=r"metric 'judge' takes \(prediction.*called with \(example, prediction\) or .*"
        r"write def judge\(example, prediction\): \.\.\.",
    ):
        Scorer(judge)
    with pytest.raises(MetricError, match=r"metric must be a function .*got 'accuracy' \(str\)"):
        Scorer("accuracy")  # type: ignore[arg-type]


def test_a_scorer_is_made_once() -> None:
    scorer = Scorer(_two)
    assert Scorer.of(scorer) is scorer
    assert Scorer.of(_two).metric is _two


def test_async_metrics_are_known() -> None:
    async def judge(example: Any, prediction: Any) -> float:
        return 1.0

    class Judge:
        async def __call__(self, example: Any, prediction: Any) -> float:
            return 1.0

    assert Scorer(judge).is_async
    assert Scorer(Judge()).is_async
    assert not Scorer(_two).is_async


def test_cost_is_what_it_costs_without_a_cache() -> None:
    def measured(usage: Usage) -> dict[str, float]:
        return Evaluation(example_id="5f1c", status="ok", usage=usage).measured

    cached = Usage(cached_calls=2, prompt_tokens=10, saved_cost=0.5, saved_tokens=30)
    assert measured(cached) == {"cost": 0.5, "tokens": 40.0, "calls": 2.0}
    assert "cost" not in measured(Usage(calls=1, cost=None))
    assert "cost" not in measured(Usage(cached_calls=1, saved_cost=None))
