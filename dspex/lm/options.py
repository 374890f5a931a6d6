"""Checks of what a model is made with; each error says what to write instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dspex.errors import DefinitionError
from dspex.execution.deadline import Deadline
from dspex.execution.settings import CACHE_POLICIES
from dspex.lm.cache import Cache

if TYPE_CHECKING:
    from dspex.lm.base import BaseLM

__all__ = [
    "checked_cache",
    "checked_capabilities",
    "checked_count",
    "checked_deadline",
    "checked_fallbacks",
    "checked_limit",
    "checked_period",
    "checked_price",
    "checked_retries",
    "checked_seconds",
    "checked_timeout",
    "saved_options",
]


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


def checked_deadline(value: Any) -> float | None:
    """Seconds, more than 0, or ``None`` for no limit."""
    return None if value is None else Deadline(value).seconds


def checked_count(name: str, value: Any) -> int | None:
    """A whole number, 1 or more, or ``None``."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise DefinitionError(
        f"{name} must be a whole number, 1 or more, or None, not {value!r} ({type(value).__name__}); write {name}=16"
    )


def checked_seconds(name: str, value: Any) -> float:
    """Seconds, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise DefinitionError(
            f"{name} must be a number of seconds from 0 on, not {value!r} ({type(value).__name__}); write {name}=10"
        )
    return float(value)


def checked_period(name: str, value: Any) -> float:
    """Seconds between two questions, more than 0."""
    if value == 0 and not isinstance(value, bool):
        raise DefinitionError(f"{name} must be more than 0 seconds, not {value!r}: it is a pause; write {name}=10")
    return checked_seconds(name, value)


def checked_limit(name: str, value: Any) -> int | None:
    """A whole number, 1 or more, or ``None`` for the provider's."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise DefinitionError(
            f"{name} must be a whole number, 1 or more, or None for the provider's limit, not {value!r} "
            f"({type(value).__name__}); write {name}=1000"
        )
    return value


def checked_fallbacks(value: Any) -> tuple[BaseLM, ...]:
    """Models."""
    several = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    for one in several:
        if not hasattr(one, "generate") or isinstance(one, type):
            raise DefinitionError(
                f"fallbacks must be models, not {one!r} ({type(one).__name__}); "
                'write for example fallbacks=[dspex.LM("openai/gpt-4o-mini")]'
            )
    return tuple(several)


def checked_capabilities(value: Any) -> frozenset[str] | None:
    """Names, or ``None`` for what litellm knows."""
    if value is None:
        return None
    names: list[Any] = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [None]
    if not all(isinstance(name, str) for name in names):
        raise DefinitionError(
            f"capabilities must be names, not {value!r} ({type(value).__name__}); "
            'write for example capabilities=["json_schema", "tools"]'
        )
    return frozenset(names)


def checked_cache(value: Any) -> tuple[bool | Cache, str]:
    """Where answers are kept (``True``: where all are, ``False``: nowhere), and what calls do with it."""
    if value is None:
        return False, "on"
    if isinstance(value, (bool, Cache)):
        return value, "on"
    if isinstance(value, str) and value in CACHE_POLICIES:
        return True, value
    raise DefinitionError(
        f"cache must be True, False, a dspex.lm.Cache or one of {', '.join(map(repr, CACHE_POLICIES))}, "
        f"not {value!r} ({type(value).__name__}); "
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
        "deadline": data.get("deadline"),
        "max_concurrency": data.get("max_concurrency"),
        "breaker": data.get("breaker"),
        **data.get("params", {}),
    }
