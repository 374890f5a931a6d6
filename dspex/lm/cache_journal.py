"""The answers of a cache that were kept last, by all processes, before they are moved into its SQLite file.

To append a line to a file costs a tenth of a commit of SQLite, and two processes that do so hardly hinder each other.
So all of them append to one file beside the cache's, ``<name>-recent``, and whoever finds it large, leaves, or counts
what is there moves it into the SQLite file in one transaction (`dspex.lm.cache_file`). There are no locks in here.

Who moves it has SQLite's lock for writing, so there is one at most. It renames the file to ``<name>-moving``, appends a
mark that closes it, keeps in SQLite what is before the mark, commits, and deletes the file. The next answer begins
another ``-recent``. What keeps that right:

- Files are renamed and deleted under that lock only.
- A file is only ever appended to, each line in one write, so there is one order of lines that all processes see. What
  is behind the mark was appended by one who had not seen it yet; he sees it then, and appends to the next file.
- Nobody appends to a file before the one before it is closed. So "the first answer stays" means the same to everybody.
- Who looks for an answer looks here first, into the newer file and then the older, and then in SQLite: what is not
  here any more was committed before.
- To move a line twice changes nothing, so it does not matter where he who moves is killed: the next one goes on.
- A line is JSON, a tab and JSON; it begins with a newline and ends with a tab. So one that was not written to its end
  (its writer was killed, the disk is full) is told from a whole one, and ends where the next begins.

It needs files that can be renamed and deleted while they are open, and so there is none on Windows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import ENOSPC
from pathlib import Path

from pydantic_core import from_json, to_json

__all__ = ["Entry", "Journal"]

Entry = tuple[str, str, bytes, float, float]
"""An answer's key, model, JSON, when it was kept, and until when one that is there already is too old to stay."""

_FLAGS = os.O_RDWR | os.O_APPEND
_MARK = b"\t"


class Journal:
    """The journal of the cache in the file ``cache``, as one process sees it.

    Not locked: one thread at a time may use it. What the operating system refuses is an `OSError`.
    """

    def __init__(self, cache: Path) -> None:
        self.recent = cache.with_name(cache.name + "-recent")
        self.moving = cache.with_name(cache.name + "-moving")
        self._cache = cache
        self._writer = int.from_bytes(os.urandom(4))
        self.leave()

    def leave(self) -> None:
        """Forget what is known of it."""
        self._now: _Part | None = None  # what answers are appended to
        self._taken: _Part | None = None
        self._before: _Part | None = None  # what is being moved, or has been left behind by one who was killed

    def look(self) -> None:
        """See what all processes have appended by now."""
        now = self._now
        if now is not None and self._before is None:  # nearly always
            now.read()
            if not now.closed:
                return
        while True:
            if self._now is None:
                # In this order: what is renamed in between is found under its new name.
                self._now = _Part.at(self.recent)
                self._before = self._known(self.moving)
                if self._now is None:
                    break
                if self._before is not None and self._before.is_same(self._now):
                    self._before = None
            now = self._now
            now.read()
            if not now.closed:
                break
            self._now, self._before = None, now
        if self._before is not None:
            if self._before.is_deleted():
                self._before = None
            else:
                self._before.read()

    def _known(self, path: Path) -> _Part | None:
        """The file at ``path``; if it is one that is known, with what is known of it."""
        found = _Part.at(path)
        for known in (self._now, self._before):
            if found is not None and known is not None and found.is_same(known):
                return known
        return found

    def find(self, key: str) -> Sequence[Entry]:
        """What there was under ``key`` at the last look, in order."""
        now, before = self._now, self._before
        found = () if now is None else now.find(key)
        return found if before is None else [*before.find(key), *found]

    def __bool__(self) -> bool:
        """Whether there was any at the last look."""
        return self._now is not None or self._before is not None

    @property
    def waiting(self) -> int:
        """How many answers were in it at the last look."""
        return sum(len(part.entries) for part in (self._before, self._now) if part is not None)

    def append(self, entry: Entry) -> int:
        """Write ``entry`` down for all processes; gives how many bytes are waiting to be moved.

        Raises a `ValueError` when its key or model is no text.
        """
        key, model, response, created, stale = entry
        line = b"\n%b\t%b\t" % (to_json((key, model, created, stale, self._writer)), response)
        while True:
            if self._now is None:
                # Who may read the cache may read this. (It may have been deleted: anybody may do that.)
                mode = self._cache.stat().st_mode & 0o777 if self._cache.exists() else 0o600
                os.close(os.open(self.recent, _FLAGS | os.O_CREAT, mode))
                self.look()
                continue
            if self._before is not None and not self._before.closed:
                self._before.close()
            if self._now.append(line, entry, self._writer):
                return self._now.seen
            self.look()

    def take(self) -> list[Entry] | None:
        """Close what is to be moved, and give all of it; ``None`` when there is nothing.

        What one process has kept is together, in order: who repeats what it did reads that, and not the others' too.
        Who calls this has SQLite's lock for writing, and calls `remove` when it has committed and has the lock again.
        """
        self.look()
        if not self.moving.exists():
            try:
                self.recent.rename(self.moving)
            except FileNotFoundError:  # there is none, or somebody has deleted it
                self.leave()
                return None
        self._taken = self._known(self.moving)
        if self._taken is None:
            return None
        self._taken.close()
        return self._taken.grouped()

    def remove(self) -> None:
        """Delete what was taken, if nobody else has done so."""
        there = _Part.at(self.moving)
        if there is not None and self._taken is not None and there.is_same(self._taken):
            self.moving.unlink()
        self.leave()


