"""Bringing what a model wrote into the shape of a type.

`read_value` is the way in. It goes through the `candidates`, best first, and lets pydantic decide: the first one that
validates is the value. So leniency never weakens a type: nothing gets through that pydantic would refuse.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dspex.adapters.candidates import candidates, is_numeric
from dspex.adapters.scalars import find_number

__all__ = ["Unreadable", "read_value"]


class Unreadable(Exception):  # noqa: N818 - a verdict that becomes part of a ParseError, never an error itself
    """Text that is no value of the type; the message is the reason, for the end of a sentence."""


def read_value(annotation: Any, adapter: TypeAdapter[Any], value: Any) -> Any:
    """``value`` (the text of a field, or what JSON held there) as a value that ``adapter`` accepts.

    Raises `Unreadable` when no candidate validates.
    """
    reason: str | None = None
    settled = False
    for candidate in candidates(annotation, value):
        try:
            return _validated(adapter, candidate)
        except ValidationError as error:
            if not settled:
                # What is wrong with the best guess says more than what is wrong with the bare text.
                reason, settled = _reason(error), candidate is not value
        except RecursionError:
            reason, settled = "it is nested too deeply", True
        except Exception as error:  # of a validator of the user's own, which may raise anything
            reason, settled = f"its validator raised {type(error).__name__}: {error}", True
    if isinstance(value, str) and "%" in value and is_numeric(annotation):
        return _percentage(adapter, value, reason)
    raise Unreadable(reason or "there is nothing that could be read")


def _validated(adapter: TypeAdapter[Any], candidate: Any) -> Any:
    try:
        return adapter.validate_python(candidate)
    except ValidationError:
        # A strict type takes "5" for an int from text only, and "2026-05-01" for a date from JSON only.
        try:
            if isinstance(candidate, str):
                return adapter.validate_strings(candidate)
            if isinstance(candidate, list | dict):
                return adapter.validate_json(json.dumps(candidate))
        except (ValidationError, TypeError, ValueError):
            pass
        raise


def _percentage(adapter: TypeAdapter[Any], text: str, reason: str | None) -> Any:
    # "85%" of a number that must be at most 1 is .85.
    try:
        return adapter.validate_python(float(find_number(text)) / 100)
    except (ValueError, TypeError):
        raise Unreadable(reason or "there is no number in it") from None


def _reason(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    parts = []
    for one in found[:3]:
        place = ".".join(str(part) for part in one["loc"])
        parts.append(f"{place}: {one['msg']}" if place else one["msg"])
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return "; ".join(parts) + more
