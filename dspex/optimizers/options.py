"""Checks that all optimizers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspex.errors import DefinitionError
from dspex.proposers import Proposer

__all__ = ["check_proposers", "check_whole"]


def check_whole(name: str, value: Any, least: int | None) -> None:
    """Raise `DefinitionError` when ``value`` is no whole number, or is below ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        limit = "" if least is None else f" from {least} on"
        raise DefinitionError(
            f"{name} must be a whole number{limit}, got {value!r} ({type(value).__name__}); write for example "
            f"{name}={max(least or 0, 8)}"
        )


def check_proposers(proposers: Any) -> None:
    """Raise `DefinitionError` when ``proposers`` is neither None nor a list of proposers."""
    if proposers is not None and (
        not isinstance(proposers, Sequence) or not all(isinstance(one, Proposer) for one in proposers)
    ):
        raise DefinitionError(
            f"proposers must be a list of proposers, got {proposers!r} ({type(proposers).__name__}); write "
            "for example proposers=[dspex.proposers.LabeledDemos()]"
        )
