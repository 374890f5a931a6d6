"""Earlier turns of a conversation."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

__all__ = ["History"]


class History(BaseModel):
    """Earlier turns, an input: they come before the question as real turns, the oldest first.

    Each of ``messages`` holds the fields of one turn, such as ``{"question": ..., "answer": ...}``, inputs and
    outputs as far as they are known; or one message, ``{"role": ..., "content": ...}``, whose content is a text or a
    list of parts such as ``{"type": "text", "text": ...}``.

    >>> History(messages=[{"question": "1 + 1?", "answer": 2}]).messages[0]["answer"]
    2
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"messages": value} if isinstance(value, list | tuple) else value

    @field_validator("messages")
    @classmethod
    def _real_turns(cls, messages: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        # What a user said may be kept as turns, and must not come back as an instruction.
        for message in messages:
            if message.keys() != {"role", "content"}:
                continue  # the fields of a turn
            role, content = message["role"], message["content"]
            if role not in ("user", "assistant"):
                raise ValueError(
                    f"a turn is of the role 'user' or 'assistant', not {role!r}; instructions belong to the signature"
                )
            if not _is_content(content):
                raise ValueError(
                    f"the content of a turn is a text, or a list of parts, not {content!r} "
                    f"({type(content).__name__}); write {{'role': {role!r}, 'content': '...'}}"
                )
        return messages


def _is_content(value: Any) -> bool:
    if isinstance(value, list) and value:
        return all(isinstance(part, dict) and "type" in part for part in value)
    return isinstance(value, str)
