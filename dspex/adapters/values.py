"""Values as the text of a prompt, and the text of a well-formed answer as values."""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, get_origin

from pydantic import TypeAdapter

from dspex.adapters.candidates import is_structured
from dspex.adapters.fitting import read_value
from dspex.adapters.keys import as_read
from dspex.adapters.types import bare_type
from dspex.data.plain import plain_data
from dspex.types import Code, Part

if TYPE_CHECKING:
    from dspex.signatures import Field

__all__ = ["RichValue", "input_text", "is_text", "json_text", "output_data", "output_text", "quick_reader"]

# Pydantic would read "2024" as seconds since 1970, and any text as any object.
_READ_WITH_CARE: Final = (date, datetime)
_to_json = json.JSONEncoder(ensure_ascii=False).encode


class RichValue(Exception):  # noqa: N818 - no error: the sign that a value is more than text
    """An input is a `Part`, which is no text."""


def json_text(data: Any) -> str:
    """Plain data as one line of JSON, any script as it is.

    >>> json_text(["é", None])
    '["é", null]'
    """
    return _to_json(data)


def input_text(value: Any, name: str) -> str:
    """An input in a prompt: text as it is, anything else as JSON.

    Raises `DataError` naming the input when it has no plain form.

    >>> input_text("as it is", "q"), input_text({"k": [1, True]}, "q")
    ('as it is', '{"k": [1, true]}')
    """
    if isinstance(value, str) and type(value) is str:
        return value
    if isinstance(value, Code):
        return value.fenced()
    if isinstance(value, Part):
        raise RichValue
    plain = plain_data(value, name=f"the input {name!r}")
    return plain if isinstance(plain, str) else _to_json(plain)


def output_data(field: Field, value: Any) -> Any:
    """An output as plain JSON data, the way its type writes it."""
    if type(value) is str:
        return value
    try:
        # Round trip: what pydantic would read again, without what it computes.
        data = field.adapter.dump_python(value, mode="json", by_alias=True, warnings=False, round_trip=True)
    except Exception:  # a value of another type, such as a label of a demo; pydantic's errors have no base
        data = plain_data(value, name=f"the output {field.name!r}")
    if isinstance(data, dict | list):
        data = as_read(field.annotation, value, data)
    if isinstance(value, Set) and isinstance(data, list):
        data.sort(key=repr)  # sets have no order: one that does not depend on the hash seed
    return data


def output_text(field: Field, value: Any, read: Callable[[str], Any]) -> str:
    """An output in an answer, such that reading it gives ``value`` again.

    Text is written as it is, unless it would be read as something else (``"5"`` where a number is allowed
    too): then it is put in quotes.
    """
    data = output_data(field, value)
    if not isinstance(data, str):
        return _to_json(data)
    if isinstance(value, Code):
        return value.fenced()
    if is_text(field.annotation):
        return data
    try:
        same = read(data) == value
    except Exception:  # whatever the reader says, as it is it cannot be read
        same = False
    return data if same else _to_json(data)


def is_text(annotation: Any) -> bool:
    """Whether a value is nothing but text, so that whatever stands in a section is one."""
    bare = bare_type(annotation)
    return isinstance(bare, type) and bare is str


def quick_reader(annotation: Any, adapter: TypeAdapter[Any]) -> Callable[[str], Any]:
    """A function from the text of a well-formed section to its value; raises when it is not well-formed."""
    bare = bare_type(annotation)
    validator: Any = adapter.validator
    validate_python, validate_json = validator.validate_python, validator.validate_json
    if is_structured(bare):

        def read_json(text: str) -> Any:
            if text[:1] not in ("[", "{"):
                raise ValueError
            return validate_json(text)

        return read_json
    known = isinstance(bare, type) and bare not in (Any, object) and not issubclass(bare, _READ_WITH_CARE)
    if known or get_origin(bare) is Literal:
        return validate_python  # type: ignore[no-any-return]
    return lambda text: read_value(annotation, adapter, text)
