"""What may be reported of a trial (numbers, at steps), and whole numbers that samplers and pruners are made with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspex.errors import StudyError

__all__ = ["as_float", "as_report", "at_least", "check_step", "true_or_false"]


def as_float(value: Any, what: str) -> float:
    """``value`` as a float.

    Raises:
        StudyError: when it is no number.
    """
    if not isinstance(value, str):
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


def check_step(step: Any) -> None:
    """Raises `StudyError` unless ``step`` is a whole number that is at least 0."""
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise StudyError(f"step must be a whole number >= 0, got {step!r} ({type(step).__name__})")


def true_or_false(name: str, value: Any) -> bool:
    """``value``, when it is True or False.

    Raises:
        StudyError: when it is not.
    """
    if not isinstance(value, bool):
        raise StudyError(f"{name} must be True or False, got {value!r} ({type(value).__name__})")
    return value


def at_least(name: str, value: Any, smallest: int) -> int:
    """``value``, when it is a whole number and not too small.

    Raises:
        StudyError: when it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise StudyError(f"{name} must be a whole number >= {smallest}, got {value!r} ({type(value).__name__})")
    return value
