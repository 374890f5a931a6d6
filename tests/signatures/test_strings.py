from __future__ import annotations

import datetime
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from dspex.errors import DefinitionError
from dspex.signatures import Signature, parse_type
from dspex.signatures.scope import Scope


class Address(BaseModel):
    city: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int


Tags = list[str]
shapes = types.SimpleNamespace(Point=Point)
date = "a variable of the module that is no type"


def annotations(signature: type[Signature]) -> list[Any]:
    return [field.annotation for field in signature.fields.values()]


def test_fields_types_and_order() -> None:
    signature = Signature("context: list[str], question -> answer: Literal['yes', 'no'], sure: float")
    assert list(signature.input_fields) == ["context", "question"]
    assert list(signature.output_fields) == ["answer", "sure"]
    assert list(signature.fields) == ["context", "question", "answer", "sure"]
    assert annotations(signature) == [list[str], str, Literal["yes", "no"], float]
    assert signature.input_fields["context"].is_input
    assert not signature.output_fields["sure"].is_input
    assert signature.__name__ == "Signature"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("str", str),
        ("Any", Any),
        ("None", None),
        ("dict[str, list[int]]", dict[str, list[int]]),
        ("tuple[int, ...]", tuple[int, ...]),
        ("Optional[int]", int | None),
        ("int | None", int | None),
        ("Union[int, str, None]", int | str | None),
        ("List[Dict[str, Tuple[int, float]]]", list[dict[str, tuple[int, float]]]),
        ("Sequence[Mapping[str, int]]", Sequence[Mapping[str, int]]),
        (
            "Literal['a, b', 'it -> is: so', \"c]\", 1, -1, True, None]",
            Literal["a, b", "it -> is: so", "c]", 1, -1, True, None],
        ),
        ("Literal[b'x']", Literal[b"x"]),
        ("Address", Address),
        ("Optional[list[Address]]", list[Address] | None),
        ("dict[str, Address | Point]", dict[str, Address | Point]),
        ("list['Address']", list[Address]),
        ("'list[Address]'", list[Address]),
        ("Colour", Colour),
        ("Literal[Colour.RED, 'other']", Literal[Colour.RED, "other"]),
        ("Tags", list[str]),
        ("shapes.Point", Point),
        ("datetime.date", datetime.date),
        ("typing.Optional[int]", int | None),
        ("typing.Any", Any),
    ],
)
def test_types_of_this_module(text: str, expected: Any) -> None:
    signature = Signature(f"x -> y: {text}")
    assert signature.output_fields["y"].annotation == expected
    assert Signature(f"x:{text}->y").input_fields["x"].annotation == expected
    assert typing is not None


def test_types_made_inside_a_function() -> None:
    class Local(BaseModel):
        n: int

    alias = dict[str, Local]
    assert annotations(Signature("a: Local -> b: list[Local | None], c: alias")) == [
        Local,
        list[Local | None],
        alias,
    ]

    def inner() -> type[Signature]:
        # Not a closure variable: the string hides the name from the compiler.
        return Signature("a -> b: Local")

    assert inner().output_fields["b"].annotation is Local
    assert [signature.output_fields["b"].annotation for signature in (Signature("a -> b: Local") for _ in "x")] == [
        Local
    ]


def test_types_of_a_class_body() -> None:
    class Program:
        class Reply(BaseModel):
            text: str

        signature = Signature("a -> b: Reply")

    assert Program.signature.output_fields["b"].annotation is Program.Reply


def test_the_nearest_type_of_a_name_is_meant() -> None:
    class Address(BaseModel):
        street: str

    assert Signature("a -> b: Address").output_fields["b"].annotation is Address


def test_a_variable_that_is_no_type_is_passed_over() -> None:
    Address = "12 Main Street"  # noqa: N806 - the point is that it hides a class
    list = str = [Address]
    assert annotations(Signature("a: str -> b: Address, c: list[int], d: Literal['x']"))[1] is globals()["Address"]
    assert len(list + str) == 2


def test_custom_types_come_first() -> None:
    signature = Signature("a -> b: Address, c: Thing", custom_types={"Address": int, "Thing": Point})
    assert annotations(signature)[1:] == [int, Point]


def test_a_scope_without_frames_sees_no_caller() -> None:
    with pytest.raises(DefinitionError, match="there is no type 'Address' here"):
        parse_type("Address", Scope(frames=False))
    assert parse_type("Address", Scope({"Address": int}, frames=False)) is int


