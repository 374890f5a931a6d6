"""Checks that all optimizers share."""

from __future__ import annotations

from typing import Any

from dspex.errors import DefinitionError

__all__ = ["check_whole"]


def check_whole(name: str, value: Any, least: int | None) -> None:
    """Raise `DefinitionError` when ``value`` is no whole number, or is below ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        limit = "" if least is None else f" from {least} on"
        raise DefinitionError(
            f"{name} must be a whole number{limit}, got {value!r} ({type(value).__name__}); write for example "
            f"{name}={max(least or 0, 8)}"
        )
