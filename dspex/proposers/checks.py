"""Checks of arguments that proposers and optimizers share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dspex.errors import DefinitionError

__all__ = ["check_number", "check_sizes", "check_whole"]


def check_whole(name: str, value: Any, least: int | None) -> None:
    """Raise `DefinitionError` when ``value`` is no whole number, or is below ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        limit = "" if least is None else f" from {least} on"
        raise DefinitionError(
            f"{name} must be a whole number{limit}, got {value!r} ({type(value).__name__}); write for example "
            f"{name}={max(least or 0, 8)}"
        )


def check_number(name: str, value: Any, *, example: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise `DefinitionError` when ``value`` is no number, or does not lie from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        limits = "" if math.isinf(low) and math.isinf(high) else f" from {low:g} to {high:g}"
        raise DefinitionError(
            f"{name} must be a number{limits}, got {value!r} ({type(value).__name__}); write for example "
            f"{name}={example:g}"
        )


def check_sizes(sizes: Any) -> None:
    """Raise `DefinitionError` when ``sizes`` is neither None nor a sequence of whole numbers from 1 on."""
    if sizes is None:
        return
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise DefinitionError(
            f"sizes must be a list of whole numbers, got {sizes!r} ({type(sizes).__name__}); write for example "
            "sizes=[2, 4]"
        )
    for position, size in enumerate(sizes):
        check_whole(f"sizes[{position}]", size, 1)
