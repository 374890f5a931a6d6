"""The answers of a cache that were kept last, by all processes, before they are moved into its SQLite file.

To append a line to a file costs a tenth of a commit of SQLite, and two processes that do hinder each other less. So all
of them append to one file beside the cache's, ``<name>-recent``, and whoever finds it large, leaves, or counts what is
there moves all of it into the SQLite file in one transaction and deletes it (`dspex.lm.cache_file`). The next answer
begins another.

What keeps it right:

- A file of this name is only ever appended to, in one write, and deleted: what has been read of it stays so. There is
  one order of all lines, so "the first answer stays" means the same to everybody.
- Who appends holds a shared lock on it, and looks whether it is still there; who moves it holds an exclusive one, and
  deletes it after the commit. So no answer is left behind in a file that nobody finds any more.
- Who looks for an answer looks here first, and then in SQLite: what is not here any more is there already.
- To move a line twice changes nothing. So it does not matter where who moves is killed.
- A line begins with a newline and ends with a tab. So one that was not written to its end (its writer was killed, the
  disk is full) is told from a whole one, and ends where the next begins.

The locks are those of the operating system, which it opens when a process ends however it may. Where there is no
`fcntl` (Windows) there is no journal either, and answers are written to SQLite one by one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path

from pydantic_core import from_json, to_json

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock

__all__ = ["Entry", "Journal"]

Entry = tuple[str, str, bytes, float, float]
"""An answer's key, model, JSON, and when it was kept; and until when one that is there already is too old to stay."""

_FLAGS = os.O_RDWR | os.O_APPEND


class Journal:
    """The journal of the cache in the file ``cache``, as one process sees it.

    Not locked: one thread at a time may use it. Everything raises an `OSError` when that is what happens.
    """

    def __init__(self, cache: Path) -> None:
        self.path = cache.with_name(cache.name + "-recent")
        self._cache = cache
        self._descriptor: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._seen = 0  # bytes of it that have been read
        self.entries: list[Entry] = []  # what was in it at the last look, in order
        self.by_key: dict[str, list[Entry]] = {}

    def look(self) -> bool:
        """See what all processes have appended by now; whether there is a journal."""
        descriptor = self._descriptor
        if descriptor is not None:
            status = os.fstat(descriptor)
            if not status.st_nlink:
                self.leave()
                descriptor = None
        if descriptor is None:
            try:
                descriptor = self._descriptor = os.open(self.path, _FLAGS)
            except FileNotFoundError:
                return False
            status = os.fstat(descriptor)
        self._read(descriptor, status.st_size)
        return True

    def _read(self, descriptor: int, size: int) -> None:
        if size == self._seen:
            return
        text = os.pread(descriptor, size - self._seen, self._seen)
        self._seen += len(text)
        lines = text.split(b"\n")
        if not _is_whole(lines[-1]):  # it may be on its way, and is read again
            self._seen -= len(lines.pop()) + 1
        for line in lines:
            if _is_whole(line):
                key, model, created, stale, response, _ = line.split(b"\t")
                try:
                    self._add((from_json(key), from_json(model), response, float(created), float(stale)))
                except ValueError:  # the disk is damaged: what cannot be read is none
                    continue

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.by_key.setdefault(entry[0], []).append(entry)

    def append(self, entry: Entry) -> int:
        """Write ``entry`` down for all processes; gives how many bytes there are now.

        Raises a `ValueError` when its key or model is no text.
        """
        key, model, response, created, stale = entry
        line = b"\n%b\t%b\t%a\t%a\t%b\t" % (to_json(key), to_json(model), created, stale, response)
        while True:
            descriptor = self._descriptor
            if descriptor is None:
                # Who may read the cache may read this; it may have been deleted.
                mode = self._cache.stat().st_mode & 0o777 if self._cache.exists() else 0o600
                descriptor = self._descriptor = os.open(self.path, _FLAGS | os.O_CREAT, mode)
            flock(descriptor, LOCK_SH)
            try:
                if os.fstat(descriptor).st_nlink:
                    written = os.write(descriptor, line)
                    break
            finally:
                flock(descriptor, LOCK_UN)
            self.leave()
        if written < len(line):
            raise OSError(ENOSPC, os.strerror(ENOSPC), str(self.path))
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if end == self._seen + written:  # nobody else has appended anything
            self._seen = end
            self._add(entry)
        return end

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody appends to it meanwhile, and all of it has been looked at; there must be one."""
        descriptor = self._descriptor
        assert descriptor is not None
        flock(descriptor, LOCK_EX)
        try:
            self._read(descriptor, os.fstat(descriptor).st_size)
            yield
        finally:
            flock(descriptor, LOCK_UN)

    def remove(self) -> None:
        """Delete it, as all of it has been moved; only when it is `held`."""
        self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Forget it; what is to be known of it is looked up again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._begin()


def _is_whole(line: bytes) -> bool:
    # No tab is in any of its parts: JSON writes it as an escape.
    return line.count(b"\t") == 5 and line.endswith(b"\t")
