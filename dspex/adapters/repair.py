# ruff: noqa: RUF001 - quotes and dashes of all kinds are what this file is about
"""Reading the JSON that models really write.

A strict parse is always tried first. When it fails, a forgiving reader takes over: comments, trailing and
missing commas, single and smart quotes, unquoted keys and words, Python's literals, raw line breaks and
unescaped quotes inside strings, unclosed strings and brackets (an answer cut off by its token limit). What it
cannot make sense of is a `ValueError`; it never guesses a value that is not in the text.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["json_values", "read_json"]

_MAX_DEPTH: Final = 100
_MAX_STEPS: Final = 30_000
_MAX_VALUES: Final = 24
_MAX_ATTEMPTS: Final = 200

_decoder = json.JSONDecoder()

_SPACE = re.compile(r"(?:\s+|//[^\n]*|/\*.*?(?:\*/|\Z)|#[^\n]*)*", re.DOTALL)
_FENCE = re.compile(r"```[ \t]*[\w+-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
# Not the brackets of a header.
_OPENING = re.compile(r"\{|\[(?!\[?[ \t]*##)")
_BARE_OBJECT = re.compile(r"""\s*\(?["'“][^"'”\n]{1,80}["'”]\s*:""")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\Z")

_CLOSING: Final = {
    '"': '"',
    "'": "'",
    "`": "`",
    "“": '”"',
    "”": '”"',
    "‘": "’'",
    "’": "’'",
    "„": '“”"',
    "«": "»",
}
_ESCAPES: Final = {
    '"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "\n": "",
}  # fmt: skip
_WORDS: Final[dict[str, Any]] = {
    "true": True, "false": False, "null": None, "none": None, "undefined": None,
    "nan": math.nan, "infinity": math.inf, "-infinity": -math.inf, "inf": math.inf, "-inf": -math.inf,
}  # fmt: skip

# What may follow the quote that really ends a string, by where the string stands.
_AFTER_ITEM = re.compile(r"""\s*(?:[,\]})]|\Z|//|/\*|\#|["'“‘])""")
_AFTER_FIELD = re.compile(
    r"""\s*(?:
        [\]}] | \)(?!\s*["'\w]) | \Z | // | /\* | \#
      | [,;][\s,;]*(?: \Z | // | /\* | \# | [}\]] | ["'“‘”’] | [\w.-]{1,60}["'”’]?\s*(?::|=) )
      | \s["'“‘]?[\w -]{1,60}["'”’]?\s*:
    )""",
    re.VERBOSE,
)
# Where an unclosed string must have ended, for the next field is already there.
_NEXT_FIELD = re.compile(r"""[,\n]\s{0,40}["'“‘][\w -]{1,60}["'”’]\s{0,10}:""")
_TRAILING_CLOSERS = re.compile(r"\s*[}\])]+[\s`]*\Z")
# A key: in proper quotes, in any or none, and without its colon.
_QUOTED_KEY = re.compile(r'"((?:[^"\\\n]|\\.){0,200})"\s*(?:=>|[:=])')
_ANY_KEY = re.compile(r"""["'`“”‘’]{0,2}([^"'`“”‘’:=,{}\[\]\n]{1,80})["'`“”‘’]{0,2}\s*(?:=>|[:=])""")
_KEY_WITHOUT_COLON = re.compile(r"""["'`“”‘’]([^"'`“”‘’:=,{}\[\]\n]{1,80})["'`“”‘’]\s*""")
# A field; one more of them after a comma; and one although the comma before it is missing.
_FIELD = re.compile(r"""["'“‘][\w -]{1,60}["'”’]\s*:""")
_MORE = re.compile(r"""\s*,\s*["'“‘][\w -]{1,60}["'”’]\s*:""")
_MISSED = re.compile(r"""[\s*;"'“‘]*["'“‘][\w -]{1,60}["'”’]\s*:""")
_SET = re.compile(r"""["'“‘][^"'”’\n]*["'”’]\s*[,}]""")
_BARE = re.compile(r"[^,\]}\n)]*")
# 1,409,670 where a key would have to follow the comma.
_GROUPED = re.compile(r"-?\d{1,3}(?:,\d{3})+(?=\s*[,}\n]|\s*\Z)")
# A backslash that is meant although JSON has such an escape: commands of LaTeX, and paths.
_LATEX = re.compile(
    r"(?:t(?:imes|ext(?:bf|it|rm)?|heta|au|an|o|op|ilde|riangle|frac)"
    r"|n(?:eq?|u|abla|ot(?:in)?|eg)|r(?:ho|ight(?:arrow)?|angle|ceil|floor|m))(?![a-zA-Z])"
)
_PATH = re.compile(r"(?<!\w)[A-Za-z]:(?:\\[\w. -]*)*\Z")
_COMMENT = re.compile(r"\s(?://|/\*|#)")
_HEX = re.compile(r"(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")
_SPECIAL = {closing: re.compile(rf"[\\{re.escape(closing)}]") for closing in _CLOSING.values()}


