"""What a storage keeps of a study beside its trials and evaluations, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from dspex.trials.state import StudyDirection

__all__ = ["PoolRecord", "StudyRecord"]


@attrs.frozen(kw_only=True)
class StudyRecord:
    """A study's own row: ``space`` is `Space.to_json()`, or ``None`` while no space is declared."""

    id: int
    name: str
    directions: tuple[StudyDirection, ...]
    space: dict[str, Any] | None = None
    user_attrs: Mapping[str, Any] = attrs.field(factory=dict)
    system_attrs: Mapping[str, Any] = attrs.field(factory=dict)


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
