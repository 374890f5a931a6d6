"""The file of a cache: answers in SQLite, as JSON, for any number of threads and processes.

What is kept when, and for how long, is the cache's to say (`dspex.lm.cache`). The answers that were kept last are in a
journal beside it (`dspex.lm.cache_journal`), and are moved into the file many at once. This module loads with the first
cache that has a file.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from dspex.errors import StorageError
from dspex.forks import held_at_forks
from dspex.lm.cache_journal import Journal
from dspex.lm.kept import NO_ANSWER, Kept
from dspex.lm.sqlite_files import WAIT, use_write_ahead_log

__all__ = ["CacheFile"]

_SCHEMA_VERSION = 1
_WAIT_MILLISECONDS = int(WAIT * 1000)
_APPLICATION_ID = 0x64737078  # "dspx": tells another program's SQLite file from a cache
_BLOCK = 64
"""Answers that are read in one go, those kept at about the same time, because a run that is repeated asks for all."""
_PAGE = 1000
"""Answers that are exported without letting others write in between."""
_TRUST = 2048
"""How many are read ahead before any of them has to be asked for; then each that was is worth `_WORTH` more."""
_WORTH = 5
_WANTED = 8
"""How many are looked for and found in the journal until all of it is thought to be wanted."""
_JOURNAL_BYTES = 256_000
"""Bytes of the journal from which on it is moved into the file: the more at once, the less for each."""
# As bytes: text that is none any more is that answer's trouble alone, and is found where it is read.
_READ = "SELECT CAST(response AS BLOB), created, rowid FROM answers WHERE key = ?"
_READ_BLOCK = "SELECT key, CAST(response AS BLOB), created FROM answers WHERE rowid BETWEEN ? AND ?"
_KEEP = (
    "INSERT INTO answers (key, model, response, created) VALUES (?1, ?2, CAST(?3 AS TEXT), ?4) "
    "ON CONFLICT (key) DO UPDATE "
    "SET model = excluded.model, response = excluded.response, created = excluded.created WHERE created <= ?5"
)


class CacheFile:
    """Answers by key in the file at ``path``, each with its model and the moment it was kept.

    It opens when it is used first. A file that is damaged, is no cache, or cannot be opened raises `StorageError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = Journal(path) if sys.platform != "win32" else None  # see there
        self._move_from = _JOURNAL_BYTES
        self._unmoved = 0  # answers that were looked for and were in the journal
        self._ahead: dict[str, tuple[str, bytes, float]] = {}  # rows that have been read before they were asked for
        self._trust = _TRUST  # how many more may be
        self._connection: sqlite3.Connection | None = None
        self.reset()

    def reset(self) -> sqlite3.Connection | None:
        """Begin anew in a forked child, which must neither wait for its parent's locks nor touch its connection.

        Gives that connection: it must not be closed, which would drop the parent's locks on the file.
        """
        inherited = self._connection
        if self._journal is not None:
            self._journal.leave()
        # A child that is forked while something is written inherits what SQLite knows of that, and finds the file
        # locked for ever, by a connection that nobody has.
        self._lock = held_at_forks(threading.Lock(), order=7)
        self._connection = None
        self._process = os.getpid()
        return inherited

    def read(self, key: str) -> Kept | tuple[Exception, float] | None:
        """The answer under ``key``; or why it cannot be read, and when it was kept; ``None`` when there is none."""
        row = self._ahead.pop(key, None)
        if row is not None:
            if self._trust < _TRUST:
                self._trust += _WORTH
        elif (row := self._read(key)) is None:
            return None
        _, text, created = row
        try:
            return _kept(text, created)
        except NO_ANSWER as error:
            return error, created

    def unreadable(self, key: str, error: Exception) -> str:
        """What to say of an answer that cannot be read."""
        return f"the answer {key} in the cache {self.path} cannot be read ({type(error).__name__}: {error})"

    def _read(self, key: str) -> tuple[str, bytes, float] | None:
        """The row of ``key``; and as long as that pays, those around it too."""
        try:
            with self._lock:
                connection = self._connection or self._open()
                journal = self._journal
                if journal is not None:
                    journal.look()  # first: what is moved meanwhile is found in the table
                row = connection.execute(_READ, (key,)).fetchone()
                found = None if row is None else (key, row[0], row[1])
                recent = journal.find(key) if journal is not None else ()
                if recent:
                    for _, _, text, created, stale in recent:
                        if found is None or found[2] <= stale:
                            found = key, text, created
                    self._unmoved += 1
                    if self._unmoved >= _WANTED and journal is not None and journal.waiting >= _BLOCK:
                        self._try_to_move()  # in the table, many are read at once
                elif row is not None and self._trust >= _BLOCK:
                    first = row[2] - row[2] % _BLOCK
                    rows = connection.execute(_READ_BLOCK, (first, first + _BLOCK - 1)).fetchall()
                    if journal:  # it may hold what takes their place
                        rows = [row for row in rows if not journal.find(row[0])]
                    ahead = self._ahead if len(self._ahead) < _TRUST else {}
                    for one in rows:
                        ahead[one[0]] = one
                    ahead.pop(key, None)
                    self._ahead = ahead
                    self._trust -= len(rows)
        except (sqlite3.Error, OSError) as error:
            raise self._damaged(error) from error
        return found

    def write(self, key: str, kept: Kept, stale: float) -> int:
        """Keep an answer, unless there is one from after ``stale``; gives how many bytes it has.

        Other processes find it from then on, whatever becomes of this one. Raises `StorageError` when it cannot be
        written.
        """
        try:
            text = _text(kept.stored())
            entry = (key, kept.model, text, kept.created, stale)
            with self._lock:
                connection = self._connection or self._open()
                self._ahead.pop(key, None)
                if self._journal is None:
                    connection.execute(_KEEP, entry)
                elif self._journal.append(entry) > self._move_from:
                    self._move(wait=False)
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise StorageError(str(error)) from error
        return len(text)

    def _move(self, *, wait: bool) -> None:
        """Move the journal into the table, or nothing of it; not now when somebody else writes, unless ``wait``."""
        journal = self._journal
        if journal is None:
            return
        journal.look()
        if not journal:
            return
        connection = self._connection
        if connection is None or not self._is_there():
            # What others have put into the journal since the file was deleted belongs in the one that they see.
            connection = self._open()
        self._unmoved = 0
        self._move_from *= 2  # when it cannot be done it is not tried again at once
        connection.execute(f"PRAGMA busy_timeout = {_WAIT_MILLISECONDS if wait else 0}")
        try:
            if _move_part(connection, journal) and wait:
                _move_part(connection, journal)
        except sqlite3.OperationalError as error:
            if wait or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        finally:
            connection.execute(f"PRAGMA busy_timeout = {_WAIT_MILLISECONDS}")
        self._move_from = _JOURNAL_BYTES

    def _try_to_move(self) -> None:
        """Move the journal, if that can be done: who reads finds everything in the journal too."""
        with suppress(sqlite3.Error, OSError, StorageError):
            self._move(wait=False)

    def _is_there(self) -> bool:
        """Whether the file is the one that was opened."""
        try:
            return os.path.samestat(os.stat(self.path), self._opened)
        except FileNotFoundError:
            return False

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
        """The entries of this moment, oldest first: ``key``, ``model``, ``created``, the ``response`` as plain data."""
        query = "SELECT model, created, CAST(response AS BLOB) FROM answers WHERE key = ?"
        with self._using() as connection:
            keys = [key for (key,) in connection.execute("SELECT key FROM answers ORDER BY created, key")]
        for start in range(0, len(keys), _PAGE):  # in pages, so that nobody who writes has to wait
            with self._using() as connection:
                page = [(key, connection.execute(query, (key,)).fetchone()) for key in keys[start : start + _PAGE]]
            for key, row in page:
                if row is None:
                    continue  # it was cleared meanwhile
                model, created, text = row
                try:
                    response = _kept(text, created).to_json()
                except NO_ANSWER as error:
                    warnings.warn(f"{self.unreadable(key, error)}; it is left out", RuntimeWarning, stacklevel=2)
                else:
                    yield {"key": key, "model": model, "created": created, "response": response}

    def size(self) -> int:
        """Bytes on disk."""
        files = [
            self.path,
            *(self.path.with_name(self.path.name + end) for end in ("-recent", "-moving", "-wal", "-shm")),
        ]
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Move the journal and close the file; it opens again when it is used. What cannot be moved is a warning."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                try:
                    self._move(wait=True)
                except (sqlite3.Error, OSError, StorageError) as error:
                    message = f"the newest answers in the cache {self.path} stay in its journal for now: {error}"
                    warnings.warn(message, RuntimeWarning, stacklevel=2)
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
                connection = self._connection or self._open()
                self._move(wait=True)
                yield self._connection or connection
        except (sqlite3.Error, OSError) as error:
            raise self._damaged(error) from error

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None, check_same_thread=False)
            self._prepare(connection)
        except BaseException as error:
            if connection is not None:
                connection.rollback()  # after Ctrl-C in the middle: while a traceback has it, it would lock the file
                connection.close()
            if isinstance(error, OSError | sqlite3.Error):
                raise self._damaged(error) from error
            raise
        self._opened = os.stat(self.path)
        self._connection = connection
        self._try_to_move()  # what a process has left that was killed
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
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
        use_write_ahead_log(connection)
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


def _move_part(connection: sqlite3.Connection, journal: Journal) -> bool:
    """Move what was left behind by one who was killed, or else what there is now; whether there may be more."""
    try:
        connection.execute("BEGIN IMMEDIATE")  # and so nobody else is moving it
        more = journal.moving.exists()
        entries = journal.take()
        if entries is not None:
            connection.executemany(_KEEP, entries)
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")  # since the commit, somebody else may have gone on with it
            journal.remove()
        return more
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _kept(text: bytes, created: float) -> Kept:
    try:
        return Kept(from_json(text), created)
    except ValueError:  # as `_text` writes what the faster one does not
        return Kept(json.loads(text), created)


def _text(plain: Any) -> bytes:
    try:
        return to_json(plain)
    except ValueError:  # half a surrogate pair, which models do write, and which only escapes can say
        return json.dumps(plain).encode()


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
