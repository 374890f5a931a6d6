"""What a streamed call yields, piece by piece."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from dspex.lm.types import LMResponse

__all__ = ["Delta", "Restart", "StreamEvent", "deltas_of"]


class Delta(NamedTuple):
    """A piece of the ``"text"`` (or of the ``"reasoning"``) of the completion of this number."""

    text: str
    kind: Literal["text", "reasoning"] = "text"
    completion: int = 0


class Restart(NamedTuple):
    """The answer was cut off and is asked for again: all deltas so far are void.

    >>> from dspex.errors import LMServerError
    >>> from dspex.lm import BaseLM, Delta, LMRequest, MockLM, Restart
    >>> class BreaksOff(BaseLM):
    ...     def _send(self, request, timeout):
    ...         raise LMServerError("the connection broke")
    ...     def _stream(self, request, timeout):
    ...         yield Delta("In Lon")
    ...         self._send(request, timeout)
    >>> lm = BreaksOff("demo/breaks-off", retries=0, fallbacks=[MockLM(["In Paris"])])
    >>> shown = []
    >>> for event in lm.stream(LMRequest.of("Capital of France?")):
    ...     if isinstance(event, Restart):
    ...         print("void:", shown, "since", event.reason)
    ...         shown.clear()
    ...     elif isinstance(event, Delta):
    ...         shown.append(event.text)
    void: ['In Lon'] since the connection broke
    >>> shown
    ['In ', 'Paris']
    """

    reason: str


StreamEvent: TypeAlias = Delta | Restart | LMResponse
"""Deltas in order, and at the end the whole response."""


def deltas_of(response: LMResponse) -> list[Delta]:
    """A whole response as deltas, one for each text."""
    found = []
    for index, completion in enumerate(response.completions):
        if completion.reasoning:
            found.append(Delta(completion.reasoning, "reasoning", index))
        if completion.text:
            found.append(Delta(completion.text, "text", index))
    return found
