"""litellm's answers made ours: chat, text and responses, whole or in pieces, and what they cost."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeVar

from dspex.data.usage import Usage
from dspex.errors import LMContentFilterError, LMError, LMRateLimitError, LMRequestError, LMServerError
from dspex.lm import provider
from dspex.lm.provider_errors import tells
from dspex.lm.secrets import scrub
from dspex.lm.streams import Delta
from dspex.lm.types import Completion, LMResponse

__all__ = ["Assembly", "read"]

Price = tuple[float, float] | None
_Read = TypeVar("_Read")


def read(raw: Any, *, model: str, price: Price, batched: bool = False, secrets: Collection[str] = ()) -> LMResponse:
    """litellm's response as ours; raises an `LMError` when there is no answer in it, or none that can be read.

    ``batched`` answers cost what litellm knows of batch prices, or half. ``secrets`` are left out of what errors quote.
    """

    def reading() -> LMResponse:
        if whole := getattr(raw, "object", None) == "response":
            completions = [_completion_of_output(raw)]
        else:
            choices = sorted(getattr(raw, "choices", None) or (), key=_index)
            completions = [_completion_of_choice(choice) for choice in choices]
        usage = getattr(raw, "usage", None)
        if batched:
            cost = provider.batch_cost_of(model, usage)
        else:
            cost = (getattr(raw, "_hidden_params", None) or {}).get("response_cost")
        account = _account(usage, price, cost)
        if whole:
            _check_status(raw, account, model, secrets)
        return _checked(completions, account, model, secrets)

    return _legible(reading, model, secrets)


def _legible(reading: Callable[[], _Read], model: str, secrets: Collection[str]) -> _Read:
    """What ``reading`` gives; what it cannot make out, as nobody has seen such an answer, is an error of ours too."""
    try:
        return reading()
    except LMError:
        raise
    except Exception as error:
        what = scrub(f"{type(error).__name__}: {error}", secrets)[:200]
        failed = LMServerError(f"{model} sent an answer that cannot be read ({what})", model=model, billed=True)
        if not tells(error, secrets):
            failed.__cause__ = error
    raise failed


class Assembly:
    """A streamed answer: each chunk gives its deltas, and in the end `response` is the whole."""

    def __init__(self, model: str, price: Price, secrets: Collection[str] = ()) -> None:
        self._model = model
        self._price = price
        self._secrets = secrets
        self._parts: dict[int, _Parts] = {}
        self._halves: dict[tuple[Literal["text", "reasoning"], int], str] = {}
        self._whole: Any = None

    def overhear(self, raw: Any) -> None:
        """Take what litellm leaves out of its stream ``raw``, before it does: what a model says to refuse, and why the
        second of several answers has ended."""
        stream = getattr(raw, "completion_stream", None)
        if isinstance(stream, AsyncIterable):  # some of litellm's providers have others, which it goes through itself
            raw.completion_stream = _Overheard(stream, self._overheard)

    def _overheard(self, chunk: Any) -> None:
        for choice in getattr(chunk, "choices", None) or ():
            if isinstance(ended := getattr(choice, "finish_reason", None), str):
                self._parts.setdefault(_index(choice), _Parts()).ended = ended
            if refusal := getattr(getattr(choice, "delta", None), "refusal", None):
                self._parts.setdefault(_index(choice), _Parts()).refusal.append(refusal)

    def take(self, chunk: Any) -> list[Delta]:
        """What is new in ``chunk``; raises `LMServerError` when it cannot be made out."""
        return _legible(lambda: list(self._taken(chunk)), self._model, self._secrets)

    def _taken(self, chunk: Any) -> Iterator[Delta]:
        kind = getattr(chunk, "type", None)
        kind = getattr(kind, "value", kind)
        if isinstance(kind, str) and kind.startswith("response."):
            yield from self._take_event(kind, chunk)
            return
        for choice in getattr(chunk, "choices", None) or ():
            index = _index(choice)
            parts = self._parts.setdefault(index, _Parts())
            delta = getattr(choice, "delta", None)
            if reasoning := getattr(delta, "reasoning_content", None):
                parts.reasoning.append(reasoning)
                yield from self._deltas(reasoning, "reasoning", index)
            if text := getattr(delta, "content", None) or getattr(choice, "text", None):
                parts.texts.append(text)
                yield from self._deltas(text, "text", index)
            for call in getattr(delta, "tool_calls", None) or ():
                parts.add_call(call)
            if call := getattr(delta, "function_call", None):
                parts.add_call(call)
            parts.citations.extend(_cited([_beside(delta).get("citation")]))
            if logprobs := (_plain(getattr(choice, "logprobs", None)) or {}).get("content"):
                parts.logprobs.extend(logprobs)
            parts.finish_reason = getattr(choice, "finish_reason", None) or parts.finish_reason

    def _take_event(self, kind: str, event: Any) -> Iterator[Delta]:
        if kind == "response.output_text.delta":
            yield from self._deltas(event.delta)
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            yield from self._deltas(event.delta, "reasoning")
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._whole = event.response

    def _deltas(self, text: str, kind: Literal["text", "reasoning"] = "text", index: int = 0) -> Iterator[Delta]:
        """``text`` as a delta; the first half of a character that is not whole waits for the second."""
        text = _paired(self._halves.pop((kind, index), "") + text)
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[kind, index] = text[-1]
            text = text[:-1]
        if text:
            yield Delta(text, kind, index)

    def rest(self) -> Iterator[Delta]:
        """What is still waiting when no more chunks come."""
        for (kind, index), half in self._halves.items():
            yield Delta(half, kind, index)

    def response(self, stream: Any) -> LMResponse:
        """The whole answer, once ``stream`` is exhausted; raises `LMServerError` when its end did not come."""
        return _legible(lambda: self._response(stream), self._model, self._secrets)

    def _response(self, stream: Any) -> LMResponse:
        if self._whole is not None:
            cost = provider.cost_of(self._model, getattr(self._whole, "usage", None))
            account = _account(getattr(self._whole, "usage", None), self._price, cost)
            _check_status(self._whole, account, self._model, self._secrets)
            return _checked([_completion_of_output(self._whole)], account, self._model, self._secrets)
        ended, usage = provider.stream_end(stream)
        if not ended:
            raise LMServerError(
                f"{self._model} ended its stream before the answer was complete", model=self._model, billed=True
            )
        if len(self._parts) > 1:  # litellm has one reason for all
            for parts in self._parts.values():
                parts.finish_reason = provider.finish_reason(parts.ended) or parts.finish_reason
        completions = [parts.completion() for _, parts in sorted(self._parts.items())]
        account = _account(usage, self._price, provider.cost_of(self._model, usage))
        return _checked(completions, account, self._model, self._secrets)


class _Overheard:
    """A stream whose chunks are shown to somebody before they go on."""

    def __init__(self, stream: Any, show: Callable[[Any], None]) -> None:
        self._stream = stream
        self._show = show
        self._chunks: AsyncIterator[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._chunks is None:
            self._chunks = aiter(self._stream)
        chunk = await anext(self._chunks)
        with suppress(Exception):  # `take` says that it cannot be made out; here it would be an error of litellm's
            self._show(chunk)
        return chunk


class _Parts:
    """One completion as far as it has come."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusal: list[str] = []
        self.reasoning: list[str] = []
        self.logprobs: list[Any] = []
        self.calls: list[dict[str, str]] = []
        self._latest: dict[int, dict[str, str]] = {}
        self.citations: list[dict[str, Any]] = []
        self.finish_reason: str | None = None
        self.ended: str | None = None  # in the provider's words

    def add_call(self, piece: Any) -> None:
        index = int(getattr(piece, "index", 0) or 0)
        known, said = self._latest.get(index), _call(piece)
        # Some servers count no calls and tell them apart by their ids alone; some say id and name with each piece.
        if known is None or (said["id"] and known["id"] and said["id"] != known["id"]):
            known = self._latest[index] = {"id": "", "name": "", "arguments": ""}
            self.calls.append(known)
        known["id"] = said["id"] or known["id"]
        if said["name"] != known["name"]:
            known["name"] += said["name"]
        known["arguments"] += said["arguments"]

    def completion(self) -> Completion:
        text, ended = _or_refusal(_paired("".join(self.texts)), _paired("".join(self.refusal)), self.finish_reason)
        return Completion(
            text,
            ended,
            {"content": self.logprobs} if self.logprobs else None,
            _paired("".join(self.reasoning)) or None,
            tuple({**call, "arguments": _paired(call["arguments"])} for call in self.calls),
            tuple(self.citations),
        )


