"""Differences between two spaces and between two states, as data and as text that a person reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from dspex.variables.entries import Constraint, Entry
from dspex.variables.values import same

if TYPE_CHECKING:
    from dspex.variables.space import Space

__all__ = ["SpaceDiff", "StateDiff", "space_diff", "space_mismatch"]

_LONG = 60


@attrs.frozen
class SpaceDiff:
    """What another space has that this one has not, lacks, and has differently; true when there is anything.

    ``changed`` maps a path to what changed there: name of the property → (in this space, in the other). The
    names of constraints stand in ``added`` and ``removed`` as ``constraint 'name'``.

    >>> from dspex.variables import Int, Space
    >>> print(Space.of(depth=Int(1, 5)).diff(Space.of(depth=Int(1, 9), breadth=Int(1, 2))))
    + breadth: Int(1, 2)
    ~ depth: domain Int(1, 5) → Int(1, 9)
    """

    added: Mapping[str, str]
    removed: Mapping[str, str]
    changed: Mapping[str, Mapping[str, tuple[Any, Any]]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        lines = [f"+ {path}: {what}" for path, what in self.added.items()]
        lines += [f"- {path}: {what}" for path, what in self.removed.items()]
        for path, properties in self.changed.items():
            lines += [f"~ {path}: {name} {_short(old)} → {_short(new)}" for name, (old, new) in properties.items()]
        return "\n".join(lines) or "no difference"


@attrs.frozen
class StateDiff:
    """The values that differ between two states, path → (in this one, in the other); true when there are any.

    ``added`` and ``removed`` are paths that only the other, or only this state has, when their spaces differ.

    >>> from dspex.variables import Int, Space
    >>> space = Space.of(depth=Int(1, 5))
    >>> print(space.state(depth=1).diff(space.state(depth=4)))
    ~ depth: 1 → 4
    """

    changed: Mapping[str, tuple[Any, Any]]
    added: Mapping[str, Any] = attrs.field(factory=dict)
    removed: Mapping[str, Any] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        lines = [f"+ {path}: {_short(value)}" for path, value in self.added.items()]
        lines += [f"- {path}: {_short(value)}" for path, value in self.removed.items()]
        for path, (old, new) in self.changed.items():
            shorts = _short(old), _short(new)
            if shorts[0] == shorts[1] or "\n" in str(old) + str(new) or max(map(len, map(repr, (old, new)))) > _LONG:
                lines += [f"~ {path}:", *_block("-", old), *_block("+", new)]
            else:
                lines.append(f"~ {path}: {shorts[0]} → {shorts[1]}")
        return "\n".join(lines) or "no difference"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def _block(sign: str, value: Any) -> list[str]:
    if isinstance(value, str):
        rows = value.splitlines() or [""]
    elif isinstance(value, tuple | list) and value:
        rows = [repr(item) for item in value]
    else:
        rows = [repr(value)]
    return [f"    {sign} {row}" for row in rows]


_COMPARED: Mapping[str, Callable[[Entry], Any]] = {
    "domain": lambda entry: entry.domain,
    "default": lambda entry: entry.default,
    "tunable": lambda entry: entry.tunable,
    "optional": lambda entry: entry.optional,
    "conditions": lambda entry: tuple(map(str, entry.conditions)),
    "readers": lambda entry: entry.readers,
    "inputs": lambda entry: None if entry.inputs is None else dict(entry.inputs),
    "doc": lambda entry: entry.doc,
}


def space_diff(
    mine: Mapping[str, Entry],
    theirs: Mapping[str, Entry],
    my_constraints: Iterable[Constraint],
    their_constraints: Iterable[Constraint],
) -> SpaceDiff:
    """Return what ``theirs`` has more, less and differently; see `SpaceDiff`."""
    added = {path: _what(entry) for path, entry in theirs.items() if path not in mine}
    removed = {path: _what(entry) for path, entry in mine.items() if path not in theirs}
    changed: dict[str, dict[str, tuple[Any, Any]]] = {}
    for path, entry in mine.items():
        if path in theirs:
            pairs = {name: (read(entry), read(theirs[path])) for name, read in _COMPARED.items()}
            different = {name: pair for name, pair in pairs.items() if not same(*pair)}
            if different:
                changed[path] = different
    old, new = ({f"constraint {one.name!r}": one for one in them} for them in (my_constraints, their_constraints))
    added.update({label: rule.reason for label, rule in new.items() if label not in old})
    removed.update({label: rule.reason for label, rule in old.items() if label not in new})
    for label, rule in old.items():
        if label in new and rule != new[label]:
            changed[label] = {
                "reads": (dict(rule.inputs), dict(new[label].inputs)),
                "reason": (rule.reason, new[label].reason),
            }
    return SpaceDiff(added, removed, changed)


def _what(entry: Entry) -> str:
    return repr(entry.domain) if entry.inputs is None else f"derived from {', '.join(entry.inputs.values())}"


def space_mismatch(json: Mapping[str, Any], space: Space) -> str:
    """Return what is different between a space and the one that a state's JSON was written from."""
    saved: Mapping[str, str] = json["domains"]
    now = {path: repr(entry.domain) for path, entry in space.items() if not entry.is_derived}
    lines = [f"+ {path}: {now[path]} (not in the saved state)" for path in now if path not in saved]
    lines += [f"- {path}: {saved[path]} (only in the saved state)" for path in saved if path not in now]
    lines += [f"~ {path}: {saved[path]} → {now[path]}" for path in now if path in saved and saved[path] != now[path]]
    what = "\n".join(lines) or "The conditions, derived variables or constraints between them are different."
    return (
        f"This state was saved from another space ({json['space']}, this one is {space.hash}):\n{what}\nLoad "
        f"it into the program it was saved from, or take over what fits: space.state({{path: value, ...}})."
    )
