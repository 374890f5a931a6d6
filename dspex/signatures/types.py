"""Types as text: how a person writes them, and whether they need pydantic to be understood."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Union

__all__ = ["is_plain_type", "type_text"]

_PLAIN: Final = frozenset(
    {str, int, float, bool, bytes, list, dict, tuple, set, frozenset, object, type(None)}
)
_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset})


def is_plain_type(annotation: Any) -> bool:
    """Whether pydantic is sure to understand ``annotation``: scalars, containers, ``Literal`` and unions."""
    if annotation is None or annotation is Any or annotation is Ellipsis:
        return True
    origin = typing.get_origin(annotation)
    if origin is None:
        return isinstance(annotation, type) and annotation in _PLAIN
    if origin is Literal:
        return not any(isinstance(value, enum.Enum) for value in typing.get_args(annotation))
    if origin in _CONTAINERS or _is_union(origin):
        return all(is_plain_type(argument) for argument in typing.get_args(annotation))
    return False


def type_text(annotation: Any, *, name_of: Callable[[Any], str] | None = None) -> str:
    """``annotation`` as one writes it; ``name_of`` names the classes (by default by their own name).

    >>> type_text(dict[str, list[int]]), type_text(typing.Optional[Literal["yes", "no"]])
    ('dict[str, list[int]]', "Literal['yes', 'no'] | None")
    """
    named = name_of or _own_name
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    if annotation is Any:
        return "Any"
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    origin = typing.get_origin(annotation)
    if origin is None:
        return named(annotation)
    arguments = typing.get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(_literal(value, named) for value in arguments)}]"
    if origin is Annotated:
        return type_text(arguments[0], name_of=name_of)
    if _is_union(origin):
        return " | ".join(type_text(argument, name_of=name_of) for argument in arguments)
    inner = ", ".join(
        f"[{', '.join(type_text(item, name_of=name_of) for item in argument)}]"
        if isinstance(argument, list)
        else type_text(argument, name_of=name_of)
        for argument in arguments
    )
    return f"{named(origin)}[{inner or '()'}]"


def _is_union(origin: Any) -> bool:
    return origin is Union or origin is types.UnionType


def _literal(value: Any, named: Callable[[Any], str]) -> str:
    return f"{named(type(value))}.{value.name}" if isinstance(value, enum.Enum) else repr(value)


def _own_name(value: Any) -> str:
    name = getattr(value, "__name__", None) or getattr(value, "_name", None)
    return name if isinstance(name, str) else repr(value).removeprefix("typing.")