def _paired(text: str) -> str:
    """``text`` with halves of characters that stand side by side, as they came in two pieces, made one.

    >>> _paired("\\ud83d\\ude00 and \\ud83d") == "\\U0001f600 and \\ud83d"
    True
    """
    if not _HALVES.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def _index(choice: Any) -> int:
    return int(getattr(choice, "index", 0) or 0)


def _call(piece: Any) -> dict[str, str]:
    """A call of a tool, or a piece of one: of a function, of a custom tool, or as it was written before there were
    others than functions."""
    held = getattr(piece, "function", None) or getattr(piece, "custom", None) or piece
    arguments = getattr(held, "arguments", None) or getattr(held, "input", None)
    return {
        "id": getattr(piece, "id", None) or "",
        "name": getattr(held, "name", None) or "",
        "arguments": arguments or "",
    }


def _checked(completions: list[Completion], account: Usage, model: str, secrets: Collection[str]) -> LMResponse:
    if not completions:
        raise LMServerError(f"{model} sent a response without any answer in it", model=model, billed=True)
    ends = {one.finish_reason for one in completions}
    if ends <= {"content_filter", _REFUSED}:  # what came of it is cut off, or is no answer
        said = next((f": {scrub(one.text, secrets)[:200]}" for one in completions if one.finish_reason == _REFUSED), "")
        what = f"{model} refused to answer{said}" if said else f"the content filter of {model} stopped the answer"
        raise LMContentFilterError(what, model=model, billed=True, usage=account)
    return LMResponse(tuple(completions), account, model)


