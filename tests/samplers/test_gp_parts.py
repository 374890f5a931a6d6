"""The parts of the Gaussian process sampler, held against closed forms, scipy and finite differences."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from dspex.samplers.gp_improvement import Chebyshev, Nothing, Single
from dspex.samplers.gp_observations import MOST, Observations, Standard, milestone
from dspex.samplers.gp_process import (
    FREEDOM,
    Columns,
    Process,
    fit_hyperparameters,
    inverse_of_lower,
    matern,
    negative_log_posterior,
)
from dspex.samplers.layout import Layout
from dspex.samplers.normal import log_cdf, log_improvement
from dspex.samplers.presence import Presence, rules_of
from dspex.samplers.quasi_newton import minimize
from dspex.testing.samplers import CONDITIONAL
from dspex.testing.strategies import spaces
from dspex.trials import FrozenTrial, StudyDirection, TrialState, create_trial
from dspex.variables import Bool, Choice, Domain, Float, Int, Order, Pool, Prompt, Space, Subset

MIXED: dict[str, Domain[Any]] = {
    "x": Float(-5.0, 5.0),
    "rate": Float(1e-5, 1.0, log=True),
    "k": Int(1, 9),
    "kind": Choice("a", "b", "c"),
    "tools": Subset("u", "v", "w"),
    "order": Order("p", "q", "r"),
}


def _columns(count: int, seed: int = 0) -> Columns:
    layout = Layout(MIXED, {})
    rows = layout.draw(count, np.random.default_rng(seed))
    return layout.columns(rows, np.ones((count, len(layout.paths)), dtype=bool))


def _theta(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return np.append(rng.normal(0.0, 1.0, len(MIXED)), rng.uniform(-9.0, -1.0))


def _slope(function: Any, point: Any, step: float = 1e-6) -> Any:
    found = []
    for index in range(len(point)):
        off = np.zeros(len(point))
        off[index] = step
        found.append((function(point + off) - function(point - off)) / (2 * step))
    return np.array(found)


# The normal distribution


def test_logarithms_of_the_normal_distribution_are_those_of_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    z = np.concatenate([np.linspace(-50, 8, 2001), -(10.0 ** np.linspace(2, 6, 20))])
    assert log_cdf(z)[0] == pytest.approx(special.log_ndtr(z), rel=1e-12, abs=1e-15)
    near = np.linspace(-5, 9, 300)
    direct = np.log(np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * special.ndtr(near))
    assert log_improvement(near)[0] == pytest.approx(direct, rel=1e-9, abs=1e-12)


def test_logarithms_of_the_normal_distribution_have_these_slopes() -> None:
    z = np.concatenate([np.linspace(-130, 9, 400), [-1e4, -1e6]])
    for function in (log_cdf, log_improvement):
        value, slope = function(z)
        assert np.isfinite(value).all()
        assert (np.diff(value[:400]) >= 0).all()
        step = 1e-6 * np.maximum(np.abs(z), 1)
        assert slope == pytest.approx((function(z + step)[0] - function(z - step)[0]) / (2 * step), rel=1e-4, abs=1e-8)
    # Far out the improvement is phi(z) / z^2 (1 - 3 / z^2 + ...).
    far = -0.5 * 1e8 - 0.5 * math.log(2 * math.pi) - 2 * math.log(1e4)
    assert log_improvement(np.array([-1e4]))[0][0] == pytest.approx(far, rel=1e-14)


# Minimising


def test_the_minimum_of_a_curved_valley() -> None:
    def valley(x: Any) -> tuple[float, Any]:
        a, b = x
        return 100 * (b - a * a) ** 2 + (1 - a) ** 2, np.array(
            [-400 * a * (b - a * a) - 2 * (1 - a), 200 * (b - a * a)]
        )

    low, high = np.full(2, -2.0), np.full(2, 2.0)
    point, value = minimize(valley, np.array([-1.2, 1.0]), low, high, steps=200, tolerance=1e-14)
    assert point == pytest.approx([1.0, 1.0], abs=1e-4)
    assert value < 1e-8
    point, _ = minimize(valley, np.array([-1.2, 1.0]), low, np.array([0.5, 2.0]), steps=200, tolerance=1e-14)
    assert point == pytest.approx([0.5, 0.25], abs=1e-4)  # on the bound


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_quadratic_in_a_box_ends_where_no_slope_leads_on(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(4, 4))
    matrix, middle = root @ root.T + 0.1 * np.eye(4), rng.normal(size=4)
    low, high = -0.5 * np.ones(4), 0.5 * np.ones(4)
    point, _ = minimize(
        lambda x: (0.5 * float((x - middle) @ matrix @ (x - middle)), matrix @ (x - middle)),
        rng.uniform(-0.5, 0.5, 4),
        low,
        high,
        steps=300,
        tolerance=1e-13,
    )
    gradient = matrix @ (point - middle)
    assert ((point >= low) & (point <= high)).all()
    projected = np.clip(point - gradient, low, high) - point
    assert projected == pytest.approx(np.zeros(4), abs=2e-3)


def test_what_is_not_finite_is_not_stepped_to() -> None:
    point, value = minimize(
        lambda x: (math.inf if x[0] > 1 else -float(x[0]), np.array([-1.0])),
        np.array([0.0]),
        np.array([-3.0]),
        np.array([3.0]),
        steps=20,
        longest=2.0,
    )
    assert point[0] <= 1
    assert value <= -0.7


# The process


@pytest.mark.parametrize("seed", range(3))
def test_the_posterior_density_has_this_gradient(seed: int) -> None:
    distances = _columns(12).distances()
    targets = np.random.default_rng(seed).normal(size=12)
    theta = _theta(seed)
    _, gradient = negative_log_posterior(theta, distances, targets)
    expected = _slope(lambda one: negative_log_posterior(one, distances, targets)[0], theta)
    assert gradient == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_marginal_likelihood_is_students() -> None:
    columns, targets = _columns(9), np.random.default_rng(1).normal(size=9)
    distances = columns.distances()
    one, two = _theta(1), _theta(1)
    two[-1] += 0.7  # only the noise differs, so only its prior does

    def density(theta: Any) -> float:
        squares = np.tensordot(np.exp(theta[:-1]), distances, 1)
        shape = matern(squares)[0] + np.exp(theta[-1]) * np.eye(9)
        spread = float(targets @ np.linalg.solve(shape, targets))
        student = -0.5 * (FREEDOM + 9) * math.log(1 + spread / FREEDOM) - 0.5 * np.linalg.slogdet(shape)[1]
        return float(student - 0.5 * ((theta[-1] - math.log(1e-4)) / 3.0) ** 2)

    difference = negative_log_posterior(one, distances, targets)[0] - negative_log_posterior(two, distances, targets)[0]
    assert difference == pytest.approx(density(two) - density(one), rel=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 15), st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_the_posterior_is_the_textbooks(seed: int, count: int, waiting: int) -> None:
    rng = np.random.default_rng(seed)
    theta, everything = _theta(seed), _columns(count + waiting + 5, seed)
    known, pending, where = (
        everything.chosen(np.arange(*ends))
        for ends in ((count,), (count, count + waiting), (count + waiting, count + waiting + 5))
    )
    targets = rng.normal(size=count)
    process = Process(known, targets, theta, pending)
    mean, deviation = process.posterior(where)

    def covariance(one: Columns, other: Columns) -> Any:
        return matern(one.between(other, np.exp(theta[:-1])))[0]

    noise = math.exp(theta[-1])
    matrix = covariance(known, known) + noise * np.eye(count)
    assert mean == pytest.approx(covariance(where, known) @ np.linalg.solve(matrix, targets), rel=1e-5, abs=1e-6)
    seen = everything.chosen(np.arange(count + waiting))
    matrix = covariance(seen, seen) + noise * np.eye(count + waiting)
    cross = covariance(seen, where)
    variance = process.scale * (1 - (cross * np.linalg.solve(matrix, cross)).sum(axis=0))
    assert deviation**2 == pytest.approx(variance, rel=1e-4, abs=1e-6)


def test_mean_and_deviation_have_these_slopes() -> None:
    columns = _columns(14)
    process = Process(columns, np.random.default_rng(0).normal(size=14), _theta(0), _columns(2, seed=5))
    where = _columns(1, seed=9)
    along = np.array([0, 1])
    mean, deviation, by_mean, by_deviation = process.slopes(where, along)
    assert (mean, deviation) == pytest.approx(tuple(float(one[0]) for one in process.posterior(where)))

    def at(shares: Any, which: int) -> float:
        numbers = where.numbers.copy()
        numbers[0, along] = shares
        moved = Columns(numbers, where.codes, where.of_number, where.of_code, where.variables)
        return float(process.posterior(moved)[which][0])

    here = where.numbers[0, along]
    assert by_mean == pytest.approx(_slope(lambda shares: at(shares, 0), here), rel=1e-4, abs=1e-7)
    assert by_deviation == pytest.approx(_slope(lambda shares: at(shares, 1), here), rel=1e-4, abs=1e-7)


def test_distances_by_variable_add_up_and_covariances_are_covariances() -> None:
    columns, theta = _columns(40), _theta(4)
    relevance = np.exp(theta[:-1])
    squares = columns.between(columns, relevance)
    assert squares == pytest.approx(np.tensordot(relevance, columns.distances(), 1), abs=1e-12)
    assert np.linalg.eigvalsh(matern(squares)[0]).min() > -1e-9
    assert columns.distances().max() <= 1.0 + 1e-12  # each variable's own unit


@pytest.mark.parametrize("size", [1, 5, 49, 200])
def test_the_inverse_of_a_lower_triangle(size: int) -> None:
    root = np.tril(np.random.default_rng(0).normal(size=(size, size))) / size + np.eye(size)
    inverse = inverse_of_lower(root)
    assert inverse @ root == pytest.approx(np.eye(size), abs=1e-9)
    assert (np.triu(inverse, 1) == 0).all()


def test_what_matters_is_found_relevant_and_noise_is_found() -> None:
    columns, rng = _columns(60), np.random.default_rng(0)
    smooth = np.sin(5 * columns.numbers[:, 0]) + (columns.codes[:, 0] == 1)
    theta = fit_hyperparameters(columns, Standard(smooth).targets, rng)
    assert min(theta[0], theta[3]) > max(theta[[1, 2, 4, 5]]) + 2
    noisy = fit_hyperparameters(columns, Standard(smooth + rng.normal(0, 0.5, 60)).targets, rng)
    assert noisy[-1] > theta[-1] + 2


# Improvement


@given(
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.floats(-3.0, 3.0),
)
@example(3, 0, 1.0)  # the third is known much better than the others
@settings(max_examples=40, deadline=None)
def test_what_is_hoped_for_has_these_slopes(objectives: int, seed: int, best: float) -> None:
    rng = np.random.default_rng(seed)
    weights, ideal = rng.uniform(0.1, 2.0, objectives), rng.normal(size=objectives)
    mean, deviation = rng.normal(size=(objectives, 1)), rng.uniform(0.05, 2.0, (objectives, 1))
    improvement = Single(best, noise=weights[0]) if objectives == 1 else Chebyshev(weights, ideal, best)
    _, by_mean, by_deviation = improvement(mean, deviation)

    def at(point: Any) -> float:
        middle, width = point.reshape(2, objectives, 1)
        return float(improvement(middle, width)[0][0])

    expected = _slope(at, np.concatenate([mean[:, 0], deviation[:, 0]]))
    assert np.concatenate([by_mean[:, 0], by_deviation[:, 0]]) == pytest.approx(expected, rel=1e-2, abs=1e-2)


def test_the_integral_over_one_objective_is_the_closed_form() -> None:
    mean, deviation = np.array([[-3.0, 0.0, 2.0, 9.0]]), np.array([[0.5, 1.0, 0.3, 0.4]])
    scalar = Chebyshev(np.array([2.0]), np.array([0.5]), 2.0)
    # 2 (f - 0.5) below 2 is f below 1.5, and every improvement is twice as large.
    assert scalar(mean, deviation)[0] == pytest.approx(Single(1.5)(mean, deviation)[0] + math.log(2), rel=1e-3)


def test_the_integral_over_several_objectives_is_what_draws_say() -> None:
    rng = np.random.default_rng(0)
    scalar = Chebyshev(np.array([1.0, 0.5, 2.0]), np.array([-1.0, 0.0, 0.3]), 1.2)
    mean, deviation = np.array([[-0.5], [1.0], [0.5]]), np.array([[0.5], [1.0], [0.4]])
    draws = mean + deviation * rng.standard_normal((3, 400_000))
    expected = np.maximum(1.2 - scalar.scalarized(draws), 0.0).mean()
    assert math.exp(scalar(mean, deviation)[0][0]) == pytest.approx(expected, rel=0.02)


def test_without_anything_feasible_there_is_nothing_to_improve_on() -> None:
    value, by_mean, by_deviation = Nothing()(np.zeros((2, 3)), np.ones((2, 3)))
    assert value.tolist() == [0.0] * 3
    assert not by_mean.any()
    assert not by_deviation.any()


# Layouts and rules


@given(spaces(max_size=6), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_rows_are_configurations_of_the_space(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    domains = {path: space[path].domain for path in space.tunable}
    pools: dict[str, Pool] = {}
    for path in space.open_ended:
        pools[path] = Pool(path, domains[path])  # type: ignore[arg-type]
        pools[path].add(domains[path].first())  # type: ignore[union-attr]
    layout = Layout(domains, pools)  # type: ignore[arg-type]
    tree = layout.tree(rules_of(space, {}))
    rows = layout.draw(8, rng)
    near = [layout.neighbours(rows[0], variable, rng) for variable in range(len(layout.paths))]
    rows = np.concatenate([rows, *near])
    active = tree.active(rows)
    for row, here in zip(rows, active, strict=True):
        values = {path: layout.decode(row, variable) for variable, path in enumerate(layout.paths) if here[variable]}
        for path, value in values.items():
            assert (value in pools[path]) if path in pools else domains[path].contains(value)  # type: ignore[union-attr]
        untunable = {path: entry.default for path, entry in space.items() if not entry.tunable}
        assert set(values) == set(space.active({**untunable, **values})) & set(layout.paths)
        encoded = layout.encode(values)
        assert encoded is not None
        assert (encoded[1] == here).all()
    for variable, changed in enumerate(near):
        same = changed == rows[0]
        assert not same.all(axis=1).any()
        assert np.delete(same, layout.spans[variable], axis=1).all()


def test_a_variable_that_is_not_active_makes_no_difference() -> None:
    layout = Layout({path: CONDITIONAL[path].domain for path in CONDITIONAL.tunable if path != "model"}, {})  # type: ignore[misc]
    tree = layout.tree({**rules_of(CONDITIONAL, {})})
    rows = layout.draw(30, np.random.default_rng(0))
    one = rows[~tree.active(rows)[:, layout.paths.index("answer.stepwise.temperature")]][:1]
    other = one.copy()
    other[:, layout.spans[layout.paths.index("answer.stepwise.temperature")]] = 0.123
    first, second = (layout.columns(row, tree.active(row)) for row in (one, other))
    assert first.between(second, np.ones(len(layout.paths)))[0, 0] == 0.0
    assert layout.key(one[0], tree.active(one)[0]) == layout.key(other[0], tree.active(other)[0])


def _trial(**values: Any) -> FrozenTrial:
    domains: dict[str, Domain[Any]] = {
        "kind": Choice("a", "b", "c"),
        "deep": Bool(),
        "depth": Int(1, 9),
        "x": Float(0.0, 1.0),
    }
    return create_trial(value=0.0, params=values, distributions={path: domains[path] for path in values})


def test_rules_are_learned_from_what_trials_had() -> None:
    presence = Presence()
    for trial in (
        _trial(kind="a", deep=True, depth=3, x=0.1),
        _trial(kind="a", deep=False, x=0.3),
        _trial(kind="b", x=0.2),
        _trial(kind="c", deep=True, depth=2, x=0.3),
    ):
        presence.add(trial)
    rules = presence.rules()
    assert (rules["kind"], rules["x"]) == ((), ())
    assert rules["deep"] == (("kind", ("a", "c")),)
    assert rules["depth"] == (("deep", (True,)),)
    presence.add(_trial(kind="a", x=0.2))  # without deep: nobody knows any more
    assert presence.rules()["deep"] is None


def test_rules_of_a_space_follow_what_is_known() -> None:
    rules = rules_of(CONDITIONAL, {"answer": "direct"})
    assert rules["answer.stepwise.temperature"] is None
    assert rules["answer.direct.instructions"] == ()
    assert rules_of(CONDITIONAL, {})["answer.stepwise.deep.depth"] == (
        ("answer", ("stepwise",)),
        ("answer.stepwise.deep", (True,)),
    )


def test_what_hangs_on_a_variable_that_is_not_written_is_not_there() -> None:
    layout = Layout({"style": Prompt(), "x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, {})
    assert layout.paths == ["x", "y"]
    tree = layout.tree({"style": (), "x": (("style", ("short",)),), "y": ()})
    assert tree.active(np.zeros((2, 2))).tolist() == [[False, True]] * 2


# Observations


def test_milestones_are_a_sixteenth_apart_and_never_go_back() -> None:
    found = [milestone(count) for count in range(3000)]
    assert found[:32] == list(range(32))
    assert all(one <= other for one, other in itertools.pairwise(found))
    assert all(count - one < max(count / 16, 1) and count - one < 32 for count, one in enumerate(found))


def test_a_process_sees_the_best_and_what_says_most() -> None:
    observations = Observations({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, {}, [StudyDirection.MAXIMIZE])
    rng = random.Random(0)
    trials = []
    for number in range(700):
        # Most are in a corner; a few are anywhere.
        width = 1.0 if number % 20 == 0 else 0.05
        x, y = rng.random() * width, rng.random() * width
        trials.append(FrozenTrial(number=number, state=TrialState.COMPLETE, params={"x": x, "y": y}, values=(x + y,)))
    observations.read(trials)
    seen = observations.trials(observations.places)
    assert len(seen) <= MOST
    assert {trial.number for trial in sorted(trials[:672], key=lambda trial: -(trial.values or (0.0,))[0])[:112]} <= {
        trial.number for trial in seen
    }
    far = range(0, 672, 20)
    assert sum(trial.number in far for trial in seen) > 0.9 * len(far)
    # Read at once or one by one, it is the same.
    again = Observations({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, {}, [StudyDirection.MAXIMIZE])
    for count in range(0, 701, 7):
        again.read(trials[:count])
    assert again.places.tolist() == observations.places.tolist()


@given(st.lists(st.one_of(st.floats(), st.sampled_from([math.inf, -math.inf, 1e308, -1e308, 5e-324])), max_size=12))
def test_standard_units_are_finite_and_keep_the_order(values: list[float]) -> None:
    standard = Standard(np.array(values, dtype=float))
    assert np.isfinite(standard.targets).all()
    known = [(value, target) for value, target in zip(values, standard.targets, strict=True) if not math.isnan(value)]
    for (one, first), (other, second) in itertools.combinations(known, 2):
        assert first == second or (one < other) == (first < second)


def test_standard_units_of_a_limit() -> None:
    standard = Standard(np.array([2.0, 4.0, 6.0]))
    assert standard.of(4.0) == pytest.approx(0.0)
    assert standard.of(2.0) == pytest.approx(standard.targets[0])


def test_a_prompt_that_is_new_is_as_far_as_any_other() -> None:
    pool = Pool("p", Prompt())
    ids = [pool.add(text).id for text in ("one", "two")]
    layout = Layout({"p": Prompt()}, {"p": pool})
    rows = np.array([layout.encode({"p": one})[0] for one in ids])  # type: ignore[index]
    new = layout.encode({"p": pool.add("three").id})
    assert new is not None
    had = np.ones((2, 1), dtype=bool)
    distances = layout.columns(rows, had).between(layout.columns(new[0][None], had[:1]), np.ones(1))
    assert distances.ravel().tolist() == [1.0, 1.0]
