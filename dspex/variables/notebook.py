"""Tables for notebooks and pages. All that is put into one is escaped: prompts and answers are not to be trusted."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex.variables.space import Space

__all__ = ["space_html", "table", "written"]

_LONG = 600


def written(value: Any, limit: int = _LONG) -> str:
    """A value as a short text on one line; not escaped.

    >>> written(0.123456789), written("a\\n  b"), written(None)
    ('0.123457', 'a b', '')
    """
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, note: str = "") -> str:
    """An HTML table of values, with its title above and a note below.

    >>> table("<b>", ["x"], [["<script>"]])
    '<div class="dspex"><strong>&lt;b&gt;</strong><table><thead><tr><th>x</th></tr></thead><tbody><tr><td>\
&lt;script&gt;</td></tr></tbody></table></div>'
    """
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(written(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    above = f"<strong>{html.escape(title)}</strong>" if title else ""
    below = f"<p>{html.escape(note)}</p>" if note else ""
    return f'<div class="dspex">{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>'


def space_html(space: Space) -> str:
    """The variables of a space as a table."""
    rows = []
    for path, entry in space.items():
        derived = entry.inputs is not None
        domain = f"derived from {', '.join((entry.inputs or {}).values())}" if derived else repr(entry.domain)
        tuned = "yes" if entry.tunable else "no"
        when = " and ".join(map(str, entry.conditions)) or "always"
        rows.append((path, domain, None if derived else repr(entry.default), tuned, when, entry.doc))
    rules = "; ".join(f"constraint {rule.name}: {rule.reason}" for rule in space.constraints)
    return table(
        repr(space).strip("<>"), ("variable", "domain", "default", "tuned", "active when", "notes"), rows, note=rules
    )
