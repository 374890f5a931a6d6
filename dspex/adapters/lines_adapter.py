"""The adapter for small models: one line a field."""

from __future__ import annotations

from typing import Any, ClassVar

from dspex.adapters.base import Adapter
from dspex.adapters.layout import Layout, Output
from dspex.adapters.sections import escaped, unescaped
from dspex.adapters.streaming import AnswerStream, LinesStream
from dspex.adapters.values import output_text

__all__ = ["LinesAdapter"]


class LinesAdapter(Adapter):
    """Fields stand in lines like ``answer: Paris``, in prompts and in answers.

    The shortest of the formats, and the easiest to imitate: a model of 135 million parameters follows it after
    a few demos where it gets lost in `ChatAdapter`'s, in half the tokens. Values may go on over several lines;
    a line of a value that begins like a field has a backslash before it. See `Adapter` for ``templates``.

    >>> from dspex.signatures import Signature
    >>> place = Signature("address -> city, zip_code")
    >>> adapter = LinesAdapter()
    >>> print(adapter.render_answer(place, {"city": "Boston", "zip_code": "02134"}))
    city: Boston
    zip_code: 02134
    >>> adapter.parse(place, "City: Boston\\nZip Code: 02134")
    {'city': 'Boston', 'zip_code': '02134'}
    """

    name: ClassVar[str] = "lines"
    json_first: ClassVar[bool] = False
    field_form: ClassVar[str] = "{name}: ..."
    stream_class: ClassVar[type[AnswerStream]] = LinesStream

    def read_exact(self, layout: Layout, text: str) -> dict[str, Any] | None:
        marks = list(layout.lines.starts.finditer(text))
        outputs = layout.outputs
        if len(marks) != len(outputs):
            return None
        values: dict[str, Any] = {}
        for index, (mark, output) in enumerate(zip(marks, outputs, strict=True)):
            if mark[1] != output.name:
                return None
            end = marks[index + 1].start() if index + 1 < len(marks) else len(text)
            content = text[mark.end() : end].strip()
            if "\\" in content:
                content = self.unguard(layout, content)
            values[output.name] = content if output.read is None else output.value(content)
        return values

    def write_value(self, layout: Layout, output: Output, value: Any) -> str:
        return self.guard(layout, output_text(output.field, value, output.value))

    def guard(self, layout: Layout, text: str) -> str:
        return layout.lines.guarded(escaped(text))

    def unguard(self, layout: Layout, text: str) -> str:
        return unescaped(layout.lines.unguarded(text))
