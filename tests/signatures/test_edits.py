from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st

from dspex.errors import DefinitionError
from dspex.signatures import Field, InputField, OutputField, Signature, make_signature


class Ask(Signature):
    """Answer it."""

    question: str = InputField(desc="what was asked")
    answer: str = OutputField(max_length=9)


def test_instructions() -> None:
    changed = Ask.with_instructions("  Answer it\n  well. ")
    assert changed.instructions == "Answer it\nwell."
    assert (Ask.instructions, changed.fields, changed.__name__) == ("Answer it.", Ask.fields, "Ask")
    made = "Given the fields `question`, produce the fields `answer`."
    assert Ask.with_instructions("").instructions == made
    with pytest.raises(DefinitionError, match=r"instructions are text, got 3 \(int\)"):
        Ask.with_instructions(3)  # type: ignore[arg-type]


def test_fields_are_added_at_both_ends_and_between() -> None:
    signature = (
        Signature("a -> d")
        .append("b", InputField(), int)
        .prepend("c", OutputField(desc="first"), "list[str]")
        .insert(1, "x", InputField())
        .insert(-2, "y", OutputField())
        .append("z", OutputField(ge=0), type_=float)
    )
    assert signature.spec == "a, x, b: int -> c: list[str], y, d, z: float"
    assert signature.fields["c"].desc == "first"
    assert signature.fields["z"].constraints == {"ge": 0}


def test_types_given_as_text_are_those_of_the_caller() -> None:
    class Local:
        pass

    assert Ask.append("b", InputField(), "Local").fields["b"].annotation is Local


def test_instructions_made_from_fields_follow_them_and_given_ones_stay() -> None:
    assert Signature("a -> b").append("c", OutputField()).instructions.endswith("produce the fields `b`, `c`.")
    assert Ask.append("c", OutputField()).instructions == "Answer it."


def test_fields_of_other_signatures_can_be_reused() -> None:
    field = Ask.fields["question"]
    assert Signature("a -> b").append("question", field).fields["question"] == field
    renamed = Signature("a -> b").append("problem", field).fields["problem"]
    assert (renamed.prefix, renamed.desc) == ("Problem:", "what was asked")
    assert make_signature({**Ask.input_fields, **Ask.output_fields}, "Answer it.") == Ask


def test_delete() -> None:
    assert Ask.append("b", OutputField()).delete("answer").spec == "question -> b"
    assert Ask.delete("answer").spec == "question ->"


def test_update() -> None:
    changed = Ask.with_updated_fields("question", list[str], desc="several", min_length=1)
    assert repr(changed.fields["question"]).startswith("question: list[str] = InputField(desc='several', ")
    assert changed.fields["answer"] == Ask.fields["answer"]
    assert Ask.with_updated_fields("question", default="none").fields["question"].default == "none"
    changed = Ask.with_updated_fields("answer", type_="Literal['a']", max_length=None, prefix="A1:")
    assert repr(changed.fields["answer"]) == "answer: Literal['a'] = OutputField(prefix='A1:')"


def test_mappings_make_signatures() -> None:
    signature = make_signature(
        {
            "text": InputField(),
            "kind": (Literal["a", "b"], OutputField()),
            "n": ("int | None", OutputField(ge=0)),
        },
        "Sort it.",
        name="Sort",
    )
    assert repr(signature) == "<Signature Sort: text -> kind: Literal['a', 'b'], n: int | None>"
    assert Signature({"text": InputField(), "out": OutputField()}).spec == "text -> out"


WRONG: list[tuple[Any, str]] = [
    (
        lambda: Ask.append("question", OutputField()),
        r"Ask already has a field 'question': .*\.with_updated_fields\('question'",
    ),
    (
        lambda: Ask.append("b", int),
        r"field 'b' must be InputField\(\.\.\.\) .*\nRight:  \.append\('b', OutputField\(\), int\)",
    ),
    (lambda: Ask.append("b c", OutputField()), r"must be an identifier, got 'b c' \(str\)"),
    (lambda: Ask.append("b", OutputField(), 3), r"the type of 'b' must be a type or its text, got 3 \(int\)"),
    (
        lambda: Ask.append("b", OutputField(), "lst"),
        r"the type of 'b' does not parse: there is no type 'lst' here",
    ),
    (lambda: Ask.append("usage", OutputField()), r"prediction\.usage is part of Prediction"),
    (lambda: Ask.append("b", OutputField(ge=0)), r"ge=0 says nothing about a str"),
    (
        lambda: Ask.insert(2, "b", InputField()),
        r"Ask has 1 inputs, so 'b' cannot go to index 2; .* from -2 to 1",
    ),
    (lambda: Ask.insert(-3, "b", OutputField()), r"Ask has 1 outputs"),
    (
        lambda: Ask.insert("x", "b", OutputField()),
        r"the index of 'b' is a whole number, not 'x' \(str\); write \.insert\(0",
    ),
    (
        lambda: Ask.delete("b"),
        r"Ask\.delete\('b'\): there is no such field; the fields are 'question', 'answer'",
    ),
    (
        lambda: Ask.with_updated_fields("b", desc=""),
        r"Ask\.with_updated_fields\('b'\): there is no such field",
    ),
    (lambda: Ask.with_updated_fields("answer", max_len=3), r"takes no 'max_len'; write max_length="),
    (lambda: Ask.with_updated_fields("answer", default=3), r"an output comes from the model"),
    (lambda: Ask.with_updated_fields("answer", type_=int), r"max_length=9 says nothing about a int"),
    (lambda: Signature({"a": int}), r"field 'a' must be InputField"),
    (lambda: Signature({3: OutputField()}), r"must be an identifier, got 3 \(int\)"),
]


@pytest.mark.parametrize(("edit", "message"), WRONG)
def test_edits_that_cannot_be_meant(edit: Any, message: str) -> None:
    before = Ask.to_json()
    with pytest.raises(DefinitionError, match="(?s)" + message):
        edit()
    assert Ask.to_json() == before


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(-8, 8), st.sampled_from([str, int, list[str]])),
        min_size=1,
        max_size=8,
    )
)
def test_inserting_and_deleting_are_what_they_are_for_lists(edits: list[tuple[bool, int, Any]]) -> None:
    signature = Signature("first -> last")
    expected: dict[bool, list[str]] = {True: ["first"], False: ["last"]}
    for number, (is_input, index, kind) in enumerate(edits):
        name = f"f{number}"
        names = expected[is_input]
        field = InputField() if is_input else OutputField()
        place = index if index >= 0 else len(names) + 1 + index
        if not 0 <= place <= len(names):
            with pytest.raises(DefinitionError, match="cannot go to index"):
                signature.insert(index, name, field, kind)
            continue
        signature = signature.insert(index, name, field, kind)
        names.insert(place, name)
        assert list(signature.input_fields) == expected[True]
        assert list(signature.output_fields) == expected[False]
        assert signature.fields[name].annotation == kind
    for name in expected[True][:]:
        signature = signature.delete(name)
        expected[True].remove(name)
        assert list(signature.fields) == expected[True] + expected[False]


def test_titles_are_made_from_names() -> None:
    titles = {
        "question": "Question:",
        "search_query": "Search Query:",
        "searchQuery": "Search Query:",
        "top_3_answers": "Top 3 Answers:",
        "URL": "URL:",
        "_x": "X:",
        "a": "A:",
    }
    for name, title in titles.items():
        assert Field.make(name, str, InputField()).prefix == title
