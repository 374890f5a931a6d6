"""The adapter for models that like tags."""

from __future__ import annotations

from typing import Any, ClassVar

from dspex.adapters.base import Adapter
from dspex.adapters.layout import Layout, Output
from dspex.adapters.streaming import AnswerStream, TagsStream
from dspex.adapters.tags import from_markup
from dspex.adapters.values import output_text

__all__ = ["XMLAdapter"]


class XMLAdapter(Adapter):
    """Fields stand between tags like ``<answer>`` and ``</answer>``, in prompts and in answers.

    Values are written as they are, records and lists as JSON; only a value that has a tag of a field in it is
    escaped. Records and lists that a model writes as nested elements are read too. See `Adapter` for
    ``templates``.

    >>> from dspex.signatures import Signature
    >>> qa = Signature("question -> answer: int, tags: list[str]")
    >>> adapter = XMLAdapter()
    >>> print(adapter.render_answer(qa, {"answer": 2, "tags": ["sum"]}))
    <answer>
    2
    </answer>
    <BLANKLINE>
    <tags>
    ["sum"]
    </tags>
    >>> adapter.parse(qa, "<Answer>2</Answer><tags><tag>sum</tag><tag>small</tag></tags>")
    {'answer': 2, 'tags': ['sum', 'small']}
    """

    name: ClassVar[str] = "xml"
    json_first: ClassVar[bool] = False
    tags_first: ClassVar[bool] = True
    field_form: ClassVar[str] = "<{name}>...</{name}>"
    stream_class: ClassVar[type[AnswerStream]] = TagsStream

    def read_exact(self, layout: Layout, text: str) -> dict[str, Any] | None:
        values: dict[str, Any] = {}
        position = 0
        any_tag = layout.tags.any
        for output in layout.outputs:
            opening, closing = f"<{output.name}>", f"</{output.name}>"
            start = text.find(opening, position)
            end = text.find(closing, start)
            if start < 0 or end < 0 or text[position:start].strip():
                return None
            content = text[start + len(opening) : end].strip()
            if (not content and output.read is not None) or ("<" in content and any_tag.search(content)):
                return None
            position = end + len(closing)
            content = from_markup(content)
            values[output.name] = content if output.read is None else output.value(content)
        return None if text[position:].strip() else values

    def write_value(self, layout: Layout, output: Output, value: Any) -> str:
        return self.guard(layout, output_text(output.field, value, output.value))

    def guard(self, layout: Layout, text: str) -> str:
        return layout.tags.guarded(text)

    def unguard(self, layout: Layout, text: str) -> str:
        return from_markup(text)
