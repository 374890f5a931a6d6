"""What a model may have meant by what it wrote, as candidates for a value of a type, one kind of type at a time.

A candidate is the text as it is, then JSON found in it, then bullet, comma or ``key: value`` lines, then the
scalar it plainly states; inside containers each element is brought into shape in the same way.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import functools
import json
import re
import types
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, get_args, get_origin

from dspex.adapters.lines import item_lines, key_value_lines, normal_key
from dspex.adapters.repair import json_values, read_json
from dspex.adapters.scalars import (
    NOTHING,
    find_choice,
    find_date,
    find_number,
    find_truth,
    is_null,
    is_unstated,
    unquoted,
)
from dspex.adapters.tags import elements
from dspex.adapters.types import bare_type, is_union, record_fields, record_names, type_adapter

__all__ = ["candidates", "is_numeric", "is_structured"]

_SEQUENCES: Final = (list, tuple, set, frozenset, collections.deque)
_ABSTRACT_SEQUENCES: Final = frozenset(
    {
        collections.abc.Sequence,
        collections.abc.MutableSequence,
        collections.abc.Collection,
        collections.abc.Iterable,
        collections.abc.Set,
        collections.abc.MutableSet,
    }
)
_MAPPINGS: Final = (dict, collections.OrderedDict, collections.defaultdict, collections.Counter)
_ABSTRACT_MAPPINGS: Final = frozenset({collections.abc.Mapping, collections.abc.MutableMapping})
_CALL = re.compile(r"\A\s*[A-Za-z_][\w.]*\((.*)\)\s*\Z", re.DOTALL)
_WRAPPERS: Final = frozenset({"value", "text", "content", "result"})
_BEGINS_AS_JSON = re.compile(r"\A\s*(?:```|[{\[]|\(.*\)\s*\Z|[\"“][^\"”\n]{1,80}[\"”]\s*:)")
_JSON_LINE = re.compile(r"^\s*(?:```|[{\[]\s*(?:[\"'“{\[\d\]}-]|$))|[:=]\s*[{\[]", re.MULTILINE)


class _Effort:
    """How much more may be tried; recursive unions would otherwise take exponentially long to refuse."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 2_000


def candidates(annotation: Any, value: Any) -> Iterator[Any]:
    """What ``value`` may mean as a value of the type, best first; whether one is valid is pydantic's to say."""
    return _candidates(annotation, value, _Effort())


def is_numeric(annotation: Any) -> bool:
    """Whether values are numbers."""
    return _kind(annotation) is _number


def is_structured(annotation: Any) -> bool:
    """Whether values are lists, mappings or records, so that free text is not one of them."""
    kind = _kind(annotation)
    if kind is _union:
        arms = [arm for arm in get_args(bare_type(annotation)) if arm is not types.NoneType]
        return all(is_structured(arm) for arm in arms)
    return kind in (_sequence, _tuple, _mapping, _record)


def _kind(annotation: Any) -> Any:
    """The function that proposes candidates for the type."""
    annotation = bare_type(annotation)
    try:
        return _kind_of(annotation)
    except TypeError:  # unhashable, such as a Literal of lists
        return _kind_of.__wrapped__(annotation)


@functools.lru_cache(maxsize=2048)
def _kind_of(annotation: Any) -> Any:
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return _literal
    if is_union(annotation):
        return _union
    if origin in _ABSTRACT_SEQUENCES:
        return _sequence
    if origin in _ABSTRACT_MAPPINGS:
        return _mapping
    if annotation in (Any, object):
        return _anything
    if not isinstance(origin, type):
        return _other
    if origin is types.NoneType:
        return _null
    if record_fields(origin) is not None:
        return _record
    if issubclass(origin, enum.Enum):
        return _enumeration
    if issubclass(origin, bool):
        return _truth
    if issubclass(origin, int | float | Decimal):
        return _number
    if issubclass(origin, str):
        return _text
    if issubclass(origin, date | datetime | time | timedelta):
        return _moment
    if issubclass(origin, tuple):
        return _tuple
    if issubclass(origin, _SEQUENCES):
        return _sequence
    if issubclass(origin, _MAPPINGS):
        return _mapping
    return _other


