"""Calls of tools that a model wants made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel, model_validator

__all__ = ["ToolCall", "ToolCalls"]


class ToolCall(BaseModel):
    """A tool's name and its arguments, in any of the spellings that models and providers have.

    >>> ToolCall.model_validate({"function": {"name": "add", "arguments": '{"a": 1}'}})
    ToolCall(name='add', args={'a': 1})
    """

    model_config = ConfigDict(frozen=True)

    name: str
    args: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_spelling(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if isinstance(inner := value.get("function"), Mapping):
            value = inner
        name = value.get("name", value.get("tool", value.get("tool_name")))
        args: Any = next((value[key] for key in ("args", "arguments", "parameters", "input") if key in value), {})
        if isinstance(args, str):
            args = json.loads(args or "{}")
        return {"name": name, "args": {} if args is None else args}


class ToolCalls(RootModel[list[ToolCall]]):
    """The calls that a model wants made, an output; a sequence of `ToolCall`.

    >>> calls = ToolCalls.model_validate({"tool_calls": [{"name": "add", "arguments": {"a": 1}}]})
    >>> calls[0].name, calls[0].args
    ('add', {'a': 1})
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _from_wrapped(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return value["tool_calls"] if value.keys() == {"tool_calls"} else [value]
        return value

    def __iter__(self) -> Iterator[ToolCall]:  # type: ignore[override]  # of a sequence, not of a record's fields
        return iter(self.root)

    def __len__(self) -> int:
        return len(self.root)

    def __getitem__(self, index: int) -> ToolCall:
        return self.root[index]
