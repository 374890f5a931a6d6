"""SQLite files that several processes open at the same moment, the first of all among them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import StorageError
from dspex.lm import Cache, sqlite_files
from dspex.lm.batch_store import BatchStore

both = pytest.mark.parametrize(
    "opened", [lambda path: Cache(path).get("k"), lambda path: BatchStore(path).jobs()], ids=["cache", "batch jobs"]
)


@pytest.fixture
def another(tmp_path: Path) -> sqlite3.Connection:
    """Another process's connection, which is just making what is in a new file."""
    connection = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


@both
def test_opening_a_file_waits_for_who_opened_it_first(
    opened: Callable[[Path], Any], tmp_path: Path, another: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            another.execute("COMMIT")

    monkeypatch.setattr(time, "sleep", sleep)
    assert not opened(tmp_path / "new.db")
    assert len(waits) == 3


@both
def test_it_does_not_wait_for_ever(
    opened: Callable[[Path], Any], tmp_path: Path, another: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_files, "WAIT", 0.0)
    with pytest.raises(StorageError, match=r"new\.db cannot be used: database is locked"):
        opened(tmp_path / "new.db")
    another.execute("COMMIT")
    assert not opened(tmp_path / "new.db")
