"""Copies and summaries of studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.storage import InMemoryStorage, SQLStorage, Storage
from dspex.study import Study, copy_study, create_study, get_all_study_summaries, load_study
from dspex.trials import TrialState, create_trial
from dspex.variables import Float, Prompt, Space


@pytest.fixture
def source() -> Study:
    study = create_study(
        study_name="one",
        storage=InMemoryStorage(),
        directions=["maximize", "minimize"],
        space=Space.of(x=Float(0.0, 1.0), text=Prompt()),
    )
    first = study.pool("text").add("Be brief.", source="user")
    study.pool("text").add("Be very brief.", parents=[first.id], metadata={"why": "shorter"})
    for value in (0.25, 0.75):
        trial = study.ask(fixed={"x": value})
        trial.record(Evaluation(example_id="e1", status="ok", scores={"score": value}))
        trial.set_user_attr("seen", [1, 2])
        study.tell(trial, [value, 1.0])
    study.record(None, Evaluation(example_id="e2", status="failed", error="LMTimeoutError: late"))
    study.tell(study.ask(), state=TrialState.FAIL)
    study.ask(fixed={"x": 0.5})  # is running
    study.enqueue_trial({"x": 0.125})
    study.set_user_attr("owner", "me")
    study.set_metric_names(["accuracy", "cost"])
    return study


def everything(study: Study) -> dict[str, Any]:
    return {
        "trials": [
            (trial.number, trial.state, dict(trial.params), trial.values, dict(trial.user_attrs), trial.fingerprint)
            for trial in study.trials
            if trial.state is not TrialState.RUNNING
        ],
        "rows": list(study.ledger),
        "pool": [(item.id, item.value, item.parents, item.source, dict(item.metadata)) for item in study.pool("text")],
        "space": study.space,
        "directions": study.directions,
        "attrs": dict(study.user_attrs),
        "names": study.metric_names,
    }


@pytest.mark.parametrize("kind", ["memory", "sqlite", "the same"])
def test_a_copy_has_everything_and_a_life_of_its_own(source: Study, kind: str, tmp_path: Path) -> None:
    target: Storage = InMemoryStorage() if kind == "memory" else SQLStorage(f"sqlite:///{tmp_path}/copy.db")
    name = None
    if kind == "the same":
        target, name = source.storage, "two"
    copy_study(from_study_name="one", from_storage=source.storage, to_storage=target, to_study_name=name)
    copy = load_study(study_name=name or "one", storage=target)
    before = everything(source)
    found = everything(copy)
    # What runs in the original waits in the copy.
    running = next(trial for trial in source.trials if trial.state is TrialState.RUNNING)
    assert copy.trials[running.number].state is TrialState.WAITING
    assert copy.trials[running.number].params == running.params
    found["trials"] = [entry for entry in found["trials"] if entry[0] != running.number]
    assert found == before

    again = copy.ask()
    assert again.number == running.number
    assert again.params["x"] == 0.5
    copy.tell(again, [0.0, 0.0])
    copy.record(None, Evaluation(example_id="e3", status="ok", scores={"score": 1.0}))
    copy.pool("text").add("Be long.")
    assert everything(source) == before


def test_a_name_that_is_taken_or_unknown(source: Study) -> None:
    with pytest.raises(StudyError, match="there is a study named 'one' already"):
        copy_study(from_study_name="one", from_storage=source.storage, to_storage=source.storage)
    with pytest.raises(StudyError, match="there is no study named 'none'"):
        copy_study(from_study_name="none", from_storage=source.storage, to_storage=InMemoryStorage())


def test_a_copy_that_fails_leaves_nothing_behind(source: Study) -> None:
    class Full(InMemoryStorage):
        def append_evaluations(self, *_: Any) -> None:
            raise OSError("no space left")

    target = Full()
    with pytest.raises(OSError, match="no space left"):
        copy_study(from_study_name="one", from_storage=source.storage, to_storage=target)
    assert target.studies() == []


def test_add_trials_adds_all_or_none() -> None:
    study = create_study()
    good = [
        create_trial(value=value, params={"x": value}, distributions={"x": Float(0.0, 1.0)}) for value in (0.1, 0.2)
    ]
    study.add_trials(good)
    assert [trial.value for trial in study.trials] == [0.1, 0.2]
    bad = create_trial(value=1.0, params={"x": 3.0}, distributions={"x": Float(1.0, 9.0, log=True)})
    with pytest.raises(StudyError, match="within a study a name keeps its domain"):
        study.add_trials([*good, bad])
    with pytest.raises(StudyError, match=r"add_trial takes a FrozenTrial, got 3 \(int\)"):
        study.add_trials([*good, 3])  # type: ignore[list-item]
    assert len(study.trials) == 2


def test_summaries(source: Study) -> None:
    copy_study(from_study_name="one", from_storage=source.storage, to_storage=source.storage, to_study_name="two")
    single = create_study(study_name="three", storage=source.storage, direction="maximize")
    single.optimize(lambda trial: float(trial.number), n_trials=3)
    create_study(study_name="empty", storage=source.storage)
    one, two, three, empty = get_all_study_summaries(source.storage)
    assert (one.study_name, one.n_trials, one.best_trial) == ("one", 5, None)
    assert one.user_attrs == two.user_attrs == {"owner": "me"}
    assert one.datetime_start == source.trials[0].datetime_start
    assert three.best_trial == single.best_trial
    assert three.n_trials == 3
    assert (empty.n_trials, empty.best_trial, empty.datetime_start) == (0, None, None)
