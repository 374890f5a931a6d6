"""Ctrl-C at any line of a search: what is left can be searched on, and nothing is lost or left running."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.data import Evaluation
from dspex.errors import StorageError, TrialPruned
from dspex.pruners import HyperbandPruner, MedianPruner, Pruner
from dspex.samplers import AutoSampler, CmaEsSampler, NSGAIISampler, QMCSampler, RandomSampler, Sampler, TPESampler
from dspex.study import Study, Trial, create_study
from dspex.trials import TrialState
from dspex.variables import Float, Int, Prompt, Space
from tests.interrupts import interrupted

ROOMS = ("study", "storage", "trials", "variables")
_numbers = itertools.count()
SPACE = Space.of(x=Float(0.0, 1.0), k=Int(1, 9), prompt=Prompt())


def _study(url: str | None, declared: bool) -> Study:
    study = create_study(storage=url, space=SPACE if declared else None, sampler=RandomSampler(seed=0))
    if declared:
        study.pool("prompt").add("Be brief.")
    study.enqueue_trial({"x": 0.5})
    return study


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_interrupt_at_any_line_leaves_a_study_that_goes_on(kind: str, declared: bool, tmp_path: Path) -> None:
    # With a file, which takes longer, at each 59th line.
    lines = itertools.count(1, 1 if kind == "memory" else 59)
    for line in lines:
        study = _study(None if kind == "memory" else f"sqlite:///{tmp_path / str(line)}.db", declared)
        recorded: list[Evaluation] = []

        def objective(trial: Trial, study: Study = study, recorded: list[Evaluation] = recorded) -> float:
            x: float = trial.params["x"] if declared else trial.suggest_float("x", 0.0, 1.0)
            trial.set_user_attr("seen", True)
            trial.report(x, 1)
            recorded.append(trial.record(Evaluation(example_id=f"e{next(_numbers)}", status="ok", scores={"score": x})))
            study.set_user_attr("last", trial.number)
            return x

        on = interrupted(line, lambda: study.optimize(objective, n_trials=2), ROOMS)  # noqa: B023 - called at once
        _check(study, recorded)
        study.optimize(objective, n_trials=2)
        _check(study, recorded)
        assert study.get_trials(states=(TrialState.COMPLETE,))[-1].params["x"] == recorded[-1].scores["score"]
        if not on:
            break
    assert line > 500


def _check(study: Study, recorded: list[Evaluation]) -> None:
    assert not study.get_trials(states=(TrialState.RUNNING,))
    stored, _ = study.storage.read_trials(study._mirror.record.id)
    assert sorted(stored, key=lambda trial: trial.number) == list(study.trials)
    rows, _ = study.storage.read_evaluations(study._mirror.record.id)
    assert list(study.ledger) == rows
    assert study.ledger.usage() == sum((row.usage for row in rows), start=dspex.Usage())
    assert {row.example_id for row in recorded} <= {row.example_id for row in rows}
    for row in rows:
        assert study.ledger.lookup(row.fingerprint, row.example_id) == row


SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "tpe": lambda: TPESampler(seed=1, n_startup_trials=4),
    "nsga-ii": lambda: NSGAIISampler(seed=1, population_size=4),
    "cma-es": lambda: CmaEsSampler(seed=1, n_startup_trials=3),
    "qmc": lambda: QMCSampler(seed=1),
    "auto": lambda: AutoSampler(seed=1),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("pruner", [MedianPruner(n_startup_trials=2), HyperbandPruner(max_resource=3)], ids=repr)
def test_an_interrupted_search_goes_on_as_if_nothing_had_been(sampler: Callable[[], Sampler], pruner: Pruner) -> None:
    space = Space.of(x=Float(0.0, 1.0), y=Float(0.1, 1.0, log=True), k=Int(1, 9))
    trials = 12

    def objective(trial: Trial) -> float:
        for step in range(1, 4):
            trial.report(trial.params["x"] + step / 10, step)
            if trial.should_prune():
                raise TrialPruned
        value: float = trial.params["x"] ** 2 + trial.params["y"] + trial.params["k"]
        return value

    def outcome(study: Study) -> Any:
        study.optimize(objective, n_trials=trials - sum(trial.state.is_finished for trial in study.trials))
        return [(trial.state, trial.params, trial.values) for trial in study.trials]

    expected = outcome(create_study(space=space, sampler=sampler(), pruner=pruner))
    line, interrupts = 50, 0
    while True:
        study = create_study(space=space, sampler=sampler(), pruner=pruner)
        if not interrupted(line, lambda: outcome(study), ("samplers", "pruners", "study", "trials")):  # noqa: B023
            break
        assert outcome(study) == expected
        interrupts += 1
        line += line // 20 + 50
    assert interrupts > 20


def test_a_trial_that_the_disk_refuses_to_finish_is_put_back_later(monkeypatch: pytest.MonkeyPatch) -> None:
    study = create_study(sampler=TPESampler(seed=0))
    usual = study.storage.update_trial

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise StorageError("the disk is full")

    def objective(trial: Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        monkeypatch.setattr(study.storage, "update_trial", refuse)
        return x

    with pytest.raises(StorageError, match="the disk is full"):
        study.optimize(objective, n_trials=1)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    monkeypatch.setattr(study.storage, "update_trial", usual)
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=1)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]


def test_so_is_one_whose_values_cannot_be_chosen_then(monkeypatch: pytest.MonkeyPatch) -> None:
    study = create_study(space=Space.of(x=Float(0.0, 1.0)), sampler=TPESampler(seed=0))
    usual = study.storage.update_trial

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(study.storage, "update_trial", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        study.ask()
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    monkeypatch.setattr(study.storage, "update_trial", usual)
    study.optimize(lambda trial: trial.params["x"], n_trials=1)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
