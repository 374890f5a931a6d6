"""An answer as a cache has it in memory."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from dspex.data.usage import Usage
from dspex.lm.types import Completion, LMResponse

__all__ = ["Kept"]


class Kept:
    """The answer that `LMResponse.to_json` wrote, and when it was kept, in seconds since 1970.

    What is made of it shares nothing with it that can be changed. What nearly every hit needs is in the object itself
    and not in dicts: of thousands of answers none is in the processor's caches. Raises one of the built-in errors when
    ``plain`` is no answer.

    >>> kept = Kept(LMResponse((Completion("Paris"),), Usage(calls=1, prompt_tokens=7), "mock/mock").to_json(), 0.0)
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

    def __init__(self, plain: Mapping[str, Any], created: float) -> None:
        self.created = created
        self.model = plain["model"]
        self._latency = plain["latency"]
        self._usage = usage = plain["usage"]
        self._saved_cost = None if usage.get("unknown_calls") else usage.get("known_cost", 0.0)
        self._saved_tokens = usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)
        completions = plain["completions"]
        one = completions[0]
        if len(completions) == 1 and len(one) == 2 and "finish_reason" in one and type(one["text"]) is str:
            self._completions = None
            self._text = one["text"]
            self._finish_reason = one["finish_reason"]
        else:
            LMResponse.from_json(plain)
            self._completions = completions

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
        return LMResponse.from_json(self._plain())

    def to_json(self) -> dict[str, Any]:
        """The plain data that it was made of."""
        return deepcopy(self._plain())

    def _plain(self) -> dict[str, Any]:
        completions = self._completions
        if completions is None:
            completions = [{"text": self._text, "finish_reason": self._finish_reason}]
        return {"model": self.model, "completions": completions, "usage": self._usage, "latency": self._latency}
