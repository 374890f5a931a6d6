"""Some variables held at given values."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.errors import StateError, StudyError
from dspex.samplers import BruteForceSampler, NSGAIISampler, PartialFixedSampler, RandomSampler, Sampler, TPESampler
from dspex.study import create_study
from dspex.testing.samplers import SamplerSuite
from dspex.variables import Choice, Condition, Entry, Int, Prompt, Space


class TestPartialFixedSampler(SamplerSuite):
    def make(self, seed: int) -> Sampler:
        return PartialFixedSampler({"order": ("b", "a", "c"), "scale": 2.0}, TPESampler(seed=seed))


SPACE = Space(
    [
        Entry("kind", Choice("a", "b"), "a"),
        Entry("a.k", Int(1, 3), 1, conditions=[Condition("kind", "a")]),
        Entry("b.k", Int(1, 3), 1, conditions=[Condition("kind", "b")]),
        Entry("p", Prompt(), "Be brief."),
    ]
)


@pytest.mark.parametrize(
    "base", [RandomSampler(seed=0), TPESampler(seed=0, n_startup_trials=3), NSGAIISampler(seed=0, population_size=3)]
)
def test_fixed_values_stay_where_they_are_active(base: Sampler) -> None:
    study = create_study(sampler=PartialFixedSampler({"kind": "a", "b.k": 2, "p": "Think."}, base), space=SPACE)
    study.pool("p").add("Think.")
    for _ in range(10):
        trial = study.ask()
        assert trial.params.keys() == {"kind", "a.k", "p"}
        assert (trial.params["kind"], trial.values["p"]) == ("a", "Think.")
        study.tell(trial, float(trial.params["a.k"]))
    assert len({trial.params["a.k"] for trial in study.trials}) > 1


def test_what_the_base_chose_jointly_does_not_override() -> None:
    study = create_study(sampler=PartialFixedSampler({"x": 0.5}, TPESampler(seed=0, n_startup_trials=2)))
    for _ in range(15):
        trial = study.ask()
        y = trial.suggest_float("y", 0.0, 1.0)  # is modelled together with x, and asked for first
        assert trial.suggest_float("x", 0.0, 1.0) == 0.5
        study.tell(trial, y)


def test_a_search_over_the_rest_ends_when_the_rest_has_been_tried() -> None:
    for space in (SPACE, None):
        study = create_study(sampler=PartialFixedSampler({"kind": "b"}, BruteForceSampler(seed=0)), space=space)

        def objective(trial: Any) -> float:
            if trial.study.space is None:
                return float(trial.suggest_int(f"{trial.suggest_categorical('kind', ['a', 'b'])}.k", 1, 3))
            return 0.0

        study.optimize(objective)
        assert sorted(trial.params["b.k"] for trial in study.trials) == [1, 2, 3]


@pytest.mark.parametrize("declared", [True, False])
def test_a_prompt_may_be_fixed_by_its_text(declared: bool) -> None:
    space = Space([Entry("p", Prompt(), None), Entry("k", Int(1, 3), 1)])
    study = create_study(
        sampler=PartialFixedSampler({"p": "Think."}, BruteForceSampler(seed=0)), space=space if declared else None
    )
    for text in ("Be brief.", "Think."):
        study.pool("p", Prompt()).add(text)

    def objective(trial: Any) -> float:
        if not declared:
            trial.suggest_prompt("p")
            trial.suggest_int("k", 1, 3)
        assert trial.values["p"] == "Think."
        return 0.0

    study.optimize(objective, n_trials=10)
    assert sorted(trial.params["k"] for trial in study.trials) == [1, 2, 3]


def test_values_that_do_not_fit() -> None:
    study = create_study(sampler=PartialFixedSampler({"x": 3.0, "p": "unknown"}, RandomSampler()))
    with pytest.raises(StateError, match=r"x = 3\.0 \(float\) does not fit"):
        study.ask().suggest_float("x", 0.0, 1.0)
    with pytest.raises(StudyError, match=r"p = .unknown. is no candidate of the pool; add it before you ask"):
        study.ask().suggest_prompt("p", ["known"])
    with pytest.raises(StudyError, match=r"fixed_params must be a mapping of paths to values, got \['x'\]"):
        PartialFixedSampler(["x"], RandomSampler())  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="base_sampler must be a Sampler, got 'random'"):
        PartialFixedSampler({}, "random")  # type: ignore[arg-type]
    sampler = PartialFixedSampler({"x": 0.5}, RandomSampler(seed=1))
    assert repr(eval(repr(sampler))) == repr(sampler)
