"""Usage, Score and Evaluation."""

from __future__ import annotations

import json
import pickle
import time

import pytest
from hypothesis import given, strategies as st

from dspex.data import Evaluation, Score, Usage
from dspex.errors import MetricError

counts = st.integers(0, 10_000)
costs = st.none() | st.integers(0, 1000).map(float)
usages = st.builds(
    Usage,
    calls=counts,
    cached_calls=counts,
    failed_calls=counts,
    prompt_tokens=counts,
    completion_tokens=counts,
    cost=costs,
    saved_cost=costs,
)


@given(usages, usages, usages)
def test_adding_is_associative_and_commutative(a: Usage, b: Usage, c: Usage) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c) == sum([a, b, c])


@given(usages, usages)
def test_an_unknown_cost_makes_the_sum_unknown(a: Usage, b: Usage) -> None:
    total = a + b
    assert (total.cost is None) == (a.cost is None or b.cost is None)
    assert (total.saved_cost is None) == (a.saved_cost is None or b.saved_cost is None)
    if a.cost is not None and b.cost is not None:
        assert total.cost == a.cost + b.cost
    assert total.total_tokens == a.total_tokens + b.total_tokens


@given(usages)
def test_usage_survives_json_pickle_and_copy(usage: Usage) -> None:
    before = usage.to_json()
    for copied in (
        Usage.from_json(json.loads(json.dumps(before))),
        pickle.loads(pickle.dumps(usage)),
        usage.copy(),
    ):
        assert copied == usage
        copied.add(Usage(calls=1))
        assert copied != usage
    assert usage.to_json() == before


@pytest.mark.parametrize(
    ("usage", "text"),
    [
        (Usage(), "0 calls, 0 tokens, $0"),
        (
            Usage(calls=9, cached_calls=3, prompt_tokens=4310, cost=0.0021),
            "12 calls (3 cached), 4,310 tokens, $0.0021",
        ),
        (Usage(calls=2, cost=None), "2 calls, 0 tokens, cost unknown for 2 calls"),
        (Usage(calls=1, cost=1234.567), "1 call, 0 tokens, $1,234.57"),
        (Usage(calls=1, cost=0.0000012), "1 call, 0 tokens, $1.2e-06"),
        (Usage(cached_calls=2, saved_tokens=5), "2 calls (2 cached), 0 tokens, $0, saved 5 tokens"),
        (
            Usage(cached_calls=1, saved_tokens=1500, saved_cost=0.5),
            "1 call (1 cached), 0 tokens, $0, saved 1,500 tokens and $0.5",
        ),
        (Usage(cached_calls=1, saved_cost=None), "1 call (1 cached), 0 tokens, $0, saved cost unknown"),
        (Usage(calls=1, failed_calls=2), "1 call (2 failed), 0 tokens, $0"),
    ],
)
def test_usage_reads_well(usage: Usage, text: str) -> None:
    assert str(usage) == text
    assert repr(usage) == f"<Usage: {text}>"


def test_usage_is_true_when_something_was_asked() -> None:
    assert not Usage()
    assert Usage(cached_calls=1)
    assert Usage(failed_calls=1)


def test_usage_read_from_an_older_record_misses_nothing() -> None:
    assert Usage.from_json({"calls": 2}) == Usage(calls=2)
    assert Usage(cost=None).unknown_calls == 1
    assert Usage(calls=3, cost=None, unknown_calls=1).unknown_calls == 1


def test_a_score_is_a_float_with_a_reason() -> None:
    score = Score(True, "right", objectives={"recall": 1})
    assert isinstance(score, float)
    assert (score, score.value, score.feedback, score.objectives) == (1.0, 1.0, "right", {"recall": 1.0})
    assert sum([score, Score(0.5)]) == 1.5
    assert Score(0.2) < Score(0.3)
    assert json.dumps(Score(0.5)) == "0.5"
    assert score.to_json() == {"value": 1.0, "feedback": "right", "objectives": {"recall": 1.0}}
    copied = pickle.loads(pickle.dumps(score))
    assert (copied, copied.feedback, copied.objectives) == (score, score.feedback, score.objectives)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "0.5", None, [1]])
def test_a_score_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(MetricError, match=r"Score's value must be a finite number, got .*write Score\(0\.0, 'why'\)"):
        Score(value)  # type: ignore[arg-type]
    with pytest.raises(MetricError, match=r"Score's objectives\['f1'\] must be a finite number"):
        Score(0.5, objectives={"f1": value})  # type: ignore[dict-item]


def test_objectives_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(MetricError, match=r"objectives must be a mapping of names to numbers, got 3 \(int\)"):
        Score(0.5, objectives=3)  # type: ignore[arg-type]


def test_feedback_that_is_no_text_is_refused() -> None:
    with pytest.raises(MetricError, match=r"feedback must be text, got 3 \(int\)"):
        Score(0.5, 3)  # type: ignore[arg-type]


def test_an_evaluation_survives_json_and_pickle() -> None:
    row = Evaluation(
        example_id="ab",
        status="ok",
        scores={"score": 0.5, "recall": 1.0},
        feedback="half",
        error="ParseError: no city",
        rollout=2,
        latency=0.25,
        usage=Usage(calls=1, cost=None),
        trial=7,
        fingerprint="cd",
        output={"city": "Rome"},
    )
    assert Evaluation.from_json(json.loads(json.dumps(row.to_json()))) == row
    assert pickle.loads(pickle.dumps(row)) == row
    assert (row.score, row.ok) == (0.5, True)
    assert abs(row.started - time.time()) < 5


def test_a_failed_evaluation_has_no_score() -> None:
    row = Evaluation(example_id="ab", status="failed", error="LMTimeoutError: 60 s")
    assert row.score is None
    assert not row.ok
    assert row.scores == {}


def test_a_record_of_a_later_version_is_read() -> None:
    row = Evaluation(example_id="ab", status="ok")
    assert Evaluation.from_json({**row.to_json(), "colour": "red"}) == row
