# ruff: noqa: RUF001 - quotes and dashes of all kinds are what this file is about
"""What a scalar can look like in a model's answer: choices, truth values, numbers and dates.

Each function takes text and returns the value it plainly states, or `NOTHING` when the text is ambiguous: a
wrong guess is worse than a `ParseError`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Final

__all__ = ["NOTHING", "find_choice", "find_date", "find_number", "find_truth", "is_null", "is_unstated", "unquoted"]


class _Nothing(enum.Enum):
    NOTHING = "nothing"


NOTHING: Final = _Nothing.NOTHING

_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "*": "*", "_": "_"}
_NULLS: Final = frozenset({"", "null", "none", "n/a"})
_UNSTATED = re.compile(
    r"(?:unknown|unspecified|undefined|unclear|nil|-+|—|not (?:specified|stated|given|available|mentioned|provided"
    r"|known|applicable|found)|no (?:\w+ )?(?:given|mentioned|provided|specified))"
)

_TRUE: Final = frozenset({"true", "yes", "correct"})
_FALSE: Final = frozenset({"false", "no", "incorrect", "wrong"})
_SHORT_TRUTH: Final = {
    "t": True,
    "y": True,
    "1": True,
    "on": True,
    "f": False,
    "n": False,
    "0": False,
    "off": False,
}
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|cannot)\b|n['’]t\b", re.IGNORECASE)
_WORD = re.compile(r"\w+")

_NUMBER = re.compile(
    r"""(?<![\w.])(?P<sign>[-+−–]?)(?:[$€£¥#][ ]?)?
    (?P<digits>(?:\d{1,3}(?:[,\u00a0\u202f'’_]\d{3})+|\d+)(?:\.\d+)?|\.\d+)
    (?P<exponent>[eE][-+]?\d{1,4})?(?!\d)""",
    re.VERBOSE,
)
_SEPARATORS = re.compile(r"[,\u00a0\u202f'’_]")
_OPERATOR = re.compile(r"\s*(?:[-+*/×^=:–—]|to\b|or\b|and\b)\s*[\w(.]")
_TERM = re.compile(r"\w\s*[+*/^×÷]\s*\Z")
_CONCLUDES = re.compile(r"(?:=|(?<!\d):|≈|\bis|\bequals|\bare)\s*[^\w\s]*\s*\Z", re.IGNORECASE)
_SCALE = re.compile(r"\s*(k|thousand|million|mn|billion|bn|trillion)\b", re.IGNORECASE)
_SCALES: Final = {"k": 3, "thousand": 3, "million": 6, "mn": 6, "billion": 9, "bn": 9, "trillion": 12}
_NUMBER_WORDS: Final = {
    word: str(number)
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
}

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], start=1
    )
}
_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<!\d)(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?!\d)",
        rf"\b{_MONTH}\s+{_DAY},?\s+(?P<year>\d{{4}})(?!\d)",
        rf"(?<!\d){_DAY}\s+(?:of\s+)?{_MONTH},?\s+(?P<year>\d{{4}})(?!\d)",
        r"\A(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})\Z",
    )
)
_SLASHED = re.compile(r"(?<!\d)(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})(?!\d)")


def unquoted(text: str) -> str:
    """``text`` without the quotes, backticks or markdown emphasis around the whole of it, and its full stop.

    >>> unquoted(' **"Paris".** ')
    'Paris'
    """
    text = text.strip()
    while text:
        if text[-1] in ".,;!" and len(text) > 1 and not text.endswith(".."):
            shorter = text[:-1].rstrip()
        elif len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
            shorter = text[1:-1].strip()
        else:
            break
        text = shorter
    return text


def is_null(text: str) -> bool:
    """Whether ``text`` says that there is no value.

    >>> is_null("None."), is_null("nothing much")
    (True, False)
    """
    return len(text) < 24 and unquoted(text).lower() in _NULLS


def is_unstated(text: str) -> bool:
    """Whether ``text`` says in words that there is no value, where a word cannot be one.

    >>> is_unstated("Not specified."), is_unstated("1999")
    (True, False)
    """
    return len(text) < 40 and _UNSTATED.fullmatch(unquoted(text).lower()) is not None


def find_truth(text: str) -> Any:
    """The truth value that ``text`` states.

    >>> find_truth("Yes, because it is green."), find_truth("It is not true") is NOTHING
    (True, True)
    """
    word = unquoted(text).lower()
    if word in _SHORT_TRUTH:
        return _SHORT_TRUTH[word]
    words = [found.lower() for found in _WORD.findall(text)]
    if not words:
        return NOTHING
    if words[0] in _TRUE or words[0] in _FALSE:
        return words[0] in _TRUE
    yes, no = not _TRUE.isdisjoint(words), not _FALSE.isdisjoint(words)
    if yes == no or _NEGATION.search(text):
        return NOTHING
    return yes


def find_number(text: str) -> Any:
    """The number that ``text`` states, as plain digits: the only one, the leading one, or the concluding one.

    >>> find_number("About $1,234.50 in all."), find_number("2 + 3 = 5"), find_number("5-7") is NOTHING
    ('1234.50', '5', True)
    """
    found = list(_NUMBER.finditer(text))
    if not found:
        return _NUMBER_WORDS.get(unquoted(text).lower(), NOTHING)
    if len(found) == 1:
        return _digits(text, found[0])
    first, last = found[0], found[-1]
    if _CONCLUDES.search(text, 0, last.start()) and not _WORD.search(text, last.end()):
        return _digits(text, last)
    if not text[: first.start()].strip(' \n\t*_`"') and not _OPERATOR.match(text, first.end()):
        return _digits(text, first) if _WORD.search(text, first.end(), found[1].start()) else NOTHING
    if len({match.group() for match in found}) == 1:
        return _digits(text, first)
    return NOTHING


def _digits(text: str, match: re.Match[str]) -> Any:
    if _TERM.search(text, 0, match.start()):
        return NOTHING
    if _OPERATOR.match(text, match.end()) and any(c.isdigit() for c in text[match.end() : match.end() + 8]):
        return NOTHING
    sign = "-" if match["sign"] in ("-", "−", "–") and match["sign"] else ""
    digits = sign + _SEPARATORS.sub("", match["digits"]) + (match["exponent"] or "")
    scale = _SCALE.match(text, match.end())
    if scale is None:
        return digits
    try:
        return f"{Decimal(digits).scaleb(_SCALES[scale[1].lower()]):f}"
    except (InvalidOperation, OverflowError):
        return NOTHING


def find_choice(text: str, options: Iterable[tuple[str, Any]]) -> Any:
    """The value of the one option that ``text`` names, whatever its case, quotes and punctuation.

    Tried in this order: the text is the option; it begins with it; it names exactly one option, not negated.

    >>> options = [("very good", 1), ("good", 2), ("bad", 3)]
    >>> find_choice("**Very-Good**", options), find_choice("I'd call it bad!", options)
    (1, 3)
    >>> find_choice("not bad", options) is find_choice("good or bad", options) is NOTHING
    True
    """
    said = _plain(text)
    # Longest first, so that "very good" is not read as "good".
    named = sorted(((_plain(name), value) for name, value in options), key=lambda one: -len(one[0]))
    for name, value in named:
        if said == name:
            return value
    for name, value in named:
        if name and said.startswith(name + " "):
            following = _JOINED.sub("", said[len(name) + 1 :]) + " "
            if any(other and other != name and following.startswith(other + " ") for other, _ in named):
                return NOTHING  # "positive or negative", "positive | negative": the question, not an answer
            return value
    rest, found = f" {said} ", []
    for name, value in named:
        if name and f" {name} " in rest:
            found.append((name, value))
            rest = rest.replace(f" {name} ", "  ")
    if len(found) != 1:
        return NOTHING
    name, value = found[0]
    if _NEGATION.search(text) and not _NEGATION.search(name):
        return NOTHING
    return value


def _plain(text: str) -> str:
    # Signs are kept: they are what tells "C" from "C++" and 1 from -1.
    return " ".join(_PUNCTUATION.sub(" ", text.casefold()).split())


_JOINED = re.compile(r"^(?:or|and|versus|vs)\s+")
_PUNCTUATION = re.compile(r"[\s\"'`“”‘’«»*_.,;:!?()\[\]{}<>/\\|-]+(?!\d)|[\s\"'`“”‘’«»*_,;:!?()\[\]{}<>/\\|]+")


def find_date(text: str) -> Any:
    """The ISO form of the date that ``text`` states.

    Numeric dates with the year last are read only when day and month cannot be confused.

    >>> find_date("Founded on May 5th, 1998."), find_date("25/12/2020"), find_date("04/05/2020") is NOTHING
    ('1998-05-05', '2020-12-25', True)
    """
    for pattern in _DATES:
        match = pattern.search(text)
        if match is not None:
            month = match["month"].lower()
            return _iso(match["year"], _MONTHS.get(month[:3], month), match["day"])
    match = _SLASHED.search(text)
    if match is None:
        return NOTHING
    first, second = int(match[1]), int(match[2])
    if first > 12:
        return _iso(match[3], second, first)
    if second > 12 or first == second:
        return _iso(match[3], first, second)
    return NOTHING


def _iso(year: str, month: str | int, day: str | int) -> Any:
    try:
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return NOTHING
