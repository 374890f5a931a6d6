"""A request as litellm wants it, for each of the provider's interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.errors import LMRequestError
from dspex.lm.types import LMRequest, Message, MessageBlock

__all__ = ["compose", "needs_marks"]


def compose(request: LMRequest, arguments: dict[str, Any], *, model: str, model_type: str, marked: bool) -> None:
    """Put what ``request`` says into litellm's ``arguments``, which hold its parameters already.

    ``marked`` heads carry the mark of Anthropic's prompt cache.

    Raises `LMRequestError` for what the interface cannot be told.
    """
    messages = _marked(request) if marked else [dict(message) for message in request.messages]
    if model_type == "chat":
        arguments["messages"] = messages
        if request.schema is not None:
            arguments["response_format"] = {"type": "json_schema", "json_schema": _schema(request.schema)}
    elif model_type == "text":
        arguments["prompt"] = _prompt(messages, model)
        for name in ("tools", "response_format"):
            if name in arguments or (name == "response_format" and request.schema is not None):
                raise LMRequestError(
                    f'{model} completes plain text (model_type="text") and takes no {name}', model=model
                )
    else:
        arguments["input"] = messages
        for chat, own in (("max_tokens", "max_output_tokens"), ("max_completion_tokens", "max_output_tokens")):
            if chat in arguments:
                arguments[own] = arguments.pop(chat)
        if "reasoning_effort" in arguments:
            arguments["reasoning"] = {"effort": arguments.pop("reasoning_effort"), "summary": "auto"}
        if request.schema is not None:
            arguments["text"] = {"format": {"type": "json_schema", **_schema(request.schema)}}
        if "tools" in arguments:
            arguments["tools"] = [_flat(tool) for tool in arguments["tools"]]
        for name in ("n", "seed", "stop", "logprobs"):
            if arguments.get(name) not in (None, False) and not (name == "n" and arguments["n"] == 1):
                raise LMRequestError(
                    f"{model} is asked through the responses interface, which takes no {name}; leave it out or "
                    'write model_type="chat"',
                    model=model,
                )
            arguments.pop(name, None)


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {"name": "answer", "schema": schema}
    if schema.get("additionalProperties") is False:
        named["strict"] = True
    return named


def _prompt(messages: list[Message], model: str) -> str:
    texts = [message.get("content") for message in messages]
    if not all(isinstance(text, str) for text in texts):
        raise LMRequestError(
            f'{model} completes plain text (model_type="text"), and a message has content of another kind', model=model
        )
    return "\n\n".join(texts)  # type: ignore[arg-type]  # just checked


def _flat(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as the responses interface has it, which knows no ``function`` inside it."""
    return {"type": "function", **tool["function"]} if "function" in tool else dict(tool)


def _marked(request: LMRequest) -> list[Message]:
    messages = [dict(message) for message in request.messages]
    last = messages[len(request.head) - 1]
    content = last["content"]
    parts: list[dict[str, Any]] = (
        [{"type": "text", "text": content}] if isinstance(content, str) else [dict(part) for part in content]
    )
    parts[-1] = {**parts[-1], "cache_control": {"type": "ephemeral"}}
    last["content"] = parts
    return messages


def needs_marks(model: str, head: MessageBlock) -> bool:
    """Whether the provider's prompt cache keeps a head of this size only when it is marked.

    >>> needs_marks("anthropic/claude-sonnet-4-5", MessageBlock([{"role": "system", "content": "x" * 5000}]))
    True
    """
    return "claude" in model.lower() and head.characters >= _LEAST_MARKED


_LEAST_MARKED = 4 * 1024
"""Characters of a head: Anthropic keeps none of less than 1,024 tokens, and charges more for what it keeps."""
