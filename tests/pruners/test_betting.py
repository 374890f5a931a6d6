"""The bets behind racing: over every order there can be, what is claimed of them is so exactly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from dspex.pruners.betting import wealth

Floats = NDArray[np.float64]


def every_order(values: Floats, rooms: Floats, weights: Floats) -> list[tuple[float, Floats]]:
    """The chance and the wealth of each order in which examples can be drawn by weight."""
    found = []
    for order in map(list, itertools.permutations(range(len(values)))):
        left = np.cumsum(weights[order][::-1])[::-1]
        chance = float(np.prod(weights[order] / left))
        found.append((chance, wealth(values[order], rooms=rooms[order], weights=weights[order])))
    return found


populations = st.lists(
    st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.3]), st.sampled_from([0.2, 1.0])),
    min_size=2,
    max_size=5,
)


@given(populations, st.sampled_from([0.5, 0.3, 0.2]))
@settings(max_examples=60, deadline=None)
def test_of_what_is_not_negative_nothing_can_be_made(
    population: list[tuple[float, float, float]], alpha: float
) -> None:
    values, more, weights = (np.array(column) for column in zip(*population, strict=True))
    values = values - min(values.sum(), 0.0) / len(values)  # the sum is zero at least
    orders = every_order(values, values + more, weights)
    assert sum(chance for chance, _ in orders) == pytest.approx(1.0)
    for draws in range(len(values)):  # whenever one stops
        assert sum(chance * path[draws] for chance, path in orders) <= 1 + 1e-9
    assert sum(chance for chance, path in orders if path.max() >= 1 / alpha) <= alpha + 1e-9


def test_the_bets_are_fair() -> None:
    values, weights = np.array([-1.0, -1.0, 0.0, 1.0, 1.0]), np.array([1.0, 0.3, 2.0, 1.0, 0.5])
    orders = every_order(values, np.ones(5), weights)
    for draws in range(5):
        assert sum(chance * path[draws] for chance, path in orders) == pytest.approx(1.0)


@pytest.mark.parametrize("count", [20, 50, 300])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_looking_after_each_draw_keeps_the_rate(count: int, alpha: float) -> None:
    rng = np.random.default_rng(0)
    runs = 1500
    for weights in (np.ones(count), rng.uniform(0.2, 1.0, count)):
        values = np.repeat([1.0, -1.0, 0.0], [count // 4, count // 4, count - 2 * (count // 4)])
        wrong = 0
        for _ in range(runs):
            order = np.argsort(rng.exponential(size=count) / weights)
            path = wealth(values[order], rooms=np.ones(count), weights=weights[order])
            wrong += path.max() >= 1 / alpha
        # The seed is fixed; the margin is four deviations of the number of wrong runs, if the rate were alpha.
        assert wrong <= runs * alpha + 4 * math.sqrt(runs * alpha)
        assert wrong > 0, "a bound that nothing ever reaches shows nothing"


def test_what_cannot_be_made_up_for_any_more_is_certain() -> None:
    assert math.isinf(wealth(np.full(11, -1.0), rooms=np.ones(20))[-1])
    assert not math.isinf(wealth(np.full(10, -1.0), rooms=np.ones(20))[-1])
    assert math.isinf(wealth(np.array([-0.1, 0.0]), rooms=np.array([1.0, 0.0]))[-1]), "all were drawn"
    assert wealth(np.array([0.0, 0.0]), rooms=np.zeros(2)).tolist() == [1.0, 1.0]


def test_a_clear_difference_is_seen_soon_and_a_small_one_late() -> None:
    rng = np.random.default_rng(2)

    def needed(lost: int, won: int) -> float:
        values = np.repeat([-1.0, 1.0, 0.0], [lost, won, 50 - lost - won])
        counts = []
        for _ in range(200):
            path = wealth(rng.permutation(values), rooms=np.ones(50))
            counts.append(int((path >= 20).argmax()) + 1)
        return float(np.mean(counts))

    assert needed(30, 3) < 13
    assert needed(30, 3) < needed(20, 8) < needed(14, 11) <= 50


def test_nothing_drawn_is_nothing_won() -> None:
    assert wealth(np.zeros(0), rooms=np.ones(3)).shape == (0,)
