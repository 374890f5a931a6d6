"""Types in the words of a prompt: what to write for a value, as short as it can be said."""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from dspex.adapters.candidates import is_structured
from dspex.adapters.types import bare_type, record_fields, record_names
from dspex.types import Code

__all__ = ["json_shape", "value_hint"]

_SCALARS: Final[tuple[tuple[type, str, str], ...]] = (
    # The type, how it is written in free text, what it is in JSON.
    (bool, "true or false", "boolean"),
    (int, "a whole number", "integer"),
    (float, "a number", "number"),
    (Decimal, "a number", "number"),
    (str, "", "string"),
    (datetime, "a date and time, YYYY-MM-DDTHH:MM:SS", '"YYYY-MM-DDTHH:MM:SS"'),
    (date, "a date, YYYY-MM-DD", '"YYYY-MM-DD"'),
    (time, "a time, HH:MM:SS", '"HH:MM:SS"'),
    (timedelta, "a duration, [days] HH:MM:SS", '"HH:MM:SS"'),
)
_MAX_DEPTH: Final = 6


def value_hint(annotation: Any) -> str:
    """What to write for a value of this type; empty for text.

    >>> value_hint(int), value_hint(Literal["yes", "no"] | None), value_hint(list[str])
    ('a whole number', 'one of: yes, no; or null', 'JSON: [string, ...]')
    """
    annotation = bare_type(annotation)
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        arms = [arm for arm in get_args(annotation) if arm is not types.NoneType]
        optional = len(arms) < len(get_args(annotation))
        if any(is_structured(arm) for arm in arms):
            return f"JSON: {json_shape(annotation)}"
        ways = list(dict.fromkeys(value_hint(arm) or "text" for arm in arms))
        return "; or ".join([*ways, "null"] if optional else ways)
    if origin is Literal:
        return "one of: " + ", ".join(_option(option) for option in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of: " + ", ".join(_option(member) for member in annotation)
    if isinstance(annotation, type):
        if issubclass(annotation, Code):
            return annotation.prompt_hint()
        for kind, said, _ in _SCALARS:
            if issubclass(annotation, kind):
                return said
    return f"JSON: {json_shape(annotation)}" if is_structured(annotation) else ""


def json_shape(annotation: Any) -> str:
    """The JSON of this type as a sketch.

    >>> json_shape(dict[str, list[int]])
    '{string: [integer, ...]}'
    """
    return _shape(annotation, 0)


def _shape(annotation: Any, depth: int) -> str:
    annotation = bare_type(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is types.NoneType:
        return "null"
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(_shape(arm, depth) for arm in arguments))
    if origin is Literal:
        return " | ".join(_json_option(option) for option in arguments)
    cls: Any = origin or annotation
    is_class = isinstance(cls, type)
    if not is_class or cls in (Any, object):
        return "any"
    if issubclass(cls, enum.Enum):
        return " | ".join(_json_option(member) for member in cls)
    for kind, _, said in _SCALARS:
        if issubclass(cls, kind):
            return said
    fields = record_fields(cls)
    if fields is not None:
        return _record(cls, fields, depth)
    if not is_structured(annotation):
        return str(cls.__name__)
    if depth >= _MAX_DEPTH:
        return "..."
    if issubclass(cls, Mapping):
        key, value = arguments if len(arguments) == 2 else (str, Any)
        return f"{{{_shape(key, depth + 1)}: {_shape(value, depth + 1)}}}"
    if issubclass(cls, tuple) and arguments and arguments[-1] is not Ellipsis:
        return f"[{', '.join(_shape(item, depth + 1) for item in arguments)}]"
    return f"[{_shape(arguments[0] if arguments else Any, depth + 1)}, ...]"


def _record(cls: type, fields: Mapping[str, tuple[Any, bool]], depth: int) -> str:
    if depth >= _MAX_DEPTH:
        return "{...}"
    notes: dict[str, str] = {}
    if issubclass(cls, BaseModel):
        notes = {names.key: cls.model_fields[names.name].description or "" for names in record_names(cls)}
    parts = []
    for name, (kind, _) in fields.items():
        note = f" ({notes[name]})" if notes.get(name) else ""
        parts.append(f'"{name}": {_shape(kind, depth + 1)}{note}')
    return f"{{{', '.join(parts)}}}"


def _option(option: Any) -> str:
    plain = option.value if isinstance(option, enum.Enum) else option
    return plain if isinstance(plain, str) else json.dumps(plain, default=str)


def _json_option(option: Any) -> str:
    plain = option.value if isinstance(option, enum.Enum) else option
    return json.dumps(plain, ensure_ascii=False, default=str)
