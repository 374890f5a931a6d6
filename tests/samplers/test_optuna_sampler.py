"""Optuna's samplers in a study of ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from dspex.errors import StudyError
from dspex.samplers import OptunaSampler, Sampler
from dspex.study import Trial, create_study
from dspex.testing.samplers import CONDITIONAL, SamplerSuite, assert_fits, search
from dspex.variables import Choice, Entry, Float, Prompt, Space

optuna: Any = pytest.importorskip("optuna")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("_quiet")]


@pytest.fixture
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class TestOptunaTPESampler(SamplerSuite):
    remembers = False
    leaves_failures = False

    def make(self, seed: int) -> Sampler:
        return OptunaSampler(optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True), seed=seed)


class TestOptunaRandomSampler(SamplerSuite):
    remembers = False

    def make(self, seed: int) -> Sampler:
        return OptunaSampler(optuna.samplers.RandomSampler(), seed=seed)


SAMPLERS: dict[str, Callable[[], Any]] = {
    "nsgaii": lambda: optuna.samplers.NSGAIISampler(population_size=6),
    "nsgaiii": lambda: optuna.samplers.NSGAIIISampler(population_size=6),
    "cmaes": lambda: optuna.samplers.CmaEsSampler(warn_independent_sampling=False),
    "cmaes with margin": lambda: optuna.samplers.CmaEsSampler(with_margin=True, warn_independent_sampling=False),
    "partly fixed": lambda: optuna.samplers.PartialFixedSampler({"k": 2}, optuna.samplers.TPESampler()),
    "qmc": lambda: optuna.samplers.QMCSampler(scramble=True, seed=0, warn_independent_sampling=False),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_works_and_repeats_itself(name: str) -> None:
    if name.startswith("cmaes"):
        pytest.importorskip("cmaes")
    if name == "qmc":
        pytest.importorskip("scipy")

    def objective(trial: Trial) -> float:
        x, k = trial.suggest_float("x", -3.0, 3.0), trial.suggest_int("k", 1, 9)
        return (x - 1) ** 2 + k + len(trial.suggest_subset("tools", ["a", "b", "c"]))

    studies = [create_study(sampler=OptunaSampler(SAMPLERS[name](), seed=3)) for _ in range(2)]
    for study in studies:
        study.optimize(objective, n_trials=40)
    assert [trial.params for trial in studies[0].trials] == [trial.params for trial in studies[1].trials]
    assert len({repr(trial.params) for trial in studies[0].trials}) > 25
    declared = create_study(sampler=OptunaSampler(SAMPLERS[name](), seed=3), space=CONDITIONAL)
    for _ in range(30):
        trial = declared.ask()
        assert_fits(trial, CONDITIONAL)
        declared.tell(trial, trial.params["rate"])


def test_it_learns_as_it_does_in_optuna() -> None:
    def ours(trial: Trial) -> float:
        return (trial.suggest_float("x", -10.0, 10.0) - 3) ** 2 + trial.suggest_float("y", -10.0, 10.0) ** 2

    best = []
    for seed in range(3):
        study = create_study(sampler=OptunaSampler(optuna.samplers.TPESampler(), seed=seed))
        study.optimize(ours, n_trials=80)
        best.append(study.best_value)
    assert sorted(best)[1] < 1.0  # chance: 3


@pytest.mark.parametrize("make", [lambda: optuna.samplers.BruteForceSampler()])
def test_a_sampler_that_has_tried_everything_ends_the_search(make: Callable[[], Any]) -> None:
    study = create_study(sampler=OptunaSampler(make(), seed=0))
    study.optimize(lambda trial: trial.suggest_int("k", 1, 4) + trial.suggest_bool("flag"), n_trials=50)
    assert len(study.trials) == len({repr(trial.params) for trial in study.trials}) == 8


def test_constraints_and_directions_are_known_to_it() -> None:
    study = create_study(
        sampler=OptunaSampler(optuna.samplers.NSGAIISampler(population_size=8), seed=1), direction="maximize"
    )

    def objective(trial: Trial) -> float:
        values = [trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(4)]
        trial.set_constraint("none above a half", max(values) - 0.5)
        return sum(values)

    study.optimize(objective, n_trials=160)
    assert sum(trial.feasible for trial in study.trials[100:]) > 20  # chance: 4
    assert study.best_value > 1.5


def test_what_it_noted_survives_a_pool_that_grows() -> None:
    """NSGA-II notes the generation of each trial; it goes on from there with the new candidates."""
    space = Space([Entry("p", Prompt(), None), Entry("x", Float(0.0, 1.0), 0.0), Entry("c", Choice([1], {}), [1])])
    study = create_study(sampler=OptunaSampler(optuna.samplers.NSGAIISampler(population_size=5), seed=1), space=space)
    for text in ("one", "two", "three"):
        study.pool("p").add(text)
        search(study, 20)
    assert len({trial.params["p"] for trial in study.trials}) == 3
    mirror = study.sampler._mirrors.of(study.view).current(study.view)  # type: ignore[attr-defined]
    attributes = [trial.system_attrs for trial in mirror.study.trials]
    assert any("NSGAIISampler:generation" in one for one in attributes[:20])
    assert len(mirror.study.trials) == 60


def test_what_is_no_sampler_of_optunas() -> None:
    with pytest.raises(StudyError, match=r"sampler must be one of Optuna's, got 'tpe' \(str\)"):
        OptunaSampler("tpe")


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(StudyError, match=r"pip install 'dspex\[optuna\]'"):
        OptunaSampler(None)
