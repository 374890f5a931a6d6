"""litellm's answers made ours: chat, text and responses, whole or in pieces, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dspex.data.usage import Usage
from dspex.errors import LMContentFilterError, LMServerError
from dspex.lm import provider
from dspex.lm.streams import Delta
from dspex.lm.types import Completion, LMResponse

__all__ = ["Assembly", "read"]

Price = tuple[float, float] | None


def read(raw: Any, *, model: str, price: Price, batched: bool = False) -> LMResponse:
    """litellm's response as ours; raises an `LMError` when there is no answer in it.

    ``batched`` answers cost what litellm knows of batch prices, or half.
    """
    if getattr(raw, "object", None) == "response":
        completions = [_completion_of_output(raw)]
    else:
        completions = [_completion_of_choice(choice) for choice in getattr(raw, "choices", None) or ()]
    usage = getattr(raw, "usage", None)
    if batched:
        cost = provider.batch_cost_of(model, usage)
    else:
        cost = (getattr(raw, "_hidden_params", None) or {}).get("response_cost")
    return _checked(completions, _account(usage, price, cost), model)


class Assembly:
    """A streamed answer: each chunk gives its deltas, and in the end `response` is the whole."""

    def __init__(self, model: str, price: Price) -> None:
        self._model = model
        self._price = price
        self._parts: dict[int, _Parts] = {}
        self._whole: Any = None

    def take(self, chunk: Any) -> Iterator[Delta]:
        """What is new in ``chunk``."""
        kind = getattr(chunk, "type", None)
        kind = getattr(kind, "value", kind)
        if isinstance(kind, str) and kind.startswith("response."):
            yield from self._take_event(kind, chunk)
            return
        for choice in getattr(chunk, "choices", None) or ():
            index = int(getattr(choice, "index", 0) or 0)
            parts = self._parts.setdefault(index, _Parts())
            delta = getattr(choice, "delta", None)
            if reasoning := getattr(delta, "reasoning_content", None):
                parts.reasoning.append(reasoning)
                yield Delta(reasoning, "reasoning", index)
            if text := getattr(delta, "content", None) or getattr(choice, "text", None):
                parts.texts.append(text)
                yield Delta(text, "text", index)
            for call in getattr(delta, "tool_calls", None) or ():
                parts.add_call(call)
            parts.citations.extend(_cited([_beside(delta).get("citation")]))
            if logprobs := (_plain(getattr(choice, "logprobs", None)) or {}).get("content"):
                parts.logprobs.extend(logprobs)
            parts.finish_reason = getattr(choice, "finish_reason", None) or parts.finish_reason

    def _take_event(self, kind: str, event: Any) -> Iterator[Delta]:
        if kind == "response.output_text.delta":
            yield Delta(event.delta)
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            yield Delta(event.delta, "reasoning")
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._whole = event.response

    def response(self, stream: Any) -> LMResponse:
        """The whole answer, once ``stream`` is exhausted; raises `LMServerError` when its end did not come."""
        if self._whole is not None:
            cost = provider.cost_of(self._model, getattr(self._whole, "usage", None))
            account = _account(getattr(self._whole, "usage", None), self._price, cost)
            return _checked([_completion_of_output(self._whole)], account, self._model)
        ended, usage = provider.stream_end(stream)
        if not ended:
            raise LMServerError(
                f"{self._model} ended its stream before the answer was complete", model=self._model, billed=True
            )
        completions = [parts.completion() for _, parts in sorted(self._parts.items())]
        account = _account(usage, self._price, provider.cost_of(self._model, usage))
        return _checked(completions, account, self._model)


class _Parts:
    """One completion as far as it has come."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.logprobs: list[Any] = []
        self.calls: dict[int, dict[str, str]] = {}
        self.citations: list[dict[str, Any]] = []
        self.finish_reason: str | None = None

    def add_call(self, piece: Any) -> None:
        call = self.calls.setdefault(int(piece.index or 0), {"id": "", "name": "", "arguments": ""})
        function = piece.function
        for name, text in (("id", piece.id), ("name", function.name), ("arguments", function.arguments)):
            call[name] += text or ""

    def completion(self) -> Completion:
        return Completion(
            "".join(self.texts),
            self.finish_reason,
            {"content": self.logprobs} if self.logprobs else None,
            "".join(self.reasoning) or None,
            tuple(call for _, call in sorted(self.calls.items())),
            tuple(self.citations),
        )


