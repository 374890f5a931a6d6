"""Each feature of a backend, through the real litellm and real HTTP, against a server on this machine."""

from __future__ import annotations

import asyncio
import datetime
import socket
import threading
import time
import traceback
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from dspex.errors import (
    DeadlineExceeded,
    LMBillingError,
    LMCircuitOpenError,
    LMConnectionError,
    LMContentFilterError,
    LMContextWindowError,
    LMError,
    LMRateLimitError,
    LMRequestError,
    LMServerError,
    LMTimeoutError,
)
from dspex.execution import Run, track_usage
from dspex.lm import LM, BaseLM, Cache, Delta, LMRequest, LMResponse, MessageBlock, MockLM, Restart, reading
from tests.lm.books import NumberedLM, ask_all, discrepancies
from tests.lm.callers import ASK, Caller, Streamer, astreaming, awhole, streaming, whole
from tests.lm.faults import FINAL, MIX, FaultServer
from tests.lm.server import Reply, Server, answer, chunk, drop, refuse, reset, send, slow, sse, trickle

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 3,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 8},
}


def served(server: Server | FaultServer, name: str = "served", **options: Any) -> LM:
    options = {"cache": False, "api_key": "sk-not-a-secret", "price": (1.0, 2.0), "retries": 0, **options}
    return LM(f"openai/{name}", api_base=server.url, **options)


STREAMED = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "France, "}),
    chunk({"reasoning_content": "so"}),
    chunk({"content": "Par"}),
    chunk({"content": "is"}),
    chunk({}, "stop"),
    chunk(choices=[], usage=USAGE),
]


# Streams.


def test_a_stream_of_text_and_reasoning_with_exact_usage(stream: Streamer) -> None:
    with Server(otherwise=sse(STREAMED)) as server:
        run = Run()
        *deltas, response = stream(served(server), ASK, run)
    assert deltas == [Delta("France, ", "reasoning"), Delta("so", "reasoning"), Delta("Par"), Delta("is")]
    (completion,) = response.completions
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("Paris", "France, so", "stop")
    usage = response.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cache_read_tokens) == (12, 3, 8)
    assert usage.cost == pytest.approx(18e-6)
    assert run.usage == usage
    assert server.requests[0]["stream_options"] == {"include_usage": True}


def test_the_price_of_a_stream_that_litellm_knows(stream: Streamer) -> None:
    with Server(otherwise=sse(STREAMED)) as server:
        usage = stream(served(server, "gpt-4o-mini", price=None))[-1].usage
    assert usage.cost == pytest.approx(4 * 1.5e-7 + 8 * 0.75e-7 + 3 * 6e-7)  # what was cached is at half price


def test_usage_that_a_stream_does_not_tell_is_not_made_up(stream: Streamer) -> None:
    with Server(otherwise=sse(STREAMED[:-1])) as server:
        usage = stream(served(server))[-1].usage
    assert (usage.calls, usage.total_tokens, usage.cost) == (1, 0, None)


