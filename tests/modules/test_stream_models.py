"""Programs streamed from real models: over HTTP through litellm, and the embedded one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import dspex
from dspex import ChainOfThought, FieldDelta, Predict, Restart, Signature, Status
from dspex.execution import Run
from dspex.lm import LM
from tests.lm.server import Handler, Server, chunk, refuse, sse
from tests.modules.pieces import fields_shown, gathered, threads_ended, whole, written

ASKED = Signature("question -> reasoning, answer: int")
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def streamed(text: str, breaks_off: threading.Event | None = None) -> Any:
    pieces = [chunk({"content": text[at : at + 3]}) for at in range(0, len(text), 3)]
    if breaks_off is None:
        return sse([*pieces, chunk({}, "stop"), chunk(choices=[], usage=USAGE)])

    def half() -> Any:
        yield from pieces[: len(pieces) // 2]
        # What has arrived and was not read is lost with its connection.
        assert breaks_off.wait(60)

    return sse(half(), drops=True)


@pytest.mark.parametrize("on", ["threads", "tasks"])
def test_a_program_is_streamed_over_http(on: str) -> None:
    text = written(ASKED, {"reasoning": "Two and two.", "answer": 4})
    shown = threading.Event()
    events: list[Any] = []

    def hear(event: Any) -> None:
        events.append(event)
        if isinstance(event, FieldDelta):
            shown.set()

    async def hear_all(stream: Any) -> None:
        async for event in stream:
            hear(event)

    with Server(streamed(text, breaks_off=shown), refuse(500), streamed(text)) as server:
        lm = LM("openai/served", api_base=server.url, api_key="none", cache=False, price=(1.0, 1.0), retries=3)
        with dspex.context(lm=lm):
            program = Predict(ASKED)
            if on == "threads":
                for event in program.stream(question="2 + 2?"):
                    hear(event)
            else:
                asyncio.run(hear_all(program.astream(question="2 + 2?")))
        assert [body["stream"] for body in server.requests] == [True] * 3
    events, prediction = whole(events)
    assert prediction.to_dict() == {"reasoning": "Two and two.", "answer": 4}
    assert (prediction.usage.calls, prediction.usage.failed_calls, prediction.usage.prompt_tokens) == (1, 2, 11)
    assert fields_shown(events) == {("", 0): {"reasoning": "Two and two.", "answer": "4"}}
    assert sum(isinstance(event, Restart) for event in events) == 1
    assert len([event for event in events if isinstance(event, FieldDelta)]) > 5


@pytest.mark.parametrize("on", ["threads", "tasks"])
def test_leaving_a_stream_ends_the_wait_for_a_server_that_hangs(on: str) -> None:
    hung = threading.Event()

    def hang(handler: Handler) -> None:
        begin = written(ASKED, {"reasoning": "Two and two.", "answer": 4})[:40]

        def pieces() -> Any:
            yield chunk({"content": begin})
            hung.set()
            handler.server.stopping.wait(600)  # type: ignore[attr-defined]  # the server's own

        sse(pieces(), ends=False)(handler)

    with Server(hang) as server:
        lm = LM("openai/served", api_base=server.url, api_key="none", cache=False, price=(1.0, 1.0), timeout=600)
        with dspex.context(lm=lm):
            run = Run()
            if on == "threads":
                stream = Predict(ASKED).stream(question="2 + 2?", status=False, run=run)
                assert next(stream).field == "reasoning"
                assert hung.wait(30)
                stream.close()
                threads_ended()
            else:

                async def leave() -> None:
                    events = Predict(ASKED).astream(question="2 + 2?", status=False, run=run)
                    assert (await anext(events)).field == "reasoning"
                    await events.aclose()

                asyncio.run(leave())
            assert not server._server.stopping.is_set(), "it was the server that gave up"  # type: ignore[attr-defined]
    assert (run.usage.calls, run.usage.failed_calls, run.usage.cost) == (0, 1, None)


@pytest.mark.local_model
@pytest.mark.parametrize("on", ["threads", "tasks"])
def test_a_program_is_streamed_from_the_embedded_model(on: str) -> None:
    lm = LM("local/smollm2-135m", cache=False, temperature=0.0, max_tokens=60, seed=1)
    program = ChainOfThought("question -> answer", adapter="json")
    question = "Name a colour of the sky."
    with dspex.context(lm=lm):
        plain = program(question=question)
        if on == "threads":
            events, prediction = whole(program.stream(question=question))
        else:
            events, prediction = whole(asyncio.run(gathered(program.astream(question=question))))
    assert prediction == plain
    assert prediction.usage.total_tokens == plain.usage.total_tokens
    assert fields_shown(events) == {("", 0): {name: text for name, text in plain.to_dict().items() if text}}
    assert len([event for event in events if isinstance(event, FieldDelta)]) > 5
    assert [event.name for event in events if isinstance(event, Status) and event.kind == "lm"] == [lm.model] * 2
