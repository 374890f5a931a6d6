"""One process at a time drives a search; others that want to wait for it, and take over when it is no longer there."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dspex.errors import StudyError
from dspex.execution.processes import this_process
from dspex.storage import Storage
from dspex.study.owners import is_alive

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["LEADER", "lead"]

LEADER = "leader"
_LONGEST_PAUSE = 1.0

_turns: set[str] = set()
"""The turns that threads of this process wait for or have. A leader of this process with another one has left, and
only failed to say so in the storage."""


@contextmanager
def lead(study: Study, *, on_wait: Callable[[str], object] | None = None) -> Iterator[None]:
    """See `Study.lead`."""
    # Threads of one process exclude each other too, so a leader is more than its process.
    me: dict[str, Any] = {"owner": this_process(), "thread": threading.get_ident(), "turn": uuid.uuid4().hex}
    study._heartbeat.start()
    try:
        try:
            _turns.add(me["turn"])
            _wait_for_turn(study, me, on_wait)
            yield
        finally:
            _turns.discard(me["turn"])
    except BaseException as error:
        try:
            _leave(study, me)
        except Exception as failure:  # the first error is the one to see
            error.add_note(
                f"Also, leaving the lead of study {study.study_name!r} failed, for which other processes wait until "
                f"this one leads again or ends: {type(failure).__name__}: {failure}"
            )
        raise
    _leave(study, me)


def _wait_for_turn(study: Study, me: dict[str, Any], on_wait: Callable[[str], object] | None) -> None:
    storage = study.storage
    pause = 0.02
    while True:
        leader = study.system_attrs.get(LEADER)
        if leader is None or not _is_leading(leader, storage):
            if storage.swap_study_attr(study._mirror.record.id, "system", LEADER, me, expected=leader):
                return
            continue  # another one who waited was faster
        if (leader["owner"], leader["thread"]) == (me["owner"], me["thread"]):
            raise StudyError(
                f"study {study.study_name!r} is being searched by this very thread, which would wait for itself; give "
                "the inner search a study of its own"
            )
        if on_wait is not None:
            on_wait(leader["owner"])
            on_wait = None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_leading(leader: dict[str, Any], storage: Storage) -> bool:
    if leader["owner"] == this_process():
        return leader["turn"] in _turns
    return is_alive(leader["owner"], storage)


def _leave(study: Study, me: dict[str, Any]) -> None:
    study.storage.swap_study_attr(study._mirror.record.id, "system", LEADER, None, expected=me)
