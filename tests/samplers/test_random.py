"""Random draws."""

from __future__ import annotations

import math
from collections import Counter

from dspex.samplers import RandomSampler, Sampler
from dspex.study import create_study
from dspex.testing.samplers import SamplerSuite
from dspex.variables import Choice, Float, Int, Space


class TestRandomSampler(SamplerSuite):
    remembers = False

    def make(self, seed: int) -> Sampler:
        return RandomSampler(seed=seed)


def test_draws_are_uniform_on_the_scale_of_the_domain() -> None:
    space = Space.of(x=Float(0.0, 1.0), rate=Float(1e-4, 1.0, log=True), k=Int(1, 4), c=Choice("a", "b"))
    study = create_study(sampler=RandomSampler(seed=3), space=space)
    trials = [study.ask().params for _ in range(800)]
    assert abs(sum(trial["x"] for trial in trials) / 800 - 0.5) < 0.05
    assert abs(sum(math.log10(trial["rate"]) for trial in trials) / 800 + 2.0) < 0.2
    assert all(150 < count < 250 for count in Counter(trial["k"] for trial in trials).values())
    assert 350 < sum(trial["c"] == "a" for trial in trials) < 450


def test_a_new_variable_does_not_change_the_draws_of_the_others() -> None:
    drawn = []
    for space in (Space.of(x=Float(0.0, 1.0)), Space.of(y=Int(1, 5), x=Float(0.0, 1.0))):
        study = create_study(sampler=RandomSampler(seed=5), space=space)
        drawn.append([study.ask().params["x"] for _ in range(5)])
    assert drawn[0] == drawn[1]


def test_without_a_seed_studies_differ() -> None:
    first, second = RandomSampler(), RandomSampler()
    assert first.seed != second.seed
    assert repr(RandomSampler(seed=4)) == "RandomSampler(seed=4)"
