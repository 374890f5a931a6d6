"""What the ready-made metrics call right."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, strategies as st

from dspex.data import Example, Prediction, Score
from dspex.errors import MetricError
from dspex.evaluate import (
    answer_contains,
    answer_exact_match,
    answer_f1,
    contains,
    exact_match,
    f1,
    field_accuracy,
    normalize_text,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Quick, brown Fox!", "quick brown fox"),
        ("an apple a day", "apple day"),
        ("1,250.50", "1250.50"),
        ("-3", "-3"),
        ("well-known", "wellknown"),
        ("at 10:30.", "at 10:30"),
        ("+", "+"),
        ("The", "the"),
        ("", ""),
    ],
)
def test_normalize_text(text: str, expected: str) -> None:
    assert normalize_text(text) == expected


@given(st.text(max_size=40))
def test_normalizing_again_of_plain_words_changes_nothing(text: str) -> None:
    words = " ".join(part for part in text.lower().split() if part.isalnum() and part not in ("a", "an", "the"))
    assert normalize_text(words) == words


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("Paris.", "paris", 1.0),
        ("Paris", ["London", "Paris"], 1.0),
        ("Paris", ("London",), 0.0),
        ("4", 4, 1.0),
        (4, "4", 1.0),
        (4, 4.0, 1.0),
        (4, [3, 4], 1.0),
        (True, "true", 1.0),
        ("3.5", "35", 0.0),
        ("5", "-5", 0.0),
        ("1/2", "12", 0.0),
        ("+", "-", 0.0),
        (["a", "b"], ["a", "b"], 1.0),
        (["a"], ["a", "b"], 0.0),
        (None, None, 1.0),
        (None, "none", 0.0),
        ("", "", 1.0),
    ],
)
def test_exact_match(said: object, right: object, expected: float) -> None:
    assert exact_match(said, right) == expected


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("red fox", "red fox", 1.0),
        ("the red fox", "red dog", 0.5),
        ("red red", "red", 2 / 3),
        ("fox", ["dog", "red fox"], 2 / 3),
        ("", "fox", 0.0),
        ("", "", 1.0),
        ("fox", [], 0.0),
    ],
)
def test_f1(said: str, right: object, expected: float) -> None:
    assert f1(said, right) == pytest.approx(expected)


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_f1_is_symmetric_and_a_share(left: str, right: str) -> None:
    assert f1(left, right) == pytest.approx(f1(right, left))
    assert 0 <= f1(left, right) <= 1


def test_contains_looks_for_whole_words() -> None:
    assert contains("It is Paris, of course", "paris") == 1.0
    assert contains("a comparison", "paris") == 0.0
    assert contains("New York City", ["London", "New York"]) == 1.0
    assert contains("12", 2) == 0.0


def test_field_metrics_compare_the_answer_until_told_another() -> None:
    example, prediction = Example(answer="A", label="x y"), Prediction(answer="a", label="x z")
    assert answer_exact_match(example, prediction) == 1.0
    assert answer_exact_match(example, prediction, None) == 1.0
    assert answer_f1(field="label")(example, prediction) == 0.5
    assert answer_contains(field="label")(example, Prediction(label="it is x y")) == 1.0


def test_field_metrics_travel_to_workers() -> None:
    metric = answer_exact_match(field="label")
    assert pickle.loads(pickle.dumps(metric)) == metric


def test_a_missing_field_is_explained() -> None:
    with pytest.raises(
        MetricError, match=r"needs the field 'answer', but the prediction has only 'label'; .*field=\"label\""
    ):
        answer_exact_match(Example(answer="x"), Prediction(label="x"))
    with pytest.raises(MetricError, match=r"the example has only 'label'"):
        answer_exact_match(Example(label="x"), Prediction(answer="x"))


def test_field_accuracy_says_what_is_wrong() -> None:
    example = Example(text="...", street="Elm St", city="Troy", zip="12180").with_inputs("text")
    score = field_accuracy()(example, Prediction(street="elm st", city="Rome"))
    assert isinstance(score, Score)
    assert score == pytest.approx(1 / 3)
    assert score.feedback == "city should be 'Troy', not 'Rome'; zip should be '12180', not None"
    assert score.objectives == {"all_fields": 0.0}


def test_field_accuracy_of_chosen_fields_and_comparison() -> None:
    example = Example(text="...", street="North Elm St", city="Troy").with_inputs("text")
    prediction = Prediction(street="Elm St", city="Troy")
    assert field_accuracy("city")(example, prediction) == 1.0
    assert field_accuracy("city")(example, prediction).objectives == {"all_fields": 1.0}
    assert field_accuracy("street", compare=f1)(example, prediction) == pytest.approx(0.8)


def test_field_accuracy_without_labels_is_explained() -> None:
    with pytest.raises(MetricError, match=r'has none: say which fields are .*field_accuracy\("street", "city"\)'):
        field_accuracy()(Example(text="..."), Prediction())
