"""What several pruners ask of their arguments and of a trial's steps."""

from __future__ import annotations

import math
from typing import Any

from dspex.errors import StudyError
from dspex.trials import FrozenTrial

__all__ = ["first_in_interval", "number_in"]


def number_in(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """``value`` as a float, when it is a number from ``low`` to ``high``.

    Raises:
        StudyError: when it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f">= {low:g}" if math.isfinite(low) else ""
        wanted = " ".join(["a number", bounds] if bounds else ["a number"])
        raise StudyError(f"{name} must be {wanted}, got {value!r} ({type(value).__name__})")
    return float(value)


def first_in_interval(trial: FrozenTrial, *, warmup: int, interval: int) -> bool:
    """Whether the last step is past the warm-up, and the first that was reported in its interval.

    Intervals have ``interval`` steps and are counted from the end of the warm-up.
    """
    step = trial.last_step
    if step is None or step < warmup:
        return False
    begins = step - (step - warmup) % interval
    return not any(begins <= other < step for other in trial.intermediate_values)
