"""The file of a cache: answers in SQLite, as JSON, for any number of threads and processes.

What is kept when, and for how long, is the cache's to say (`dspex.lm.cache`). This module loads with the first cache
that has a file.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from dspex.errors import StorageError
from dspex.lm.types import LMResponse

__all__ = ["CacheFile"]

_SCHEMA_VERSION = 1
_APPLICATION_ID = 0x64737078  # "dspx": tells another program's SQLite file from a cache
_BUSY_SECONDS = 30.0
_BLOCK = 64
"""Answers that are read in one go, those kept at about the same time, because a run that is repeated asks for all."""
_TRUST = 2048
"""How many are read ahead before any of them has to be asked for; then each that was is worth `_WORTH` more."""
_WORTH = 5
# As bytes: text that is none any more is that answer's trouble alone, and is found where it is read.
_READ = "SELECT CAST(response AS BLOB), created, rowid FROM answers WHERE key = ?"
_READ_BLOCK = "SELECT key, CAST(response AS BLOB), created FROM answers WHERE rowid BETWEEN ? AND ?"
_KEEP = "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
_REPLACE = (
    "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET model = excluded.model, response = excluded.response, created = excluded.created WHERE created <= ?"
)


class CacheFile:
    """Answers by key in the file at ``path``, each with its model and the moment it was kept.

    It opens when it is used first. A file that is damaged, is no cache, or cannot be opened raises `StorageError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ahead: dict[str, tuple[str, bytes, float]] = {}  # rows that have been read before they were asked for
        self._trust = _TRUST  # how many more may be
        self._connection: sqlite3.Connection | None = None
        self.reset()

    def reset(self) -> sqlite3.Connection | None:
        """Begin anew in a forked child, which must neither wait for its parent's locks nor touch its connection.

        Gives that connection: it must not be closed, which would drop the parent's locks on the file.
        """
        inherited = self._connection
        self._lock = threading.Lock()
        self._connection = None
        self._process = os.getpid()
        return inherited

    def hold(self) -> None:
        """Let nobody use it until `release`, when nobody does: before a fork.

        A child that is forked while something is written inherits what SQLite knows of that, and finds the file locked
        for ever, by a connection that nobody has.
        """
        self._lock.acquire()

    def release(self) -> None:
        """Let it be used again."""
        self._lock.release()

    def read(self, key: str) -> tuple[LMResponse | Exception, float] | None:
        """The answer under ``key``, or why it cannot be read, and when it was kept; ``None`` when there is none."""
        row = self._ahead.pop(key, None)
        if row is not None:
            if self._trust < _TRUST:
                self._trust += _WORTH
        elif (row := self._read(key)) is None:
            return None
        _, text, created = row
        try:
            return LMResponse.from_json(_plain(text)), created
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return error, created

    def unreadable(self, key: str, error: Exception) -> str:
        """What to say of an answer that cannot be read."""
        return f"the answer {key} in the cache {self.path} cannot be read ({type(error).__name__}: {error})"

    def _read(self, key: str) -> tuple[str, bytes, float] | None:
        """The row of ``key``; and as long as that pays, those around it too."""
        try:
            with self._lock:
                connection = self._connection or self._open()
                found = connection.execute(_READ, (key,)).fetchone()
                if found is None:
                    return None
                text, created, number = found
                if self._trust >= _BLOCK:
                    first = number - number % _BLOCK
                    rows = connection.execute(_READ_BLOCK, (first, first + _BLOCK - 1)).fetchall()
                    ahead = self._ahead if len(self._ahead) < _TRUST else {}
                    ahead.update([(row[0], row) for row in rows])
                    ahead.pop(key, None)
                    self._ahead = ahead
                    self._trust -= len(rows)
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        return key, text, created

    def write(self, key: str, response: LMResponse, created: float, stale: float) -> int:
        """Keep ``response``, unless there is an answer from after ``stale``; gives how many bytes it has.

        Raises `StorageError` when it cannot be written.
        """
        try:
            text = _text(response.to_json())
            with self._lock:
                connection = self._connection or self._open()
                if stale == -math.inf:
                    connection.execute(_KEEP, (key, response.model, text.decode(), created))
                else:
                    connection.execute(_REPLACE, (key, response.model, text.decode(), created, stale))
                self._ahead.pop(key, None)
        except (sqlite3.Error, ValueError) as error:
            raise StorageError(str(error)) from error
        return len(text)

    def trim(self, size: int, until: float) -> None:
        """Forget what was kept until ``until``; then what is there longest, when there are nearly ``size`` bytes."""
        with self._using() as connection:
            if until > -math.inf:
                connection.execute("DELETE FROM answers WHERE created <= ?", (until,))
            # Answers lie in the order they came, so that the oldest leave whole pages free, which are used again.
            pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
            now = pages * _pragma(connection, "page_size")
            if now > 0.9 * size:
                excess = 1.0 - 0.8 * size / now
                count = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
                connection.execute(
                    "DELETE FROM answers "
                    "WHERE created <= (SELECT created FROM answers ORDER BY created LIMIT 1 OFFSET ?)",
                    (max(0, int(count * excess) - 1),),
                )

    def clear(self, before: float, model: str | None) -> int:
        """Forget what was kept before ``before``, of ``model`` or of all; gives how many."""
        with self._using() as connection:
            count: int = connection.execute(
                "DELETE FROM answers WHERE created < ? AND (? IS NULL OR model = ?)", (before, model, model)
            ).rowcount
            self._ahead.clear()
            if count and _pragma(connection, "freelist_count"):
                connection.execute("VACUUM")
        return count

    def models(self) -> list[tuple[int, str, float, float]]:
        """By model: how many answers, its name, when the first was kept and when the last."""
        query = "SELECT count(*), model, min(created), max(created) FROM answers GROUP BY model"
        with self._using() as connection:
            return connection.execute(query).fetchall()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every entry, oldest first: ``key``, ``model``, ``created`` and the ``response`` as plain data."""
        query = (
            "SELECT key, model, created, CAST(response AS BLOB) FROM answers WHERE (created, key) > (?, ?) "
            "ORDER BY created, key LIMIT 1000"
        )
        last: tuple[float, str] = (-math.inf, "")
        while True:  # in pages, so that nobody who writes has to wait
            with self._using() as connection:
                page = connection.execute(query, last).fetchall()
            if not page:
                return
            for key, model, created, text in page:
                try:
                    response = _plain(text)
                except ValueError as error:
                    warnings.warn(f"{self.unreadable(key, error)}; it is left out", RuntimeWarning, stacklevel=2)
                else:
                    yield {"key": key, "model": model, "created": created, "response": response}
            last = (page[-1][2], page[-1][0])

    def size(self) -> int:
        """Bytes on disk."""
        files = [self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))]
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close it; it opens again when it is used."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None
            self._ahead, self._trust = {}, _TRUST

    def count(self) -> int:
        """How many answers."""
        with self._using() as connection:
            count: int = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        return count

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                yield self._connection or self._open()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _open(self) -> sqlite3.Connection:
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
        # 16 MB: what waits for the disk is the move out of the log, which costs more the more often it is done.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
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


def _text(plain: dict[str, Any]) -> bytes:
    try:
        return to_json(plain)
    except ValueError:  # half a surrogate pair, which models do write, and which only escapes can say
        return json.dumps(plain).encode()


def _plain(text: bytes) -> Any:
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