def test_tool_calls_come_together(stream: Streamer) -> None:
    pieces = [
        chunk({"tool_calls": [{"index": 0, "id": "t1", "function": {"name": "look_up", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
        chunk({}, "tool_calls"),
        chunk(choices=[], usage=USAGE),
    ]
    with Server(otherwise=sse(pieces)) as server:
        response = stream(served(server), LMRequest.of("?", tools=[TOOL]))[-1]
    assert response.completions[0].tool_calls == ({"id": "t1", "name": "look_up", "arguments": '{"a": 1}'},)


def test_parallel_tool_calls_are_told_apart_however_a_server_counts(stream: Streamer) -> None:
    def piece(index: int, **call: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, "type": "function", **call}]})

    expected = (
        {"id": "t1", "name": "add", "arguments": '{"a": 1}'},
        {"id": "t2", "name": "add", "arguments": '{"a": 2}'},
    )
    for second, repeated in ((1, False), (0, False), (0, True), (1, True)):
        pieces = []
        for index, identity, number in ((0, "t1", 1), (second, "t2", 2)):
            pieces.append(piece(index, id=identity, function={"name": "add", "arguments": '{"a"'}))
            again = {"id": identity} if repeated else {}
            named = {"name": "add"} if repeated else {}
            pieces.append(piece(index, **again, function={**named, "arguments": f": {number}}}"}))
        with Server(otherwise=sse([*pieces, chunk({}, "tool_calls"), STREAMED[-1]])) as server:
            *_, response = stream(served(server), ASK)
        assert response.completions[0].tool_calls == expected, (second, repeated)


@pytest.mark.parametrize("cut", ["unfinished", "unsaid", "dropped"])
def test_a_stream_that_breaks_off_is_no_answer(stream: Streamer, cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()
    usual = LM._astream

    async def hear(*given: Any) -> Any:
        async with aclosing(usual(*given)) as events:
            async for event in events:
                heard.set()
                yield event

    def half() -> Any:
        yield from STREAMED[:4]
        if cut == "dropped":  # what has arrived and was not read is lost with its connection
            assert heard.wait(60)

    def broken() -> Reply:
        return sse(half(), ends=cut == "unsaid", drops=cut == "dropped")

    monkeypatch.setattr(LM, "_astream", hear)
    with Server(broken(), otherwise=sse(STREAMED)) as server:
        run = Run()
        events = stream(served(server, retries=1), ASK, run)
        assert events[-1].text == "Paris"
        assert [type(event) for event in events].count(Restart) == 1
        assert len(server.requests) == 2
    assert (run.usage.calls, run.usage.failed_calls, run.usage.cost) == (1, 1, None)  # the first may be billed
    assert run.usage.prompt_tokens == 12
    with Server(broken()) as server, pytest.raises((LMServerError, LMConnectionError)):
        stream(served(server))


def test_a_stream_is_cached_like_any_other(stream: Streamer) -> None:
    with Server(otherwise=sse(STREAMED)) as server:
        lm = served(server, cache=Cache())
        first = stream(lm)
        assert lm.generate(ASK).cached
        again = stream(lm)
        assert len(server.requests) == 1
    assert again[-1].completions == first[-1].completions
    assert again[:-1] == [Delta("France, so", "reasoning"), Delta("Paris")]


def test_leaving_a_stream_closes_the_connection_and_counts_the_call() -> None:
    class Endless:
        def __iter__(self) -> Any:
            while True:
                yield chunk({"content": "x"})
                time.sleep(0.01)

    with Server(otherwise=sse(Endless())) as server:
        run = Run()
        events = served(server).stream(ASK, run)
        assert next(events) == Delta("x")
        events.close()
        assert (run.usage.failed_calls, run.usage.cost) == (1, None)

        async def main() -> Run:
            run = Run()
            async for _ in served(server).astream(ASK, run):
                break
            while not run.usage.failed_calls:  # it is closed behind our back
                await asyncio.sleep(0.01)
            return run

        assert asyncio.run(main()).usage.failed_calls == 1


# Interfaces.


def test_text_completion(way: Streamer) -> None:
    body = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "served",
        "choices": [{"index": 0, "text": " Paris", "finish_reason": "length", "logprobs": None}],
        "usage": USAGE,
    }
    with Server(otherwise=send(200, body)) as server:
        messages = [{"role": "system", "content": "Go on."}, {"role": "user", "content": "The capital is"}]
        response = way(served(server, model_type="text"), LMRequest.of(messages=messages, max_tokens=5))[-1]
    assert server.paths == ["/v1/completions"]
    assert server.requests[0]["prompt"] == "Go on.\n\nThe capital is"
    assert "messages" not in server.requests[0]
    assert (response.text, response.completions[0].finish_reason) == (" Paris", "length")
    assert (response.usage.prompt_tokens, response.usage.cost) == (12, pytest.approx(18e-6))


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "served",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "France"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Paris", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "look_up",
            "arguments": "{}",
            "status": "completed",
        },
    ],
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 15,
    },
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # of litellm with its own classes
def test_the_responses_interface(way: Streamer) -> None:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    events = [
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "output": [], "usage": None}},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Par", **place},
        {"type": "response.output_text.delta", "sequence_number": 2, "delta": "is", **place},
        {"type": "response.completed", "sequence_number": 3, "response": RESPONSE},
    ]
    streamed = way in (streaming, astreaming)
    with Server(otherwise=sse(events, ends=False) if streamed else send(200, RESPONSE)) as server:
        # Of models that it does not know, litellm streams no responses, but gives them in one piece.
        lm = served(server, "gpt-5-mini", model_type="responses", max_tokens=20, capabilities=["json_schema"])
        *deltas, response = way(lm, LMRequest.of("?", tools=[TOOL], schema={"type": "object"}, reasoning_effort="low"))
    assert server.paths == ["/v1/responses"]
    (sent,) = server.requests
    assert sent["input"] == [{"role": "user", "content": "?"}]
    assert sent["max_output_tokens"] == 20
    assert sent["tools"][0]["name"] == "look_up"
    assert sent["text"]["format"]["type"] == "json_schema"
    assert sent["reasoning"]["effort"] == "low"
    assert deltas == ([Delta("Par"), Delta("is")] if streamed else [])
    (completion,) = response.completions
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("Paris", "France", "tool_calls")
    assert completion.tool_calls == ({"id": "call_1", "name": "look_up", "arguments": "{}"},)
    usage = response.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cache_read_tokens) == (12, 3, 8)
    assert usage.cost == pytest.approx(18e-6)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # of litellm with its own classes
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("failed", "server_error", LMServerError),
        ("failed", "rate_limit_exceeded", LMRateLimitError),
        ("cancelled", None, LMServerError),
        ("queued", None, LMRequestError),
    ],
)
def test_a_response_that_failed_is_no_empty_answer(
    way: Streamer, status: str, code: str | None, kind: type[LMError]
) -> None:
    error = None if code is None else {"code": code, "message": "boom"}
    failed = {**RESPONSE, "status": status, "error": error, "output": []}
    events = [
        {"type": "response.created", "sequence_number": 0, "response": {**failed, "status": "in_progress"}},
        {"type": "response.failed", "sequence_number": 1, "response": failed},
    ]
    streamed = way in (streaming, astreaming)
    if streamed and status != "failed":
        pytest.skip("a stream has no such end")
    with Server(otherwise=sse(events, ends=False) if streamed else send(200, failed)) as server:
        run, cache = Run(), Cache()
        lm = served(server, "gpt-5-mini", model_type="responses", cache=cache)
        with pytest.raises(kind, match="boom" if code else status):
            way(lm, ASK, run)
    assert cache.get(lm.key(ASK)) is None
    assert (run.usage.calls, run.usage.failed_calls) == (0, 1)
    if not streamed:  # litellm tells of a stream that failed, but not what it took
        assert run.usage.total_tokens == 15
        assert run.usage.cost == pytest.approx(18e-6)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # of litellm with its own classes
