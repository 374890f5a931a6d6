"""Bayesian optimization with Gaussian processes; its parts are tested in `test_gp_parts`."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest

from dspex.errors import StudyError
from dspex.samplers import AutoSampler, GPSampler, RandomSampler, Sampler
from dspex.storage import InMemoryStorage
from dspex.study import Study, Trial, create_study
from dspex.testing.samplers import SamplerSuite
from dspex.trials import TrialState
from dspex.variables import Bool, Choice, Condition, Constraint, Entry, Float, Int, Order, Prompt, Space, Subset


class TestGPSampler(SamplerSuite):
    def make(self, seed: int) -> Sampler:
        return GPSampler(seed=seed, n_startup_trials=30)


def _best(sampler: Sampler, objective: Any, count: int, space: Space | None = None) -> float:
    study = create_study(sampler=sampler, space=space)
    study.optimize(objective, n_trials=count)
    return study.best_value


@pytest.mark.parametrize(
    ("space", "objective", "far"),
    [
        (
            Space.of(x=Float(-5.0, 5.0), y=Float(1e-4, 1.0, log=True), k=Int(1, 1000)),
            lambda trial: (
                (trial.params["x"] - 2) ** 2 + (trial.params["y"] - 0.1) ** 2 + abs(trial.params["k"] - 400) / 100
            ),
            0.05,
        ),
        (
            Space.of(order=Order(*"abcde"), tools=Subset(*"uvwxyz"), flag=Bool()),
            lambda trial: (
                sum(abs(trial.params["order"].index(item) - place) for place, item in enumerate("edcba"))
                + len(set(trial.params["tools"]) ^ set("uwy"))
                + trial.params["flag"]
            ),
            0.3,
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
            0.1,
        ),
    ],
    ids=["numbers", "arrangements", "conditional"],
)
def test_it_is_far_better_than_chance(space: Space, objective: Any, far: float) -> None:
    ours = statistics.median(_best(GPSampler(seed=seed), objective, 35, space) for seed in range(3))
    chance = statistics.median(_best(RandomSampler(seed=seed), objective, 35, space) for seed in range(5))
    assert ours < far * chance


def test_branches_that_are_declared_on_the_way_are_learned() -> None:
    def objective(trial: Trial) -> float:
        if trial.suggest_categorical("kind", ["coarse", "fine"]) == "fine":
            return abs(trial.suggest_float("fine.x", 0.0, 1.0) - 0.9)
        return 0.2 + abs(trial.suggest_float("coarse.x", 0.0, 1.0) - 0.1)

    study = create_study(sampler=GPSampler(seed=0))
    study.optimize(objective, n_trials=30)
    assert study.best_value < 1e-3
    # All variables of a branch are chosen with it, when the trial comes to the first of them.
    chosen = study.sampler.suggest(study.view, 30, "kind", Choice("coarse", "fine"), params={})
    assert set(chosen) == {"kind", f"{chosen['kind']}.x"}
    forced = study.sampler.suggest(study.view, 30, "coarse.x", Float(0.0, 1.0), params={"kind": "coarse"})
    assert set(forced) == {"coarse.x"}


def test_noise_is_not_taken_for_gain() -> None:
    """With noise three times the signal, what is tried late is near the optimum and not near the luckiest trial."""
    rng = random.Random(0)
    study = create_study(sampler=GPSampler(seed=1), space=Space.of(x=Float(0.0, 1.0)))
    for _ in range(60):
        trial = study.ask()
        study.tell(trial, (trial.params["x"] - 0.3) ** 2 + rng.gauss(0.0, 0.15))
    late = [trial.params["x"] for trial in study.trials[30:]]
    assert abs(statistics.median(late) - 0.3) < 0.2


def _told(study: Study, x: float, value: float | None, state: TrialState | None = None) -> None:
    study.tell(study.ask(fixed={"x": x}), value, state=state)


def test_running_trials_keep_others_away() -> None:
    space = Space.of(x=Float(0.0, 1.0))
    study = create_study(sampler=GPSampler(seed=0), space=space)
    for x in (0.0, 0.1, 0.2, 0.3, 0.4, 0.8, 0.85, 0.9, 0.95, 1.0):
        _told(study, x, math.sin(9 * x))
    alone = [study.sampler.sample(study.view, number, space, fixed={})["x"] for number in range(50, 54)]
    assert max(alone) - min(alone) < 0.02
    waiting = [study.ask().params["x"] for _ in range(4)]
    gaps = [abs(one - other) for place, one in enumerate(waiting) for other in waiting[:place]]
    assert min(gaps) > 0.01


def test_trials_that_the_world_made_fail_count_for_nothing_and_pruned_ones_for_little() -> None:
    space = Space.of(x=Float(0.0, 1.0))
    with_failed, without = (create_study(sampler=GPSampler(seed=0), space=space) for _ in range(2))
    for index in range(12):
        _told(with_failed, index / 12, index / 12)
        _told(without, index / 12, index / 12)
    with_failed.tell(with_failed.ask(fixed={"x": 0.0}), state=TrialState.FAIL, infrastructure=True)
    chosen = [study.sampler.sample(study.view, 40, space, fixed={}) for study in (with_failed, without)]
    assert chosen[0] == chosen[1]

    pruned = create_study(sampler=GPSampler(seed=0), space=space)
    for index in range(24):
        trial = pruned.ask(fixed={"x": index / 24})
        if index < 12:
            trial.report(-100.0, 1)  # looked splendid, and was ended all the same
            pruned.tell(trial, state=TrialState.PRUNED)
        else:
            pruned.tell(trial, float(index))
    assert pruned.ask().params["x"] > 0.4


@pytest.mark.parametrize("sampler", [GPSampler(seed=0), AutoSampler(seed=0)], ids=repr)
def test_a_region_where_trials_fail_is_left(sampler: Sampler) -> None:
    """Where the objective is best nobody comes back from; the edge of it is found all the same."""

    def objective(trial: Trial) -> float:
        x, y = trial.suggest_float("x", -5.0, 5.0), trial.suggest_float("y", -5.0, 5.0)
        if x > 1:
            raise ValueError("too large")
        return (x - 3) ** 2 + (y - 1) ** 2

    study = create_study(sampler=sampler)
    study.optimize(objective, n_trials=45, catch=ValueError)
    assert study.best_value < 5  # of 4
    assert sum(trial.state is TrialState.COMPLETE for trial in study.trials[25:]) >= 5


def test_failures_that_are_due_to_nothing_do_not_keep_the_optimum_from_being_found() -> None:
    rng = random.Random(0)

    def objective(trial: Trial) -> float:
        x = trial.suggest_float("x", -5.0, 5.0)
        if rng.random() < 0.2:
            raise ValueError("bad luck")
        return (x - 3) ** 2

    study = create_study(sampler=GPSampler(seed=0))
    study.optimize(objective, n_trials=40, catch=ValueError)
    assert study.best_value < 0.05


def test_only_the_trials_that_failed_decide_and_not_who_asked() -> None:
    """A resumed study goes on as it would have, with the failures and what was learned of them."""
    storage, space = InMemoryStorage(), Space.of(x=Float(0.0, 1.0), c=Choice("a", "b"))
    study = create_study(study_name="study", sampler=GPSampler(seed=2), storage=storage, space=space)
    for _ in range(30):
        trial = study.ask()
        if trial.params["x"] > 0.5:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, -trial.params["x"])
    again = Study(
        storage.get_study("study"), storage, sampler=GPSampler(seed=2), pruner=study.pruner, space=study.space
    )
    for number in range(50, 53):
        assert study.sampler.sample(study.view, number, space, fixed={}) == again.sampler.sample(
            again.view, number, space, fixed={}
        )


def test_constraints_that_trials_report_are_kept_to() -> None:
    space = Space.of(x=Float(0.0, 1.0), y=Float(0.0, 1.0))
    study = create_study(sampler=GPSampler(seed=0), space=space)
    for _ in range(35):
        trial = study.ask()
        x, y = trial.params["x"], trial.params["y"]
        trial.set_constraint("outside", 0.5 - x - y)
        study.tell(trial, x + 2 * y)
    assert study.best_value == pytest.approx(0.5, abs=0.02)  # on the edge, at y = 0
    assert sum(trial.feasible for trial in study.trials[12:]) > 4


def test_while_nothing_is_feasible_it_looks_for_what_is() -> None:
    space = Space.of(x=Float(0.0, 1.0), y=Float(0.0, 1.0))
    study = create_study(sampler=GPSampler(seed=0), space=space)
    for _ in range(25):
        trial = study.ask()
        off = abs(trial.params["x"] - 0.93) + abs(trial.params["y"] - 0.07)
        trial.set_constraint("near the corner", off - 0.1)
        study.tell(trial, 1.0)
    assert any(trial.feasible for trial in study.trials)


def test_a_narrow_space_of_what_is_allowed_is_searched_too() -> None:
    rule = Constraint("line", {"a": "a", "b": "b"}, "a is b or one more", lambda a, b: 0 <= a - b <= 1)
    space = Space([Entry("a", Int(0, 40), 0), Entry("b", Int(0, 40), 0), Entry("x", Float(0.0, 1.0), 0.0)], [rule])
    study = create_study(sampler=GPSampler(seed=0), space=space)
    for _ in range(30):
        trial = study.ask()
        study.tell(trial, abs(trial.params["a"] - 30) + (trial.params["x"] - 0.5) ** 2)
    assert study.best_value <= 2


def test_what_was_tried_is_not_tried_again_while_something_else_is_left() -> None:
    study = create_study(sampler=GPSampler(seed=0, n_startup_trials=3), space=Space.of(a=Int(1, 4), b=Choice("x", "y")))
    for _ in range(8):
        trial = study.ask()
        study.tell(trial, float(trial.params["a"]))
    assert len({repr(trial.params) for trial in study.trials[3:]} | {repr(trial.params) for trial in study.trials}) >= 7
    for _ in range(3):
        study.tell(study.ask(), 1.0)  # and it goes on when nothing is left


def test_a_branch_that_is_changed_to_has_values_of_its_own() -> None:
    """Rows of trials of one branch, changed to the other, are configurations that can be told from those tried."""

    def objective(trial: Trial) -> float:
        if trial.suggest_categorical("kind", ["fine", "coarse"]) == "fine":
            return trial.suggest_float("fine.x", 0.0, 1.0)
        return trial.suggest_int("coarse.k", 1, 5) + trial.suggest_float("coarse.x", 0.0, 1.0)

    study = create_study(sampler=GPSampler(seed=1, n_startup_trials=4))
    study.optimize(objective, n_trials=16)
    assert len({repr(trial.params) for trial in study.trials}) == 16


@pytest.mark.parametrize("directions", [["minimize", "maximize"], ["minimize", "minimize", "maximize"]])
def test_several_objectives_approach_the_front_and_spread_along_it(directions: list[str]) -> None:
    space = Space.of(x=Float(0.0, 1.0), y=Float(0.0, 1.0), z=Float(0.0, 1.0))

    def gaps(sampler: Sampler) -> list[float]:
        study = create_study(sampler=sampler, space=space, directions=directions)
        for _ in range(35):
            trial = study.ask()
            x, y, z = trial.params.values()
            off = (y - 0.3) ** 2 + (z - 0.6) ** 2 if len(directions) == 2 else (z - 0.6) ** 2
            values = [x**2 + off, y**2 + off, -((1 - x) ** 2) - (1 - y) ** 2 - off]
            study.tell(trial, [values[0], values[2]] if len(directions) == 2 else values)
        late = [trial.params for trial in study.trials[15:]]
        return [statistics.median(abs(one["z"] - 0.6) for one in late), statistics.pstdev(one["x"] for one in late)]

    ours, chance = gaps(GPSampler(seed=0)), gaps(RandomSampler(seed=0))
    assert ours[0] < 0.2 * chance[0]
    assert ours[1] > 0.1


def test_a_resumed_study_goes_on_beyond_milestones() -> None:
    """Though the first was asked all the time and the second not at all, and trials finished out of order."""
    storage, space = InMemoryStorage(), Space.of(x=Float(0.0, 1.0), c=Choice("a", "b"))
    study = create_study(study_name="study", sampler=GPSampler(seed=2), storage=storage, space=space)
    waiting: list[Trial] = []
    for index in range(44):
        waiting.append(study.ask())
        if len(waiting) == 4:
            done = waiting.pop(index % 4)
            study.tell(done, (done.params["x"] - 0.2) ** 2 + (done.params["c"] == "a"))
    again = Study(
        storage.get_study("study"), storage, sampler=GPSampler(seed=2), pruner=study.pruner, space=study.space
    )
    for number in range(50, 53):
        assert study.sampler.sample(study.view, number, space, fixed={}) == again.sampler.sample(
            again.view, number, space, fixed={}
        )


def test_candidates_that_nobody_has_tried_are() -> None:
    space = Space.of(prompt=Prompt(), t=Float(0.0, 1.0))
    study = create_study(sampler=GPSampler(seed=0), space=space)
    good = study.pool("prompt").add("good").id
    for _ in range(14):
        trial = study.ask()
        study.tell(trial, trial.params["t"] if trial.params["prompt"] == good else 1.0)
    new = {study.pool("prompt").add(f"new {index}").id for index in range(4)}
    asked = [study.ask().params["prompt"] for _ in range(14)]
    assert set(asked) >= new


def test_it_begins_quasi_randomly() -> None:
    study = create_study(sampler=GPSampler(seed=0, n_startup_trials=8), space=Space.of(x=Float(0.0, 1.0)))
    for _ in range(8):
        study.tell(study.ask(), 0.0)
    assert sorted(int(trial.params["x"] * 8) for trial in study.trials) == list(range(8))


def test_without_a_start_it_has_to_do_with_one_trial() -> None:
    study = create_study(sampler=GPSampler(seed=0, n_startup_trials=0), space=Space.of(x=Float(0.0, 1.0), k=Int(1, 5)))
    for _ in range(6):
        trial = study.ask()
        study.tell(trial, trial.params["x"])
    assert study.best_value < 0.2


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(StudyError, match=r"n_startup_trials must be a whole number >= 0, got -1 \(int\)"):
        GPSampler(n_startup_trials=-1)


def test_its_repr_makes_it() -> None:
    sampler = GPSampler(seed=3, n_startup_trials=5)
    assert repr(eval(repr(sampler))) == repr(sampler)
