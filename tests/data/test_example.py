from __future__ import annotations

import copy
import enum
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from datetime import date

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from dspex.data import RESERVED_EXAMPLE_FIELDS, Example
from dspex.errors import DataError
from dspex.variables.codec import decode, encode

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
names = st.text(alphabet="abcdefghij", min_size=1, max_size=4).filter(lambda name: name not in RESERVED_EXAMPLE_FIELDS)
fields = st.dictionaries(names, plain, max_size=4)


class Address(BaseModel):
    city: str
    zip: str | None = None


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


def test_fields_read_by_attribute_and_by_item() -> None:
    example = Example({"question": "2 + 2?"}, answer=4)
    assert example.question == example["question"] == "2 + 2?"
    assert list(example) == ["question", "answer"]
    assert len(example) == 2
    assert "answer" in example
    assert example.get("missing", 0) == 0
    assert dict(**example) == dict(example) == example.to_dict() == example.toDict()
    assert list(example.items()) == [("question", "2 + 2?"), ("answer", 4)]


def test_a_missing_field_is_named_with_the_ones_there_are() -> None:
    example = Example(question="2 + 2?", answer=4)
    with pytest.raises(AttributeError, match=r"no field 'anwser'; its fields are 'question', 'answer'"):
        _ = example.anwser
    with pytest.raises(KeyError, match="no field 'anwser'; the fields are"):
        _ = example["anwser"]
    assert not hasattr(example, "anwser")


def test_an_example_cannot_be_changed() -> None:
    example = Example(question="2 + 2?")
    with pytest.raises(AttributeError, match=r"write example = example\.copy\(answer=\.\.\.\)"):
        example.answer = 4
    with pytest.raises(AttributeError, match=r"write example\.without\('question'\)"):
        del example.question
    assert example.to_dict() == {"question": "2 + 2?"}
    example.to_dict()["question"] = "other"
    assert example.question == "2 + 2?"


def test_inputs_and_labels_part_the_fields_in_their_order() -> None:
    example = Example(a=1, b=2, c=3).with_inputs("c", "a")
    assert example.inputs().to_dict() == {"a": 1, "c": 3}
    assert example.labels().to_dict() == {"b": 2}
    assert example.input_keys == {"a", "c"}
    assert Example(a=1).input_keys is None
    assert Example(a=1).with_inputs().inputs().to_dict() == {}


def test_inputs_that_were_never_named_say_what_to_write() -> None:
    with pytest.raises(DataError, match=r"Write example\.with_inputs\('question', \.\.\.\)"):
        Example(question="2 + 2?", answer=4).inputs()
    with pytest.raises(DataError, match=r"labels are unknown.*with_inputs"):
        Example(question="2 + 2?").labels()


def test_inputs_that_are_no_fields_are_refused() -> None:
    with pytest.raises(DataError, match=r"no field 'questoin'; its fields are 'question'"):
        Example(question="2 + 2?").with_inputs("questoin")
    with pytest.raises(DataError, match=r"no field \['question'\]; .* Write with_inputs\('question', 'context'\)"):
        Example(question="2 + 2?").with_inputs(["question"])  # type: ignore[arg-type]


def test_copies_keep_the_inputs() -> None:
    example = Example(question="2 + 2?", answer=5, note="").with_inputs("question")
    assert example.copy(answer=4).labels().answer == 4
    assert example.without("note").labels().to_dict() == {"answer": 5}
    assert example.without("question", "absent").input_keys == frozenset()
    assert Example(example).input_keys == {"question"}
    assert copy.copy(example) is example
    assert copy.deepcopy(example) == example


@pytest.mark.parametrize("name", sorted(RESERVED_EXAMPLE_FIELDS))
def test_names_that_the_library_reads_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"example\.{name} is part of Example itself\. Rename it"):
        Example({name: 1})
    with pytest.raises(DataError, match=rf"rename={{'{name}': 'record_{name}'}}"):
        Example(question="2 + 2?").copy(**{name: 1})


def test_a_field_called_like_a_method_wins() -> None:
    example = Example(items=[1], values=[2], labels=["x"], get=3).with_inputs("items")
    assert (example.items, example.values, example.labels, example.get) == ([1], [2], ["x"], 3)
    assert dict(example) == {"items": [1], "values": [2], "labels": ["x"], "get": 3}
    assert Example.labels(example).to_dict() == {"values": [2], "labels": ["x"], "get": 3}
    assert example.inputs() == Example(items=[1])


