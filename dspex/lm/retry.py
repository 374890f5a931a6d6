"""How long to wait before a call is made again."""

from __future__ import annotations

import random

from dspex.errors import LMError

__all__ = ["FIRST_WAIT", "LONGEST_WAIT", "wait_before_retry"]

FIRST_WAIT = 0.5
"""Seconds, at most, before the first retry; twice as many, at most, before each further one."""

LONGEST_WAIT = 60.0
"""A provider that wishes for a longer wait is not waited for."""

_jitter = random.Random()


def wait_before_retry(error: LMError, attempt: int, *, retries: int, left: float | None) -> float | None:
    """Seconds until attempt ``attempt + 1``; ``None`` when there is to be none.

    ``left`` is what remains of the call's time: a wait that would use it up is pointless. A provider's
    ``Retry-After`` is a minimum. The rest is random from zero on ("full jitter": Brooker, "Exponential backoff and
    jitter", 2015), so that calls refused together do not return together.

    >>> from dspex.errors import LMAuthError, LMRateLimitError
    >>> wait_before_retry(LMAuthError("no key"), 0, retries=3, left=None)
    >>> 2.0 <= wait_before_retry(LMRateLimitError("later", retry_after=2.0), 0, retries=3, left=None) <= 2.5
    True
    """
    if not error.retryable or attempt >= retries:
        return None
    wait = min(FIRST_WAIT * 2.0**attempt, LONGEST_WAIT) * _jitter.random()
    if error.retry_after is not None:
        if error.retry_after > LONGEST_WAIT:
            return None
        wait = error.retry_after + min(wait, 0.25 * error.retry_after)
    return None if left is not None and wait >= left else wait
