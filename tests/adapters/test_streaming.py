"""Incremental parsers: any chunking gives the same, and what it gives is what the whole answer says."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dspex.adapters import Adapter, ChatAdapter, FieldDelta, adapter_named
from dspex.errors import ParseError
from dspex.signatures import Signature

SIGNATURE = Signature("question -> reasoning, answer: int, tags: list[str], note: str | None")
ADAPTERS = [adapter_named(name) for name in ("chat", "json", "compact", "xml", "lines", "two_step")]
each = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
quickly = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])

pieces = st.sampled_from(
    [
        "[[ ## answer ## ]]", "[[ ## completed ## ]]", "[\\[ ## note ## ]]", "[[ ##", "[", "[\\", "\\", "]", "<answer>",
        "</reasoning>", "</note", "<b>", "&lt;", "&amp;amp;", "&", "<![CDATA[", "]]>", "answer: ", "\nanswer: ",
        "\n\\note: ", "\n- \\answer:", "\n", " ", '"', '\\"', "\\u00e9", "\\ud83d\\ude00", "{", "}", '{"answer": 4}',
        '"note":', ",", ":", "```", "é", "😀", "x", "12", "null", "the answer", "\u2028", "\t",
    ]
)  # fmt: skip
texts = st.lists(pieces, max_size=10).map("".join)


def fed(adapter: Adapter, chunks: list[str]) -> tuple[dict[str, str], Any]:
    stream = adapter.stream(SIGNATURE)
    given_text: dict[str, str] = defaultdict(str)
    for deltas in (*(stream.feed(chunk) for chunk in chunks), stream.flush()):
        for field, delta in deltas:
            given_text[field] += delta
    assert stream.text == "".join(chunks)
    return dict(given_text), stream


def cut(text: str, places: list[int]) -> list[str]:
    marks = sorted({place % (len(text) + 1) for place in places})
    return [text[start:end] for start, end in zip([0, *marks], [*marks, len(text)], strict=True)]


def outcome(adapter: Adapter, text: str) -> Any:
    try:
        return adapter.parse(SIGNATURE, text)
    except ParseError as error:
        return str(error)


@each
@given(
    reasoning=texts.map(str.strip), tags=st.lists(texts, max_size=3), number=st.integers(), note=st.none() | texts,
    places=st.lists(st.integers(0, 10_000), max_size=12),
)  # fmt: skip
@quickly
def test_the_deltas_of_an_answer_are_its_fields(
    adapter: Adapter, reasoning: str, tags: list[str], number: int, note: str | None, places: list[int]
) -> None:
    values = {"reasoning": reasoning, "answer": number, "tags": tags, "note": None if note is None else note.strip()}
    answer = adapter.render_answer(SIGNATURE, values)
    deltas, stream = fed(adapter, cut(answer, places))
    assert stream.close() == adapter.parse(SIGNATURE, answer) == values
    assert deltas.get("reasoning", "") == reasoning
    assert int(deltas["answer"]) == number
    assert json.loads(deltas["tags"]) == tags
    if note is None:
        assert deltas["note"] == "null"


@each
@given(text=texts, places=st.lists(st.integers(0, 10_000), max_size=12), start=st.booleans())
@quickly
def test_chunks_make_no_difference_to_any_text(adapter: Adapter, text: str, places: list[int], start: bool) -> None:
    if start:
        text = adapter.render_answer(SIGNATURE, {"reasoning": "r", "answer": 1, "tags": [], "note": None})[:40] + text
    whole, stream = fed(adapter, [text])
    assert fed(adapter, cut(text, places))[0] == whole
    assert fed(adapter, list(text))[0] == whole
    try:
        read = stream.close()
    except ParseError as error:
        read = str(error)
    assert read == outcome(adapter, text)


@pytest.mark.parametrize(
    ("name", "chunks", "first"),
    [
        ("chat", ["[[ ## reasoning ## ]]\nBecause ", "so"], "Because so"),
        ("xml", ["<reasoning>\nBecause ", "so"], "Because so"),
        ("lines", ["reasoning: Because ", "so"], "Because so"),
        ("json", ['{"reasoning": "Because ', "so"], "Because so"),
    ],
)
def test_text_is_given_as_it_comes(name: str, chunks: list[str], first: str) -> None:
    stream = adapter_named(name).stream(SIGNATURE)
    found = [delta for chunk in chunks for delta in stream.feed(chunk)]
    assert "".join(delta.delta for delta in found) == first
    assert {delta.field for delta in found} == {"reasoning"}


def test_what_may_be_a_header_waits() -> None:
    stream = ChatAdapter().stream(SIGNATURE)
    assert stream.feed("[[ ## reasoning ## ]]\nIn [") == [FieldDelta("reasoning", "In")]
    assert stream.feed("[ ## ans") == []
    assert stream.feed("wers") == [FieldDelta("reasoning", " [[ ## answers")]
    assert stream.feed("[[ ## answer ## ]]") == []
    assert stream.feed(" 4") == [FieldDelta("answer", "4")]


def test_long_answers_take_linear_time() -> None:
    for adapter in ADAPTERS:
        answer = adapter.render_answer(
            SIGNATURE, {"reasoning": "so [ < { & it goes\n" * 2_000, "answer": 1, "tags": ["x"] * 2_000, "note": None}
        )
        deltas, _ = fed(adapter, [answer[i : i + 7] for i in range(0, len(answer), 7)])
        assert deltas["answer"] == "1"
