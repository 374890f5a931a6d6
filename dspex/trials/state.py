"""Where a trial stands, and which way an objective is to go."""

from __future__ import annotations

import enum

from dspex.errors import StudyError

__all__ = ["StudyDirection", "TrialState"]


class TrialState(enum.IntEnum):
    """Where a trial stands; the numbers are Optuna's.

    >>> TrialState.PRUNED.is_finished, TrialState.WAITING.is_finished
    (True, False)
    """

    RUNNING = 0
    """Asked for and not told yet."""
    COMPLETE = 1
    """Told with a value for every objective."""
    PRUNED = 2
    """Ended early, because it was not worth finishing."""
    FAIL = 3
    """Ended without a value; never used to rank anything."""
    WAITING = 4
    """Queued with some or all of its values, to be run by the next `ask`."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing about the trial will change any more."""
        return self in _FINISHED


_FINISHED = frozenset({TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL})


class StudyDirection(enum.StrEnum):
    """Which way an objective is to go; equal to its plain spelling.

    >>> StudyDirection.parse("maximize") == "maximize"
    True
    """

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @classmethod
    def parse(cls, value: object) -> StudyDirection:
        """The direction that ``value`` spells.

        Raises:
            StudyError: when it spells none.
        """
        if isinstance(value, str) and value in (cls.MINIMIZE, cls.MAXIMIZE):
            return cls(value)
        raise StudyError(
            f"direction must be 'minimize' or 'maximize', got {value!r} ({type(value).__name__}). "
            "Write create_study(direction='maximize'), or directions=['maximize', 'minimize'] for two "
            "objectives."
        )

    @property
    def sign(self) -> float:
        """What a value is multiplied with so that smaller is better."""
        return 1.0 if self is StudyDirection.MINIMIZE else -1.0
