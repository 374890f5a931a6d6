"""What the SQLite files of this room have in common."""

from __future__ import annotations

import random
import sqlite3
import time

__all__ = ["WAIT", "use_write_ahead_log"]

WAIT = 30.0
"""Seconds that one process waits for another's lock."""


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Set the file's journal mode to WAL, waiting for others.

    SQLite itself does not wait here, whatever its busy timeout: two that open a new file at the same moment would each
    hold what the other needs. Raises `sqlite3.OperationalError` when the file stays locked for `WAIT` seconds.
    """
    until = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
        time.sleep(random.uniform(0.001, 0.01))
