"""Reading an answer that is not well-formed, with all that is known of how models deviate.

Each output is looked for in several places of the text: under its header (exact, nearly exact, or of another
kind), in JSON, under a header of another name, in front of the first header, or in the whole text when it is
the only output. The places that hold every output come first. What is found has to pass the output's type;
the first find that does is the value.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dspex.adapters.candidates import is_structured
from dspex.adapters.fitting import Unreadable, read_value
from dspex.adapters.lines import has_bullets, item_lines, key_value_lines, normal_key
from dspex.adapters.repair import json_values, outside_json
from dspex.adapters.tags import elements, from_markup
from dspex.errors import ParseError

if TYPE_CHECKING:
    from dspex.adapters.layout import Layout, Output

__all__ = ["recovered"]

_Finds = dict[str, list[Any]]
"""Candidates by output: `_Text` for what stood in the text, plain data for what JSON held."""


class _Text(str):
    """A piece of the answer itself: here ``null`` means that there is no value; JSON's "null" is a word."""

    __slots__ = ()


class Format(Protocol):
    """What recovery has to know of an adapter."""

    name: ClassVar[str]
    json_first: ClassVar[bool]
    tags_first: ClassVar[bool]
    field_form: ClassVar[str]

    def unguard(self, layout: Layout, text: str) -> str: ...


def recovered(layout: Layout, text: str, adapter: Format) -> dict[str, Any]:
    """The outputs in ``text``; raises `ParseError` naming each output that cannot be read, and why."""
    headers, tagged = layout.headers, adapter.tags_first
    whole, text = text, _answer_in(layout, text)
    if tagged and "&lt;" in text and "<" not in text:
        text = from_markup(text)
    objects = _objects(text, () if adapter.json_first else [output.placeholder for output in layout.outputs])

    def texts(found: dict[str, list[str]]) -> _Finds:
        return {name: [_Text(adapter.unguard(layout, one)) for one in each] for name, each in found.items()}

    in_json, in_sections = _in_json(layout, objects), texts(headers.strict(text, tags=tagged))
    finds = [in_json, in_sections] if adapter.json_first else [in_sections, in_json]
    if not any(layout.names <= found.keys() for found in finds):
        finds.append(texts(headers.loose(text, tags=tagged)))
    finds.sort(key=lambda found: not layout.names <= found.keys())
    missing = [name for name in layout.names if not any(name in found for found in finds)]
    if missing:
        finds += _last_resorts(layout, text, missing, objects, texts)
    # Of what is well-formed, an empty text is one, and not a gap that something like JSON in another output might fill.
    settled = in_sections if finds[0] is in_sections and layout.names <= in_sections.keys() else {}
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for output in layout.outputs:
        if settled.get(output.name) == [""] and _may_be_empty(output):
            values[output.name] = ""
            continue
        candidates = [one for found in finds for one in found.get(output.name, ())]
        try:
            values[output.name] = _first_readable(output, candidates, adapter.field_form)
        except Unreadable as reason:
            problems[output.name] = str(reason)
    if not problems:
        return values
    asked = len(layout.outputs)
    what = "the output" if asked == 1 else f"{len(problems)} of {asked} outputs"
    raise ParseError(
        f"the {adapter.name} adapter could not read {what} from the model's answer.\n  "
        + "\n  ".join(f"`{name}` ({layout.signature.fields[name].type_name}): {why}" for name, why in problems.items())
        + f"\n  the answer: {_shortened(whole, 300)}",
        text=whole,
        partial=values,
        problems=problems,
        adapter=adapter.name,
    )


_THOUGHTS = re.compile(
    r"\s*<(think|thinking|thought|thoughts|reflection|scratchpad)>.*?</\1>|\A[^<]*</(?:think|thinking)>",
    re.DOTALL | re.IGNORECASE,
)
_ENDING = re.compile(r"\[\[[ \t]*##[ \t]*completed\b.*\Z", re.DOTALL)


def _answer_in(layout: Layout, text: str) -> str:
    """``text`` without the thoughts that some models write before their answer."""
    thoughts = _THOUGHTS.match(text)
    if thoughts is None or layout.output_named((thoughts[1] or "").strip()) is not None:
        return text
    return text[thoughts.end() :]


def _first_readable(output: Output, candidates: Iterable[Any], form: str) -> Any:
    reason: str | None = None
    empty = False
    for candidate in candidates:
        if isinstance(candidate, _Text) and (candidate in _UNFILLED or candidate == output.placeholder):
            empty = empty or candidate in _UNFILLED
            continue
        if _is_schema(candidate):
            continue
        try:
            return _read(output, candidate)
        except Unreadable as error:
            reason = reason or f"{error}; the model wrote {_shortened(candidate, 120)}"
    if empty and reason is None:
        try:
            return _read(output, _Text())
        except Unreadable as error:
            reason = f"{error}; the model left it empty"
    raise Unreadable(reason or f"not found; expected {form.format(name=output.name)} and its value")