def _candidates(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    effort.left -= 1
    if effort.left < 0:
        yield value
        return
    annotation = bare_type(annotation)
    kind = _kind(annotation)
    if kind in _SCALAR_KINDS and isinstance(value, list | dict) and len(value) == 1:
        # {"value": 12} or [12] around the only thing there is.
        yield from kind(annotation, value, effort)
        yield from kind(annotation, value[0] if isinstance(value, list) else next(iter(value.values())), effort)
        return
    yield from kind(annotation, value, effort)


def _attempt(annotation: Any, value: Any, effort: _Effort) -> tuple[bool, Any]:
    """The first candidate that validates, validated."""
    adapter = type_adapter(annotation)
    for candidate in _candidates(annotation, value, effort):
        try:
            return True, adapter.validate_python(candidate)
        except Exception:  # also of validators of the user's own types; what is wrong is said by `read_value`
            continue
    return False, value


class _Piece(str):
    """A piece of free text, of lines or markup: it may stand for anything. A string in JSON is text already."""

    __slots__ = ()


def _pieces(fields: Mapping[str, str | list[str]]) -> dict[str, _Piece | list[_Piece]]:
    return {
        name: [_Piece(one) for one in held] if isinstance(held, list) else _Piece(held) for name, held in fields.items()
    }


def _fit(annotation: Any, value: Any, effort: _Effort) -> Any:
    """The best candidate for an element of a container."""
    if type(value) is str and _may_be_text(annotation):
        return value  # JSON's "5" and "null" are words
    return _attempt(annotation, value, effort)[1]


def _may_be_text(annotation: Any) -> bool:
    """Whether a text may be a value just as it is, beside other types."""
    annotation = bare_type(annotation)
    arms = get_args(annotation) if is_union(annotation) else ()
    return _kind(annotation) is _anything or any(_kind(arm) in (_text, _anything) for arm in arms)


def _text(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        value = "\n".join(value)
    elif isinstance(value, dict) and len(value) == 1 and value.keys() <= _WRAPPERS:
        value = next(iter(value.values()))
    # JSON cannot say 5 in a text field otherwise than "5"; models forget the quotes.
    yield value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=False)


def _anything(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            yield read_json(value)
    yield _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, _Piece) else value


def _null(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    yield None if isinstance(value, str) and is_null(value) else value


def _other(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    yield value
    if isinstance(value, str):
        yield unquoted(value)
        yield from _parsed(value)


def _parsed(text: str) -> Iterator[Any]:
    try:
        yield read_json(text)
    except (ValueError, RecursionError):
        yield from json_values(text)


def _truth(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    yield value
    if isinstance(value, str):
        found = find_truth(value)
        if found is not NOTHING:
            yield found


def _number(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    yield value
    if isinstance(value, str):
        found = find_number(value)
        if found is not NOTHING:
            yield found


def _moment(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    if isinstance(value, Mapping) and value.keys() >= {"year", "month", "day"}:
        value = "{year:0>4}-{month:0>2}-{day:0>2}".format(**value)
    if not isinstance(value, str):
        yield value
        return
    text = unquoted(value)
    # Pydantic reads "2024" as seconds since 1970.
    if not text.isdigit() or not issubclass(annotation, date):
        yield value.strip()
        yield text
    if issubclass(annotation, date):
        found = find_date(text)
        if found is not NOTHING:
            yield found


def _literal(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    yield value
    options = []
    for option in get_args(annotation):
        options.append((_option(option.value if isinstance(option, enum.Enum) else option), option))
    yield from _chosen(options, value)


def _enumeration(annotation: type[enum.Enum], value: Any, effort: _Effort) -> Iterator[Any]:
    yield value
    text = value.removeprefix(f"{annotation.__name__}.") if isinstance(value, str) else value
    # As a prompt shows them, and as Python prints them.
    yield from _chosen([(_option(member.value), member) for member in annotation], text)
    yield from _chosen([(str(member.value), member) for member in annotation], text)
    yield from _chosen(list(annotation.__members__.items()), text)


def _option(plain: Any) -> str:
    return plain if isinstance(plain, str) else json.dumps(plain, default=str)


def _chosen(options: list[tuple[str, Any]], value: Any) -> Iterator[Any]:
    if isinstance(value, list | dict):
        same = [option for name, option in options if name == json.dumps(value)]
        yield from same[:1]
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    if isinstance(value, str):
        found = find_choice(value, options)
        if found is not NOTHING:
            yield found


def _union(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    arms = [arm for arm in get_args(annotation) if arm is not types.NoneType]
    optional = len(arms) < len(get_args(annotation))
    if not isinstance(value, str):
        yield value
        for arm in arms:
            fits, found = _attempt(arm, value, effort)
            if fits:
                yield found
        return
    texts = [arm for arm in arms if _kind(arm) is _text]
    named = [arm for arm in arms if _kind(arm) in (_literal, _enumeration)]
    if any(_accepts(arm, value) for arm in named):
        yield value
    try:
        parsed = read_json(value)
    except (ValueError, RecursionError):
        parsed = NOTHING
    if texts and isinstance(parsed, str):
        yield parsed  # in quotes, so that it is nothing but text
    if optional and (is_null(value) or (not texts and is_unstated(value))):
        yield None
    if len(arms) == 1:
        yield from _candidates(arms[0], value, effort)
        return
    if parsed is NOTHING and not texts:
        yield from json_values(value)  # which of the types an object is pydantic knows best
    if parsed is not NOTHING:
        yield parsed
        for arm in arms:
            if arm not in texts and isinstance(parsed, dict | list):
                fits, found = _attempt(arm, parsed, effort)
                if fits:
                    yield found
    for arm in sorted(arms, key=lambda arm: arm not in named):
        if arm in texts:
            continue
        if not texts:
            fits, found = _attempt(arm, value, effort)
        else:
            # Whatever is not plainly the other type is text already.
            fits, found = _accepts(arm, value), value
            found = type_adapter(arm).validate_python(value) if fits else value
        if fits:
            yield found
    yield value


def _accepts(annotation: Any, value: Any) -> bool:
    try:
        type_adapter(annotation).validate_python(value)
    except Exception:  # pydantic's verdict, or a validator of the user's own type
        return False
    return True


def _lists_in(text: str) -> Iterator[Any]:
    """JSON in ``text``, unless its brackets are those of prose or of list items."""
    if _BEGINS_AS_JSON.match(text):
        yield from _parsed(text)
    elif _JSON_LINE.search(text):
        yield from json_values(text)


def _sequence(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    item = (get_args(annotation) or (Any,))[0]
    for items in _item_lists(value, item):
        yield [_fit(item, one, effort) for one in items]


def _nested(text: str) -> list[tuple[str, str]]:
    """The elements in ``text``, and not the one around them all that most writers of XML put there."""
    found = elements(text) if text.lstrip()[:1] == "<" else []
    if len(found) == 1 and (inner := elements(found[0][1])) and len(inner) > 1:
        return inner
    return found


def _grouped(found: list[tuple[str, str]]) -> dict[str, Any]:
    # An element that is there several times is a list.
    groups: dict[str, list[str]] = {}
    for name, content in found:
        groups.setdefault(name, []).append(content)
    return {name: contents[0] if len(contents) == 1 else contents for name, contents in groups.items()}


def _tuple(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    kinds = get_args(annotation)
    if not kinds or (len(kinds) == 2 and kinds[1] is Ellipsis):
        yield from _sequence(annotation, value, effort)
        return
    for items in _item_lists(value, kinds[0]):
        fitted = [_fit(kind, one, effort) for kind, one in zip(kinds, items, strict=False)]
        yield fitted + items[len(kinds) :]


def _item_lists(value: Any, item: Any) -> Iterator[list[Any]]:
    if isinstance(value, dict):
        # {"items": [...]} around the list, or the only element without its brackets.
        wrapped = next(iter(value.values())) if len(value) == 1 else None
        if isinstance(wrapped, list):
            yield wrapped
        if value and all(isinstance(key, str) and key.isdigit() for key in value):
            yield list(value.values())
        yield [value]
    elif not isinstance(value, str):
        yield list(value) if isinstance(value, _SEQUENCES) else [value]
    else:
        for parsed in _lists_in(value):
            yield from _item_lists(parsed, item)
        if nested := _nested(value):
            yield [_Piece(content) for _, content in nested]
        if is_null(value):
            yield []
        else:
            yield [_Piece(line) for line in item_lines(value, numeric=_kind(item) is _number)]


def _mapping(annotation: Any, value: Any, effort: _Effort) -> Iterator[Any]:
    kinds = get_args(annotation)
    key_type, value_type = kinds if len(kinds) == 2 else (Any, Any)
    for fields in _field_maps(value):
        yield {_key(key_type, key, effort): _fit(value_type, one, effort) for key, one in fields.items()}


def _key(annotation: Any, key: Any, effort: _Effort) -> Any:
    return _fit(annotation, key, effort) if bare_type(annotation) is not str else key


def _field_maps(value: Any, order: tuple[str, ...] = ()) -> Iterator[Mapping[str, Any]]:
    """Mappings in ``value``; a list has the fields in their ``order``."""
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list | tuple):
        if len(value) == 1 and isinstance(value[0], Mapping):
            yield value[0]
        if 0 < len(value) <= len(order):
            yield dict(zip(order, value, strict=False))
    elif isinstance(value, str):
        if nested := _nested(value):
            yield _pieces(_grouped(nested))
        call = _CALL.match(value)  # what Python prints for a record
        if order and not (_BEGINS_AS_JSON.match(value) or _JSON_LINE.search(value)):
            order = ()  # brackets of prose
        for parsed in _parsed(value if call is None else f"{{{call[1]}}}"):
            yield from _field_maps(parsed, order)
        found = key_value_lines(value)
        if found or is_null(value):
            yield _pieces(found)


def _record(annotation: type, value: Any, effort: _Effort) -> Iterator[Any]:
    origin = get_origin(annotation) or annotation
    expected = record_fields(origin) or {}
    names = _spellings(origin)
    # A NamedTuple is a tuple too, and some write it as one.
    order = tuple(expected) if issubclass(origin, tuple) else ()
    known = False
    for fields in _field_maps(value, order):
        for found in (fields, *_wrapped(fields, names)):
            renamed = {names.get(normal_key(str(key)), key): one for key, one in found.items()}
            renamed.update({key: one for key, one in found.items() if key in expected})
            if not (renamed.keys() & expected.keys()) and expected:
                continue
            known = True
            fitted = {
                key: _fit(expected[key][0], one, effort) if key in expected else _plain(one)
                for key, one in renamed.items()
            }
            yield fitted
            absent = {
                key: None
                for key, (kind, required) in expected.items()
                if required and key not in fitted and _kind(kind) is _union
            }
            yield {**absent, **{key: one for key, one in fitted.items() if key in expected}}
    if isinstance(value, str) or not known:
        yield value


@functools.lru_cache(maxsize=512)
def _spellings(cls: type) -> Mapping[str, str]:
    """The keys that pydantic expects, by what a model may write for them, which is a field's own name too."""
    known = record_names(cls)
    others = {normal_key(other): names.key for names in known for other in (*names.others, names.name, names.dumped)}
    return {**others, **{normal_key(names.key): names.key for names in known}}


def _wrapped(fields: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    # {"address": {...}}: the record under its own name.
    if len(fields) == 1:
        key, inner = next(iter(fields.items()))
        if isinstance(inner, Mapping) and normal_key(str(key)) not in names:
            yield inner


_SCALAR_KINDS: Final = frozenset({_truth, _number, _moment, _literal, _enumeration})
