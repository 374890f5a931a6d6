"""Intervals and tests against known values, brute force, and simulation of their promises."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dspex.evaluate import mean_interval, paired_test, score_interval, wilson_interval
from dspex.evaluate.statistics import _t_quantile

finite = st.floats(-100, 100, allow_nan=False)


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    # From the tables in every textbook.
    [(0.975, 1, 12.706), (0.975, 5, 2.571), (0.975, 30, 2.042), (0.95, 10, 1.812), (0.995, 3, 5.841)],
)
def test_t_quantiles_match_the_tables(probability: float, freedom: int, expected: float) -> None:
    assert _t_quantile(probability, freedom) == pytest.approx(expected, abs=5e-4)


def test_t_quantile_becomes_normal() -> None:
    assert _t_quantile(0.975, 1_000_000) == pytest.approx(1.959966, abs=1e-5)


def test_mean_interval_is_students() -> None:
    # Mean 3, standard deviation 1.5811, t(4) = 2.7764.
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((1.0368, 4.9632), abs=1e-4)
    assert mean_interval([1, 2, 3, 4, 5], confidence=0.9) == pytest.approx((1.4926, 4.5074), abs=1e-4)


def test_mean_interval_says_when_it_knows_nothing() -> None:
    assert mean_interval([0.3]) == (-math.inf, math.inf)
    assert all(map(math.isnan, mean_interval([])))


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(15, 50, (0.1910, 0.4375)), (0, 20, (0.0, 0.1611)), (20, 20, (0.8389, 1.0)), (1, 1, (0.2065, 1.0))],
)
def test_wilson_interval_matches_published_values(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=1e-4)


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0.5, 0.99))
def test_wilson_interval_holds_the_share_and_stays_inside(wins: int, more: int, confidence: float) -> None:
    trials = wins + more
    low, high = wilson_interval(wins, trials, confidence=confidence)
    assert 0 <= low <= wins / trials <= high <= 1
    mirrored = wilson_interval(trials - wins, trials, confidence=confidence)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_wilson_interval_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match=r"successes must lie in 0\.\.trials, got successes=5 and trials=4"):
        wilson_interval(5, 4)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_share(confidence: float) -> None:
    with pytest.raises(ValueError, match=rf"between 0 and 1, got {confidence}; write confidence=0\.95"):
        mean_interval([1.0, 2.0], confidence=confidence)


def test_score_interval_picks_the_fitting_one() -> None:
    assert score_interval([1.0, 0.0, 1.0, 1.0]) == wilson_interval(3, 4)
    assert score_interval([1.0, 0.5, 1.0, 1.0]) == mean_interval([1.0, 0.5, 1.0, 1.0])


def _brute_force(differences: list[float]) -> float:
    exact = [Fraction(value) for value in differences]
    observed = abs(sum(exact))
    flips = list(itertools.product((1, -1), repeat=len(exact)))
    far = sum(abs(sum(sign * value for sign, value in zip(signs, exact, strict=True))) >= observed for signs in flips)
    return far / len(flips)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=10))
def test_exact_p_value_is_the_share_of_sign_flips(differences: list[float]) -> None:
    test = paired_test(differences, [0.0] * len(differences), resamples=10)
    assert test.method == "exact"
    assert test.p_value == pytest.approx(_brute_force(differences))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=9))
def test_swapping_the_programs_mirrors_everything(pairs: list[tuple[float, float]]) -> None:
    new, old = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = paired_test(new, old, resamples=200), paired_test(old, new, resamples=200)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_value == pytest.approx(back.p_value)
    assert 0 < there.p_value <= 1


def test_the_sign_test_is_a_special_case() -> None:
    # 9 wins, 1 loss, any number of ties: 2 * (C(10,0) + C(10,1)) / 2^10, as McNemar's exact test has it.
    new = [1] * 9 + [0] + [1] * 500
    old = [0] * 9 + [1] + [1] * 500
    test = paired_test(new, old)
    assert test.method == "exact"
    assert test.p_value == pytest.approx(22 / 1024)
    assert test.significant


def test_many_different_values_are_simulated_from_the_seed() -> None:
    rng = np.random.default_rng(5)
    new, old = rng.random(60) + 0.1, rng.random(60)
    first, again = paired_test(new, old), paired_test(new, old)
    assert first.method == "simulated"
    assert first == again
    assert paired_test(new, old, seed=1).p_value == pytest.approx(first.p_value, abs=0.02)


def test_a_simulated_p_value_is_never_zero() -> None:
    rng = np.random.default_rng(5)
    values = rng.random(80)
    assert paired_test(values + 10, rng.random(80), resamples=999).p_value == 1 / 1000


def test_simulated_and_exact_p_values_agree() -> None:
    rng = np.random.default_rng(2)
    differences = rng.normal(0.3, 1.0, size=14)
    exact = paired_test(differences, np.zeros(14))
    assert exact.method == "exact"
    signs = rng.choice([-1.0, 1.0], size=(200_000, 14))
    share = float((np.abs(signs @ differences) >= abs(differences.sum())).mean())
    assert exact.p_value == pytest.approx(share, abs=0.005)


def test_no_difference_is_no_evidence() -> None:
    test = paired_test([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (test.difference, test.p_value, test.significant) == (0.0, 1.0, False)
    low, high = test.interval
    assert low < 0 < high  # three equal answers do not prove that two programs are the same


def test_one_example_has_no_interval_of_its_own() -> None:
    assert paired_test([0.7], [0.2]).interval == (-math.inf, math.inf)


def test_str_is_one_line_a_person_can_read() -> None:
    assert str(paired_test([1] * 8, [0] * 8)) == "+1.000 [+0.428, +1.000], p = 0.00781 on 8 examples"


@pytest.mark.parametrize(
    ("new", "old", "message"),
    [
        ([1.0], [1.0, 0.0], "the same examples in the same order, got 1 and 2 values"),
        ([], [], "nothing to compare; give at least one example"),
        ([math.nan], [1.0], "finite numbers only; leave failed examples out of both"),
    ],
)
def test_what_cannot_be_compared(new: list[float], old: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_test(new, old)


# The promise of a 95 % interval is that it holds the truth 95 times in 100. Simulated, with room for chance:
# 600 trials have a standard error of about 0.9 points.
TRIALS = 600


@pytest.mark.parametrize("count", [10, 40])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_mean_interval_covers_the_mean(kind: str, count: int) -> None:
    rng = np.random.default_rng(11)
    draw = {"normal": lambda: rng.normal(0.5, 1, count), "uniform": lambda: rng.random(count)}[kind]
    hits = sum(low <= 0.5 <= high for low, high in (mean_interval(draw()) for _ in range(TRIALS)))
    assert 0.92 <= hits / TRIALS <= 0.985


@pytest.mark.parametrize(("share", "count"), [(0.5, 20), (0.9, 30), (0.97, 50)])
def test_wilson_interval_covers_the_share(share: float, count: int) -> None:
    rng = np.random.default_rng(12)
    hits = sum(
        low <= share <= high
        for low, high in (wilson_interval(int(wins), count) for wins in rng.binomial(count, share, TRIALS))
    )
    assert hits / TRIALS >= 0.91


@pytest.mark.parametrize("count", [12, 50])
def test_paired_interval_covers_the_difference_of_graded_scores(count: int) -> None:
    rng = np.random.default_rng(13)
    hits = 0
    for _ in range(160):
        hard = rng.random(count)
        new = np.clip(hard + rng.normal(0.0, 0.2, count), 0, 1) + 0.1
        old = np.clip(hard + rng.normal(0.0, 0.2, count), 0, 1)
        low, high = paired_test(new, old, resamples=400).interval
        hits += low <= 0.1 <= high
    assert 0.90 <= hits / 160 <= 0.99


@pytest.mark.parametrize(("new_share", "old_share"), [(0.5, 0.5), (0.9, 0.75)])
def test_paired_interval_covers_the_difference_of_right_or_wrong(new_share: float, old_share: float) -> None:
    rng = np.random.default_rng(14)
    hits = false_alarms = 0
    for _ in range(TRIALS):
        luck = rng.random(40)  # shared, so that the two agree more often than by chance
        other = np.where(rng.random(40) < 0.5, luck, rng.random(40))
        test = paired_test(luck < new_share, other < old_share)
        low, high = test.interval
        hits += low <= new_share - old_share <= high
        false_alarms += test.significant
    assert hits / TRIALS >= 0.93
    if new_share == old_share:
        assert false_alarms / TRIALS <= 0.06