def test_fields_that_are_no_identifiers_read_by_item() -> None:
    example = Example({"First name": "Ada", "_id": 7, "__dict__": 8})
    assert example["First name"] == "Ada"
    assert example._id == 7
    assert example["__dict__"] == 8
    assert eval(repr(example), {"Example": Example}) == example


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ([("a", 1)], r"a mapping of fields, got \[\('a', 1\)\] \(list\)"),
        ({3: 1}, r"field names are text, got 3"),
    ],
)
def test_what_is_no_mapping_of_names_is_refused(base: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Example(base)  # type: ignore[arg-type]


def test_the_id_depends_on_the_content_alone() -> None:
    example = Example(question="2 + 2?", answer=4)
    assert example.id == Example(answer=4, question="2 + 2?").id == example.with_inputs("question").id
    assert example.id != example.copy(answer=5).id
    assert example.id != Example(question="2 + 2?", answer="4").id
    assert len(example.id) == 16
    assert example.id is example.id


def test_the_id_is_the_same_in_another_process() -> None:
    code = "from dspex.data import Example; print(Example(a={'x', 'y', 'z'}, b=1.5, c=None).id)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == Example(c=None, b=1.5, a={"z", "x", "y"}).id


def test_rich_values_have_the_id_of_their_plain_form() -> None:
    rich = Example(address=Address(city="Rome"), colour=Colour.RED, point=Point(1, 2.0), day=date(2026, 5, 1))
    same = Example(address={"city": "Rome", "zip": None}, colour="red", point={"x": 1, "y": 2.0}, day="2026-05-01")
    assert rich.id == same.id
    assert rich.to_json() == same.to_dict()
    assert rich != same


def test_a_value_without_a_plain_form_is_named() -> None:
    example = Example(question="2 + 2?", socket=object())
    assert example == example.with_inputs("question")
    with pytest.raises(DataError, match=r"field 'socket' is <object .* has no plain JSON form.*to_json\(self\)"):
        _ = example.id


def test_infinite_numbers_have_an_id_and_valid_json() -> None:
    example = Example(x=float("nan"), y=[float("inf")])
    assert example.id
    assert json.loads(json.dumps(example.to_json(), allow_nan=False)) == {"x": "nan", "y": ["inf"]}


@given(fields)
def test_json_and_pickle_keep_content_inputs_and_id(values: dict[str, object]) -> None:
    example = Example(values).with_inputs(*list(values)[:2])
    for copied in (decode(json.loads(json.dumps(encode(example)))), pickle.loads(pickle.dumps(example))):
        assert copied == example
        assert copied.input_keys == example.input_keys
        assert copied.id == example.id
        assert hash(copied) == hash(example)
    assert Example(example.to_json()).id == example.id


@given(fields, fields)
def test_equal_examples_hash_alike(left: dict[str, object], right: dict[str, object]) -> None:
    one, other = Example(left), Example(right)
    assert (one == other) == (left == right)
    if one == other:
        assert hash(one) == hash(other)
    assert one != left


def test_equality_does_not_tell_one_from_true_and_neither_does_the_hash() -> None:
    assert Example(x=1) == Example(x=1.0) == Example(x=True)
    assert len({Example(x=1), Example(x=1.0), Example(x=True)}) == 1


def test_unhashable_values_can_be_in_a_set() -> None:
    assert len({Example(x=[1, {"a": [2]}]), Example(x=[1, {"a": [2]}]), Example(x={3})}) == 2


def test_an_example_with_rich_values_travels_in_plain_form() -> None:
    example = Example(address=Address(city="Rome"), pair=(1, 2)).with_inputs("pair")
    copied = decode(encode(example))
    assert copied.pair == (1, 2)
    assert copied.address == {"city": "Rome", "zip": None}
    assert copied.id == example.id


@given(fields.filter(bool))
def test_the_repr_is_the_code_that_makes_it(values: dict[str, object]) -> None:
    example = Example(values).with_inputs(next(iter(values)))
    made = eval(repr(example), {"Example": Example, "inf": float("inf")})
    assert made == example
    assert made.input_keys == example.input_keys


def test_data_does_not_import_pydantic() -> None:
    code = (
        "import sys; from dspex.data import *; Example(a=1).id; Prediction(a=1).usage;"
        "print(sorted({'pydantic', 'numpy', 'litellm', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
