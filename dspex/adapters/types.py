"""Questions about types that reading and describing values both ask."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NewType, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, TypeAdapter

__all__ = ["bare_type", "is_union", "record_fields", "type_adapter"]


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
    if issubclass(cls, BaseModel):
        if cls.__pydantic_root_model__:
            return None
        return {
            (info.validation_alias if isinstance(info.validation_alias, str) else info.alias or name): (
                info.annotation,
                info.is_required(),
            )
            for name, info in cls.model_fields.items()
        }
    if dataclasses.is_dataclass(cls):
        hints = _hints(cls)
        return {
            field.name: (
                hints.get(field.name, Any),
                field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(cls)
            if field.init
        }
    if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
        return {name: (hint, name in cls.__required_keys__) for name, hint in _hints(cls).items()}
    if issubclass(cls, tuple) and hasattr(cls, "_field_defaults") and hasattr(cls, "_fields"):
        hints = _hints(cls)
        return {name: (hints.get(name, Any), name not in cls._field_defaults) for name in cls._fields}
    return None


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
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