class _Part:
    """A file of a journal, and what has been read of it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.seen = 0  # bytes
        self.closed = False
        self.entries: list[Entry] = []
        self._of: dict[int, list[Entry]] = {}  # by writer
        self._first: dict[str, Entry] = {}
        self._later: dict[str, list[Entry]] = {}

    @classmethod
    def at(cls, path: Path) -> _Part | None:
        try:
            return cls(os.open(path, _FLAGS))
        except FileNotFoundError:
            return None

    def __del__(self, close=os.close) -> None:  # type: ignore[no-untyped-def]  # at exit modules may be gone
        close(self._descriptor)

    def is_same(self, other: _Part) -> bool:
        return os.path.samestat(os.fstat(self._descriptor), os.fstat(other._descriptor))

    def is_deleted(self) -> bool:
        return os.fstat(self._descriptor).st_nlink == 0

    def read(self) -> None:
        """Read what has been appended since."""
        size = os.lseek(self._descriptor, 0, os.SEEK_END)
        if size <= self.seen or self.closed:
            return
        text = os.pread(self._descriptor, size - self.seen, self.seen)
        self.seen += len(text)
        lines = text.split(b"\n")
        if not _is_whole(lines[-1]) and lines[-1] != _MARK:  # it may be on its way, and is read again
            self.seen -= len(lines.pop()) + 1
        for line in lines:
            if _is_whole(line):
                head, response, _ = line.split(b"\t")
                try:
                    key, model, created, stale, writer = from_json(head)
                    self._add((key, model, response, float(created), float(stale)), writer)
                except (ValueError, TypeError):  # the disk is damaged: what cannot be read is none
                    continue
            elif line == _MARK:
                self.closed = True
                return

    def _add(self, entry: Entry, writer: int) -> None:
        self.entries.append(entry)
        self._of.setdefault(writer, []).append(entry)
        if self._first.setdefault(entry[0], entry) is not entry:
            self._later.setdefault(entry[0], []).append(entry)

    def find(self, key: str) -> Sequence[Entry]:
        first = self._first.get(key)
        return () if first is None else [first, *self._later.get(key, ())]

    def grouped(self) -> list[Entry]:
        """Its entries, those of each writer together; as they came when some have one key: then the first counts."""
        if self._later or len(self._of) < 2:
            return self.entries
        return [entry for entries in self._of.values() for entry in entries]

    def append(self, line: bytes, entry: Entry, writer: int) -> bool:
        """Append ``line``, which says ``entry`` by ``writer``; whether that was before it was closed."""
        written = os.write(self._descriptor, line)
        if written < len(line):
            raise OSError(ENOSPC, os.strerror(ENOSPC))
        end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if end == self.seen + written:  # nobody else has appended anything
            self.seen = end
            self._add(entry, writer)
        else:
            self.read()
        return not self.closed

    def close(self) -> None:
        """Close it: what is appended behind the mark is not in it. All that is before has been read."""
        self.read()
        while not self.closed:
            os.write(self._descriptor, b"\n" + _MARK)
            self.read()


def _is_whole(line: bytes) -> bool:
    # Two parts, in none of which there is a tab: JSON writes it as an escape.
    return line.count(b"\t") == 2 and line.endswith(b"\t")
