"""How the errors of this room word a value, a path and a near miss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from dspex.errors import StateError

__all__ = ["UnknownPathError", "check_values", "counted", "did_you_mean", "shown", "some", "unknown_path"]

_LONGEST = 80


class UnknownPathError(StateError, KeyError):
    """A path that the space does not have; also a `KeyError`, so that mappings over paths stay mappings."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr of the message


def shown(value: object) -> str:
    """Return the value and its type, shortened, as errors show them.

    >>> shown("warm")
    "'warm' (str)"
    >>> shown(None)
    'None'
    """
    if value is None:
        return "None"
    try:
        text = repr(value)
    except Exception as error:  # a broken repr must not hide the error that is being worded
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return f"{text} ({type(value).__name__})"


def check_values(values: object) -> None:
    """Refuse what is no mapping path → value.

    >>> check_values([3])
    Traceback (most recent call last):
    dspex.errors.StateError: [3] (list) are no values. Write a mapping such as {'depth': 3}.
    """
    if not isinstance(values, Mapping):
        raise StateError(f"{shown(values)} are no values. Write a mapping such as {{'depth': 3}}.")


def counted(count: int, noun: str) -> str:
    """Return the count and the noun, in the plural unless there is one.

    >>> counted(1, "demo"), counted(0, "demo"), counted(1000, "trial")
    ('1 demo', '0 demos', '1,000 trials')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean ...?`` for the names nearest to ``name``, or nothing when none is near.

    >>> did_you_mean("depht", ["depth", "tone"])
    " Did you mean 'depth'?"
    >>> did_you_mean("temperature", ["answer.stepwise.temperature"])
    " Did you mean 'answer.stepwise.temperature'?"
    """
    names = list(known)
    near = [candidate for candidate in names if candidate.endswith("." + name)]
    near += [match for match in get_close_matches(name, names, n=3, cutoff=0.6) if match not in near]
    if not near:
        tails = {candidate.rsplit(".", 1)[-1]: candidate for candidate in reversed(names)}
        near = [tails[tail] for tail in get_close_matches(name.rsplit(".", 1)[-1], tails, n=3, cutoff=0.6)]
    return f" Did you mean {' or '.join(repr(one) for one in near[:3])}?" if near else ""


def some(names: Iterable[str]) -> str:
    """Return the names, or the first dozen of many.

    >>> some(["depth", "tone"])
    'depth, tone'
    """
    listed = list(names)
    return ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "")


def unknown_path(path: object, known: Iterable[str], *, where: str = "this space") -> UnknownPathError:
    """Return the error for a path that is not in ``where``."""
    if not isinstance(path, str):
        return UnknownPathError(f"A path is a string such as 'answer.temperature', not {shown(path)}.")
    names = list(known)
    hint = did_you_mean(path, names)
    if not hint:
        hint = f" It has: {some(names)}." if names else " It has no variables at all."
    return UnknownPathError(f"No variable at path {path!r} in {where}.{hint}")
