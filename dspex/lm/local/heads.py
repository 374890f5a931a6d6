"""What requests have in common is read once, not once a slot.

Each slot of llama.cpp remembers the prompt it read last, and reads only what is new in the next one. But the system
message and the demos, the longest part by far, are new to every slot, and again whenever programs take turns. So they
are read in one slot, its state is written to a file, and from then on loading that file (milliseconds) replaces
reading them (seconds), in any slot.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections import OrderedDict
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dspex.lm.types import MessageBlock

__all__ = ["Heads"]

_WORTH_CHARACTERS = 400
"""A shorter head is read faster than it is looked for."""

_MOST_BYTES = 192 * 1024 * 1024


class _Saved:
    """The state after one head: its file, and whether that can be used yet, or at all."""

    __slots__ = ("done", "name", "size", "usable")

    def __init__(self, name: str) -> None:
        self.name = name
        self.done = threading.Event()
        self.usable = False
        self.size = 0


class Heads:
    """The saved states of one engine, in a temporary folder, the least recently used thrown out first."""

    def __init__(self, key: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="dspex-local-") + "/"
        self._key = key
        self._server: Any = None
        self._address = ""
        self._lock = threading.Lock()
        self._saved: OrderedDict[str, _Saved] = OrderedDict()

    def open(self, server: Any) -> None:
        """The server runs."""
        self._server = server
        self._address = urlsplit(server.listening_address).netloc

    def close(self) -> None:
        """The server does not run any more, or will not."""
        self._server = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def restore(self, head: MessageBlock, slot: int) -> bool:
        """Have ``slot`` know ``head``; false when that would not be worth it, or is not possible.

        Who comes first has it read, and others wait for that: reading it at the same time would take longer.
        """
        if head.characters < _WORTH_CHARACTERS:
            return False
        with self._lock:
            saved = self._saved.get(head.digest)
            first = saved is None
            if saved is None:
                saved = self._saved[head.digest] = _Saved(head.digest)
            self._saved.move_to_end(head.digest)
        if first:
            try:
                self._read(head, slot, saved)
            finally:
                saved.done.set()
        else:
            saved.done.wait()
        return saved.usable and (first or self._act("restore", slot, saved.name))

    def _read(self, head: MessageBlock, slot: int, saved: _Saved) -> None:
        # Generating nothing leaves the slot in the state after the prompt.
        body = {"messages": list(head), "n_predict": 0, "cache_prompt": True, "id_slot": slot}
        try:
            answer = self._server.handle_chat_completions(body)
        except ValueError:
            return  # the request itself will say what is wrong
        if "error" in answer or not self._act("save", slot, saved.name):
            return
        saved.size = (Path(self.folder) / saved.name).stat().st_size
        saved.usable = True
        with self._lock:
            while len(self._saved) > 1 and sum(one.size for one in self._saved.values()) > _MOST_BYTES:
                _, oldest = self._saved.popitem(last=False)
                Path(self.folder, oldest.name).unlink(missing_ok=True)

    def _act(self, action: str, slot: int, name: str) -> bool:
        # The one thing that llama.cpp offers at its port only.
        connection = HTTPConnection(self._address, timeout=30)
        try:
            connection.request(
                "POST",
                f"/slots/{slot}?action={action}",
                json.dumps({"filename": name}),
                {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
            )
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()
