"""A model's thoughts."""

from __future__ import annotations

from typing import Any

__all__ = ["Reasoning"]


class Reasoning(str):
    """The model's thoughts, an output: text, a str. A model that reasons by itself (``reasoning``) is not asked to
    write them; they are what it says it thought. Any other writes them like text.

    >>> from pydantic import TypeAdapter
    >>> type(TypeAdapter(Reasoning).validate_python("Twice two.")).__name__
    'Reasoning'
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
