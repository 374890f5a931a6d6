"""What holds of every stream: it says what a plain call says, whatever the answer, however it is cut into pieces."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import dspex
from dspex import Predict, Reasoning, Signature
from dspex.adapters import adapter_named
from dspex.errors import ParseError
from dspex.execution import Run
from dspex.lm import Delta
from dspex.modules import FieldDelta, Restart, Status
from dspex.testing.adapters import HOSTILE
from tests.modules.pieces import Pieces, cut, fields_shown, gathered, whole, written

ADAPTERS = ["chat", "json", "xml", "compact", "lines", "two_step"]
ASKED = Signature("question -> reasoning, answer: int, tags: list[str], note: str")
TEXTS = ("reasoning", "note")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.lists(
    st.sampled_from([*HOSTILE, "so", " ", "\n"]), max_size=3
).map("".join)
places = st.lists(st.integers(0, 10_000), max_size=40)
quickly = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def both(program: Any, lm: Any, inputs: dict[str, Any], *, on_tasks: bool) -> tuple[Any, Any]:
    """The events of a stream or its error, and the same of a plain call; each with its run."""
    found: list[Any] = []
    for streams in (True, False):
        lm.asked = 0
        with dspex.context(lm=lm):
            run = Run()
            try:
                if not streams:
                    said: Any = program.execute(inputs, run=run)
                elif on_tasks:
                    said = asyncio.run(gathered(program.astream(inputs, run=run)))
                else:
                    said = list(program.stream(inputs, run=run))
            except ParseError as error:
                said = error
        found.append((said, run))
    return found[0], found[1]


def trace(run: Run) -> list[Any]:
    return [(one.path, one.inputs, one.prediction, one.usage, one.error) for one in run.trace]


@pytest.mark.parametrize("name", ADAPTERS)
@given(
    reasoning=texts,
    note=texts,
    tags=st.lists(texts, max_size=2),
    number=st.integers(),
    cuts=places,
    on_tasks=st.booleans(),
)
@quickly
def test_deltas_of_a_well_formed_answer_add_up_to_the_prediction_of_a_plain_call(
    name: str, reasoning: str, note: str, tags: list[str], number: int, cuts: list[int], on_tasks: bool
) -> None:
    # Not empty: what has nothing in it is no well-formed answer to all adapters, and may be looked for elsewhere.
    held = {"reasoning": reasoning.strip() or "so", "answer": number, "tags": tags, "note": note.strip() or "so"}
    answer = cut(written(ASKED, held, name), *cuts)
    lm = Pieces(["Some free text."], answer) if name == "two_step" else Pieces(answer)
    streamed, plain = both(Predict(ASKED, adapter=name), lm, {"question": "?"}, on_tasks=on_tasks)
    events, prediction = whole(streamed[0])
    assert prediction == plain[0]
    assert prediction.to_dict() == held
    assert prediction.usage == plain[0].usage
    assert (streamed[1].usage, trace(streamed[1])) == (plain[1].usage, trace(plain[1]))
    assert not any(isinstance(event, Restart) for event in events)
    shown = fields_shown(events)["", 0]
    assert {field: shown.get(field, "") for field in TEXTS} == {field: held[field] for field in TEXTS}
    assert int(shown["answer"]) == number


@pytest.mark.parametrize("name", ADAPTERS)
@given(
    text=texts
    | st.lists(st.sampled_from([*HOSTILE, "\n", "note: x", "<tags>", '"tags": []', "{", "}"]), max_size=8).map("".join),
    cuts=places,
    on_tasks=st.booleans(),
)
@quickly
def test_whatever_the_model_writes_the_stream_ends_as_the_plain_call_does(
    name: str, text: str, cuts: list[int], on_tasks: bool
) -> None:
    asked = Signature("question -> reasoning, note: str")
    answer = cut(text, *cuts)
    lm = Pieces(["Some free text."], answer) if name == "two_step" else Pieces(answer)
    streamed, plain = both(Predict(asked, adapter=name), lm, {"question": "?"}, on_tasks=on_tasks)
    assert (streamed[1].usage, trace(streamed[1])) == (plain[1].usage, trace(plain[1]))
    if isinstance(plain[0], ParseError):
        assert isinstance(streamed[0], ParseError)
        assert str(streamed[0]) == str(plain[0])
        return
    events, prediction = whole(streamed[0])
    assert prediction == plain[0]
    shown = fields_shown(events).get(("", 0), {})
    assert {field: shown.get(field, "") for field in TEXTS} == prediction.to_dict()


@pytest.mark.parametrize("name", ADAPTERS)
@given(note=texts, cuts=places, extra=st.integers(0, 10_000))
@quickly
def test_what_is_shown_does_not_depend_on_the_pieces(name: str, note: str, cuts: list[int], extra: int) -> None:
    text = written(ASKED, {"reasoning": "so", "answer": 4, "tags": ["a"], "note": note.strip() or "so"}, name)
    shown = []
    for pieces in (cut(text, *cuts), cut(text, *cuts, extra), list(text)):
        lm = Pieces(["Some free text."], pieces) if name == "two_step" else Pieces(pieces)
        with dspex.context(lm=lm):
            events, _ = whole(Predict(ASKED, adapter=name).stream(question="?", status=False))
        assert all(isinstance(event, FieldDelta) for event in events)
        order = list(dict.fromkeys(event.field for event in events))
        shown.append((order, fields_shown(events)))
    assert shown[0] == shown[1] == shown[2]


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_field_comes_while_it_is_written(name: str) -> None:
    text = written(ASKED, {"reasoning": "one two three", "answer": 4, "tags": [], "note": "n"}, name)
    lm = Pieces(["Some free text."], list(text)) if name == "two_step" else Pieces(list(text))
    with dspex.context(lm=lm):
        events = [event for event in Predict(ASKED, adapter=name).stream(question="?") if not isinstance(event, Status)]
    deltas = [event.delta for event in events[:-1] if event.field == "reasoning"]
    assert len(deltas) > 8
    assert adapter_named(name).parse(ASKED, text) == events[-1].prediction.to_dict()


@given(
    thoughts=texts, answer=texts, cuts=places, first=st.booleans(), written_too=st.booleans(), on_tasks=st.booleans()
)
@quickly
def test_thoughts_beside_an_answer_add_up_as_well(
    thoughts: str, answer: str, cuts: list[int], first: bool, written_too: bool, on_tasks: bool
) -> None:
    asked = Signature("question -> thoughts: Reasoning, answer", custom_types={"Reasoning": Reasoning})
    fields = {"thoughts": Reasoning("in the text"), "answer": answer.strip() or "so"}
    text = written(asked if written_too else asked.delete("thoughts"), fields)
    beside = [Delta(piece, "reasoning") for piece in cut(thoughts, *cuts)]
    lm = Pieces([*beside, *cut(text, *cuts)] if first else [*cut(text, *cuts), *beside])
    streamed, plain = both(Predict(asked), lm, {"question": "?"}, on_tasks=on_tasks)
    if isinstance(plain[0], ParseError):
        assert str(streamed[0]) == str(plain[0])
        return
    events, prediction = whole(streamed[0])
    assert prediction == plain[0]
    shown = fields_shown(events).get(("", 0), {})
    assert {field: shown.get(field, "") for field in asked.output_fields} == prediction.to_dict()
