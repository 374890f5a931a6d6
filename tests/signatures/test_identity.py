"""Equality, hash, key, JSON and pickle."""

from __future__ import annotations

import copy
import enum
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from pydantic import AfterValidator, BaseModel

from dspex.errors import StateError
from dspex.signatures import InputField, OutputField, Signature, SignatureMeta

T = TypeVar("T")


class Address(BaseModel):
    city: str


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int


class Box(BaseModel, Generic[T]):
    inner: T


class Ask(Signature):
    """Answer it."""

    question: str = InputField(desc="asked")
    answer: int = OutputField(ge=0)


SAME: list[tuple[Any, Any]] = [
    (Signature("a, b: int -> c"), Signature("a,b:int->c")),
    (Signature("a -> b: Optional[int]"), Signature("a -> b: int | None")),
    (Signature("a -> b: List[int]"), Signature("a -> b: list[int]")),
    (
        Ask,
        Signature("question -> answer: int", "Answer it.")
        .with_updated_fields("question", desc="asked")
        .with_updated_fields("answer", ge=0),
    ),
    (Ask, Ask.append("x", OutputField()).delete("x")),
    (Ask.with_instructions("x"), Ask.with_instructions("y").with_instructions("x")),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (Ask, Ask.with_instructions("x")),
    (Signature("a, b -> c"), Signature("b, a -> c")),
    (Signature("a -> b"), Signature("a -> b: int")),
    (Signature("a, b -> c"), Signature("a -> b, c")),
    (Signature("a -> b: Literal['x', 'y']"), Signature("a -> b: Literal['y', 'x']")),
    (Signature("a -> b: int"), Signature("a -> b: int").with_updated_fields("b", ge=0)),
    (Ask, Ask.with_updated_fields("question", desc="other")),
    (Ask, Ask.with_updated_fields("question", prefix="Q:")),
    (Ask, Ask.with_updated_fields("question", default=None, type_=str | None)),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_content_is_the_same_signature(one: Any, other: Any) -> None:
    assert one is not other
    assert one == other
    assert one.equals(other)
    assert hash(one) == hash(other)
    assert one.key == other.key
    assert len({one, other}) == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_content_is_another_signature(one: Any, other: Any) -> None:
    assert one != other
    assert not one.equals(other)
    assert one.key != other.key
    assert {one: 1, other: 2}[one] == 1


def test_a_signature_equals_nothing_else() -> None:
    assert Ask != "question -> answer"
    assert not Ask.equals(str)
    assert Ask.fields["question"] != "question"


def test_the_key_is_made_once_and_sees_inside_types() -> None:
    def make(kind: type) -> type[Signature]:
        class Reply(BaseModel):
            value: kind  # type: ignore[valid-type]

        return Signature("a -> b: Reply", custom_types={"Reply": Reply})

    make.__globals__["kind"] = None
    assert Ask.key is Ask.key
    first, second = make(int), make(str)
    assert first.key != second.key
    assert first != second
    assert make(int).key == first.key


def test_the_key_is_the_same_in_another_process() -> None:
    code = "from dspex.signatures import Signature; print(Signature('a -> b: Literal[1, \"x\"]', 'Do.').key)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == Signature("a -> b: Literal[1, 'x']", "Do.").key


STORED = [
    Signature("a, b: list[int] -> c: Literal['x', 1, None, -2, True], d: dict[str, float | None]"),
    Ask,
    Ask.with_instructions("Other."),
    Signature("a: Optional[Address] -> b: list[Point], c: Literal[Colour.RED, 'x'], d: Decimal, e: tuple[Colour]"),
    Signature("a -> b: Any, c: tuple[int, ...], d: set[str], e: object"),
    Signature({"a": (int, InputField(default=3)), "b": (str, OutputField(pattern="[a-z]+", max_length=3))}, "Do."),
    Signature({"a": (Address, InputField(default=Address(city="Rome"))), "b": OutputField()}),
]


@pytest.mark.parametrize("signature", STORED)
def test_json_gives_an_equal_signature_back(signature: Any) -> None:
    again = Signature.from_json(json.loads(json.dumps(signature.to_json(), allow_nan=False)))
    assert again == signature
    assert (again.key, again.__name__, again.describe()) == (
        signature.key,
        signature.__name__,
        signature.describe(),
    )


def test_instructions_made_from_fields_are_still_made_after_reading() -> None:
    again = Signature.from_json(Signature("a -> b").to_json())
    assert again.append("c", OutputField()).instructions.endswith("`b`, `c`.")


def test_two_classes_of_one_name_are_told_apart() -> None:
    other = type("Address", (BaseModel,), {"__module__": __name__, "__annotations__": {"street": str}})
    signature = Signature({"a": (Address, InputField()), "b": (dict[str, other], OutputField())})  # type: ignore[valid-type]
    both = Signature({"b": (tuple[Address, other], OutputField())})  # type: ignore[valid-type]
    assert both.to_json()["fields"][0]["type"] == "tuple[Address, Address_2]"
    again = Signature.from_json(both.to_json(), types={"Address_2": other})
    assert again == both
    assert signature != again


def test_a_class_of_a_function_has_to_be_given() -> None:
    class Local(BaseModel):
        n: int

    data = Signature("a -> b: list[Local]").to_json()
    with pytest.raises(
        StateError,
        match=r"field 'b' has the type 'Local', a class made inside a function .*types={'Local': Local}",
    ):
        Signature.from_json(data)
    assert Signature.from_json(data, types={"Local": Local}).fields["b"].annotation == list[Local]


def test_a_generic_model_has_to_be_given() -> None:
    data = Signature("a -> b: Box[int]").to_json()
    with pytest.raises(StateError, match=r"'Box_int', which cannot be imported .*types={'Box_int': Box_int}"):
        Signature.from_json(data)
    assert Signature.from_json(data, types={"Box_int": Box[int]}).fields["b"].annotation is Box[int]


def test_a_class_that_changed_is_explained() -> None:
    data = Signature("a -> b: Address").to_json()
    schema = data["fields"][1]["classes"]["Address"]["schema"]
    schema["properties"] = {"street": {"type": "string"}, "city": {"type": "integer"}}
    message = r"field 'b' has the type 'Address', and .* has changed .*'street' is gone; 'city' was .*, is .*types="
    with pytest.raises(StateError, match=message):
        Signature.from_json(data)
    assert Signature.from_json(data, types={"Address": Address}).fields["b"].annotation is Address


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("no.such.module:Address", r"cannot be imported from 'no\.such\.module:Address' any more"),
        ("json:Address", r"cannot be imported from 'json:Address' any more"),
        ("os:system", r"'os:system' is <built-in function system>, no type"),
        ("json:decoder", r"'json:decoder' is <module .*, no type"),
    ],
)
def test_a_class_that_is_gone_is_explained(ref: str, message: str) -> None:
    data = Signature("a -> b: Address").to_json()
    data["fields"][1]["classes"]["Address"]["ref"] = ref
    with pytest.raises(StateError, match=message):
        Signature.from_json(data)


