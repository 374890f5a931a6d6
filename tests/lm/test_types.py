"""Requests, responses and the keys they are cached under."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dspex.data import Usage
from dspex.errors import DefinitionError
from dspex.lm import Completion, LMRequest, LMResponse, MessageBlock, MockLM
from dspex.lm.keys import Keys
from dspex.lm.secrets import is_secret, public_url, scrub
from dspex.lm.types import framed, token_bound

HEAD = MessageBlock([{"role": "system", "content": "Be brief."}])
roles = st.sampled_from(["system", "user", "assistant"])
texts = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(["user 1 a", "\nuser 1 b", "0 ", ""])
messages = st.lists(st.fixed_dictionaries({"role": roles, "content": texts}), max_size=4)


def keys(model: str = "m", **params: Any) -> Keys:
    return Keys({"model": model}, params)


def test_a_block_is_an_immutable_sequence() -> None:
    block = MessageBlock([{"role": "system", "content": "a"}, {"role": "user", "content": "ü"}])
    assert len(block) == 2
    assert block[0] == {"role": "system", "content": "a"}
    assert block[0:1] == ({"role": "system", "content": "a"},)
    assert [message["role"] for message in block] == ["system", "user"]
    assert block == MessageBlock(list(block))
    assert block != MessageBlock()
    assert block != [1]
    assert hash(block) == hash(MessageBlock(list(block)))
    assert pickle.loads(pickle.dumps(block)) == block
    assert block.characters == 2
    assert block.token_bound >= 3
    assert repr(block) == "<MessageBlock: 2 messages, 2 characters>"


def test_the_digest_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    block = MessageBlock([{"role": "user", "content": "x"}])
    first = block.digest
    monkeypatch.setattr("dspex.lm.types.digest", lambda text: pytest.fail("it was worked out again"))
    assert block.digest == first


@given(messages, messages)
def test_different_messages_never_look_the_same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert (framed(one) == framed(other)) == (one == other)
    assert (MessageBlock(one).digest == MessageBlock(other).digest) == (one == other)


@given(messages)
def test_no_tokenizer_makes_more_tokens_than_the_bound(several: list[dict[str, Any]]) -> None:
    content = sum(len(message["content"].encode("utf-8", "surrogatepass")) for message in several)
    assert token_bound(several) >= content + 4 * len(several)


def test_parts_that_are_no_text_weigh_much() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:..."}}
    several = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, picture]}]
    assert token_bound(several) > 50_000
    assert MessageBlock(several).characters == len("what is it?")


def test_requests_from_prompts_and_messages() -> None:
    request = LMRequest.of("hi", temperature=0.5, rollout_id=2)
    assert request.messages == [{"role": "user", "content": "hi"}]
    assert (dict(request.params), request.rollout_id) == ({"temperature": 0.5}, 2)
    several = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    assert LMRequest.of(messages=several).messages == several
    assert LMRequest(HEAD, ({"role": "user", "content": "x"},)).messages[0]["role"] == "system"
    assert request.replace(rollout_id=0) == LMRequest.of("hi", temperature=0.5)
    assert request != LMRequest.of("hi")
    assert request != "hi"
    assert repr(LMRequest.of("hi", api_key="sk-hidden", schema={})) == "<LMRequest: 1 message, api_key=***, schema>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a model is called with a prompt or with messages, one of them"),
        ({"prompt": "a", "messages": []}, 'right: lm("Say hi.")'),
        ({"prompt": 3}, "prompt must be a str, not 3 (int)"),
        ({"messages": ["hi"]}, "messages must hold dicts with role and content, not 'hi' (str)"),
        ({"messages": [{"content": "hi"}]}, 'write {"role": "user", "content": ...}'),
    ],
)
def test_calls_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        MockLM(["x"])(**arguments)
    assert message in str(caught.value)


def test_a_key_covers_everything_that_changes_the_answer() -> None:
    tail = ({"role": "user", "content": "q"},)
    base = LMRequest(HEAD, tail)
    variants = [
        base,
        base.replace(head=MessageBlock()),
        base.replace(tail=({"role": "user", "content": "r"},)),
        base.replace(tail=({"role": "assistant", "content": "q"},)),
        base.replace(tail=({"role": "user", "content": [{"type": "text", "text": "q"}]},)),
        base.replace(params={"temperature": 1}),
        base.replace(params={"temperature": 1.0}),
        base.replace(params={"temperature": True}),
        base.replace(params={"stop": ["a"]}),
        base.replace(params={"seed": 1}),
        base.replace(schema={"type": "object"}),
        base.replace(schema={"type": "array"}),
        base.replace(grammar="root ::= 'a'"),
        base.replace(rollout_id=1),
        base.replace(rollout_id=11),
    ]
    found = {keys().key(request) for request in variants} | {
        keys("n").key(base),
        keys(temperature=0.5).key(base),
    }
    assert len(found) == len(variants) + 2
    assert all(len(key) == 64 for key in found)


def test_a_key_does_not_cover_what_changes_nothing() -> None:
    base = LMRequest(HEAD, ({"role": "user", "content": "q"},))
    assert keys().key(base) == keys().key(base.replace(params={"temperature": None}))
    assert keys().key(base) == keys().key(base.replace(params={"api_key": "sk-1"}))
    assert keys(temperature=0.5).key(base) == keys().key(base.replace(params={"temperature": 0.5}))
    assert keys(a=1, b=2).key(base) == keys(b=2, a=1).key(base)
    # The order of dicts neither, nor which object a schema is.
    one = base.replace(schema={"a": 1, "b": 2})
    other = base.replace(schema={"b": 2, "a": 1})
    assert keys().key(one) == keys().key(other)


def test_keys_stay_right_when_their_memory_is_full() -> None:
    shared = keys()
    base = LMRequest.of("q")
    expected = {number: keys().key(base.replace(params={"seed": number})) for number in (0, 3)}
    for number in range(1500):
        shared.key(base.replace(params={"seed": number}, schema={"n": number}))
    for number, key in expected.items():
        assert shared.key(base.replace(params={"seed": number})) == key


def test_keys_of_what_is_no_data_say_so() -> None:
    with pytest.raises(DefinitionError, match="a request to a model must be plain data"):
        keys().key(LMRequest.of("q", stop=object()))


def test_responses_survive_json() -> None:
    response = LMResponse(
        (Completion("a", "stop", [{"token": "a", "logprob": -0.5}]), Completion("b")),
        Usage(calls=1, prompt_tokens=3, completion_tokens=2, cost=None),
        "m",
        latency=0.5,
    )
    twin = LMResponse.from_json(response.to_json())
    assert twin == response
    assert twin.text == "a"
    assert twin.usage.cost is None
    assert response != LMResponse((Completion("a"),), Usage(), "m")
    assert repr(Completion("x", "length")) == "Completion('x', finish_reason='length')"
    assert repr(response).startswith("<LMResponse m: 'a', ")


@pytest.mark.parametrize(
    "name",
    ["api_key", "aws_secret_access_key", "aws_session_token", "extra_headers", "vertex_credentials", "azure_ad_token"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["temperature", "max_tokens", "max_completion_tokens", "top_p", "logit_bias", "author", "monkey", "stop"]
)
def test_names_of_what_is_no_secret(name: str) -> None:
    assert not is_secret(name)


def test_scrubbing() -> None:
    assert scrub("key sk-12345678 and sk-1234567890", ["sk-12345678", "sk-1234567890"]) == "key *** and ***"
    assert scrub("none of it", ["none", ""]) == "none of it"
    assert public_url("http://localhost:8000/v1") == "http://localhost:8000/v1"
