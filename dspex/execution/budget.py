"""The hard cap on what a program or a search may spend.

Counted at the call boundary: before a call is sent, its upper bound is *reserved*; after it, what it really
took is *settled* and the rest given back. What is spent plus what is in flight never passes a limit, however
many calls run at once. A call that ends in a way that leaves the bill unknown (cancelled, timed out) is
*forfeited*: its whole bound counts as spent.

Money is counted in whole millionths of a millionth of a dollar, rounded up, so that sums are exact.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from dspex.data.usage import Usage
from dspex.errors import BudgetExceeded, DefinitionError, StateError

__all__ = ["Amounts", "Budget", "Reservation"]

_PER_DOLLAR = 10**12


class Amounts(NamedTuple):
    """One amount for each limit; ``None`` where there is none.

    >>> Amounts(calls=3)
    Amounts(usd=None, tokens=None, calls=3, seconds=None)
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None


class Budget:
    """A hard cap in dollars, tokens, calls, seconds, or several of them; the first that is reached ends it.

    ``usd`` counts what providers bill, ``tokens`` those read and written, ``calls`` every request sent to a
    model (retries included, cached answers not), ``seconds`` wall time from the first use. Safe to share
    between threads and tasks; it counts in one process and so cannot be pickled. Under the cache policy ``"replay"``
    each answer counts once, as what it took when it was paid for, so that a replay ends where the first run did.

    Raises `DefinitionError` when there is no limit, or one that is not a positive, finite number.

    >>> budget = Budget(calls=2, usd=1.0)
    >>> with budget.reserve(Usage(calls=1, cost=0.4)) as call:
    ...     call.settle(Usage(calls=1, cost=0.25))
    >>> budget.remaining()
    Amounts(usd=0.75, tokens=None, calls=1, seconds=None)
    >>> Budget(usd=1.0).reserve(Usage(calls=1, cost=1.5))
    Traceback (most recent call last):
        ...
    dspex.errors.BudgetExceeded: Budget(usd=1.0): this call may cost up to $1.5, but of $1 $0 is spent; ...
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_carried",
        "_held",
        "_limits",
        "_lock",
        "_started",
        "_tokens",
        "_unpriced",
        "_usd",
        "_usd_limit",
        "replayed",
    )

    def __init__(
        self,
        *,
        usd: float | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        seconds: float | None = None,
    ) -> None:
        if usd is None and tokens is None and calls is None and seconds is None:
            raise DefinitionError(
                "Budget() has no limit: give at least one of usd, tokens, calls, seconds, "
                "for example dspex.Budget(usd=2.0)"
            )
        self._limits = Amounts(
            usd=_positive("usd", usd),
            tokens=_whole("tokens", tokens),
            calls=_whole("calls", calls),
            seconds=_positive("seconds", seconds),
        )
        self._usd_limit = None if usd is None else math.floor(round(usd * _PER_DOLLAR, 3))
        self._lock = threading.Lock()
        self._started: float | None = None
        self._carried = 0.0  # seconds that were spent elsewhere
        self._calls = 0
        self._tokens = 0
        self._usd = 0
        self._unpriced = 0
        self._held = [0, 0, 0]  # calls, tokens and money in flight
        self.replayed: set[str] = set()
        """The keys of the cached answers that it has counted in a replay."""

    @property
    def limits(self) -> Amounts:
        """What it was made with."""
        return self._limits

    @property
    def bounds_needed(self) -> bool:
        """Whether a reservation must say how many tokens or dollars the call may take at most."""
        return self._limits.usd is not None or self._limits.tokens is not None

    def start(self) -> None:
        """Start the clock of ``seconds``, when nothing has yet."""
        if self._started is None:
            with self._lock:
                if self._started is None:
                    self._started = time.monotonic()

    def reserve(self, bound: Usage) -> Reservation:
        """Hold ``bound``, the most that the call can take, until the reservation is settled or released.

        Raises `BudgetExceeded` when it does not fit into what is neither spent nor in flight.
        """
        reservation = self._take(bound, wait=False)
        assert reservation is not None
        return reservation

    def try_reserve(self, bound: Usage) -> Reservation | None:
        """As `reserve`, but ``None`` when it may fit once calls in flight are settled: ask again then."""
        return self._take(bound, wait=True)

    def charge(self, usage: Usage, *, seconds: float = 0.0) -> None:
        """Count what was spent elsewhere, before an interruption for example; it may pass a limit.

        >>> budget = Budget(calls=5, seconds=60)
        >>> budget.charge(Usage(calls=3), seconds=50)
        >>> budget.remaining()
        Amounts(usd=None, tokens=None, calls=2, seconds=10.0)
        """
        with self._lock:
            self._count(usage)
            self._carried += seconds

    @property
    def spent(self) -> Amounts:
        """What is spent, calls in flight not included. ``usd`` is ``None`` when a price was unknown."""
        with self._lock:
            return Amounts(
                usd=None if self._unpriced else self._usd / _PER_DOLLAR,
                tokens=self._tokens,
                calls=self._calls,
                seconds=self._seconds_spent(),
            )

    @property
    def in_flight(self) -> Amounts:
        """The upper bounds of the calls that are reserved and not yet settled."""
        with self._lock:
            calls, tokens, usd = self._held
            return Amounts(usd=usd / _PER_DOLLAR, tokens=tokens, calls=calls)

    def remaining(self) -> Amounts:
        """What is neither spent nor in flight, never below zero; ``None`` where there is no limit."""
        limits = self._limits
        with self._lock:
            calls, tokens, usd = self._held
            return Amounts(
                usd=None if self._usd_limit is None else max(0, self._usd_limit - self._usd - usd) / _PER_DOLLAR,
                tokens=None if limits.tokens is None else max(0, limits.tokens - self._tokens - tokens),
                calls=None if limits.calls is None else max(0, limits.calls - self._calls - calls),
                seconds=None if limits.seconds is None else max(0.0, self._seconds_left(limits.seconds)),
            )

    def seconds_left(self) -> float | None:
        """Seconds until its clock is up, ``None`` when it has none; all of them before `start`."""
        seconds = self._limits.seconds
        return None if seconds is None else self._seconds_left(seconds)

    @property
    def exhausted(self) -> bool:
        """Whether some limit is reached, so that no call can be made any more."""
        return self._reached() is not None

    def check(self) -> None:
        """Raise `BudgetExceeded`, naming the limit, when it is exhausted."""
        reached = self._reached()
        if reached is not None:
            raise BudgetExceeded(reached)

    def to_json(self) -> dict[str, Any]:
        """Limits and what was spent, as plain data."""
        spent = self.spent
        return {
            "limits": {name: value for name, value in self._limits._asdict().items() if value is not None},
            "spent": {
                "usd": self._usd / _PER_DOLLAR,
                "tokens": spent.tokens,
                "calls": spent.calls,
                "seconds": spent.seconds,
                "unpriced_calls": self._unpriced,
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Budget:
        """The budget that `to_json` wrote, with what it had spent; raises `StateError` when it is none.

        >>> Budget.from_json({"limits": {"calls": 3}, "spent": {"calls": 1}}).remaining().calls
        2
        """
        try:
            budget = cls(**data["limits"])
            spent = data.get("spent", {})
            budget._calls = int(spent.get("calls", 0))
            budget._tokens = int(spent.get("tokens", 0))
            budget._usd = _money(spent.get("usd", 0))
            budget._unpriced = int(spent.get("unpriced_calls", 0))
            budget._carried = float(spent.get("seconds", 0))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StateError(f"this is no saved budget: {data!r} ({error})") from error
        return budget

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={value}" for name, value in self._limits._asdict().items() if value is not None)
        return f"Budget({limits})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"{self!r} counts in one process and cannot be pickled: give the worker a Budget of its own, "
            "and charge() what it spent here"
        )

    def _take(self, bound: Usage, *, wait: bool) -> Reservation | None:
        limits = self._limits
        calls = bound.calls
        tokens = bound.prompt_tokens + bound.completion_tokens
        money = 0
        if self._usd_limit is not None:
            if bound.unknown_calls:
                raise BudgetExceeded(
                    f"{self!r}: the price of this call is not known, so it cannot be kept under usd; give it "
                    'in dollars per million tokens, as dspex.LM("provider/model", price=(input, output)), '
                    "or limit tokens or calls instead"
                )
            money = _money(bound.known_cost)
        self.start()
        with self._lock:
            # Ordered so that the message names the limit a person would think of first.
            if limits.seconds is not None and self._seconds_left(limits.seconds) <= 0:
                raise BudgetExceeded(self._seconds_over(limits.seconds))
            held = self._held
            busy = False
            if limits.calls is not None and self._calls + held[0] + calls > limits.calls:
                if not wait or self._calls + calls > limits.calls:
                    raise BudgetExceeded(
                        f"{self!r}: {_used(self._calls, held[0])} of {limits.calls} calls are used, "
                        f"and this needs {calls} more"
                    )
                busy = True
            if limits.tokens is not None and self._tokens + held[1] + tokens > limits.tokens:
                if not wait or self._tokens + tokens > limits.tokens:
                    raise BudgetExceeded(
                        f"{self!r}: this call may take up to {tokens} tokens, "
                        f"but of {limits.tokens} {_used(self._tokens, held[1])} are spent; "
                        f"{_longest(bound)}, or give a larger tokens="
                    )
                busy = True
            if self._usd_limit is not None and self._usd + held[2] + money > self._usd_limit:
                if not wait or self._usd + money > self._usd_limit:
                    raise BudgetExceeded(
                        f"{self!r}: this call may cost up to {_dollars(money)}, "
                        f"but of {_dollars(self._usd_limit)} "
                        f"{_used(_dollars(self._usd), held[2] and _dollars(held[2]))} is spent; "
                        f"{_longest(bound)}, give its price if it is lower, price=(input, output), or a larger usd="
                    )
                busy = True
            if busy:
                return None
            held[0] += calls
            held[1] += tokens
            held[2] += money
        return Reservation(self, calls, tokens, money, bool(bound.unknown_calls))

    def _close(self, reservation: Reservation, usage: Usage | None, keep: bool) -> None:
        with self._lock:
            if reservation._closed:
                return
            reservation._closed = True
            held = self._held
            held[0] -= reservation.calls
            held[1] -= reservation.tokens
            held[2] -= reservation._money
            if usage is not None:
                self._count(usage)
                # What the provider did not tell counts at its bound, or the cap would be none.
                if usage.calls and not usage.prompt_tokens:
                    self._tokens += reservation.tokens - usage.completion_tokens
                if usage.unknown_calls:
                    self._usd += reservation._money - _money(usage.known_cost)
            elif keep:
                self._calls += reservation.calls
                self._tokens += reservation.tokens
                self._usd += reservation._money
                self._unpriced += reservation._unpriced

    def _count(self, usage: Usage) -> None:
        self._calls += usage.calls + usage.failed_calls
        self._tokens += usage.prompt_tokens + usage.completion_tokens
        self._usd += _money(usage.known_cost)
        self._unpriced += usage.unknown_calls

    def _seconds_spent(self) -> float:
        started = self._started
        return self._carried if started is None else self._carried + time.monotonic() - started

    def _seconds_left(self, seconds: float) -> float:
        return seconds - self._seconds_spent()

    def _seconds_over(self, seconds: float) -> str:
        return f"{self!r}: its {seconds:g} seconds are over"

    def _reached(self) -> str | None:
        limits = self._limits
        with self._lock:
            if limits.seconds is not None and self._seconds_left(limits.seconds) <= 0:
                return self._seconds_over(limits.seconds)
            if limits.calls is not None and self._calls >= limits.calls:
                return f"{self!r}: {self._calls} of {limits.calls} calls are used"
            if limits.tokens is not None and self._tokens >= limits.tokens:
                return f"{self!r}: {self._tokens} of {limits.tokens} tokens are spent"
            if self._usd_limit is not None and self._usd >= self._usd_limit:
                return f"{self!r}: {_dollars(self._usd)} of {_dollars(self._usd_limit)} is spent"
        return None


class Reservation:
    """The hold of one call on a budget, to be ended once, by `settle`, `release` or `forfeit`.

    As a context manager it is forfeited when the block leaves it open.
    """

    __slots__ = ("_budget", "_closed", "_money", "_unpriced", "calls", "tokens")

    def __init__(self, budget: Budget, calls: int, tokens: int, money: int, unpriced: bool) -> None:
        self._budget = budget
        self.calls = calls
        self.tokens = tokens
        self._money = money
        self._unpriced = calls if unpriced else 0
        self._closed = False

    def settle(self, usage: Usage) -> None:
        """The call took ``usage``; the rest of the hold is free again. What is unknown counts at its bound."""
        self._budget._close(self, usage, False)

    def release(self) -> None:
        """The call was not made, and took nothing."""
        self._budget._close(self, None, False)

    def forfeit(self) -> None:
        """The call may have taken anything up to its bound: all of it counts as spent."""
        self._budget._close(self, None, True)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_: object) -> None:
        self.forfeit()


def _positive(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DefinitionError(
            f"Budget({name}=...) must be a number, not {value!r} ({type(value).__name__}); "
            f"write for example dspex.Budget({name}={_EXAMPLES[name]})"
        )
    if not math.isfinite(value) or value <= 0:
        raise DefinitionError(
            f"Budget({name}={value!r}) must be finite and more than 0, or nothing could be called; write "
            f"for example dspex.Budget({name}={_EXAMPLES[name]}), or leave {name} out for no limit on it"
        )
    return float(value)


def _whole(name: str, value: int | None) -> int | None:
    number = _positive(name, value)
    if number is None:
        return None
    if not number.is_integer():
        raise DefinitionError(
            f"Budget({name}={value!r}) must be a whole number; write for example "
            f"dspex.Budget({name}={math.ceil(number)})"
        )
    return int(number)


_EXAMPLES = {"usd": "2.0", "tokens": "200_000", "calls": "500", "seconds": "600"}


def _longest(bound: Usage) -> str:
    return (
        f"its answer counts at the longest that is allowed, {bound.completion_tokens} tokens: allow less with the "
        "model's max_tokens="
    )


def _used(spent: object, held: object) -> str:
    return f"{spent} (and {held} in flight)" if held else f"{spent}"


def _money(dollars: float) -> int:
    # The rounding takes floating noise away, which `ceil` would turn into money.
    return math.ceil(round(dollars * _PER_DOLLAR, 3)) if dollars else 0


def _dollars(money: int) -> str:
    return f"${money / _PER_DOLLAR:.6g}"
