"""What requests have in common is read once.

llama.cpp remembers the prompt it read last, and reads only what is new in the next one. But the system message and the
demos, the longest part by far, are new to every lane, and again whenever programs take turns. So they are read in one
lane, the state after them is written to a file, and from then on loading that file (milliseconds) replaces reading
them (seconds), in any lane. It is loaded for each request, even if the lane has just read the same head: that way what
follows the head is always read in one piece, and rounded alike.

The exception is a request that goes on where a long one before it ended, as an agent's next step does: reading all of
that again would take too long.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dspex.lm.local.answer import Answer
from dspex.lm.types import MessageBlock

__all__ = ["Heads", "Port"]

_LONG = 1000
"""Characters beyond the head that are worth more than reading them again in one piece."""

_MOST_BYTES = 192 * 1024 * 1024


class _Saved:
    """The state after one head: its file, and whether that can be used yet, or at all."""

    __slots__ = ("digest", "done", "name", "size", "usable")

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.name = f"{digest}-{secrets.token_hex(4)}"  # never one that another lane may still be loading
        self.done = threading.Event()
        self.usable = False
        self.size = 0


class Port:
    """A running server, and the key to the one thing that it offers at its port only: the state after a prompt."""

    def __init__(self, server: Any, key: str) -> None:
        self.server = server
        self.text = ""  # the prompt that it has answered last; nothing where that is not known for sure
        self._key = key
        self._address = urlsplit(server.listening_address).netloc

    def act(self, action: str, name: str) -> bool:
        """``"save"`` the state under a name, or ``"restore"`` it; whether that was possible."""
        connection = HTTPConnection(self._address, timeout=30)
        try:
            connection.request(
                "POST",
                f"/slots/0?action={action}",
                json.dumps({"filename": name}),
                {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
            )
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class Heads:
    """The saved states of one engine, in a temporary folder, the least recently used thrown out first."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="dspex-local-") + "/"
        self._lock = threading.Lock()
        self._saved: OrderedDict[str, _Saved] = OrderedDict()

    def close(self) -> None:
        """Remove them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def restore(self, head: MessageBlock, text: str, port: Port, *, stop: Callable[[], bool]) -> None:
        """Have ``port`` know ``head``, which the prompt ``text`` begins with, if that is possible.

        Who comes first has it read, and others wait for that: reading it at the same time would not be faster.
        """
        before, port.text = port.text, ""
        shared = head.characters + _LONG
        if len(text) >= shared and before[:shared] == text[:shared]:
            return
        while not stop():
            with self._lock:
                saved = self._saved.get(head.digest)
                first = saved is None
                if saved is None:
                    saved = self._saved[head.digest] = _Saved(head.digest)
                self._saved.move_to_end(head.digest)
            if first:
                try:
                    self._read(head, port, saved, stop)
                finally:
                    if not saved.usable:
                        self._drop(saved)
                    saved.done.set()
                return
            saved.done.wait()
            if saved.usable and port.act("restore", saved.name):
                return
            self._drop(saved)  # thrown out meanwhile, or no good: it is read again

    def _drop(self, saved: _Saved) -> None:
        with self._lock:
            if self._saved.get(saved.digest) is saved:
                del self._saved[saved.digest]
        Path(self.folder, saved.name).unlink(missing_ok=True)

    def _read(self, head: MessageBlock, port: Port, saved: _Saved, stop: Callable[[], bool]) -> None:
        # Generating nothing leaves it in the state after the prompt.
        body = {"messages": list(head), "n_predict": 0, "cache_prompt": False, "stream": True, "return_progress": True}
        answer = Answer()

        def read(chunk: dict[str, Any]) -> bool:  # True ends the reading
            answer.read(chunk)
            return stop()

        try:
            port.server.handle_chat_completions(body, read)
        except ValueError:
            return  # the request itself will say what is wrong
        if answer.finish_reason is None or not port.act("save", saved.name):
            return
        saved.size = Path(self.folder, saved.name).stat().st_size
        saved.usable = True
        with self._lock:
            total = sum(one.size for one in self._saved.values())
            # Not this one and no other that is still being read, for which lanes wait.
            old = [one for one in self._saved.values() if one.done.is_set()]
        for one in old:
            if total <= _MOST_BYTES:
                break
            self._drop(one)
            total -= one.size
