"""Checks of what a model is made with; each error says what to write instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dspex.errors import DefinitionError
from dspex.lm.cache import Cache

__all__ = ["checked_cache", "checked_price", "checked_retries", "checked_timeout", "saved_options"]


def checked_retries(value: Any) -> int:
    """A count of retries, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DefinitionError(
            f"retries must be a whole number, 0 or more, not {value!r} ({type(value).__name__}); write retries=3"
        )
    return value


def checked_timeout(value: Any) -> float | None:
    """Seconds, more than 0, or ``None`` for no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or math.isnan(value):
        raise DefinitionError(
            f"timeout must be more than 0 seconds, or None for no limit, not {value!r} "
            f"({type(value).__name__}); write timeout=60"
        )
    return None if math.isinf(value) else float(value)


def checked_price(value: Any) -> tuple[float, float] | None:
    """Dollars per million tokens, read and written, or ``None``."""
    if value is None:
        return None
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(
        isinstance(part, (int, float)) and not isinstance(part, bool) and 0 <= part < math.inf for part in pair
    ):
        raise DefinitionError(
            "price must be two numbers, dollars per million tokens read and written, or None when it is not "
            f"known, not {value!r} ({type(value).__name__}); write for example price=(0.15, 0.60)"
        )
    return (float(pair[0]), float(pair[1]))


def checked_cache(value: Any) -> bool | Cache:
    """``True``, ``False`` (or ``None``), or a `Cache`."""
    if value is None:
        return False
    if isinstance(value, (bool, Cache)):
        return value
    raise DefinitionError(
        f"cache must be True, False or a dspex.lm.Cache, not {value!r} ({type(value).__name__}); "
        'for a file of your own write cache=dspex.lm.Cache("answers.db")'
    )


def saved_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that a saved model was made with."""
    price = data.get("price")
    return {
        "cache": data.get("cache", False),
        "retries": data.get("retries", 3),
        "timeout": data.get("timeout", 60.0),
        "price": None if price is None else tuple(price),
        **data.get("params", {}),
    }
