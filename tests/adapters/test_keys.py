"""Records whose keys are not the names of their fields, and NamedTuples: what is asked for is what is read."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Annotated, Any, NamedTuple, NotRequired

import pydantic.dataclasses
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import AliasChoices, AliasGenerator, AliasPath, BaseModel, ConfigDict, Field, computed_field
from typing_extensions import TypedDict

from dspex.adapters import Adapter, ChatAdapter, CompactAdapter, JSONAdapter, LinesAdapter, XMLAdapter
from dspex.adapters.describe import json_shape
from dspex.data import Example
from dspex.errors import ParseError
from dspex.signatures import InputField, OutputField, Signature, make_signature

ADAPTERS = [ChatAdapter(), CompactAdapter(), JSONAdapter(), LinesAdapter(), XMLAdapter()]
each = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)


class Choices(BaseModel):
    n: int = Field(validation_alias=AliasChoices("count", "num"), description="how many")


class PathFirst(BaseModel):
    n: int = Field(validation_alias=AliasChoices(AliasPath("all", 0), "count", AliasPath("num")))


class Apart(BaseModel):
    n: int = Field(validation_alias="N", serialization_alias="nn")


class Defaulted(BaseModel):
    n: int = Field(1, validation_alias="N", serialization_alias="nn")


class Written(BaseModel):
    n: int = Field(serialization_alias="nn")


class Swapped(BaseModel):
    n: int = Field(validation_alias="a", serialization_alias="b")
    m: int = Field(validation_alias="b", serialization_alias="a")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    n: int = Field(validation_alias="N", serialization_alias="nn")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2 * self.n


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False, extra="forbid")
    n: int = Field(alias="theCount")


class Generated(BaseModel):
    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=str.upper, serialization_alias=str.title))
    n: int


@pydantic.dataclasses.dataclass
class Aliased:
    n: int = Field(alias="theCount")


@dataclasses.dataclass
class Annotation:
    n: Annotated[int, Field(validation_alias="N", serialization_alias="nn")]


class Typed(TypedDict):
    n: Annotated[int, Field(alias="theCount")]
    note: NotRequired[Annotated[str, Field(validation_alias="N", serialization_alias="nn")]]


class Nested(BaseModel):
    one: Apart = Field(serialization_alias="first")
    many: list[Apart | None] = []
    named: dict[str, Aliased] = {}
    pair: tuple[int, Typed]
    other: Strict | Swapped


class Node(BaseModel):
    n: int = Field(validation_alias="N", serialization_alias="nn")
    below: list[Node] = Field([], validation_alias="Below", serialization_alias="children")


numbers = st.integers()
ones = {
    Choices: st.builds(Choices, count=numbers),
    PathFirst: st.builds(PathFirst, count=numbers),
    Apart: st.builds(Apart, N=numbers),
    Defaulted: st.builds(Defaulted, N=numbers),
    Written: st.builds(Written, n=numbers),
    Swapped: st.builds(Swapped, a=numbers, b=numbers),
    Strict: st.builds(Strict, N=numbers),
    ByName: st.builds(ByName, n=numbers),
    Generated: st.builds(Generated, N=numbers),
    Aliased: st.builds(Aliased, theCount=numbers),
    Annotation: st.builds(Annotation, numbers),
    Typed: st.builds(lambda n: {"n": n}, numbers) | st.builds(lambda n: {"n": n, "note": "x"}, numbers),
}
KEYS = {
    Choices: ["count"], PathFirst: ["count"], Apart: ["N"], Defaulted: ["N"], Written: ["n"], Swapped: ["a", "b"],
    Strict: ["N"], ByName: ["n"], Generated: ["N"], Aliased: ["theCount"], Annotation: ["N"], Typed: ["theCount", "N"],
}  # fmt: skip
nested = st.builds(
    Nested,
    one=ones[Apart],
    many=st.lists(st.none() | ones[Apart], max_size=3),
    named=st.dictionaries(st.text(max_size=3), ones[Aliased], max_size=2),
    pair=st.tuples(numbers, st.builds(lambda n: {"theCount": n}, numbers)),
    other=ones[Strict] | ones[Swapped],
)
nodes = st.recursive(
    st.builds(Node, N=numbers),
    lambda inner: st.builds(Node, N=numbers, Below=st.lists(inner, max_size=2)),
    max_leaves=4,
)
TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    *ones.items(),
    (Nested, nested),
    (Node, nodes),
    (list[Apart], st.lists(ones[Apart], max_size=3)),
    (list[Typed], st.lists(ones[Typed], max_size=3)),
    (dict[str, Defaulted], st.dictionaries(st.text(max_size=3), ones[Defaulted], max_size=3)),
    (tuple[Apart, Typed], st.tuples(ones[Apart], ones[Typed])),
    (Apart | None, st.none() | ones[Apart]),
    (Typed | list[Typed], ones[Typed] | st.lists(ones[Typed], max_size=2)),
    (Apart | Swapped, ones[Apart] | ones[Swapped]),
]


def asking(kind: Any) -> type[Signature]:
    return make_signature({"q": (str, InputField()), "out": (kind, OutputField())})


def cases() -> Any:
    return pytest.mark.parametrize(("kind", "values"), TYPED, ids=lambda one: getattr(one, "__name__", ""))


def shown(adapter: Adapter, signature: type[Signature], value: Any) -> str:
    head = adapter.head(signature, "", (Example(q="?", out=value),))
    return str(head[2]["content"])


@each
@cases()
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_what_is_rendered_is_read_back(
    adapter: Adapter, kind: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    signature, value = asking(kind), data.draw(values)
    answer = adapter.render_answer(signature, {"out": value})
    assert adapter.parse(signature, answer) == {"out": value}
    assert shown(adapter, signature, value) == answer


@each
@cases()
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_demo_that_was_saved_is_shown_like_the_one_that_was_made(
    adapter: Adapter, kind: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    signature, value = asking(kind), data.draw(values)
    saved = json.loads(json.dumps(Example(out=value).to_json()))["out"]
    assert adapter.parse(signature, shown(adapter, signature, saved)) == {"out": value}


@each
@pytest.mark.parametrize(("kind", "keys"), KEYS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_the_keys_that_are_asked_for_are_read(adapter: Adapter, kind: Any, keys: list[str]) -> None:
    signature = asking(kind)
    shape = json_shape(kind)
    assert [part.split('"')[1] for part in shape.strip("{}").split(", ")] == keys
    values = {key: "x" if key == "N" and kind is Typed else 7 for key in keys}
    text = json.dumps({"out": values} if adapter.json_first else values)
    answers = {"chat": f"[[ ## out ## ]]\n{text}", "lines": f"out: {text}", "xml": f"<out>{text}</out>"}
    read = adapter.parse(signature, answers.get(adapter.name, text))["out"]
    assert (read["n"] if isinstance(read, dict) else read.n) == 7


@pytest.mark.parametrize(("kind", "keys"), KEYS.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_the_schema_and_the_definitions_have_the_same_keys(kind: Any, keys: list[str]) -> None:
    adapter = CompactAdapter()
    layout = adapter._layout(asking(kind))
    schema = layout.schema["$defs"][kind.__name__] if "$defs" in layout.schema else layout.schema["properties"]["out"]
    assert list(schema["properties"]) == keys
    for key in keys:
        assert re.search(rf"^  {key}\??: ", layout.definitions, re.MULTILINE)


def test_notes_stand_at_the_keys() -> None:
    assert json_shape(Choices) == '{"count": integer (how many)}'
    assert "  count: int, // how many" in CompactAdapter()._layout(asking(Choices)).definitions


@each
@pytest.mark.parametrize("key", ["count", "num", "n", "Count"])
def test_other_names_of_a_field_are_understood(adapter: Adapter, key: str) -> None:
    answers = {
        "chat": f'[[ ## out ## ]]\n{{"{key}": "7"}}', "lines": f'out: {{"{key}": "7"}}',
        "xml": f"<out><{key}>7</{key}></out>",
    }  # fmt: skip
    text = answers.get(adapter.name, f'{{"out": {{"{key}": "7"}}}}')
    assert adapter.parse(asking(Choices), text)["out"].n == 7


def test_a_required_field_of_a_dataclass_is_said_to_be_one() -> None:
    assert "  theCount: int," in CompactAdapter()._layout(asking(Aliased)).definitions


class Pair(NamedTuple):
    a: int
    b: str


class Sized(NamedTuple):
    size: Annotated[int, Field(alias="Size")]
    pair: Pair | None = None


class Holder(BaseModel):
    pairs: list[Pair]
    sized: Sized = Field(serialization_alias="s")


pairs = st.builds(Pair, numbers, st.text(max_size=5).map(str.strip))
sized = st.builds(Sized, numbers, st.none() | pairs)
TUPLES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Pair, pairs),
    (Sized, sized),
    (list[Pair], st.lists(pairs, max_size=3)),
    (dict[str, Sized], st.dictionaries(st.text(max_size=3), sized, max_size=2)),
    (Pair | None, st.none() | pairs),
    (tuple[Pair, Sized], st.tuples(pairs, sized)),
    (Holder, st.builds(Holder, pairs=st.lists(pairs, max_size=2), sized=sized)),
]


@each
@pytest.mark.parametrize(("kind", "values"), TUPLES, ids=lambda one: getattr(one, "__name__", ""))
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_named_tuples_are_objects_and_read_back(
    adapter: Adapter, kind: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    signature, value = asking(kind), data.draw(values)
    answer = adapter.render_answer(signature, {"out": value})
    assert adapter.parse(signature, answer) == {"out": value}
    saved = json.loads(json.dumps(Example(out=value).to_json()))["out"]
    assert shown(adapter, signature, value) == shown(adapter, signature, saved) == answer


def test_a_named_tuple_is_one_thing_to_prompt_demos_and_schema() -> None:
    signature = asking(Pair)
    adapter = JSONAdapter()
    assert json_shape(Pair) == '{"a": integer, "b": string}'
    assert adapter.render_answer(signature, {"out": Pair(1, "x")}) == '{"out": {"a": 1, "b": "x"}}'
    schema = adapter._layout(signature).schema["$defs"]["Pair"]
    assert (schema["type"], list(schema["properties"]), schema["required"]) == ("object", ["a", "b"], ["a", "b"])
    nested = adapter._layout(asking(list[Sized])).schema["$defs"]["Sized"]
    assert (list(nested["properties"]), nested["required"]) == (["Size", "pair"], ["Size"])


@each
@pytest.mark.parametrize("text", ['[1, "x"]', '[1, "x",]', "(1, 'x')", '```json\n[1, "x"]\n```', '["1", "x"]'])
def test_a_named_tuple_may_be_written_as_a_list(adapter: Adapter, text: str) -> None:
    if adapter.json_first:
        text = f'{{"out": {text}}}' if "`" not in text else '```json\n{"out": [1, "x"]}\n```'
    answers = {"chat": f"[[ ## out ## ]]\n{text}", "lines": f"out: {text}", "xml": f"<out>{text}</out>"}
    assert adapter.parse(asking(Pair), answers.get(adapter.name, text)) == {"out": Pair(1, "x")}


@pytest.mark.parametrize("text", ['[1, "x", 2]', "[]", "[1]"])
def test_a_list_of_another_length_is_no_named_tuple(text: str) -> None:
    with pytest.raises(ParseError):
        ChatAdapter().parse(asking(Pair), f"[[ ## out ## ]]\n```json\n{text}\n```")
    assert ChatAdapter().parse(asking(Sized), '[[ ## out ## ]]\n["7"]') == {"out": Sized(7)}


def test_brackets_of_prose_are_no_named_tuple() -> None:
    with pytest.raises(ParseError):
        ChatAdapter().parse(asking(Sized), "[[ ## out ## ]]\nIt is small, as they say in [1].")
