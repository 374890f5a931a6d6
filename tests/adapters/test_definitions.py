"""Types as definitions, for the compact adapter."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Generic, Literal, NotRequired, Required, TypeVar

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from dspex.adapters import CompactAdapter, JSONAdapter
from dspex.adapters.definitions import type_definitions
from dspex.adapters.types import record_fields
from dspex.signatures import OutputField, Signature, make_signature
from dspex.types import ToolCalls

T = TypeVar("T")


class Address(BaseModel):
    street: str = Field(description="with the\nnumber")
    zip_code: str = Field(alias="zip code")


class Person(BaseModel):
    name: str
    home: Address
    work: Address | None = None
    friends: list[Person] = []


class Box(BaseModel, Generic[T]):
    inside: T


@dataclass
class Answer:
    when: date


Wide = enum.Enum("Wide", {f"M{i}": f"m{i}" for i in range(12)})


def definitions(**outputs: Any) -> str:
    return type_definitions(make_signature({k: (v, OutputField()) for k, v in outputs.items()}).output_fields.values())


def test_records_are_defined_once_whatever_holds_them() -> None:
    assert (
        definitions(people=list[Person], first=Person | None)
        == """\
type Address = {
  street: string, // with the number
  "zip code": string,
}

type Person = {
  name: string,
  home: Address,
  work?: Address | null,
  friends?: Person[],
}

type Answer = {
  people: Person[],
  first: Person | null,
}"""
    )


def test_all_kinds_of_types() -> None:
    text = definitions(
        a=dict[str, list[int]],
        b=tuple[int, str],
        c=list[Literal["x", 2] | None],
        d=Wide,
        e=Box[int],
        f=Any,
        g=Answer,
        h=ToolCalls,
        i=set[float],
    )
    for line in (
        "  a: { [key: string]: int[] },",
        "  b: [int, string],",
        '  c: ("x" | 2 | null)[],',
        "  d: Wide,",
        "  e: Box_int,",
        "  f: any,",
        "  g: Answer2,",
        "  h: ToolCall[],",
        "  i: float[],",
        'type Answer2 = {\n  when: "YYYY-MM-DD",\n}',
    ):
        assert line in text
    assert text.count("type Wide = ") == 1


def test_notes_and_constraints_are_said() -> None:
    signature = make_signature({"score": (float, OutputField(desc="how sure", ge=0, le=1))})
    assert "  score: float, // how sure; at least 0, at most 1" in type_definitions(signature.output_fields.values())


def test_it_is_shorter_than_the_schema() -> None:
    signature = make_signature({"people": (list[Person], OutputField()), "first": (Person, OutputField())})
    adapter = CompactAdapter()
    compact = adapter.head(signature, "x", ())[0]["content"]
    schema = adapter.schema(adapter._layout(signature))
    assert len(compact) < len(str(schema)) / 2
    assert len(compact) < len(JSONAdapter().head(signature, "x", ())[0]["content"])


def test_a_model_that_follows_schemas_gets_one_too() -> None:
    request = CompactAdapter().request(
        Signature("x -> y: int"),
        instructions="",
        demos=(),
        inputs={"x": "1"},
        capabilities=frozenset({"json_schema"}),
    )
    assert request.schema is not None


class Note(TypedDict):
    text: str
    author: NotRequired[str]


class Reply(Note, total=False):
    to: Required[Annotated[str, Field(description="whom")]]
    cc: str


def test_keys_that_may_be_left_out_although_annotations_are_texts() -> None:
    assert {key: required for key, (_, required) in (record_fields(Reply) or {}).items()} == {
        "text": True, "author": False, "to": True, "cc": False,
    }  # fmt: skip
