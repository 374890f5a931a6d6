"""Simulated program tuning: spaces as programs have them, and the chance that a configuration solves an example.

The outcome of a configuration x on an example i is one draw, the same whenever it is asked for, that is 1 with

    logit p(x, i) = level + scale * (effects of single variables + of pairs + of groups of four) + b_i + c_i(x)

b_i is the example's difficulty, c_i(x) what some variables do to this example alone. Single numbers have a peak
somewhere, prompts and demos have many middling effects and few large ones. Level and scale are chosen so that the
default, which is worse than most random configurations, is right about 35 % of the time and the optimum, found by
coordinate ascent, 90 %. No term is drawn from the priors of a sampler that is measured here, but for the family
``study``: it is the simulator of the study that the targets come from, built again from its description. There numbers
are waves (Gaussian, length-scale 0.35), every pair of variables has a small effect of its own, and no variable does
anything to single examples. How much these differ is not told; but only with 4 do the effects that lead from 35 % to
90 % have the variances that are (0.08 of a choice and 0.15 of a number: here 0.076 and 0.152, and with 1.5 a quarter).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import attrs
import numpy as np

from dspex.variables import (
    Bool,
    Choice,
    Condition,
    Domain,
    Entry,
    Float,
    Int,
    ModelChoice,
    Order,
    Prompt,
    Space,
)

DIFFICULTY = 1.5  # standard deviation of b_i, usually
OWN = 0.4  # of c_i(x), per variable that has one
KNOTS = np.linspace(0.0, 1.0, 13)
PRICES = {"large": 1.0, "medium": 0.25, "small": 0.05}


@attrs.frozen
class Recipe:
    """What a family of landscapes is made of; the weights are shares of the variance."""

    space: Callable[[], list[Entry]]
    single: float = 0.7
    pairs: float = 0.3
    fours: float = 0.0
    examples: int = 50
    pool: int = 6
    known: int | None = None  # candidates that a pool has at first; None: all
    flat: bool = False
    every_pair: bool = False  # has an effect, instead of half as many pairs as there are variables
    difficulty: float = DIFFICULTY
    own: float = OWN
    waves: bool = False  # instead of one peak in each number


def _predictors(count: int) -> list[Entry]:
    return [
        Entry(f"p{index}.{kind}", Prompt(), f"p{index}.{kind} 0")
        for index in range(count)
        for kind in ("instructions", "demos")
    ]


def _program(count: int = 3) -> list[Entry]:
    return [
        *_predictors(count),
        Entry("temperature", Float(0.0, 1.5), 0.7),
        Entry("top_p", Float(0.1, 1.0), 1.0),
        Entry("depth", Int(1, 12), 3),
        Entry("max_tokens", Int(32, 2048, log=True), 256),
        Entry("stepwise", Bool(), False),
        Entry("stepwise.length", Int(1, 10), 3, conditions=[Condition("stepwise", True)]),
        Entry("order", Order("task", "demos", "hints"), ("task", "demos", "hints")),
    ]


def _floats() -> list[Entry]:
    return [
        *(Entry(f"x{i}", Float(0.0, 1.0), (0.2, 0.8)[i % 2]) for i in range(10)),
        Entry("kind", Choice("a", "b", "c"), "a"),
    ]


def _tiny() -> list[Entry]:
    return [*_predictors(1), Entry("temperature", Float(0.0, 1.5), 0.7)]


def _models() -> list[Entry]:
    return [*_program(2), Entry("model", ModelChoice(*PRICES), "medium")]


FAMILIES: dict[str, Recipe] = {
    "program": Recipe(_program),
    "study": Recipe(_program, single=0.75, pairs=0.25, every_pair=True, difficulty=4.0, own=0.0, waves=True),
    "additive": Recipe(_program, single=1.0, pairs=0.0),
    "pairs": Recipe(_program, single=0.2, pairs=0.8),
    "high-order": Recipe(_program, single=0.0, pairs=0.0, fours=1.0),
    "flat": Recipe(_program, flat=True),
    "floats": Recipe(_floats, single=1.0, pairs=0.0),
    "tiny": Recipe(_tiny),
    "8 predictors": Recipe(lambda: _program(8)),
    "20 examples": Recipe(_program, examples=20),
    "300 examples": Recipe(_program, examples=300),
    "late proposals": Recipe(_program, known=3),
    "models": Recipe(_models),
}


class Landscape:
    """One draw from a family. ``seed`` decides everything."""

    def __init__(self, family: str, seed: int) -> None:
        self.family, self.seed, self.recipe = family, seed, FAMILIES[family]
        self.space = Space(self.recipe.space())
        self.pools = {path: [f"{path} {index}" for index in range(self.recipe.pool)] for path in self.space.open_ended}
        self.prices = PRICES if "model" in self.space else {}
        self.level, self.scale = 0.0, 0.0
        self.optimum = self.space.defaults()
        for draw in range(100):  # until the default is worse than most configurations, but not than all
            self._draw(draw)
            if self._is_poor():
                break
        if self.recipe.flat:
            self.level = -0.6
        else:
            self._calibrate()

    def _draw(self, draw: int) -> None:
        self._draw_number = draw
        self._drawn: dict[tuple[Any, ...], float] = {}
        self._peaks: dict[str, tuple[float, float, float]] = {}
        self._waves: dict[str, np.ndarray] = {}
        paths = list(self.space.tunable)
        rng = self._rng("groups")
        self._pairs = [tuple(rng.sample(paths, 2)) for _ in range(max(1, len(paths) // 2))]
        if self.recipe.every_pair:
            self._pairs = list(itertools.combinations(paths, 2))
        size = min(4, len(paths))
        self._fours = [tuple(rng.sample(paths, size)) for _ in range(max(2, len(paths) // 2))]
        self._touchy = rng.sample(paths, max(1, len(paths) // 3))

    def _is_poor(self) -> bool:
        default = self._effects(self._active(self.space.defaults()))
        others = [self._effects(self._active(self._random_values(-1 - index))) for index in range(40)]
        return self.recipe.flat or 2 <= sum(other < default for other in others) <= 8

    def _rng(self, *key: Any) -> random.Random:
        return random.Random(repr((self.family, self.seed, self._draw_number, *key)))

    def _normal(self, *key: Any) -> float:
        found = self._drawn.get(key)
        if found is None:
            found = self._drawn[key] = self._rng(*key).gauss(0.0, 1.0)
        return found

    # What a configuration is worth

    def accuracy(self, values: Mapping[str, Any]) -> float:
        """The mean chance over all examples there could be, of which the valset is a sample."""
        return float(np.mean(_sigmoid(self._worth(values) + self._difficulties)))

    def solves(self, values: Mapping[str, Any], example: str) -> bool:
        """The outcome on one example; a configuration has one outcome per example."""
        active = self._active(values)
        own = self.recipe.own * sum(
            self._normal("own", example, path, _level(active[path])) for path in self._touchy if path in active
        )
        logit = self._worth(active) + self.recipe.difficulty * self._normal("difficulty", example) + own
        return self._rng("outcome", example, sorted(active.items())).random() < _sigmoid(logit)

    def price(self, values: Mapping[str, Any]) -> float:
        """Dollars that one example costs."""
        return 0.001 * self.prices.get(values.get("model", ""), 1.0)

    @property
    def default_accuracy(self) -> float:
        return self.accuracy(self.space.defaults())

    @cached_property
    def optimal_accuracy(self) -> float:
        return self.accuracy(self.optimum)

    def closed(self, values: Mapping[str, Any]) -> float:
        """The share of the gap between default and optimum that a configuration closes."""
        gap = self.optimal_accuracy - self.default_accuracy
        return (self.accuracy(values) - self.default_accuracy) / gap if gap else 0.0

    @cached_property
    def _difficulties(self) -> np.ndarray:
        spread = math.sqrt(self.recipe.difficulty**2 + self.recipe.own**2 * len(self._touchy))
        return spread * np.random.default_rng(self.seed).standard_normal(2000)

    def _worth(self, values: Mapping[str, Any]) -> float:
        return self.level + self.scale * self._effects(self._active(values)) if self.scale else self.level

    def _active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {path: values[path] for path in self.space.active(values) if path in self.space.tunable}

    def _effects(self, active: Mapping[str, Any]) -> float:
        recipe, total = self.recipe, 0.0
        if recipe.single:
            share = math.sqrt(recipe.single / len(self.space.tunable))
            total += share * sum(self._single(path, value) for path, value in active.items())
        for weight, groups in ((recipe.pairs, self._pairs), (recipe.fours, self._fours)):
            if weight:
                share = math.sqrt(weight / len(groups))
                total += share * sum(
                    self._normal(group, *(_level(active[path]) if path in active else None for path in group))
                    for group in groups
                )
        return total

    def _single(self, path: str, value: Any) -> float:
        domain = self.space[path].domain
        if isinstance(domain, Float | Int):
            if self.recipe.waves:
                return float(np.interp(_share(domain, value), KNOTS, self._wave(path)))
            peak, width, height = self._peak(path)
            return height * (math.exp(-0.5 * ((_share(domain, value) - peak) / width) ** 2) * 2 - 1)
        if path == "model":
            return {"large": 2.0, "medium": 0.5, "small": -1.5}[value]
        drawn = self._normal("single", path, repr(value))
        late = (
            path in self.pools and self.recipe.known is not None and int(value.rpartition(" ")[2]) >= self.recipe.known
        )
        return drawn * (1.3 if abs(drawn) > 1 else 0.7) + (0.4 if late else 0.0)

    def _wave(self, path: str) -> np.ndarray:
        """Heights at the knots; as in the study, the variance is twice that of a choice."""
        found = self._waves.get(path)
        if found is None:
            similar = np.exp(-0.5 * ((KNOTS[:, None] - KNOTS) / 0.35) ** 2) + 1e-6 * np.eye(len(KNOTS))
            drawn = [self._normal("knot", path, index) for index in range(len(KNOTS))]
            found = self._waves[path] = math.sqrt(2.0) * np.linalg.cholesky(similar) @ np.array(drawn)
        return found

    def _peak(self, path: str) -> tuple[float, float, float]:
        found = self._peaks.get(path)
        if found is None:
            rng = self._rng("peak", path)
            found = self._peaks[path] = (rng.uniform(0.05, 0.95), rng.uniform(0.2, 0.6), rng.uniform(0.8, 2.2))
        return found

    # The optimum

    def _calibrate(self) -> None:
        self.scale = 1.0
        starts = [self.space.defaults(), *(self._random_values(index) for index in range(12))]
        climbed = [self._climb(start) for start in starts]
        self.optimum = max(climbed, key=lambda values: self._effects(self._active(values)))
        gap = self._effects(self._active(self.optimum)) - self._effects(self._active(self.space.defaults()))
        low, high = (self._logit_of(share) for share in (0.35, 0.90))
        self.scale = (high - low) / max(gap, 0.1)
        self.level = low - self.scale * self._effects(self._active(self.space.defaults()))

    def _logit_of(self, share: float) -> float:
        low, high = -12.0, 12.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if float(np.mean(_sigmoid(middle + self._difficulties))) < share else (low, middle)
            )
        return low

    def _random_values(self, index: int) -> dict[str, Any]:
        rng = self._rng("start", index)
        return {path: rng.choice(self._options(path)) for path in self.space.tunable}

    def _climb(self, values: dict[str, Any]) -> dict[str, Any]:
        best, worth = dict(values), self._effects(self._active(values))
        improved = True
        while improved:
            improved = False
            for path in self.space.tunable:
                for option in self._options(path):
                    tried = {**best, path: option}
                    found = self._effects(self._active(tried))
                    if found > worth + 1e-9:
                        best, worth, improved = tried, found, True
        return best

    def _options(self, path: str) -> list[Any]:
        domain: Domain[Any] | None = self.space[path].domain
        assert domain is not None
        if domain.open_ended:
            return list(self.pools[path])
        if isinstance(domain, Float):
            return [domain.low + (domain.high - domain.low) * step / 24 for step in range(25)]
        if isinstance(domain, Int) and domain.log:
            return sorted({round(domain.low * (domain.high / domain.low) ** (step / 24)) for step in range(25)})
        return list(domain.candidates() or ())


def _sigmoid(logit: Any) -> Any:
    return 1 / (1 + np.exp(-logit))


def _share(domain: Float | Int, value: float) -> float:
    if domain.log:
        return math.log(value / domain.low) / math.log(domain.high / domain.low)
    return (value - domain.low) / (domain.high - domain.low)


def _level(value: Any) -> Any:
    """The value in groups, and numbers coarsely: four levels per unit or doubling."""
    if isinstance(value, float):
        return int(value * 3.999)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(math.log2(value) * 1.5)
    return repr(value)