_REFUSED = "refusal"


def _or_refusal(text: str, refusal: str | None, ended: str | None) -> tuple[str, str | None]:
    """The text of an answer and why it ended; what the model says to refuse comes beside the text, in place of it."""
    return (text, ended) if text or not refusal else (refusal, _REFUSED)


def _check_status(raw: Any, account: Usage, model: str, secrets: Collection[str]) -> None:
    """Raise what a response of the responses API that is no answer says."""
    status = getattr(raw, "status", None) or "completed"
    if status in ("completed", "incomplete"):
        return
    why = _plain(getattr(raw, "error", None)) or {}
    told = account if account.total_tokens else None
    if status in ("queued", "in_progress"):
        raise LMRequestError(
            f"{model} answers in the background only (its response is {status!r}): leave out background=",
            model=model,
            billed=True,
            usage=told,
        )
    kind = LMRateLimitError if why.get("code") == "rate_limit_exceeded" else LMServerError
    raise kind(
        f"{model} ended its response as {status!r}: {scrub(str(why.get('message') or ''), secrets)[:200]}",
        model=model,
        billed=True,
        usage=told,
    )


def _completion_of_choice(choice: Any) -> Completion:
    message = getattr(choice, "message", None)
    text = getattr(message, "content", None) if message is not None else getattr(choice, "text", None)
    calls = [_call(call) for call in getattr(message, "tool_calls", None) or ()]
    if call := getattr(message, "function_call", None):
        calls.append(_call(call))
    refusal = getattr(message, "refusal", None) or _beside(message).get("refusal")
    text, ended = _or_refusal(text if isinstance(text, str) else "", refusal, choice.finish_reason)
    return Completion(
        text,
        ended,
        _plain(getattr(choice, "logprobs", None)),
        getattr(message, "reasoning_content", None) or None,
        tuple(calls),
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
    refusal = ""
    logprobs: list[Any] = []
    for item in raw.output or ():
        item = _plain(item)
        kind = item.get("type")
        if kind == "message":
            for part in item.get("content") or ():
                if part.get("type") == "output_text":
                    texts.append(part.get("text") or "")
                    logprobs.extend(part.get("logprobs") or ())
                elif part.get("type") == "refusal":
                    refusal += part.get("refusal") or ""
        elif kind == "reasoning":
            reasoning += [
                part.get("text") or "" for part in [*(item.get("summary") or ()), *(item.get("content") or ())]
            ]
        elif kind in ("function_call", "custom_tool_call"):
            arguments = item.get("arguments") or item.get("input") or ""
            calls.append({"id": item.get("call_id") or "", "name": item.get("name") or "", "arguments": arguments})
    why = _plain(getattr(raw, "incomplete_details", None)) or {}
    ended = {"max_output_tokens": "length"}.get(str(why.get("reason")), why.get("reason"))
    text, ended = _or_refusal("".join(texts), refusal, ended or ("tool_calls" if calls else "stop"))
    return Completion(
        text,
        ended,
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
