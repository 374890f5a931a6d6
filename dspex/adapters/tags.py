"""Text between tags like ``<answer>`` and ``</answer>``: kept apart from tags inside it, and read when nested.

A value that holds the tag of a field is written as XML writes it, with ``&lt;`` and ``&amp;``; any other stays as
it is, markup included. So text with a ``<`` in it means what it says, and only text without one may have entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from dspex.adapters.sections import flexible_name

__all__ = ["ENTITY", "FieldTags", "elements", "from_markup"]

CDATA: Final = "<![CDATA["
ENTITY: Final = re.compile(r"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6}));")
_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_OPENING = re.compile(r"\s*<([^\W\d][\w.-]{0,80})(?:\s[^<>]{0,200})?(/?)>")
_MAX_ELEMENTS: Final = 1_000


class FieldTags:
    """Finds and guards tags of the fields with these names, in any spelling.

    >>> tags = FieldTags(["question", "answer"])
    >>> tags.guarded("1 < 2</Answer>"), tags.guarded("<b>1 &lt; 2</b>"), tags.guarded("AT&amp;T")
    ('1 &lt; 2&lt;/Answer>', '<b>1 &lt; 2</b>', 'AT&amp;amp;T')
    """

    __slots__ = ("any",)

    def __init__(self, names: Iterable[str]) -> None:
        spelled = "|".join(sorted(map(flexible_name, names), key=len, reverse=True))
        self.any = re.compile(rf"<[\s/\\]*(?:{spelled})(?![\w-])|<!\[CDATA\[", re.IGNORECASE)
        """Where a tag of a field begins, or what keeps tags from being read."""

    def guarded(self, text: str) -> str:
        """``text`` changed, if need be, so that there is no tag of a field in it and `from_markup` undoes it."""
        if "<" in text:
            return text.replace("&", "&amp;").replace("<", "&lt;") if self.any.search(text) else text
        return text.replace("&", "&amp;") if "&" in text and ENTITY.search(text) else text


def from_markup(text: str) -> str:
    """The text that was guarded, or that a model wrote with entities or as ``CDATA``.

    >>> from_markup("AT&amp;T"), from_markup("<b>&lt;</b>"), from_markup("<![CDATA[1 < 2]]>")
    ('AT&T', '<b>&lt;</b>', '1 < 2')
    """
    if "<" in text:
        if text.startswith(CDATA):
            return text.removeprefix(CDATA).removesuffix("]]>").strip()
        return text
    return ENTITY.sub(_character, text) if "&" in text else text


def _character(match: re.Match[str]) -> str:
    name, decimal, hexadecimal = match.groups()
    if name:
        return _NAMED[name]
    code = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(code) if 0 < code < 0xD800 or 0xE000 <= code < 0x110000 else match.group()


def elements(text: str) -> list[tuple[str, str]]:
    """Names and contents of the elements that ``text`` is a row of; empty when there is anything else in it.

    >>> elements("<name>Ann</name> <age>7</age>"), elements("Ann is <b>7</b>")
    ([('name', 'Ann'), ('age', '7')], [])
    """
    found: list[tuple[str, str]] = []
    position = 0
    while len(found) < _MAX_ELEMENTS:
        opening = _OPENING.match(text, position)
        if opening is None:
            return found if found and not text[position:].strip() else []
        position = opening.end()
        content = ""
        if not opening[2]:
            end, after = _closing(text, opening[1], position)
            if end < 0:
                return []
            content, position = text[position:end], after
        found.append((opening[1], from_markup(content.strip())))
    return []


def _closing(text: str, name: str, position: int) -> tuple[int, int]:
    """Where the element's content ends, and what follows it begins; -1 when it is not closed."""
    depth = 1
    for tag in re.finditer(rf"<(/?){re.escape(name)}(?:\s[^<>]*)?(/?)>", text[position:]):
        depth += 0 if tag[2] else -1 if tag[1] else 1
        if not depth:
            return position + tag.start(), position + tag.end()
    return -1, -1
