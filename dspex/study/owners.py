"""Who runs a trial, and whether that process is still there.

A trial that is RUNNING when its process was killed stays RUNNING in the storage. On the machine where it ran
this is seen at once, by the process id and when that process was started; from another machine it is seen
when the process's heartbeat has stopped for `GRACE` seconds.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
import weakref

from dspex.storage import Storage

__all__ = ["GRACE", "Heartbeat", "is_alive", "this_process"]

GRACE = 120.0
"""Seconds without a heartbeat after which a process on another machine counts as dead."""

_BEAT_EVERY = 15.0

_here: tuple[int, str] | None = None


def this_process() -> str:
    """A name for this process that no other one has: ``host/pid/start/random``."""
    global _here
    pid = os.getpid()
    if _here is None or _here[0] != pid:  # a forked child is another process
        _here = (pid, f"{socket.gethostname()}/{pid}/{_started(pid)}/{uuid.uuid4().hex[:8]}")
    return _here[1]


def is_alive(owner: str, storage: Storage) -> bool:
    """Whether the process that calls itself ``owner`` is still there."""
    if owner == this_process():
        return True
    host, _, rest = owner.partition("/")
    pid, _, rest = rest.partition("/")
    started, _, _ = rest.partition("/")
    # Elsewhere than on POSIX, asking whether a process exists may end it.
    if os.name == "posix" and host == socket.gethostname() and pid.isdigit():
        return _exists(int(pid)) and _started(int(pid)) == started
    seen = storage.last_beat(owner)
    return seen is not None and time.time() - seen < GRACE


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it exists and is somebody else's
    return True


def _started(pid: int) -> str:
    """When a process was started, in the kernel's ticks; empty where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The second field is the program's name in brackets, and it may hold spaces and brackets.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


class Heartbeat:
    """Tells a shared storage every few seconds that this process is alive, from a daemon thread.

    It stops when the storage that it beats for is no longer used by anybody else.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = weakref.ref(storage)
        self._lock = threading.Lock()
        self._pid = 0

    def start(self) -> None:
        """Starts beating, once per process; does nothing for a storage that no other process can see."""
        storage = self._storage()
        if storage is None or not storage.shared or self._pid == os.getpid():
            return
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
        storage.beat(this_process(), time.time())
        threading.Thread(target=_beat, args=(self._storage,), name="dspex-heartbeat", daemon=True).start()


def _beat(reference: weakref.ref[Storage]) -> None:
    while True:
        time.sleep(_BEAT_EVERY)
        storage = reference()
        if storage is None:
            return
        try:
            storage.beat(this_process(), time.time())
        except Exception:
            continue  # a missed beat is what GRACE is for
        finally:
            del storage
