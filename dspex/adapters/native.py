"""Signatures with more than text and data: media, earlier turns, tools, thoughts.

What is special about a signature is found once, from its types; the adapter of a signature without any of it never
comes here again.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from dspex.adapters.repair import read_json
from dspex.adapters.types import bare_type, record_fields
from dspex.adapters.values import input_text, json_text
from dspex.data.plain import plain_data
from dspex.errors import DataError
from dspex.types import Citations, History, Part, Reasoning, ToolCalls

if TYPE_CHECKING:
    from dspex.lm.types import LMRequest
    from dspex.signatures import Field, Signature

__all__ = [
    "CITING",
    "Native",
    "called",
    "cites",
    "is_tool",
    "merged",
    "native_of",
    "rich_value",
    "segments",
    "tool_schema",
]

CITING: Final = "documents, cited"
"""Among the capabilities: documents go out to be cited."""

Segment = str | dict[str, Any]
_MAX_DEPTH: Final = 6


class Native:
    """What is special about a signature: ``rich`` are its inputs that may hold parts, ``history`` and ``tools``
    inputs that are no text of the question, ``thoughts``, ``calls`` and ``cited`` outputs that a model may give beside
    its text. ``asked`` is the signature without the history.
    """

    __slots__ = ("_asking", "asked", "calls", "cited", "history", "rich", "signature", "thoughts", "tools")

    def __init__(self, signature: type[Signature]) -> None:
        inputs, outputs = signature.input_fields, signature.output_fields
        self.signature = signature
        self.rich = frozenset(name for name, field in inputs.items() if _holds(field.annotation, Part))
        self.history = next((name for name, field in inputs.items() if _is(field, History)), None)
        self.thoughts = tuple(name for name, field in outputs.items() if _is(field, Reasoning))
        self.calls = tuple(name for name, field in outputs.items() if _is(field, ToolCalls))
        self.tools = tuple(name for name, field in inputs.items() if _is_tools(field.annotation))
        self.asked = signature if self.history is None else signature.delete(self.history)
        self.cited = tuple(name for name, field in outputs.items() if _is(field, Citations))
        self._asking: dict[tuple[bool, bool], type[Signature] | None] = {(False, False): self.asked}

    def asking(self, *, calls: bool, citing: bool) -> type[Signature] | None:
        """What is asked of a model that makes its ``calls``, or is ``citing``, by itself, and so is not asked to write
        them; None when nothing else is asked."""
        calls = calls and bool(self.calls and self.tools)
        if (calls, citing) not in self._asking:
            beside = (self.calls if calls else ()) + (self.cited if citing else ())
            left: type[Signature] | None = None
            if len(beside) < len(self.asked.output_fields):
                left = self.asked
                for name in (*(self.tools if calls else ()), *beside):
                    left = left.delete(name)
            self._asking[calls, citing] = left
        return self._asking[calls, citing]

    def __bool__(self) -> bool:
        return bool(self.rich or self.history or self.thoughts or self.calls or self.tools or self.cited)


def native_of(signature: type[Signature]) -> Native | None:
    """What is special about ``signature``; None when nothing is."""
    return Native(signature) or None


def is_tool(value: Any) -> bool:
    """Whether ``value`` (or a class) is a tool, known by what it can do: its room is no part of this one."""
    return all(hasattr(value, name) for name in ("describe", "schema", "acall"))


def tool_schema(tool: Any) -> dict[str, Any]:
    """The tool as providers are told of it."""
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.desc, "parameters": tool.schema},
    }


def called(calls: Sequence[Mapping[str, Any]]) -> ToolCalls:
    """The tool calls of a completion, whose arguments are the text that the model wrote."""
    found = []
    for call in calls:
        arguments = call.get("arguments") or "{}"
        found.append({"name": call["name"], "args": read_json(arguments) if isinstance(arguments, str) else arguments})
    return ToolCalls.model_validate(found)


def cites(request: LMRequest) -> bool:
    """Whether ``request`` has documents that the answer is to cite."""
    contents = [message.get("content") for message in request.tail]
    return any("citations" in part for content in contents if isinstance(content, list) for part in content)


def rich_value(field: Field, value: Any) -> Any:
    """``value`` with its parts as objects, also when it comes from JSON; raises `DataError` naming the input."""
    try:
        return field.adapter.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise DataError(f"the input {field.name!r} is no {field.type_name}: {problem}") from None


def segments(value: Any, name: str, capabilities: frozenset[str]) -> list[Segment]:
    """An input as text and content parts, in order."""
    if isinstance(value, Part):
        if value.capability not in capabilities:
            return [value.text()]
        return [value.cited() if CITING in capabilities else value.part()]
    if isinstance(value, list | tuple) and any(isinstance(item, Part) for item in value):
        found: list[Segment] = []
        for item in value:
            found += ["\n"] if found else []
            found += segments(item, name, capabilities)
        return found
    if is_tool(value) or (isinstance(value, list | tuple) and value and all(map(is_tool, value))):
        return ["\n".join(one.describe() for one in (value if isinstance(value, list | tuple) else [value]))]
    parts: list[Part] = []
    labelled = _labelled(value, parts)
    if not parts:
        return [input_text(value, name)]
    found = [json_text(plain_data(labelled, name=f"the input {name!r}"))]
    for number, part in enumerate(parts, 1):
        found += [f"\n{_label(part, number)}: ", *segments(part, name, capabilities)]
    return found


def merged(found: Sequence[Segment]) -> str | list[dict[str, Any]]:
    """A message's content: text when there is nothing else."""
    content: list[dict[str, Any]] = []
    for one in found:
        if isinstance(one, dict):
            content.append(one)
        elif one and content and content[-1]["type"] == "text":
            content[-1] = {"type": "text", "text": content[-1]["text"] + one}
        elif one:
            content.append({"type": "text", "text": one})
    if all(one["type"] == "text" for one in content):
        return "".join(one["text"] for one in content)
    return content


def _labelled(value: Any, parts: list[Part]) -> Any:
    if isinstance(value, Part):
        parts.append(value)
        return f"[{_label(value, len(parts))}]"
    if isinstance(value, BaseModel):
        return {name: _labelled(getattr(value, name), parts) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {key: _labelled(item, parts) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_labelled(item, parts) for item in value]
    return value


def _label(part: Part, number: int) -> str:
    return f"{type(part).__name__.lower()} {number}"


def _is(field: Field, cls: type) -> bool:
    kinds = [bare for kind in _arms(field.annotation) if isinstance(bare := kind, type)]
    return any(issubclass(kind, cls) for kind in kinds)


def _arms(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    arguments = typing.get_args(annotation)
    yield from arguments if arguments and not isinstance(typing.get_origin(annotation), type) else (annotation,)


def _is_tools(annotation: Any) -> bool:
    arguments = typing.get_args(annotation) or (annotation,)
    return any(isinstance(kind, type) and is_tool(kind) for kind in arguments)


def _holds(annotation: Any, cls: type, depth: int = 0) -> bool:
    bare: Any = bare_type(annotation)
    if depth > _MAX_DEPTH:
        return False
    is_class = isinstance(bare, type)
    if is_class:
        if issubclass(bare, cls):
            return True
        fields: Mapping[str, tuple[Any, bool]] | None = record_fields(bare)
        if fields is not None:
            return any(_holds(kind, cls, depth + 1) for kind, _ in fields.values())
    return any(_holds(kind, cls, depth + 1) for kind in typing.get_args(bare))
