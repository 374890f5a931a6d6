"""Types as TypeScript-like definitions, each record once: shorter than a JSON schema, and as exact."""

from __future__ import annotations

import enum
import json
import re
import types
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

from dspex.adapters.candidates import is_structured
from dspex.adapters.types import bare_type, is_union, record_fields, record_names

if TYPE_CHECKING:
    from dspex.signatures import Field

__all__ = ["type_definitions"]

_SCALARS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"),
    (int, "int"),
    (float, "float"),
    (Decimal, "float"),
    (str, "string"),
    (datetime, '"YYYY-MM-DDTHH:MM:SS"'),
    (date, '"YYYY-MM-DD"'),
    (time, '"HH:MM:SS"'),
    (timedelta, '"HH:MM:SS"'),
)
_INLINE: Final = 8
"""A choice of more options than this is defined under a name of its own."""
_ANSWER: Final = "Answer"


def type_definitions(fields: Iterable[Field]) -> str:
    """Definitions of all records and long choices in the types of ``fields``, and of ``Answer``, which holds them.

    >>> from dspex.signatures import Signature
    >>> print(type_definitions(Signature("x -> tags: list[str], score: float | None").output_fields.values()))
    type Answer = {
      tags: string[],
      score: float | null,
    }
    """
    definitions = _Definitions()
    lines = []
    for field in fields:
        said = [note for note in (field.desc, field.constraint_text) if note]
        lines.append((field.name, definitions.text(field.annotation), "; ".join(said), True))
    return "\n\n".join([*definitions.made.values(), _block(_ANSWER, lines)])


def _block(name: str, lines: Iterable[tuple[str, str, str, bool]]) -> str:
    rows = [f"type {name} = {{"]
    for key, kind, note, required in lines:
        spelled = key if key.isidentifier() else json.dumps(key, ensure_ascii=False)
        said = f" // {' '.join(note.split())}" if note else ""
        rows.append(f"  {spelled}{'' if required else '?'}: {kind},{said}")
    return "\n".join([*rows, "}"])


class _Definitions:
    """Collects the definitions that types need, in the order in which they can be read."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}
        self._names: dict[Any, str] = {}

    def text(self, annotation: Any) -> str:
        """The type in a definition."""
        annotation = bare_type(annotation)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if annotation is None or annotation is types.NoneType:
            return "null"
        if is_union(annotation):
            return " | ".join(dict.fromkeys(self.text(arm) for arm in arguments))
        if origin is Literal:
            return " | ".join(dict.fromkeys(_option(option) for option in arguments))
        cls: Any = origin or annotation
        is_class = isinstance(cls, type)
        if not is_class or cls in (Any, object):
            return "any"
        if issubclass(cls, enum.Enum):
            options = " | ".join(_option(member) for member in cls)
            return options if len(cls) <= _INLINE else self._named(cls, lambda name: f"type {name} = {options}")
        for kind, said in _SCALARS:
            if issubclass(cls, kind):
                return said
        fields: Mapping[str, tuple[Any, bool]] | None = record_fields(cls)
        if fields is not None:
            return self._named(annotation, lambda name: self._record(name, cls, fields))
        if not is_structured(annotation):
            return "any"
        if issubclass(cls, Mapping):
            key, value = arguments if len(arguments) == 2 else (str, Any)
            return f"{{ [key: {self.text(key)}]: {self.text(value)} }}"
        if issubclass(cls, tuple) and arguments and arguments[-1] is not Ellipsis:
            return f"[{', '.join(self.text(item) for item in arguments)}]"
        item = self.text(arguments[0] if arguments else Any)
        return f"({item})[]" if " | " in item else f"{item}[]"

    def _named(self, annotation: Any, write: Any) -> str:
        """The name of a type that is defined once; a type that holds itself meets its name already there."""
        name = self._names.get(annotation)
        if name is None:
            title = re.sub(r"\W+", "_", annotation.__name__).strip("_")
            name, count = title, 1
            while name == _ANSWER or name in self._names.values():
                count += 1
                name = f"{title}{count}"
            self._names[annotation] = name
            self.made[name] = write(name)
        return name

    def _record(self, name: str, cls: type, fields: Mapping[str, tuple[Any, bool]]) -> str:
        notes: dict[str, str] = {}
        if issubclass(cls, BaseModel):
            notes = {names.key: cls.model_fields[names.name].description or "" for names in record_names(cls)}
        return _block(
            name, [(key, self.text(kind), notes.get(key, ""), required) for key, (kind, required) in fields.items()]
        )


def _option(option: Any) -> str:
    plain = option.value if isinstance(option, enum.Enum) else option
    return json.dumps(plain, ensure_ascii=False, default=str)
