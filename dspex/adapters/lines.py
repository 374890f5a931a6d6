# ruff: noqa: RUF001 - quotes and dashes of all kinds are what this file is about
"""Lists and mappings that a model wrote as lines of text instead of JSON."""

from __future__ import annotations

import re

__all__ = ["has_bullets", "item_lines", "key_value_lines", "normal_key"]

_PUNCTUATION = re.compile(r"[\W_]+")
_BULLET = re.compile(r"^[ \t]*(?:[-*•‣◦+–]|\(?\d{1,3}[.)]|[a-zA-Z][.)])[ \t]+(?=\S)")
_COMMA = re.compile(r",\s+|;\s*")
_TIGHT_COMMA = re.compile(r"[,;]\s*")
_LAST_AND = re.compile(r"^(?:and|or|&)\s+", re.IGNORECASE)
_KEY_VALUE = re.compile(
    r"^[ \t]*(?:[-*•]\s+|\d{1,3}[.)]\s+)?[*_`\"']{0,3}(?P<key>[^\W\d][\w \-]{0,60}?)[*_`\"']{0,3}\s*[:=]"
    r"[*_`]{0,2}[ \t]*(?P<value>.*)$"
)
_PIECE = re.compile(r"[,;]\s+(?=[^\W\d][\w ]{0,40}[:=])")
_EMPHASIS = re.compile(r"^([*_`\"]{1,2})(.+)\1$", re.DOTALL)


def normal_key(key: str) -> str:
    """``key`` without case, spaces and punctuation, by which names are held to be the same.

    >>> normal_key("Zip Code") == normal_key("zip_code") == normal_key("zipCode")
    True
    """
    return _PUNCTUATION.sub("", key).casefold()


def has_bullets(text: str) -> bool:
    """Whether a line of ``text`` begins like an item of a list.

    >>> has_bullets("These:\\n1. red"), has_bullets("red, green")
    (True, False)
    """
    return any(_BULLET.match(line) for line in text.splitlines())


def item_lines(text: str, *, numeric: bool = False) -> list[str]:
    """The items of a list in ``text``: its bullets, else its lines, else what stands between its commas.

    >>> item_lines("Here they are:\\n- red\\n- dark\\n  green"), item_lines("red, green, and blue.")
    (['red', 'dark green'], ['red', 'green', 'blue'])
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if any(_BULLET.match(line) for line in lines):
        items: list[str] = []
        for line in lines:
            bullet = _BULLET.match(line)
            if bullet is not None:
                items.append(line[bullet.end() :])
            elif items and line[:1].isspace():
                items[-1] += " " + line.strip()
        return [_item(item) for item in items]
    if len(lines) > 1:
        return [_item(line.strip().rstrip(",;")) for line in lines]
    line = text.strip().removesuffix(".")
    pieces = _COMMA.split(line)
    if len(pieces) == 1:
        pieces = _TIGHT_COMMA.split(line) if numeric or " " not in line else pieces
    pieces[-1] = _LAST_AND.sub("", pieces[-1]) if len(pieces) > 1 else pieces[-1]
    return [_item(piece) for piece in pieces if piece.strip()]


def key_value_lines(text: str) -> dict[str, str]:
    """The ``key: value`` lines of ``text``; a line without a key goes on with the value before it.

    >>> key_value_lines("- **Name:** Ann\\n- age: 7")
    {'Name': 'Ann', 'age': '7'}
    """
    found: dict[str, str] = {}
    last: str | None = None
    lines = text.strip().splitlines()
    if len(lines) == 1:
        pieces = _PIECE.split(lines[0])
        lines = pieces if all(_KEY_VALUE.match(piece) for piece in pieces) else lines
    for line in lines:
        match = _KEY_VALUE.match(line)
        if match is not None and match["key"] not in found:
            last = match["key"].strip()
            found[last] = _item(match["value"])
        elif last is not None and line.strip():
            found[last] = f"{found[last]}\n{line.strip()}".strip()
    return found


def _item(text: str) -> str:
    text = text.strip()
    emphasised = _EMPHASIS.match(text)
    return emphasised[2].strip() if emphasised and emphasised[1] not in emphasised[2] else text