@pytest.mark.parametrize("interface", ["chat", "responses"])
def test_a_refusal_is_no_empty_answer(way: Streamer, interface: Literal["chat", "responses"]) -> None:
    streamed = way in (streaming, astreaming)
    reply: Reply
    if interface == "responses":
        content = [{"type": "refusal", "refusal": "I cannot."}]
        refused = {**RESPONSE, "output": [{**RESPONSE["output"][1], "content": content}]}
        done = {"type": "response.completed", "sequence_number": 1, "response": refused}
        reply = sse([done], ends=False) if streamed else send(200, refused)
    elif streamed:
        said = [{"role": "assistant", "content": "", "refusal": None}, {"refusal": "I can"}, {"refusal": "not."}]
        reply = sse([*map(chunk, said), chunk({}, "stop"), STREAMED[-1]])
    else:
        message = {"role": "assistant", "content": None, "refusal": "I cannot."}
        reply = answer(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
    with Server(otherwise=reply) as server:
        run, cache = Run(), Cache()
        lm = served(server, "gpt-5-mini", model_type=interface, cache=cache, retries=3)
        with pytest.raises(LMContentFilterError, match=r"refused to answer: I cannot\."):
            way(lm, ASK, run)
        assert len(server.requests) == 1
    assert cache.get(lm.key(ASK)) is None
    assert (run.usage.failed_calls, run.usage.prompt_tokens, run.usage.completion_tokens) == (1, 12, 3)
    assert run.usage.cost == pytest.approx(18e-6)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # of litellm with its own classes
@pytest.mark.parametrize("what", ["failure", "refusal"])
def test_what_a_provider_says_in_an_answer_has_no_secret_in_an_error_or_in_the_cache(
    way: Streamer, what: str, tmp_path: Path
) -> None:
    secret = "sk-very-secret-key-123456"
    said = "x" * 180 + f" with the key {secret}"  # cut off first, half of it would not be found
    if what == "failure":
        ended = {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": said}, "output": []}
    else:
        ended = {**RESPONSE, "output": [{**RESPONSE["output"][1], "content": [{"type": "refusal", "refusal": said}]}]}
    done = {"type": f"response.{ended['status']}", "sequence_number": 1, "response": ended}
    reply = sse([done], ends=False) if way in (streaming, astreaming) else send(200, ended)
    with Server(otherwise=reply) as server:
        cache = Cache(tmp_path / "answers.db")
        lm = served(server, "gpt-5-mini", model_type="responses", cache=cache, api_key=secret)
        with pytest.raises(LMError, match="x" * 180) as raised:
            way(lm)
    cache.close()
    shown = "".join(traceback.format_exception(raised.value))
    assert "sk-very" not in shown
    assert not any(b"sk-very" in file.read_bytes() for file in tmp_path.iterdir())


def _choice(index: int, message: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "look_up", "input": "Paris"}}]},
        {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "look_up", "arguments": "Paris"}}]},
        {"function_call": {"name": "look_up", "arguments": "Paris"}},
    ],
    ids=["custom", "function", "as it was once written"],
)
def test_calls_of_tools_of_each_kind(message: dict[str, Any]) -> None:
    with Server(otherwise=answer(choices=[_choice(0, message)])) as server:
        (call,) = served(server).generate(ASK).completions[0].tool_calls
    assert (call["name"], call["arguments"]) == ("look_up", "Paris")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # of litellm with its own classes
