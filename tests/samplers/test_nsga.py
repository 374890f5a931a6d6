"""NSGA-II and NSGA-III: how they breed, whom they select."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dspex.errors import StudyError
from dspex.samplers import (
    BaseCrossover,
    BLXAlphaCrossover,
    NSGAIIISampler,
    NSGAIISampler,
    PolynomialMutation,
    RandomSampler,
    Sampler,
    SBXCrossover,
    SPXCrossover,
    UNDXCrossover,
    UniformCrossover,
    UniformMutation,
    VSBXCrossover,
)
from dspex.samplers.nsgaiii import places_of, simplex
from dspex.samplers.ranking import fronts
from dspex.storage import InMemoryStorage
from dspex.study import Study, Trial, create_study
from dspex.study.best import pareto_front
from dspex.testing.samplers import SamplerSuite
from dspex.trials import FrozenTrial, StudyDirection, TrialState
from dspex.variables import Choice, Condition, Entry, Float, Int, Space

CROSSOVERS = [
    UniformCrossover(),
    BLXAlphaCrossover(),
    SBXCrossover(),
    VSBXCrossover(),
    SPXCrossover(),
    UNDXCrossover(),
]


class TestNSGAIISampler(SamplerSuite):
    def make(self, seed: int) -> Sampler:
        return NSGAIISampler(seed=seed, population_size=8)


class TestNSGAIISamplerWithThreeParents(SamplerSuite):
    def make(self, seed: int) -> Sampler:
        return NSGAIISampler(seed=seed, population_size=5, crossover=SPXCrossover(), mutation=UniformMutation())


class TestNSGAIIISampler(SamplerSuite):
    def make(self, seed: int) -> Sampler:
        return NSGAIIISampler(seed=seed, population_size=8)


def _front(sampler: Sampler, seed: int, count: int) -> float:
    """The mean distance from the front of ZDT2's trials that nothing dominates."""

    def objective(trial: Trial) -> tuple[float, float]:
        first, *others = (trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(5))
        g = 1 + 9 * sum(others) / 4
        return first, g * (1 - (first / g) ** 2)

    study = create_study(sampler=sampler, directions=["minimize", "minimize"])
    study.optimize(objective, n_trials=count)
    gaps = [trial.values[1] - (1 - trial.values[0] ** 2) for trial in study.best_trials if trial.values]
    return sum(gaps) / len(gaps)


@pytest.mark.parametrize("kind", [NSGAIISampler, NSGAIIISampler])
def test_it_approaches_the_front(kind: Any) -> None:
    ours = sum(_front(kind(seed=seed, population_size=12), seed, 150) for seed in range(3))
    chance = sum(_front(RandomSampler(seed=seed), seed, 150) for seed in range(3))
    assert ours < 0.4 * chance


def test_one_objective_and_one_variable() -> None:
    study = create_study(sampler=NSGAIISampler(seed=0, population_size=10))
    study.optimize(lambda trial: (trial.suggest_float("x", -10, 10) - 3) ** 2, n_trials=120)
    assert study.best_value < 1e-3


def test_children_inherit_within_the_branch_they_enter() -> None:
    space = Space(
        [
            Entry("kind", Choice("a", "b"), "a"),
            *(Entry(f"{k}.x", Float(0.0, 1.0), 0.5, conditions=[Condition("kind", k)]) for k in "ab"),
        ]
    )
    study = create_study(sampler=NSGAIISampler(seed=3, population_size=10), space=space)
    for _ in range(150):
        trial = study.ask()
        x = trial.params.get("a.x", trial.params.get("b.x"))
        study.tell(trial, abs(x - (0.2 if trial.params["kind"] == "a" else 0.9)))
    late = study.trials[80:]
    for name, aim in (("a", 0.2), ("b", 0.9)):
        near = [abs(trial.params[f"{name}.x"] - aim) for trial in late if f"{name}.x" in trial.params]
        assert sum(gap < 0.1 for gap in near) > 0.5 * len(near)


