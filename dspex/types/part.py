"""What the values have in common that some models take as they are, as parts of a message."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Part"]


class Part(BaseModel):
    """A value that is a part of its own in a message to a model that can take it, and text for any other.

    To write one, subclass it with a ``capability`` (one of `BaseLM.capabilities`), `part` and `text`. Its fields
    are its JSON. Immutable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    capability: ClassVar[str]
    """What a model must be capable of to take it as it is."""

    @abstractmethod
    def part(self) -> dict[str, Any]:
        """The content part, in the form of OpenAI's chat API, which litellm translates for other providers."""

    def cited(self) -> dict[str, Any]:
        """The content part for a model that is to say which passages it rests its answer on; `part`, if it cannot."""
        return self.part()

    @abstractmethod
    def text(self) -> str:
        """What stands for it where only text can."""