@pytest.mark.parametrize(
    ("item", "arguments"),
    [
        ({"type": "custom_tool_call", "input": "Paris"}, "Paris"),
        ({"type": "function_call", "status": "completed", "arguments": None}, ""),
    ],
    ids=["custom", "without arguments"],
)
def test_calls_of_tools_of_each_kind_in_a_response(way: Streamer, item: dict[str, Any], arguments: str) -> None:
    response = {**RESPONSE, "output": [{"id": "i", "call_id": "c", "name": "look_up", **item}]}
    done = {"type": "response.completed", "sequence_number": 1, "response": response}
    reply = sse([done], ends=False) if way in (streaming, astreaming) else send(200, response)
    with Server(otherwise=reply) as server:
        (completion,) = way(served(server, "gpt-5-mini", model_type="responses"))[-1].completions
    assert completion.tool_calls == ({"id": "c", "name": "look_up", "arguments": arguments},)
    assert completion.finish_reason == "tool_calls"


def test_a_character_in_two_pieces_is_one(stream: Streamer) -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "look_up", "arguments": "\ud83d"}}
    said = [
        {"reasoning_content": "\ud83d"},
        {"reasoning_content": "\ude00"},
        {"content": "a\ud83d"},
        {"content": "\ude00b\ud83d"},
        {"tool_calls": [call]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "\ude00"}}]},
    ]
    with Server(otherwise=sse([*map(chunk, said), chunk({}, "stop"), STREAMED[-1]])) as server:
        *deltas, response = stream(served(server))
    (completion,) = response.completions
    assert (completion.text, completion.reasoning) == ("a\U0001f600b\ud83d", "\U0001f600")
    assert completion.tool_calls[0]["arguments"] == "\U0001f600"
    thought, *texts = (delta.text for delta in deltas)
    assert (thought, texts) == ("\U0001f600", ["a", "\U0001f600b", "\ud83d"])


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # of litellm with its own classes
def test_a_character_of_a_response_in_two_pieces_is_one(stream: Streamer) -> None:
    piece = {"type": "response.output_text.delta", "item_id": "m", "output_index": 1, "content_index": 0}
    events = [
        {**piece, "sequence_number": number, "delta": text, "logprobs": []}
        for number, text in enumerate(("\ud83d", "\ude00"))
    ]
    done = {"type": "response.completed", "sequence_number": 2, "response": RESPONSE}
    with Server(otherwise=sse([*events, done], ends=False)) as server:
        *deltas, _ = stream(served(server, "gpt-5-mini", model_type="responses"))
    assert [delta.text for delta in deltas] == ["\U0001f600"]


