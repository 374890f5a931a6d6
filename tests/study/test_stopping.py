"""What ends a search, and that it says so."""

from __future__ import annotations

import random
import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from dspex.data import Evaluation, Usage
from dspex.errors import StudyError
from dspex.execution import Budget
from dspex.samplers import RandomSampler
from dspex.study import (
    ExpectedGainCallback,
    MaxTrialsCallback,
    StagnationCallback,
    Study,
    TargetCallback,
    create_study,
)
from dspex.study.stopping import expected_gain
from dspex.trials import TrialState, create_trial
from dspex.variables import Float


def numbered(trial: Any) -> float:
    trial.suggest_float("x", 0.0, 1.0)
    return float(trial.number)


def test_trials_time_budget_and_the_user_each_name_themselves() -> None:
    study = create_study()
    assert study.stopped == ""
    study.optimize(numbered, n_trials=2)
    assert study.stopped == "n_trials=2 were run"
    study.optimize(numbered, timeout=1e-6)
    assert study.stopped == "the timeout of 1e-06 s was over"
    study.optimize(numbered, budget=Budget(seconds=1e-6))
    assert "the budget was used up: " in study.stopped
    study.optimize(numbered, n_trials=9, callbacks=[lambda study, trial: study.stop()])
    assert study.stopped == "stop() was called"
    study.optimize(numbered, n_trials=9, callbacks=[lambda study, trial: study.stop("that will do")])
    assert study.stopped == "that will do"
    with pytest.raises(ZeroDivisionError):
        study.optimize(lambda trial: 1 / 0, n_trials=9)
    assert study.stopped == "ZeroDivisionError: division by zero"
    study.optimize(numbered, n_trials=1)
    assert study.stopped == "n_trials=1 were run"


def test_max_trials_counts_what_was_there_before() -> None:
    study = create_study()
    study.optimize(numbered, n_trials=3)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.optimize(numbered, callbacks=[MaxTrialsCallback(5)])
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == 5
    assert study.stopped == "MaxTrialsCallback: 5 trials are COMPLETE"
    study.optimize(numbered, callbacks=[MaxTrialsCallback(8, states=None)])
    assert len(study.trials) == 8


def test_one_callback_serves_two_studies() -> None:
    enough = MaxTrialsCallback(3)
    for study in (create_study(), create_study()):
        study.optimize(numbered, callbacks=[enough])
        assert len(study.trials) == 3


@pytest.mark.parametrize(("direction", "target", "reached"), [("maximize", 4.0, 4), ("minimize", 0.0, 0)])
def test_target(direction: str, target: float, reached: int) -> None:
    study = create_study(direction=direction)
    study.optimize(numbered, n_trials=20, callbacks=[TargetCallback(target)])
    assert len(study.trials) == reached + 1
    assert study.stopped == f"TargetCallback: trial {reached} reached {target:g}"


def test_a_target_needs_feasible_values_of_all_objectives() -> None:
    study = create_study(directions=["maximize", "minimize"])

    def objective(trial: Any) -> tuple[float, float]:
        trial.set_constraint("late", 1.0 if trial.number < 6 else 0.0)
        return float(trial.number), 10.0 - trial.number

    study.optimize(objective, n_trials=20, callbacks=[TargetCallback([3.0, 5.0])])
    assert len(study.trials) == 7  # 5 would do, but it violates the constraint
    with pytest.raises(StudyError, match=r"target has 1 numbers for 2 objectives"):
        study.optimize(objective, n_trials=1, callbacks=[TargetCallback(3.0)])


def test_stagnation() -> None:
    values = [5.0, 4.0, 4.5, 3.95, 4.2, 4.1, 4.0, 1.0]
    study = create_study()
    study.optimize(lambda trial: values[trial.number], n_trials=8, callbacks=[StagnationCallback(3)])
    assert study.stopped == "StagnationCallback: nothing better in 3 trials"
    assert len(study.trials) == 7
    study = create_study()
    study.optimize(lambda trial: values[trial.number], n_trials=8, callbacks=[StagnationCallback(3, min_delta=0.1)])
    assert len(study.trials) == 5  # 3.95 is not 0.1 better than 4.0


