"""A space as a table that a person reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dspex.variables.messages import counted

if TYPE_CHECKING:
    from dspex.variables.space import Space

__all__ = ["describe"]

_WIDEST = 44


def describe(space: Space) -> str:
    """Return the table; see `Space.describe`.

    >>> from dspex.variables import Int, Space, derived, variable
    >>> print(Space.of(
    ...     depth=variable(Int(1, 5), default=3, doc="documents read per question"),
    ...     tokens=derived(lambda depth: 100 * depth),
    ... ).describe())
    variable  domain              default  tuned  active when  notes
    depth     Int(1, 5)           3        yes    always       documents read per question
    tokens    derived from depth           no     always
    2 variables, 1 tunable, 5 configurations
    """
    rows = [("variable", "domain", "default", "tuned", "active when", "notes")]
    searched = set(space.tunable)
    for path, entry in space.items():
        notes = [entry.doc] if entry.doc else []
        if entry.readers:
            notes.append(f"also read at {', '.join(entry.readers)}")
        derived = entry.inputs is not None
        rows.append(
            (
                path,
                _short(f"derived from {', '.join((entry.inputs or {}).values())}" if derived else repr(entry.domain)),
                "" if derived else _short(repr(entry.default)),
                "yes" if path in searched else "no",
                " and ".join(map(str, entry.conditions)) or "always",
                "; ".join(notes),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"constraint {rule.name}: {rule.reason}" for rule in space.constraints]
    size = space.size()
    count = "infinitely many configurations" if math.isinf(size) else counted(int(size), "configuration")
    lines.append(f"{counted(len(space), 'variable')}, {len(space.tunable)} tunable, {count}")
    return "\n".join(lines)


def _short(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