def read_json(text: str) -> Any:
    """The JSON value that ``text`` is, forgivingly; `ValueError` when there is none.

    >>> read_json('{name: "Ann", \\'tags\\': ["a", "b",], ok: True, // a comment')
    {'name': 'Ann', 'tags': ['a', 'b'], 'ok': True}
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    stripped = text.strip()
    fenced = _FENCE.match(stripped)
    return _forgiven(stripped) if fenced is None else _fenced_json(stripped, fenced)


def _forgiven(stripped: str) -> Any:
    if _BARE_OBJECT.match(stripped):
        stripped = "{" + stripped.lstrip("(")
    if stripped[:1] == "(" and stripped[-1:] == ")":
        stripped = f"[{stripped[1:-1]}]"  # a Python tuple
    if stripped[:1] not in ("{", "["):
        raise ValueError("it is not JSON: no object or list begins it")
    value, _ = _Reader(stripped).read(0)
    return value


def json_values(text: str) -> Iterator[Any]:
    """The JSON objects and lists inside ``text``, best guess first: fenced blocks, then wherever one begins.

    >>> list(json_values('Sure! {"a": 1} and then [2, 3].'))
    [{'a': 1}, [2, 3]]
    """
    yielded = 0
    if "```" in text:
        spans = list(_well_formed(text))
        for fenced in _FENCE.finditer(text):
            if any(begin < fenced.start() < end for begin, end in spans):
                continue  # a word of a string
            try:
                yield _fenced_json(text, fenced)
            except (ValueError, RecursionError):
                continue
            yielded += 1
            if yielded >= _MAX_VALUES:
                return
    elif _BARE_OBJECT.match(text):
        with contextlib.suppress(ValueError, RecursionError):
            yield read_json(text)
    position, reader = 0, _Reader(text)
    for _ in range(_MAX_ATTEMPTS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        position = opening.start()
        try:
            value, position = _decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            try:
                value, position = reader.read(position)
            except (ValueError, RecursionError):
                if reader.exhausted:
                    return
                position += 1
                continue
        yield value
        yielded += 1
        if yielded >= _MAX_VALUES:
            return


def _fenced_json(text: str, fenced: re.Match[str]) -> Any:
    # A fence inside a string of what is fenced does not end it.
    begin = _SPACE.match(text, fenced.start(1))
    try:
        return _decoder.raw_decode(text, begin.end() if begin else fenced.start(1))[0]
    except (ValueError, RecursionError):
        return _forgiven(fenced.group(1).strip())


def _well_formed(text: str) -> Iterator[tuple[int, int]]:
    """Where objects and lists in ``text`` begin and end that are JSON as they stand."""
    position = 0
    for _ in range(_MAX_ATTEMPTS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        try:
            _, position = _decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position = opening.end()
        else:
            yield opening.start(), position


def outside_json(text: str, change: Callable[[str], str]) -> str:
    """``text`` with what is not inside a well-formed JSON object or list changed.

    >>> outside_json('a {"a": "a"} a', str.upper)
    'A {"a": "a"} A'
    """
    parts, done = [], 0
    for begin, end in _well_formed(text):
        parts += [change(text[done:begin]), text[begin:end]]
        done = end
    return "".join([*parts, change(text[done:])])


class _Reader:
    """A recursive-descent reader with a bound on depth and on work, so no text can make it slow."""

    __slots__ = ("_closers", "_steps", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._steps = 0
        self._closers: list[str] = []

    @property
    def exhausted(self) -> bool:
        return self._steps > _MAX_STEPS

    def read(self, position: int) -> tuple[Any, int]:
        """The value that begins at ``position``, and where it ends."""
        self._closers.clear()
        return self._value(position, "}")

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise ValueError("it is too tangled to be JSON")

    def _skip(self, position: int) -> int:
        match = _SPACE.match(self._text, position)
        return match.end() if match else position

    def _value(self, position: int, closer: str) -> tuple[Any, int]:
        self._step()
        if len(self._closers) > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")
        char = self._text[position : position + 1]
        if char == "{":
            return self._object(position + 1)
        if char == "[":
            return self._array(position + 1, "]")
        if char == "(" and self._closers:
            return self._array(position + 1, ")")
        if char in _CLOSING:
            return self._string(position, _AFTER_FIELD if closer == "}" else _AFTER_ITEM)
        grouped = _GROUPED.match(self._text, position) if closer == "}" else None
        if grouped is not None:
            return int(grouped.group().replace(",", "")), grouped.end()
        return self._bare(position)

    def _object(self, position: int) -> tuple[Any, int]:
        text = self._text
        fields: dict[str, Any] = {}
        self._closers.append("}")
        while True:
            self._step()
            position = self._skip(position)
            char = text[position : position + 1]
            if char in (",", ";"):
                position += 1
                continue
            if char == "{" and not fields:
                position += 1  # a doubled brace, as templates have them
                continue
            ended, position = self._ended(char, "}", position)
            if ended:
                break
            if not fields and _SET.match(text, position):
                self._closers.pop()
                return self._array(position, "}")
            key, after = self._key(position)
            if key is None or text[after : after + 1] in (",", "}", "]", ""):
                if key is not None and text[after - 1] in ":=>":
                    position = after
                    if position < len(text):  # where the text ends, nobody knows what the value would have been
                        fields[key] = None
                else:
                    position = self._resume(position if key is None else after, fields)
            else:
                fields[key], position = self._value(after, "}")
        self._closers.pop()
        return fields, position

    def _key(self, position: int) -> tuple[str | None, int]:
        """The key that begins at ``position`` (None when there is none), and where its value begins."""
        text = self._text
        for pattern in (_QUOTED_KEY, _ANY_KEY, _KEY_WITHOUT_COLON):
            match = pattern.match(text, position)
            if match is not None:
                key = _unescaped(match[1]) if pattern is _QUOTED_KEY else match[1].strip()
                return key, self._skip(match.end())
        return None, position

    def _resume(self, position: int, fields: dict[str, Any]) -> int:
        """Where an object goes on after something that is no field."""
        end = self._text.find("}", position)
        end = end if end >= 0 else len(self._text)
        following = _NEXT_FIELD.search(self._text, position, end)
        if following is not None:
            return following.start()
        if not fields and len(self._closers) == 1:
            raise ValueError("there is no field in it")
        return end

    def _array(self, position: int, closer: str) -> tuple[list[Any], int]:
        items: list[Any] = []
        self._closers.append(closer)
        while True:
            self._step()
            position = self._skip(position)
            char = self._text[position : position + 1]
            if char in (",", ";"):
                position += 1
                continue
            ended, position = self._ended(char, closer, position)
            if ended:
                break
            if self._text.startswith("...", position):
                position += 3  # and so on
                continue
            if "}" in self._closers[:-1] and _FIELD.match(self._text, position):
                break  # a key: the list has ended without its bracket
            value, position = self._value(position, "]")
            items.append(value)
        self._closers.pop()
        return items, position

    def _ended(self, char: str, closer: str, position: int) -> tuple[bool, int]:
        """Whether the innermost container ends at ``char``, and where reading goes on."""
        while char != closer:
            if char == "":
                return True, position
            if char not in ("}", "]", ")"):
                return False, position
            # The closer of a container further out ends this one too; any other is a slip and is passed over.
            if char in self._closers[:-1]:
                # Unless it would end everything with more to come: then it stands for this one's.
                last = self._closers.count(char) == 1 and _MORE.match(self._text, position + 1)
                return True, position + 1 if last else position
            position += 1
            char = self._text[position : position + 1]
        return True, position + 1

    def _string(self, position: int, after: re.Pattern[str]) -> tuple[str, int]:
        text = self._text
        opening = text[position]
        if text.startswith(opening * 3, position) and opening in "\"'":
            end = text.find(opening * 3, position + 3)
            end = len(text) if end < 0 else end
            return text[position + 3 : end], min(end + 3, len(text))
        closing, start = _CLOSING[opening], position + 1
        special = _SPECIAL[closing]
        parts: list[str] = []
        mark = start
        while (found := special.search(text, mark)) is not None:
            self._step()
            at = found.start()
            parts.append(text[mark:at])
            if text[at] == "\\":
                piece, mark = self._escape(at)
                parts.append(piece)
            elif after.match(text, at + 1):
                return "".join(parts), at + 1
            elif _FIELD.match(text, at) and text[start:at].rstrip().endswith(","):
                # This quote opens the next key: the one that should have ended the string is missing.
                return self._up_to(start, text.rindex(",", start, at))
            else:
                parts.append(text[at])
                mark = at + 1
        return self._unclosed(start)

    def _unclosed(self, start: int) -> tuple[str, int]:
        following = _NEXT_FIELD.search(self._text, start)
        return self._up_to(start, following.start() if following else len(self._text))

    def _up_to(self, start: int, end: int) -> tuple[str, int]:
        """An unclosed string that ends at ``end`` at the latest; brackets just before that are not its own."""
        closers = _TRAILING_CLOSERS.search(self._text, max(start, end - 200), end)
        end = closers.start() if closers else end
        return self._text[start:end], end

    def _escape(self, at: int) -> tuple[str, int]:
        text = self._text
        char = text[at + 1 : at + 2]
        meant = char in "bf" and text[at + 2 : at + 3].isalpha()
        if char in "tnr":
            meant = bool(_LATEX.match(text, at + 1)) or _PATH.search(text, max(0, at - 80), at) is not None
        if char in _ESCAPES and not meant:
            return _ESCAPES[char], at + 2
        match = _HEX.match(text, at + 1)
        if match is None:
            return "\\" + char, at + 1 + len(char)  # LaTeX, a regular expression: the backslash is meant
        code, end = int(match.group(1) or match.group(2), 16), match.end()
        if 0xD800 <= code < 0xDC00:
            low = _HEX.match(text, end + 1) if text[end : end + 1] == "\\" else None
            if low is not None and low.group(1) and 0xDC00 <= int(low.group(1), 16) < 0xE000:
                code = 0x10000 + ((code - 0xD800) << 10) + (int(low.group(1), 16) - 0xDC00)
                return chr(code), low.end()
        return ("�" if 0xD800 <= code < 0xE000 else chr(code)), end

    def _bare(self, position: int) -> tuple[Any, int]:
        match = _BARE.match(self._text, position)
        word = match.group() if match else ""
        end = position + len(word)
        for pattern in (_COMMENT, _MISSED):
            found = pattern.search(self._text, position, end)
            end = found.start() if found else end
        word = self._text[position:end].strip()
        if not word:
            raise ValueError(f"there is no value at {self._text[position : position + 20]!r}")
        lowered = word.lower()
        if end == len(self._text):
            # The answer was cut off here: "tru" was going to be "true".
            lowered = next((name for name in ("true", "false", "null") if name.startswith(lowered)), lowered)
        if lowered in _WORDS:
            return _WORDS[lowered], end
        if _NUMBER.match(word) and not _leading_zero(word):
            try:
                return (int(word) if word.lstrip("+-").isdigit() else float(word)), end
            except ValueError:  # more digits than Python turns into an int
                return word, end
        return word, end


def _unescaped(key: str) -> str:
    if "\\" in key:
        with contextlib.suppress(ValueError):
            return str(json.loads(f'"{key}"', strict=False))
    return key


def _leading_zero(word: str) -> bool:
    # 02134 is a postal code, not the number 2134.
    digits = word.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
