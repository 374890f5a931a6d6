# ruff: noqa: RUF001 - quotes and dashes of all kinds are what this file is about
"""Where the fields of an answer begin: the headers models really write, from exact to barely there.

An exact header is ``[[ ## answer ## ]]``. Models also write ``[[ ## Answer ]]``, ``[## answer ##]`` in
mid-line, ``## answer``, ``**Answer:**``, ``<answer>`` or ``answer: ...``. Each field is read from the most
exact kind of header that it has; looser kinds are only looked at when that fails, so what merely looks like
a header inside a value does no harm. A value that holds an exact header is escaped when rendered (a backslash
between the brackets) and unescaped when read.
"""

from __future__ import annotations

import bisect
import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Final

from dspex.adapters.lines import normal_key

__all__ = ["COMPLETED", "FieldLines", "Headers", "escaped", "flexible_name", "header", "unescaped"]

COMPLETED: Final = "completed"
"""The name of a section that some models, taught by other libraries, end with."""

_ESCAPE = re.compile(r"\[(\\*)\[(?=\s*##)")
_UNESCAPE = re.compile(r"\[\\(\\*)\[(?=\s*##)")
_ANY_HEADER = re.compile(r"(?<!\\)\[\[\s*##\s*(?P<name>[^\[\]#\n]{1,80}?)\s*##\s*\]\]")
_ANY_TAG = re.compile(r"<(?P<name>[^\W\d][\w.-]{1,60})>")
_FENCE_LINE = re.compile(r"^\s*```[\w+-]*\s*\Z", re.MULTILINE)
_ANY_LINE = re.compile(r"^[ \t*_\"'-]{0,8}(?P<name>[^\W\d][\w -]{2,40}?)[*_\"']{0,3}[ \t]*:", re.MULTILINE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_+")


def header(name: str) -> str:
    """The exact header of a field.

    >>> header("answer")
    '[[ ## answer ## ]]'
    """
    return f"[[ ## {name} ## ]]"


def escaped(text: str) -> str:
    """``text`` with a backslash in each thing that would be read as a header.

    >>> escaped("a [[ ## answer ## ]]")
    'a [\\\\[ ## answer ## ]]'
    """
    return _ESCAPE.sub(r"[\\\1[", text) if "##" in text else text


def unescaped(text: str) -> str:
    """The text that was `escaped`.

    >>> unescaped(escaped("a [[ ## answer ## ]]"))
    'a [[ ## answer ## ]]'
    """
    return _UNESCAPE.sub(r"[\1[", text) if "[\\" in text else text


class _Mark:
    """A header found in a text: where it is and whose (None: of a field the signature does not have).

    ``tag`` says whether it is the tag that opens an element, ``until`` where that element's content ends and
    ``stop`` where the element does, when it is closed.
    """

    __slots__ = ("end", "name", "start", "stop", "tag", "until", "written")

    def __init__(self, match: re.Match[str], name: str | None, *, tag: bool = False) -> None:
        self.start = match.start()
        self.end = self.stop = match.end()
        self.written = match["name"]
        self.name = name
        self.tag = tag
        self.until: int | None = None


class Headers:
    """Finds the sections of ``outputs`` in a text; ``others`` (the inputs) end a section but are not wanted.

    ``titles`` are pairs of a field's name and another spelling of it.

    >>> headers = Headers(["reasoning", "answer"], ["question"])
    >>> headers.strict("Sure. [[ ## Answer ]] 4 [[ ## question ## ]] What?")
    {'answer': ['4']}
    >>> headers.loose("**Reasoning:** 2 + 2\\nAnswer: 4")
    {'reasoning': ['2 + 2'], 'answer': ['4']}
    """

    __slots__ = ("_levels", "_names", "_outputs")

    def __init__(
        self, outputs: Iterable[str], others: Iterable[str] = (), *, titles: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._outputs = tuple(outputs)
        self._names: dict[str, str] = {}
        spelled = set()
        plain = [(name, name) for name in (*self._outputs, *others, COMPLETED)]
        for name, title in (*plain, *titles):
            if normal_key(title) and self._names.setdefault(normal_key(title), name) == name:
                spelled.add(flexible_name(title))
        names = "|".join(sorted(spelled, key=len, reverse=True))
        self._levels = tuple(
            tuple(
                re.compile(pattern.replace("NAME", rf"(?P<name>{names})(?!\w)"), re.IGNORECASE | re.MULTILINE)
                for pattern in level
            )
            for level in _LEVELS
        )

    def strict(self, text: str, *, tags: bool = False) -> dict[str, list[str]]:
        """The contents found for each output under exact headers or, where it has none, nearly exact ones.

        With ``tags``, what stands between tags comes before either.
        """
        exact, nearly, in_tags, *_ = self._levels
        return self._sections(text, (in_tags, exact) if tags else (exact, nearly), tags=tags)

    def loose(self, text: str, *, tags: bool = False) -> dict[str, list[str]]:
        """As `strict`, then in tags, under markdown headings, in bold, then after ``name:`` or ``the name is``."""
        exact, nearly, in_tags, *rest = self._levels
        levels = (in_tags, exact, nearly, *rest) if tags else (exact, nearly, in_tags, *rest)
        return self._sections(text, levels, tags=tags)

    def renamed(self, text: str, missing: Iterable[str]) -> dict[str, list[str]]:
        """Sections under headers of fields there are none of, for the ``missing`` outputs they resemble.

        When there is one such section and one missing output, they belong together whatever they are called.

        >>> Headers(["answer"]).renamed("[[ ## response ## ]] 4", ["answer"])
        {'answer': ['4']}
        """
        wanted = {normal_key(name): name for name in missing}
        marks = [*self._marks(self._levels[0], text), *self._foreign(text)]
        if not any(mark.name is None for mark in marks) and len(wanted) < len(self._outputs):
            known = self._marks(self._levels[2], text)
            others = [_Mark(match, None, tag=True) for match in _ANY_TAG.finditer(text)]
            elements = _elements(
                text, [*known, *(mark for mark in others if normal_key(mark.written) not in self._names)]
            )
            if known:
                marks = [mark for mark in elements if mark.until is not None]
        if not any(mark.name is None for mark in marks):
            marks = self._marks((_ANY_LINE,), text)
        foreign = [(mark, content) for mark, content in _contents(text, marks) if not mark.name and content]
        found: dict[str, list[str]] = {}
        for mark, content in foreign:
            close = difflib.get_close_matches(normal_key(mark.written), list(wanted), n=1, cutoff=0.75)
            if close:
                found.setdefault(wanted[close[0]], []).append(content)
        if not found and len(wanted) == len(foreign) == 1 and text[foreign[0][0].start] in "[<":
            found[next(iter(wanted.values()))] = [foreign[0][1]]
        return found

    def lead(self, text: str) -> str:
        """What stands before the first header of an output."""
        for level in self._levels:
            starts = [mark.start for mark in self._marks(level, text) if mark.name in self._outputs]
            if starts:
                return _undangled(text[: min(starts)].strip())
        return ""

    def _sections(
        self, text: str, levels: Iterable[tuple[re.Pattern[str], ...]], *, tags: bool
    ) -> dict[str, list[str]]:
        missing = set(self._outputs)
        marks: list[_Mark] = []
        for level in levels:
            if not missing:
                break
            # Only what is still missing is looked for more loosely, and the inputs, which end a section.
            at_level = [
                mark for mark in self._marks(level, text) if mark.name in missing or (mark.name not in self._outputs)
            ]
            missing.difference_update(mark.name for mark in at_level if mark.name)
            marks += _elements(text, at_level) if level is self._levels[2] else at_level
        if not (tags and any(mark.name and mark.tag for mark in marks)):
            marks += self._foreign(text)  # between tags, the header of another format is text
        found: dict[str, list[str]] = {}
        for mark, content in _contents(text, marks):
            if mark.name in self._outputs and mark.name is not None:
                found.setdefault(mark.name, []).append(content)
        return found

    def _marks(self, level: tuple[re.Pattern[str], ...], text: str) -> list[_Mark]:
        return [
            _Mark(match, self._names.get(normal_key(match["name"])), tag=level is self._levels[2])
            for pattern in level
            for match in pattern.finditer(text)
        ]

    def _foreign(self, text: str) -> list[_Mark]:
        found = (_Mark(match, None) for match in _ANY_HEADER.finditer(text))
        return [mark for mark in found if normal_key(mark.written) not in self._names]


_BULLET = r"^[ \t>]*(?:[-*•][ \t]+|\d{1,2}[.)][ \t]+)?"
_ARTICLE = r"(?:(?:the|my|final)[ \t]+){0,2}"
_SENTENCE = r"(?:^|(?<=[.!?;,)\]}]\s))[ \t]*"
_LEVELS: Final = (
    (r"(?:\*\*)?(?<!\\)\[\[\s*##\s*NAME\s*##\s*\]\](?:\*\*)?:?",),
    (
        r"(?<!\\)\[{1,2}\s*#{1,4}\s*[*_`\"']{0,3}NAME[*_`\"']{0,3}\s*:?[ \t]*#{0,4}[ \t]*\]{0,2}(?:\*\*)?:?",
        r"(?<!\\)\[\[\s*NAME\s*\]\]:?",
        r"(?:［［|【|\{\{|\\\[\\\[)\s*#{1,2}\s*NAME\s*#{1,2}\s*(?:］］|】|\}\}|\\\]\\\])",
        r"^[ \t]*#{1,4}[ \t]*NAME[ \t]*#{1,4}[ \t]*\]{0,2}:?",
    ),
    (
        r"(?P<around>\*\*|`)<\s*NAME\s*>(?P=around)",
        r"<[\s|]*NAME(?:[\s:=|][^<>]{0,200})?>",
        r"(?<!\[)\[\s*NAME\s*\](?!\])",
        r"^[ \t]*NAME>",
        r"<(?:field|output|parameter|item|section)\s+(?:name|key|id)\s*=\s*[\"']?NAME[\"']?\s*>",
    ),
    (
        rf"^[ \t]*#{{1,6}}[ \t]*[*_]{{0,2}}{_ARTICLE}NAME[*_]{{0,2}}[ \t]*(?::[*_]{{0,2}}|$)",
        rf"{_BULLET}(?P<mark>\*\*|__){_ARTICLE}NAME[ \t]*(?::[ \t]*(?P=mark)|(?P=mark)[ \t]*(?::|$))",
    ),
    (
        rf"{_BULLET}[*_`\"']{{0,3}}{_ARTICLE}NAME[*_`\"']{{0,3}}[ \t]*[:：=]",
        r"^[ \t]*\|[ \t*_`]*NAME[ \t*_`]*\|",
    ),
    (
        rf"{_SENTENCE}(?:(?:so|thus|therefore|hence),?[ \t]+)?the[ \t]+(?:(?:final|correct)[ \t]+)?NAME[ \t]+is\b:?",
        rf"{_SENTENCE}{_ARTICLE}NAME[ \t]*[:：]",
    ),
)
"""Kinds of headers, the most exact first."""


_CLOSING = re.compile(r"(?:<\s*[/\\]\s*(?P<name>\w[\w \t-]{0,79}?)\s*>|\[\s*/\s*(?P<other>\w[\w \t-]{0,79}?)\s*\])")
_DANGLING = re.compile(r"\s*<\s*[/\\]\s*([\w -]{0,60})>?\s*\Z")
_GENERIC: Final = frozenset({"field", "output", "parameter", "item", "section"})
_RULE = re.compile(r"\n[ \t]*(?:-{3,}|\*{3,}|_{3,})\Z")
_BLOCK = re.compile(r"[>|][+-]?[ \t]*\n(?=[ \t])")


class FieldLines:
    """Finds and guards lines like ``answer: ...`` in the text of a signature with these fields.

    >>> lines = FieldLines(["question", "answer"])
    >>> print(lines.guarded("He said:\\n- Answer: 4"))
    He said:
    - \\Answer: 4
    >>> lines.unguarded("He said:\\n- \\\\Answer: 4") == "He said:\\n- Answer: 4"
    True
    """

    __slots__ = ("_guard", "_unguard", "starts")

    def __init__(self, names: Iterable[str]) -> None:
        exact = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
        spelled = "|".join(sorted(map(flexible_name, names), key=len, reverse=True))
        self.starts = re.compile(rf"^({exact}):", re.MULTILINE)
        """Where a line begins with the name of a field, which is the first group."""
        mark = r"^([ \t>*_`\"'#•-]*(?:\d{1,2}[.)])?[ \t*_`\"']*)"
        start = rf"(?:{_ARTICLE}(?:{spelled})[ \t*_`\"']*[:：=])"
        self._guard = re.compile(rf"{mark}(\\*{start})", re.IGNORECASE | re.MULTILINE)
        self._unguard = re.compile(rf"{mark}\\(\\*{start})", re.IGNORECASE | re.MULTILINE)

    def guarded(self, text: str) -> str:
        """``text`` with a backslash where a line of it begins like a field; one line alone cannot."""
        return self._guard.sub(r"\1\\\2", text) if "\n" in text else text

    def unguarded(self, text: str) -> str:
        """The text that was `guarded`."""
        return self._unguard.sub(r"\1\2", text) if "\n" in text else text


def _elements(text: str, marks: list[_Mark]) -> list[_Mark]:
    """``marks`` with the ends of their elements.

    Where a field has elements that are closed, its other tags are talk about tags; and a tag that is followed
    by another of its kind and name before it is closed is not the one that is closed there.
    """
    apart: list[_Mark] = []
    for mark in sorted(marks, key=lambda mark: (mark.start, -mark.end)):
        if not apart or mark.start >= apart[-1].end:
            apart.append(mark)
    closings: dict[tuple[bool, str], list[re.Match[str]]] = {}
    for closing in _CLOSING.finditer(text):
        key = normal_key(closing["name"] or closing["other"])
        closings.setdefault((closing["name"] is None, "" if key in _GENERIC else key), []).append(closing)
    following: dict[tuple[str, str | None], int] = {}
    for mark in reversed(apart):
        opening = text[mark.start : mark.end]
        square = opening[0] == "["
        kind = ("[" if square else "<" if "<" in opening else ">", mark.name)
        ways = [closings.get((square, normal_key(mark.written)), [])]
        if "name" in opening.partition("=")[0]:
            ways.append(closings.get((square, ""), []))  # <field name="answer"> ends with </field>
        for found in ways:
            at = bisect.bisect_left(found, mark.end, key=lambda closing: closing.start())
            if at < len(found) and found[at].start() < following.get(kind, len(text)):
                mark.until, mark.stop = found[at].span()
                break
        following[kind] = mark.start
    closed = {mark.name for mark in apart if mark.until is not None}
    return [mark for mark in apart if mark.until is not None or mark.name not in closed]


def _undangled(text: str) -> str:
    """``text`` without a closing tag at its end that closes nothing in it."""
    match = _DANGLING.search(text, max(0, len(text) - 100))
    if match is None or (match[1].strip() and f"<{match[1].strip()}".lower() in text.lower()):
        return text
    return text[: match.start()].rstrip()


def _contents(text: str, marks: Iterable[_Mark]) -> Iterator[tuple[_Mark, str]]:
    kept: list[_Mark] = []
    for mark in sorted(marks, key=lambda mark: (mark.start, -mark.end)):
        if not kept or mark.start >= kept[-1].stop:
            kept.append(mark)
    for index, mark in enumerate(kept):
        end = kept[index + 1].start if index + 1 < len(kept) else len(text)
        content, opening = text[mark.end : end], text[mark.start : mark.end].strip()
        if mark.until is not None:
            content = text[mark.end : mark.until].rstrip()
            content = content.removesuffix("**" if opening[0] == "*" else "`" if opening[0] == "`" else "")
        elif mark.tag:
            content = _undangled(content)
        elif opening[0] in "#*":
            content = _RULE.sub("", content.rstrip())
        elif opening[0] == "|":
            content = content.split("\n", 1)[0].rstrip().removesuffix("|")
        elif opening[-1] == ":":
            content = _BLOCK.sub("", content.strip(), count=1) if _BLOCK.match(content.strip()) else content
        content = content.strip()
        if index == len(kept) - 1 and content.endswith("```") and _FENCE_LINE.search(text, 0, kept[0].start):
            content = content[:-3].rstrip()  # the whole answer stands in a code fence
        for emphasis in ("**", "__"):
            # **Answer: 4** leaves its second half behind.
            if opening.startswith(emphasis) and opening.count(emphasis) == 1 and content.endswith(emphasis):
                content = content[:-2].rstrip()
        yield mark, content


def flexible_name(name: str) -> str:
    """A pattern for ``name`` with spaces, hyphens or nothing between its words (to be matched without case)."""
    words = [re.escape(word) for word in re.split(r"[\W_]+", _CAMEL.sub("_", name)) if word]
    return r"[\s_-]{0,3}".join(words)
