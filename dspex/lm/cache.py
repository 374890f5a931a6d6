"""Answers that were paid for, kept so that nobody pays for them twice.

A SQLite file of JSON, shared by threads and processes, with the answers used last in memory. Entries are
immutable: the first answer to a request stays. There is no pickle in it and no secret, and keys are digests;
a cache can be deleted at any time.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import threading
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex.errors import DefinitionError, StorageError
from dspex.lm.types import LMResponse

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Cache", "default_cache"]

_SCHEMA_VERSION = 1
_APPLICATION_ID = 0x64737078  # "dspx": tells another program's SQLite file from a cache
_BUSY_SECONDS = 30.0
_AHEAD = 32
"""Answers that are read in one go when they are asked for in the order they were kept, as a repeated run does."""
_READ = "SELECT response, created, rowid FROM answers WHERE key = ?"
_READ_AHEAD = f"SELECT key, response, created, rowid FROM answers WHERE rowid > ? ORDER BY rowid LIMIT {_AHEAD}"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode  # of text without blanks around it
_PUT = (
    "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET model = excluded.model, response = excluded.response, created = excluded.created WHERE created <= ?"
)


class Cache:
    """Answers by key, in a file and in memory, or in memory only when ``path`` is ``None``.

    Safe to share between threads; any number of processes may use one file. Caches of one path are one object
    in a process. The ``memory_entries`` used last stay in memory.

    ``max_age``
        seconds for which an answer is used; older ones are asked for again. ``None`` for ever.
    ``max_bytes``
        about how large the file may get; the answers that are there longest make room for new ones. ``None`` for no
        limit. Limits that are given again, for the same path, hold from then on.

    A file that is damaged, is no cache, or cannot be opened raises `StorageError` at its first use, before
    anything is paid for. When an answer that was paid for cannot be written, it is a warning.

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
        cache._ahead = {}
        cache._last = 0
        cache._reset()
        return cache

    _memory: OrderedDict[str, tuple[LMResponse, float]]  # with the moment each was kept
    _unchecked: float  # bytes written since the file's size was looked at
    _ahead: dict[str, tuple[str, float]]  # answers as the file has them, read before they were asked for
    _last: int  # the row that was read last
    _lock: threading.Lock
    _file: threading.Lock
    _connection: sqlite3.Connection | None
    _process: int
    _warned: bool

    def _reset(self) -> None:
        # A forked child must neither wait for its parent's locks nor touch its connection.
        self._lock = threading.Lock()
        self._file = threading.Lock()
        self._connection = None
        self._process = os.getpid()
        self._warned = False

    def get(self, key: str) -> LMResponse | None:
        """The answer under ``key``, as it was put; ``None`` when there is none."""
        memory = self._memory
        with self._lock:
            kept = memory.get(key)
            if kept is not None:
                if self.max_age is None or kept[1] > time.time() - self.max_age:
                    memory.move_to_end(key)
                    return kept[0]
                del memory[key]
            if self.path is None:
                return None
            row = self._ahead.pop(key, None)
        if row is None and (row := self._read(key)) is None:
            return None
        text, created = row
        if self.max_age is not None and created <= time.time() - self.max_age:
            return None
        try:
            found = LMResponse.from_json(_decode(text)[0])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(f"the answer {key[:16]}... is unreadable: {error}") from error
        self._remember(key, found, created)
        return found

    def _read(self, key: str) -> tuple[str, float] | None:
        """The row of ``key``; and when the row read last was a little before it, those after it too."""
        import sqlite3

        try:
            with self._file:
                connection = self._connection or self._open()
                row = connection.execute(_READ, (key,)).fetchone()
                if row is None:
                    return None
                text, created, number = row
                if 0 < number - self._last <= _AHEAD:
                    rows = connection.execute(_READ_AHEAD, (number,)).fetchall()
                    with self._lock:
                        self._ahead = {kept: (later, at) for kept, later, at, _ in rows if kept not in self._memory}
                    number = rows[-1][3] if rows else number
                self._last = number
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        return text, created

    def put(self, key: str, response: LMResponse, *, replace: bool = False) -> None:
        """Keep ``response`` under ``key``, unless there is one already, or in its place."""
        kept = LMResponse(response.completions, response.usage.copy(), response.model, False, response.latency)
        now = time.time()
        # Entries are immutable: what is replaced is what is asked to be, or is too old to be used.
        stale = math.inf if replace else -math.inf if self.max_age is None else now - self.max_age
        with self._lock:
            if key in self._memory and self._memory[key][1] <= stale:
                del self._memory[key]
        self._remember(key, kept, now)
        if self.path is None:
            return
        import sqlite3

        try:
            text = _encode(kept.to_json())
            with self._file:
                connection = self._open()
                connection.execute(_PUT, (key, kept.model, text, now, stale))
                self._ahead.pop(key, None)
                if self.max_bytes is not None:
                    self._unchecked += len(text)
                    if self._unchecked > self.max_bytes / 16:
                        self._trim(connection, now)
        except (sqlite3.Error, StorageError, TypeError, ValueError) as error:
            # The answer is there and was paid for: losing it would be worse than not keeping it.
            if not self._warned:
                self._warned = True
                message = f"answers are not kept in the cache {self.path}: {error}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)

    def clear(self, *, older_than: float | None = None, model: str | None = None) -> int:
        """Forget all answers, or those older than so many seconds, or one model's; gives how many, in the file too."""
        before = math.inf if older_than is None else time.time() - older_than
        with self._lock:
            gone = [
                key
                for key, (answer, created) in self._memory.items()
                if created < before and model in (None, answer.model)
            ]
            for key in gone:
                del self._memory[key]
        if self.path is None:
            return len(gone)
        import sqlite3

        try:
            with self._file:
                connection = self._open()
                count = connection.execute(
                    "DELETE FROM answers WHERE created < ? AND (? IS NULL OR model = ?)", (before, model, model)
                ).rowcount
                self._ahead.clear()
                if count and connection.execute("PRAGMA freelist_count").fetchone()[0]:
                    connection.execute("VACUUM")
                return int(count)
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def stats(self) -> dict[str, Any]:
        """``entries``, ``bytes`` on disk, ``oldest`` and ``newest`` (seconds since 1970), and ``models`` by name.

        >>> Cache().stats()["entries"]
        0
        """
        if self.path is None:
            with self._lock:
                kept = list(self._memory.values())
            models = Counter(answer.model for answer, _ in kept)
            found = [(models[model], model, min(at for _, at in kept), max(at for _, at in kept)) for model in models]
        else:
            import sqlite3

            query = "SELECT count(*), model, min(created), max(created) FROM answers GROUP BY model"
            try:
                with self._file:
                    found = self._open().execute(query).fetchall()
            except sqlite3.Error as error:
                raise self._damaged(error) from error
        return {
            "path": None if self.path is None else str(self.path),
            "entries": sum(row[0] for row in found),
            "bytes": self._size(),
            "oldest": min((row[2] for row in found), default=None),
            "newest": max((row[3] for row in found), default=None),
            "models": {model: count for count, model, *_ in sorted(found, reverse=True)},
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every entry, oldest first: ``key``, ``model``, ``created`` and the ``response`` as plain data."""
        if self.path is None:
            with self._lock:
                kept = list(self._memory.items())
            for key, (answer, created) in sorted(kept, key=lambda item: item[1][1]):
                yield {"key": key, "model": answer.model, "created": created, "response": answer.to_json()}
            return
        import sqlite3

        last: tuple[float, str] = (-math.inf, "")
        while True:  # in pages, so that nobody who writes has to wait
            try:
                with self._file:
                    page = (
                        self._open()
                        .execute(
                            "SELECT key, model, created, response FROM answers WHERE (created, key) > (?, ?) "
                            "ORDER BY created, key LIMIT 1000",
                            last,
                        )
                        .fetchall()
                    )
                for key, model, created, text in page:
                    yield {"key": key, "model": model, "created": created, "response": json.loads(text)}
            except (sqlite3.Error, ValueError) as error:
                raise self._damaged(error) from error
            if not page:
                return
            last = (page[-1][2], page[-1][0])

    def _size(self) -> int:
        if self.path is None:
            return 0
        files = [self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))]
        return sum(file.stat().st_size for file in files if file.exists())

    def _trim(self, connection: sqlite3.Connection, now: float) -> None:
        """Make room in the file: what is too old, and then what is there longest."""
        assert self.max_bytes is not None
        self._unchecked = 0.0
        if self.max_age is not None:
            connection.execute("DELETE FROM answers WHERE created <= ?", (now - self.max_age,))
        # Answers lie in the order they came, so that the oldest leave whole pages free, which are used again.
        pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
        size = pages * _pragma(connection, "page_size")
        if size > 0.9 * self.max_bytes:
            excess = 1.0 - 0.8 * self.max_bytes / size
            count = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
            connection.execute(
                "DELETE FROM answers WHERE created <= (SELECT created FROM answers ORDER BY created LIMIT 1 OFFSET ?)",
                (max(0, int(count * excess) - 1),),
            )

    def close(self) -> None:
        """Close the file; it opens again when it is used."""
        with self._file:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def __len__(self) -> int:
        if self.path is None:
            return len(self._memory)
        import sqlite3

        try:
            with self._file:
                count: int = self._open().execute("SELECT count(*) FROM answers").fetchone()[0]
                return count
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def __bool__(self) -> bool:
        return True  # an empty cache is a cache

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def _remember(self, key: str, response: LMResponse, created: float) -> None:
        with self._lock:
            self._memory.setdefault(key, (response, created))
            self._memory.move_to_end(key)
            if len(self._memory) > self.memory_entries:
                self._memory.popitem(last=False)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        import sqlite3

        assert self.path is not None
        connection = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare(connection)
        except (OSError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            raise self._damaged(error) from error
        except StorageError:
            assert connection is not None
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_SECONDS * 1000)}")
        # The tables first: another process may be making them now, and they come together with the rest.
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
        if tables and application != _APPLICATION_ID:
            raise StorageError(
                f"{self.path} is a database of another program, not a cache of dspex: name another file, "
                'dspex.lm.Cache("answers.db")'
            )
        if version > _SCHEMA_VERSION:
            raise StorageError(
                f"the cache {self.path} was written by a newer dspex (format {version}, this one reads "
                f"{_SCHEMA_VERSION}): update dspex, or name another file"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        # Safe against a killed process; only a crash of the machine may lose the newest answers.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA mmap_size = 268435456")  # reads without a system call each
        if version < _SCHEMA_VERSION:
            # Several processes may come here at once: each statement is right when it is repeated.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, model TEXT NOT NULL, "
                "response TEXT NOT NULL, created REAL NOT NULL)"
            )
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            connection.execute("COMMIT")

    def _damaged(self, reason: object) -> StorageError:
        return StorageError(
            f"the cache {self.path} cannot be used: {reason}. It holds nothing but answers that can be asked "
            "for again: delete the file, name another (dspex.lm.Cache(path), or the environment variable "
            "DSPEX_CACHE_DIR), or go without (cache=False)"
        )

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


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _after_fork() -> None:
    Cache._sharing = threading.Lock()
    for cache in Cache._shared.values():
        # Not closed: closing would drop the parent's locks on the file.
        _inherited.append(cache._connection)
        cache._reset()


_inherited: list[Any] = []


@atexit.register
def _close_all() -> None:
    for cache in list(Cache._shared.values()):
        cache.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
