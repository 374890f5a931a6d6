"""Documents that an answer is to rest on, and what it takes from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from dspex.types.part import Part

__all__ = ["Citation", "Citations", "Document"]


class Document(Part):
    """A text with a title. Models that cite (``documents``) get it as a document; others read it under its title.
    With a `Citations` among the outputs, a model that cites is told to.

    >>> print(Document(title="Tides", data="The moon pulls the sea.").text())
    Document "Tides":
    The moon pulls the sea.
    """

    data: str
    title: str | None = None
    context: str | None = None
    """What the model should know about it but not cite."""

    capability: ClassVar[str] = "documents"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, str) else value

    def part(self) -> dict[str, Any]:
        extra = {name: value for name in ("title", "context") if (value := getattr(self, name))}
        source = {"type": "text", "media_type": "text/plain", "data": self.data}
        return {"type": "document", "source": source, **extra}

    def cited(self) -> dict[str, Any]:
        return {**self.part(), "citations": {"enabled": True}}

    def text(self) -> str:
        """Title, context and text."""
        title = f'Document "{self.title}"' if self.title else "Document"
        return f"{title}{f' ({self.context})' if self.context else ''}:\n{self.data}"


class Citation(BaseModel):
    """A passage of a document that an answer rests on; ``document_index`` counts from 0."""

    model_config = ConfigDict(frozen=True)

    cited_text: str
    document_title: str | None = None
    document_index: int | None = Field(default=None, ge=0)


class Citations(RootModel[list[Citation]]):
    """The passages that an answer rests on, an output; a sequence of `Citation`. A model that cites by itself
    (``documents``) is not asked to write them when it is given a `Document` or a PDF `File`; any other writes them.

    >>> found = Citations.model_validate([{"cited_text": "The moon pulls the sea.", "document_title": "Tides"}])
    >>> len(found), found[0].document_title
    (1, 'Tides')
    """

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _from_wrapped(cls, value: Any) -> Any:
        return value["citations"] if isinstance(value, dict) and value.keys() == {"citations"} else value

    def __iter__(self) -> Iterator[Citation]:  # type: ignore[override]  # of a sequence, not of a record's fields
        return iter(self.root)

    def __len__(self) -> int:
        return len(self.root)

    def __getitem__(self, index: int) -> Citation:
        return self.root[index]
