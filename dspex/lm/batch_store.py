"""What is remembered of batch jobs: which there are, what was asked in each, and what of it was answered.

A SQLite file beside the cache. A job is written down before it is submitted, and its results before anybody gets
them, so that whoever runs the same line again finds what was paid for. There is no key and no prompt in it: requests
are told by their digests.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from dspex.errors import StorageError
from dspex.forks import held_at_forks

if TYPE_CHECKING:
    import sqlite3

__all__ = ["BatchJob", "BatchStore", "Place"]

Place = tuple[str, str]
"""Where a request is: its job's name, and its id in it."""

_APPLICATION_ID = 0x64737062  # "dspb"
_SCHEMA_VERSION = 1
_KEPT = 90 * 86_400.0
"""Seconds for which a job that has ended is remembered; no provider keeps results for longer."""

_AT_ONCE = 500
_SOON = 0.2

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS jobs (
    name TEXT PRIMARY KEY, id TEXT, shape TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL,
    requests INTEGER NOT NULL, owner TEXT NOT NULL, created REAL NOT NULL, note TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS requests (
    job TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, result TEXT, taken INTEGER NOT NULL,
    PRIMARY KEY (job, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_key ON requests (key) WHERE taken = 0;
PRAGMA application_id = %d;
PRAGMA user_version = %d;
COMMIT;
"""


@attrs.frozen(kw_only=True)
class BatchJob:
    """One job: ``id`` at the provider (``None`` until it is known), and ``name``, which we gave it.

    ``status`` is ``"intended"`` (about to be submitted), ``"submitted"``, ``"ended"`` (its results are here),
    ``"failed"`` (as a whole) or ``"vanished"``; ``note`` says why. ``requests`` were sent with it, and ``open`` of
    them have a result that nobody has taken, or will have one. ``created`` is in seconds since 1970.
    """

    id: str | None
    name: str
    shape: str
    model: str
    status: str
    requests: int
    open: int
    owner: str = attrs.field(repr=False)
    created: float
    note: str = ""


class BatchStore:
    """The jobs in one file; stores of one path are one object in a process. Threads and processes may share it.

    Raises `StorageError` when the file cannot be used, before anything is submitted.
    """

    _shared: dict[str, BatchStore] = {}  # noqa: RUF012 - a registry, guarded by _sharing
    _sharing = threading.Lock()

    path: Path
    _lock: threading.RLock
    _connection: sqlite3.Connection | None
    _process: int
    _claimed: set[Place]
    _taken: list[Place]
    submitting: set[str]
    """Names of the jobs that somebody in this process is submitting."""

    def __new__(cls, path: str | os.PathLike[str]) -> BatchStore:
        place = Path(path).expanduser().absolute()
        with cls._sharing:
            store = cls._shared.get(str(place))
            if store is None:
                store = cls._shared[str(place)] = object.__new__(cls)
                store.path = place
                store._reset()
            return store

    def _reset(self) -> None:
        self._lock = held_at_forks(threading.RLock(), order=6)  # as a cache's file is
        self._connection = None
        self._process = os.getpid()
        self.submitting = set()
        self._taken = []
        self._claimed = set()  # by somebody in this process who waits for it

    # Jobs.

    def intend(
        self,
        name: str,
        *,
        shape: str,
        model: str,
        owner: str,
        requests: Iterable[tuple[str, str]],
        id: str | None = None,
    ) -> None:
        """Write down a job that is about to be submitted, with the id and the key of each request.

        They are claimed for who waits for them in this process.
        """
        rows = [(name, place, key, 0) for place, key in requests]
        status = "intended" if id is None else "submitted"
        with self._writing(durably=True) as connection:
            connection.execute("DELETE FROM jobs WHERE created < ? AND status <> 'intended'", (time.time() - _KEPT,))
            connection.execute("DELETE FROM requests WHERE job NOT IN (SELECT name FROM jobs)")
            connection.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')",
                (name, id, shape, model, status, len(rows), owner, time.time()),
            )
            connection.executemany("INSERT INTO requests VALUES (?, ?, ?, NULL, ?)", rows)
        with self._lock:
            self._claimed.update((name, row[1]) for row in rows)

    def take_over(self, job: BatchJob, owner: str) -> bool:
        """Be the one to find out what became of a job whose owner is no more; only one can."""
        with self._writing() as connection:
            return bool(
                connection.execute(
                    "UPDATE jobs SET owner = ? WHERE name = ? AND owner = ? AND id IS NULL",
                    (owner, job.name, job.owner),
                ).rowcount
            )

    def submitted(self, name: str, id: str) -> None:
        """The provider has it, as ``id``."""
        with self._writing(durably=True) as connection:
            connection.execute("UPDATE jobs SET id = ?, status = 'submitted' WHERE name = ?", (id, name))

    def ended(self, name: str, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep the results, by request."""
        rows = [(json.dumps(result, ensure_ascii=False), name, place) for place, result in results.items()]
        with self._writing() as connection:
            connection.executemany(
                "UPDATE requests SET result = ? WHERE job = ? AND id = ? AND result IS NULL AND taken = 0", rows
            )
            connection.execute("UPDATE jobs SET status = 'ended' WHERE name = ?", (name,))

    def adopted(self, name: str, results: Mapping[str, Mapping[str, Any]], keys: Mapping[str, str]) -> None:
        """Keep the results of a job that was submitted elsewhere, with the keys of its requests."""
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO requests VALUES (?, ?, ?, ?, 0)",
                [
                    (name, place, keys[place], json.dumps(result, ensure_ascii=False))
                    for place, result in results.items()
                ],
            )
            connection.execute("UPDATE jobs SET status = 'ended', requests = ? WHERE name = ?", (len(results), name))

    def over(self, name: str, status: str, note: str) -> None:
        """The job came to nothing: its requests may be asked again."""
        with self._writing() as connection:
            connection.execute("UPDATE jobs SET status = ?, note = ? WHERE name = ?", (status, note[:1000], name))
            connection.execute("DELETE FROM requests WHERE job = ?", (name,))
        with self._lock:
            self._claimed = {place for place in self._claimed if place[0] != name}

    def forget(self, name: str) -> None:
        """The job was never submitted."""
        with self._writing() as connection:
            connection.execute("DELETE FROM jobs WHERE name = ?", (name,))
            connection.execute("DELETE FROM requests WHERE job = ?", (name,))
        with self._lock:
            self._claimed = {place for place in self._claimed if place[0] != name}

    def jobs(self, *, name: str | None = None, id: str | None = None) -> list[BatchJob]:
        """All jobs, or the one of this name or id; oldest first."""
        self._flush()
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT id, name, shape, model, status, requests, "
                "(SELECT count(*) FROM requests WHERE job = jobs.name AND taken = 0), owner, created, note "
                "FROM jobs WHERE (? IS NULL OR name = ?) AND (? IS NULL OR id = ?) ORDER BY created",
                (name, name, id, id),
            ).fetchall()
        names = ("id", "name", "shape", "model", "status", "requests", "open", "owner", "created", "note")
        return [BatchJob(**dict(zip(names, row, strict=True))) for row in rows]

    def places(self, name: str) -> list[str]:
        """The ids of a job's requests."""
        with self._reading() as connection:
            return [row[0] for row in connection.execute("SELECT id FROM requests WHERE job = ?", (name,))]

    # Requests.

    def claim(self, key: str) -> tuple[Place, dict[str, Any] | None] | None:
        """A request under ``key`` that is in a job already and that nobody waits for, and its result if it has one."""
        with self._lock, self._reading() as connection:
            for job, place, result in connection.execute(
                "SELECT job, id, result FROM requests WHERE key = ? AND taken = 0", (key,)
            ):
                if (job, place) not in self._claimed:
                    self._claimed.add((job, place))
                    return (job, place), None if result is None else json.loads(result)
        return None

    def drop(self, place: Place) -> None:
        """It was taken out of its job, which is not submitted yet."""
        with self._writing() as connection:
            connection.execute("DELETE FROM requests WHERE job = ? AND id = ?", place)
            connection.execute("UPDATE jobs SET requests = requests - 1 WHERE name = ?", place[:1])
        self.release(place)

    def release(self, place: Place) -> None:
        """Who waited for it does so no longer; somebody else may claim it."""
        with self._lock:
            self._claimed.discard(place)

    def take(self, place: Place) -> None:
        """Its result has got to where it is needed: nobody else gets it.

        Written down many at a time and a moment later; a process that is killed before gets the same answer again.
        """
        from dspex.execution.background import start_in_background  # loads asyncio

        with self._lock:
            self._taken.append(place)
            if len(self._taken) == 1:
                start_in_background(self._flush_soon())
            elif len(self._taken) >= _AT_ONCE:
                self._flush()

    async def _flush_soon(self) -> None:
        import asyncio

        await asyncio.sleep(_SOON)
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            taken, self._taken = self._taken, []
            if taken:
                with self._writing() as connection:
                    connection.executemany(
                        "UPDATE requests SET taken = 1, result = NULL WHERE job = ? AND id = ?", taken
                    )
                self._claimed.difference_update(taken)

    # The file.

    def _reading(self) -> _Use:
        return _Use(self, "")

    def _writing(self, *, durably: bool = False) -> _Use:
        return _Use(self, "BEGIN IMMEDIATE", durably)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        import sqlite3

        from dspex.lm.sqlite_files import WAIT, use_write_ahead_log

        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (tables and application != _APPLICATION_ID) or version > _SCHEMA_VERSION:
                raise StorageError(
                    f"{self.path} is no record of batch jobs that this dspex can read: name another folder, "
                    "dspex.BatchLM(lm, folder=...)"
                )
            use_write_ahead_log(connection)
            if version < _SCHEMA_VERSION:
                connection.executescript(_SCHEMA % (_APPLICATION_ID, _SCHEMA_VERSION))
        except BaseException:
            connection.rollback()  # after Ctrl-C in the middle: while a traceback has it, it would lock the file
            connection.close()
            raise
        self._connection = connection
        return connection


class _Use:
    """``with`` the connection locked, in a transaction when there is anything to write."""

    __slots__ = ("_begin", "_durably", "_store")

    def __init__(self, store: BatchStore, begin: str, durably: bool = False) -> None:
        self._store = store
        self._begin = begin
        self._durably = durably

    def __enter__(self) -> sqlite3.Connection:
        import sqlite3

        store = self._store
        store._lock.acquire()
        try:
            connection = store._open()
            if self._begin:
                # A job that is not remembered is paid for twice, so it survives a crash of the machine; what becomes
                # of it can be asked for again.
                connection.execute(f"PRAGMA synchronous = {'FULL' if self._durably else 'NORMAL'}")
                connection.execute(self._begin)
            return connection
        except BaseException as error:
            self._let_go()
            if isinstance(error, (sqlite3.Error, OSError)):
                raise _damaged(store, error) from error
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        store = self._store
        try:
            import sqlite3

            if self._begin and store._connection is not None:
                store._connection.execute("COMMIT" if kind is None else "ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _damaged(store, error) from error
        except sqlite3.Error as failure:
            raise _damaged(store, failure) from failure
        finally:
            self._let_go()

    def _let_go(self) -> None:
        connection = self._store._connection
        if connection is not None and connection.in_transaction:  # Ctrl-C came before its end
            connection.rollback()
        self._store._lock.release()


def _damaged(store: BatchStore, reason: object) -> StorageError:
    return StorageError(
        f"the record of batch jobs {store.path} cannot be used: {reason}. Name another folder, "
        "dspex.BatchLM(lm, folder=...); jobs that are under way can be taken up by their ids, resume=[...]"
    )


@atexit.register
def _flush_all() -> None:
    for store in list(BatchStore._shared.values()):
        with suppress(StorageError):  # then the answers that were taken are given once more
            store._flush()


def _after_fork() -> None:
    BatchStore._sharing = threading.Lock()
    for store in BatchStore._shared.values():
        _inherited.append(store._connection)  # not closed: closing would drop the parent's locks on the file
        store._reset()


_inherited: list[Any] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