def test_an_infeasible_trial_is_dominated_by_every_feasible_one() -> None:
    def objective(trial: Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_constraint("at least a half", 0.5 - x)
        return x

    study = create_study(sampler=NSGAIISampler(seed=0, population_size=10))
    study.optimize(objective, n_trials=120)
    assert study.best_value == pytest.approx(0.5, abs=0.02)
    assert sum(trial.feasible for trial in study.trials[60:]) > 25


def test_a_generation_is_who_completed_in_the_meantime() -> None:
    """Whoever reads the storage later sees the same generations, though trials finish out of order."""
    storage, sampler = InMemoryStorage(), NSGAIISampler(seed=1, population_size=6)
    study = create_study(study_name="study", sampler=sampler, storage=storage)
    waiting: list[Trial] = []
    for index in range(60):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        waiting.append(trial)
        if len(waiting) == 5:
            done = waiting.pop(index % 5)
            study.tell(done, done.params["x"], state=TrialState.COMPLETE)
    again = Study(
        storage.get_study("study"), storage, sampler=NSGAIISampler(seed=1, population_size=6), pruner=study.pruner
    )
    domain = Float(0.0, 1.0)
    assert [sampler.suggest(study.view, n, "x", domain, params={}) for n in range(60, 70)] == [
        again.sampler.suggest(again.view, n, "x", domain, params={}) for n in range(60, 70)
    ]


def test_a_child_is_no_copy_of_a_trial() -> None:
    space = Space.of(x=Float(0.0, 1.0), c=Choice("a", "b"))
    study = create_study(sampler=NSGAIISampler(seed=0, population_size=5, mutation_prob=0.05), space=space)
    for _ in range(60):
        trial = study.ask()
        study.tell(trial, trial.params["x"])
    assert len({repr(trial.params) for trial in study.trials}) == 60


# Not the vector one, whose children may lie off the line through their parents.
@pytest.mark.parametrize("crossover", [one for one in CROSSOVERS if not isinstance(one, VSBXCrossover)], ids=repr)
@given(seed=st.integers(0, 10**6), numbers=st.integers(1, 6), objectives=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_a_crossover_of_equal_parents_is_that_parent(
    crossover: BaseCrossover, seed: int, numbers: int, objectives: int
) -> None:
    rng = np.random.default_rng(seed)
    parent = rng.random(numbers)
    child = crossover.crossover(np.tile(parent, (crossover.n_parents, 1)), rng, objectives=objectives)
    assert child == pytest.approx(parent, abs=1e-6)


@pytest.mark.parametrize("crossover", CROSSOVERS, ids=repr)
def test_children_are_about_their_parents(crossover: BaseCrossover) -> None:
    rng = np.random.default_rng(0)
    parents = np.array([[0.4, 0.6], [0.5, 0.4], [0.6, 0.5]])[: crossover.n_parents]
    children = np.array([crossover.crossover(parents, rng, objectives=2) for _ in range(3000)])
    middle = parents[:2].mean(axis=0) if isinstance(crossover, UNDXCrossover) else parents.mean(axis=0)
    assert children.mean(axis=0) == pytest.approx(middle, abs=0.02)
    assert (children.std(axis=0) > 0.02).all()
    assert (children.std(axis=0) < 0.3).all()


def test_bounded_crossovers_and_mutations_stay_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        parents = rng.random((2, 3)).round(1)
        child = SBXCrossover(eta=2).crossover(parents, rng, objectives=1)
        assert ((child >= -1e-9) & (child <= 1 + 1e-9)).all()
        for share in (0.0, 0.3, 1.0):
            assert 0.0 <= PolynomialMutation(eta=1).mutation(share, rng) <= 1.0
    steps = [PolynomialMutation().mutation(0.5, rng) - 0.5 for _ in range(500)]
    assert abs(np.mean(steps)) < 0.01
    assert 0.01 < np.std(steps) < 0.1


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.0, 1.0, 2.0])), min_size=1, max_size=30
    )
)
def test_fronts_are_the_pareto_fronts_and_then_the_violations(rows: list[tuple[int, int, float]]) -> None:
    found = fronts(np.array([row[:2] for row in rows], dtype=float).T, np.array([row[2] for row in rows]))
    trials = [
        FrozenTrial(number=i, state=TrialState.COMPLETE, values=(float(a), float(b)), constraints={"c": violated})
        for i, (a, b, violated) in enumerate(rows)
    ]
    left = [trial for trial in trials if trial.feasible]
    expected = []
    while left:
        front = {trial.number for trial in pareto_front(left, [StudyDirection.MINIMIZE] * 2)}
        expected.append(front)
        left = [trial for trial in left if trial.number not in front]
    for violated in (1.0, 2.0):
        expected.append({i for i, row in enumerate(rows) if row[2] == violated})
    assert [set(front.tolist()) for front in found] == [front for front in expected if front]


