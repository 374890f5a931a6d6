"""Answers that were paid for, kept so that nobody pays for them twice.

A SQLite file of JSON, shared by threads and processes, with the answers used last in memory. Entries are
immutable: the first answer to a request stays. There is no pickle in it and no secret, and keys are digests;
a cache can be deleted at any time. The newest answers are in a journal beside the file, where all processes see them,
until some of them are moved into it together, at the latest when the cache is closed or its process exits.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex.errors import DefinitionError, StorageError
from dspex.lm.kept import NO_ANSWER, Kept
from dspex.lm.types import LMResponse

if TYPE_CHECKING:
    from dspex.lm.cache_file import CacheFile

__all__ = ["Cache", "default_cache"]


class Cache:
    """Answers by key, in a file and in memory, or in memory only when ``path`` is ``None``.

    Safe to share between threads; any number of processes may use one file, all on one machine. Caches of one path
    are one object in a process. The ``memory_entries`` used last stay in memory. What `put` has returned from is found
    by every other process, even when this one is killed; what is closed can be copied, as one file.

    ``max_age``
        seconds for which an answer is used; older ones are asked for again. ``None`` for ever.
    ``max_bytes``
        about how large the file may get; the answers that are there longest make room for new ones. ``None`` for no
        limit. Limits that are given again, for the same path, hold from then on.

    A file that is damaged, is no cache, or cannot be opened raises `StorageError` at its first use, before
    anything is paid for. When an answer that was paid for cannot be written, it is a warning. So is one answer that
    cannot be read in a file that can: it counts as none, and the next one to the same request takes its place.

    >>> from dspex.lm import MockLM
    >>> lm = MockLM(["Paris"], cache=Cache())
    >>> lm("Capital of France?"), lm("Capital of France?"), len(lm.calls)
    (['Paris'], ['Paris'], 1)
    """

    _shared: dict[str, Cache] = {}  # noqa: RUF012 - a registry, guarded by _sharing
    _sharing = threading.Lock()

    path: Path | None
    memory_entries: int

    max_age: float | None
    max_bytes: int | None

    def __new__(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        memory_entries: int = 10_000,
        max_age: float | None = None,
        max_bytes: int | None = None,
    ) -> Cache:
        for name, value, example in (("max_age", max_age, "30 * 86_400"), ("max_bytes", max_bytes, "2_000_000_000")):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise DefinitionError(
                    f"{name} must be more than 0, or None for no limit, not {value!r} ({type(value).__name__}); "
                    f"write for example {name}={example}"
                )
        if path is None:
            if max_bytes is not None:
                raise DefinitionError(
                    f"max_bytes={max_bytes!r} limits a file, and this cache has none; write memory_entries=..., or "
                    'dspex.lm.Cache("answers.db", max_bytes=...)'
                )
            alone = cls._make(None, memory_entries)
            alone.max_age = max_age
            return alone
        if not isinstance(path, (str, os.PathLike)):
            raise DefinitionError(
                f"path must be a file name or None (memory only), not {path!r} ({type(path).__name__}); "
                'write dspex.lm.Cache("answers.db")'
            )
        place = Path(path).expanduser().absolute()
        with cls._sharing:
            cache = cls._shared.get(str(place))
            if cache is None:
                cache = cls._shared[str(place)] = cls._make(place, memory_entries)
            if max_age is not None:
                cache.max_age = max_age
            if max_bytes is not None:
                cache.max_bytes = int(max_bytes)
                cache._unchecked = math.inf  # the file may be too large already
            return cache

    @classmethod
    def _make(cls, path: Path | None, memory_entries: int) -> Cache:
        if isinstance(memory_entries, bool) or not isinstance(memory_entries, int) or memory_entries < 1:
            raise DefinitionError(
                f"memory_entries must be a whole number, 1 or more, not {memory_entries!r} "
                f"({type(memory_entries).__name__})"
            )
        cache = object.__new__(cls)
        cache.path = path
        cache.memory_entries = memory_entries
        cache.max_age = cache.max_bytes = None
        cache._memory = OrderedDict()
        cache._unchecked = 0.0
        cache._unreadable = {}
        cache._file = None
        if path is not None:
            from dspex.lm.cache_file import CacheFile  # with SQLite, which not everybody needs

            cache._file = CacheFile(path)
        cache._reset()
        return cache

    _memory: OrderedDict[str, Kept]
    _unchecked: float  # bytes written since the file's size was looked at
    _unreadable: dict[str, float]  # when those were kept that cannot be read
    _file: CacheFile | None
    _lock: threading.Lock  # of what is in memory
    _warned: bool

    def _reset(self) -> None:
        self._lock = threading.Lock()  # a forked child must not wait for its parent's
        self._warned = False

    def get(self, key: str, *, strict: bool = False) -> LMResponse | None:
        """The answer under ``key``, as it was put, to do with as one likes; ``None`` when there is none.

        One that cannot be read is none either, with a warning, or a `StorageError` when ``strict``.
        """
        kept = self.find(key, strict=strict)
        return None if kept is None else kept.response()

    def find(self, key: str, *, strict: bool = False) -> Kept | None:
        """What is kept under ``key``, of which answers are made; else as `get`."""
        memory = self._memory
        if key in memory:
            with self._lock:
                kept = memory.get(key)
                if kept is not None:
                    if self.max_age is None or kept.created > time.time() - self.max_age:
                        memory.move_to_end(key)
                        return kept
                    del memory[key]
        file = self._file
        if file is None:
            return None
        found = file.read(key) if self.max_age is None else self._read(key, file)
        if isinstance(found, tuple):
            error, created = found
            problem = file.unreadable(key, error)
            if strict:
                raise StorageError(
                    f"{problem}. To pay for it again, and keep the new answer in its place, leave replay for this "
                    'call: dspex.context(cache="on"), or lm(..., cache="on")'
                ) from error
            warnings.warn(f"{problem}; it is asked for again", RuntimeWarning, stacklevel=2)
            self._unreadable[key] = created
            return None
        if found is not None:
            with self._lock:
                self._remember(key, found)
        return found

    def _read(self, key: str, file: CacheFile) -> Kept | tuple[Exception, float] | None:
        """What ``file`` has under ``key``, or why it cannot be read, and when it was kept; nothing that is too old."""
        found = file.read(key)
        if found is None or self.max_age is None:
            return found
        created = found[1] if isinstance(found, tuple) else found.created
        return found if created > time.time() - self.max_age else None

    def put(self, key: str, response: LMResponse, *, replace: bool = False) -> None:
        """Keep ``response`` under ``key``, unless there is one already, or in its place.

        What cannot be kept is a warning, the first time.
        """
        now = time.time()
        try:
            kept = Kept.of(response, now)
        except NO_ANSWER as error:
            self._warn(error)
            return
        # Entries are immutable: what is replaced is what is asked to be, or is too old to be used.
        stale = math.inf if replace else -math.inf if self.max_age is None else now - self.max_age
        # Nor does one that cannot be read stay; what another process has put in its place by now is younger, and does.
        if self._unreadable:
            stale = max(stale, self._unreadable.pop(key, -math.inf))
        with self._lock:
            known = self._memory.get(key)
            if known is not None and known.created <= stale:
                del self._memory[key]
            self._remember(key, kept)
        if self._file is None:
            return
        try:
            size = self._file.write(key, kept, stale)
            if self.max_bytes is not None:
                self._make_room(self._file, self.max_bytes, size, now)
        except StorageError as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        # The answer is there and was paid for: losing it would be worse than not keeping it.
        if not self._warned:
            self._warned = True
            place = "in memory" if self.path is None else self.path
            warnings.warn(f"answers are not kept in the cache {place}: {error}", RuntimeWarning, stacklevel=3)

    def _remember(self, key: str, answer: Kept) -> None:
        """Keep in memory, unless there is one; under the lock."""
        memory = self._memory
        if key in memory:
            memory.move_to_end(key)
            return
        memory[key] = answer
        if len(memory) > self.memory_entries:
            memory.popitem(last=False)

    def _make_room(self, file: CacheFile, limit: int, written: int, now: float) -> None:
        """Once in a while: what is too old, and then what is there longest, makes room in the file."""
        with self._lock:
            self._unchecked += written
            if self._unchecked <= limit / 16:
                return
            self._unchecked = 0.0
        file.trim(limit, -math.inf if self.max_age is None else now - self.max_age)

    def clear(self, *, older_than: float | None = None, model: str | None = None) -> int:
        """Forget all answers, or those older than so many seconds, or one model's; gives how many, in the file too."""
        before = math.inf if older_than is None else time.time() - older_than
        with self._lock:
            gone = [key for key, kept in self._memory.items() if kept.created < before and model in (None, kept.model)]
            for key in gone:
                del self._memory[key]
        return len(gone) if self._file is None else self._file.clear(before, model)

    def stats(self) -> dict[str, Any]:
        """``entries``, ``bytes`` on disk, ``oldest`` and ``newest`` (seconds since 1970), and ``models`` by name.

        >>> Cache().stats()["entries"]
        0
        """
        if self._file is None:
            with self._lock:
                kept = list(self._memory.values())
            counts = Counter(one.model for one in kept)
            times = [one.created for one in kept]
            found = [(counts[model], model, min(times), max(times)) for model in counts]
        else:
            found = self._file.models()
        return {
            "path": None if self.path is None else str(self.path),
            "entries": sum(row[0] for row in found),
            "bytes": 0 if self._file is None else self._file.size(),
            "oldest": min((row[2] for row in found), default=None),
            "newest": max((row[3] for row in found), default=None),
            "models": {model: count for count, model, *_ in sorted(found, reverse=True)},
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every entry, oldest first: ``key``, ``model``, ``created`` and the ``response`` as plain data."""
        if self._file is not None:
            yield from self._file.rows()
            return
        with self._lock:
            kept = list(self._memory.items())
        for key, one in sorted(kept, key=lambda item: item[1].created):
            yield {"key": key, "model": one.model, "created": one.created, "response": deepcopy(one.to_json())}

    def close(self) -> None:
        """Close the file, with everything in it; it opens again when it is used."""
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._memory) if self._file is None else self._file.count()

    def __bool__(self) -> bool:
        return True  # an empty cache is a cache

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        with self._lock:
            kept = self._memory.get(key)
        if kept is not None:
            return self.max_age is None or kept.created > time.time() - self.max_age
        found = None if self._file is None else self._read(key, self._file)
        if not isinstance(found, Kept):
            return False
        with self._lock:
            self._remember(key, found)
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        path = None if self.path is None else str(self.path)
        return (_rebuild, (path, self.memory_entries, self.max_age, self.max_bytes))

    def __repr__(self) -> str:
        return f"Cache({str(self.path)!r})" if self.path is not None else "Cache()"


def default_cache() -> Cache:
    """The cache that ``cache=True`` means: ``cache.db`` in ``$DSPEX_CACHE_DIR``, or in ``~/.cache/dspex``."""
    folder = os.environ.get("DSPEX_CACHE_DIR")
    return Cache(Path(folder) / "cache.db" if folder else Path("~/.cache/dspex/cache.db"))


def _rebuild(path: str | None, memory_entries: int, max_age: float | None, max_bytes: int | None) -> Cache:
    return Cache(path, memory_entries=memory_entries, max_age=max_age, max_bytes=max_bytes)


def _after_fork() -> None:
    Cache._sharing = threading.Lock()
    for cache in Cache._shared.values():
        cache._reset()
        if cache._file is not None:
            _inherited.append(cache._file.reset())


_inherited: list[Any] = []


@atexit.register
def _close_all() -> None:
    for cache in list(Cache._shared.values()):
        cache.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
