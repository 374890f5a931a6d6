"""Quasi-random draws and the sequences behind them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dspex.errors import StudyError
from dspex.samplers import QMCSampler, Sampler
from dspex.samplers.sequences import SOBOL_DIMENSIONS, halton, sobol
from dspex.study import create_study
from dspex.testing.samplers import SamplerSuite
from dspex.variables import Choice, Condition, Entry, Float, Int, Prompt, Space


class TestSobol(SamplerSuite):
    remembers = False

    def make(self, seed: int) -> Sampler:
        return QMCSampler(seed=seed)


class TestHalton(SamplerSuite):
    remembers = False

    def make(self, seed: int) -> Sampler:
        return QMCSampler(seed=seed, qmc_type="halton")


@pytest.mark.parametrize("scramble", [None, 7])
@pytest.mark.parametrize("dimension", [0, 1, 2, 17, SOBOL_DIMENSIONS - 1])
def test_every_cell_gets_its_points(dimension: int, scramble: int | None) -> None:
    """A coordinate of a Sobol sequence is a (0, 1)-sequence in base 2, scrambled or not."""
    for start in (0, 256):
        points = [sobol(start + index, dimension, scramble=scramble) for index in range(256)]
        assert sorted(int(point * 256) for point in points) == list(range(256))


@pytest.mark.parametrize("scramble", [None, 3])
def test_every_box_of_the_first_two_coordinates_gets_its_point(scramble: int | None) -> None:
    """The first two are a (0, m, 2)-net: any partition of the square into 64 boxes has one point in each."""
    points = [[sobol(index, dimension, scramble=scramble) for dimension in (0, 1)] for index in range(64)]
    for k in range(7):
        boxes = Counter((int(x * 2**k), int(y * 2 ** (6 - k))) for x, y in points)
        assert set(boxes.values()) == {1}


@pytest.mark.parametrize("scramble", [None, 3])
def test_halton_deals_its_digits_out_evenly(scramble: int | None) -> None:
    for dimension, base in ((0, 2), (1, 3), (4, 11)):
        points = [halton(index, dimension, scramble=scramble) for index in range(base**2)]
        assert sorted(int(point * base**2 + 1e-9) for point in points) == list(range(base**2))


def test_the_numbers_are_those_of_scipy() -> None:
    qmc: Any = pytest.importorskip("scipy.stats.qmc")
    theirs = qmc.Sobol(SOBOL_DIMENSIONS, scramble=False).random(64)
    ours = np.array([[sobol(index, one) for one in range(SOBOL_DIMENSIONS)] for index in range(64)])
    assert np.abs(theirs - ours).max() < 1e-9
    theirs = qmc.Halton(20, scramble=False).random(64)
    assert np.abs(theirs - np.array([[halton(index, one) for one in range(20)] for index in range(64)])).max() < 1e-12


@given(st.integers(0, 2**32 - 1), st.integers(0, SOBOL_DIMENSIONS - 1), st.none() | st.integers(0, 5))
@settings(max_examples=60)
def test_a_point_lies_in_the_unit_interval(index: int, dimension: int, scramble: int | None) -> None:
    assert 0 <= sobol(index, dimension, scramble=scramble) < 1
    assert 0 <= halton(index, dimension, scramble=scramble) < 1


@pytest.mark.parametrize("kind", ["sobol", "halton"])
def test_it_is_more_even_than_chance(kind: str) -> None:
    """The mean of a smooth function over the draws is nearer to its integral."""
    space = Space.of(**{f"x{i}": Float(0.0, 1.0) for i in range(4)})
    errors = []
    for seed in range(5):
        study = create_study(sampler=QMCSampler(qmc_type=kind, seed=seed), space=space)
        draws = np.array([list(study.ask().params.values()) for _ in range(128)])
        errors.append(abs((draws**2).sum(axis=1).mean() - 4 / 3))
    assert max(errors) < 0.02  # chance: 0.05 on average


def test_options_come_equally_often_and_branches_keep_their_coordinates() -> None:
    space = Space(
        [
            Entry("kind", Choice("a", "b"), "a"),
            Entry("a.k", Int(1, 4), 1, conditions=[Condition("kind", "a")]),
            Entry("b.x", Float(0.0, 1.0), 0.0, conditions=[Condition("kind", "b")]),
        ]
    )
    study = create_study(sampler=QMCSampler(seed=1), space=space)
    trials = [study.ask().params for _ in range(64)]
    assert Counter(trial["kind"] for trial in trials) == {"a": 32, "b": 32}
    assert set(Counter(trial["a.k"] for trial in trials if "a.k" in trial).values()) == {8}


def test_variables_are_suggested_the_same_as_declared() -> None:
    declared = create_study(sampler=QMCSampler(seed=1), space=Space.of(x=Float(0.0, 1.0), k=Int(1, 9)))
    study = create_study(sampler=QMCSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        params = {"x": trial.suggest_float("x", 0.0, 1.0), "k": trial.suggest_int("k", 1, 9)}
        assert params == declared.ask().params
        study.tell(trial, 0.0)


def test_without_scrambling_it_is_the_plain_sequence() -> None:
    study = create_study(sampler=QMCSampler(scramble=False), space=Space.of(x=Float(0.0, 8.0), p=Prompt()))
    study.pool("p").add("one")
    study.pool("p").add("two")
    assert [study.ask().params["x"] for _ in range(4)] == [0.0, 4.0, 6.0, 2.0]


def test_beyond_the_table_values_are_drawn_independently() -> None:
    space = Space.of(**{f"x{i:03}": Float(0.0, 1.0) for i in range(SOBOL_DIMENSIONS + 2)})
    study = create_study(sampler=QMCSampler(seed=1), space=space)
    last = [study.ask().params[f"x{SOBOL_DIMENSIONS + 1}"] for _ in range(64)]
    assert 0.3 < float(np.mean(last)) < 0.7


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(StudyError, match=r"qmc_type must be 'sobol' or 'halton', got 'lhs' \(str\)"):
        QMCSampler(qmc_type="lhs")
    with pytest.raises(StudyError, match="scramble must be True or False, got 1"):
        QMCSampler(scramble=1)  # type: ignore[arg-type]
    assert repr(QMCSampler(seed=3)) == "QMCSampler(qmc_type='sobol', scramble=True, seed=3)"