def test_spaces_lines_and_unicode() -> None:
    signature = Signature(
        """
        größe: int,
        context: list[
            str
        ]
        -> antwort
        """
    )
    assert signature.spec == "größe: int, context: list[str] -> antwort"
    assert Signature("a->b").spec == Signature("  a  ->  b  ").spec == "a -> b"


def test_a_signature_may_do_without_inputs() -> None:
    signature = Signature("-> joke")
    assert (signature.spec, signature.instructions) == ("-> joke", "Produce the fields `joke`.")


def test_instructions_are_given_or_made() -> None:
    assert Signature("a, b -> c").instructions == "Given the fields `a`, `b`, produce the fields `c`."
    assert Signature("a -> b", "  Say b.\n  Twice.\n").instructions == "Say b.\nTwice."
    assert Signature("a -> b", instructions="Say b.", name="Say").__name__ == "Say"


WRONG = [
    ("", "it is empty", 0),
    ("  ", "it is empty", 0),
    ("question", "it has no '->' between inputs and outputs", 8),
    ("a => b", "write '->' instead of '=>'", 2),
    ("a → b", "write '->' instead of '→'", 2),
    ("a -> b -> c", "it has more than one '->'", 7),
    ("a ->", "it has no outputs after '->'", 4),
    ("a ->  ", "it has no outputs after '->'", 4),
    ("a -> b,", "an output has no name here", 6),
    ("a,, b -> c", "an input is missing before this comma", 2),
    (", a -> b", "an input is missing before this comma", 0),
    ("a -> : int", "an output has no name here", 4),
    (
        "my question -> a",
        "'my question' is no name; part fields with commas, and name and type with a colon",
        2,
    ),
    ("a-b -> c", "'a-b' is no name", 1),
    ("1a -> b", "'1a' is no name", 0),
    ("class -> b", "'class' is a word of Python's own; write class_ instead", 0),
    ("a: -> b", "'a' has a colon but no type", 1),
    ("a: list[int -> b", "this '[' is not closed", 7),
    ("a -> b: list[int]]", "this ']' closes nothing", 17),
    ("a -> b: list[int)", "this ')' does not close the '[' opened at 12", 16),
    ("a -> b: Literal['x]", "this quote ' is not closed", 16),
    ("a -> a", "there are two fields named 'a'", 5),
    ("a, b, a -> c", "there are two fields named 'a'", 6),
    ("a: lst[int] -> b", "there is no type 'lst' here; did you mean 'list'?", 3),
    ("é -> b: Adress", "there is no type 'Adress' here; did you mean 'Address'?", 8),
    (
        "a -> b: dict[str, Xyzzy]",
        "there is no type 'Xyzzy' here; import or define it where the signature is written",
        18,
    ),
    ("a -> b: datetime.dat", "datetime has no 'dat'", 8),
    ("a -> b: Literal[x]", "Literal takes values; write 'x' in quotes", 16),
    ("a -> b: Literal[1.5]", "'1.5' is no value for Literal", 16),
    ("a -> b: Literal", "Literal needs to know of what; write Literal['yes', 'no']", 8),
    ("a -> b: list[Optional]", "Optional needs to know of what; write Optional[int]", 13),
    ("a -> b: int[str]", "'int[str]' is no type (type 'int' is not subscriptable)", 8),
    ("a -> b: print('x')", "\"print('x')\" is no type", 8),
    ("a -> b: 3", "'3' is no type", 8),
    ("a -> b: int = 3", "'int = 3' is no type", 12),
    ("a -> b: list[3]", "'3' is no type", 13),
    ("a -> b: 'strr'", "there is no type 'strr' here; did you mean 'str'?", 8),
    (
        "a -> b: Annotated[int, 3]",
        "Annotated is for class signatures: write `score: float = OutputField(ge=0)`",
        8,
    ),
    ("a -> b: Colour.RED", "'Colour.RED' is <Colour.RED: 'red'> (Colour), not a type", 8),
]


