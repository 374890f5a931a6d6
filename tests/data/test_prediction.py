from __future__ import annotations

import copy
import json
import pickle

import pytest

from dspex.data import RESERVED_PREDICTION_FIELDS, Completions, Example, Prediction, Usage
from dspex.errors import DataError


def test_fields_read_by_attribute_and_by_item_and_may_be_set() -> None:
    prediction = Prediction({"answer": 4}, note="sure")
    assert prediction.answer == prediction["answer"] == 4
    assert dict(prediction) == {"answer": 4, "note": "sure"} == prediction.to_dict() == prediction.toDict()
    prediction.context = ["a"]
    prediction["score"] = 0.5
    assert list(prediction) == ["answer", "note", "context", "score"]
    assert prediction.get("absent") is None
    assert len(prediction) == 4


def test_a_missing_field_is_named_with_the_ones_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no field 'anwser'; its fields are 'answer'"):
        _ = Prediction(answer=4).anwser
    with pytest.raises(KeyError, match="no field 'anwser'"):
        _ = Prediction(answer=4)["anwser"]


def test_from_fields_takes_the_dict_over() -> None:
    fields = {"answer": 4}
    usage = Usage(calls=1, cost=0.5)
    prediction = Prediction.from_fields(fields, None, usage, 0.25)
    fields["more"] = 1
    assert prediction.more == 1
    assert prediction.usage is usage
    assert (prediction.cost, prediction.latency) == (0.5, 0.25)


def test_what_was_not_measured_is_not_zero_seconds_and_no_calls() -> None:
    prediction = Prediction(answer=4)
    assert prediction.latency is None
    assert prediction.usage == Usage()
    assert prediction.usage is prediction.get_lm_usage()
    prediction.usage = Usage(calls=1, cost=None)
    prediction.latency = 2.0
    assert prediction.cost is None
    assert prediction.latency == 2.0
    assert "latency" not in prediction


@pytest.mark.parametrize("name", sorted(RESERVED_PREDICTION_FIELDS))
def test_names_that_the_library_reads_are_refused(name: str) -> None:
    message = rf"cannot have a field named '{name}': prediction\.{name} is part of Prediction itself\. Rename it"
    with pytest.raises(DataError, match=message):
        Prediction({name: 1})
    with pytest.raises(DataError, match=message):
        Prediction(answer=4)[name] = 1


def test_a_field_called_like_a_method_wins() -> None:
    prediction = Prediction(items=[1], cost=3.0, values=2, get=1)
    assert (prediction.items, prediction.cost, prediction.values, prediction.get) == ([1], 3.0, 2, 1)
    assert prediction.to_dict() == {"items": [1], "cost": 3.0, "values": 2, "get": 1}
    assert prediction.usage.cost == 0.0
    assert {**prediction} == prediction.to_dict()


def test_one_answer_is_its_own_only_completion() -> None:
    prediction = Prediction(answer=4)
    assert prediction.completions.answer == [4]
    assert prediction.completions[0] == prediction
    assert len(prediction.completions) == 1


def test_several_answers() -> None:
    rows = [{"answer": 4}, {"answer": 5}, {"answer": 6}]
    prediction = Prediction.from_completions(rows)
    assert prediction.answer == 4
    assert prediction.completions.answer == prediction.completions["answer"] == [4, 5, 6]
    assert [completion.answer for completion in prediction.completions] == [4, 5, 6]
    assert [completion.answer for completion in prediction.completions[1:]] == [5, 6]
    assert prediction == Prediction.from_completions({"answer": [4, 5, 6]})
    assert prediction.completions == Prediction.from_completions({"answer": [4, 5, 6]}).completions
    assert repr(prediction) == "Prediction(answer=4)  # and 2 more completions"
    assert rows == [{"answer": 4}, {"answer": 5}, {"answer": 6}]
    with pytest.raises(AttributeError, match="no field 'anwser'; their fields are 'answer'"):
        _ = prediction.completions.anwser


def test_completions_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(DataError, match=r"one value per answer in each field, got answer: 2, note: 1"):
        Prediction.from_completions({"answer": [4, 5], "note": ["x"]})
    with pytest.raises(DataError, match="at least one answer, got none"):
        Prediction.from_completions([])


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction(answer=4),
        Prediction.from_fields({"a": [1]}, [{"a": [1]}, {"a": [2]}], Usage(calls=2, cost=None), 1.5),
        Prediction({"First name": "Ada"}),
    ],
)
def test_pickle_copy_and_json_keep_everything(prediction: Prediction) -> None:
    for copied in (
        pickle.loads(pickle.dumps(prediction)),
        copy.deepcopy(prediction),
        Prediction.from_json(json.loads(json.dumps(prediction.to_json()))),
    ):
        assert copied == prediction
        assert copied.completions == prediction.completions
        assert copied.usage == prediction.usage
        assert copied.latency == prediction.latency


def test_equality_is_of_fields_and_predictions_do_not_hash() -> None:
    assert Prediction(a=1) == Prediction.from_fields({"a": 1}, latency=3.0)
    assert Prediction(a=1) != Prediction(a=2)
    assert Prediction(a=1) != Example(a=1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Prediction(a=1))


def test_completions_repr() -> None:
    assert repr(Completions([{"a": 1}])) == "Completions([{'a': 1}])"
    assert Example(Prediction(a=1)).to_dict() == {"a": 1}
