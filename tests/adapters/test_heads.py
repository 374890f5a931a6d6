"""Heads are rendered once and shared, and never for the wrong demos, instructions or types."""

from __future__ import annotations

import gc
import threading
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from dspex.adapters import Adapter, ChatAdapter, adapter_from_json, adapter_named, register_adapter
from dspex.adapters.lru import LRU
from dspex.data import Example
from dspex.errors import DefinitionError, ParseError, StateError
from dspex.lm import MessageBlock
from dspex.signatures import OutputField, Signature

QA = Signature("question -> answer", "Answer.")


def demos(count: int, word: str = "a") -> tuple[Example, ...]:
    return tuple(Example(question=f"q{index}", answer=word) for index in range(count))


def head(adapter: Adapter, shown: Any, instructions: str = "Answer.", signature: type[Signature] = QA) -> MessageBlock:
    return adapter.request(signature, instructions=instructions, demos=shown, inputs={"question": "q"}).head


def test_the_same_demos_give_the_same_head() -> None:
    adapter, shown = ChatAdapter(), demos(3)
    assert head(adapter, shown) is head(adapter, shown) is adapter.head(QA, "Answer.", shown)


def test_equal_demos_give_the_same_head() -> None:
    adapter = ChatAdapter()
    assert head(adapter, demos(3)) is head(adapter, demos(3))
    assert head(adapter, list(demos(3))) is head(adapter, demos(3))
    assert head(adapter, tuple(dict(demo) for demo in demos(3))) is head(adapter, demos(3))
    assert head(adapter, (), signature=Signature("question -> answer", "Answer.")) is head(adapter, ())


def test_other_demos_or_instructions_give_another_head() -> None:
    adapter = ChatAdapter()
    first = head(adapter, demos(3))
    for other in (head(adapter, demos(2)), head(adapter, demos(3, "b")), head(adapter, demos(3), "Reply.")):
        assert other != first
        assert other.digest != first.digest
    assert head(adapter, ({"question": "q", "answer": 1},)) != head(adapter, ({"question": "q", "answer": True},))


def test_a_list_of_demos_may_change() -> None:
    adapter, shown = ChatAdapter(), list(demos(1))
    assert len(head(adapter, shown)) == 3
    shown.append(Example(question="more", answer="a"))
    assert len(head(adapter, shown)) == 5


def test_no_demos_are_mistaken_for_those_that_were_there_before() -> None:
    adapter = ChatAdapter()
    for index in range(3000):  # new objects land where old ones were
        shown = demos(1, str(index))
        assert head(adapter, shown)[2]["content"].endswith(f"\n{index}")
        del shown


def test_types_of_one_name_are_kept_apart() -> None:
    def made(kind: Any) -> type[Signature]:
        class Value(BaseModel):
            held: kind

        return Signature({"out": (Value, OutputField())})

    adapter = ChatAdapter()
    for kind, value in ((int, 5), (str, "5"), (Literal["5"], "5"), (list[int], [5])):
        gc.collect()
        assert adapter.parse(made(kind), '[[ ## out ## ]]\n{"held": "5"}')["out"].held == value


def test_caches_are_bounded() -> None:
    adapter = ChatAdapter()
    for index in range(1100):
        head(adapter, (), f"Instruction {index}.")
    for index in range(520):
        adapter.parse(Signature(f"question -> answer{index}"), f"[[ ## answer{index} ## ]]\nx")
    assert len(adapter._heads) <= 1024
    assert len(adapter._blocks) <= 512
    assert len(adapter._layouts) <= 512


def test_lru_keeps_what_is_used() -> None:
    cache: LRU[int, str] = LRU(3)
    for key in range(3):
        cache.put(key, str(key))
    cache.get(0)
    cache.put(3, "3")
    assert [cache.get(key) for key in range(4)] == ["0", None, "2", "3"]


def test_many_threads_share_an_adapter() -> None:
    adapter = ChatAdapter()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for index in range(300):
                word = f"{(seed * index) % 40}"
                shown = demos(2, word)
                request = adapter.request(QA, instructions=word, demos=shown, inputs={"question": word})
                system, *_, answer, question = request.messages
                assert system["content"].startswith(f"{word}\n")
                assert answer["content"] == f"[[ ## answer ## ]]\n{word}"
                assert question["content"].startswith(f"[[ ## question ## ]]\n{word}")
                assert adapter.parse(QA, answer["content"]) == {"answer": word}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# -- by name -------------------------------------------------------------------------------------------


