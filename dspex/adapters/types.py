"""Questions about types that reading and describing values both ask."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, NewType, TypeVar, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, RootModel, TypeAdapter
from pydantic.fields import FieldInfo

__all__ = ["FieldNames", "bare_type", "is_union", "record_fields", "record_names", "type_adapter"]


class FieldNames(NamedTuple):
    """What a field of a record is called: ``name`` in Python, ``key`` where pydantic reads it, ``dumped`` where it
    writes it, and ``others`` where pydantic reads it as well."""

    name: str
    key: str
    dumped: str
    others: tuple[str, ...] = ()


def bare_type(annotation: Any) -> Any:
    """``annotation`` without `Annotated`, `NewType`, type aliases and root models around it."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__") and type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif isinstance(annotation, TypeVar):
            annotation = annotation.__bound__ or Any
        elif isinstance(annotation, type) and issubclass(annotation, RootModel) and annotation is not RootModel:
            annotation = annotation.model_fields["root"].annotation
        else:
            return annotation


def is_union(annotation: Any) -> bool:
    """Whether ``annotation`` is ``A | B``, however it is written."""
    return get_origin(annotation) in (Union, types.UnionType)


@functools.lru_cache(maxsize=512)
def record_fields(cls: Any) -> Mapping[str, tuple[Any, bool]] | None:
    """The fields of a pydantic model, dataclass, TypedDict or NamedTuple, by the key that pydantic expects:
    their types and whether they must be given. None for any other type."""
    fields = _fields(cls)
    if fields is None:
        return None
    keys = {names.name: names.key for names in record_names(cls)}
    return {keys.get(name, name): field for name, field in fields.items()}


@functools.lru_cache(maxsize=512)
def record_names(cls: Any) -> tuple[FieldNames, ...]:
    """What the fields of a record are called, in their order; nothing for any other type."""
    fields = _fields(cls)
    if fields is None:
        return ()
    config = getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    by_alias = config.get("validate_by_alias") is not False
    aliases = _aliases(cls)
    found = []
    for name in fields:
        read, dumped = aliases.get(name, (None, None))
        keys = _single(read) if by_alias else []
        found.append(FieldNames(name, keys[0] if keys else name, dumped or name, tuple(keys[1:])))
    return tuple(found)


def _fields(cls: Any) -> dict[str, tuple[Any, bool]] | None:
    """The types of the fields of a record and whether they must be given, by their names in Python."""
    if issubclass(cls, BaseModel):
        if cls.__pydantic_root_model__:
            return None
        return {name: (info.annotation, info.is_required()) for name, info in cls.model_fields.items()}
    if dataclasses.is_dataclass(cls):
        hints = _hints(cls)
        return {
            field.name: (hints.get(field.name, Any), _required(field))
            for field in dataclasses.fields(cls)
            if field.init
        }
    if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
        hints = _hints(cls)
        qualified = _hints(cls, include_extras=True)
        return {name: (hint, _must_be(qualified[name], name in cls.__required_keys__)) for name, hint in hints.items()}
    if issubclass(cls, tuple) and hasattr(cls, "_field_defaults") and hasattr(cls, "_fields"):
        hints = _hints(cls)
        return {name: (hints.get(name, Any), name not in cls._field_defaults) for name in cls._fields}
    return None


def _required(field: dataclasses.Field[Any]) -> bool:
    if isinstance(field.default, FieldInfo):
        return field.default.is_required()
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _aliases(cls: Any) -> dict[str, tuple[Any, str | None]]:
    """Under which aliases pydantic reads and writes the fields of a record, by their names."""
    if issubclass(cls, BaseModel):
        return {name: (info.validation_alias, info.serialization_alias) for name, info in cls.model_fields.items()}
    try:
        schema: Any = type_adapter(cls).core_schema
    except Exception:  # a class that pydantic cannot complete yet, whatever it raises then
        return {}
    defined = {one.get("ref"): one for one in schema.get("definitions", ())}
    while "fields" not in schema or schema["type"] == "dataclass":
        if schema["type"] == "definition-ref":
            schema = defined[schema["schema_ref"]]
        elif schema["type"] == "arguments":  # of a NamedTuple, before pydantic 2.14
            return {one["name"]: (one.get("alias"), None) for one in schema["arguments_schema"]}
        elif (inner := schema.get("schema") or schema.get("arguments_schema")) is not None:
            schema = inner
        else:
            return {}
    fields = schema["fields"]
    named = fields.items() if isinstance(fields, dict) else ((one["name"], one) for one in fields)
    return {name: (one.get("validation_alias"), one.get("serialization_alias")) for name, one in named}


def _single(alias: Any) -> list[str]:
    """The keys among the aliases under which pydantic reads a field; the others are paths into what holds it."""
    if isinstance(alias, AliasChoices | AliasPath):
        alias = alias.convert_to_aliases()
    if isinstance(alias, str):
        return [alias]
    paths: Iterable[Any] = [alias] if alias and not isinstance(alias[0], list) else alias or ()
    return [path[0] for path in paths if isinstance(path, list) and len(path) == 1 and isinstance(path[0], str)]


def _must_be(qualified: Any, usually: bool) -> bool:
    # Where annotations are texts, Python does not see the qualifiers in time for `__required_keys__`.
    while (origin := get_origin(qualified)) is Annotated:
        qualified = get_args(qualified)[0]
    return {typing.Required: True, typing.NotRequired: False}.get(origin, usually)


def _hints(cls: Any, *, include_extras: bool = False) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=include_extras)
    except Exception:  # names that only pydantic, which saw the class being made, can resolve
        return {}


@functools.lru_cache(maxsize=2048)
def _hashable_adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def type_adapter(annotation: Any) -> TypeAdapter[Any]:
    """The adapter of a type, made once."""
    try:
        return _hashable_adapter(annotation)
    except TypeError:
        return TypeAdapter(annotation)