@pytest.mark.parametrize(
    "choice",
    [
        {"index": "first", "delta": {"content": "is"}, "finish_reason": None},
        {"index": 0, "delta": {"reasoning_content": ["so"]}, "finish_reason": None},
    ],
    ids=["number", "thought"],
)
def test_a_piece_of_no_known_form_is_an_error_of_ours(stream: Streamer, choice: dict[str, Any]) -> None:
    with Server(otherwise=sse([chunk({"content": "Par"}), chunk(choices=[choice]), chunk({}, "stop")])) as server:
        with pytest.raises(LMServerError, match=r"sent an answer that cannot be read \(") as raised:
            stream(served(server))
        assert stream(served(server, fallbacks=[MockLM(["Paris"])]))[-1].text == "Paris"
    assert raised.value.billed
    assert raised.value.__cause__ is not None


def test_a_stream_that_is_not_awaited_is_left_to_litellm() -> None:
    async def pieces() -> AsyncIterator[None]:
        yield None

    plain, awaited = SimpleNamespace(completion_stream=iter(STREAMED)), SimpleNamespace(completion_stream=pieces())
    for raw in (plain, awaited):
        reading.Assembly("openai/served", None).overhear(raw)
    assert not isinstance(plain.completion_stream, AsyncIterable)
    assert isinstance(awaited.completion_stream, AsyncIterable)


def test_several_texts_are_in_the_order_of_their_numbers(way: Streamer) -> None:
    choices = [{"index": 1, "text": "two", "finish_reason": "stop"}, {"index": 0, "text": "one", "finish_reason": None}]
    body = {"id": "c", "object": "text_completion", "created": 1, "model": "served", "choices": choices, "usage": USAGE}
    with Server(otherwise=send(200, body)) as server:
        response = way(served(server, model_type="text"), LMRequest.of("?", n=2))[-1]
    assert [one.text for one in response.completions] == ["one", "two"]


def test_why_each_of_several_streamed_answers_has_ended() -> None:
    def piece(index: int, text: str | None, ended: str | None = None) -> dict[str, Any]:
        delta = {} if text is None else {"content": text}
        return chunk(choices=[{"index": index, "delta": delta, "finish_reason": ended}])

    events = [piece(0, "one"), piece(1, "two"), piece(1, None, "length"), piece(0, None, "stop"), STREAMED[-1]]
    with Server(otherwise=sse(events)) as server:
        lm = served(server, capabilities=["n"])
        *_, response = lm.stream(LMRequest.of("?", n=2))
    assert [(one.text, one.finish_reason) for one in response.completions] == [("one", "stop"), ("two", "length")]
    assert response.truncated


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")  # of litellm with its own classes
def test_a_part_without_text_is_none() -> None:
    output = [{**RESPONSE["output"][1], "content": [{"type": "output_text", "text": None, "annotations": []}]}]
    with Server(otherwise=send(200, {**RESPONSE, "output": output})) as server:
        assert served(server, "gpt-5-mini", model_type="responses").generate(ASK).text == ""