def test_adapters_by_name_are_shared() -> None:
    assert adapter_named("chat") is adapter_named("chat")
    assert adapter_named("json") != adapter_named("chat")


def test_an_unknown_name_is_explained() -> None:
    with pytest.raises(DefinitionError) as caught:
        adapter_named("jsn")
    assert str(caught.value).startswith(
        "there is no adapter 'jsn' (str); did you mean 'json'? There are 'chat', 'compact', 'json'"
    )
    with pytest.raises(DefinitionError, match="there is no adapter 3"):
        adapter_named(3)  # type: ignore[arg-type]  # the error is the test


def test_a_name_is_taken_once() -> None:
    with pytest.raises(DefinitionError, match=r"the adapter name 'chat' of .*Mine belongs to ChatAdapter"):

        @register_adapter
        class Mine(ChatAdapter):
            pass


def test_stored_adapters_of_another_form_are_refused() -> None:
    with pytest.raises(StateError, match="a stored adapter is"):
        adapter_from_json({"adapter": "chat"})


# -- what an answer lacks ------------------------------------------------------------------------------


def test_a_parse_error_says_what_was_found() -> None:
    signature = Signature("question -> reasoning, answer: int, sure: bool")
    text = "[[ ## reasoning ## ]]\nI think so.\n\n[[ ## answer ## ]]\nmany"
    with pytest.raises(ParseError) as caught:
        ChatAdapter().parse(signature, text)
    assert str(caught.value) == (
        "the chat adapter could not read 2 of 3 outputs from the model's answer.\n"
        "  `answer` (int): Input should be a valid integer, unable to parse string as an integer; "
        "the model wrote 'many'\n"
        "  `sure` (bool): not found; expected [[ ## sure ## ]] and its value\n"
        f"  the answer: {text!r}"
    )
    assert caught.value.partial == {"reasoning": "I think so."}
    assert caught.value.text == text
    assert caught.value.adapter == "chat"


def test_a_parse_error_names_the_place_inside() -> None:
    class Part(BaseModel):
        number: int

    signature = Signature({"parts": (list[Part], OutputField(max_length=2))})
    with pytest.raises(ParseError, match=r"`parts` \(list\[Part\]\): 0\.number: Input should be a valid integer"):
        ChatAdapter().parse(signature, '[[ ## parts ## ]]\n[{"number": "x"}]')
    with pytest.raises(ParseError, match="List should have at most 2 items"):
        ChatAdapter().parse(signature, f"[[ ## parts ## ]]\n{[{'number': 1}] * 3}")


def test_constraints_hold() -> None:
    signature = Signature({"score": (float, OutputField(ge=0, le=1)), "zip": (str, OutputField(pattern=r"^\d{5}$"))})
    adapter = ChatAdapter()
    good = adapter.parse(signature, "[[ ## score ## ]]\n85%\n[[ ## zip ## ]]\n02134")
    assert good == {"score": 0.85, "zip": "02134"}
    with pytest.raises(ParseError, match=r"`score` .*or equal to 1; the model wrote '3'(.|\n)*`zip` .*pattern"):
        adapter.parse(signature, "[[ ## score ## ]]\n3\n[[ ## zip ## ]]\n2134")


def test_a_long_answer_is_shortened() -> None:
    with pytest.raises(ParseError) as caught:
        ChatAdapter().parse(Signature("x -> n: int"), "no " * 5000)
    assert len(str(caught.value)) < 700
    assert len(caught.value.text) == 15000


@pytest.mark.parametrize("text", [None, b"x", 3])
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(ParseError, match="the model returned no text"):
        ChatAdapter().parse(QA, text)


def test_a_validator_that_raises_anything_is_a_parse_error() -> None:
    from pydantic import field_validator

    class Fragile(BaseModel):
        value: str

        @field_validator("value")
        @classmethod
        def look_up(cls, value: str) -> str:
            return {"a": "b"}[value]

    signature = Signature("text -> out: Fragile")
    assert ChatAdapter().parse(signature, "[[ ## out ## ]]\nvalue: a")["out"].value == "b"
    with pytest.raises(ParseError, match="its validator raised KeyError: 'x'"):
        ChatAdapter().parse(signature, '[[ ## out ## ]]\n{"value": "x"}')


def test_strict_types_are_read_from_text() -> None:
    signature = Signature({"n": (int, OutputField(strict=True)), "ok": (bool, OutputField(strict=True))})
    assert ChatAdapter().parse(signature, "[[ ## n ## ]]\n5\n[[ ## ok ## ]]\ntrue") == {"n": 5, "ok": True}
