"""The keys of records: pydantic may write a field under another key than the one where it reads it."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, get_args, get_origin

from pydantic import RootModel

from dspex.adapters.types import FieldNames, bare_type, is_union, record_fields, record_names, type_adapter

__all__ = ["as_read"]


def as_read(annotation: Any, value: Any, data: Any) -> Any:
    """``data``, which is ``value`` in JSON, with the keys under which a value of the type is read; a NamedTuple
    is an object, as a prompt asks for it.

    ``value`` may be plain data itself, such as the label of a demo that was saved.

    >>> from pydantic import BaseModel, Field
    >>> class Sum(BaseModel):
    ...     total: int = Field(validation_alias="sum", serialization_alias="result")
    >>> as_read(list[Sum], [Sum(sum=3)], [{"result": 3}])
    [{'sum': 3}]
    """
    while isinstance(value, RootModel):
        value = value.root
    if not isinstance(data, dict | list):
        return data
    cls: Any = type(value)
    if names := record_names(cls):
        return _record(cls, names, value, data)
    bare = bare_type(annotation)
    if is_union(bare):
        return _arm(get_args(bare), value, data)
    origin: Any = get_origin(bare) or bare
    arguments = get_args(bare)
    if isinstance(origin, type) and (names := record_names(origin)):
        return _record(origin, names, value, data)
    if isinstance(value, Mapping) and isinstance(data, dict) and len(value) == len(data):
        kind = arguments[1] if len(arguments) == 2 else Any
        return {key: as_read(kind, one, data[key]) for key, one in zip(data, value.values(), strict=True)}
    if isinstance(value, Sequence | Set) and isinstance(data, list) and len(value) == len(data):
        kinds = arguments if origin is tuple and Ellipsis not in arguments else arguments[:1] * len(data)
        kinds = kinds if len(kinds) == len(data) else (Any,) * len(data)
        return [as_read(kind, *pair) for kind, *pair in zip(kinds, value, data, strict=True)]
    return data


def _arm(arms: Iterable[Any], value: Any, data: Any) -> Any:
    for arm in sorted((arm for arm in arms if arm is not types.NoneType), key=lambda arm: _strangers(arm, data)):
        found = as_read(arm, value, data)
        try:
            type_adapter(arm).validate_python(found)
        except Exception:  # pydantic's verdict, or a validator of the user's own type
            continue
        return found
    return data


def _strangers(annotation: Any, data: Any) -> int:
    """How many keys of ``data`` are none of the record."""
    bare = bare_type(annotation)
    origin: Any = get_origin(bare) or bare
    names = record_names(origin) if isinstance(origin, type) else ()
    known = {spelling for name in names for spelling in (name.dumped, name.name, name.key)}
    return sum(key not in known for key in data) if names and isinstance(data, dict) else 0


def _record(cls: Any, names: tuple[FieldNames, ...], value: Any, data: Any) -> Any:
    fields = record_fields(cls) or {}
    if isinstance(data, list):
        if not issubclass(cls, tuple) or len(data) > len(names) or len(data) != len(value):
            return data
        items = zip(names, value, data, strict=False)
        return {name.key: as_read(fields[name.key][0], *pair) for name, *pair in items}
    # Pydantic wrote a record, and a TypedDict; plain data was written as the prompt says, or by any other means.
    dumped = issubclass(cls, dict) or isinstance(value, cls)
    sure = {name.dumped if dumped else name.key: name for name in names}
    taken = {sure[key].key for key in data if key in sure}
    likely = {spelling: name for name in names for spelling in (name.dumped, name.name, name.key)}
    computed = getattr(cls, "model_computed_fields", ())  # what was saved has them
    renamed = {}
    for key, one in data.items():
        name = sure.get(key) or likely.get(key)
        if name is None or (key not in sure and name.key in taken):
            if key not in computed:
                renamed[key] = one
            continue
        if isinstance(value, Mapping):
            inner = value.get(name.name, value.get(key)) if dumped else value.get(key)
        else:
            inner = getattr(value, name.name, None)
        renamed[name.key] = as_read(fields[name.key][0], inner, one)
    return renamed
