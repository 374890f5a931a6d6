"""Properties that hold for any text and any value, by hypothesis."""

from __future__ import annotations

import enum
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from pydantic import BaseModel

from dspex.adapters import Adapter, ChatAdapter, CompactAdapter, JSONAdapter, LinesAdapter, XMLAdapter
from dspex.adapters.repair import json_values, read_json
from dspex.adapters.sections import escaped, header, unescaped
from dspex.errors import ParseError
from dspex.signatures import OutputField, Signature, make_signature

ADAPTERS = [ChatAdapter(), CompactAdapter(), JSONAdapter(), LinesAdapter(), XMLAdapter()]
each = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
quickly = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Part(BaseModel):
    label: Literal["street", "city"]
    text: str
    number: int | None


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


@dataclass
class Point:
    x: int
    y: float = 0.0


class Shade(enum.Enum):
    LIGHT = "light grey"
    NONE = "none"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Grade(enum.Enum):
    NONE = None
    PASS = "pass"


class Corner(enum.Enum):
    LEFT = (0, 1)
    RIGHT = (1, 0)


# A section has no outer white space of its own, and what stands in a line of its own is trimmed there too.
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = anything.map(str.strip)
# Pieces that look like the format, so that values which look like structure are tried often.
tricky = st.lists(
    st.sampled_from(
        [
            "[[ ## out ## ]]", "[[ ## other ## ]]", "[\\[ ## out ## ]]", "[\\\\[ ##", "[[", "## ", "**Out:** ", "out: ",
            "\n", " ", "null", "None", '"', "'", "{", "}", "[", "]", ",", ":", "a", "5", "```", "- ", "{{ x }}",
            "{% x %}", "<out>", "</out>", "<", "&lt;", "&amp;amp;", "<![CDATA[", "]]>", "<b>", "</ Out >", "\\",
            "[[ ## completed ## ]]", "\nout: ", "\n\\reasoning: ", "\n - Out=",
            "é", "=", "//", "#", "{out}", "\ue0000\ue001",
        ]
    ),
    max_size=12,
).map("".join)  # fmt: skip
texts = (words | tricky).map(str.strip)
points = st.builds(Point, st.integers(), st.floats(allow_nan=False))
parts = st.builds(Part, label=st.sampled_from(["street", "city"]), text=texts, number=st.none() | st.integers())
trees = st.recursive(
    st.builds(Tree, name=texts),
    lambda inner: st.builds(Tree, name=texts, children=st.lists(inner, max_size=3)),
    max_leaves=5,
)

TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, texts),
    (int, st.integers()),
    (float, st.floats(allow_nan=False)),
    (bool, st.booleans()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=3)),
    (date, st.dates()),
    (datetime, st.datetimes()),
    (timedelta, st.timedeltas(timedelta(days=-500), timedelta(days=500))),
    (Literal["yes", "no", "not spam", "spam"], st.sampled_from(["yes", "no", "not spam", "spam"])),
    (Literal[1, "1 or 2", None, True], st.sampled_from(["1 or 2", None])),
    (Shade, st.sampled_from(Shade)),
    (Level, st.sampled_from(Level)),
    (Grade, st.sampled_from(Grade)),
    (Corner, st.sampled_from(Corner)),
    (list[Corner], st.lists(st.sampled_from(Corner), max_size=3)),
    (Shade | None, st.none() | st.sampled_from(Shade)),
    (str | None, st.none() | texts),
    (int | None, st.none() | st.integers()),
    (int | str, st.integers() | texts),
    (float | bool | str | None, st.floats(allow_nan=False) | st.booleans() | texts | st.none()),
    (date | str, st.dates() | texts),
    (list[str], st.lists(texts, max_size=4)),
    (list[int], st.lists(st.integers(), max_size=4)),
    (list[str] | str, st.lists(texts, max_size=4) | texts),
    (set[int], st.sets(st.integers(), max_size=4)),
    (tuple[int, str], st.tuples(st.integers(), texts)),
    (dict[str, int], st.dictionaries(anything, st.integers(), max_size=4)),
    (dict[int, list[str]], st.dictionaries(st.integers(), st.lists(texts, max_size=2), max_size=3)),
    (Part, parts),
    (list[Part], st.lists(parts, max_size=3)),
    (Part | None, st.none() | parts),
    (Tree, trees),
    (Point, points),
    (Part | Point, parts | points),
    (Any, st.none() | st.integers() | texts | st.lists(texts, max_size=2) | st.dictionaries(anything, texts)),
]  # fmt: skip


