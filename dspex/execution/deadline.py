"""When a run's time is up."""

from __future__ import annotations

import math
import time

from dspex.errors import DeadlineExceeded, DefinitionError

__all__ = ["Deadline"]


class Deadline:
    """A moment on the monotonic clock, ``seconds`` after the deadline was made.

    Raises `DefinitionError` when ``seconds`` is no positive, finite number.

    >>> deadline = Deadline(60.0)
    >>> deadline.expired
    False
    >>> 59 < deadline.remaining() <= 60
    True
    """

    __slots__ = ("at", "seconds")

    at: float
    """The moment, as `time.monotonic` counts."""

    seconds: float
    """How long it was when it was made; for messages."""

    def __init__(self, seconds: float) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise DefinitionError(
                f"deadline must be a number of seconds, not {seconds!r} ({type(seconds).__name__}); "
                "write for example deadline=30.0"
            )
        if not (seconds > 0 and math.isfinite(seconds)):
            raise DefinitionError(
                f"deadline must be more than 0 seconds and finite, not {seconds!r} ({type(seconds).__name__}); "
                "write for example deadline=30.0, or leave it out for no deadline"
            )
        self.seconds = float(seconds)
        self.at = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left; negative when it is past."""
        return self.at - time.monotonic()

    @property
    def expired(self) -> bool:
        """Whether the moment has come."""
        return time.monotonic() >= self.at

    def check(self) -> None:
        """Raise `DeadlineExceeded` when the moment has come."""
        if time.monotonic() >= self.at:
            raise DeadlineExceeded(f"the deadline of {self.seconds:g} s is over")

    def __repr__(self) -> str:
        return f"<Deadline: {self.remaining():.3g} of {self.seconds:g} s left>"
