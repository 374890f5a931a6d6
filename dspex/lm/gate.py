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
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
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
    """A number of places, given to threads and tasks in the order they came.

    Who has one is written down, and not how many are free: to leave twice, or after Ctrl-C in the middle of anything
    here, is right; and so it is while this thread is here already, where a stream that nobody has any more may end.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.reset()

    def reset(self) -> None:
        """All are free."""
        self._lock = threading.RLock()
        self._taken: set[Permit] = set()
        self._waiting: deque[Permit] = deque()

    @property
    def free(self) -> int:
        """How many nobody has."""
        return self.number - len(self._taken)

    def take(self, permit: Permit) -> Future[None] | None:
        """Take a place for ``permit``: ``None`` when there is one, else what tells when it has one."""
        with self._lock:
            if self.free and not self._waiting:
                self._taken.add(permit)
                return None
            permit.place = Future()
            self._waiting.append(permit)
            self._pass_on()
            return permit.place

    def leave(self, permit: Permit) -> None:
        """``permit`` needs its place no longer, or waits for none any more: who waits longest has it."""
        with self._lock:
            if permit in self._taken:
                self._done_waiting(permit)
                self._taken.discard(permit)
            else:
                with suppress(ValueError):
                    self._waiting.remove(permit)
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting and self.free:
            permit = self._waiting[0]
            self._taken.add(permit)
            assert permit.place is not None
            with suppress(InvalidStateError):  # who waited was cancelled, and leaves
                permit.place.set_result(None)
            self._done_waiting(permit)

    def _done_waiting(self, permit: Permit) -> None:
        if self._waiting and self._waiting[0] is permit:
            self._waiting.popleft()


class Permit:
    """What one attempt passes the gate with; it ends with ``answered``, ``failed`` or ``leave`` of the gate."""

    __slots__ = ("ended", "place", "taken", "tokens")

    def __init__(self) -> None:
        self.ended = False
        self.place: Future[None] | None = None  # that it waits for
        self.tokens = 0.0  # of the pace
        self.taken = 0.0  # when that was


class Gate:
    """What a model passes before each attempt."""

    def __init__(self, account: tuple[str, ...], *, places: Places | None, threshold: int | None) -> None:
        self.places = places
        self.threshold = threshold
        self.breaker, self.pace = breaker_and_pace(account)
        self._written = 64.0  # tokens that answers have, lately
        _gates.add(self)

    def enter(self, permit: Permit, model: str, request: LMRequest, left: float | None) -> Generator[Wait, Any, None]:
        """Wait until a call may be made. ``left`` is what remains of its time, in seconds.

        Raises `LMCircuitOpenError` at once while the model is left alone, and `LMRateLimitError` when its limit
        lets the call through too late. Whatever comes of it, `leave` is called in the end.
        """
        self._check(model)
        until = None if left is None else time.monotonic() + left
        if self.places is not None:
            place = self.places.take(permit)
            if place is not None:
                try:
                    yield Turn(place, left)
                except TimeoutError as error:
                    raise LMTimeoutError(
                        f"{model} was not asked: none of its {self.places.number} places (max_concurrency) was free "
                        "in time",
                        model=model,
                        billed=False,
                    ) from error
        permit.tokens, permit.taken = yield from self._paced(model, request, until)

    def _paced(self, model: str, request: LMRequest, until: float | None) -> Generator[Wait, Any, tuple[float, float]]:
        """Wait for the pace: how many tokens of it are taken, and when that was."""
        pace = self.pace
        read = (request.head.characters + characters(request.tail)) / _CHARACTERS_PER_TOKEN
        tokens = read + self._written
        while True:
            taken = time.monotonic()
            wait = pace.take(tokens)
            if wait <= 0:
                return tokens, taken
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
                return tokens, taken
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

    def leave(self, permit: Permit) -> None:
        """Give back what ``permit`` has, if its call has not ended: it was not made, or nobody knows."""
        if not permit.ended:
            self._end(permit)
            self.pace.give_back(permit.tokens)

    def answered(self, permit: Permit, response: LMResponse) -> None:
        """The call was answered."""
        self._end(permit)
        self.breaker.succeeded()
        usage = response.usage
        if usage.completion_tokens:
            self._written += 0.1 * (usage.completion_tokens - self._written)
        self.pace.answered(permit.tokens, usage.total_tokens or permit.tokens)

    def failed(self, permit: Permit, error: BaseException, *, cut_short: bool) -> None:
        """The call ended in ``error``; ``cut_short`` when by the caller's own deadline."""
        self._end(permit)
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

    def _end(self, permit: Permit) -> None:
        if self.places is not None:
            self.places.leave(permit)
        permit.ended = True


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
