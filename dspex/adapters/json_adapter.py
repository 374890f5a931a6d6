"""The adapter for models that write JSON, or can be made to."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from dspex.adapters.base import Adapter
from dspex.adapters.layout import Layout, Output
from dspex.adapters.sections import escaped, unescaped
from dspex.adapters.streaming import AnswerStream, JSONStream
from dspex.adapters.values import json_text, output_data

__all__ = ["JSONAdapter"]


class JSONAdapter(Adapter):
    """The answer is one JSON object with a key for each output.

    A model whose ``capabilities`` include ``"json_schema"`` is given the schema of that object, and cannot
    answer otherwise. See `Adapter` for ``templates``.

    >>> from dspex.signatures import Signature
    >>> qa = Signature("question -> answer: int, sure: bool")
    >>> JSONAdapter().parse(qa, 'Here you are: {"answer": "2", \\'Sure\\': True,')
    {'answer': 2, 'sure': True}
    """

    name: ClassVar[str] = "json"
    json_first: ClassVar[bool] = True
    field_form: ClassVar[str] = '"{name}": ...'
    stream_class: ClassVar[type[AnswerStream]] = JSONStream

    def read_exact(self, layout: Layout, text: str) -> dict[str, Any] | None:
        held = json.loads(text)
        values: dict[str, Any] = {}
        for output in layout.outputs:
            value = held[output.name]
            if output.read is None:
                if type(value) is not str:
                    return None
                values[output.name] = value
            else:
                values[output.name] = output.check(value)
        return values

    def write_value(self, layout: Layout, output: Output, value: Any) -> str:
        return json_text(output_data(output.field, value))

    def guard(self, layout: Layout, text: str) -> str:
        return escaped(text)

    def unguard(self, layout: Layout, text: str) -> str:
        return unescaped(text)

    def schema(self, layout: Layout) -> dict[str, Any] | None:
        return layout.schema
