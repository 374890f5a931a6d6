"""What a metric may return when a bare number is not enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dspex.errors import MetricError

__all__ = ["Score"]


class Score(float):
    """A number with a reason: ``Score(value, feedback)``.

    It *is* a float, so it compares, sums and averages as one. ``feedback`` is text that reflective proposers
    read; ``objectives`` are further named numbers (each becomes an objective beside ``score``).

    Raises `MetricError` when the value or an objective is not a finite number.

    >>> score = Score(0.5, "The street is right, the city is missing.", objectives={"recall": 0.25})
    >>> score
    Score(0.5, 'The street is right, the city is missing.', objectives={'recall': 0.25})
    >>> score + 1
    1.5
    """

    __slots__ = ("feedback", "objectives")

    feedback: str
    objectives: dict[str, float]

    def __new__(
        cls, value: float | bool, feedback: str = "", *, objectives: Mapping[str, float] | None = None
    ) -> Score:
        score = super().__new__(cls, _finite("value", value))
        if not isinstance(feedback, str):
            raise MetricError(
                f"Score's feedback must be text, got {feedback!r} ({type(feedback).__name__}); "
                f"write Score({float(score)}, str(...))."
            )
        if objectives is not None and not isinstance(objectives, Mapping):
            raise MetricError(
                f"Score's objectives must be a mapping of names to numbers, got {objectives!r} "
                f"({type(objectives).__name__}); write Score({float(score)}, objectives={{'recall': 0.5}})."
            )
        score.feedback = feedback
        score.objectives = {
            name: _finite(f"objectives[{name!r}]", number) for name, number in (objectives or {}).items()
        }
        return score

    @property
    def value(self) -> float:
        """The bare number."""
        return float(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"value": float(self), "feedback": self.feedback, "objectives": dict(self.objectives)}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (float(self), self.feedback, self.objectives))

    def __repr__(self) -> str:
        parts = [repr(float(self))]
        if self.feedback:
            parts.append(repr(self.feedback))
        if self.objectives:
            parts.append(f"objectives={self.objectives!r}")
        return f"Score({', '.join(parts)})"


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, str | bytes) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise MetricError(
            f"Score's {name} must be a finite number, got {value!r} ({type(value).__name__}); "
            f"write Score(0.0, 'why') when the answer cannot be judged."
        )
    return number


def _rebuild(value: float, feedback: str, objectives: dict[str, float]) -> Score:
    return Score(value, feedback, objectives=objectives)
