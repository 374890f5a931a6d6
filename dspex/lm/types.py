"""What goes to a language model and what comes back.

A request is a *head* (the system message and the demos, the same for call after call) and a *tail* (the
inputs of this call). The head is a `MessageBlock`, which carries its digest, so that a cache key costs the
tail only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, overload

from dspex.data.usage import Usage
from dspex.errors import DefinitionError
from dspex.execution.settings import checked_policy
from dspex.lm.secrets import HIDDEN, public_params
from dspex.variables.messages import counted

__all__ = ["Completion", "LMRequest", "LMResponse", "Message", "MessageBlock", "canonical"]

Message = dict[str, Any]
"""``{"role": ..., "content": ...}``, as in OpenAI's chat format. Never changed once it is in a request."""

# What chat templates put around each message, and a text in another form than text may weigh, at most.
_MESSAGE_TOKENS = 16
_PART_TOKENS = 65_536


def canonical(value: Any) -> str:
    """Compact JSON with sorted keys: equal values give equal text.

    >>> canonical({"b": 1, "a": [True, None]})
    '{"a":[true,null],"b":1}'
    """
    try:
        return _encode(value)
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"a request to a model must be plain data (what JSON can hold), but has {error}: {value!r:.200}"
        ) from error


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def digest(text: str) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def framed(messages: Iterable[Message]) -> str:
    """One text for ``messages``, different for different messages."""
    return "\n".join([framed_one(message) for message in messages])


def framed_one(message: Message) -> str:
    """One text for ``message``, different for different messages."""
    content = message.get("content")
    if type(content) is str and len(message) == 2:
        # Lengths, not escapes: microseconds matter here, and each call pays for this.
        return f"{message['role']} {len(content)} {content}"
    return f"json {canonical(message)}"


