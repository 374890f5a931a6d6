"""Values as JSON and back, exactly, and the content ids that follow from it.

Plain values (None, bool, int, float, str, list, dict) are their own JSON. What JSON cannot tell apart
(tuples, dicts with keys that are no strings, NaN and the infinities) and registered types are written as
``{"$type": tag, "value": ...}``. Nothing is ever unpickled or imported by name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

from dspex.errors import DefinitionError, StateError
from dspex.variables.messages import did_you_mean, shown
from dspex.variables.readonly import ReadOnlyDict, ReadOnlyList

__all__ = ["Json", "canonical_json", "content_id", "decode", "encode", "is_registered", "register"]

C = TypeVar("C")

Json: TypeAlias = Any
"""What `json.dumps` takes: None, bool, int, finite float, str, and lists and string-keyed dicts of those."""

_TAG = "$type"
_BUILT_IN = ("tuple", "dict", "float")


class _Registration(NamedTuple):
    tag: str
    cls: type[Any]
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_by_class: dict[type[Any], _Registration] = {}
_by_tag: dict[str, _Registration] = {}


def register(tag: str, cls: type[C], encode: Callable[[C], Any], decode: Callable[[Any], C]) -> None:
    """Teach the codec a type: ``encode`` turns an instance into plain values, ``decode`` turns them back.

    ``encode`` may return anything the codec knows already (tuples and other registered types too); ``decode``
    gets exactly that. Only instances of exactly ``cls`` are meant, since a subclass would come back as
    ``cls``.

    Raises `DefinitionError` when the tag already stands for another class.

    >>> import fractions
    >>> register("fraction", fractions.Fraction,
    ...          lambda value: [value.numerator, value.denominator],
    ...          lambda pair: fractions.Fraction(*pair))
    >>> encode(fractions.Fraction(1, 3))
    {'$type': 'fraction', 'value': [1, 3]}
    >>> decode(encode(fractions.Fraction(1, 3)))
    Fraction(1, 3)
    """
    if not isinstance(tag, str) or not tag or tag in _BUILT_IN:
        raise DefinitionError(
            f"register(tag={shown(tag)}): the tag has to be a non-empty string other than "
            f"{', '.join(_BUILT_IN)}, for example register('money', Money, ...)."
        )
    known = _by_tag.get(tag)
    if known is not None and (known.cls.__module__, known.cls.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise DefinitionError(
            f"register({tag!r}, {cls.__qualname__}, ...): the tag {tag!r} already stands for "
            f"{known.cls.__module__}.{known.cls.__qualname__}. Give {cls.__qualname__} a tag of its own."
        )
    registration = _Registration(tag, cls, encode, decode)
    _by_tag[tag] = registration
    _by_class[cls] = registration


def is_registered(cls: type[Any]) -> bool:
    """Whether instances of exactly ``cls`` can be encoded by a registration.

    >>> is_registered(int)
    False
    """
    return cls in _by_class


def encode(value: Any) -> Json:
    """Return ``value`` as JSON from which `decode` makes an equal value of the same types.

    Raises `StateError` for a type that is neither plain nor registered.

    >>> encode({"k": (1, 2.5)})
    {'k': {'$type': 'tuple', 'value': [1, 2.5]}}
    """
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else {_TAG: "float", "value": repr(value)}
    if kind is list or kind is ReadOnlyList:
        return [encode(item) for item in value]
    if kind is tuple:
        return {_TAG: "tuple", "value": [encode(item) for item in value]}
    if kind is dict or kind is ReadOnlyDict:
        if _TAG not in value and all(type(key) is str for key in value):
            return {key: encode(item) for key, item in value.items()}
        return {_TAG: "dict", "value": [[encode(key), encode(item)] for key, item in value.items()]}
    registration = _by_class.get(kind)
    if registration is None:
        raise StateError(
            f"{shown(value)} cannot be written as JSON: only None, bool, int, float, str, list, tuple, dict "
            f"and registered types can. Convert it, or teach the codec its type: "
            f"dspex.variables.register({kind.__name__.lower()!r}, {kind.__name__}, encode=..., decode=...)."
        )
    return {_TAG: registration.tag, "value": encode(registration.encode(value))}


def decode(json: Json) -> Any:
    """Return the value that `encode` was given.

    Raises `StateError` for a tag that is not registered (import the module that registers it) and for what is
    no JSON of this codec.

    >>> decode({"$type": "tuple", "value": [1, 2]})
    (1, 2)
    """
    kind = type(json)
    if kind is list:
        return [decode(item) for item in json]
    if kind is not dict:
        if json is None or kind in (str, int, float, bool):
            return json
        raise StateError(f"{shown(json)} is not JSON.")
    tag = json.get(_TAG)
    if tag is None:
        return {key: decode(item) for key, item in json.items()}
    try:
        inner = json["value"]
        if tag == "tuple":
            return tuple([decode(item) for item in inner])
        if tag == "dict":
            return {decode(key): decode(item) for key, item in inner}
        if tag == "float":
            return float(inner)
        registration = _by_tag.get(tag)
        if registration is None:
            raise StateError(
                f"JSON of type {tag!r} cannot be read, because nothing is registered under that "
                f"tag.{did_you_mean(str(tag), _by_tag)} Import the module that calls "
                f"dspex.variables.register({tag!r}, ...) first."
            )
        return registration.decode(decode(inner))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(
            f"JSON of type {tag!r} is damaged: {shown(json)} ({type(error).__name__}: {error})."
        ) from error


_canonical = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, check_circular=False
).encode


def canonical_json(obj: Json) -> str:
    """Return the one text of ``obj``: sorted keys, no spaces, ASCII only.

    Raises `StateError` for what is not JSON.

    >>> canonical_json({"b": 1, "a": [True, None]})
    '{"a":[true,null],"b":1}'
    """
    try:
        return _canonical(obj)
    except (TypeError, ValueError, RecursionError) as error:
        raise StateError(f"{shown(obj)} is not JSON: {error}. Pass it through encode() first.") from error


def content_id(obj: Json) -> str:
    """Return 16 hex digits that name the content of ``obj``, the same in every process.

    >>> content_id({"a": 1, "b": 2}) == content_id({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(obj).encode("ascii")).hexdigest()[:16]