@pytest.mark.parametrize(("spec", "reason", "caret"), WRONG)
def test_what_does_not_parse_is_shown_with_a_caret_and_a_right_one(spec: str, reason: str, caret: int) -> None:
    with pytest.raises(DefinitionError) as caught:
        Signature(spec)
    assert str(caught.value) == (
        f"the signature does not parse: {reason}\n"
        f"    Wrong:  {spec}\n"
        f"            {' ' * caret}^\n"
        "    Right:  \"context: list[str], question -> answer: Literal['yes', 'no']\""
    )


def test_containers_with_the_wrong_number_of_parameters_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"output 'b' cannot be dict\[str\]: .*\nWrong:  b: dict\[str\]"):
        Signature("a -> b: dict[str]")


def test_an_output_that_cannot_be_read_is_refused_and_an_input_is_not() -> None:
    class Socket:
        pass

    message = r"output 'b': a Socket cannot be read from a model's answer\.\nWrong:  b: Socket\nRight:  str, int"
    with pytest.raises(DefinitionError, match=message):
        Signature("a -> b: Socket")
    with pytest.raises(DefinitionError, match=r"output 'b': a list\[Socket\] cannot be read"):
        Signature("a -> b: list[Socket]")
    signature = Signature("a: Socket -> b")
    socket = Socket()
    assert signature.input_fields["a"].adapter.validate_python(socket) is socket
    assert signature.input_fields["a"].json_schema == {}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "id -> b",
            r"the input 'id' cannot have that name, because example\.id is .*\nRight:  record_id: str",
        ),
        ("a -> inputs: int", r"the output 'inputs' .*example\.inputs is part of Example"),
        (
            "a -> usage: int",
            r"the output 'usage' .*prediction\.usage is part of Prediction.*\nWrong:  usage: int",
        ),
        ("a -> __b", r"cannot begin with two underscores; write 'b'"),
    ],
)
def test_names_that_examples_or_predictions_need_are_refused(spec: str, message: str) -> None:
    with pytest.raises(DefinitionError, match="(?s)" + message):
        Signature(spec)


def test_names_that_signatures_themselves_use_are_fields_like_any_other() -> None:
    names = "fields, instructions, key, spec, append, mro, with_instructions, items, values, usage"
    signature = Signature(f"{names} -> output_fields, equals, labels, cost, get")
    assert list(signature.fields) == [*names.split(", "), "output_fields", "equals", "labels", "cost", "get"]
    assert signature.append("x", signature.fields["key"]).input_fields["x"].is_input
    assert signature.delete("fields").fields["spec"].name == "spec"


def test_nothing_in_a_string_is_executed() -> None:
    for text in ("__import__('os').system('true')", "(lambda: int)()", "[int for _ in 'x'][0]", "f'{1}'"):
        with pytest.raises(DefinitionError, match="does not parse"):
            Signature(f"a -> b: {text}")


@given(st.text(alphabet="ab ,:->[]'\"()|LiteralsnyOop.0é\n", max_size=40))
def test_any_text_parses_or_is_refused_with_a_caret_inside_it(spec: str) -> None:
    try:
        signature = Signature(spec)
    except DefinitionError as error:
        wrong, caret = str(error).splitlines()[1:3]
        if "Wrong:  " in wrong and caret.endswith("^"):
            assert len(caret) <= len("    Wrong:  ") + len(spec) + 1
    else:
        assert Signature(signature.spec) == signature


plain_types = st.recursive(
    st.sampled_from(
        ["int", "str", "float", "bool", "None", "Any", "Address", "Colour", "Point", "Literal['a', 1, None]"]
    ),
    lambda inner: st.one_of(
        inner.map("list[{}]".format),
        st.tuples(inner, inner).map(lambda pair: f"dict[str, {pair[0]} | {pair[1]}]"),
        inner.map("Optional[{}]".format),
        inner.map("tuple[{}, ...]".format),
    ),
    max_leaves=5,
)


@given(st.lists(plain_types, min_size=1, max_size=3), st.lists(plain_types, min_size=1, max_size=3))
def test_the_spec_of_a_signature_makes_it_again(inputs: list[str], outputs: list[str]) -> None:
    left = ", ".join(f"i{index}: {kind}" for index, kind in enumerate(inputs))
    right = ", ".join(f"o{index}: {kind}" for index, kind in enumerate(outputs))
    signature = Signature(f"{left} -> {right}")
    again = Signature(signature.spec)
    assert again == signature
    assert again.spec == signature.spec
    assert again.key == signature.key
    assert hash(again) == hash(signature)