def token_bound(messages: Iterable[Message]) -> int:
    """More tokens than any common tokenizer makes of ``messages`` (none makes more than one of a byte)."""
    total = 0
    for message in messages:
        total += _MESSAGE_TOKENS
        for key, value in message.items():
            if key == "role":
                continue
            if isinstance(value, str):
                total += _bytes(value)
            elif key == "content" and isinstance(value, Sequence):
                for part in value:
                    text = part.get("text") if isinstance(part, Mapping) else part
                    total += _bytes(text) if isinstance(text, str) else _PART_TOKENS
            elif value is not None:
                total += _bytes(canonical(value))
    return total


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class MessageBlock(Sequence[Message]):
    """Messages that many requests share, immutable, with a digest that is computed once.

    >>> block = MessageBlock([{"role": "system", "content": "Answer briefly."}])
    >>> len(block), block[0]["role"], block.digest == MessageBlock(list(block)).digest
    (1, 'system', True)
    """

    __slots__ = ("_characters", "_digest", "_token_bound", "messages")

    messages: tuple[Message, ...]

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.messages = tuple(messages)
        self._digest: str | None = None
        self._token_bound: int | None = None
        self._characters: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the messages: equal blocks have equal digests."""
        if self._digest is None:
            self._digest = digest(framed(self.messages))
        return self._digest

    @property
    def token_bound(self) -> int:
        """An upper bound of the tokens in it, whatever the tokenizer."""
        if self._token_bound is None:
            self._token_bound = token_bound(self.messages)
        return self._token_bound

    @property
    def characters(self) -> int:
        """Characters of text in it."""
        if self._characters is None:
            self._characters = characters(self.messages)
        return self._characters

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Message, ...]: ...
    def __getitem__(self, index: int | slice) -> Message | tuple[Message, ...]:
        return self.messages[index]

    def __len__(self) -> int:
        return len(self.messages)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MessageBlock):
            return NotImplemented
        return self is other or self.messages == other.messages

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return (MessageBlock, (self.messages,))

    def __repr__(self) -> str:
        return f"<MessageBlock: {counted(len(self.messages), 'message')}, {self.characters} characters>"


def characters(messages: Iterable[Message]) -> int:
    """Characters of text in ``messages``."""
    total = 0
    for message in messages:
        content = message.get("content")
        if type(content) is str:
            total += len(content)
        elif isinstance(content, (list, tuple)):
            total += sum(len(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return total


_EMPTY = MessageBlock()
_NO_PARAMS: Mapping[str, Any] = {}


class LMRequest:
    """One question to a model.

    ``params`` (``temperature``, ``max_tokens``, ``seed``, ``stop``, ``n``, ...) go before the model's own.
    ``schema`` is a JSON schema and ``grammar`` a GBNF grammar that the answer has to follow, for models whose
    ``capabilities`` include it. Requests that differ in ``rollout_id`` alone are cached apart. ``cache`` is what
    this call does with the cache (see `dspex.execution.Settings`), and no part of what it is cached under.

    Immutable by agreement: `replace` makes another.

    >>> request = LMRequest.of("Say hi.", temperature=0.5)
    >>> request.messages
    [{'role': 'user', 'content': 'Say hi.'}]
    >>> request.replace(rollout_id=3)
    <LMRequest: 1 message, temperature=0.5, rollout_id=3>
    """

    __slots__ = ("cache", "grammar", "head", "params", "rollout_id", "schema", "tail")

    head: MessageBlock
    tail: tuple[Message, ...]
    params: Mapping[str, Any]
    schema: dict[str, Any] | None
    grammar: str | None
    rollout_id: int
    cache: str | None

    def __init__(
        self,
        head: MessageBlock = _EMPTY,
        tail: tuple[Message, ...] = (),
        params: Mapping[str, Any] = _NO_PARAMS,
        schema: dict[str, Any] | None = None,
        grammar: str | None = None,
        rollout_id: int = 0,
        cache: str | None = None,
    ) -> None:
        self.cache = cache
        self.head = head
        self.tail = tail
        self.params = params
        self.schema = schema
        self.grammar = grammar
        self.rollout_id = rollout_id

    @classmethod
    def of(cls, prompt: str | None = None, *, messages: Iterable[Message] | None = None, **params: Any) -> LMRequest:
        """The request for a prompt, or for messages, with no head.

        Raises `DefinitionError` when there is neither, or both.
        """
        if not params and messages is None and type(prompt) is str:  # as in most calls
            return cls(_EMPTY, ({"role": "user", "content": prompt},), params)
        rollout_id = params.pop("rollout_id", None) or 0
        schema, grammar, cache = (params.pop(name, None) for name in ("schema", "grammar", "cache"))
        if (prompt is None) == (messages is None):
            raise DefinitionError(
                "a model is called with a prompt or with messages, one of them.\n"
                '  right: lm("Say hi.")\n'
                '  right: lm(messages=[{"role": "user", "content": "Say hi."}])'
            )
        if prompt is not None:
            if not isinstance(prompt, str):
                raise DefinitionError(
                    f"prompt must be a str, not {prompt!r} ({type(prompt).__name__}); "
                    "a list of messages goes into messages="
                )
            tail: tuple[Message, ...] = ({"role": "user", "content": prompt},)
        else:
            assert messages is not None
            tail = tuple(messages)
            for message in tail:
                if not isinstance(message, dict) or "role" not in message:
                    raise DefinitionError(
                        f"messages must hold dicts with role and content, not {message!r} "
                        f'({type(message).__name__}); write {{"role": "user", "content": ...}}'
                    )
        return cls(_EMPTY, tail, params, schema, grammar, rollout_id, None if cache is None else checked_policy(cache))

    @property
    def messages(self) -> list[Message]:
        """Head and tail."""
        return [*self.head.messages, *self.tail]

    def replace(self, **changes: Any) -> LMRequest:
        """A request with some parts changed."""
        return LMRequest(**{**{name: getattr(self, name) for name in LMRequest.__slots__}, **changes})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LMRequest):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in LMRequest.__slots__)

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __repr__(self) -> str:
        notes = [counted(len(self.head) + len(self.tail), "message")]
        shown = public_params(self.params)
        notes += [f"{name}={repr(shown[name]) if name in shown else HIDDEN}" for name in self.params]
        notes += [name for name in ("schema", "grammar") if getattr(self, name) is not None]
        if self.rollout_id:
            notes.append(f"rollout_id={self.rollout_id}")
        return f"<LMRequest: {', '.join(notes)}>"


class Completion:
    """One answer: its text, why it ended (``"stop"``, ``"length"``, ...) and its log-probabilities if asked.

    ``reasoning`` is what the model says it thought, when it says so. ``tool_calls`` are the calls it wants made, each
    ``{"id", "name", "arguments"}`` with the arguments as the text the model wrote (JSON, when it did well).
    ``citations`` are passages of the request's documents that the answer rests on, each ``{"cited_text",
    "document_index", "document_title"}`` as far as the model says.

    >>> Completion("Paris", finish_reason="stop").text
    'Paris'
    """

    __slots__ = ("citations", "finish_reason", "logprobs", "reasoning", "text", "tool_calls")

    text: str
    finish_reason: str | None
    logprobs: Any
    reasoning: str | None
    tool_calls: tuple[dict[str, str], ...]
    citations: tuple[dict[str, Any], ...]

    def __init__(
        self,
        text: str,
        finish_reason: str | None = None,
        logprobs: Any = None,
        reasoning: str | None = None,
        tool_calls: tuple[dict[str, str], ...] = (),
        citations: tuple[dict[str, Any], ...] = (),
    ) -> None:
        self.citations = citations
        self.text = text
        self.finish_reason = finish_reason
        self.logprobs = logprobs
        self.reasoning = reasoning
        self.tool_calls = tool_calls

    def to_json(self) -> dict[str, Any]:
        """Plain data, which shares nothing with it that can be changed; what is missing is left out."""
        plain: dict[str, Any] = {"text": self.text}
        if self.finish_reason is not None:
            plain["finish_reason"] = self.finish_reason
        if self.logprobs is not None:
            plain["logprobs"] = deepcopy(self.logprobs)
        if self.reasoning is not None:
            plain["reasoning"] = self.reasoning
        if self.tool_calls:
            plain["tool_calls"] = deepcopy(list(self.tool_calls))
        if self.citations:
            plain["citations"] = deepcopy(list(self.citations))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Completion:
        """The completion that `to_json` wrote, with nothing of ``data`` that can be changed.

        Raises one of the built-in errors for anything else.
        """
        text = data["text"]
        if not isinstance(text, str):
            raise TypeError(f"it holds a text that is none: {text!r:.80}")
        if len(data) == 2 and "finish_reason" in data:  # nearly all are
            return cls(text, data["finish_reason"])
        return cls(
            text,
            data.get("finish_reason"),
            deepcopy(data.get("logprobs")),
            data.get("reasoning"),
            tuple(deepcopy(data.get("tool_calls", ()))),
            tuple(deepcopy(data.get("citations", ()))),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Completion):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in Completion.__slots__)

    __hash__ = None  # type: ignore[assignment]  # log-probabilities are lists

    def __repr__(self) -> str:
        ended = "" if self.finish_reason in (None, "stop") else f", finish_reason={self.finish_reason!r}"
        return f"Completion({self.text!r}{ended})"


class LMResponse:
    """What a model answered, what that took, and how long (``latency``, in seconds).

    ``usage`` is this call's alone, failed attempts at it included. ``cached`` answers come from a cache.

    >>> response = LMResponse((Completion("Paris"),), Usage(calls=1), model="mock/mock")
    >>> response.text
    'Paris'
    """

    __slots__ = ("cached", "completions", "latency", "model", "usage")

    completions: tuple[Completion, ...]
    usage: Usage
    model: str
    cached: bool
    latency: float

    def __init__(
        self,
        completions: tuple[Completion, ...],
        usage: Usage,
        model: str = "",
        cached: bool = False,
        latency: float = 0.0,
    ) -> None:
        self.completions = completions
        self.usage = usage
        self.model = model
        self.cached = cached
        self.latency = latency

    @property
    def text(self) -> str:
        """The first completion's text."""
        return self.completions[0].text

    @property
    def truncated(self) -> bool:
        """Whether one of its completions was cut off, as it had come to ``max_tokens``.

        >>> LMResponse((Completion("Par", finish_reason="length"),), Usage(calls=1)).truncated
        True
        """
        for one in self.completions:  # noqa: SIM110 - every call asks, and a generator costs more than this
            if one.finish_reason == "length":
                return True
        return False

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives an equal response back."""
        several = self.completions
        completions = [several[0].to_json()] if len(several) == 1 else [one.to_json() for one in several]
        usage = self.usage.to_json(zeros=False)
        return {"model": self.model, "completions": completions, "usage": usage, "latency": self.latency}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LMResponse:
        """The response that `to_json` wrote; raises one of the built-in errors for anything else."""
        completions = tuple([Completion.from_json(plain) for plain in data["completions"]])
        if not completions:
            raise ValueError("it holds no completion")
        return cls(completions, Usage.from_json(data["usage"]), data["model"], False, data["latency"])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LMResponse):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in LMResponse.__slots__)

    __hash__ = None  # type: ignore[assignment]  # usage is added to in place

    def __repr__(self) -> str:
        return f"<LMResponse {self.model}: {self.text!r:.80}, {self.usage}>"
