"""An answer as a cache has it."""

from __future__ import annotations

from typing import Any

from dspex.data.usage import Usage
from dspex.lm.types import Completion, LMResponse

__all__ = ["NO_ANSWER", "Kept"]

NO_ANSWER = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What making a `Kept` of something else than an answer raises."""


class Kept:
    """The answer that is ``stored`` as plain data, and when it was kept, in seconds since 1970.

    Nearly every answer is one text and the reason why it ended. It is stored as a list, ``[model, latency, usage, text,
    finish_reason]``, which is half the work to read of what any other is, the object of `LMResponse.to_json`; and here
    it is in the object itself and not in dicts: of thousands of answers none is in the processor's caches.

    The answers that are made of it share nothing with it that can be changed. Raises one of `NO_ANSWER` when
    ``stored`` is none.

    >>> kept = Kept(["mock/mock", 0.2, {"calls": 1, "prompt_tokens": 7}, "Paris", "stop"], 0.0)
    >>> kept.response().usage
    <Usage: 1 call, 7 tokens, $0>
    >>> kept.hit().usage
    <Usage: 1 call (1 cached), 0 tokens, $0, saved 7 tokens>
    """

    __slots__ = (
        "_completions",
        "_finish_reason",
        "_latency",
        "_saved_cost",
        "_saved_tokens",
        "_text",
        "_usage",
        "created",
        "model",
    )

    created: float
    model: str
    _completions: list[dict[str, Any]] | None  # None: one, with the text and the reason that are here
    _text: str
    _finish_reason: str | None
    _latency: float
    _usage: dict[str, Any]
    _saved_cost: float | None
    _saved_tokens: int

    def __init__(self, stored: Any, created: float) -> None:
        if type(stored) is list:
            self.model, self._latency, usage, self._text, self._finish_reason = stored
            if not isinstance(self._text, str):
                raise TypeError(f"it holds a text that is none: {self._text!r:.80}")
            self._completions = None
        else:
            LMResponse.from_json(stored)
            self.model, self._latency, usage = stored["model"], stored["latency"], stored["usage"]
            self._completions = stored["completions"]
        self.created = created
        self._usage = usage
        self._saved_cost = None if "unknown_calls" in usage else usage.get("known_cost", 0.0)
        self._saved_tokens = usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)

    @classmethod
    def of(cls, response: LMResponse, created: float) -> Kept:
        """What is kept of ``response``; one of `NO_ANSWER` when its text or model is none."""
        if not isinstance(response.model, str):
            raise TypeError(f"its model has no name: {response.model!r:.80}")
        completions = response.completions
        one = completions[0] if len(completions) == 1 else None
        if one is None or one.reasoning is not None or one.logprobs is not None or one.tool_calls or one.citations:
            return cls(response.to_json(), created)
        usage = response.usage.to_json(zeros=False)
        return cls([response.model, response.latency, usage, one.text, one.finish_reason], created)

    def hit(self) -> LMResponse:
        """The answer to the call that asks: it is ``cached``, and its usage is what that saves."""
        usage = Usage.saving(self._saved_tokens, self._saved_cost)
        if self._completions is None:
            completions: tuple[Completion, ...] = (Completion(self._text, self._finish_reason),)
        else:
            completions = self.response().completions
        return LMResponse(completions, usage, self.model, True, self._latency)

    def response(self) -> LMResponse:
        """The answer as it was put."""
        return LMResponse.from_json(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The answer as the plain data that `LMResponse.to_json` gives, to be read only."""
        completions = self._completions
        if completions is None:
            completions = [Completion(self._text, self._finish_reason).to_json()]
        return {"model": self.model, "completions": completions, "usage": self._usage, "latency": self._latency}

    def stored(self) -> Any:
        """The plain data that it is made of, to be read only."""
        if self._completions is not None:
            return self.to_json()
        return [self.model, self._latency, self._usage, self._text, self._finish_reason]
