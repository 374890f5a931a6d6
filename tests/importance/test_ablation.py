"""Ablation: the greedy way, measured from the ledger, by a function, or predicted."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.importance import ablate
from dspex.samplers import RandomSampler
from dspex.study import Study, create_study
from dspex.variables import Choice, Condition, Entry, Float, Int, Prompt, Space, constraint

SPACE = Space(
    [
        Entry("tone", Choice("plain", "warm"), "plain"),
        Entry("answer", Choice("direct", "stepwise"), "direct"),
        Entry("answer.stepwise.k", Int(1, 5), 1, conditions=[Condition("answer", "stepwise")]),
        Entry("instructions", Prompt(), "Be brief."),
    ]
)


def _worth(values: Any) -> float:
    steps = 0.1 * values["answer.stepwise.k"] if values["answer"] == "stepwise" else 0.0
    return (values["tone"] == "warm") * 0.2 + steps + (values["instructions"] == "Think.") * 0.3


def _run(study: Study, scores: dict[str, float], **values: Any) -> None:
    trial = study.ask(fixed={path.replace("__", "."): value for path, value in values.items()})
    for example, score in scores.items():
        trial.record(Evaluation(example_id=example, status="ok", scores={"score": score}))
    study.tell(trial, sum(scores.values()) / len(scores))


def test_a_function_measures_each_configuration() -> None:
    study = create_study(space=SPACE, direction="maximize")
    end = {"tone": "warm", "answer": "stepwise", "answer.stepwise.k": 5, "instructions": "Think."}
    way = ablate(study, end=end, evaluate=_worth)
    # The branch first gains little, and its child can only be changed after it.
    assert way.gains == pytest.approx(
        {"instructions": 0.3, "tone": 0.2, "answer": 0.1, "answer.stepwise.k": 0.4}, abs=1e-9
    )
    assert list(way.gains) == ["instructions", "tone", "answer", "answer.stepwise.k"]
    assert way.total.gain == pytest.approx(1.0)
    assert all(step.measured for step in way.steps)
    assert way.steps[0].changed == {"instructions": ("Be brief.", "Think.")}
    assert dict(way.end) == end


def test_inactive_differences_do_not_count() -> None:
    study = create_study(space=SPACE, direction="maximize")
    way = ablate(study, end={"tone": "warm", "answer.stepwise.k": 4}, evaluate=_worth)
    assert list(way.gains) == ["tone"]


def test_the_ledger_pairs_over_shared_examples() -> None:
    study = create_study(space=Space.of(tone=Choice("plain", "warm"), k=Int(1, 3)), direction="maximize")
    _run(study, {"e1": 0.0, "e2": 1.0, "e3": 0.0}, tone="plain", k=1)
    _run(study, {"e1": 1.0, "e2": 1.0, "e4": 1.0}, tone="warm", k=1)  # e3 was never run, e4 only here
    _run(study, {"e1": 1.0, "e2": 1.0, "e3": 1.0}, tone="warm", k=3)
    way = ablate(study, end=study.trials[2])
    first, second = way.steps
    assert list(first.changed) == ["tone"]
    assert (first.gain, first.examples, first.measured) == (0.5, 2, True)
    assert first.error == pytest.approx(0.5)
    assert (list(second.changed), second.gain, second.examples) == (["k"], 0.0, 2)
    assert (way.total.gain, way.total.examples) == (pytest.approx(2 / 3), 3)


def test_what_was_never_run_is_predicted() -> None:
    space = Space.of(x=Float(0.0, 1.0), y=Float(0.0, 1.0), z=Float(0.0, 1.0))
    study = create_study(space=space, sampler=RandomSampler(seed=0))
    study.optimize(lambda trial: -3 * trial.values["x"] - trial.values["y"], n_trials=200)
    way = ablate(study, end={"x": 0.9, "y": 0.9, "z": 0.9})
    assert list(way.gains)[:2] == ["x", "y"]
    assert way.gains == pytest.approx({"x": 2.7, "y": 0.9, "z": 0.0}, abs=0.35)
    assert not any(step.measured for step in way.steps)
    assert math.isnan(way.steps[0].error)
    assert sum(way.gains.values()) == pytest.approx(way.total.gain)


def test_a_minimum_is_gained_downwards() -> None:
    study = create_study(space=Space.of(x=Int(0, 3), y=Int(0, 3)))
    way = ablate(study, end={"x": 3, "y": 1}, evaluate=lambda state: -float(state["x"]) + state["y"])
    assert way.gains == {"x": 3.0, "y": -1.0}


def test_changes_that_only_go_together() -> None:
    space = Space.of(constraint(lambda x, y: x == y, reason="x and y are equal"), x=Int(0, 3), y=Int(0, 3), z=Int(0, 3))
    way = ablate(
        create_study(space=space, direction="maximize"),
        end={"x": 2, "y": 2, "z": 1},
        evaluate=lambda state: state["x"] + state["z"],
    )
    assert way.gains == {"z": 1.0, "x + y": 2.0}


def test_without_a_space_it_goes_from_trial_to_trial() -> None:
    study = create_study(direction="maximize", sampler=RandomSampler(seed=0))

    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", 0, 1)
        return x + (trial.suggest_float("w", 0, 1) if trial.suggest_categorical("c", ["a", "b"]) == "a" else 0.0)

    study.optimize(objective, n_trials=60)
    start = min((trial for trial in study.trials if trial.params["c"] == "b"), key=lambda trial: trial.value or 0.0)
    way = ablate(study, start=start)
    assert set(way.gains) == {"x", "c"}  # w comes with c
    assert way.total.measured
    assert way.total.gain == pytest.approx(study.best_value - (start.value or 0.0))
    with pytest.raises(
        StudyError, match=r"declares no space, so it has no defaults to begin with; write ablate\(study"
    ):
        ablate(study)
    with pytest.raises(StudyError, match=r"no trial has a variable 'q'; there are: c, w, x"):
        ablate(study, start=start, end={"q": 1})


def test_the_ledger_of_a_plain_function_is_found_too() -> None:
    study = create_study(direction="maximize")
    for x, scores in ((0, (0.0, 0.0)), (3, (1.0, 0.5))):
        trial = study.ask(fixed={"x": x})
        trial.suggest_int("x", 0, 3)
        for example, score in enumerate(scores):
            trial.record(Evaluation(example_id=f"e{example}", status="ok", scores={"score": score}))
        study.tell(trial, sum(scores) / 2)
    (step,) = ablate(study, start=study.trials[0]).steps
    assert (step.gain, step.examples, step.measured) == (0.75, 2, True)


def test_a_failed_row_and_another_objective_do_not_count() -> None:
    study = create_study(space=Space.of(k=Int(1, 3)), direction="maximize")
    _run(study, {"e1": 0.0}, k=1)
    trial = study.ask(fixed={"k": 3})
    trial.record(Evaluation(example_id="e1", status="failed", error="timeout"))
    trial.record(Evaluation(example_id="e2", status="ok", scores={"cost": 9.0}))
    study.tell(trial, 0.5)
    (step,) = ablate(study).steps
    assert (step.gain, step.examples, step.measured) == (0.5, 0, True)
