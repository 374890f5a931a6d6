"""How fast a provider lets itself be asked: learned from what it says and from what it refuses.

A *bucket* holds what may be asked for at once and refills with time; there is one of requests and one of tokens.
What fills it is, in this order: the provider's own account of what is left (the headers OpenAI and Anthropic send
with each answer), or else AIMD as in TCP (Jacobson, "Congestion avoidance and control", 1988, section 3): unlimited
until the first refusal, then a share of what went through until then, then a little more each second.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Account", "Bucket", "Pace", "account_of"]

BACK_OFF = 0.7
"""What is left of the rate after a refusal."""

RECOVERY = 0.05
"""Of the rate that was refused, what is added to the rate each second."""

FORGOTTEN = 3.0
"""A rate that has grown to this many times the refused one is no limit any more."""

_SLOWEST = 0.1
"""Calls a second, at least: one refusal may be a mistake."""

TOLERATED = 0.15
"""The share of refusals that is left to the retries: less are no limit met, and do no harm."""

_OUTCOMES = 0.98
"""The share of refusals is over the last fifty outcomes: each weighs this much of the next."""

_FEWEST = 5.0

_MEMORY = 10.0
"""Seconds over which the rate of what goes through is averaged."""


class Account(NamedTuple):
    """What a provider says is left: ``limit`` in all, ``remaining`` now, all of it again in ``reset`` seconds."""

    limit: float
    remaining: float
    reset: float | None


class Bucket:
    """What may be taken, and how fast it comes back. Not locked: its owner is.

    >>> bucket = Bucket(now=0.0)
    >>> bucket.take(100.0, now=0.0)             # nothing is known yet
    0.0
    >>> bucket.refuse(now=1.0)                  # 100 in a second were too many
    >>> [round(bucket.take(35.0, now=1.0), 1) for _ in range(2)]  # so 70 a second from now on
    [0.5, 1.1]
    """

    __slots__ = ("_at", "_level", "_outstanding", "_peak", "_started", "_told", "_went", "_went_at", "rate")

    rate: float
    """Units a second; infinite while no limit is known."""

    def __init__(self, *, now: float) -> None:
        self.rate = math.inf
        self._level = 0.0
        self._at = self._went_at = self._started = now
        self._outstanding = 0.0
        self._peak = 0.0
        self._told: float | None = None  # the provider's own capacity
        self._went = 0.0  # a decaying sum of what was taken

    def take(self, amount: float, *, now: float) -> float:
        """Take ``amount``; gives the seconds to wait before it is used."""
        self._outstanding += amount
        self._went = self._went * math.exp((self._went_at - now) / _MEMORY) + amount
        self._went_at = now
        if self.rate == math.inf:
            return 0.0
        self._refill(now)
        self._level -= amount
        return max(0.0, -self._level / self.rate)

    def give_back(self, taken: float, used: float = 0.0) -> None:
        """What was ``taken`` has been used, or ``used`` of it (which may be more)."""
        self._outstanding = max(0.0, self._outstanding - taken)
        if self.rate != math.inf:
            self._level += taken - used

    def refuse(self, *, now: float) -> None:
        """The provider had enough: go on at a share of the rate there was."""
        lived = max(now - self._started, 1e-3)
        # The decaying sum as a rate, which a short life has not yet filled.
        went = self._went * math.exp((self._went_at - now) / _MEMORY) / (_MEMORY * -math.expm1(-lived / _MEMORY))
        self._peak = min(self.rate, max(went, _SLOWEST))
        self.rate = max(_SLOWEST, BACK_OFF * self._peak)
        self._at = now
        self._level = min(self._level, 0.0)

    def succeed(self, *, now: float) -> None:
        """The provider answered: a little faster from now on."""
        if self.rate == math.inf or self._told is not None:
            return
        self._refill(now)
        self.rate += RECOVERY * self._peak / max(1.0, self.rate)  # each answer its part of a second's
        if self.rate > FORGOTTEN * self._peak:
            self.rate = math.inf

    def told(self, account: Account, *, now: float) -> None:
        """The provider said what is left; calls on their way are not in it yet."""
        missing = account.limit - account.remaining
        per_second = missing / account.reset if account.reset and missing > 0 else account.limit / 60.0
        if per_second <= 0:
            return
        self.rate = per_second
        self._told = account.limit
        self._at = now
        self._level = account.remaining - self._outstanding

    def _refill(self, now: float) -> None:
        most = self.rate if self._told is None else self._told
        self._level = min(max(most, 1.0), self._level + (now - self._at) * self.rate)
        self._at = now


class Pace:
    """The requests and tokens one account may send to one model; shared by threads and tasks."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Know nothing."""
        now = time.monotonic()
        self._lock = threading.Lock()
        self.requests = Bucket(now=now)
        self.tokens = Bucket(now=now)
        self._held_until = 0.0
        self._refused = self._empty = -math.inf
        self._outcomes = self._refusals = 0.0

    def take(self, tokens: float) -> float:
        """Take one request of about so many tokens; gives the seconds to wait before it is sent."""
        now = time.monotonic()
        with self._lock:
            if self._held_until <= now:
                self._held_until = 0.0
            wait = max(self.requests.take(1.0, now=now), self.tokens.take(tokens, now=now))
            return max(wait, self._held_until - now)

    @property
    def horizon(self) -> float:
        """Seconds: who has to wait longer asks again then, since the rate will be another."""
        return max(1.0, 2.0 / min(self.requests.rate, 1.0))

    def held(self) -> float:
        """Seconds for which the provider does not want to be asked at all."""
        return max(0.0, self._held_until - time.monotonic()) if self._held_until else 0.0

    def give_back(self, tokens: float) -> None:
        """A request was not sent."""
        with self._lock:
            self.requests.give_back(1.0)
            self.tokens.give_back(tokens)

    def listen(self, headers: Mapping[str, str]) -> None:
        """What the provider says about its limits, with an answer or a refusal; names are in lower case."""
        now = time.monotonic()
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            account = account_of(headers, name)
            if account is not None:
                with self._lock:
                    bucket.told(account, now=now)
                    if account.remaining < 1:
                        self._empty = now

    def answered(self, tokens: float, used: float) -> None:
        """A request that took ``tokens`` was answered and used so many."""
        now = time.monotonic()
        with self._lock:
            self._outcomes = _OUTCOMES * self._outcomes + 1.0
            self._refusals *= _OUTCOMES
            self.requests.give_back(1.0, 1.0)
            self.tokens.give_back(tokens, used)
            self.requests.succeed(now=now)
            self.tokens.succeed(now=now)

    def failed(self, tokens: float) -> None:
        """A request ended without an answer, and not for its number."""
        with self._lock:
            self.requests.give_back(1.0, 1.0)
            self.tokens.give_back(tokens, tokens)

    def refused(self, tokens: float, *, taken: float, retry_after: float | None) -> None:
        """A request taken at ``taken`` was one too many; nobody asks again for ``retry_after`` seconds."""
        now = time.monotonic()
        with self._lock:
            self.requests.give_back(1.0, 1.0)
            self.tokens.give_back(tokens)
            if retry_after is not None:
                self._held_until = max(self._held_until, now + retry_after)
            # A provider that says when there will be room is taken at its word. Otherwise go slower, but what was
            # in line or on its way when the rate was last set says nothing about that rate.
            if taken < self._refused:
                return
            self._outcomes = _OUTCOMES * self._outcomes + 1.0
            self._refusals = _OUTCOMES * self._refusals + 1.0
            # More than chance makes of the tolerated share (by its standard deviation), lest a single unlucky one at
            # the start of each count slow all down again and again.
            chance = math.sqrt(TOLERATED * (1.0 - TOLERATED) * self._outcomes)
            many = self._outcomes >= _FEWEST and self._refusals > TOLERATED * self._outcomes + chance
            if many and self._empty < taken:
                self._refused = now
                self._outcomes = self._refusals = 0.0
                self.requests.refuse(now=now)
                self.tokens.refuse(now=now)


