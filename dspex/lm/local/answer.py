"""What the engine says, piece by piece."""

from __future__ import annotations

from typing import Any

__all__ = ["Answer"]


class Answer:
    """One answer as far as it has come, why it ended, and what it took."""

    __slots__ = ("completion_tokens", "error", "finish_reason", "logprobs", "prompt_tokens", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.logprobs: list[Any] = []
        self.finish_reason: str | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.error: dict[str, Any] | None = None

    def read(self, chunk: dict[str, Any]) -> None:
        """Take in one piece of the stream, in OpenAI's format."""
        if "error" in chunk:
            self.error = chunk["error"]
            return
        if usage := chunk.get("usage"):
            self.prompt_tokens = usage["prompt_tokens"]
            self.completion_tokens = usage["completion_tokens"]
        for choice in chunk.get("choices", ()):
            if text := (choice.get("delta") or {}).get("content"):
                self.texts.append(text)
            if logprobs := (choice.get("logprobs") or {}).get("content"):
                self.logprobs.extend(logprobs)
            if reason := choice.get("finish_reason"):
                self.finish_reason = reason
