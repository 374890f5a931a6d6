"""The tree-structured Parzen estimator."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest

from dspex.errors import StudyError
from dspex.samplers import GPSampler, NSGAIISampler, RandomSampler, Sampler, TPESampler
from dspex.samplers.branches import BranchSampler
from dspex.study import Study, Trial, create_study
from dspex.testing.samplers import SamplerSuite
from dspex.trials import TrialState
from dspex.variables import Choice, Condition, Entry, Float, Int, Order, Prompt, Space, Subset


class TestTPESampler(SamplerSuite):
    def make(self, seed: int) -> Sampler:
        return TPESampler(seed=seed)


class TestTPESamplerFromTheStart(SamplerSuite):
    """Without a random start, so that it has to do with next to nothing."""

    def make(self, seed: int) -> Sampler:
        return TPESampler(seed=seed, n_startup_trials=0, n_ei_candidates=3)


def _best(sampler: Sampler, objective: Any, count: int, space: Space | None = None) -> float:
    study = create_study(sampler=sampler, space=space)
    study.optimize(objective, n_trials=count)
    return study.best_value


@pytest.mark.parametrize(
    ("space", "objective"),
    [
        (
            Space.of(**{f"x{i}": Float(-5.0, 5.0) for i in range(4)}),
            lambda trial: sum((value - 2) ** 2 for value in trial.params.values()),
        ),
        (
            Space.of(order=Order(*"abcdef"), tools=Subset(*"uvwxyz"), k=Int(1, 40)),
            lambda trial: (
                sum(abs(trial.params["order"].index(item) - place) for place, item in enumerate("fedcba"))
                + len(set(trial.params["tools"]) ^ set("uwy"))
                + abs(trial.params["k"] - 30) / 4
            ),
        ),
        (
            Space(
                [
                    Entry("kind", Choice("a", "b", "c"), "a"),
                    *(
                        Entry(f"{kind}.{i}", Float(0.0, 1.0), 0.5, conditions=[Condition("kind", kind)])
                        for kind in "abc"
                        for i in range(3)
                    ),
                ]
            ),
            lambda trial: (
                {"a": 0.3, "b": 0.0, "c": 0.2}[trial.params["kind"]]
                + sum((value - 0.8) ** 2 for path, value in trial.params.items() if path != "kind")
            ),
        ),
    ],
    ids=["numbers", "arrangements", "conditional"],
)
def test_it_is_better_than_chance(space: Space, objective: Any) -> None:
    ours = statistics.median(_best(TPESampler(seed=seed), objective, 80, space) for seed in range(3))
    chance = statistics.median(_best(RandomSampler(seed=seed), objective, 80, space) for seed in range(3))
    assert ours < 0.6 * chance


def test_a_branch_is_learned_on_the_trials_that_entered_it() -> None:
    def objective(trial: Trial) -> float:
        if trial.suggest_categorical("kind", ["coarse", "fine"]) == "fine":
            return abs(trial.suggest_float("fine.x", 0.0, 1.0) - 0.9)
        return 0.2 + abs(trial.suggest_float("coarse.x", 0.0, 1.0) - 0.1)

    study = create_study(sampler=TPESampler(seed=0))
    study.optimize(objective, n_trials=90)
    late = study.trials[50:]
    fine = [trial.params["fine.x"] for trial in late if trial.params["kind"] == "fine"]
    coarse = [trial.params["coarse.x"] for trial in late if trial.params["kind"] == "coarse"]
    assert len(fine) > len(coarse)
    assert abs(statistics.median(fine) - 0.9) < 0.1


def test_it_begins_at_random() -> None:
    space = Space.of(x=Float(0.0, 1.0))
    ours, chance = (
        create_study(sampler=sampler, space=space)
        for sampler in (TPESampler(seed=1, n_startup_trials=7), RandomSampler(seed=1))
    )
    for study in (ours, chance):
        for _ in range(12):
            trial = study.ask()
            study.tell(trial, trial.params["x"])
    drawn = [[trial.params["x"] for trial in study.trials] for study in (ours, chance)]
    assert drawn[0][:7] == drawn[1][:7]
    assert drawn[0][7] != drawn[1][7]


def _told(study: Study, x: float, value: float | None, state: TrialState | None = None) -> None:
    study.tell(study.ask(fixed={"x": x}), value, state=state)


def test_trials_that_the_world_made_fail_count_for_nothing() -> None:
    space = Space.of(x=Float(0.0, 1.0))
    with_failed, without = (create_study(sampler=TPESampler(seed=0), space=space) for _ in range(2))
    for index in range(30):
        _told(with_failed, index / 30, index / 30)
        _told(without, index / 30, index / 30)
    for index in range(5):
        trial = with_failed.ask(fixed={"x": 0.5 + index / 100})
        with_failed.tell(trial, state=TrialState.FAIL, infrastructure=True)
        without.enqueue_trial({"x": 0.0})  # only so that the numbers are the same
    view, bare = with_failed.view, without.view
    assert with_failed.sampler.sample(view, 40, space, fixed={}) == without.sampler.sample(bare, 40, space, fixed={})


@pytest.mark.parametrize(
    "sampler", [TPESampler(seed=0), GPSampler(seed=0), NSGAIISampler(seed=0, population_size=8)], ids=repr
)
def test_a_candidate_with_which_trials_fail_is_not_explored_for_ever(sampler: Sampler) -> None:
    study = create_study(sampler=sampler, space=Space.of(prompt=Prompt(), x=Float(0.0, 1.0)))
    bad = study.pool("prompt").add("crashes").id
    study.pool("prompt").add("works")
    for _ in range(40):
        trial = study.ask()
        if trial.params["prompt"] == bad:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, trial.params["x"])
    late = [trial.params["prompt"] for trial in study.trials[20:]]
    assert late.count(bad) <= 5


def test_running_trials_keep_others_away() -> None:
    space = Space.of(x=Float(0.0, 1.0))
    alone = create_study(sampler=TPESampler(seed=0), space=space)
    for index in range(40):
        _told(alone, index / 40, abs(index / 40 - 0.7))
    near = sum(abs(alone.sampler.sample(alone.view, 100 + i, space, fixed={})["x"] - 0.7) < 0.05 for i in range(40))
    for _ in range(30):
        alone.ask(fixed={"x": 0.7})
    after = sum(abs(alone.sampler.sample(alone.view, 100 + i, space, fixed={})["x"] - 0.7) < 0.05 for i in range(40))
    assert after < near


def test_pruned_trials_are_worse_than_completed_ones() -> None:
    space = Space.of(x=Float(0.0, 1.0))
    study = create_study(sampler=TPESampler(seed=0), space=space)
    for index in range(40):
        trial = study.ask(fixed={"x": index / 40})
        if index < 20:
            trial.report(-100.0, 1)  # looked splendid, and was ended all the same
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, float(index))
    drawn = [study.ask().params["x"] for _ in range(20)]
    assert statistics.median(drawn) >= 0.4


def test_infeasible_trials_are_not_good() -> None:
    space = Space.of(x=Float(0.0, 1.0))
    study = create_study(sampler=TPESampler(seed=0), space=space)
    for index in range(40):
        trial = study.ask(fixed={"x": index / 40})
        trial.set_constraint("late enough", 0.5 - index / 40)
        study.tell(trial, index / 40)
    drawn = [study.ask().params["x"] for _ in range(20)]
    assert statistics.median(drawn) > 0.4
    assert study.best_params["x"] == 0.5


def test_every_candidate_is_tried_before_long() -> None:
    space = Space.of(prompt=Prompt(), t=Float(0.0, 1.0))
    study = create_study(sampler=TPESampler(seed=0), space=space)
    good = study.pool("prompt").add("good").id
    for _ in range(40):
        trial = study.ask()
        study.tell(trial, 0.0 if trial.params["prompt"] == good else 1.0)
    new = {study.pool("prompt").add(f"new {index}").id for index in range(8)}
    asked = [study.ask() for _ in range(25)]
    assert {trial.params["prompt"] for trial in asked} >= new


@pytest.mark.parametrize("kind", [TPESampler, NSGAIISampler])
def test_where_all_has_been_tried_nothing_is_drawn_again(kind: type[BranchSampler]) -> None:
    drawn: list[int] = []

    class Counted(kind):  # type: ignore[misc, valid-type]
        def propose(self, *args: Any, attempt: int, **keywords: Any) -> dict[str, Any]:
            drawn.append(attempt)
            return super().propose(*args, attempt=attempt, **keywords)

    def objective(trial: Trial) -> float:
        return float(trial.suggest_int("a", 1, 3) + trial.suggest_categorical("b", [1, 2]))

    study = create_study(sampler=Counted(seed=0))
    for a, b in itertools.product((1, 2, 3), (1, 2)):
        study.enqueue_trial({"a": a, "b": b})
    study.optimize(objective, n_trials=6)
    drawn.clear()
    study.optimize(objective, n_trials=10)
    assert drawn
    assert set(drawn) == {0}


def test_a_listed_configuration_is_not_repeated_while_others_are_left() -> None:
    space = Space.of(a=Int(1, 3), b=Choice("x", "y"))
    study = create_study(sampler=TPESampler(seed=0, n_startup_trials=3), space=space)
    for _ in range(6):
        trial = study.ask()
        study.tell(trial, float(trial.params["a"]))
    assert len({repr(trial.params) for trial in study.trials}) >= 5
    for _ in range(5):
        study.tell(study.ask(), 1.0)  # and it goes on when none is left


def test_two_objectives_approach_the_front() -> None:
    space = Space.of(x=Float(0.0, 1.0), y=Float(0.0, 1.0), z=Float(0.0, 1.0))

    def area(sampler: Sampler) -> float:
        study = create_study(sampler=sampler, space=space, directions=["minimize", "maximize"])
        for _ in range(80):
            trial = study.ask()
            x, y, z = trial.params.values()
            study.tell(trial, [x + y + z, x - y - z])
        front = sorted(trial.values for trial in study.best_trials if trial.values)
        covered, last = 0.0, -2.0
        for cost, gain in front:
            covered += max(gain - last, 0.0) * (3.0 - cost)
            last = max(gain, last)
        return covered

    ours = statistics.median(area(TPESampler(seed=seed)) for seed in range(3))
    chance = statistics.median(area(RandomSampler(seed=seed)) for seed in range(3))
    assert ours > chance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_startup_trials": -1}, r"n_startup_trials must be a whole number >= 0, got -1 \(int\)"),
        ({"n_ei_candidates": 0}, r"n_ei_candidates must be a whole number >= 1, got 0 \(int\)"),
        ({"explore": 1.5}, r"explore must be a probability, got 1\.5 \(float\)"),
        ({"explore": "often"}, r"explore must be a probability, got 'often' \(str\)"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        TPESampler(**arguments)


def test_its_repr_makes_it() -> None:
    sampler = TPESampler(seed=3, explore=0.25)
    assert repr(eval(repr(sampler))) == repr(sampler)
