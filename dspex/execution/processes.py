"""Which process this is, and whether another one of this machine is still there."""

from __future__ import annotations

import os
import socket
import uuid

__all__ = ["is_here", "this_process"]

_here: tuple[int, str] | None = None


def this_process() -> str:
    """A name for this process that no other one has: ``host/pid/start/random``."""
    global _here
    pid = os.getpid()
    if _here is None or _here[0] != pid:  # a forked child is another process
        _here = (pid, f"{socket.gethostname()}/{pid}/{_started(pid)}/{uuid.uuid4().hex[:8]}")
    return _here[1]


def is_here(owner: str) -> bool | None:
    """Whether the process that calls itself ``owner`` is still there; ``None`` when this machine cannot tell.

    >>> is_here(this_process()), is_here("elsewhere/1/2/3")
    (True, None)
    """
    if owner == this_process():
        return True
    host, _, rest = owner.partition("/")
    pid, _, rest = rest.partition("/")
    started, _, _ = rest.partition("/")
    # Elsewhere than on POSIX, asking whether a process exists may end it.
    if os.name == "posix" and host == socket.gethostname() and pid.isdigit():
        return _exists(int(pid)) and _started(int(pid)) == started
    return None


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
