"""The embedded model behind a real HTTP server, asked through litellm: it says what it says when asked directly."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dspex.errors import LMContextWindowError
from dspex.lm import LM, Delta, LMRequest, LMResponse
from tests.lm.server import Handler, Server, chunk, refuse, send, sse

pytestmark = pytest.mark.local_model

PARAMS = {"max_tokens": 12, "temperature": 0.0, "seed": 1}


def embedded(**options: Any) -> LM:
    return LM("local/smollm2-135m", cache=False, **options)


def behind(lm: LM) -> Any:
    """A reply that lets ``lm`` answer, in OpenAI's chat protocol."""

    def usage_of(response: LMResponse) -> dict[str, int]:
        usage = response.usage
        counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        return {**counts, "total_tokens": usage.total_tokens}

    def reply(handler: Handler) -> None:
        body = dict(handler.server.owner.requests[-1])  # type: ignore[attr-defined]  # one asks at a time
        streamed = body.pop("stream", False)
        schema = body.pop("response_format", {}).get("json_schema", {}).get("schema")
        for name in ("model", "stream_options"):
            body.pop(name, None)
        request = LMRequest.of(schema=schema, **body)
        if streamed:
            *deltas, response = lm.stream(request)
            pieces = [chunk({"content": delta.text}) for delta in deltas if isinstance(delta, Delta)]
            assert isinstance(response, LMResponse)
            end = chunk({}, response.completions[0].finish_reason)
            sse([*pieces, end, chunk(choices=[], usage=usage_of(response))])(handler)
            return
        try:
            response = lm.generate(request)
        except LMContextWindowError as error:
            refuse(400, str(error), code="context_length_exceeded")(handler)
            return
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": one.text},
                "finish_reason": one.finish_reason,
                "logprobs": one.logprobs,
            }
            for index, one in enumerate(response.completions)
        ]
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "served", "choices": choices}
        send(200, {**body, "usage": usage_of(response)})(handler)

    return reply


@pytest.fixture
def pair() -> Any:
    """The model over HTTP, and itself."""
    direct = embedded()
    with Server(otherwise=behind(direct)) as server:
        served = LM(
            "openai/smollm2",
            api_base=server.url,
            cache=False,
            price=(0.0, 0.0),
            capabilities=direct.capabilities | {"tools"},
        )
        yield served, direct


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"n": 2, "temperature": 1.0},
        {"stop": ["\n", "."]},
        {"logprobs": True, "top_logprobs": 2},
        {"temperature": 0.8, "seed": 7},
    ],
    ids=["plain", "n", "stop", "logprobs", "seed"],
)
def test_it_answers_over_http_as_it_does_directly(pair: Any, extra: dict[str, Any]) -> None:
    served, direct = pair
    request = LMRequest.of("Name three colours.", **{**PARAMS, **extra})
    ours, its = served.generate(request), direct.generate(request)
    assert [one.text for one in ours.completions] == [one.text for one in its.completions]
    assert [one.finish_reason for one in ours.completions] == [one.finish_reason for one in its.completions]
    assert (ours.usage.prompt_tokens, ours.usage.completion_tokens) == (
        its.usage.prompt_tokens,
        its.usage.completion_tokens,
    )
    if "logprobs" in extra:
        found, expected = (one.completions[0].logprobs["content"] for one in (ours, its))
        assert [token["token"] for token in found] == [token["token"] for token in expected]
    awaited = asyncio.run(served.agenerate(request))
    assert awaited.completions == ours.completions


def test_it_is_held_to_a_schema_over_http(pair: Any) -> None:
    served, _ = pair
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    text = served.generate(LMRequest.of("How many?", schema=schema, **{**PARAMS, "max_tokens": 40})).text
    assert isinstance(json.loads(text)["n"], int)


def test_it_streams_over_http_what_it_says_as_a_whole(pair: Any) -> None:
    served, direct = pair
    request = LMRequest.of("Name three colours.", **PARAMS)
    *deltas, response = served.stream(request)
    whole = direct.generate(request)
    assert len(deltas) > 3
    assert "".join(delta.text for delta in deltas) == response.text == whole.text
    assert response.usage.total_tokens == whole.usage.total_tokens
    *local, last = direct.stream(request)
    assert [delta.text for delta in local] == [delta.text for delta in deltas]
    assert last.completions == whole.completions

    async def collect() -> list[Any]:
        return [event async for event in direct.astream(request)]

    assert asyncio.run(collect())[:-1] == local


def test_a_prompt_that_is_too_long_over_http(pair: Any) -> None:
    served, _ = pair
    with pytest.raises(LMContextWindowError):
        served.generate(LMRequest.of("word " * 5000, **PARAMS))


def test_leaving_a_stream_of_the_embedded_model_ends_its_work() -> None:
    direct = embedded(max_tokens=2000)
    events = direct.stream(LMRequest.of("Tell a very long story."))
    assert isinstance(next(events), Delta)
    events.close()
    assert direct.generate(LMRequest.of("Hi", **PARAMS)).text
