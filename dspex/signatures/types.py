"""Types as text: how a person writes them, and whether they need pydantic to be understood."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Literal, Union

__all__ = ["is_plain_type", "metadata_in", "normalised", "split_annotated", "type_text", "union_members"]

_PLAIN: Final = frozenset({str, int, float, bool, bytes, list, dict, tuple, set, frozenset, object, type(None)})
_CONTAINERS: Final = {list: 1, dict: 2, set: 1, frozenset: 1, tuple: None}


def is_plain_type(annotation: Any) -> bool:
    """Whether pydantic is sure to understand ``annotation``: scalars, containers, ``Literal`` and unions."""
    if annotation is None or annotation is Any or annotation is Ellipsis:
        return True
    origin = typing.get_origin(annotation)
    if origin is None:
        return isinstance(annotation, type) and annotation in _PLAIN
    if origin is Literal:
        return not any(isinstance(value, enum.Enum) for value in typing.get_args(annotation))
    arguments = typing.get_args(annotation)
    if origin in _CONTAINERS:
        # Python itself lets dict[str] pass.
        return _CONTAINERS[origin] in (None, len(arguments)) and all(map(is_plain_type, arguments))
    return _is_union(origin) and all(map(is_plain_type, arguments))


def normalised(annotation: Any) -> Any:
    """``annotation`` in today's spelling, so that the same type is always the same value.

    >>> normalised(typing.List[typing.Optional[int]])
    list[int | None]
    """
    origin = typing.get_origin(annotation)
    if origin is None or origin is Literal:
        return None if annotation is type(None) else annotation
    arguments = typing.get_args(annotation)
    if not arguments and not isinstance(annotation, types.GenericAlias):
        return origin
    if origin is Annotated:
        return Annotated[(normalised(arguments[0]), *arguments[1:])]
    inner = tuple(
        [normalised(item) for item in argument] if isinstance(argument, list) else normalised(argument)
        for argument in arguments
    )
    return _union(inner) if _is_union(origin) else origin[inner]


def split_annotated(annotation: Any) -> tuple[Any, str, dict[str, Any]]:
    """The type inside ``Annotated``, with the description and the constraints that were beside it.

    What is no description and no constraint (a validator) cannot be taken apart: then all stays together.

    >>> from pydantic import Field
    >>> split_annotated(Annotated[int, Field(ge=0, description="how many")])
    (<class 'int'>, 'how many', {'ge': 0})
    """
    if typing.get_origin(annotation) is not Annotated:
        return annotation, "", {}
    base, *metadata = typing.get_args(annotation)
    constraints: dict[str, Any] = {}
    try:
        descriptions = list(_descriptions(metadata, constraints))
    except LookupError:
        return annotation, "", {}
    return base, " ".join(descriptions), constraints


def union_members(annotation: Any) -> list[Any]:
    """The members of a union without ``None``, each without its parameters; of another type, itself.

    >>> union_members(list[int] | str | None)
    [<class 'list'>, <class 'str'>]
    """
    origin = typing.get_origin(annotation)
    members = typing.get_args(annotation) if _is_union(origin) else [annotation]
    return [typing.get_origin(member) or member for member in members if member not in (None, type(None))]


def metadata_in(annotation: Any) -> bool:
    """Whether there is an ``Annotated`` anywhere in ``annotation``."""
    return typing.get_origin(annotation) is Annotated or any(
        metadata_in(argument)
        for argument in typing.get_args(annotation)
        if typing.get_origin(annotation) is not Literal
    )


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


def _union(members: tuple[Any, ...]) -> Any:
    union = members[0]
    for member in members[1:]:
        try:
            union = union | member
        except TypeError:
            union = Union[union, member]  # noqa: UP007 - for members that know no |
    return union


def _descriptions(metadata: Iterable[Any], constraints: dict[str, Any]) -> Iterable[str]:
    for item in metadata:
        kind = type(item).__name__
        if isinstance(item, str):
            yield item
        elif kind == "FieldInfo":
            yield from [item.description] if item.description else []
            yield from _descriptions(item.metadata, constraints)
        elif kind in ("Ge", "Gt", "Le", "Lt", "MultipleOf", "MinLen", "MaxLen", "Strict"):
            constraints.update({name: getattr(item, name) for name in _slots(item)})
        elif kind == "_PydanticGeneralMetadata":
            constraints.update(vars(item))
        elif kind in ("Interval", "Len"):
            yield from _descriptions(item, constraints)
        else:
            raise LookupError(kind)


def _slots(item: Any) -> Iterable[str]:
    return list(getattr(type(item), "__slots__", ()) or vars(item))


def _literal(value: Any, named: Callable[[Any], str]) -> str:
    return f"{named(type(value))}.{value.name}" if isinstance(value, enum.Enum) else repr(value)


def _own_name(value: Any) -> str:
    name = getattr(value, "__name__", None) or getattr(value, "_name", None)
    return name if isinstance(name, str) else repr(value).removeprefix("typing.")
