"""One process at a time drives a search; others that want to wait for it, and take over when it is no longer there."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspex.errors import StudyError
from dspex.study.owners import is_alive, this_process

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["LEADER", "lead"]

LEADER = "dspex:leader"
_LONGEST_PAUSE = 1.0


@contextmanager
def lead(study: Study, *, on_wait: Callable[[str], object] | None = None) -> Iterator[None]:
    """See `Study.lead`."""
    storage, study_id = study.storage, study._mirror.record.id
    # Threads of one process exclude each other too, so a leader is more than its process.
    me = {"owner": this_process(), "thread": threading.get_ident(), "turn": uuid.uuid4().hex}
    study._heartbeat.start()
    pause = 0.02
    while True:
        leader = study.system_attrs.get(LEADER)
        if leader is None or not is_alive(leader["owner"], storage):
            if storage.swap_study_attr(study_id, "system", LEADER, me, expected=leader):
                break
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
    try:
        yield
    finally:
        storage.swap_study_attr(study_id, "system", LEADER, None, expected=me)
