"""What calls to language models consumed: calls, tokens and money, where unknown is never zero."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

__all__ = ["Usage"]


class Usage:
    """An account of model calls that can be added to.

    ``calls`` were made and paid for, ``cached_calls`` were answered from a cache, ``failed_calls`` gave no
    answer. ``cost`` is in US dollars and ``None`` when it is not known; one unknown cost makes the sum
    unknown. ``known_cost`` is the part that is known and ``unknown_calls`` counts the calls missing from it.
    ``saved_cost`` is what the cached calls would have cost, again ``None`` when it is not known, and ``saved_tokens``
    what they would have read and written.
    Of ``prompt_tokens``, ``cache_read_tokens`` were read from the provider's own prompt cache and
    ``cache_write_tokens`` written to it.

    Not locked: an account shared by threads (a `Run`'s) is guarded by its owner.

    >>> usage = Usage(calls=1, prompt_tokens=900, completion_tokens=100, cost=0.002)
    >>> usage.add(Usage(cached_calls=1, saved_cost=0.001, saved_tokens=500))
    >>> usage
    <Usage: 2 calls (1 cached), 1,000 tokens, $0.002, saved 500 tokens and $0.001>
    >>> usage + Usage(calls=1, cost=None)
    <Usage: 3 calls (1 cached), 1,000 tokens, at least $0.002 (cost unknown for 1 call), saved 500 tokens and $0.001>
    >>> (usage + Usage(calls=1, cost=None)).cost is None
    True
    """

    __slots__ = (
        "cache_read_tokens",
        "cache_write_tokens",
        "cached_calls",
        "calls",
        "completion_tokens",
        "failed_calls",
        "known_cost",
        "prompt_tokens",
        "saved_cost",
        "saved_tokens",
        "unknown_calls",
    )

    calls: int
    cached_calls: int
    failed_calls: int
    prompt_tokens: int
    completion_tokens: int
    known_cost: float
    saved_cost: float | None
    saved_tokens: int
    unknown_calls: int
    cache_read_tokens: int
    cache_write_tokens: int

    def __init__(
        self,
        *,
        calls: int = 0,
        cached_calls: int = 0,
        failed_calls: int = 0,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        cost: float | None = 0.0,
        saved_cost: float | None = 0.0,
        saved_tokens: int = 0,
        unknown_calls: int = 0,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
    ) -> None:
        self.cache_read_tokens = cache_read_tokens
        self.cache_write_tokens = cache_write_tokens
        self.calls = calls
        self.cached_calls = cached_calls
        self.failed_calls = failed_calls
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.saved_cost = saved_cost
        self.saved_tokens = saved_tokens
        self.unknown_calls = unknown_calls
        if cost is None:
            self.known_cost = 0.0
            if not unknown_calls:
                self.unknown_calls = calls or 1
        else:
            self.known_cost = cost

    @property
    def cost(self) -> float | None:
        """US dollars billed, or ``None`` when the price of any call is not known."""
        return None if self.unknown_calls else self.known_cost

    @property
    def total_tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: Usage) -> None:
        """Count ``other`` in, in place."""
        self.calls += other.calls
        self.cached_calls += other.cached_calls
        self.failed_calls += other.failed_calls
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        if other.cache_read_tokens or other.cache_write_tokens:
            self.cache_read_tokens += other.cache_read_tokens
            self.cache_write_tokens += other.cache_write_tokens
        self.known_cost += other.known_cost
        self.unknown_calls += other.unknown_calls
        self.saved_tokens += other.saved_tokens
        if other.saved_cost is None:
            self.saved_cost = None
        elif self.saved_cost is not None:
            self.saved_cost += other.saved_cost

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        total = self.copy()
        total.add(other)
        return total

    def __radd__(self, other: object) -> Usage:
        # sum() starts from 0.
        return self.copy() if other == 0 else NotImplemented

    def copy(self) -> Usage:
        """An account of its own with the same numbers."""
        twin = Usage.__new__(Usage)
        # One by one: a loop over the names takes four times as long.
        twin.calls = self.calls
        twin.cached_calls = self.cached_calls
        twin.failed_calls = self.failed_calls
        twin.prompt_tokens = self.prompt_tokens
        twin.completion_tokens = self.completion_tokens
        twin.cache_read_tokens = self.cache_read_tokens
        twin.cache_write_tokens = self.cache_write_tokens
        twin.known_cost = self.known_cost
        twin.saved_cost = self.saved_cost
        twin.saved_tokens = self.saved_tokens
        twin.unknown_calls = self.unknown_calls
        return twin

    def beyond(self, part: Usage) -> Usage:
        """What is left of it without ``part``, nothing below zero.

        >>> Usage(calls=3).beyond(Usage(calls=1)).calls
        2
        """
        rest = self.copy()
        for name in Usage.__slots__:
            more, less = getattr(self, name), getattr(part, name)
            if more is not None and less is not None:  # what cached calls would have cost may not be known
                setattr(rest, name, max(0, more - less))
        return rest

    def __bool__(self) -> bool:
        """Whether anything was asked of a model."""
        return bool(self.calls or self.cached_calls or self.failed_calls or self.total_tokens)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Usage):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in Usage.__slots__)

    __hash__ = None  # type: ignore[assignment]  # it is added to in place

    def to_json(self, *, zeros: bool = True) -> dict[str, Any]:
        """Plain data, with or without what is zero; `from_json` gives an equal account back.

        >>> Usage.from_json(Usage(calls=2, cost=None).to_json()) == Usage(calls=2, cost=None)
        True
        """
        if zeros:
            return dict(zip(Usage.__slots__, _numbers(self), strict=True))
        plain: dict[str, Any] = {}
        # One by one: each answer that is kept in a cache has one.
        if self.calls:
            plain["calls"] = self.calls
        if self.cached_calls:
            plain["cached_calls"] = self.cached_calls
        if self.failed_calls:
            plain["failed_calls"] = self.failed_calls
        if self.prompt_tokens:
            plain["prompt_tokens"] = self.prompt_tokens
        if self.completion_tokens:
            plain["completion_tokens"] = self.completion_tokens
        if self.cache_read_tokens:
            plain["cache_read_tokens"] = self.cache_read_tokens
        if self.cache_write_tokens:
            plain["cache_write_tokens"] = self.cache_write_tokens
        if self.known_cost:
            plain["known_cost"] = self.known_cost
        if self.saved_cost != 0:
            plain["saved_cost"] = self.saved_cost
        if self.saved_tokens:
            plain["saved_tokens"] = self.saved_tokens
        if self.unknown_calls:
            plain["unknown_calls"] = self.unknown_calls
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usage:
        """The account that `to_json` wrote; counts that are missing are zero."""
        usage = cls.__new__(cls)
        get = data.get
        # One by one: each answer that is read from a cache has one.
        usage.calls = get("calls", 0)
        usage.cached_calls = get("cached_calls", 0)
        usage.failed_calls = get("failed_calls", 0)
        usage.prompt_tokens = get("prompt_tokens", 0)
        usage.completion_tokens = get("completion_tokens", 0)
        usage.cache_read_tokens = get("cache_read_tokens", 0)
        usage.cache_write_tokens = get("cache_write_tokens", 0)
        usage.known_cost = get("known_cost", 0.0)
        usage.saved_cost = get("saved_cost", 0.0)
        usage.saved_tokens = get("saved_tokens", 0)
        usage.unknown_calls = get("unknown_calls", 0)
        return usage

    @classmethod
    def saving(cls, tokens: int, cost: float | None) -> Usage:
        """The account of one call that was answered from a cache, and what it would have taken.

        >>> Usage.saving(100, 0.002)
        <Usage: 1 call (1 cached), 0 tokens, $0, saved 100 tokens and $0.002>
        """
        usage = cls.__new__(cls)
        # Each in one step: every answer that comes from a cache has one.
        usage.cached_calls = 1
        usage.calls = usage.failed_calls = usage.prompt_tokens = usage.completion_tokens = 0
        usage.cache_read_tokens = usage.cache_write_tokens = usage.unknown_calls = 0
        usage.known_cost = 0.0
        usage.saved_cost = cost
        usage.saved_tokens = tokens
        return usage

    def __str__(self) -> str:
        asked = self.calls + self.cached_calls
        parts = [_count(asked, "call")]
        notes = [
            f"{number} {what}"
            for number, what in ((self.cached_calls, "cached"), (self.failed_calls, "failed"))
            if number
        ]
        if notes:
            parts[0] += f" ({', '.join(notes)})"
        parts.append(_count(self.total_tokens, "token"))
        if self.cache_read_tokens:
            parts[-1] += f" ({self.cache_read_tokens:,} from the provider's cache)"
        if not self.unknown_calls:
            parts.append(_dollars(self.known_cost))
        else:
            unknown = f"cost unknown for {_count(self.unknown_calls, 'call')}"
            parts.append(f"at least {_dollars(self.known_cost)} ({unknown})" if self.known_cost else unknown)
        saved = [_count(self.saved_tokens, "token")] if self.saved_tokens else []
        if self.saved_cost:
            saved.append(_dollars(self.saved_cost))
        if saved:
            parts.append(f"saved {' and '.join(saved)}")
        if self.cached_calls and self.saved_cost is None:
            parts.append("saved cost unknown")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<Usage: {self}>"


_numbers = attrgetter(*Usage.__slots__)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _dollars(amount: float) -> str:
    # Two decimals from a dollar on; below that, enough digits that a single call does not read as free.
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.4g}" if amount >= 0.0001 else f"${amount:.2g}"