def undecidable_in_json(signature: type[Signature], values: dict[str, Any]) -> bool:
    """In JSON a date is text, so where text is allowed as well nobody could tell."""
    return isinstance(values["out"], date) and signature.spec.endswith("date | str")


def typed_signature(annotation: Any) -> type[Signature]:
    return make_signature({"reasoning": OutputField(), "out": (annotation, OutputField())})


SIGNATURES = [typed_signature(annotation) for annotation, _ in TYPED]


@each
@pytest.mark.parametrize(
    ("signature", "values"),
    [pytest.param(s, v, id=s.spec) for s, (_, v) in zip(SIGNATURES, TYPED, strict=True)],
)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_rendered_is_read_back(
    adapter: Adapter, signature: type[Signature], values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    given_values = {"reasoning": data.draw(texts), "out": data.draw(values)}
    assume(not (adapter.json_first and undecidable_in_json(signature, given_values)))
    answer = adapter.render_answer(signature, given_values)
    read = adapter.parse(signature, answer)
    assert read == given_values
    assert type(read["out"]) is type(given_values["out"])


IN_JSON: list[tuple[Any, st.SearchStrategy[Any]]] = [
    *(
        (kind, values)
        for kind, values in TYPED
        if kind in (list[str], dict[str, int], Part, list[Part], Tree, Part | Point)
    ),
    (dict[str, Any], st.dictionaries(anything, texts | st.integers() | st.lists(texts, max_size=2), max_size=3)),
    (dict[str, int | str], st.dictionaries(anything, st.integers() | texts, max_size=3)),
    (list[str | None], st.lists(st.none() | texts, max_size=3)),
    (list[dict[str, bool | str]], st.lists(st.dictionaries(anything, st.booleans() | texts, max_size=2), max_size=2)),
]


@pytest.mark.parametrize("around", ["```json\n{}\n```", "```\n{}\n```", "Here it is:\n{}"])
@pytest.mark.parametrize(
    ("signature", "values"), [pytest.param(typed_signature(kind), values, id=str(kind)) for kind, values in IN_JSON]
)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_well_formed_json_means_the_same_wherever_it_stands(
    around: str, signature: type[Signature], values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    held = json.dumps(signature.output_fields["out"].adapter.dump_python(value, mode="json"))
    assume("##" not in held)  # what looks like a header is another matter
    answer = f"[[ ## reasoning ## ]]\nso\n\n[[ ## out ## ]]\n{around.format(held)}\n\n[[ ## completed ## ]]"
    assert ChatAdapter().parse(signature, answer)["out"] == value


@each
@pytest.mark.parametrize("out", ["str", "int | str"])
@pytest.mark.parametrize("thoughts", ["{**Out:**", "{OUT:", "{\nout:", "**Out:** 4", '{"out": "4"}', "out: 4"])
def test_an_empty_text_is_not_looked_for_elsewhere(adapter: Adapter, thoughts: str, out: str) -> None:
    signature = Signature(f"text -> reasoning, out: {out}")
    values = {"reasoning": thoughts, "out": ""}
    assert adapter.parse(signature, adapter.render_answer(signature, values)) == values


@each
@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_lacks(adapter: Adapter, number: float) -> None:
    signature = Signature("text -> out: float")
    read = adapter.parse(signature, adapter.render_answer(signature, {"out": number}))["out"]
    assert read == number or (math.isnan(read) and math.isnan(number))


def only_parse_errors(adapter: Adapter, signature: type[Signature], text: str) -> None:
    values = error = None
    try:
        values = adapter.parse(signature, text)
    except ParseError as refusal:
        error = refusal
    if values is None:
        assert error is not None
        assert error.text == text
        assert set(error.partial) < set(signature.output_fields)
    else:
        for name, field in signature.output_fields.items():
            # Whatever was read is a value of the type.
            field.adapter.validate_python(values[name])


@each
@given(text=st.text(max_size=200) | tricky, index=st.integers(0, len(TYPED) - 1))
@quickly
def test_any_text_is_read_or_refused(adapter: Adapter, text: str, index: int) -> None:
    only_parse_errors(adapter, SIGNATURES[index], text)


@each
@given(text=st.text(max_size=200) | tricky)
@quickly
def test_any_text_for_a_single_output(adapter: Adapter, text: str) -> None:
    only_parse_errors(adapter, Signature("question -> out: list[int]"), text)
    only_parse_errors(adapter, Signature("question -> out: int"), text)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """``text`` with some stretches lost, doubled or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        if not text:
            break
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start, min(len(text), start + 12)))
        piece = draw(st.sampled_from(["", text[start:end] * 2, '"', "'", "}", "[[", "\n", ",", "]]", "```", ":"]))
        text = text[:start] + piece + text[end:]
    return text


@each
@given(data=st.data(), index=st.integers(0, len(TYPED) - 1))
@quickly
def test_damaged_answers_are_read_or_refused(adapter: Adapter, data: st.DataObject, index: int) -> None:
    signature = SIGNATURES[index]
    values = {"reasoning": data.draw(texts), "out": data.draw(TYPED[index][1])}
    only_parse_errors(adapter, signature, data.draw(mutated(adapter.render_answer(signature, values))))


@each
@pytest.mark.parametrize(
    "text",
    [
        "<\n\\reasoning: ]]>",
        "a </ reasoning > b",
        "a <\\reasoning> b",
        "<\\\nreasoning>",
        "a [/reasoning] b",
        "[reasoning]x[/reasoning]",
        "a\n[reasoning] b",
    ],
)
def test_what_looks_like_the_end_of_a_field_is_text(adapter: Adapter, text: str) -> None:
    values = {"reasoning": text, "out": 0}
    signature = next(one for one, (kind, _) in zip(SIGNATURES, TYPED, strict=True) if kind is int)
    answer = adapter.render_answer(signature, values)
    assert adapter.parse(signature, answer) == values
    assert adapter.parse(signature, f"Sure.\n\n{answer}") == values


@each
@given(data=st.data(), index=st.integers(0, len(TYPED) - 1), before=words)
@quickly
def test_prose_before_does_no_harm(adapter: Adapter, data: st.DataObject, index: int, before: str) -> None:
    prose = "".join(c for c in before if c.isalnum() or c == " ")
    values = {"reasoning": data.draw(texts), "out": data.draw(TYPED[index][1])}
    assume(not (adapter.json_first and undecidable_in_json(SIGNATURES[index], values)))
    answer = f"Sure {prose}\n\n{adapter.render_answer(SIGNATURES[index], values)}"
    assert adapter.parse(SIGNATURES[index], answer) == values


@given(text=anything | tricky)
@quickly
def test_escaping_leaves_no_header_and_is_undone(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert header("out") not in escaped(text)


@given(text=st.text(alphabet="{}[]()\"',:\\\n ab1-/#“”", max_size=80))
@settings(max_examples=200, deadline=None)
def test_repair_reads_or_raises_value_error(text: str) -> None:
    with suppress(ValueError):
        read_json(text)
    list(json_values(text))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000, '{"a":' * 20_000, '{"a": "' + "x" * 50_000, '"' * 20_000, "{" + '"a": "b, ' * 5_000,
        "[[ ## " * 10_000, "- " * 20_000, "a: " * 20_000, "\n" * 50_000, " " * 100_000 + "x", "1 " * 20_000,
        "**out:** " * 5_000, "```\n" * 10_000, '{"a": "' + '\\"' * 20_000, "{'a': 'it's " * 4_000,
        "[" + " " * 50_000 + "1", "9" * 20_000, "<out>" * 5_000, "[[ ## out ## ]]\n" * 5_000, "# " * 20_000,
        "[" + "}" * 20_000, '{"out": [' + ")" * 20_000, ", " * 20_000 + ":", "out " * 20_000,
    ],
    ids=lambda text: text[:12].strip() or "white space",
)  # fmt: skip
@each
def test_no_text_is_trouble(adapter: Adapter, text: str) -> None:
    for spec in ("x -> out: list[int]", "x -> reasoning, out: str | None", "x -> out: dict[str, int]"):
        signature = Signature(spec)
        only_parse_errors(adapter, signature, text)


@pytest.mark.parametrize("text", ['{"a": 1, "b":', '{"a": 1, "b": ', '{"a": 1, "b'])
def test_a_value_that_was_never_begun_is_not_made_up(text: str) -> None:
    assert read_json(text) == {"a": 1}
    assert read_json('{"a": 1, "b":, "c": 2}') == {"a": 1, "b": None, "c": 2}, "a value that was left out is none"