def test_what_is_in_an_answer_of_no_known_form_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise AttributeError("no such thing, sk-not-a-secret")

    monkeypatch.setattr(reading, "_completion_of_choice", broken)
    with Server() as server:
        run = Run()
        with pytest.raises(LMServerError, match=r"cannot be read \(AttributeError: no such thing, \*\*\*") as raised:
            served(server).generate(ASK, run)
    assert raised.value.billed
    assert (run.usage.failed_calls, run.usage.cost) == (1, None)


@pytest.mark.parametrize(
    ("model_type", "request_", "message"),
    [
        ("text", LMRequest.of("?", tools=[TOOL]), "takes no tools"),
        ("text", LMRequest.of(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "of another kind"),
        ("responses", LMRequest.of("?", n=2), "which takes no n"),
        ("responses", LMRequest.of("?", stop="x"), "which takes no stop"),
        ("chat", LMRequest.of("?", schema={"type": "object"}), r"capabilities=\['json_schema', ...\]\) when it can"),
    ],
)
def test_what_an_interface_cannot_be_told_is_said_before_it_is_paid_for(
    model_type: Any, request_: LMRequest, message: str
) -> None:
    with Server() as server:
        with pytest.raises(LMRequestError, match=message):
            served(server, model_type=model_type).generate(request_)
        assert not server.requests


def test_interfaces_are_cached_apart() -> None:
    assert LM("openai/x").key(ASK) != LM("openai/x", model_type="responses").key(ASK)
    twin = BaseLM.from_json(LM("openai/x", model_type="responses").to_json())
    assert isinstance(twin, LM)
    assert twin.model_type == "responses"


# What comes with an answer.


def test_reasoning_tools_and_logprobs_of_a_whole_answer() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "look_up", "arguments": "{bad"}}
    message = {"role": "assistant", "content": None, "reasoning_content": "hmm", "tool_calls": [call]}
    logprobs = {"content": [{"token": "P", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": logprobs}]
    with Server(otherwise=answer(choices=choices)) as server:
        request = LMRequest.of("?", tools=[TOOL], logprobs=True, stop=["x"], seed=3, tool_choice="auto")
        response = served(server, cache=Cache()).generate(request)
    (completion,) = response.completions
    assert completion.reasoning == "hmm"
    assert completion.tool_calls == ({"id": "t1", "name": "look_up", "arguments": "{bad"},)
    assert completion.logprobs["content"][0]["logprob"] == -0.1
    sent = server.requests[0]
    assert (sent["tools"], sent["logprobs"], sent["stop"], sent["seed"]) == ([TOOL], True, ["x"], 3)
    assert LMResponse.from_json(response.to_json()).completions == response.completions


def claude(server: Server, **options: Any) -> LM:
    base = server.url.removesuffix("/v1")
    return LM("anthropic/claude-sonnet-4-5", api_base=base, api_key="sk-x", cache=False, retries=0, **options)


CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Paris"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 4,
        "output_tokens": 3,
        "cache_creation_input_tokens": 1500,
        "cache_read_input_tokens": 200,
    },
}


def test_the_head_is_marked_for_a_prompt_cache_that_needs_it() -> None:
    long = MessageBlock([{"role": "system", "content": "x" * 5000}, {"role": "user", "content": "demo"}])
    short = MessageBlock([{"role": "system", "content": "x"}])
    tail = ({"role": "user", "content": "hi"},)
    with Server(otherwise=send(200, CLAUDE)) as server:
        usage = claude(server).generate(LMRequest(long, tail)).usage
        claude(server).generate(LMRequest(short, tail))
        claude(server, prompt_caching=False).generate(LMRequest(long, tail))
    marked, plain, unmarked = server.requests
    assert str(marked).count("cache_control") == 1
    assert marked["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}  # the last of the head
    assert "cache_control" not in str(plain)
    assert "cache_control" not in str(unmarked)
    assert long[0] == {"role": "system", "content": "x" * 5000}
    assert (usage.prompt_tokens, usage.cache_write_tokens, usage.cache_read_tokens) == (1704, 1500, 200)
    assert LM("openai/gpt-4o-mini").key(LMRequest(long, tail)) == LM("openai/gpt-4o-mini", prompt_caching=False).key(
        LMRequest(long, tail)
    )


def test_limits_that_providers_tell_are_heard(way: Streamer) -> None:
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "30",
        "x-ratelimit-reset-requests": "30s",
    }
    body = answer()
    streamed = way in (streaming, astreaming)

    def with_headers(handler: Any) -> None:
        original = handler.send_header

        def send_header(name: str, value: str) -> None:
            original(name, value)
            if name == "Content-Type":
                for each in headers.items():
                    original(*each)

        handler.send_header = send_header
        (sse(STREAMED) if streamed else body)(handler)

    with Server(otherwise=with_headers) as server:
        lm = served(server)
        way(lm)
        assert lm.gate is not None
        assert lm.gate.pace.requests.rate == pytest.approx(1.0)


def test_anthropics_limits_are_heard_too() -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=40)
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "46",
        "anthropic-ratelimit-requests-reset": soon.isoformat(),
    }
    with Server(otherwise=send(200, CLAUDE, headers)) as server:
        lm = claude(server)
        lm.generate(ASK)
        assert lm.gate is not None
        assert 0.09 < lm.gate.pace.requests.rate < 0.3


