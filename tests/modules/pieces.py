"""A model that writes its answers in given pieces, and what tests of streams make of events."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from dspex.adapters import Adapter, adapter_named
from dspex.execution.executor import in_thread
from dspex.execution.kept_threads import _idle
from dspex.lm import BaseLM, Completion, Delta, LMRequest, LMResponse
from dspex.modules import FieldDelta, Final, Restart, Status
from dspex.signatures import Signature

Answer = Sequence[Any]
"""Pieces of a text; a Delta is itself, an exception is raised, an Event is waited for, another call is made."""


class Pieces(BaseLM):
    """Answers with each of ``answers`` in turn, the last one over and over; a function makes one for a request."""

    def __init__(self, *answers: Answer | Callable[[LMRequest], Answer], **options: Any) -> None:
        super().__init__("test/pieces", price=(1.0, 1.0), **{"timeout": None, "retries": 0, **options})
        self.answers = answers
        self.asked = 0
        self.closed = threading.Event()  # a stream of it was left before its end
        self._lock = threading.Lock()

    def _next(self, request: LMRequest) -> Answer:
        with self._lock:
            answer = self.answers[min(self.asked, len(self.answers) - 1)]
            self.asked += 1
        return answer(request) if callable(answer) else answer

    def _response(self, said: Iterable[Delta]) -> LMResponse:
        found: dict[int, dict[str, str]] = {}
        for delta in said:
            parts = found.setdefault(delta.completion, {"text": "", "reasoning": ""})
            parts[delta.kind] += delta.text
        completions = tuple(
            Completion(parts["text"], "stop", reasoning=parts["reasoning"] or None)
            for _, parts in sorted(found.items())
        )
        size = sum(len(one.text) for one in completions)
        return LMResponse(completions, self.usage(prompt_tokens=10, completion_tokens=size), self.model)

    def _said(self, request: LMRequest) -> Iterator[Delta]:
        yield Delta("")  # so that there is an answer to no pieces
        for piece in self._next(request):
            if isinstance(piece, Delta):
                yield piece
            elif isinstance(piece, BaseException):
                raise piece
            elif isinstance(piece, threading.Event):
                assert piece.wait(30)
            elif callable(piece):
                piece()
            else:
                yield Delta(piece)

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        return self._response(self._said(request))

    def _stream(self, request: LMRequest, timeout: float | None) -> Generator[Delta | LMResponse, None, None]:
        said = []
        try:
            for delta in self._said(request):
                said.append(delta)
                yield delta
            yield self._response(said)
        except GeneratorExit:
            self.closed.set()
            raise

    async def _astream(self, request: LMRequest, timeout: float | None) -> AsyncGenerator[Delta | LMResponse, None]:
        said: list[Delta] = []
        pieces = self._said(request)
        try:
            while (delta := await in_thread(next, pieces, None)) is not None:
                said.append(delta)
                yield delta
            yield self._response(said)
        except BaseException:
            self.closed.set()
            raise


def cut(text: str, *places: int) -> list[str]:
    """``text`` in pieces that end at ``places``."""
    ends = [*sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def written(signature: type[Signature], values: dict[str, Any], adapter: Adapter | str = "chat") -> str:
    """A well-formed answer."""
    return (adapter_named(adapter) if isinstance(adapter, str) else adapter).render_answer(signature, values)


def fields_shown(events: Iterable[Any]) -> dict[tuple[str, int], dict[str, str]]:
    """The text of each field in the end, by path and call."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for event in events:
        if isinstance(event, FieldDelta):
            assert event.delta
            fields = found.setdefault((event.path, event.call), {})
            fields[event.field] = fields.get(event.field, "") + event.delta
        elif isinstance(event, Restart):
            assert found.pop((event.path, event.call))
        else:
            assert isinstance(event, Status | Final)
    return found


def whole(events: Iterable[Any]) -> tuple[list[Any], Any]:
    """All events but the last, and the prediction of that."""
    *before, last = events
    assert isinstance(last, Final)
    assert not any(isinstance(event, Final) for event in before)
    return before, last.prediction


def threads_ended() -> None:
    """What was left to itself has come to its end, and threads for single calls wait for the next."""
    for thread in threading.enumerate():
        if thread.name in ("dspex-stream", "dspex-worker"):
            thread.join(30)
            assert not thread.is_alive()
    for _ in range(3000):
        if sum(thread.name == "dspex-call" for thread in threading.enumerate()) <= len(_idle):
            return
        threading.Event().wait(0.01)
    raise AssertionError("a call has not come back")


async def gathered(events: AsyncGenerator[Any, None]) -> list[Any]:
    """All events of an async stream."""
    return [event async for event in events]
