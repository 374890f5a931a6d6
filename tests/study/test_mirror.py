"""What a process sees of a study while another one writes to it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dspex.data import Evaluation
from dspex.errors import StorageError
from dspex.samplers import BruteForceSampler
from dspex.storage import InMemoryStorage
from dspex.study import Study, create_study, load_study
from dspex.variables import Int, Space

READS = ["read_pool", "read_trials", "read_evaluations"]


def search(study: Study, text: str) -> None:
    """One trial with a candidate of its own, and a row."""
    trial = study.ask()
    trial.suggest_prompt("p", [text])
    study.storage.append_evaluations(
        study._mirror.record.id, [Evaluation(trial=trial.number, example_id="e", status="ok", fingerprint=text)]
    )
    study.tell(trial, 1.0)


def two_views() -> tuple[Study, Study]:
    storage = InMemoryStorage()
    return create_study(study_name="s", storage=storage), load_study(study_name="s", storage=storage)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_written_between_two_reads_is_seen_whole(read: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two_views()
    search(there, "one")
    original = getattr(here.storage, read)

    def meanwhile(*args: Any) -> Any:
        monkeypatch.undo()
        if when == "before":
            search(there, "two")
            return original(*args)
        found = original(*args)
        search(there, "two")
        return found

    monkeypatch.setattr(here.storage, read, meanwhile)
    here._mirror.sync()
    trials = {trial.number: trial for trial in here._mirror.log}
    assert {here.values(trial)["p"] for trial in trials.values()} <= {"one", "two"}
    assert {row.trial for row in here._mirror.ledger} <= trials.keys()


@pytest.mark.parametrize("read", READS)
def test_a_read_that_failed_loses_nothing(read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two_views()
    search(there, "one")

    def fail(*args: Any) -> Any:
        raise StorageError("the disk is away")

    with monkeypatch.context() as broken:
        broken.setattr(here.storage, read, fail)
        with pytest.raises(StorageError, match="the disk is away"):
            here._mirror.sync()
    (trial,) = here.trials
    assert here.values(trial) == {"p": "one"}
    assert [row.example_id for row in here.ledger] == ["e"]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "define-by-run"])
def test_trials_that_begin_together_know_of_each_other(declared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    study = create_study(sampler=BruteForceSampler(seed=0), space=Space.of(k=Int(1, 4)) if declared else None)
    append, together = study.storage.append_trials, threading.Barrier(4)

    def begin(*args: Any) -> Any:
        together.wait(timeout=60)  # all have read that nobody runs
        begun = append(*args)
        together.wait(timeout=60)
        return begun

    monkeypatch.setattr(study.storage, "append_trials", begin)
    with ThreadPoolExecutor(4) as threads:
        trials = list(threads.map(lambda _: study.ask(), range(4)))
        chosen = list(threads.map(lambda trial: trial.suggest_int("k", 1, 4), trials))
    assert sorted(chosen) == [1, 2, 3, 4]
