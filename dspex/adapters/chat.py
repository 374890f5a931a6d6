"""The adapter for any chat model: each field under a header of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from dspex.adapters.base import Adapter
from dspex.adapters.layout import Layout, Output
from dspex.adapters.sections import COMPLETED, escaped, header, unescaped
from dspex.adapters.streaming import AnswerStream, SectionsStream
from dspex.adapters.values import output_text

__all__ = ["ChatAdapter"]

_COMPLETED = header(COMPLETED)


class ChatAdapter(Adapter):
    """Fields stand under headers like ``[[ ## answer ## ]]``, in prompts and in answers (DSPy's format).

    See `Adapter` for ``templates``.

    >>> from dspex.signatures import Signature
    >>> qa = Signature("question -> answer: int")
    >>> adapter = ChatAdapter()
    >>> request = adapter.request(qa, instructions="Add.", demos=(), inputs={"question": "1 + 1?"})
    >>> print(request.messages[1]["content"])
    [[ ## question ## ]]
    1 + 1?
    <BLANKLINE>
    Answer with [[ ## answer ## ]].
    >>> adapter.parse(qa, "[[ ## answer ## ]]\\n2")
    {'answer': 2}
    >>> adapter.parse(qa, "Let me see. **Answer:** it is 2.")
    {'answer': 2}
    """

    name: ClassVar[str] = "chat"
    json_first: ClassVar[bool] = False
    field_form: ClassVar[str] = header("{name}")
    stream_class: ClassVar[type[AnswerStream]] = SectionsStream

    def read_exact(self, layout: Layout, text: str) -> dict[str, Any] | None:
        outputs = layout.outputs
        count, end = text.count("[[ ##"), len(text)
        if count != len(outputs):
            end = text.rfind(_COMPLETED)
            if count != len(outputs) + 1 or end < 0:
                return None
        values: dict[str, Any] = {}
        empty = False
        # From the last to the first, so that each section ends where the one read before it began.
        for output in reversed(outputs):
            start = text.rfind(output.header, 0, end)
            if start < 0:
                return None
            begin = start + len(output.header)
            content = text[begin:end].strip()
            if not content:
                empty = True
                if output.read is not None:
                    return None
            elif text[begin] in ":*":
                return None
            if "[\\" in content:
                content = unescaped(content)
            values[output.name] = content if output.read is None else output.value(content)
            end = start
        if end and ("```" in text[:end] or (empty and text[:end].strip())):
            return None  # what a section lacks may stand before them all
        return {output.name: values[output.name] for output in outputs} if len(outputs) > 1 else values

    def write_value(self, layout: Layout, output: Output, value: Any) -> str:
        return escaped(output_text(output.field, value, output.value))

    def guard(self, layout: Layout, text: str) -> str:
        return escaped(text)

    def unguard(self, layout: Layout, text: str) -> str:
        return unescaped(text)
