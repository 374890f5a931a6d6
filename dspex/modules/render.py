"""A dry run: the program runs, every predictor writes down what it would ask, and no model is asked."""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspex.data import Prediction
from dspex.errors import DataError
from dspex.execution import Run
from dspex.lm import BaseLM
from dspex.signatures import Signature

__all__ = ["RenderRun", "Rendering", "placeholder", "predictor_at"]


class Rendering(dict[str, list[dict[str, Any]]]):
    """The messages of each predictor by path; prints as they would be read."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the first predictor that would be asked."""
        for messages in self.values():
            return messages
        raise DataError("no predictor was reached, so there are no messages; print the rendering to see all it has")

    def __str__(self) -> str:
        blocks = []
        for path, messages in self.items():
            title = f"━━ {path or 'predict'} "
            body = "\n\n".join(f"{m['role']}:\n{_shown(m['content'])}" for m in messages)
            blocks.append(f"{title.ljust(80, '━')}\n{body}")
        return "\n\n".join(blocks)


def _shown(content: Any) -> str:
    """A message's content as text, with the kinds of what is no text."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] if part["type"] == "text" else f"({part['type']})" for part in content)


class RenderRun(Run):
    """A run in which predictors render their request and return placeholders."""

    __slots__ = ("rendering",)

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.observers = ()  # nothing happens
        self.rendering = Rendering()

    @contextmanager
    def branch(self) -> Iterator[Run]:
        yield self  # what a part of it would ask is in the same rendering

    def lm(self) -> BaseLM | None:
        lm: BaseLM | None = self.settings.lm
        return lm


def predictor_at(path: str) -> str:
    """How errors call the predictor at ``path``."""
    return f"the predictor at `{path}`" if path else "the predictor at the root"


def placeholder(signature: type[Signature]) -> Prediction:
    """A prediction of the right types that says nothing: ``<answer>`` for text, the first option of a choice."""
    return Prediction.from_fields(
        {name: _stand_in(name, field.annotation) for name, field in signature.output_fields.items()}
    )


def _stand_in(name: str, annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _stand_in(name, arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if annotation is str:
        return f"<{name}>"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return next(iter(annotation))
    if annotation in (int, float, bool):
        return annotation()
    if (origin or annotation) in (list, tuple, set, frozenset, dict):
        return (origin or annotation)()
    return None
