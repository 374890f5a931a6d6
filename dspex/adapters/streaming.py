"""Reading an answer while it is being written: what is certain of each field, as soon as it is.

A parser is fed the pieces of an answer and gives back deltas of fields, in order. What it gives depends on the text
alone, never on where the pieces end: a character waits until whatever may follow cannot change what it means. The
deltas of a field add up to its text in a well-formed answer (of JSON, a string's text and any other value as it is
written). An answer that is not well-formed may give fewer deltas; `AnswerStream.close` reads the whole of it with
all repairs, and is always what `Adapter.parse` says.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.adapters.sections import COMPLETED, header
from dspex.adapters.tags import CDATA

if TYPE_CHECKING:
    from dspex.adapters.base import Adapter
    from dspex.adapters.layout import Layout
    from dspex.signatures import Signature

__all__ = ["AnswerStream", "FieldDelta", "JSONStream", "LinesStream", "SectionsStream", "TagsStream", "WholeStream"]


class FieldDelta(NamedTuple):
    """More of the text of ``field``."""

    field: str
    delta: str


class AnswerStream(ABC):
    """Reads one answer; made by `Adapter.stream`, for one thread.

    >>> from dspex.adapters import ChatAdapter
    >>> from dspex.signatures import Signature
    >>> stream = ChatAdapter().stream(Signature("question -> answer: int"))
    >>> stream.feed("[[ ## answer ## ]] 4"), stream.feed("2 ["), stream.flush(), stream.close()
    ([FieldDelta(field='answer', delta='4')], [FieldDelta(field='answer', delta='2')], \
[FieldDelta(field='answer', delta=' [')], {'answer': 42})
    """

    def __init__(self, adapter: Adapter, signature: type[Signature], layout: Layout) -> None:
        self._adapter = adapter
        self._signature = signature
        self._layout = layout
        self._whole: list[str] = []
        self._rest = ""
        self._thoughts: tuple[str, ...] = ()  # the outputs that come beside the text

    @property
    def text(self) -> str:
        """All that it was fed."""
        return "".join(self._whole)

    def feed(self, text: str) -> list[FieldDelta]:
        """The deltas that are certain with ``text``, the next piece of the answer."""
        self._whole.append(text)
        self._rest += text
        return self._of_text(self._advance(final=False))

    def think(self, text: str) -> list[FieldDelta]:
        """The deltas of ``text``, the next piece of the thoughts that the model gives beside its answer.

        They are the outputs that are a `dspex.Reasoning`, as for `Adapter.read`; what the answer itself says of these
        gives no deltas from then on.
        """
        native = self._layout.native
        self._thoughts = () if native is None else native.thoughts
        return [FieldDelta(name, text) for name in self._thoughts if text]

    def flush(self) -> list[FieldDelta]:
        """The deltas that only the end of the answer makes certain; nothing is fed after that."""
        return self._of_text(self._advance(final=True))

    def _of_text(self, found: list[FieldDelta]) -> list[FieldDelta]:
        return [delta for delta in found if delta.field not in self._thoughts] if self._thoughts else found

    def close(self) -> dict[str, Any]:
        """The outputs, as `Adapter.parse` reads them from the whole answer; raises `ParseError` as it does."""
        return self._adapter.parse(self._signature, self.text)

    @abstractmethod
    def _advance(self, *, final: bool) -> list[FieldDelta]: ...


class WholeStream(AnswerStream):
    """For formats that can only be read as a whole: there are no deltas."""

    def _advance(self, *, final: bool) -> list[FieldDelta]:
        self._rest = ""
        return []


_TEXT, _HOLD, _OPEN, _END = range(4)
_Step = tuple[int, int, str]
"""What the next characters are (text; text that the rest of the field may change; the start of a field; the end of
one), where they end, and whose start it is."""


class _Delimited(AnswerStream):
    """Fields between marks, their text trimmed and unescaped.

    A subclass says in `_step` what the next characters are, or that it takes more text to know.
    """

    def __init__(self, adapter: Adapter, signature: type[Signature], layout: Layout) -> None:
        super().__init__(adapter, signature, layout)
        self._field: str | None = None
        self._seen: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self._content: list[str] = []
        self._spaces = ""
        self._given = 0
        self._holding = False

    @abstractmethod
    def _step(self, text: str, position: int, *, final: bool) -> _Step | None: ...

    def _advance(self, *, final: bool) -> list[FieldDelta]:
        found: list[FieldDelta] = []
        text, position = self._rest, 0
        while position < len(text) and (step := self._step(text, position, final=final)) is not None:
            kind, end, name = step
            if kind in (_TEXT, _HOLD):
                self._holding = self._holding or kind == _HOLD
                self._add(text[position:end], found)
            else:
                self._finish(found)
                if kind == _OPEN and name in self._layout.names and name not in self._seen:
                    self._field = name
                    self._seen.add(name)
            position = end
        self._rest = text[position:]
        if final:
            self._finish(found)
        return found

    def _add(self, text: str, found: list[FieldDelta]) -> None:
        if self._field is None:
            return
        self._content.append(text)
        if self._holding:
            return
        text = self._spaces + text if self._given else (self._spaces + text).lstrip()
        sure = text.rstrip()
        self._spaces = text[len(sure) :]
        self._give(sure, found)

    def _finish(self, found: list[FieldDelta]) -> None:
        if self._field is not None and self._holding:
            # What was given so far is a part that unescaping leaves as it is.
            content = self._adapter.unguard(self._layout, "".join(self._content).strip())
            self._give(content[self._given :], found)
        self._field = None
        self._clear()

    def _give(self, text: str, found: list[FieldDelta]) -> None:
        if text and self._field is not None:
            self._given += len(text)
            _extend(found, self._field, text)


def _extend(found: list[FieldDelta], field: str, text: str) -> None:
    if found and found[-1].field == field:
        text = found.pop().delta + text
    found.append(FieldDelta(field, text))


def _may_become(tail: str, marks: tuple[str, ...]) -> bool:
    """Whether more text may make one of ``marks`` of ``tail``."""
    return any(len(tail) < len(mark) and mark.startswith(tail) for mark in marks)


class SectionsStream(_Delimited):
    """Fields under headers like ``[[ ## answer ## ]]``."""

    def __init__(self, adapter: Adapter, signature: type[Signature], layout: Layout) -> None:
        super().__init__(adapter, signature, layout)
        self._marks = {header(name): name for name in (*signature.fields, COMPLETED)}

    def _step(self, text: str, position: int, *, final: bool) -> _Step | None:
        if text[position] != "[":
            end = text.find("[", position)
            return _TEXT, len(text) if end < 0 else end, ""
        for mark, name in self._marks.items():
            if text.startswith(mark, position):
                return _OPEN, position + len(mark), name
        if not final and _may_become(text[position : position + 200], (*self._marks, "[\\")):
            return None
        return _HOLD if text.startswith("[\\", position) else _TEXT, position + 1, ""


class TagsStream(_Delimited):
    """Fields between tags like ``<answer>`` and ``</answer>``."""

    def __init__(self, adapter: Adapter, signature: type[Signature], layout: Layout) -> None:
        super().__init__(adapter, signature, layout)
        self._marks = {f"<{name}>": name for name in layout.names}
        self._markup = False

    def _clear(self) -> None:
        super()._clear()
        self._markup = False

    def _step(self, text: str, position: int, *, final: bool) -> _Step | None:
        if self._field is None:
            if text[position] != "<":
                end = text.find("<", position)
                return _TEXT, len(text) if end < 0 else end, ""
            for mark, name in self._marks.items():
                if text.startswith(mark, position):
                    return _OPEN, position + len(mark), name
            if not final and _may_become(text[position : position + 200], tuple(self._marks)):
                return None
            return _TEXT, position + 1, ""
        char = text[position]
        if char == "<":
            closing = f"</{self._field}>"
            if text.startswith(closing, position):
                return _END, position + len(closing), ""
            first = not self._given and not self._markup and not "".join(self._content).strip()
            marks = (closing, CDATA) if first else (closing,)
            if not final and _may_become(text[position : position + 200], marks):
                return None
            self._markup = True  # with markup in it, nothing in a text is an entity
            return _HOLD if first and text.startswith(CDATA, position) else _TEXT, position + 1, ""
        if char == "&":
            return _TEXT if self._markup else _HOLD, position + 1, ""
        found = _MARKUP.search(text, position)
        return _TEXT, len(text) if found is None else found.start(), ""


_MARKUP = re.compile("[<&]")


class LinesStream(_Delimited):
    """Fields in lines like ``answer: ...``."""

    def __init__(self, adapter: Adapter, signature: type[Signature], layout: Layout) -> None:
        super().__init__(adapter, signature, layout)
        self._marks = {f"{name}:": name for name in signature.fields}
        self._at_start = True

    def _step(self, text: str, position: int, *, final: bool) -> _Step | None:
        if self._at_start:
            for mark, name in self._marks.items():
                if text.startswith(mark, position):
                    self._at_start = False
                    return _OPEN, position + len(mark), name
            if not final and _may_become(text[position : position + 200], tuple(self._marks)):
                return None
            self._at_start = False
        if text[position] == "\n":
            self._at_start = True
            return _TEXT, position + 1, ""
        if text[position] == "\\":
            return _HOLD, position + 1, ""  # it may be there to keep a line from being a field's
        found = _LINE_END.search(text, position)
        return _TEXT, len(text) if found is None else found.start(), ""


_LINE_END = re.compile(r"[\n\\]")


class JSONStream(AnswerStream):
    """Fields of one JSON object: the text of strings, other values as they are written."""

    def __init__(self, adapter: Adapter, signature: type[Signature], layout: Layout) -> None:
        super().__init__(adapter, signature, layout)
        self._state = "before"
        self._field: str | None = None
        self._seen: set[str] = set()
        self._depth = 0
        self._quoted = False
        self._spaces = ""

    def _advance(self, *, final: bool) -> list[FieldDelta]:
        found: list[FieldDelta] = []
        text, position = self._rest, 0
        while position < len(text) and (end := getattr(self, f"_{self._state}")(text, position, found)) is not None:
            position = end
        self._rest = text[position:]
        return found

    # One method a state: each takes the text and a place in it and gives where it goes on; None waits for more.

    def _before(self, text: str, position: int, found: list[FieldDelta]) -> int | None:
        start = text.find("{", position)
        if start < 0:
            return len(text)
        self._state = "key"
        return start + 1

    def _key(self, text: str, position: int, found: list[FieldDelta]) -> int | None:
        char = text[position]
        if char.isspace() or char == ",":
            return position + 1
        if char != '"':
            self._state = "after" if char == "}" and self._seen else "before"  # braces in prose
            return position + (char != "{")
        match = _STRING.match(text, position)
        if match is None:
            return None
        name = self._layout.output_named(_decoded(match[1]))
        self._field = name if name is not None and name not in self._seen else None
        self._state = "colon"
        return match.end()

    def _colon(self, text: str, position: int, found: list[FieldDelta]) -> int | None:
        char = text[position]
        if char.isspace() or char == ":":
            return position + 1
        if self._field is not None:
            self._seen.add(self._field)
        self._depth, self._quoted, self._spaces = 0, False, ""
        self._state = "string" if char == '"' else "other"
        return position + (char == '"')

    def _string(self, text: str, position: int, found: list[FieldDelta]) -> int | None:
        char = text[position]
        if char == '"':
            self._state = "key"
            return position + 1
        if char != "\\":
            special = _SPECIAL.search(text, position)
            end = len(text) if special is None else special.start()
            self._give(text[position:end], found)
            return end
        escape = _ESCAPE.match(text, position)
        if escape is None:
            return None if _PARTIAL.fullmatch(text, position) else self._as_it_is(text, position, found)
        self._give(_decoded(escape[0]), found)
        return escape.end()

    def _as_it_is(self, text: str, position: int, found: list[FieldDelta]) -> int:
        self._give(text[position], found)
        return position + 1

    def _other(self, text: str, position: int, found: list[FieldDelta]) -> int | None:
        char = text[position]
        end = position + 1
        if self._quoted:
            if char == "\\":
                if end == len(text):
                    return None
                end += 1
            self._quoted = char != '"'
        elif char == '"':
            self._quoted = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]" and self._depth:
            self._depth -= 1
        elif char in ",}]" and not self._depth:
            self._state = "key"
            return position  # which passes over it, or ends there
        elif char.isspace():
            self._spaces += char
            return end
        self._give(self._spaces + text[position:end], found)
        self._spaces = ""
        return end

    def _after(self, text: str, position: int, found: list[FieldDelta]) -> int | None:
        return len(text)

    def _give(self, text: str, found: list[FieldDelta]) -> None:
        if text and self._field is not None:
            _extend(found, self._field, text)


_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SPECIAL = re.compile(r'["\\]')
_ESCAPE = re.compile(
    r'\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?![dD][89abAB])[0-9a-fA-F]{4}|["\\/bfnrt])'
)
_PARTIAL = re.compile(r"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?")


def _decoded(inside: str) -> str:
    try:
        text = json.loads(f'"{inside}"', strict=False)
    except ValueError:
        return inside
    return text if isinstance(text, str) else inside