_UNFILLED = frozenset({"", "...", "…"})
_SCHEMA_WORDS = frozenset({"type", "title", "description", "enum", "items", "default", "format", "anyOf", "properties"})
_SCHEMA_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})


def _is_schema(value: Any) -> bool:
    """Whether ``value`` is what was said about an output, given back instead of it."""
    return (
        isinstance(value, dict)
        and value.keys() <= _SCHEMA_WORDS
        and isinstance(kind := value.get("type"), str)
        and kind in _SCHEMA_TYPES
    )


def _read(output: Output, candidate: Any) -> Any:
    if not isinstance(candidate, _Text):
        try:
            return output.check(candidate)
        except Exception:  # out of the ordinary: `read_value` is the judge
            return read_value(output.field.annotation, output.field.adapter, candidate)
    text = str(candidate)
    if output.field.annotation is bool:
        # "Not supported" for an output `supported`.
        said, name = normal_key(text), normal_key(output.name)
        if said in (name, f"is{name}", f"not{name}", f"isnot{name}", f"un{name}"):
            return said in (name, f"is{name}")
    return text if output.read is None else read_value(output.field.annotation, output.field.adapter, text)


def _in_json(layout: Layout, objects: list[dict[Any, Any]]) -> _Finds:
    """What JSON objects hold under the outputs' names, the most complete object first."""
    maps = []
    for value in objects:
        for fields in (value, *value.values()):
            if isinstance(fields, dict):
                named = _named(layout, fields)
                if named:
                    maps.append(named)
                    break
    found: _Finds = {}
    for named in sorted(maps, key=len, reverse=True):
        for name, held in named.items():
            found.setdefault(name, []).append(held)
    return found


def _named(layout: Layout, fields: dict[Any, Any]) -> dict[str, Any]:
    """The outputs among the fields of an object, first by their keys, then by keys that are nearly theirs."""
    named: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, held in fields.items():
        name = layout.output_named(str(key))
        if name is None:
            others[normal_key(str(key))] = held
        else:
            named.setdefault(name, held)
    if named and others:
        for name in layout.names - named.keys():
            close = difflib.get_close_matches(normal_key(name), others, n=1, cutoff=0.75)
            if close:
                named[name] = others.pop(close[0])
    missing = layout.names - named.keys()
    if named and len(missing) == 1 and len(others) == 1:
        (name,), (key,) = missing, others
        if normal_key(name) in key:  # "final_answer"
            named[name] = others[key]
    return named


def _objects(text: str, placeholders: Iterable[str]) -> list[dict[Any, Any]]:
    if "{" not in text and '"' not in text and "“" not in text:
        return []
    unfilled = [placeholder for placeholder in placeholders if placeholder in text]
    if unfilled:  # left as the prompt has them, unless they are words of the answer
        text = outside_json(text, lambda part: _without(part, unfilled))
    plain = text.strip().strip('"')
    if plain.startswith('{\\"'):  # an object inside a string
        with contextlib.suppress(ValueError):
            text = json.loads(f'"{plain}"', strict=False)
    found: list[dict[Any, Any]] = []
    for value in json_values(text):
        found += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    return found


def _without(text: str, words: Iterable[str]) -> str:
    for word in words:
        text = text.replace(word, "")
    return text


def _last_resorts(
    layout: Layout,
    text: str,
    missing: list[str],
    objects: list[dict[Any, Any]],
    texts: Callable[[dict[str, list[str]]], _Finds],
) -> list[_Finds]:
    """Where outputs may be that have no header and no key: at most one guess each, and only a safe one."""
    first = layout.outputs[0]
    finds = [texts(layout.headers.renamed(text, missing))]
    if len(layout.outputs) == 1:
        if len(objects) == 1 and len(objects[0]) == 1 and not is_structured(first.field.annotation):
            finds.append({first.name: list(objects[0].values())})
        if not is_structured(first.field.annotation) or _looks_structured(text):
            finds.append(texts({first.name: [_ENDING.sub("", text).strip()]}))
        return finds
    lead = layout.headers.lead(text)
    if first.name in missing and lead and not is_structured(first.field.annotation):
        finds.append(texts({first.name: [lead]}))
    if len(missing) < len(layout.outputs):
        # Nothing was said about an output that may be null.
        unsaid = [output for output in layout.outputs if output.name in missing and _nullable(output)]
        finds.append({output.name: [None] for output in unsaid})
    return finds


def _looks_structured(text: str) -> bool:
    """Whether ``text`` is JSON, lines or a list, not a sentence, which would make a list as well."""
    if elements(text) or has_bullets(text) or key_value_lines(text) or next(json_values(text), None) is not None:
        return True
    return all(len(item.split()) <= 4 for item in item_lines(text))


def _may_be_empty(output: Output) -> bool:
    try:
        return bool(_read(output, _Text()) == "")
    except Unreadable:
        return False


def _nullable(output: Output) -> bool:
    try:
        return output.check(None) is None
    except Exception:  # pydantic's no, or that of a validator of the user's own
        return False


def _shortened(value: Any, limit: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > limit:
        text = f"{text[: limit - 40]} ... {text[-34:]}"
    return repr(str(text))