# Errors, deadlines, the breaker.

ERRORS = [
    (refuse(429, headers={"Retry-After": "7"}), LMRateLimitError, False),
    (refuse(402, "pay"), LMBillingError, False),
    (refuse(400, "no", code="billing_hard_limit_reached"), LMBillingError, False),
    (refuse(400, "This model's maximum context length is 10 tokens"), LMContextWindowError, False),
    (refuse(400, "no", code="content_policy_violation"), LMContentFilterError, False),
    (refuse(400, "no", code="content_filter"), LMContentFilterError, False),
    (refuse(422, "no"), LMRequestError, False),
    (refuse(500), LMServerError, False),
    (drop, LMConnectionError, True),
    (slow(30), LMTimeoutError, True),
    (trickle, LMTimeoutError, True),
]


@pytest.mark.parametrize(("reply", "kind", "billed"), ERRORS, ids=[str(number) for number in range(len(ERRORS))])
def test_errors_are_typed_on_every_way(way: Streamer, reply: Any, kind: type[LMError], billed: bool) -> None:
    with Server(otherwise=reply) as server:
        run = Run()
        with pytest.raises(LMError) as caught:
            way(served(server, timeout=0.6 if kind is LMTimeoutError else 60.0), ASK, run)
    assert type(caught.value) is kind
    assert caught.value.billed is billed
    assert (run.usage.failed_calls, run.usage.cost) == (1, None if billed else 0.0)
    if kind is LMRateLimitError:
        assert caught.value.retry_after == 7


@pytest.mark.parametrize("wish", ["Wed, 21 Oct 99999999999 07:28:00 GMT", "9" * 400, "soon", "-1", "nan", ""])
def test_no_wish_for_a_later_retry_is_trouble(way: Streamer, wish: str) -> None:
    with Server(otherwise=refuse(429, headers={"Retry-After": wish})) as server, pytest.raises(LMRateLimitError):
        way(served(server))


@pytest.mark.parametrize("wish", ["9" * 400, "inf", "nan", "1e20", "Wed, 21 Oct 9999 07:28:00 GMT"])
def test_a_wish_for_a_retry_in_centuries_is_none(call: Caller, wish: str) -> None:
    with Server(refuse(429, headers={"Retry-After": wish})) as server:
        lm = served(server, retries=1)
        assert call(lm).text == "Paris"
        assert call(lm, LMRequest.of("again")).text == "Paris"  # nobody else is kept from asking either


