"""The structured surrogate: what it reads, what it fits, what it climbs, what it chooses."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dspex.data import Evaluation, Usage
from dspex.errors import StudyError
from dspex.samplers import RandomSampler, Sampler, StructuredSampler, TPESampler
from dspex.samplers.evidence import Evidence
from dspex.samplers.factors import Factor, Levels
from dspex.samplers.fitting import chosen
from dspex.samplers.sizes import estimated
from dspex.samplers.surface import Grid, climb
from dspex.samplers.surrogate import CONSTANT, Prior, Rows, fit, initial_sizes
from dspex.study import Study, create_study
from dspex.testing.samplers import SamplerSuite
from dspex.trials import TrialState, create_trial
from dspex.variables import Choice, Condition, Domain, Entry, Float, Int, ModelChoice, Order, Prompt, Space, Subset


class TestStructuredSampler(SamplerSuite):
    remembers = False

    def make(self, seed: int) -> Sampler:
        return StructuredSampler(seed=seed)


class TestStructuredSamplerFromTheStart(SamplerSuite):
    """Without a random start, so that it has to do with next to nothing."""

    remembers = False

    def make(self, seed: int) -> Sampler:
        return StructuredSampler(seed=seed, n_startup_trials=1)


# Features


@pytest.mark.parametrize(
    "domain",
    [Float(0.0, 2.0), Int(1, 1000, log=True), Choice("a", None, 3), Subset("a", "b", "c"), Order(*"abcd")],
    ids=repr,
)
def test_features_are_a_kernel_that_knows_like_from_unlike(domain: Domain[Any]) -> None:
    factor = Factor("x", domain, None)
    rng = random.Random(0)
    values = [domain.sample(rng) for _ in range(12)]
    columns = np.array([factor.encode(value) for value in values] + [[math.nan] * factor.dimension.width])
    features = factor.features(columns, factor.known(columns, np.random.default_rng(0)))
    kernel = features @ features.T
    assert np.allclose(np.diag(kernel)[:-1], 1.0, atol=1e-3)
    assert np.allclose(kernel[-1], 0.0), "what is not active contributes nothing"
    for one, other in itertools.combinations(range(12), 2):
        if values[one] != values[other]:
            assert kernel[one, other] < 1.0 - 1e-4 or isinstance(domain, Float)


def test_numbers_have_a_squared_exponential_kernel() -> None:
    factor = Factor("x", Float(0.0, 1.0), None)
    shares = np.linspace(0, 1, 40)[:, None]
    features = factor.features(shares, np.zeros(0))
    assert np.allclose(features @ features.T, np.exp(-0.5 * ((shares - shares.T) / 0.35) ** 2), atol=1e-3)


# The fit


def _prior(count: int, seed: int = 0) -> Prior:
    rng = np.random.default_rng(seed)
    factors = [
        Factor("a", Choice(*range(5)), None),
        Factor("b", Float(0.0, 1.0), None),
        Factor("c", Order(*"xyz"), None),
    ]
    draw = random.Random(seed)
    features, active = [], []
    for factor in factors:
        columns = np.array([factor.encode(factor.domain.sample(draw)) for _ in range(count)])
        if factor.path == "c":
            columns[rng.random(count) < 0.3] = math.nan
        features.append(factor.features(columns, factor.known(columns, rng)))
        active.append(~np.isnan(columns[:, 0]))
    return Prior(features, np.stack(active, axis=1))


def _covariance(prior: Prior, sizes: Any) -> np.ndarray[Any, Any]:
    """The prior covariance, written out."""
    kernels = [features @ features.T for features in prior.features]
    single = sum(size * kernel for size, kernel in zip(sizes.single, kernels, strict=True))
    pairs = list(itertools.combinations(kernels, 2))
    apart = math.exp(-3 / len(kernels))
    joint = np.ones_like(kernels[0])
    for position, kernel in enumerate(kernels):
        off = ~prior.active[:, position]
        joint = joint * (apart + (1 - apart) * (kernel + np.outer(off, off)))
    mean = sum(one * other for one, other in pairs) / len(pairs)
    return CONSTANT + single + sizes.pairs * mean + sizes.joint * joint + sizes.own * np.eye(prior.size)


def test_without_a_link_the_posterior_is_that_of_a_gaussian_process() -> None:
    prior, rng = _prior(30), np.random.default_rng(1)
    configs = rng.integers(30, size=80)
    configs[:30] = np.arange(30)
    scores = rng.normal(size=80)
    rows = Rows(configs, np.full(80, -1), scores, link=False, counted=False)
    sizes = initial_sizes([False, True, False], link=False, counted=False)
    found = fit(prior, rows, sizes)
    covariance = _covariance(prior, sizes)
    design = np.eye(30)[configs]
    gain = covariance @ design.T @ np.linalg.inv(design @ covariance @ design.T + sizes.noise * np.eye(80))
    assert np.allclose(found.mean, gain @ scores)
    assert np.allclose(found.variance, np.diag(covariance - gain @ design @ covariance))


def test_what_is_left_out_is_predicted_from_the_others() -> None:
    prior, rng = _prior(20), np.random.default_rng(1)
    scores = rng.normal(size=20)
    sizes = initial_sizes([False, True, False], link=False, counted=False)
    found = fit(prior, Rows(np.arange(20), np.full(20, -1), scores, link=False, counted=False), sizes)
    covariance = _covariance(prior, sizes) + sizes.noise * np.eye(20)
    for out in range(20):
        rest = np.delete(np.arange(20), out)
        weights = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, out])
        variance = covariance[out, out] - weights @ covariance[rest, out]
        density = -0.5 * (math.log(2 * math.pi * variance) + (scores[out] - weights @ scores[rest]) ** 2 / variance)
        assert found.left_out()[out] == pytest.approx(density)


def test_the_difficulty_of_examples_is_told_from_that_of_configurations() -> None:
    """Each configuration has seen other examples, so that its mean score says little."""
    rng = np.random.default_rng(0)
    factor = Factor("a", Choice(*range(12)), None)
    features = factor.features(np.arange(12.0)[:, None], np.arange(12.0))
    prior = Prior([features], np.ones((12, 1), dtype=bool))
    skill, ease = np.linspace(-0.5, 0.5, 12), rng.normal(0.0, 1.5, 30)
    rows = [(config, example) for config in range(12) for example in rng.choice(30, size=8, replace=False)]
    configs, examples = (np.array(column) for column in zip(*rows, strict=True))
    chance = 1 / (1 + np.exp(-(skill[configs] + ease[examples])))
    found = fit(
        prior, Rows(configs, examples, chance, link=True, counted=True), initial_sizes([False], link=True, counted=True)
    )
    means = [chance[configs == config].mean() for config in range(12)]
    assert np.corrcoef(found.examples, ease)[0, 1] > 0.9
    assert np.corrcoef(found.mean, skill)[0, 1] > np.corrcoef(means, skill)[0, 1] + 0.2


def test_few_looks_are_enough_to_see_that_examples_are_all_or_nothing() -> None:
    prior = _prior(60, seed=1)
    configs, examples = np.arange(60), np.tile(np.arange(20), 3)
    rows = Rows(configs, examples, (examples % 2).astype(float), link=True, counted=True)
    initial = initial_sizes([False, True, False], link=True, counted=True)
    sizes = estimated(prior, rows, initial)
    found = fit(prior, rows, sizes)
    assert sizes.examples > 3 * sizes.total  # each example was looked at three times, each configuration once
    assert found.examples[1::2].min() - found.examples[::2].max() > 3  # odds of twenty to one


@pytest.mark.parametrize("kind", ["single", "own", "nothing"])
def test_the_sizes_go_where_the_variance_is(kind: str) -> None:
    rng = np.random.default_rng(3)
    prior = _prior(150, seed=2)
    worth = {
        "single": prior.features[0] @ np.array([-2.0, -1.0, 0.0, 1.0, 2.0]),
        "own": 1.5 * rng.normal(size=150),
        "nothing": np.zeros(150),
    }[kind]
    configs = np.repeat(np.arange(150), 6)
    scores = (rng.random(900) < 1 / (1 + np.exp(-worth[configs]))).astype(float)
    rows = Rows(configs, np.full(900, -1), scores, link=True, counted=True)
    sizes = estimated(prior, rows, initial_sizes([False, True, False], link=True, counted=True))
    if kind == "single":
        assert sizes.single[0] > 1.5 * max(sizes.single[1:])
        assert sizes.single.sum() > sizes.own
    elif kind == "own":
        assert sizes.own > sizes.single.sum()
    else:
        assert sizes.total < 0.25


def test_the_advantage_tells_whether_variables_predict_anything() -> None:
    rng = np.random.default_rng(0)
    prior = _prior(80)
    for worth, better in (
        (prior.features[0] @ np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), True),
        (rng.normal(size=80), False),
    ):
        rows = Rows(np.arange(80), np.full(80, -1), worth + 0.3 * rng.normal(size=80), link=False, counted=False)
        sizes = estimated(prior, rows, initial_sizes([False, True, False], link=False, counted=False))
        assert (fit(prior, rows, sizes).advantage() > 10) is better


# Surfaces


def _grid(prior_factors: list[Factor], rules: list[Any]) -> Grid:
    levels = []
    for factor in prior_factors:
        values = factor.domain.candidates() or [0.1, 0.4, 0.9]
        columns = np.array([factor.encode(value) for value in values])
        levels.append(Levels(columns, factor.features(columns, factor.known(columns, np.random.default_rng(0)))))
    return Grid(levels, rules)


def _fitted_grid() -> tuple[Any, Grid]:
    factors = [
        Factor("a", Choice(*range(3)), None),
        Factor("b", Choice(*range(4)), None),
        Factor("c", Float(0, 1), None),
    ]
    grid = _grid(factors, [(), (), ((0, 1),)])
    chosen_levels = np.array(list(itertools.product(range(3), range(4), range(3))))
    places = grid.places(chosen_levels)
    off = places == grid.starts[-1]
    features = []
    for position, level in enumerate(grid.levels):
        rows = level.features[chosen_levels[:, position]]
        features.append(np.where(off[:, position, None], 0.0, rows))
    prior = Prior(features, ~off)
    rng = np.random.default_rng(0)
    scores = rng.normal(size=len(prior.active))
    sizes = initial_sizes([False, False, True], link=False, counted=False)
    rows = Rows(np.arange(prior.size), np.full(prior.size, -1), scores, link=False, counted=False)
    return fit(prior, rows, sizes), grid


def test_the_mean_surface_is_the_posterior_mean_without_the_own_effects() -> None:
    found, grid = _fitted_grid()
    every = np.array(list(itertools.product(range(3), range(4), range(3))))
    values = found.surface(grid, None).values(grid.places(every))
    covariance = _covariance(found.prior, found.sizes) - found.sizes.own * np.eye(found.prior.size)
    assert np.allclose(values, covariance @ found.coefficients)


def test_draws_have_the_posterior_mean_and_spread() -> None:
    found, grid = _fitted_grid()
    every = np.array(list(itertools.product(range(3), range(4), range(3))))
    places = grid.places(every)
    rng = np.random.default_rng(0)
    draws = np.array([found.surface(grid, rng).values(places) for _ in range(1500)])
    covariance = _covariance(found.prior, found.sizes) - found.sizes.own * np.eye(found.prior.size)
    posterior = covariance - covariance @ found.inverse @ covariance
    assert np.allclose(draws.mean(axis=0), covariance @ found.coefficients, atol=0.1)
    assert np.allclose(draws.std(axis=0), np.sqrt(np.diag(posterior)), rtol=0.15)


@given(seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_moves_are_worth_what_the_places_after_them_are(seed: int) -> None:
    found, grid = _fitted_grid()
    rng = np.random.default_rng(seed)
    surface = found.surface(grid, rng)
    rows = np.stack([rng.integers(size, size=5) for size in (3, 4, 3)], axis=1)
    rows[:, 0] = 1  # so that the third factor is active
    places = grid.places(rows)
    for factor in (1, 2):
        candidates = np.arange(len(grid.levels[factor].columns)) + grid.starts[factor]
        moved = surface.moves(places, surface.values(places), factor, candidates)
        for index, place in enumerate(candidates):
            there = places.copy()
            there[:, factor] = place
            assert np.allclose(moved[:, index], surface.values(there))


def test_a_climb_ends_where_no_step_is_better_and_finds_the_best_of_a_small_space() -> None:
    found, grid = _fitted_grid()
    every = np.array(list(itertools.product(range(3), range(4), range(3))))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        surface = found.surface(grid, rng)
        starts = np.stack([rng.integers(size, size=8) for size in (3, 4, 3)], axis=1)
        _, worth = climb(grid, [surface], starts, [0, 1, 2], lambda values: values[0])
        assert worth.max() == pytest.approx(surface.values(grid.places(every)).max())


# What is read


def _measured(study: Study, values: dict[str, Any], outcomes: dict[str, float], cost: float = 0.0) -> None:
    trial = study.ask(fixed=values)
    for example, score in outcomes.items():
        row = Evaluation(example_id=example, status="ok", scores={"score": score}, usage=Usage(calls=1, cost=cost))
        study.record(trial, row)


SPACE = Space.of(a=Choice(*range(6)), b=Choice(*range(6)), x=Float(0.0, 1.0))


def test_rows_of_failed_examples_and_of_no_trial_do_not_count() -> None:
    study = create_study(space=SPACE, sampler=RandomSampler(seed=0), direction="maximize")
    trial = study.ask()
    study.record(trial, Evaluation(example_id="e1", status="failed", error="LMTimeout"))
    study.record(None, Evaluation(example_id="e2", status="ok", scores={"score": 1.0}, fingerprint="x"))
    evidence = Evidence(("score",))
    evidence.read(study.view)
    assert evidence.count() == 0
    study.record(trial, Evaluation(example_id="e1", status="ok", scores={"score": 0.0}))
    evidence.read(study.view)
    assert evidence.count() == 1


def test_values_count_by_rank_and_infeasible_trials_are_the_last() -> None:
    study = create_study(sampler=RandomSampler(seed=0))
    for value, slack in ((1e300, 0.0), (2.0, 0.0), (1.0, 5.0), (1.5, 0.0)):
        domains = {"x": Float(0.0, 1e300)}
        study.add_trial(
            create_trial(value=value, params={"x": value}, distributions=domains, constraints={"slack": slack})
        )
    evidence = Evidence(())
    evidence.read(study.view)
    _, (rows,), _ = evidence.rows([1.0])
    assert np.argsort(-rows.scores).tolist() == [3, 1, 0, 2]
    assert np.abs(rows.scores).max() < 2


def test_a_trial_that_crashed_is_as_bad_as_anything_seen_and_costs_what_others_do() -> None:
    study = create_study(space=SPACE, sampler=RandomSampler(seed=0), direction="maximize")
    good = {"a": 0, "b": 0, "x": 0.5}
    _measured(study, good, {"e1": 1.0, "e2": 0.0}, cost=0.5)
    crashed = study.ask(fixed={**good, "a": 1})
    study.tell(crashed, state=TrialState.FAIL)
    unlucky = study.ask(fixed={**good, "a": 2})
    study.tell(unlucky, state=TrialState.FAIL, infrastructure=True)
    evidence = Evidence(("score",))
    evidence.read(study.view)
    assert evidence.count() == 3
    places, (rows,), costs = evidence.rows([-1.0])
    assert [evidence.configurations[place].first for place in places] == [0, 1]
    assert (rows.configs.tolist(), rows.scores.tolist(), rows.examples.tolist()) == ([0, 0, 1], [1, 0, 0], [0, 1, -1])
    assert (rows.link, rows.counted) == (True, True)
    assert costs.tolist() == [math.log(0.5)] * 3
    assert evidence.has({**good, "a": 1})
    assert not evidence.has({**good, "a": 2})
    values = Evidence(())
    values.read(study.view)
    assert [values.configurations[place].first for place in values.rows([-1.0])[0]] == [1]


def test_what_is_read_in_steps_is_what_is_read_at_once() -> None:
    study = create_study(space=SPACE, sampler=RandomSampler(seed=0), direction="maximize")
    stepwise, rng = Evidence(("score",)), random.Random(0)
    for index in range(40):
        trial = study.ask()
        for example in rng.sample(range(10), 3):
            study.record(trial, Evaluation(example_id=f"e{example}", status="ok", scores={"score": rng.random()}))
        if index % 3 == 0:
            study.tell(trial, state=TrialState.FAIL)
        stepwise.read(study.view)
    whole = Evidence(("score",))
    whole.read(study.view)
    for one, other in zip(stepwise.rows([-1.0])[1], whole.rows([-1.0])[1], strict=True):
        assert np.array_equal(one.configs, other.configs)
        assert np.array_equal(one.scores, other.scores)


@given(rows=st.permutations([(place, example) for place in range(4) for example in range(6)]), limit=st.integers(1, 24))
@settings(max_examples=60)
def test_which_of_the_rows_that_were_run_at_once_came_first_does_not_matter(
    rows: list[tuple[int, int]], limit: int
) -> None:
    found = []
    for order, stepwise in ((sorted(rows), False), (rows, True)):
        study = create_study(space=SPACE, sampler=RandomSampler(seed=0), direction="maximize")
        trials = [study.ask() for _ in range(4)]
        evidence = Evidence(("score",))
        for place, example in order:
            score = {"score": 0.1 * (example + place)}
            study.record(trials[place], Evaluation(example_id=f"e{example}", status="ok", scores=score))
            if stepwise:
                evidence.read(study.view)
        evidence.read(study.view)
        places, (measured,), _ = evidence.rows([-1.0], limit=limit)
        names = {number: name for name, number in evidence.examples.items()}
        examples = [names[number] for number in measured.examples.tolist()]
        found.append((places.tolist(), measured.configs.tolist(), examples, measured.scores.tolist()))
    assert found[0] == found[1]
    assert len(found[0][2]) == limit


@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=300), most=st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_a_fit_is_made_of_so_many_configurations_and_the_best_are_among_them(sizes: list[int], most: int) -> None:
    configs = np.repeat(np.arange(len(sizes)), np.array(sizes) + 1)
    scores = np.random.default_rng(0).random(len(configs))
    kept = chosen(Rows(configs, configs, scores, link=True, counted=False), len(sizes), most)
    assert len(kept) == len(set(kept.tolist())) == min(most, len(sizes))
    assert sorted(kept.tolist()) == kept.tolist()


# What is chosen


def _run(sampler: Sampler, budget: int, seed: int, *, values: bool = False) -> float:
    """The chance of the configuration that is best by the sum of its parts, found with noisy single examples."""
    rng = random.Random(seed)
    effect = {name: [rng.gauss(0, 1.2) for _ in range(6)] for name in "abcdef"}
    space = Space.of(**{name: Choice(*range(6)) for name in effect})
    study = create_study(space=space, sampler=sampler, direction="maximize")
    true = {}
    for number in range(budget):
        trial = study.ask()
        chance = 1 / (1 + math.exp(2 - sum(effect[name][value] for name, value in trial.params.items())))
        true[number] = chance
        score = float(rng.random() < chance)
        if values:
            study.tell(trial, score)
        else:
            study.record(trial, Evaluation(example_id=f"e{number % 40}", status="ok", scores={"score": score}))
    return sum(true[number] for number in range(budget - 30, budget)) / 30


def test_it_learns_from_single_examples_of_trials_that_are_still_running() -> None:
    ours = [_run(StructuredSampler(seed=seed), 150, seed) for seed in range(3)]
    chance = [_run(RandomSampler(seed=seed), 150, seed) for seed in range(3)]
    assert sum(ours) > sum(chance) + 0.6


def test_it_is_better_than_tpe_where_values_are_noise_and_parts() -> None:
    ours = [_run(StructuredSampler(seed=seed), 150, seed, values=True) for seed in range(3)]
    theirs = [_run(TPESampler(seed=seed), 150, seed, values=True) for seed in range(3)]
    assert sum(ours) > sum(theirs)


def test_the_cheaper_of_two_models_that_do_the_same_is_chosen() -> None:
    space = Space.of(model=ModelChoice("large", "small"), a=Choice(*range(5)), x=Float(0.0, 1.0))
    study = create_study(space=space, sampler=StructuredSampler(seed=0), direction="maximize")
    rng = random.Random(0)
    models = []
    for number in range(70):
        trial = study.ask()
        cost = {"large": 0.01, "small": 0.001}[trial.params["model"]]
        for example in range(2):
            score = float(rng.random() < 0.2 + 0.15 * trial.params["a"])
            row = Evaluation(
                example_id=f"e{example}{number}", status="ok", scores={"score": score}, usage=Usage(cost=cost)
            )
            study.record(trial, row)
        models.append(trial.params["model"])
    assert models[30:].count("small") > 0.8 * len(models[30:])


def test_in_a_space_that_is_used_up_the_best_comes_again() -> None:
    study = create_study(space=Space.of(a=Choice(*range(4))), sampler=StructuredSampler(seed=0, n_startup_trials=4))
    for _ in range(40):
        trial = study.ask()
        study.tell(trial, float(trial.params["a"]))
    assert [trial.params["a"] for trial in study.trials].count(0) > 15


def test_several_objectives_are_weighed_anew_for_each_trial() -> None:
    study = create_study(space=SPACE, sampler=StructuredSampler(seed=0), directions=["maximize", "minimize"])
    for _ in range(70):
        trial = study.ask()
        study.tell(trial, [float(trial.params["a"]), float(trial.params["a"] + trial.params["b"])])
    late = study.trials[30:]
    assert sum(trial.params["b"] == 0 for trial in late) > 0.5 * len(late), (
        "best in one objective, no matter in the other"
    )
    assert len({trial.params["a"] for trial in late if trial.params["b"] == 0}) >= 4


def test_beliefs_are_of_the_configurations_measured_and_best_first() -> None:
    sampler = StructuredSampler(seed=0)
    study = create_study(space=SPACE, sampler=sampler, direction="maximize")
    assert sampler.beliefs(study.view, SPACE) is None
    for a in range(6):
        _measured(study, {"a": a, "b": 0, "x": 0.5}, {f"e{i}": float(i < 2 * a) for i in range(10)})
    beliefs = sampler.beliefs(study.view, SPACE)
    assert beliefs is not None
    assert beliefs.trials == (5, 4, 3, 2, 1, 0)
    assert beliefs.counts.tolist() == [10.0] * 6
    assert beliefs.examples["e0"] > beliefs.examples["e9"]
    assert (np.diff(beliefs.mean) <= 0).all()
    draws = np.array([beliefs.draw(np.random.default_rng(seed)) for seed in range(400)])
    assert np.allclose(draws.mean(axis=0), beliefs.mean, atol=0.15)
    assert np.allclose(draws.std(axis=0), beliefs.deviation, rtol=0.2)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_beliefs_are_the_same_to_the_last_bit_in_whatever_order_rows_come(seed: int) -> None:
    rng = random.Random(seed)
    looks = [(place, f"e{rng.randrange(30)}", float(rng.random() < 0.6)) for place in range(24)]
    found = []
    for _ in range(2):
        sampler = StructuredSampler(seed=0)
        study = create_study(space=SPACE, sampler=sampler, direction="maximize")
        trials = [study.ask(fixed={"a": place % 6, "b": place % 4, "x": place / 24}) for place in range(24)]
        for place, example, score in looks:
            study.record(trials[place], Evaluation(example_id=example, status="ok", scores={"score": score}))
        for trial in rng.sample(trials, len(trials)):
            study.tell(trial, state=TrialState.PRUNED)
        found.append(sampler.beliefs(study.view, SPACE))
        rng.shuffle(looks)
    one, other = found
    assert one is not None
    assert other is not None
    assert one.trials == other.trials
    assert one.mean.tolist() == other.mean.tolist()
    assert one.covariance.tolist() == other.covariance.tolist()
    assert one.examples == other.examples


def test_many_options_and_deep_conditions_are_within_reach() -> None:
    space = Space(
        [
            Entry("kind", Choice("flat", "deep"), "flat"),
            Entry("kind.mode", Choice("x", "y"), "x", conditions=[Condition("kind", "deep")]),
            Entry("kind.mode.y.k", Int(0, 9), 0, conditions=[Condition("kind.mode", "y")]),
            Entry("many", Choice(*range(500)), 0),
            Entry("prompt", Prompt(), "Go."),
        ]
    )
    study = create_study(space=space, sampler=StructuredSampler(seed=1), direction="maximize")
    for index in range(80):
        study.pool("prompt").add(f"Prompt {index}")
    for _ in range(60):
        trial = study.ask()
        study.tell(trial, trial.params.get("kind.mode.y.k", -5) + trial.params["many"] / 100)
    late = study.trials[35:]
    assert sum("kind.mode.y.k" in trial.params for trial in late) > 0.7 * len(late)
    assert study.best_value > 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_startup_trials": 0}, "n_startup_trials must be a whole number >= 1, got 0"),
        ({"n_startup_trials": 2.5}, "got 2.5 (float)"),
        ({"objectives": "score"}, "objectives must be a list of names, got 'score'"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as error:
        StructuredSampler(**arguments)
    assert message in str(error.value)


def test_as_many_objectives_as_the_study_has() -> None:
    study = create_study(space=SPACE, sampler=StructuredSampler(objectives=["score", "cost"]))
    with pytest.raises(StudyError, match="names 2 objectives, and the study has 1"):
        study.ask()