def account_of(headers: Mapping[str, str], name: str) -> Account | None:
    """What rate-limit headers (lower case) say about ``"requests"`` or ``"tokens"``; ``None`` if nothing.

    >>> account_of({"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "900",
    ...             "x-ratelimit-reset-tokens": "1m6s"}, "tokens")
    Account(limit=1000.0, remaining=900.0, reset=66.0)
    """
    # Anthropic's first: litellm says the same in OpenAI's way, and leaves the reset out.
    for pattern in (f"anthropic-ratelimit-{name}-{{}}", f"x-ratelimit-{{}}-{name}"):
        limit, remaining = headers.get(pattern.format("limit")), headers.get(pattern.format("remaining"))
        if limit is None or remaining is None:
            continue
        try:
            return Account(float(limit), float(remaining), _seconds(headers.get(pattern.format("reset"))))
        except ValueError:
            continue
    return None


_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")


def _seconds(text: str | None) -> float | None:
    """``"6m0s"``, ``"120ms"``, ``"3"`` or a moment in ISO 8601, as seconds from now."""
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    if (match := _DURATION.fullmatch(text)) and any(match.groups()):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    try:
        from datetime import datetime  # only Anthropic names moments

        return max(0.0, datetime.fromisoformat(text).timestamp() - time.time())
    except ValueError:
        return None
