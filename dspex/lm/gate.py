"""What stands before the calls to one model of one account: a circuit breaker, a pace, and a number of places.

The breaker and the pace belong to the account at the provider, so all models of this process that go there with
the same key share them; the places belong to one `LM` and its copies (``max_concurrency``). Keys are not kept: an
account is told from another by a keyed digest, whose key is drawn when the process starts.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

from dspex.errors import (
    LMCircuitOpenError,
    LMConnectionError,
    LMError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
)
from dspex.lm.pace import Pace
from dspex.lm.retry import LONGEST_WAIT
from dspex.lm.types import LMRequest, LMResponse, characters
from dspex.lm.waits import Pause, Turn, Wait

__all__ = ["Breaker", "Gate", "Permit", "Places", "breaker_and_pace"]

FIRST_COOLDOWN = 5.0
"""Seconds for which an opened circuit lets nothing pass; twice as many after each probe that failed."""

LONGEST_COOLDOWN = 60.0

_CHARACTERS_PER_TOKEN = 4

_jitter = random.Random()


class Breaker:
    """Counts failures of the world in a row; after ``threshold`` of them, only a probe passes now and then.

    >>> breaker = Breaker()
    >>> for _ in range(3):
    ...     breaker.failed(3)
    >>> 0 < breaker.closed_for(3) <= 5                    # seconds until the next call may try
    True
    >>> breaker.succeeded()
    >>> breaker.closed_for(3)
    0.0
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Know nothing."""
        self._lock = threading.Lock()
        self.failures = 0
        self._cooldown = FIRST_COOLDOWN
        self._next_try = 0.0
        self._probing = False

    def closed_for(self, threshold: int) -> float:
        """Seconds for which nothing may pass. With 0 the caller passes, as the probe if the circuit is open."""
        if self.failures < threshold:
            return 0.0
        with self._lock:
            now = time.monotonic()
            if now < self._next_try:
                return self._next_try - now
            # The half-open circuit: one passes, the others wait for what comes of it.
            self._next_try = now + self._cooldown
            self._probing = True
            return 0.0

    def failed(self, threshold: int) -> None:
        """The world failed a call."""
        with self._lock:
            self.failures += 1
            if self.failures == threshold:
                self._cooldown = FIRST_COOLDOWN
            elif self.failures > threshold and self._probing:
                self._cooldown = min(2 * self._cooldown, LONGEST_COOLDOWN)
            else:
                return  # on its way when the circuit was opened
            self._probing = False
            self._next_try = time.monotonic() + self._cooldown

    def succeeded(self) -> None:
        """The provider answered, if only with a refusal."""
        if self.failures:
            with self._lock:
                self.failures = 0
                self._probing = False


class Places:
    """A number of places, given to threads and tasks in the order they came."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.reset()

    def reset(self) -> None:
        """All are free."""
        self._free = self.number
        self._lock = threading.Lock()
        self._waiting: deque[Future[None]] = deque()

    def take(self) -> Future[None] | None:
        """Take a place: ``None`` when there is one, else what tells when there will be."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return None
            place: Future[None] = Future()
            self._waiting.append(place)
            return place

    def give(self) -> None:
        """Give a place to who waits longest."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                place = self._waiting.popleft()
            if place.set_running_or_notify_cancel():
                place.set_result(None)
                return

    def leave(self, place: Future[None]) -> None:
        """Wait no longer; a place that was given in this moment goes to the next."""
        if not place.cancel():
            self.give()


class Permit:
    """One call that was let through, to be ended by exactly one of the gate's ``answered`` and ``failed``."""

    __slots__ = ("taken", "tokens")

    def __init__(self, tokens: float, taken: float) -> None:
        self.tokens = tokens
        self.taken = taken


