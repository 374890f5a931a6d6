"""What may be reported and noted of a trial (numbers, at steps; plain data), and arguments that are whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspex.errors import StudyError
from dspex.variables import decode, encode
from dspex.variables.domain import plain_number

__all__ = ["as_float", "as_plain", "as_report", "as_step", "at_least", "true_or_false"]


def as_float(value: Any, what: str) -> float:
    """``value`` as a float.

    Raises:
        StudyError: when it is no number.
    """
    if not isinstance(value, (str, bytes, bytearray)):  # some of which read as numbers
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise StudyError(f"{what} must be a number, got {value!r} ({type(value).__name__})")


def as_report(value: Any, objectives: int) -> float | tuple[float, ...]:
    """An intermediate value: a float, or with several objectives one for each.

    Raises:
        StudyError: when it is not that.
    """
    if objectives == 1:
        return as_float(value, "the reported value")
    if hasattr(value, "tolist"):
        value = value.tolist()  # an array
    if isinstance(value, Sequence) and len(value) == objectives:
        return tuple(as_float(one, f"reported value {index}") for index, one in enumerate(value))
    raise StudyError(
        f"the study has {objectives} objectives, so trial.report takes {objectives} numbers, got {value!r} "
        f"({type(value).__name__}); write trial.report([{', '.join(['...'] * objectives)}], step=...)"
    )


def as_step(step: Any) -> int:
    """``step`` as an int.

    Raises:
        StudyError: when it is no whole number that is at least 0.
    """
    return at_least("step", step, 0)


def as_plain(value: Any) -> Any:
    """``value`` as a storage gives it back: a copy, in which numpy's scalars are Python's.

    Raises:
        StateError: when it is no plain data.

    >>> import numpy
    >>> as_plain({"accuracy": numpy.mean([1.0, 0.0]), "errors": (numpy.int64(3),)})
    {'accuracy': 0.5, 'errors': (3,)}
    """
    return decode(encode(_without_numpy(value)))


def _without_numpy(value: Any) -> Any:
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(_without_numpy(item) for item in value)
    if kind is dict:
        return {_without_numpy(key): _without_numpy(item) for key, item in value.items()}
    return plain_number(value)


def true_or_false(name: str, value: Any) -> bool:
    """``value``, when it is True or False.

    Raises:
        StudyError: when it is not.
    """
    if not isinstance(value, bool):
        raise StudyError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def at_least(name: str, value: Any, smallest: int, *, otherwise: str = "", advice: str = "") -> int:
    """``value`` as an int; ``otherwise`` and ``advice`` are what else may be given, and what to write, for the message.

    Raises:
        StudyError: when it is no whole number, or too small.
    """
    whole = plain_number(value)
    if isinstance(whole, bool) or not isinstance(whole, int) or whole < smallest:
        raise StudyError(
            f"{name} must be a whole number >= {smallest}{otherwise}, got {value!r} ({type(value).__name__}){advice}"
        )
    return whole
