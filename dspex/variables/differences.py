"""Differences between two spaces and between two states, as data and as text that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["SpaceDiff", "StateDiff"]

_LONG = 60


@attrs.frozen
class SpaceDiff:
    """What another space has that this one has not, lacks, and has differently; true when there is anything.

    ``changed`` maps a path to what changed there: name of the property → (in this space, in the other). The names
    of constraints stand in ``added`` and ``removed`` as ``constraint 'name'``.

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
            lines += [
                f"~ {path}: {name} {_short(old)} → {_short(new)}" for name, (old, new) in properties.items()
            ]
        return "\n".join(lines) or "no difference"


@attrs.frozen
class StateDiff:
    """The values that differ between two states: path → (in this state, in the other); true when there are any.

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
            if (
                shorts[0] == shorts[1]
                or "\n" in str(old) + str(new)
                or max(map(len, map(repr, (old, new)))) > _LONG
            ):
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
