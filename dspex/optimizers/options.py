"""Checks that all optimizers share."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from dspex.errors import DefinitionError
from dspex.proposers import Proposer

__all__ = ["check_proposers", "option_names"]


def option_names(optimizer: type[Any]) -> list[str]:
    """The settings that ``optimizer`` is made with, those of its bases included."""
    classes = [kind for kind in optimizer.__mro__ if "__init__" in vars(kind) and kind is not object]
    known = {option: None for kind in classes for option in inspect.signature(vars(kind)["__init__"]).parameters}
    return [option for option in known if option not in ("self", "options", "unknown")]


def check_proposers(proposers: Any) -> None:
    """Raise `DefinitionError` when ``proposers`` is neither None nor a list of proposers."""
    if proposers is not None and (
        not isinstance(proposers, Sequence) or not all(isinstance(one, Proposer) for one in proposers)
    ):
        raise DefinitionError(
            f"proposers must be a list of proposers, got {proposers!r} ({type(proposers).__name__}); write "
            "for example proposers=[dspex.proposers.LabeledDemos()]"
        )