def _checked(completions: list[Completion], account: Usage, model: str) -> LMResponse:
    if not completions:
        raise LMServerError(f"{model} sent a response without any answer in it", model=model, billed=True)
    if all(one.finish_reason == "content_filter" for one in completions):  # what came of it is cut off
        raise LMContentFilterError(f"the content filter of {model} stopped the answer", model=model, billed=True)
    return LMResponse(tuple(completions), account, model)


def _completion_of_choice(choice: Any) -> Completion:
    message = getattr(choice, "message", None)
    text = getattr(message, "content", None) if message is not None else getattr(choice, "text", None)
    calls = tuple(
        {
            "id": call.id or "",
            "name": call.function.name or "",
            "arguments": call.function.arguments or "",
        }
        for call in getattr(message, "tool_calls", None) or ()
    )
    return Completion(
        text if isinstance(text, str) else "",
        choice.finish_reason,
        _plain(getattr(choice, "logprobs", None)),
        getattr(message, "reasoning_content", None) or None,
        calls,
        tuple(_cited(_beside(message).get("citations"))),
    )


def _beside(holder: Any) -> Mapping[str, Any]:
    """What only this provider has."""
    fields = getattr(holder, "provider_specific_fields", None)
    return fields if isinstance(fields, Mapping) else {}


def _cited(found: Any) -> Iterator[dict[str, Any]]:
    """Passages of documents, at any depth of lists (there is one for each block of an answer)."""
    if isinstance(found, list):
        for one in found:
            yield from _cited(one)
    elif isinstance(found, Mapping) and isinstance(found.get("cited_text"), str):
        names = ("cited_text", "document_index", "document_title")
        yield {name: found[name] for name in names if found.get(name) is not None}


def _completion_of_output(raw: Any) -> Completion:
    """The one answer in a response of the responses API, which comes as a list of items."""
    texts, reasoning, calls = [], [], []
    logprobs: list[Any] = []
    for item in raw.output or ():
        item = _plain(item)
        kind = item.get("type")
        if kind == "message":
            for part in item.get("content") or ():
                if part.get("type") == "output_text":
                    texts.append(part["text"])
                    logprobs.extend(part.get("logprobs") or ())
        elif kind == "reasoning":
            reasoning += [part["text"] for part in [*(item.get("summary") or ()), *(item.get("content") or ())]]
        elif kind == "function_call":
            calls.append({"id": item["call_id"], "name": item["name"], "arguments": item["arguments"]})
    why = _plain(getattr(raw, "incomplete_details", None)) or {}
    ended = {"max_output_tokens": "length"}.get(str(why.get("reason")), why.get("reason"))
    return Completion(
        "".join(texts),
        ended or ("tool_calls" if calls else "stop"),
        {"content": logprobs} if logprobs else None,
        "\n\n".join(reasoning) or None,
        tuple(calls),
    )


def _account(usage: Any, price: Price, cost: float | None) -> Usage:
    """The account of one call; ``cost`` is litellm's, for when there is no ``price``."""
    seen = _plain(usage) or {}
    read_tokens = max(0, int(seen.get("prompt_tokens") or seen.get("input_tokens") or 0))
    written = max(0, int(seen.get("completion_tokens") or seen.get("output_tokens") or 0))
    details = seen.get("prompt_tokens_details") or seen.get("input_tokens_details") or {}
    if not read_tokens:
        # No prompt has no tokens: the provider did not say.
        cost = 0.0 if price == (0.0, 0.0) else None
    elif price is not None:
        cost = (read_tokens * price[0] + written * price[1]) / 1e6
    return Usage(
        calls=1,
        prompt_tokens=read_tokens,
        completion_tokens=written,
        cost=cost,
        cache_read_tokens=int(details.get("cached_tokens") or seen.get("cache_read_input_tokens") or 0),
        cache_write_tokens=int(seen.get("cache_creation_input_tokens") or details.get("cache_creation_tokens") or 0),
    )


def _plain(value: Any) -> Any:
    return value.model_dump() if hasattr(value, "model_dump") else value
