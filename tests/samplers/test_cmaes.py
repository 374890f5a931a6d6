"""Covariance matrix adaptation."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from dspex.errors import StudyError
from dspex.samplers import CmaEsSampler, RandomSampler, Sampler, TPESampler
from dspex.storage import InMemoryStorage
from dspex.study import Study, Trial, create_study
from dspex.testing.samplers import CONDITIONAL, SamplerSuite, params_of, search
from dspex.variables import Choice, Condition, Constraint, Entry, Float, Int, Space

pytest.importorskip("cmaes")


class TestCmaEsSampler(SamplerSuite):
    remembers = False
    several_objectives = False

    def make(self, seed: int) -> Sampler:
        return CmaEsSampler(seed=seed)


class TestSeparableCmaEsSampler(SamplerSuite):
    remembers = False
    several_objectives = False

    def make(self, seed: int) -> Sampler:
        return CmaEsSampler(seed=seed, use_separable_cma=True, popsize=5, independent_sampler=TPESampler(seed=seed))


def _best(sampler: Sampler, objective: Callable[[Trial], float], count: int = 200) -> float:
    study = create_study(sampler=sampler)
    study.optimize(objective, n_trials=count)
    return study.best_value


def _rosenbrock(trial: Trial) -> float:
    x = [trial.suggest_float(f"x{i}", -2.0, 2.0) for i in range(3)]
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in pairwise(x))


def _ellipsoid_of_both(trial: Trial) -> float:
    x = [trial.suggest_float(f"x{i}", -5.0, 5.0) for i in range(3)]
    k = [trial.suggest_int(f"k{i}", -10, 10) for i in range(3)]
    return sum((a - 1) ** 2 for a in x) + sum((b - 4) ** 2 for b in k)


@pytest.mark.parametrize("objective", [_rosenbrock, _ellipsoid_of_both])
def test_it_finds_what_chance_does_not(objective: Callable[[Trial], float]) -> None:
    ours = statistics.median(_best(CmaEsSampler(seed=seed), objective) for seed in range(3))
    chance = statistics.median(_best(RandomSampler(seed=seed), objective) for seed in range(3))
    assert ours < 0.2 * chance


@pytest.mark.parametrize(
    "options",
    [
        {"popsize": 8, "sigma0": 0.1},
        {"lr_adapt": True},
        {"with_margin": True},
        {"with_margin": False},
        {"x0": {"x0": 1.0, "k1": 4}, "n_startup_trials": 0},
    ],
    ids=repr,
)
def test_its_options_work(options: dict[str, Any]) -> None:
    assert _best(CmaEsSampler(seed=0, **options), _ellipsoid_of_both) < 20


def test_it_starts_where_it_is_told_to() -> None:
    study = create_study(sampler=CmaEsSampler(seed=0, n_startup_trials=0, x0={"x": 9.0}, sigma0=1e-4))
    assert study.ask().suggest_float("x", 0.0, 10.0) == pytest.approx(9.0, abs=0.01)
    with pytest.raises(StudyError, match="x0 has y=99, which is not in the variable's domain"):
        create_study(sampler=CmaEsSampler(n_startup_trials=0, x0={"y": 99})).ask().suggest_int("y", 0, 10)


def test_each_branch_has_a_strategy_of_its_own() -> None:
    space = Space(
        [
            Entry("kind", Choice("a", "b"), "a"),
            *(
                Entry(f"{kind}.{name}", Float(0.0, 1.0), 0.5, conditions=[Condition("kind", kind)])
                for kind in "ab"
                for name in "xy"
            ),
        ]
    )
    study = create_study(sampler=CmaEsSampler(seed=2), space=space)
    for _ in range(300):
        trial = study.ask()
        kind = trial.params["kind"]
        aim = 0.2 if kind == "a" else 0.9
        study.tell(trial, sum((trial.params[f"{kind}.{name}"] - aim) ** 2 for name in "xy"))
    for kind in "ab":
        values = [trial.value for trial in study.trials if trial.params["kind"] == kind and trial.value is not None]
        assert min(values[-20:]) < 1e-4


def test_when_it_has_converged_it_looks_elsewhere() -> None:
    study = create_study(sampler=CmaEsSampler(seed=0))
    study.optimize(lambda trial: (trial.suggest_float("x", 0.0, 1.0) - 0.5) ** 2, n_trials=500)
    late = [trial.params["x"] for trial in study.trials[300:]]
    assert study.best_value < 1e-12
    assert max(late) - min(late) > 0.1


def test_trials_that_come_late_or_from_elsewhere_change_nothing_that_resuming_would_not() -> None:
    storage = InMemoryStorage()
    study = create_study(study_name="study", sampler=CmaEsSampler(seed=4), storage=storage)
    waiting: list[Trial] = []
    for index in range(90):
        if index % 7 == 3:
            study.enqueue_trial({"x": index / 100})
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_int("k", 0, 9)
        waiting.append(trial)
        if len(waiting) == 4:
            done = waiting.pop(index % 4)
            study.tell(done, done.params["x"] + done.params["k"])
    again = Study(storage.get_study("study"), storage, sampler=CmaEsSampler(seed=4), pruner=study.pruner)
    for number in range(100, 110):
        chosen = [one.sampler.suggest(one.view, number, "x", Float(0.0, 1.0), params={}) for one in (study, again)]
        assert chosen[0] == chosen[1]
        assert chosen[0]["k"] in range(10)  # both are drawn at once


def test_constraints_do_not_keep_it_from_learning() -> None:
    rule = Constraint("half", {"x": "x", "y": "y"}, "x above y", lambda x, y: x >= y)
    study = create_study(
        sampler=CmaEsSampler(seed=0),
        space=Space([Entry("x", Float(0.0, 1.0), 1.0), Entry("y", Float(0.0, 1.0), 0.0)], [rule]),
    )
    for _ in range(200):
        trial = study.ask()
        study.tell(trial, (trial.params["x"] - 0.7) ** 2 + (trial.params["y"] - 0.1) ** 2)
    assert study.best_value < 1e-4


def test_several_objectives_are_refused() -> None:
    study = create_study(sampler=CmaEsSampler(), directions=["minimize", "minimize"])
    with pytest.raises(
        StudyError, match=r"CmaEsSampler works for one objective and the study has 2; use NSGAIISampler"
    ):
        study.ask().suggest_float("x", 0.0, 1.0)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(StudyError, match=r"pip install 'dspex\[cmaes\]'"):
        CmaEsSampler()


def test_it_shows_itself() -> None:
    sampler = CmaEsSampler(seed=1, popsize=7, x0={"x": 1})
    assert repr(eval(repr(sampler))) == repr(sampler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma0": 0}, r"sigma0 must be a number above 0 and at most 1, got 0 \(int\)"),
        ({"popsize": 1}, r"popsize must be a whole number >= 2, got 1"),
        ({"n_startup_trials": -1}, r"n_startup_trials must be a whole number >= 0"),
        ({"use_separable_cma": True, "with_margin": True}, r"exclude each other"),
        ({"lr_adapt": True, "with_margin": True}, r"lr_adapt goes neither with"),
        ({"independent_sampler": 3}, r"independent_sampler must be a Sampler, got 3"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        CmaEsSampler(**options)


def test_a_mixed_conditional_space_is_searched_the_same_again() -> None:
    studies = [create_study(sampler=CmaEsSampler(seed=9), space=CONDITIONAL) for _ in range(2)]
    for study in studies:
        search(study, 60)
    assert params_of(studies[0]) == params_of(studies[1])
    assert Int(1, 9).contains(studies[0].trials[0].params.get("answer.stepwise.deep.depth", 1))
