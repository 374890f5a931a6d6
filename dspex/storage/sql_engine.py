"""The connection to a database: how it is opened, what a transaction is, and what its failures mean."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from dspex.errors import StorageError
from dspex.forks import Traffic, held_at_forks
from dspex.storage.sql_tables import SCHEMA_VERSION, meta, metadata

__all__ = ["Database"]

# In a write-ahead log NORMAL is safe from the process's death; FULL also waits until the disk has it.
_SYNCHRONOUS = {"write": "PRAGMA synchronous=NORMAL", "durable": "PRAGMA synchronous=FULL"}
_WAIT_FOR_LOCK = 60.0  # seconds that a writer waits for the others


class Database:
    """One database, opened by its first use in each process: a forked or spawned child opens its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._parsed = _parse(url)
        self._engines: Mapping[str, Engine] | None = None  # of one pool of connections, by the kind of transaction
        self._pid = 0
        self._lock = held_at_forks(threading.Lock(), order=5)
        # A child that is forked in the middle of a transaction inherits what SQLite knows of it, and finds the file
        # locked for ever, by a connection that nobody has.
        self._traffic = held_at_forks(Traffic(longest=_WAIT_FOR_LOCK), order=4)
        self._open()

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self._parsed.render_as_string(hide_password=True)

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads, and on SQLite waits for no writer."""
        return self._transaction("read")

    def write(self, *, durable: bool) -> AbstractContextManager[Connection]:
        """A transaction that writes; `IntegrityError` passes through for the caller to explain.

        What it wrote outlives this process in any case, and a power failure when ``durable``: that means waiting
        for the disk, which takes several times as long as all the rest.
        """
        return self._transaction("durable" if durable else "write")

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[Connection]:
        with self._explained(), self._traffic.one(), self._open()[kind].begin() as connection:
            try:
                yield connection
            except Exception:
                raise
            except BaseException:  # Ctrl-C: in the middle of a SELECT it is of no use to whoever gets it next
                connection.invalidate()
                raise

    def close(self) -> None:
        """Closes the connections; the next use opens new ones."""
        with self._lock:
            self._let_go()

    def _open(self) -> Mapping[str, Engine]:
        if self._engines is not None and self._pid == os.getpid():
            return self._engines
        with self._lock:
            if self._pid != os.getpid():
                self._let_go()
            if self._engines is None:
                with self._explained():
                    engine = _connect(self._parsed)
                    engines = {kind: engine.execution_options(dspex_kind=kind) for kind in ("read", *_SYNCHRONOUS)}
                    _prepare(engines, self.shown)
                self._engines, self._pid = engines, os.getpid()
            return self._engines

    def _let_go(self) -> None:
        engines, self._engines = self._engines, None
        if engines is not None:
            engines["read"].dispose(close=self._pid == os.getpid())  # the others' too; a parent's are the parent's

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise self._explain(error) from error

    def _explain(self, error: SQLAlchemyError) -> StorageError:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        text = f"{type(cause).__name__}: {cause}"
        if self._parsed.get_backend_name() == "sqlite":
            path = self._parsed.database
            if "not a database" in text or "malformed" in text:
                return StorageError(
                    f"{path} is damaged or is no study file ({text}). Restore it from a copy or move it "
                    f"away; what can be saved is saved by: sqlite3 {path} .recover | sqlite3 recovered.db"
                )
            if "unable to open" in text:
                return StorageError(
                    f"{path} cannot be opened ({text}). Does its directory exist, and may it be written?"
                )
            if "readonly" in text:
                return StorageError(
                    f"{path} cannot be written ({text}). Check the owner and permissions of it and its directory; to "
                    "read it where nothing may be written, copy it to another directory first"
                )
            if "locked" in text:
                return StorageError(
                    f"{path} was locked by another process for {_WAIT_FOR_LOCK:.0f} s ({text}). Many "
                    "machines, or a network drive? Use a postgresql:// URL"
                )
        return StorageError(f"the storage {self.shown} failed: {text}")


def _parse(url: str) -> URL:
    if not isinstance(url, str):
        raise StorageError(f"storage must be a URL such as 'sqlite:///study.db', got {url!r} ({type(url).__name__})")
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StorageError(
            f"storage must be a URL, got {url!r} (str). For a file write storage='sqlite:///study.db', "
            "for a server 'postgresql://user:password@host/database'"
        ) from None
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StorageError(
            f"{url!r} names no file, and each thread would get a database of its own. Write "
            "'sqlite:///study.db', or storage=None to keep the study in memory"
        )
    return parsed


def _connect(url: URL) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url, pool_pre_ping=True)
        # A connection for each thread, however many: waiting for one would end before waiting for the file does.
        arguments = {"timeout": _WAIT_FOR_LOCK, "check_same_thread": False, "factory": _Connection}
        engine = create_engine(url, connect_args=arguments, max_overflow=-1)
    except NoSuchModuleError:
        raise StorageError(
            f"there is no database called {url.drivername!r}; write sqlite:///... or postgresql://..."
        ) from None
    except ImportError as error:
        raise StorageError(
            f"{url.drivername!r} needs a driver that is not installed ({error}); for PostgreSQL: pip install "
            "psycopg, and write postgresql+psycopg://..."
        ) from error
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


class _Connection(sqlite3.Connection):
    """One that ends its transaction when it is closed.

    After Ctrl-C SQLAlchemy closes a connection in the middle of what it does, and SQLite keeps one that has an open
    statement, which a traceback may hold for long: with its transaction, and so with the lock on the file.
    """

    def close(self) -> None:
        with suppress(sqlite3.Error):  # it may be closed
            self.rollback()
        super().close()


def _set_up_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    # The driver's own transactions start too late (at the first write), which lets two writers deadlock.
    connection.isolation_level = None
    # Before the write-ahead log, which is noted in the file: another program's file stays as it is.
    _refuse_foreign(connection)
    connection.execute("PRAGMA journal_mode=WAL")
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    record.info["file"] = path, _identity(path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _refuse_foreign(connection: sqlite3.Connection) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if tables and meta.name not in tables:
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        others = "" if len(tables) <= 3 else f" and {len(tables) - 3} more"
        raise StorageError(
            f"{path} is another program's database (its tables are {', '.join(sorted(tables)[:3])}{others}), and "
            "nothing was written into it. Keep the study in a file of its own: storage='sqlite:///study.db'"
        )


def _begin_sqlite(connection: Connection) -> None:
    kind = connection.get_execution_options().get("dspex_kind", "durable")
    if kind == "read":
        connection.exec_driver_sql("BEGIN")
        return
    path, opened = connection.info["file"]
    if _identity(path) != opened:
        raise StorageError(
            f"{path} was deleted or replaced while this process had it open, and what would be written now would be "
            "lost, so it was not. Put the file back or open the study anew; what it held can be read here once more: "
            "copy_study(from_study_name=study.study_name, from_storage=study.storage, to_storage='sqlite:///new.db')"
        )
    connection.exec_driver_sql(_SYNCHRONOUS[kind])
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(engines: Mapping[str, Engine], shown: str) -> None:
    """Creates the tables where there are none. Several processes may do so at the same moment."""
    for attempt in range(10):
        try:
            with engines["read"].begin() as connection:  # first: a file may be read where it may not be written
                found = _schema(connection)
            if found is None:
                with engines["durable"].begin() as connection:
                    found = _schema(connection)
                    if found is None:
                        metadata.create_all(connection)
                        connection.execute(insert(meta), {"key": "schema", "value": str(SCHEMA_VERSION)})
                        found = str(SCHEMA_VERSION)
            break
        except DBAPIError as error:
            if attempt == 9 or not _another_was_first(error):
                raise
            time.sleep(0.05 * (attempt + 1))
    if found != str(SCHEMA_VERSION):
        raise StorageError(
            f"{shown} was written by another version of dspex (its tables are version {found}, this one "
            f"reads version {SCHEMA_VERSION}). Upgrade dspex, or keep this study in another file"
        )


def _schema(connection: Connection) -> str | None:
    if not inspect(connection).has_table(meta.name):
        return None
    return connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar()


def _another_was_first(error: DBAPIError) -> bool:
    """Whether a statement failed because another process was creating the same tables."""
    text = str(error.orig).lower()
    return "locked" in text or "already exists" in text or "duplicate" in text or "unique" in text
