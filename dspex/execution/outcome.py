"""What became of one item of a batch."""

from __future__ import annotations

import math
from typing import Any, Generic, TypeVar

from dspex.errors import DefinitionError
from dspex.execution.deadline import Deadline

__all__ = ["Outcome", "Outcomes"]

T = TypeVar("T")
R = TypeVar("R")

LONGEST_GRACE = 0.1
LONGEST_ENDING = 10.0
"""Seconds, at most, that the end of a batch waits for outcomes that are being written down."""


class Outcome(Generic[T, R]):
    """What became of one item: a ``value``, or the ``error`` it ended in.

    ``index`` is its place among the items and ``seconds`` how long it took.

    >>> outcome = Outcome(0, "item", value=3)
    >>> outcome.ok, outcome.result()
    (True, 3)
    """

    __slots__ = ("error", "index", "item", "seconds", "value")

    index: int
    item: T
    value: R | None
    error: BaseException | None
    seconds: float

    def __init__(
        self,
        index: int,
        item: T,
        *,
        value: R | None = None,
        error: BaseException | None = None,
        seconds: float = 0.0,
    ) -> None:
        self.index = index
        self.item = item
        self.value = value
        self.error = error
        self.seconds = seconds

    @property
    def ok(self) -> bool:
        """Whether it has a value."""
        return self.error is None

    def result(self) -> R:
        """The value; raises the error when there is one."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # without an error it is what was returned

    def __repr__(self) -> str:
        return f"<Outcome {self.index}: {self.value if self.error is None else self.error!r}>"


class Outcomes(list[Outcome[T, R]]):
    """Outcomes by index; ``interrupted`` when Ctrl-C ended the batch and some are missing."""

    interrupted: bool = False


def checked_concurrency(value: Any) -> int:
    """How many at once: a whole number, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DefinitionError(
            f"concurrency must be a whole number, 1 or more, not {value!r} ({type(value).__name__}); "
            "write for example concurrency=8"
        )
    return value


def checked_deadline(value: Any) -> float | None:
    """Seconds for each item, or ``None``."""
    if value is None or (isinstance(value, float) and math.isinf(value) and value > 0):
        return None
    return Deadline(value).seconds


def grace(deadline: float | None) -> float:
    """How long an item whose time is up may take to end by itself, with its accounts in order."""
    return LONGEST_GRACE if deadline is None else min(LONGEST_GRACE, 0.1 * deadline)
