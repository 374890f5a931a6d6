"""Reading an answer that takes further questions: one contract for a second step and for asking again."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from dspex.lm import BaseLM, LMRequest

__all__ = ["FollowUp", "Reading"]


class FollowUp:
    """A further question: the ``request`` and the model that it goes to."""

    __slots__ = ("lm", "request")

    def __init__(self, request: LMRequest, lm: BaseLM) -> None:
        self.request = request
        self.lm = lm


Reading: TypeAlias = Generator[FollowUp, str, dict[str, Any]]
"""Yields what has to be asked, is sent the text of each answer, and returns the outputs."""
