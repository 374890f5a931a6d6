"""Taking up where a killed process left off, and several processes at one study."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.execution.processes import this_process
from dspex.samplers import RandomSampler, TPESampler
from dspex.storage import InMemoryStorage
from dspex.study import Study, Trial, create_study, load_study
from dspex.study.owners import GRACE, Heartbeat, is_alive
from dspex.trials import TrialState
from dspex.variables import Float, Int, Prompt, Space

SPACE = Space.of(x=Float(0.0, 1.0), k=Int(1, 9), prompt=Prompt())
EXAMPLES = [f"e{index}" for index in range(6)]
spawn = multiprocessing.get_context("spawn")


def _pay(study: Study, trial: Trial, example: str, log: Path) -> float:
    """Evaluates one example unless that has been paid for; the log counts what was paid."""
    known = study.ledger.lookup(trial.fingerprint, example)
    if known is None:
        with log.open("a") as file:
            file.write(f"{trial.fingerprint} {example}\n")
        known = trial.record(Evaluation(example_id=example, status="ok", scores={"score": trial.params["x"]}))
    assert known.score is not None
    return known.score


def _search(url: str, log: str, kill_at: int, n_trials: int) -> None:
    study = create_study(study_name="one", storage=url, space=SPACE, sampler=TPESampler(seed=0), load_if_exists=True)
    paid = 0
    study.pool("prompt").add("Be brief.")

    def objective(trial: Trial) -> float:
        nonlocal paid
        total = 0.0
        for example in EXAMPLES:
            total += _pay(study, trial, example, Path(log))
            paid += 1
            if paid == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return total / len(EXAMPLES)

    study.optimize(objective, n_trials=n_trials)


def _spawn(target: Any, *arguments: Any) -> int | None:
    process = spawn.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def test_a_killed_search_goes_on_and_pays_nothing_twice(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path}/study.db", tmp_path / "paid"
    assert _spawn(_search, url, str(log), 21, 99) == -signal.SIGKILL
    study = load_study(study_name="one", storage=url)
    left = study.trials[-1]
    assert (left.number, left.state) == (3, TrialState.RUNNING)
    assert len(study.ledger) == 21
    assert [trial.number for trial in study.interrupted()] == [3]
    _search(url, str(log), -1, 12)
    resumed = load_study(study_name="one", storage=url)
    assert resumed.interrupted() == []
    assert [trial.state for trial in resumed.trials] == [TrialState.COMPLETE] * 15
    assert resumed.trials[3].params == left.params
    paid = log.read_text().split("\n")[:-1]
    assert len(paid) == len(set(paid)) == len(resumed.ledger)
    whole = tmp_path / "whole.db"
    _search(f"sqlite:///{whole}", str(tmp_path / "other"), -1, 15)
    uninterrupted = load_study(study_name="one", storage=f"sqlite:///{whole}")
    assert [trial.params for trial in uninterrupted.trials] == [trial.params for trial in resumed.trials]


def _join(url: str, worker: int, count: int) -> None:
    study = load_study(study_name="one", storage=url, sampler=TPESampler(seed=worker), space=SPACE)
    for index in range(count):
        item = study.pool("prompt").add(f"Prompt {worker}.{index}")
        trial = study.ask()
        assert trial.params["prompt"] in study.pool("prompt")
        trial.record(Evaluation(example_id=item.id, status="ok", scores={"score": 1.0}))
        study.tell(trial, trial.params["x"])


def test_four_processes_work_at_one_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = create_study(study_name="one", storage=url, space=SPACE)
    for _ in range(3):
        study.enqueue_trial({"x": 0.5})
    workers = [spawn.Process(target=_join, args=(url, worker, 6)) for worker in range(4)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0] * 4
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(24))
    assert all(trial.state is TrialState.COMPLETE for trial in trials)
    assert [trial.params["x"] for trial in trials[:3]] == [0.5] * 3
    assert len(study.ledger) == 24
    assert len(study.pool("prompt")) == 25
    assert len({trial.owner for trial in trials}) == 4
    assert [study.values(trial)["prompt"] for trial in trials]


class TestPuttingBack:
    def test_the_number_the_values_and_the_rows_stay(self) -> None:
        study = create_study(space=SPACE, sampler=RandomSampler(seed=0))
        trial = study.ask()
        trial.record(Evaluation(example_id="e1", status="ok", scores={"score": 1.0}))
        trial.report(1.0, 1)
        study.requeue(trial)
        assert study.trials[0].state is TrialState.WAITING
        again = study.ask()
        assert (again.number, again.params, again.fingerprint) == (0, trial.params, trial.fingerprint)
        assert again.frozen.intermediate_values == {}
        assert study.ledger.lookup(again.fingerprint, "e1") is not None
        study.tell(again, 1.0)
        assert len(study.trials) == 1

    def test_values_declared_on_the_way_come_again(self) -> None:
        study = create_study()
        trial = study.ask()
        x, prompt = trial.suggest_float("x", 0.0, 1.0), trial.suggest_prompt("p", ["a", "b", "c"])
        study.requeue(trial)
        again = study.ask()
        assert again.suggest_float("x", 0.0, 1.0) == x
        assert again.suggest_prompt("p", ["a", "b", "c"]) == prompt
        assert isinstance(again.suggest_int("more", 1, 5), int)
        study.tell(again, 1.0)

    def test_a_finished_trial_is_not_put_back(self) -> None:
        study = create_study()
        trial = study.ask()
        study.tell(trial, 1.0)
        with pytest.raises(StudyError, match="finished already"):
            study.requeue(trial)

    def test_who_was_given_up_for_dead_cannot_overrule(self) -> None:
        study = create_study()
        trial = study.ask()
        study.requeue(trial)
        again = study.ask()
        study.tell(again, 1.0)
        with pytest.raises(StudyError, match=r"trial 0 has finished already"):
            study.tell(trial, 2.0)


class TestOwners:
    def test_this_process_is_alive(self) -> None:
        assert is_alive(this_process(), InMemoryStorage())
        assert this_process() == this_process()
        assert create_study().interrupted() == []

    def test_a_process_that_has_ended_is_not(self, tmp_path: Path) -> None:
        study = create_study(storage=f"sqlite:///{tmp_path}/s.db")
        pid = os.fork()
        if pid == 0:
            try:
                study.ask()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        mine = study.ask()
        assert [trial.number for trial in study.interrupted()] == [0]
        assert [trial.number for trial in study.requeue_interrupted()] == [0]
        assert study.requeue_interrupted() == []
        assert study.trials[mine.number].state is TrialState.RUNNING

    def test_another_process_that_got_the_same_id_does_not_count(self) -> None:
        host, pid, started, _ = this_process().split("/")
        assert is_alive(f"{host}/{pid}/{started}/x", InMemoryStorage())
        if started:  # where the system tells when a process was started
            assert not is_alive(f"{host}/{pid}/{int(started) - 1}/x", InMemoryStorage())

    def test_on_another_machine_the_heartbeat_decides(self) -> None:
        storage = InMemoryStorage()
        assert not is_alive("elsewhere/1/2/x", storage)
        storage.beat("elsewhere/1/2/x", time.time())
        assert is_alive("elsewhere/1/2/x", storage)
        storage.beat("elsewhere/1/2/x", time.time() - GRACE - 1)
        assert not is_alive("elsewhere/1/2/x", storage)

    def test_a_trial_of_a_dead_machine_is_found(self) -> None:
        study = create_study()
        trial = study.ask()
        elsewhere = attrs.evolve(trial.frozen, owner="elsewhere/1/2/x")
        study.storage.update_trial(study._mirror.record.id, elsewhere, expected=TrialState.RUNNING)
        assert [found.number for found in study.interrupted()] == [0]

    def test_only_a_shared_storage_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dspex.study.owners._BEAT_EVERY", 0.02)
        study = create_study(storage=f"sqlite:///{tmp_path}/s.db")
        assert study.storage.last_beat(this_process()) is None
        study.ask()
        first = study.storage.last_beat(this_process())
        assert first is not None
        until = time.monotonic() + 10
        while study.storage.last_beat(this_process()) == first and time.monotonic() < until:
            time.sleep(0.02)
        assert study.storage.last_beat(this_process()) != first
        memory = InMemoryStorage()
        Heartbeat(memory).start()
        assert memory.last_beat(this_process()) is None
