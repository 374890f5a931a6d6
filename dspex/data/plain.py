"""Turning any value of an example or prediction into plain JSON data, without importing pydantic or numpy."""

from __future__ import annotations

import base64
import dataclasses
import enum
import keyword
import math
import pathlib
from collections.abc import Mapping, Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from dspex.errors import DataError

__all__ = ["keywords_text", "plain_data"]

_SCALARS = frozenset({str, int, bool, type(None)})


def plain_data(value: Any, *, name: str = "value") -> Any:
    """``value`` as dicts, lists, strings, numbers, booleans and ``None``.

    Pydantic models, dataclasses, enums, dates, sets, bytes and numpy values have one obvious plain form; a
    class of one's own gets one with a ``to_json()`` method. A value keeps its form when it is plain already,
    so an example and its reloaded copy have the same content id.

    Raises `DataError` naming the place when there is no such form.

    >>> plain_data({"when": date(2026, 5, 1), "tags": {"b", "a"}})
    {'when': '2026-05-01', 'tags': ['a', 'b']}
    """
    cls = type(value)
    if cls in _SCALARS:
        return value
    if cls is float:
        # JSON has no word for these.
        return value if math.isfinite(value) else repr(value)
    if cls is list or cls is tuple:
        return [
            item if type(item) in _SCALARS else plain_data(item, name=f"{name}[{index}]")
            for index, item in enumerate(value)
        ]
    if cls is dict:
        return {
            _key(key, name): item if type(item) in _SCALARS else plain_data(item, name=f"{name}[{key!r}]")
            for key, item in value.items()
        }
    return _rich(value, name)


def keywords_text(fields: Mapping[str, Any]) -> str:
    """``fields`` as the arguments of a call: as keywords, or as a dict when some name is no keyword.

    >>> keywords_text({"a": 1}), keywords_text({"First name": "Ada"})
    ('a=1', "{'First name': 'Ada'}")
    """
    if all(name.isidentifier() and not keyword.iskeyword(name) for name in fields):
        return ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return repr(dict(fields))


def _key(key: Any, name: str) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        # As json.dumps spells them.
        return "null" if key is None else "true" if key else "false"
    return str(plain_data(key, name=f"a key of {name}"))


def _rich(value: Any, name: str) -> Any:
    if isinstance(value, enum.Enum):
        return plain_data(value.value, name=name)
    for scalar in (str, bool, int, float):
        if isinstance(value, scalar):
            return plain_data(scalar(value), name=name)
    to_json = getattr(value, "to_json", None)
    if callable(to_json) and not isinstance(value, type):
        return plain_data(to_json(), name=name)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: plain_data(getattr(value, f.name), name=f"{name}.{f.name}") for f in fields}
    if hasattr(type(value), "__attrs_attrs__"):
        fields = type(value).__attrs_attrs__
        return {f.name: plain_data(getattr(value, f.name), name=f"{name}.{f.name}") for f in fields}
    if isinstance(value, Mapping):
        return plain_data(dict(value), name=name)
    if isinstance(value, AbstractSet):
        # Sets have no order: one is chosen that does not depend on the hash seed.
        return sorted((plain_data(item, name=f"an item of {name}") for item in value), key=_sort_key)
    if isinstance(value, tuple | list):
        return plain_data(list(value), name=name)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal | UUID | pathlib.PurePath):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return plain_data(tolist(), name=name)
    raise DataError(
        f"{name} is {_shortened(value)} ({_qualified(type(value))}), which has no plain JSON form, so it can "
        f"be neither identified nor stored. Give {type(value).__name__} a method `to_json(self)` that "
        f"returns plain data, or put plain data (text, numbers, lists, dicts) in the field."
    )


def _sort_key(item: Any) -> tuple[str, str]:
    return (type(item).__name__, repr(item))


def _qualified(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