def test_reference_points_are_dealt_out_evenly() -> None:
    assert len(simplex(3, 12)) == 91  # Deb and Jain 2014, table I
    assert set(simplex(4, 5).sum(axis=1)) == {5.0}


def test_niches_are_served_evenly() -> None:
    # Three directions; many trials are near the first, one near each other one.
    angles = np.array([0.0, 0.01, 0.02, 0.03, 0.04, math.pi / 4, math.pi / 2])
    losses = np.stack([np.cos(angles), np.sin(angles)])
    points = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    for seed in range(5):
        found = places_of(losses, [], list(range(7)), 3, points, np.random.default_rng(seed))
        assert Counter(found) == Counter([0, 5, 6])
    found = places_of(losses, [0, 6], [1, 2, 3, 4, 5], 1, points, np.random.default_rng(0))
    assert found == [5]


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300])
def test_values_beyond_measure_are_selected_among(value: float) -> None:
    study = create_study(sampler=NSGAIIISampler(seed=0, population_size=4), directions=["minimize"] * 3)
    for index in range(20):
        trial = study.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        study.tell(trial, [x, value if index % 2 else 1 - x, value])
    assert 0.0 <= study.ask().suggest_float("x", 0.0, 1.0) <= 1.0


def test_given_reference_points_have_to_fit() -> None:
    study = create_study(
        sampler=NSGAIIISampler(seed=0, population_size=2, reference_points=[[1, 0], [0, 1]]),
        directions=["minimize"] * 3,
    )
    for _ in range(2):
        trial = study.ask()
        trial.suggest_int("k", 1, 5)
        study.tell(trial, [1.0, 2.0, 3.0])
    with pytest.raises(StudyError, match="reference_points have 2 columns and the study has 3 objectives"):
        study.ask().suggest_int("k", 1, 5)


def test_a_sampler_shows_itself() -> None:
    for sampler in (NSGAIISampler(seed=1, crossover=SBXCrossover(eta=3)), NSGAIIISampler(seed=1)):
        assert repr(eval(repr(sampler))) == repr(sampler)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NSGAIISampler(population_size=1), r"population_size must be a whole number >= 2 .*got 1 \(int\)"),
        (
            lambda: NSGAIISampler(population_size=2, crossover=SPXCrossover()),
            r"population_size .* >= 3 with SPXCrossover",
        ),
        (lambda: NSGAIISampler(mutation_prob=2), r"mutation_prob must be a probability from 0 to 1, got 2 \(int\)"),
        (lambda: NSGAIISampler(crossover="sbx"), r"crossover must be a BaseCrossover or None, got 'sbx'"),
        (lambda: NSGAIIISampler(dividing_parameter=0), r"dividing_parameter must be a whole number >= 1, got 0"),
        (lambda: NSGAIIISampler(reference_points=[[0, 0]]), r"reference_points must be rows of numbers >= 0"),
        (lambda: SBXCrossover(eta=-1), r"eta must be a number >= 0, got -1"),
    ],
)
def test_arguments_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        make()


def test_numbers_in_cells_are_crossed_too() -> None:
    study = create_study(sampler=NSGAIISampler(seed=0, population_size=10), space=Space.of(k=Int(0, 1000)))
    for _ in range(150):
        trial = study.ask()
        study.tell(trial, abs(trial.params["k"] - 777))
    assert study.best_value <= 5