def test_stagnation_of_a_pareto_set() -> None:
    values = [(1.0, 5.0), (5.0, 1.0), (3.0, 3.0), (3.0, 3.0), (4.0, 4.0), (0.0, 0.0)]
    study = create_study(directions=["minimize", "minimize"])
    study.optimize(lambda trial: values[trial.number], n_trials=6, callbacks=[StagnationCallback(2)])
    assert len(study.trials) == 5


def uniform(trial: Any) -> float:
    return -float(trial.suggest_float("x", 0.0, 1.0))


def test_expected_gain_weighs_gain_against_cost() -> None:
    def trials(**terms: Any) -> int:
        study = create_study(sampler=RandomSampler(seed=3))
        study.optimize(uniform, n_trials=300, callbacks=[ExpectedGainCallback(**terms)])
        return len(study.trials)

    lengths = [trials(worth=worth, cost=1.0) for worth in (1.0, 300.0, 3000.0, 1e9)]
    assert lengths[0] == 20  # as soon as it may decide
    assert lengths == sorted(lengths)
    assert lengths[1] < lengths[2]
    assert lengths[3] == 300


def test_the_expected_gain_is_that_of_an_exponential_tail() -> None:
    # The next of n exponential values exceeds their maximum with probability 1/(n+1), by 1 on average.
    rng = random.Random(0)
    estimates = []
    for _ in range(2000):
        losses = sorted(-rng.expovariate(1.0) for _ in range(50))
        estimates.append(expected_gain(losses, 10))
    assert statistics.mean(estimates) == pytest.approx(1 / 51, rel=0.03)


def add(study: Study, value: float, usd: float | None, seconds: float) -> None:
    start = datetime.now(UTC)
    trial = create_trial(value=value, params={"x": value}, distributions={"x": Float(0.0, 1.0)})
    study.add_trial(attrs.evolve(trial, datetime_start=start, datetime_complete=start + timedelta(seconds=seconds)))
    usage = Usage(calls=1, cost=usd)
    study.record(len(study.trials) - 1, Evaluation(example_id="e", status="ok", scores={"score": value}, usage=usage))


@pytest.mark.parametrize(
    ("cost", "usd", "seconds", "stops"),
    [("usd", 5.0, 0.0, True), ("usd", 1e-6, 0.0, False), ("usd", None, 0.0, False), ("seconds", 0.0, 5.0, True)],
)
def test_costs_come_from_the_ledger_or_the_clock(cost: Any, usd: float | None, seconds: float, stops: bool) -> None:
    study = create_study(direction="maximize")
    rng = random.Random(1)
    for _ in range(25):
        add(study, rng.random(), usd, seconds)
    enough = ExpectedGainCallback(worth=1.0, cost=cost)
    enough(study, study.trials[-1])
    assert study.stopped.startswith("ExpectedGainCallback: the next trial is expected to gain") == stops


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxTrialsCallback(0), r"n_trials must be a whole number >= 1, got 0 \(int\)"),
        (lambda: MaxTrialsCallback(3, states=[TrialState.RUNNING]), r"states must be some of COMPLETE, PRUNED, FAIL"),
        (lambda: TargetCallback("high"), r"target must be a number, or one for each objective, got 'high' \(str\)"),
        (lambda: TargetCallback(float("nan")), r"got nan \(float\)"),
        (lambda: StagnationCallback(2, min_delta=-1.0), r"min_delta must be a number >= 0, got -1\.0"),
        (lambda: ExpectedGainCallback(worth=0.0, cost=1.0), r"worth must be a number > 0, got 0\.0"),
        (lambda: ExpectedGainCallback(worth=1.0, cost="eur"), r'cost must be a number > 0, or "usd" or "seconds", got'),
    ],
)
def test_arguments_that_cannot_be_meant(make: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        make()
