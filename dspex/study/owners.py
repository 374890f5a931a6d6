"""Who runs a trial, and whether that process is still there.

A trial that is RUNNING when its process was killed stays RUNNING in the storage. On the machine where it ran
this is seen at once, by the process id and when that process was started; from another machine it is seen
when the process's heartbeat has stopped for `GRACE` seconds.
"""

from __future__ import annotations

import os
import threading
import time
import weakref

from dspex.execution.processes import is_here, this_process
from dspex.storage import Storage

__all__ = ["GRACE", "Heartbeat", "is_alive"]

GRACE = 120.0
"""Seconds without a heartbeat after which a process on another machine counts as dead."""

_BEAT_EVERY = 15.0


def is_alive(owner: str, storage: Storage) -> bool:
    """Whether the process that calls itself ``owner`` is still there."""
    here = is_here(owner)
    if here is not None:
        return here
    seen = storage.last_beat(owner)
    return seen is not None and time.time() - seen < GRACE


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