def test_a_wish_in_milliseconds_that_is_none_leaves_the_other() -> None:
    headers = {"retry-after-ms": "nan", "Retry-After": "7"}
    with Server(otherwise=refuse(429, headers=headers)) as server, pytest.raises(LMRateLimitError) as caught:
        served(server).generate(ASK)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "x", "choices": [{"mess',
        b"{}",
        b"null",
        b"[]",
        b'{"choices": null}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": "Paris"}}], "usage": {"prompt_tokens": "x"}}',
    ],
)
def test_an_illegible_answer_may_be_billed(way: Streamer, body: bytes) -> None:
    with Server(otherwise=send(200, body)) as server:
        run = Run()
        with pytest.raises(LMServerError) as caught:
            way(served(server), ASK, run)
    assert caught.value.billed
    assert run.usage.cost is None


def test_what_cannot_be_encoded_is_the_requests_fault(way: Streamer) -> None:
    with Server() as server:
        run = Run()
        with pytest.raises(LMRequestError, match="cannot be sent"):
            way(served(server, retries=3), LMRequest.of("half a pair: \ud800"), run)
    assert server.requests == []
    assert (run.usage.failed_calls, run.usage.cost) == (1, 0.0)


def test_a_trickle_ends_with_the_deadline(way: Streamer) -> None:
    with Server(otherwise=trickle) as server:
        with pytest.raises((LMTimeoutError, DeadlineExceeded)):
            way(served(server), ASK, Run(deadline=0.5))
        with pytest.raises(LMTimeoutError):
            way(served(server, deadline=0.5))


def test_a_server_that_is_down_is_left_alone_and_falls_back(way: Streamer) -> None:
    with Server(otherwise=refuse(500)) as down, Server() as up:
        lm = served(down, breaker=2)
        for _ in range(2):
            with pytest.raises(LMServerError):
                way(lm)
        with pytest.raises(LMCircuitOpenError):
            way(lm)
        assert len(down.requests) == 2
        if way in (whole, awhole):
            response = way(served(down, breaker=2, fallbacks=[served(up, "other")]))[-1]
            assert (response.text, response.model) == ("Paris", "openai/other")
            assert len(down.requests) == 2


# All of it at once.


@pytest.mark.parametrize("blocking", [False, True], ids=["tasks", "threads"])
def test_the_books_agree_under_faults(blocking: bool) -> None:
    # A body that never ends takes all of the timeout, and one that is short is missed on a machine that stalls.
    with FaultServer(seed=7, share=1.1, without="slow") as server:
        lm = NumberedLM("openai/served", api_base=server.url, api_key="none", cache=False, price=(1, 2), retries=8)
        endings, usage, total = ask_all(lm, 400, concurrency=40, streamed=0.5, blocking=blocking)
        requests = server.books.requests
    assert discrepancies(endings, usage, total, requests, lm) == []
    assert len(endings) == 400
    assert {outcome for _, _, outcome in requests} == {"answered", *MIX, *FINAL} - {"slow"}


@pytest.mark.parametrize("name", ["openai/served", "anthropic/claude-sonnet-4-5"])
def test_what_was_sent_and_reset_is_sent_once_and_may_be_billed(way: Streamer, name: str) -> None:
    with Server(otherwise=reset) as server:
        lm = LM(name, api_base=server.url, api_key="sk-not-a-secret", cache=False, retries=0)
        with pytest.raises(LMConnectionError) as caught:
            way(lm)
        assert len(server.requests) == 1
    assert caught.value.billed


def test_what_finds_no_server_is_not_billed(way: Streamer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        for name in ("openai/served", "anthropic/claude-sonnet-4-5"):
            address = f"http://127.0.0.1:{taken.getsockname()[1]}"
            lm = LM(name, api_base=address, api_key="sk-not-a-secret", cache=False, retries=0)
            with pytest.raises(LMConnectionError) as caught:
                way(lm)
            assert not caught.value.billed


def test_a_ledger_over_http_has_what_the_run_has() -> None:
    with Server(refuse(500), otherwise=answer()) as server:
        lm = served(server, retries=1)
        with track_usage() as usage:
            lm("a")
            lm("b")
    assert usage.by("model")["openai/served"].calls == 2
    assert usage.total.failed_calls == 1
    assert usage.total.cost == pytest.approx(2 * 18e-6)
