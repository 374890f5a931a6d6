"""A bounded cache that many threads read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["LRU"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRU(Generic[K, V]):
    """Keeps the ``size`` entries used last. Keys must hash and compare without running Python code (texts,
    numbers and tuples of them): then each step is atomic, and no lock is needed. Which was used last is only
    kept track of once it is full, as nothing is let go of before.

    >>> cache = LRU(2)
    >>> cache.put("a", 1); cache.put("b", 2); cache.get("a"), cache.put("c", 3), cache.get("b")
    (1, None, None)
    """

    __slots__ = ("_entries", "_size")

    def __init__(self, size: int) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._size = size

    def get(self, key: K) -> V | None:
        """The value of ``key``, which is now the one used last; None when there is none."""
        entries = self._entries
        value = entries.get(key)
        if value is not None and len(entries) >= self._size:
            with suppress(KeyError):  # another thread has put it out in between
                entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep ``value``, and let go of what was not used for longest."""
        self._entries[key] = value
        while len(self._entries) > self._size:
            try:
                self._entries.popitem(last=False)
            except KeyError:  # another thread was faster
                break

    def __len__(self) -> int:
        return len(self._entries)
