"""Reading an answer that takes further questions: one contract for a second step and for asking again."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from dspex.lm import BaseLM, Completion, LMRequest

__all__ = ["FollowUp", "Reading"]


class FollowUp:
    """A further question: the ``request`` and the model that it goes to."""

    __slots__ = ("lm", "request")

    def __init__(self, request: LMRequest, lm: BaseLM) -> None:
        self.request = request
        self.lm = lm


Reading: TypeAlias = Generator[FollowUp, "Completion", dict[str, Any]]
"""Yields what has to be asked, is sent the completion that answers it, and returns the outputs."""
