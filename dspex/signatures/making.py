"""The parts of a signature that is put together by hand: instructions, fields, their types."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from dspex.errors import DefinitionError
from dspex.signatures.checks import checked_field
from dspex.signatures.fields import Field, FieldSpec
from dspex.signatures.parser import parse_type
from dspex.signatures.scope import Scope, is_type

__all__ = ["default_instructions", "made_annotation", "made_field", "written_instructions"]


def written_instructions(instructions: str) -> str | None:
    if not isinstance(instructions, str):
        raise DefinitionError(
            f"instructions are text, got {instructions!r} ({type(instructions).__name__}); "
            f"write Signature('question -> answer', 'Answer the question.')."
        )
    return inspect.cleandoc(instructions).strip() or None


def made_field(name: str, field: Any, type_: Any) -> Field:
    if isinstance(field, Field):
        spec = FieldSpec(
            is_input=field.is_input,
            desc=field.desc,
            prefix=field.prefix if field.name == name else "",
            default=field.default,
            constraints=field.constraints,
        )
        annotation = field.annotation
    elif isinstance(field, FieldSpec):
        spec, annotation = field, str
    else:
        raise DefinitionError(
            f"field {name!r} must be InputField(...) or OutputField(...), "
            f"got {field!r} ({type(field).__name__})."
            f"\nWrong:  .append({name!r}, {getattr(field, '__name__', field)})"
            f"\nRight:  .append({name!r}, OutputField(), {getattr(field, '__name__', 'str')})"
        )
    if type_ is not None:
        annotation = made_annotation(name, type_)
    if not isinstance(name, str) or not name.isidentifier():
        raise DefinitionError(
            f"a field's name must be an identifier, got {name!r} ({type(name).__name__}); write 'answer'."
        )
    return checked_field(Field.make(name, annotation, spec))


def made_annotation(name: str, type_: Any) -> Any:
    if isinstance(type_, str):
        return parse_type(type_, Scope(), name=f"the type of {name!r}")
    if not is_type(type_):
        raise DefinitionError(
            f"the type of {name!r} must be a type or its text, got {type_!r} ({type(type_).__name__}); "
            f"write int, 'list[str]' or Literal['yes', 'no']."
        )
    return type_


def default_instructions(inputs: Iterable[str], outputs: Iterable[str]) -> str:
    asked = ", ".join(f"`{name}`" for name in outputs)
    given = ", ".join(f"`{name}`" for name in inputs)
    return f"Given the fields {given}, produce the fields {asked}." if given else f"Produce the fields {asked}."
