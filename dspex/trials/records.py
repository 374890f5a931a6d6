"""What a storage keeps of a study beside its trials and evaluations, as plain data."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from dspex.trials.state import StudyDirection

__all__ = ["AttrRecord", "PoolRecord", "StudyRecord"]


@attrs.frozen(kw_only=True)
class StudyRecord:
    """A study's own row: ``space`` is `Space.to_json()`, or ``None`` while no space is declared."""

    id: int
    name: str
    directions: tuple[StudyDirection, ...]
    space: dict[str, Any] | None = None


@attrs.frozen
class AttrRecord:
    """One attribute of a study: a plain value under a key, the user's or the system's."""

    kind: Literal["user", "system"]
    key: str
    value: Any


@attrs.frozen(kw_only=True)
class PoolRecord:
    """One candidate of the open-ended variable at ``path``: its value, domain and metadata as JSON."""

    path: str
    id: str
    domain: dict[str, Any]
    value: Any
    parents: tuple[str, ...] = ()
    source: str = ""
    note: str = ""
    metadata: dict[str, Any] = attrs.field(factory=dict)
