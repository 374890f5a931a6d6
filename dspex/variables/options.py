"""The named options that `Choice`, `ModelChoice`, `Subset` and `Order` are made of.

An option may be a plain value, which is its own JSON, or any hashable object (a function, a class, an enum
member), which travels as its label. Reading such a domain back from JSON gives a `Label` in the object's
place: plain data never makes code.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import attrs

from dspex.errors import DefinitionError, StateError
from dspex.variables import codec
from dspex.variables.codec import Json
from dspex.variables.messages import shown
from dspex.variables.readonly import ReadOnlyDict, ReadOnlyList, read_only

__all__ = ["Label", "Options", "encoded_option", "option_from_json"]

_LABEL = "$label"
_SCALARS = (str, int, bool, type(None))


@attrs.frozen(repr=False)
class Label:
    """Stands for an option that is an object, in a domain that was read from JSON.

    >>> Label("json.loads")
    Label('json.loads')
    """

    text: str

    def __repr__(self) -> str:
        return f"Label({self.text!r})"


class Options:
    """Distinct options in declared order, found again by value and type (1, 1.0 and True are three).

    Lists and dicts among them are read-only: whoever reads the variable is handed the option itself.
    """

    __slots__ = ("_by_json", "_encoded", "_index", "values")

    values: tuple[Any, ...]

    def __init__(self, owner: str, values: Sequence[Any]) -> None:
        self._encoded: list[Json] = []
        self._by_json: dict[str, int] = {}
        self._index: dict[Hashable, int] = {}
        for position, value in enumerate(values):
            if isinstance(value, float) and value != value:  # NaN, which is found by no comparison and has no JSON
                raise DefinitionError(
                    f"{owner}({', '.join(map(repr, values))}): {shown(value)} is equal to nothing, itself included, so "
                    f"it cannot be an option. Write None where there is no value."
                )
            encoded = encoded_option(owner, value)
            key, text = _key(value), codec.canonical_json(encoded)
            if key in self._index or text in self._by_json:
                raise DefinitionError(
                    f"{owner}({', '.join(map(repr, values))}): the option {shown(value)} stands there twice. "
                    f"Each option is written once."
                )
            self._index[key] = position
            self._by_json[text] = position
            self._encoded.append(encoded)
        self.values = tuple([read_only(value) for value in values])

    def find(self, value: Any) -> int | None:
        """Return the position of an option equal to ``value``, or None."""
        try:
            position = self._index.get(_key(value))
        except StateError:
            return None
        if position is None and type(value) in (int, float):
            # 0 may be written for the option 0.0, when 0 is no option of its own.
            other: Any = float(value) if type(value) is int and abs(value) < 2**53 else value
            if type(value) is float and value.is_integer():
                other = int(value)
            position = self._index.get((type(other), other))
        return position

    def encode(self, position: int) -> Json:
        """Return the option as JSON."""
        json = self._encoded[position]
        return copy.deepcopy(json) if isinstance(json, list | dict) else json

    def find_encoded(self, json: Json) -> int | None:
        """Return the position of the option that is encoded as ``json``, or None."""
        try:
            return self._by_json.get(codec.canonical_json(json))
        except StateError:
            return None

    def to_json(self) -> list[Json]:
        """Return all options as JSON."""
        return copy.deepcopy(self._encoded)


def option_from_json(json: Json) -> Any:
    """Return the option, or a `Label` for one that was an object."""
    if isinstance(json, Mapping) and set(json) == {_LABEL}:
        return Label(str(json[_LABEL]))
    return codec.decode(json)


def _key(value: Any) -> Hashable:
    kind = type(value)
    if kind in _SCALARS:
        return (kind, value)
    if kind is float:
        return (float, value if value == value else "nan")  # nan is not equal to itself
    if kind in (list, dict, tuple, ReadOnlyList, ReadOnlyDict):  # what is recorded is the option that was given
        try:
            return ("json", codec.canonical_json(codec.encode(value)))
        except StateError:
            pass
    try:
        hash(value)
    except TypeError:
        raise StateError(f"{shown(value)} is neither hashable nor plain data.") from None
    return (kind, value)


def encoded_option(owner: str, value: Any) -> Json:
    """Return an option as JSON: plain values as they are, objects as their label."""
    if isinstance(value, Label):
        return {_LABEL: value.text}
    try:
        encoded = codec.encode(value)
    except StateError:
        encoded = {_LABEL: _label(owner, value)}
    else:
        if isinstance(encoded, dict) and set(encoded) == {_LABEL}:
            raise DefinitionError(f"{owner}({value!r}): a dict with the one key {_LABEL!r} is reserved.")
    return encoded


def _label(owner: str, value: Any) -> str:
    try:
        hash(value)
    except TypeError:
        raise DefinitionError(
            f"{owner}(...): the option {shown(value)} is neither hashable nor plain data. Write options as "
            f"strings, numbers, tuples, lists or dicts of those, or as functions, classes or enum members."
        ) from None
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return f"{getattr(value, '__module__', '')}.{name}".lstrip(".")
    text = repr(value)
    if " at 0x" in text:
        raise DefinitionError(
            f"{owner}(...): the option {shown(value)} has no name under which it could be saved. Give its "
            f"class a __repr__ that says what it is, or teach dspex its type with "
            f"dspex.variables.register(...)."
        )
    return text
