"""Program text."""

from __future__ import annotations

import re
from typing import Any, ClassVar

__all__ = ["Code"]

_FENCE = re.compile(r"(?P<ticks>`{3,}|~{3,})[^\n`]*\n(?P<code>.*?)(?:\n[ \t]*(?P=ticks)|\Z)", re.DOTALL)


class Code(str):
    """Program text, a str; ``Code["python"]`` says the language. In prompts and answers it stands in a fence.

    Read from a model's answer, it is what stands in the fence, or all of it when there is none.

    >>> from pydantic import TypeAdapter
    >>> code = TypeAdapter(Code["python"]).validate_python("Here:\\n```python\\nprint(1)\\n```\\nIt prints.")
    >>> code, code.language
    ('print(1)', 'python')
    """

    language: ClassVar[str] = ""

    @classmethod
    def prompt_hint(cls) -> str:
        """What to write for it."""
        return f"{cls.language} code, in a ``` fence".strip()

    @property
    def code(self) -> str:
        """The text as a plain str."""
        return str.__str__(self)

    def fenced(self) -> str:
        """It in a fence that nothing in it ends."""
        ticks = "```"
        while ticks in self:
            ticks += "`"
        return f"{ticks}{self.language}\n{self}\n{ticks}"

    @classmethod
    def read(cls, text: str) -> Code:
        """The code in ``text``."""
        if isinstance(text, Code):
            return text if type(text) is cls else cls(text)
        found = _FENCE.search(text) if "```" in text or "~~~" in text else None
        return cls(found["code"] if found else text)

    def __class_getitem__(cls, language: str) -> type[Code]:
        name = f"{language.capitalize()}Code"
        return _languages.setdefault(name, type(name, (Code,), {"language": language, "__doc__": cls.__doc__}))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(
            cls.read,
            core_schema.str_schema(),
            # What would be taken for a fence of its own stands in one.
            serialization=core_schema.plain_serializer_function_ser_schema(cls._dumped, when_used="json"),
        )

    @classmethod
    def _dumped(cls, value: str) -> str:
        return cls(value).fenced() if "```" in value or "~~~" in value else str.__str__(value)


_languages: dict[str, type[Code]] = {}


def __getattr__(name: str) -> Any:
    # The class of a language is found under its name, so that signatures and pickles can name it.
    if name.endswith("Code") and name != "Code":
        return Code.__class_getitem__(name.removesuffix("Code").lower())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
