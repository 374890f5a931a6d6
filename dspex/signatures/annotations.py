"""Annotations of class signatures: strings and forward references become types."""

from __future__ import annotations

import builtins
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, cast

from dspex.errors import DefinitionError
from dspex.signatures.scope import Scope, is_type

__all__ = ["resolve_annotation"]


def resolve_annotation(annotation: Any, scope: Scope, *, name: str, owner: str) -> Any:
    """``annotation`` of the field ``name`` with nothing left in quotes; raises `DefinitionError` naming both.

    >>> resolve_annotation("list[int]", Scope(), name="ids", owner="Extract")
    list[int]
    """
    if isinstance(annotation, str):
        found = _evaluate(annotation, scope, name, owner)
    elif isinstance(annotation, typing.ForwardRef):
        found = _evaluate(annotation.__forward_arg__, scope, name, owner)
    else:
        found = annotation
    if not is_type(found):
        raise DefinitionError(
            f"{owner}.{name}: {found!r} ({type(found).__name__}) is not a type."
            f"\nRight:  {name}: str, {name}: list[int], {name}: Literal['yes', 'no']"
        )
    return _inside(found, scope, name, owner)


def _inside(annotation: Any, scope: Scope, name: str, owner: str) -> Any:
    origin = typing.get_origin(annotation)
    if origin is None or origin is Literal:
        return annotation
    arguments = typing.get_args(annotation)
    count = 1 if origin is Annotated else len(arguments)
    resolved = (
        *(
            resolve_annotation(argument, scope, name=name, owner=owner)
            if isinstance(argument, str | typing.ForwardRef)
            else _inside(argument, scope, name, owner)
            for argument in arguments[:count]
        ),
        *arguments[count:],
    )
    if all(new is old for new, old in zip(resolved, arguments, strict=True)):
        return annotation
    if origin is types.UnionType or origin is Union:
        return Union[resolved]  # noqa: UP007 - the members are known only now
    if origin is Annotated:
        return Annotated[resolved]
    return origin[resolved]


def _evaluate(text: str, scope: Scope, name: str, owner: str) -> Any:
    try:
        # The class statement's own source, as Python would have evaluated it there.
        found = eval(text, {"__builtins__": builtins}, cast("Mapping[str, object]", scope))
    except NameError as error:
        missing = error.name or str(error)
        close = difflib.get_close_matches(missing, scope.names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "import it, or define it above the class that uses it."
        raise DefinitionError(
            f"{owner}.{name}: there is no type {missing!r} here, in `{name}: {text}`; {hint}"
        ) from None
    except Exception as error:
        raise DefinitionError(f"{owner}.{name}: `{text}` is no type: {error}") from error
    if isinstance(found, str | typing.ForwardRef):
        return resolve_annotation(found, scope, name=name, owner=owner)
    return found
