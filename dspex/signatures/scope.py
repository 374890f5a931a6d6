"""Where the names in a type expression are looked up: the code that wrote it, from the inside out.

``Signature("text -> address: Address")`` is a string, so Python does not tell what ``Address`` was where it
was written. The frames of the callers do: the first frame outside dspex, its module, then its own callers.
"""

from __future__ import annotations

import builtins
import collections.abc
import importlib
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["Scope", "is_type"]

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent)

# What nobody means otherwise is known without asking the callers.
_OWN: Final[dict[str, Any]] = {
    **{
        name: getattr(builtins, name)
        for name in (
            "bool",
            "bytes",
            "dict",
            "float",
            "frozenset",
            "int",
            "list",
            "object",
            "set",
            "str",
            "tuple",
            "type",
        )
    },
    **{name: getattr(typing, name) for name in ("Annotated", "Any", "Literal", "Optional", "Union")},
    "None": None,
}
_VOCABULARY: Final[dict[str, Any]] = {
    **_OWN,
    **{name: getattr(collections.abc, name) for name in ("Callable", "Iterable", "Mapping", "Sequence", "Set")},
    **{name: getattr(typing, name) for name in ("Dict", "FrozenSet", "List", "Tuple")},
}
_FIELD_TYPES: Final = frozenset(
    {"Audio", "Citations", "Code", "Document", "File", "History", "Image", "Reasoning", "ToolCalls"}
)
_SPECIAL: Final = (typing.Annotated, typing.Any, typing.Literal, typing.Optional, typing.Union)


def is_type(value: Any) -> bool:
    """Whether ``value`` can stand in an annotation: a class, a generic alias, a union, ``None``, an alias."""
    return (
        isinstance(value, type | types.UnionType | types.GenericAlias | typing.NewType)
        or value is None
        or any(value is special for special in _SPECIAL)
        or typing.get_origin(value) is not None
        or type(value).__name__ == "TypeAliasType"
        or (type(value).__module__ == "typing" and type(value).__name__ == "_SpecialGenericAlias")
    )


class Scope:
    """Names, looked up first in the mappings given, then in the callers' frames, then among the usual types.

    The frames are walked when a name is first asked for, so a scope must be used within the call that made
    it. ``frames=False`` leaves them out: what is read from a file never sees a caller's variables.
    """

    __slots__ = ("_first", "_frames")

    def __init__(self, *first: Mapping[str, Any], frames: bool = True) -> None:
        self._first = first
        self._frames = frames

    def find(self, name: str, accept: Callable[[Any], bool] = is_type) -> Any:
        """The nearest thing called ``name`` that ``accept`` agrees to; raises `KeyError` when there is none.

        The words of Python itself (``str``, ``list``, ``Literal``) always mean what they mean. A local
        variable that happens to be called ``date`` is no type and is passed over.
        """
        if name in _OWN:
            return _OWN[name]
        for names in self._mappings():
            if name in names:
                value = names[name]
                if accept(value):
                    return value
        if name in _FIELD_TYPES:
            # Loaded when it is asked for: it needs pydantic, which most signatures do without.
            return getattr(importlib.import_module("dspex.types"), name)
        return _VOCABULARY[name]

    def __getitem__(self, name: str) -> Any:
        return self.find(name, _anything)

    def names(self) -> list[str]:
        """All names of types in reach, for suggestions."""
        found = dict.fromkeys(_VOCABULARY)
        for names in self._mappings():
            found.update(dict.fromkeys(name for name, value in list(names.items()) if is_type(value)))
        return list(found)

    def _mappings(self) -> Iterator[Mapping[str, Any]]:
        yield from self._first
        if not self._frames:
            return
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None:
            # An annotation being evaluated has a frame too, with this scope for its locals.
            names: Any = frame.f_locals
            if names is not self and not frame.f_code.co_filename.startswith(_PACKAGE):
                yield names
                if frame.f_globals is not names:
                    yield frame.f_globals
            frame = frame.f_back


def _anything(value: Any) -> bool:
    return True
