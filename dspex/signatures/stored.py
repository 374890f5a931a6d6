"""Fields as plain data: their identity in caches, and their JSON in saved programs.

A type is stored as the text one would write, and each class in it by module and name together with its JSON
schema. Reading back imports the class; when it is gone or has changed, the error says how.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dspex.data.plain import plain_data
from dspex.errors import DataError, DefinitionError, StateError
from dspex.signatures.fields import MISSING, Field, plain_constraints
from dspex.signatures.parser import parse_type
from dspex.signatures.scope import Scope, is_type
from dspex.signatures.types import is_plain_type, metadata_in, type_text
from dspex.variables.codec import Json, content_id

__all__ = ["field_from_json", "field_to_json", "signature_key"]

_USUAL: Final = frozenset({"builtins", "typing", "types", "collections.abc"})


def signature_key(instructions: str, fields: Iterable[Field]) -> str:
    """An identity that is the same in each process for signatures that render and parse alike."""
    described: list[Any] = [instructions]
    for field in fields:
        described.append(
            [
                field.name,
                field.is_input,
                type_text(field.annotation, name_of=_qualified),
                {} if is_plain_type(field.annotation) else plain_data(field.json_schema),
                field.desc,
                field.prefix,
                plain_constraints(field),
                _plain_default(field),
            ]
        )
    return content_id(described)


def field_to_json(field: Field) -> dict[str, Json]:
    """``field`` as plain data; raises `StateError` for types whose validators are functions."""
    if metadata_in(field.annotation):
        raise StateError(
            f"field {field.name!r} cannot be stored: inside {field.type_name} there is an Annotated, which "
            f"has no plain form. Put the constraint on the field, as in {field.name}: list[int] = "
            f"OutputField(max_length=3), or make the type a pydantic model."
        )
    names: dict[str, Any] = {}
    data: dict[str, Any] = {
        "name": field.name,
        "kind": "input" if field.is_input else "output",
        "type": type_text(field.annotation, name_of=lambda cls: _unique(cls, names)),
        "desc": field.desc,
        "prefix": field.prefix,
        "constraints": plain_constraints(field),
    }
    classes = {name: cls for name, cls in names.items() if cls.__module__ not in _USUAL}
    if classes:
        data["classes"] = {name: {"ref": _qualified(cls), "schema": _schema(cls)} for name, cls in classes.items()}
    if field.default is not MISSING:
        data["default"] = plain_data(field.default, name=f"the default of input {field.name!r}")
    return data


def field_from_json(data: Mapping[str, Any], known: Mapping[str, Any]) -> Field:
    """The field that `field_to_json` wrote. ``known`` gives classes by the names used in the stored type.

    Raises `StateError` for a class that cannot be imported any more, or is another one by now.
    """
    name = str(data["name"])
    classes = {
        short: known[short] if short in known else _imported(name, short, stored)
        for short, stored in data.get("classes", {}).items()
    }
    try:
        annotation = parse_type(data["type"], Scope({**known, **classes}, frames=False), name=f"field {name!r}")
    except DefinitionError as error:
        raise StateError(f"the stored signature cannot be read: {error}") from error
    field = Field(
        name=name,
        annotation=annotation,
        is_input=data["kind"] == "input",
        desc=data["desc"],
        prefix=data["prefix"],
        constraints=dict(data["constraints"]),
    )
    if "default" not in data:
        return field
    return field.updated(default=field.adapter.validate_python(data["default"]))


def _imported(field: str, short: str, stored: Mapping[str, Any]) -> Any:
    ref = str(stored["ref"])
    module_name, _, path = ref.partition(":")
    remedy = f"Give it: Signature.from_json(data, types={{{short!r}: {short}}})."
    if "<locals>" in path:
        raise StateError(
            f"field {field!r} has the type {short!r}, a class made inside a function ({ref}), which cannot "
            f"be imported. {remedy}"
        )
    try:
        found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise StateError(
            f"field {field!r} has the type {short!r}, which cannot be imported from {ref!r} any more "
            f"({error}). {remedy}"
        ) from error
    if isinstance(found, types.ModuleType) or not is_type(found):
        raise StateError(f"field {field!r} has the type {short!r}, but {ref!r} is {found!r}, no type. {remedy}")
    now, then = _schema(found), stored.get("schema")
    if now != then:
        raise StateError(
            f"field {field!r} has the type {short!r}, and {ref!r} has changed since it was stored: "
            f"{_difference(then, now)}. To use it as it is now, write "
            f"Signature.from_json(data, types={{{short!r}: {short}}})."
        )
    return found


def _difference(then: Any, now: Any) -> str:
    old, new = ((schema or {}).get("properties", {}) for schema in (then, now))
    parts = [
        *(f"{name!r} is gone" for name in old if name not in new),
        *(f"{name!r} is new" for name in new if name not in old),
        *(f"{name!r} was {old[name]}, is {new[name]}" for name in old if name in new and old[name] != new[name]),
    ]
    return "; ".join(parts) or f"its schema was {then}, is {now}"


def _schema(cls: Any) -> Any:
    import pydantic

    try:
        return plain_data(pydantic.TypeAdapter(cls).json_schema())
    except (pydantic.errors.PydanticSchemaGenerationError, pydantic.errors.PydanticInvalidForJsonSchema):
        return None


def _unique(cls: Any, names: dict[str, Any]) -> str:
    short = re.sub(r"\W+", "_", type_text(cls)).strip("_")
    name, count = short, 1
    while names.setdefault(name, cls) is not cls:
        count += 1
        name = f"{short}_{count}"
    return name


def _qualified(cls: Any) -> str:
    module = getattr(cls, "__module__", "builtins")
    name = getattr(cls, "__qualname__", None) or type_text(cls)
    return name if module in _USUAL else f"{module}:{name}"


def _plain_default(field: Field) -> Json:
    if field.default is MISSING:
        return []
    try:
        return [plain_data(field.default)]
    except DataError:
        return [repr(field.default)]
