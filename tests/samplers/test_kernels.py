"""The kernels are densities: they sum to one, and what is drawn follows them."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from dspex.samplers.dimensions import dimension_of
from dspex.samplers.kernels import CategoryKernels, Kernels, NumberKernels, OrderKernels, SubsetKernels, _order
from dspex.samplers.parzen import Columns, Mixture, recency
from dspex.variables import Bool, Choice, Domain, Float, Int, ModelChoice, Order, Subset

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("points", [[0.5], [0.0, 1.0], [0.3, 0.3, 0.3], [0.01, 0.02, 0.5, 0.99]])
def test_a_number_has_mass_one(points: list[float]) -> None:
    kernels = NumberKernels(np.array(points)[:, None], np.zeros(1))
    grid = ((np.arange(20000) + 0.5) / 20000)[:, None]
    mass = np.exp(kernels.log_density(grid)).mean(axis=0)
    assert mass == pytest.approx(np.ones(len(points)), abs=2e-3)
    assert kernels.log_prior == 0.0


def test_two_numbers_are_the_product() -> None:
    points = np.array([[0.2, 0.9], [0.4, 0.1], [0.7, 0.5]])
    at = np.array([[0.25, 0.8], [0.9, 0.0]])
    narrowest = np.array([0.0, 0.35])
    both = NumberKernels(points, narrowest).log_density(at)
    apart = sum(NumberKernels(points[:, [i]], narrowest[[i]]).log_density(at[:, [i]]) for i in range(2))
    assert both == pytest.approx(apart)


def _with_prior(kernels: Kernels, points: np.ndarray) -> np.ndarray:
    return np.exp(np.insert(kernels.log_density(points), kernels.count, kernels.log_prior, axis=1))


@pytest.mark.parametrize(
    ("kernels", "values"),
    [
        (CategoryKernels(np.array([0.0, 2.0, 2.0]), 4), [[float(i)] for i in range(4)]),
        (
            SubsetKernels(np.array([[1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 0, 3),
            list(itertools.product([-1.0, 1.0], repeat=3)),
        ),
        (
            OrderKernels(np.array([[0.0, 1.0, 2.0, 3.0], [3.0, 1.0, 0.0, 2.0]])),
            [[float(place) for place in order] for order in itertools.permutations(range(4))],
        ),
    ],
    ids=["category", "subset", "order"],
)
def test_draws_follow_the_density(kernels: Kernels, values: list[list[float]]) -> None:
    density = _with_prior(kernels, np.array(values))
    assert density.sum(axis=0) == pytest.approx(np.ones(kernels.count + 1))
    for kernel in range(kernels.count + 1):
        drawn = kernels.draw(np.full(4000, kernel), RNG)
        share = [(drawn == np.array(value)).all(axis=1).mean() for value in values]
        assert share == pytest.approx(density[:, kernel], abs=0.03)


def test_draws_of_numbers_follow_the_density() -> None:
    kernels = NumberKernels(np.array([[0.05], [0.6], [0.9]]), np.zeros(1))
    edges = np.linspace(0, 1, 11)
    fine = ((np.arange(2000) + 0.5) / 2000)[:, None]
    density = _with_prior(kernels, fine).reshape(10, 200, 4).mean(axis=1) / 10
    for kernel in range(4):
        drawn = kernels.draw(np.full(20000, kernel), RNG)[:, 0]
        assert np.histogram(drawn, edges)[0] / 20000 == pytest.approx(density[:, kernel], abs=0.015)


def test_a_subset_keeps_to_its_sizes() -> None:
    kernels = SubsetKernels(np.array([[1.0, 1.0, -1.0, -1.0]]), 1, 2)
    drawn = kernels.draw(RNG.integers(0, 2, 2000), RNG)
    assert set((drawn > 0).sum(axis=1)) == {1, 2}


@pytest.mark.parametrize(
    "domain",
    [
        Float(-3.0, 7.0),
        Float(1e-9, 1e9, log=True),
        Float(0.0, 1.0, step=0.1),
        Float(-1e308, 1e308),
        Int(-3, 12),
        Int(0, 10**12, step=7),
        Int(1, 10**6, log=True),
        Bool(),
        Choice("a", None, 1, 1.0, True, [1], {"b": (2,)}),
        ModelChoice("openai/a", "local/b"),
        Subset(*"abcde", min_size=1, max_size=3),
        Order(*"abcde"),
    ],
    ids=repr,
)
def test_columns_and_back(domain: Domain[object]) -> None:
    dimension = dimension_of(domain, None)
    assert dimension is not None
    rng = random.Random(0)
    for _ in range(50):
        value = domain.sample(rng)
        columns = dimension.encode(value)
        assert columns is not None
        assert len(columns) == dimension.width
        back = dimension.decode(np.array(columns))
        if isinstance(value, float):
            assert back == pytest.approx(value, rel=1e-9, abs=1e-300)
        else:
            assert domain.encode(back) == domain.encode(value)  # which tells 1 and True apart
    assert dimension.encode(None) is None or domain.contains(None)


def test_what_is_outside_the_domain_is_left_out() -> None:
    for domain, value in ((Float(0.0, 1.0), 2.0), (Int(1, 3), 9), (Choice("a"), "b")):
        dimension = dimension_of(domain, None)
        assert dimension is not None
        assert dimension.encode(value) is None


def test_a_mixture_weighs_recent_rows_more() -> None:
    dimension = dimension_of(Choice("a", "b"), None)
    assert dimension is not None
    rows = np.repeat([[0.0], [1.0]], 50, axis=0)
    mixture = Mixture(Columns([dimension]), rows)
    drawn = mixture.draw(20000, RNG)
    density = np.exp(mixture.log_density(np.array([[0.0], [1.0]])))
    assert density.sum() == pytest.approx(1.0)
    assert (drawn[:, 0] == 0).mean() == pytest.approx(density[0], abs=0.02)
    assert density[0] < 0.4
    assert np.exp(Mixture(Columns([dimension]), rows[:0]).log_density(rows[:1])) == pytest.approx(0.5)


def test_equal_numbers_are_ordered_by_their_place() -> None:
    middles = np.array([[0.5, 0.0, 1.0, 0.5, 0.0, 0.25], [0.9, 0.7, 0.5, 0.3, 0.1, 0.1]])
    in_rows = np.argsort(middles, axis=1, kind="stable")
    assert (_order(middles) == np.add(in_rows, [[0], [6]])).all()


def test_a_point_that_only_the_prior_explains_has_its_density() -> None:
    dimension = dimension_of(Float(0.0, 1.0), None)
    assert dimension is not None
    mixture = Mixture(Columns([dimension]), np.full((200, 1), 0.001))
    assert mixture.log_density(np.array([[1.0]])) == pytest.approx(recency(200).log_prior)
