"""The result of an evaluation: numbers, text, table, JSON, CSV, comparison."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from dspex.data import Evaluation, Example, Prediction, Usage
from dspex.errors import LMTimeoutError, ParseError, StateError, StorageError
from dspex.evaluate import Evaluate, EvaluationResult, mean_interval, wilson_interval
from tests.evaluate.fakes import Fake, examples, right


def row(example: str, score: float | None, *, rollout: int = 0, **more: object) -> Evaluation:
    scores = {} if score is None else {"score": score}
    status = "failed" if score is None else "ok"
    return Evaluation(example_id=example, status=status, scores=scores, rollout=rollout, **more)  # type: ignore[arg-type]


def result(*rows: Evaluation, **more: object) -> EvaluationResult:
    return EvaluationResult(rows=rows, planned=len(rows), **more)  # type: ignore[arg-type]


@pytest.fixture
def mixed() -> EvaluationResult:
    def answer(question: str) -> Prediction:
        if question == "b":
            raise LMTimeoutError("too slow")
        if question == "c":
            raise ParseError("no field, at all")
        return Prediction(answer=question.upper(), tags=["x", 1])

    program = Fake(answer, usage=Usage(calls=1, prompt_tokens=10, cost=0.001))
    return Evaluate(examples(4), right, retries=0)(program)


def test_score_and_interval_are_over_scored_examples() -> None:
    found = result(row("a", 1.0), row("b", 0.0), row("c", None), row("d", 1.0))
    assert found.score == pytest.approx(2 / 3)
    assert found.interval == wilson_interval(2, 3)
    graded = result(row("a", 0.5), row("b", 0.25), row("c", 1.0))
    assert graded.interval == mean_interval([0.5, 0.25, 1.0])
    assert result(row("a", 0.5), row("b", 0.75), confidence=0.5).interval == mean_interval([0.5, 0.75], confidence=0.5)


def test_an_example_with_several_rollouts_counts_once() -> None:
    found = result(row("a", 1.0), row("a", 0.0, rollout=1), row("a", 0.5, rollout=2), row("b", 1.0))
    assert found.by_example() == {"a": 0.5, "b": 1.0}
    assert found.score == 0.75


def test_nothing_scored_is_not_zero() -> None:
    assert math.isnan(result().score)
    assert math.isnan(result(row("a", None, error="X: y")).score)
    assert all(map(math.isnan, result().interval))
    assert str(result()).startswith("nothing was evaluated")


def test_objectives_that_are_not_known_for_all_are_left_out() -> None:
    known, unknown = Usage(calls=1, cost=0.5), Usage(calls=1, cost=None)
    found = result(row("a", 1.0, usage=known, latency=1.0), row("b", 1.0, usage=unknown, latency=3.0))
    assert found.objectives == {"score": 1.0, "tokens": 0.0, "calls": 1.0, "latency": 2.0}


def test_consistency_is_the_chance_that_two_rollouts_agree() -> None:
    rows = [row("a", 1.0, rollout=index, output={"answer": text}) for index, text in enumerate("xxy")]
    rows += [row("b", 1.0, rollout=index, output={"answer": "z"}) for index in range(3)]
    assert result(*rows).objectives["consistency"] == pytest.approx((1 / 3 + 1) / 2)
    assert "consistency" not in result(*rows[::3]).objectives


def test_the_same_example_twice_in_a_devset_is_no_consistency() -> None:
    assert "consistency" not in result(row("a", 1.0), row("a", 0.0)).objectives


def test_compare_pairs_what_both_have_scored() -> None:
    new = result(*(row(name, 1.0) for name in "abcdefgh"), row("x", None), row("only new", 0.0))
    old = result(*(row(name, 0.0) for name in "hgfedcba"), row("x", 1.0))
    test = new.compare(old)
    assert (test.count, test.difference, test.significant) == (8, 1.0, True)
    assert test.p_value == pytest.approx(2 / 256)
    assert old.compare(new).difference == -1.0
    with pytest.raises(StateError, match=r"no scored example in common for 'score' \(10? and 1 examples\)|no scored"):
        result(row("a", 1.0)).compare(result(row("b", 1.0)))


def test_str_is_one_line(mixed: EvaluationResult) -> None:
    text = str(mixed)
    assert text.startswith("score 0.667 [0.208, 0.939] on 3 examples, 1 failed (LMTimeoutError), 1 raised (ParseError)")
    assert "4 calls, 40 tokens, $0.004" in text
    assert "\n" not in text
    assert repr(mixed) == f"<EvaluationResult: {text}>"


def test_the_commonest_error_is_named() -> None:
    found = result(row("a", None, error="A: x"), row("b", None, error="B: x"), row("c", None, error="B: y"))
    assert str(found).startswith("nothing was scored: all 3 examples failed (mostly B)")


def test_json_round_trip(mixed: EvaluationResult, tmp_path: Path) -> None:
    data = mixed.to_json(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text("utf-8")) == data == json.loads(json.dumps(data))
    assert (data["score"], data["failed"], data["errors"], data["kind"]) == (mixed.score, 1, 1, "evaluation")
    for again in (EvaluationResult.from_json(data), EvaluationResult.from_json(tmp_path / "result.json")):
        assert again.rows == mixed.rows
        assert again.examples == mixed.examples
        assert [e.input_keys for e in again.examples] == [e.input_keys for e in mixed.examples]
        assert (again.score, again.interval, again.objectives) == (mixed.score, mixed.interval, mixed.objectives)
        assert str(again) == str(mixed)


def test_half_a_surrogate_pair_in_an_answer_is_written_and_read(tmp_path: Path) -> None:
    found = Evaluate(examples(1), right)(Fake(lambda question: Prediction(answer="café \ud83d")))
    found.to_json(tmp_path / "result.json")
    again = EvaluationResult.from_json(tmp_path / "result.json")
    assert again.rows[0].output == found.rows[0].output == {"answer": "café \ud83d"}
    found.to_csv(tmp_path / "result.csv")
    assert "café \\ud83d" in (tmp_path / "result.csv").read_text("utf-8")


def test_json_has_no_nan() -> None:
    data = result(row("a", None, error="X: y")).to_json()
    assert json.loads(json.dumps(data, allow_nan=False))["score"] is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"rows": []}, 'no saved evaluation: its "kind" is not "evaluation"'),
        ({"kind": "evaluation", "schema": 99}, "has the schema 99, and this dspex reads 1"),
    ],
)
def test_other_json_is_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(StateError, match=message):
        EvaluationResult.from_json(data)


def test_a_file_that_is_no_saved_evaluation(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.json' cannot be read"):
        EvaluationResult.from_json(tmp_path / "nowhere.json")
    (tmp_path / "junk.json").write_text("{{")
    with pytest.raises(StorageError, match=r"junk\.json' is no saved evaluation: it is not JSON"):
        EvaluationResult.from_json(tmp_path / "junk.json")


def test_what_is_no_result_cannot_be_compared_with() -> None:
    with pytest.raises(
        StateError, match=r"takes the result of another evaluation, got 0\.5 \(float\); write result\.com"
    ):
        result(row("a", 1.0)).compare(0.5)  # type: ignore[arg-type]  # the test


def test_csv_has_a_line_for_each_row(mixed: EvaluationResult, tmp_path: Path) -> None:
    text = mixed.to_csv(tmp_path / "result.csv")
    assert (tmp_path / "result.csv").read_text("utf-8") == text
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["status"] for line in lines] == ["ok", "failed", "ok", "ok"]
    assert [line["score"] for line in lines] == ["1.0", "", "0.0", "1.0"]
    assert [line["example.question"] for line in lines] == list("abcd")
    assert lines[0]["output.answer"] == "A"
    assert json.loads(lines[0]["output.tags"]) == ["x", 1]
    assert lines[2]["error"] == "ParseError: no field, at all"
    assert float(lines[0]["cost"]) == 0.001


def test_table_shows_rows_and_summary(mixed: EvaluationResult) -> None:
    table = mixed.to_table(width=140)
    assert "score 0.667" in table
    assert "question=a, answer=A" in table
    assert 'answer=A, tags=["x", 1]' in table
    assert "error=LMTimeoutError: too slow" in table
    assert "failed" in table
    assert max(map(len, table.splitlines())) <= 140
    assert "and 3 more rows" in mixed.to_table(limit=1)


def test_table_takes_nothing_as_markup() -> None:
    devset = [Example(question="[red]x[/nope]", answer="[b]").with_inputs("question")]
    table = Evaluate(devset, lambda e, p: 1.0)(Fake(str)).to_table()
    assert "[red]x[/nope]" in table
    assert "answer=[b]" in table
