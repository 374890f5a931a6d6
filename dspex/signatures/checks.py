"""What a signature cannot be, said where it is written: taken names, undeclared fields, stray attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.data.example import RESERVED_EXAMPLE_FIELDS
from dspex.data.prediction import RESERVED_PREDICTION_FIELDS
from dspex.errors import DefinitionError
from dspex.signatures.fields import Field, FieldSpec
from dspex.signatures.types import type_text

__all__ = ["ClassBody", "check_body", "checked_field"]


class ClassBody(dict[str, Any]):
    """The names of a class statement; a field declared twice would otherwise vanish without a word."""

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, FieldSpec) and isinstance(self.get(name), FieldSpec):
            raise DefinitionError(
                f"there are two fields named {name!r} in one signature."
                f"\nWrong:  {name} = {self[name]!r} ... {name} = {value!r}"
                f"\nRight:  two names, one per field"
            )
        super().__setitem__(name, value)


def checked_field(field: Field) -> Field:
    """``field``, when its name is one that examples and predictions can have."""
    name = field.name
    kind = "input" if field.is_input else "output"
    for taken, owner in ((RESERVED_EXAMPLE_FIELDS, "Example"), (RESERVED_PREDICTION_FIELDS, "Prediction")):
        # Inputs never become fields of a prediction; outputs become fields of both, as labels.
        if name in taken and (owner == "Example" or not field.is_input):
            raise DefinitionError(
                f"the {kind} {name!r} cannot have that name, because {owner.lower()}.{name} is part of "
                f"{owner} itself."
                f"\nWrong:  {name}: {field.type_name}"
                f"\nRight:  record_{name}: {field.type_name}, or any other name"
            )
    if name.startswith("__"):
        raise DefinitionError(f"the {kind} {name!r} cannot begin with two underscores; write {name.strip('_')!r}.")
    return field


def check_body(owner: str, body: Mapping[str, Any], annotations: Mapping[str, Any], *, taken: frozenset[str]) -> None:
    """Refuse what a class statement says beside its fields, unless it is private, a method or a class.

    ``taken`` are the names that every signature has already.
    """
    for name, annotation in annotations.items():
        if name not in body and not name.startswith("_") and not _is_class_variable(annotation):
            raise _undeclared(owner, name, annotation)
    for name, value in body.items():
        if name.startswith("_") or isinstance(value, FieldSpec):
            continue
        if name in taken:
            raise DefinitionError(
                f"{owner}.{name} = {value!r}: every signature has {name!r} of its own."
                f"\nRight:  write the instructions as the docstring, and a field as "
                f"{name}: str = OutputField()"
            )
        if not callable(value) and not hasattr(value, "__get__") and not _is_class_variable(annotations.get(name)):
            raise DefinitionError(
                f"{owner}.{name} = {value!r} ({type(value).__name__}) is neither an input nor an output."
                f"\nWrong:  {name} = {value!r}"
                f"\nRight:  {name}: str = InputField(), {name}: str = OutputField() "
                f"or {name}: ClassVar[...] = ..."
            )


def _undeclared(owner: str, name: str, annotation: Any) -> DefinitionError:
    kind = annotation if isinstance(annotation, str) else type_text(annotation)
    return DefinitionError(
        f"{owner}.{name} does not say whether it is an input or an output."
        f"\nWrong:  {name}: {kind}"
        f"\nRight:  {name}: {kind} = InputField()   or   {name}: {kind} = OutputField()"
    )


def _is_class_variable(annotation: Any) -> bool:
    text = annotation if isinstance(annotation, str) else repr(annotation)
    return text.partition("[")[0].endswith("ClassVar")
