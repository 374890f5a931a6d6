"""A space as JSON, and the hash of what decides whether a state fits it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from dspex.errors import StateError
from dspex.variables.codec import Json, content_id
from dspex.variables.domain import Domain
from dspex.variables.entries import Condition, Constraint, Entry
from dspex.variables.options import encoded_option, option_from_json

__all__ = ["SCHEMA", "space_from_json", "space_hash", "space_to_json"]

SCHEMA = 1
"""The version of a space's JSON."""


def space_to_json(entries: Mapping[str, Entry], constraints: Iterable[Constraint], identity: str) -> dict[str, Json]:
    """Return a space as JSON."""
    return {
        "schema": SCHEMA,
        "hash": identity,
        "entries": [_entry_to_json(entry, entries) for entry in entries.values()],
        "constraints": [{"name": one.name, "inputs": dict(one.inputs), "reason": one.reason} for one in constraints],
    }


def space_from_json(json: Mapping[str, Any]) -> tuple[list[Entry], tuple[Constraint, ...]]:
    """Return entries and constraints, without their functions; see `Space.from_json`."""
    try:
        if json["schema"] != SCHEMA:
            raise StateError(
                f"This space was written as schema {json['schema']!r}, and this dspex reads schema {SCHEMA}. "
                f"Read it with the dspex that wrote it."
            )
        plain = {row["path"]: _entry_from_json(row) for row in json["entries"]}
        entries = [
            attrs.evolve(plain[row["path"]], conditions=_conditions_from_json(row, plain)) for row in json["entries"]
        ]
        constraints = tuple(Constraint(row["name"], dict(row["inputs"]), row["reason"]) for row in json["constraints"])
    except (KeyError, TypeError, AttributeError) as error:
        raise StateError(f"The JSON of a space is damaged: {type(error).__name__}: {error}.") from error
    return entries, constraints


def space_hash(entries: Mapping[str, Entry], constraints: Iterable[Constraint]) -> str:
    """Return the hash; see `Space.hash` for what counts."""
    rows = []
    for path in sorted(entries):
        row = _entry_to_json(entries[path], entries)
        for name in ("default", "tunable", "doc", "readers"):
            row.pop(name, None)
        row["conditions"] = sorted(map(content_id, row.get("conditions", [])))
        rows.append(row)
    rules = sorted([one.name, content_id(dict(one.inputs))] for one in constraints)
    return content_id([rows, rules])


def _entry_to_json(entry: Entry, entries: Mapping[str, Entry]) -> dict[str, Json]:
    json: dict[str, Json] = {"path": entry.path}
    if entry.domain is not None:
        json["domain"] = entry.domain.to_json()
        json["default"] = entry.encode(entry.default)
        json["tunable"] = entry.tunable
        if entry.optional:
            json["optional"] = True
    else:
        json["inputs"] = dict(entry.inputs or {})
    if entry.conditions:
        json["conditions"] = [{"path": one.path, "value": _condition_value(one, entries)} for one in entry.conditions]
    if entry.readers:
        json["readers"] = list(entry.readers)
    if entry.doc:
        json["doc"] = entry.doc
    return json


def _entry_from_json(json: Mapping[str, Any]) -> Entry:
    readers, doc = tuple(json.get("readers", ())), json.get("doc", "")
    if "domain" not in json:
        return Entry(json["path"], None, inputs=dict(json["inputs"]), readers=readers, doc=doc)
    domain = Domain.from_json(json["domain"])
    optional = bool(json.get("optional", False))
    default = json["default"]
    return Entry(
        json["path"],
        domain,
        None if default is None and optional else domain.decode(default),
        tunable=json["tunable"],
        readers=readers,
        doc=doc,
        optional=optional,
    )


def _condition_value(condition: Condition, entries: Mapping[str, Entry]) -> Json:
    try:
        return entries[condition.path].encode(condition.value)
    except StateError:  # a narrower domain does not have the value any more
        return encoded_option("Condition", condition.value)


def _conditions_from_json(row: Mapping[str, Any], entries: Mapping[str, Entry]) -> tuple[Condition, ...]:
    conditions: list[Condition] = []
    for one in row.get("conditions", ()):
        try:
            value = entries[one["path"]].decode(one["value"])
        except StateError:
            value = option_from_json(one["value"])
        conditions.append(Condition(one["path"], value))
    return tuple(conditions)
