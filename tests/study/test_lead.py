"""Of all that want to drive one search, one does; the others wait until it is gone."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import StorageError, StudyError
from dspex.storage import InMemoryStorage, SQLStorage, Storage
from dspex.study import Study, create_study, load_study
from dspex.study.factory import copy_study


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_threads_take_turns(kind: str, tmp_path: Path) -> None:
    storage: Storage = InMemoryStorage() if kind == "memory" else SQLStorage(f"sqlite:///{tmp_path}/s.db")
    create_study(study_name="s", storage=storage)
    inside: list[int] = []
    most: list[int] = []
    all_there = threading.Barrier(4)

    def work() -> None:
        study = load_study(study_name="s", storage=storage)
        all_there.wait(30)
        with study.lead():
            inside.append(1)
            time.sleep(0.02)  # time for the others to come in too, if they could
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_a_leader_that_raised_leaves() -> None:
    study = create_study()
    with pytest.raises(KeyError), study.lead():
        raise KeyError
    with study.lead():
        pass


class Unreliable(InMemoryStorage):
    """The swap of that number raises ``error``: before it is made, or after."""

    def __init__(self, number: int, error: BaseException, *, made: bool = False) -> None:
        super().__init__()
        self.left, self.error, self.made = number, error, made

    def swap_study_attr(self, *args: Any, **options: Any) -> bool:
        self.left -= 1
        if self.left:
            return super().swap_study_attr(*args, **options)
        if self.made:
            super().swap_study_attr(*args, **options)
        raise self.error


def lead_in_two_threads(study: Study) -> None:
    def work() -> None:
        with study.lead():
            pass

    work()
    other = threading.Thread(target=work, daemon=True)
    other.start()
    other.join(30)
    assert not other.is_alive(), "it waits for a leader that has left"


def test_a_leader_that_could_not_say_that_it_left_is_followed() -> None:
    study = create_study(storage=Unreliable(2, StorageError("the disk is full")))
    with pytest.raises(StorageError, match="the disk is full"), study.lead():
        pass
    lead_in_two_threads(study)


def test_an_error_of_the_search_is_not_hidden_by_one_of_leaving() -> None:
    study = create_study(study_name="s", storage=Unreliable(2, StorageError("the disk is full")))
    with pytest.raises(KeyError, match="the search") as caught, study.lead():
        raise KeyError("the search")
    (note,) = caught.value.__notes__
    assert "leaving the lead of study 's' failed" in note
    assert "StorageError: the disk is full" in note
    lead_in_two_threads(study)


def test_a_leader_that_was_interrupted_on_its_way_in_leaves() -> None:
    study = create_study(storage=Unreliable(1, KeyboardInterrupt(), made=True))
    with pytest.raises(KeyboardInterrupt), study.lead():
        raise AssertionError("it is not in")
    assert study.system_attrs["leader"] is None
    lead_in_two_threads(study)


def test_studies_have_leaders_of_their_own() -> None:
    one, two = create_study(), create_study()
    with one.lead(), two.lead():
        pass


def test_a_thread_does_not_wait_for_itself() -> None:
    study = create_study(study_name="s")
    with study.lead(), pytest.raises(StudyError, match="study 's' is being searched by this very thread"), study.lead():
        pass


def _lead_and_die(url: str) -> None:
    with load_study(study_name="s", storage=url).lead():
        os._exit(9)


def test_a_leader_that_was_killed_is_followed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    study = create_study(study_name="s", storage=url)
    process = multiprocessing.get_context("spawn").Process(target=_lead_and_die, args=(url,))
    process.start()
    process.join()
    assert process.exitcode == 9
    waited: list[str] = []
    with study.lead(on_wait=waited.append):
        assert waited == [], "a process that is gone is not waited for"


def test_who_is_waited_for_is_told() -> None:
    storage = InMemoryStorage()
    study = create_study(study_name="s", storage=storage)
    told, leave = threading.Event(), threading.Event()
    waited: list[str] = []

    def wait(owner: str) -> None:
        waited.append(owner)
        told.set()

    def second() -> None:
        with load_study(study_name="s", storage=storage).lead(on_wait=wait):
            leave.set()

    thread = threading.Thread(target=second)
    with study.lead():
        thread.start()
        assert told.wait(30)
        assert not leave.is_set()
    assert leave.wait(30)
    thread.join()
    assert len(waited) == 1
    assert f"/{os.getpid()}/" in waited[0]


def test_a_copy_has_no_leader() -> None:
    here, there = InMemoryStorage(), InMemoryStorage()
    study = create_study(study_name="s", storage=here)
    study.set_user_attr("note", 1)
    with study.lead():
        copy_study(from_study_name="s", from_storage=here, to_storage=there)
    copy = load_study(study_name="s", storage=there)
    assert copy.user_attrs == {"note": 1}
    assert "leader" not in copy.system_attrs
