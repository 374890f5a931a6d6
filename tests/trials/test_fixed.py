"""A trial whose values are given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from dspex.data import Evaluation
from dspex.errors import StateError, StudyError
from dspex.samplers import RandomSampler
from dspex.study import create_study
from dspex.trials import FixedTrial
from dspex.variables import Float, Int, Space


def objective(trial: Any) -> float:
    kind = trial.suggest_categorical("kind", ["linear", "steps"])
    total = trial.suggest_float("x", -1.0, 1.0) * (1.0 if kind == "linear" else trial.suggest_int("k", 1, 4))
    tools = trial.suggest_subset("tools", ["search", "code"])
    order = trial.suggest_order("order", ["a", "b", "c"])
    text = trial.suggest_prompt("text", ["Be brief.", "Think."])
    module = trial.suggest_module("module", short=len, double=lambda parts: 2 * len(parts))
    trial.report(total, step=1)
    if trial.should_prune():
        raise AssertionError("nothing is there to be worse than")
    trial.set_user_attr("note", text)
    trial.set_constraint("size", total - 10.0)
    return float(total + module(tools) + order.index("a") + len(text) + trial.suggest_bool("plus"))


@given(seed=st.integers(0, 1000))
def test_an_objective_gives_what_it_gave_in_the_study(seed: int) -> None:
    study = create_study(sampler=RandomSampler(seed=seed))
    study.optimize(objective, n_trials=3)
    for trial in study.trials:
        fixed = FixedTrial(study.values(trial))
        assert objective(fixed) == trial.value
        assert fixed.params == study.values(trial)
        assert fixed.distributions == dict(trial.distributions)
        assert fixed.user_attrs == dict(trial.user_attrs)
        assert fixed.constraints == dict(trial.constraints)
        assert fixed.intermediate_values == dict(trial.intermediate_values)


def test_what_it_records_stays_with_it() -> None:
    trial = FixedTrial({}, number=7)
    row = Evaluation(example_id="e", status="ok", scores={"score": 1.0})
    assert trial.record(row) is row
    assert trial.evaluations == [row]
    assert trial.number == 7


def test_a_value_that_is_missing_or_outside_is_named() -> None:
    trial = FixedTrial({"x": 9.0})
    with pytest.raises(StateError, match=r"x.*9\.0"):
        trial.suggest_float("x", 0.0, 1.0)
    with pytest.raises(
        StudyError, match=r"no value for 'y', only for 'x'; give it one that lies in Float\(0\.0, 2\.0\)"
    ):
        trial.suggest_float("y", 0.0, 2.0)
    assert trial.suggest_float("x", 0.0, 10.0) == 9.0
    with pytest.raises(StudyError, match="one domain in a trial"):
        trial.suggest_float("x", 0.0, 11.0)
    with pytest.raises(StudyError, match=r"params must be a dict of names and values, got \[1\] \(list\)"):
        FixedTrial([1])  # type: ignore[arg-type]


def test_an_objective_over_a_declared_space_finds_all_values() -> None:
    space = Space.of(k=Int(1, 5), x=Float(0.0, 1.0))
    trial = FixedTrial({"k": 3, "x": 0.5}, space=space)
    assert trial.values == {"k": 3, "x": 0.5}
    assert dict(trial.state) == {"k": 3, "x": 0.5}
    with pytest.raises(StudyError, match=r"no declared space.*FixedTrial\(\{\.\.\.\}, space=program\.space\(\)\)"):
        _ = FixedTrial({"k": 3}).state
    with pytest.raises(StateError):
        FixedTrial({"k": 9, "x": 0.5}, space=space)


def test_what_is_reported_is_checked_as_in_a_study() -> None:
    trial = FixedTrial({})
    trial.report([1.0, 2], step=0)
    assert trial.intermediate_values == {0: (1.0, 2.0)}
    for value, step in (("high", 1), (1.0, -1), (1.0, 1.5)):
        with pytest.raises(StudyError, match="must be a"):
            trial.report(value, step=step)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="the constraint 'c' must be a number"):
        trial.set_constraint("c", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("trial", [FixedTrial({}), create_study().ask()])
@pytest.mark.parametrize(("name", "shown"), [(3, r"3 \(int\)"), ("", r"'' \(str\)"), ([], r"\[\] \(list\)")])
def test_what_is_no_name_is_refused(trial: Any, name: Any, shown: str) -> None:
    with pytest.raises(StudyError, match=f"the name of a variable must be a text, got {shown}; write for example"):
        trial.suggest_float(name, 0, 1)