class Gate:
    """What a model passes before each attempt."""

    def __init__(self, account: tuple[str, ...], *, places: Places | None, threshold: int | None) -> None:
        self.places = places
        self.threshold = threshold
        self.breaker, self.pace = breaker_and_pace(account)
        self._written = 64.0  # tokens that answers have, lately
        _gates.add(self)

    def enter(self, model: str, request: LMRequest, left: float | None) -> Generator[Wait, Any, Permit]:
        """Wait until a call may be made. ``left`` is what remains of its time, in seconds.

        Raises `LMCircuitOpenError` at once while the model is left alone, and `LMRateLimitError` when its limit
        lets the call through too late.
        """
        self._check(model)
        until = None if left is None else time.monotonic() + left
        if self.places is not None:
            place = self.places.take()
            if place is not None:
                try:
                    yield Turn(place, left)
                except TimeoutError as error:
                    self.places.leave(place)
                    raise LMTimeoutError(
                        f"{model} was not asked: none of its {self.places.number} places (max_concurrency) was free "
                        "in time",
                        model=model,
                        billed=False,
                    ) from error
                except BaseException:
                    self.places.leave(place)
                    raise
        try:
            permit = yield from self._paced(model, request, until)
        except BaseException:
            if self.places is not None:
                self.places.give()
            raise
        return permit

    def _paced(self, model: str, request: LMRequest, until: float | None) -> Generator[Wait, Any, Permit]:
        pace = self.pace
        read = (request.head.characters + characters(request.tail)) / _CHARACTERS_PER_TOKEN
        tokens = read + self._written
        while True:
            taken = time.monotonic()
            wait = pace.take(tokens)
            if wait <= 0:
                return Permit(tokens, taken)
            try:
                if pace.held() > LONGEST_WAIT or (until is not None and wait >= until - time.monotonic()):
                    raise LMRateLimitError(
                        f"{model} is over its rate limit, and lets the next call through in {wait:.3g} s only",
                        model=model,
                        retry_after=wait,
                    )
            except BaseException:
                pace.give_back(tokens)
                raise
            if wait > pace.horizon:
                pace.give_back(tokens)
                yield Pause(pace.horizon * _jitter.uniform(0.5, 1.0))
                self._check(model)
                continue
            try:
                yield Pause(wait)
                self._check(model)
            except BaseException:
                pace.give_back(tokens)
                raise
            if not pace.held():
                return Permit(tokens, taken)
            # The provider has refused somebody in the meantime: get in line again.
            pace.give_back(tokens)

    def _check(self, model: str) -> None:
        if self.threshold is not None and (wait := self.breaker.closed_for(self.threshold)):
            raise LMCircuitOpenError(
                f"{model} failed {self.breaker.failures} times in a row and is left alone: the next call may try "
                f"in {wait:.2g} s; name another model to ask in the meantime with dspex.LM(..., fallbacks=[...])",
                model=model,
                retry_after=wait,
            )

    def unused(self, permit: Permit) -> None:
        """The call was not made."""
        self._leave()
        self.pace.give_back(permit.tokens)

    def answered(self, permit: Permit, response: LMResponse) -> None:
        """The call was answered."""
        self._leave()
        self.breaker.succeeded()
        usage = response.usage
        if usage.completion_tokens:
            self._written += 0.1 * (usage.completion_tokens - self._written)
        self.pace.answered(permit.tokens, usage.total_tokens or permit.tokens)

    def failed(self, permit: Permit, error: BaseException, *, cut_short: bool) -> None:
        """The call ended in ``error``; ``cut_short`` when by the caller's own deadline."""
        self._leave()
        if isinstance(error, LMRateLimitError):
            self.breaker.succeeded()
            self.pace.refused(permit.tokens, taken=permit.taken, retry_after=error.retry_after)
            return
        self.pace.failed(permit.tokens)
        if isinstance(error, (LMConnectionError, LMServerError, LMTimeoutError)):
            if self.threshold is not None and not cut_short:
                self.breaker.failed(self.threshold)
        elif isinstance(error, LMError):
            self.breaker.succeeded()

    def _leave(self) -> None:
        if self.places is not None:
            self.places.give()


_gates: weakref.WeakSet[Gate] = weakref.WeakSet()
_accounts: dict[str, tuple[Breaker, Pace]] = {}
_accounts_lock = threading.Lock()
_salt = secrets.token_bytes(32)


def breaker_and_pace(account: tuple[str, ...]) -> tuple[Breaker, Pace]:
    """Those of an account (model, address, key), the same for all of this process that name it.

    >>> breaker_and_pace(("openai/x", "", "sk-1")) is breaker_and_pace(("openai/x", "", "sk-1"))
    True
    """
    name = hashlib.blake2b(repr(account).encode(), key=_salt).hexdigest()
    with _accounts_lock:
        found = _accounts.get(name)
        if found is None:
            found = _accounts[name] = (Breaker(), Pace())
        return found


def _after_fork() -> None:
    # A thread that is not here any more may have held a lock or a place.
    global _accounts_lock
    _accounts_lock = threading.Lock()
    for breaker, pace in _accounts.values():
        breaker.reset()
        pace.reset()
    for gate in _gates:
        if gate.places is not None:
            gate.places.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
