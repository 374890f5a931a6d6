"""Whether a value may be given for an input: said before a model is asked, and paid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from dspex.data.plain import plain_data
from dspex.errors import DataError
from dspex.signatures.fields import Field
from dspex.signatures.types import union_members

__all__ = ["InputCheck", "input_checks"]

InputCheck: TypeAlias = Callable[[Any], str | None]
"""What is wrong with a value, for the end of a sentence; None when nothing is."""


def input_checks(fields: Mapping[str, Field]) -> tuple[tuple[str, InputCheck], ...]:
    """The checks of those ``fields`` that do not take just any value.

    A text without constraints takes all that has a plain form, because that is how it is rendered. Any other type
    takes what pydantic takes when it is not strict, in its own or in its plain form (an array for a list), and a
    number in place of a text.

    >>> from dspex.signatures import Signature
    >>> ((name, check),) = input_checks(Signature("text, k: int -> answer").input_fields)
    >>> name, check(3), check("3"), check("three")
    ('k', None, None, 'Input should be a valid integer, unable to parse string as an integer')
    """
    return tuple((name, check) for name, field in fields.items() if (check := _check(field)) is not None)


def _check(field: Field) -> InputCheck | None:
    members = union_members(field.annotation)
    if Any in members or object in members:
        return None
    is_text = str in members
    if is_text and not field.constraints:
        return None
    import pydantic

    try:
        validate: Any = field.adapter.validator.validate_python
    except Exception:  # a type that pydantic cannot complete yet, whatever it raises then: rendering says what fits
        return None

    def check(value: Any) -> str | None:
        if is_text and type(value) is not str:
            return None
        try:
            validate(value)
        except pydantic.ValidationError as error:
            return _verdict(error, value, validate)
        except Exception as error:  # of a validator of the user's own, which may raise anything
            return f"its validator raised {type(error).__name__}: {error}"
        return None

    return check


def _verdict(error: Any, value: Any, validate: Callable[[Any], Any]) -> str | None:
    import pydantic

    problems = error.errors(include_url=False, include_context=False)
    if all(one["type"] == "string_type" and isinstance(one["input"], int | float | Decimal) for one in problems):
        return None
    try:
        plain = plain_data(value)
        if type(plain) is not type(value):
            validate(plain)
            return None
    except (DataError, pydantic.ValidationError):
        pass
    place = ".".join(map(str, problems[0]["loc"]))
    return f"{place}: {problems[0]['msg']}" if place else str(problems[0]["msg"])