def test_a_stored_signature_sees_no_variables_of_the_reader() -> None:
    data = Signature("a -> b: Address").to_json()
    del data["fields"][1]["classes"]
    with pytest.raises(StateError, match="there is no type 'Address' here"):
        Signature.from_json(data)


def test_other_versions_are_refused() -> None:
    with pytest.raises(StateError, match=r"of version 9; this dspex reads version 1"):
        Signature.from_json({**Ask.to_json(), "version": 9})


@pytest.mark.parametrize("key", ["name", "instructions", "fields"])
def test_damaged_data_is_refused(key: str) -> None:
    data = Ask.to_json()
    del data[key]
    with pytest.raises(StateError, match=rf"the stored signature is damaged \(KeyError: '{key}'\)"):
        Signature.from_json(data)
    with pytest.raises(StateError, match="damaged"):
        Signature.from_json({**Ask.to_json(), "fields": [3]})


def test_validators_that_are_functions_cannot_be_stored() -> None:
    class Odd(Signature):
        a: str = InputField()
        b: list[Annotated[int, AfterValidator(abs)]] = OutputField()

    with pytest.raises(StateError, match=r"field 'b' cannot be stored: inside list\[int\] there is an Annotated"):
        Odd.to_json()


@pytest.mark.parametrize("signature", STORED[:3])
def test_copies_and_pickles_are_equal(signature: Any) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(signature, protocol))
        assert again == signature
        assert again.__name__ == signature.__name__
    assert copy.deepcopy(signature) is signature
    assert copy.copy(signature) is signature


def test_a_class_statement_pickles_by_name(tmp_path: Path) -> None:
    (tmp_path / "my_signatures.py").write_text(
        "from dspex.signatures import *\n"
        "class Ask(Signature):\n    q: str = InputField()\n    a: int = OutputField()\n"
        "    class Inner(Signature):\n        q: str = InputField()\n        a: int = OutputField()\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        from my_signatures import Ask as Imported  # type: ignore[import-not-found]

        assert pickle.loads(pickle.dumps(Imported)) is Imported
        assert pickle.loads(pickle.dumps(Imported.Inner)) is Imported.Inner
        edited = pickle.loads(pickle.dumps(Imported.with_instructions("Do.")))
        assert edited == Imported.with_instructions("Do.")
        assert edited is not Imported
    finally:
        sys.path.remove(str(tmp_path))


def test_made_signatures_survive_a_spawned_process() -> None:
    class Local(Signature):
        """Inside a function."""

        q: list[str] = InputField(desc="asked", default=[])
        a: Literal["x", "y"] | None = OutputField()

    made = [
        Signature("a, b: int -> c: list[Literal['x', 1]], d: dict[str, float | None]", "Do."),
        Local,
        Local.append("n", OutputField(ge=0), int),
        Signature("a: Decimal -> b: Any"),
        Signature,
    ]
    assert Decimal
    # What is made on use stays behind.
    assert all(field.adapter for signature in made for field in signature.fields.values())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        # A method of the signature itself: the child imports nothing but dspex.
        assert pool.map(SignatureMeta.describe, made) == [signature.describe() for signature in made]
        assert pool.map(copy.copy, made) == made


def test_a_made_signature_can_be_used_by_many_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    signature = Signature("a -> b: list[Address]")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: (signature.key, signature.fields["b"].json_schema["type"]), range(64)))
    assert set(found) == {(signature.key, "array")}


def test_reading_a_signature_is_light() -> None:
    code = (
        "import sys; from dspex.signatures import Signature;"
        "made = Signature('a, b: list[int] -> c: Literal[1] | None').with_instructions('x');"
        "made.append('d', Signature('a -> b').fields['b']).key;"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_is_no_stored_signature() -> None:
    with pytest.raises(
        StateError, match=r"the stored signature is 'a -> b' \(str\); it must be what Signature\.to_json"
    ):
        Signature.from_json("a -> b")  # type: ignore[arg-type]  # the test
