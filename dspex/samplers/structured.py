"""The structured surrogate: what the parts of a configuration contribute, learned from single examples.

An LLM program's score is a mean over examples of noisy outcomes, and configurations share their parts: what an
instruction did in one is evidence about every other that uses it. So the sampler models the outcome of single examples
(the rows of the ledger) by effects of variables, of pairs and of all together; see `dspex.samplers.surrogate`.

It proposes by Thompson sampling (Thompson 1933; for additive and pairwise models of combinations: Baptista & Poloczek,
"Bayesian Optimization of Combinatorial Structures", 2018): a draw from the posterior is climbed by coordinate ascent.
Most draws are climbed along a few variables only, from the best configurations so far, because a draw's best of all
configurations is mostly made of parts that nobody has tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from dspex.errors import StudyError
from dspex.samplers.apart import apart
from dspex.samplers.base import Sampler, candidates_of, seed_or_random
from dspex.samplers.beliefs import Beliefs
from dspex.samplers.branches import domain_of
from dspex.samplers.evidence import Evidence
from dspex.samplers.factors import Array, Factor, Levels, Whole, factors_of
from dspex.samplers.fitting import Fitted, Fitting
from dspex.samplers.random import RandomSampler
from dspex.samplers.surface import Grid, Rule, Surface, climb
from dspex.samplers.tpe import TPESampler
from dspex.trials import PerView, StudyView
from dspex.trials.checks import at_least
from dspex.trials.params import resolved
from dspex.variables import Domain, Space
from dspex.variables.values import same

__all__ = ["StructuredSampler"]

CYCLE = 6  # of so many trials one is the best of the mean, one of a draw, all others of draws near the best so far
FEW, NEARBY = 2, 0.4  # variables that are changed near the best: so many, and each other one with this probability
PULL = 0.4  # how far a draw is pulled to the mean
STARTS = 8
INCUMBENTS = 3  # of the starts
SOFTNESS = 1.0  # of a gain, where gains are weighed against costs
_MOST_FITTINGS = 32


class _Book:
    """What is kept of one study."""

    def __init__(self) -> None:
        self.evidence: Evidence | None = None
        self.fittings: dict[Any, Fitting] = {}
        self.lock = threading.RLock()


class StructuredSampler(Sampler):
    """Draws from a model of what each variable, each pair and all of them together contribute.

    Where the ledger has rows, single examples are what is learned from, and how hard each example is is learned with
    it: so configurations need not have seen the same examples, nor many of them. Without rows the values of trials
    are modelled, by their ranks. Where nothing can be predicted from the variables, half of the trials are left to
    `TPESampler`. Pruned trials count with what they reported last, and trials that crashed as the worst.

    Several objectives are modelled each by itself and weighed anew for each trial (augmented Chebyshev scalarization,
    Knowles, "ParEGO", 2006). Where examples cost more with some configurations than with others, gain per dollar is
    what is maximized. Variables that are declared on the way are modelled jointly with those that always came with
    them, and not before a trial had them.

    Args:
        seed: Makes the draws repeatable.
        n_startup_trials: So many measurements (rows, or trials without rows) are of random configurations.
        objectives: The names that the study's objectives have in the rows of the ledger; also ``cost``, ``tokens``,
            ``calls`` and ``latency``. None is ``score`` for one objective; of several only the trials' values count.

    Raises:
        StudyError: when an argument makes no sense.

    >>> from dspex.study import create_study
    >>> from dspex.variables import Choice, Space
    >>> space = Space.of(**{name: Choice(*range(8)) for name in "abcdef"})
    >>> study = create_study(sampler=StructuredSampler(seed=0), space=space, direction="maximize")
    >>> for _ in range(50):
    ...     trial = study.ask()
    ...     _ = study.tell(trial, sum(trial.params.values()))
    >>> study.best_value > 38  # of 42; one in twenty thousand configurations is as good
    True
    """

    def __init__(
        self, *, seed: int | None = None, n_startup_trials: int = 16, objectives: Sequence[str] | None = None
    ) -> None:
        self.seed = seed_or_random(seed)
        if objectives is not None and (
            isinstance(objectives, str) or not all(isinstance(name, str) for name in objectives)
        ):
            raise StudyError(f"objectives must be a list of names, got {objectives!r}; write objectives=['score']")
        self.n_startup_trials = at_least("n_startup_trials", n_startup_trials, 1)
        self.objectives = None if objectives is None else tuple(objectives)
        self._random = RandomSampler(seed=self.seed)
        self._tpe = TPESampler(seed=self.seed)
        self._books = PerView(_Book)

    def sample(self, view: StudyView, number: int, space: Space, *, fixed: Mapping[str, Any]) -> dict[str, Any]:
        drawn = self._random.sample(view, number, space, fixed=fixed)
        book = self._books.of(view)
        with book.lock:
            fitted = self._fitted(book, view, {path: domain_of(space, path) for path in space.tunable})
            if fitted is None:
                return drawn
            rng = np.random.default_rng([self.seed, number])
            if rng.random() < _left_to_others(fitted, _evidence(book)):
                return self._tpe.sample(view, number, space, fixed=fixed)
            modelled = {factor.path for factor in fitted.factors}
            held = {path: value for path, value in drawn.items() if path not in modelled} | dict(fixed)
            choice = _Choice(fitted, held, number, rng)
            choice.grid = Grid(choice.levels, _rules(space, fitted.factors, choice.levels, held))
            evidence = _evidence(book)
            known = None
            for values in choice.best():
                values = _active(space, {**held, **values})
                if _violated(space, values, view):
                    continue
                if not evidence.has(values):
                    return values
                known = known or values
        return apart(view, number, space, fixed, known or drawn)

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        if domain.open_ended:
            candidates_of(view, path)
        book = self._books.of(view)
        with book.lock:
            evidence = self._read(book, view)
            together = {**evidence.companions.of(path), path: domain}
            before = {name: evidence.domains[name] for name in params if name in evidence.domains}
            fitted = self._fitted(book, view, {**before, **together})
            rng = np.random.default_rng([self.seed, number])
            if fitted is None or path not in {factor.path for factor in fitted.factors}:
                return self._random.suggest(view, number, path, domain, params=params)
            if rng.random() < _left_to_others(fitted, evidence):
                return self._tpe.suggest(view, number, path, domain, params=params)
            choice = _Choice(fitted, params, number, rng)
            choice.grid = Grid(choice.levels, [None if np.isnan(one.columns[0, 0]) else () for one in choice.levels])
            values = next(choice.best())
            return {name: value for name, value in values.items() if name in together}

    def beliefs(self, view: StudyView, space: Space) -> Beliefs | None:
        """What is thought of the configurations that were measured (of very many: of the most interesting ones).

        None when nothing was measured or the space has nothing that can be modelled.
        """
        book = self._books.of(view)
        with book.lock:
            fitted = self._fitted(book, view, {path: domain_of(space, path) for path in space.tunable}, least=1)
            if fitted is None:
                return None
            found, evidence = fitted.fits[0], _evidence(book)
            order = np.argsort(-found.mean, kind="stable")
            covariance = np.diag(found.noise) - found.noise[:, None] * found.inverse * found.noise
            known = len(found.examples)
            return Beliefs(
                trials=tuple(evidence.configurations[place].first for place in fitted.places[order]),
                mean=found.mean[order],
                covariance=covariance[np.ix_(order, order)],
                counts=found.counts[order],
                examples={name: float(found.examples[n]) for name, n in evidence.examples.items() if n < known},
                advantage=fitted.advantage,
            )

    def _read(self, book: _Book, view: StudyView) -> Evidence:
        if book.evidence is None:
            names = ("score",) if self.objectives is None and len(view.directions) == 1 else self.objectives or ()
            if names and len(names) != len(view.directions):
                raise StudyError(
                    f"StructuredSampler(objectives={list(names)!r}) names {len(names)} objectives, and the study has "
                    f"{len(view.directions)}; name each, in the study's order"
                )
            book.evidence = Evidence(names)
        book.evidence.read(view)
        return book.evidence

    def _fitted(
        self, book: _Book, view: StudyView, domains: Mapping[str, Domain[Any]], *, least: int | None = None
    ) -> Fitted | None:
        evidence = self._read(book, view)
        if evidence.count() < (self.n_startup_trials if least is None else least):
            return None
        key = tuple(domains.items())
        fitting = book.fittings.pop(key, None)
        if fitting is None:
            factors = list(factors_of(domains, view.pools).values())
            fitting = Fitting(factors, [direction.sign for direction in view.directions], seed=self.seed)
            while len(book.fittings) >= _MOST_FITTINGS:
                del book.fittings[next(iter(book.fittings))]
        book.fittings[key] = fitting
        return fitting.fitted(evidence)

    def __repr__(self) -> str:
        more = "" if self.objectives is None else f", objectives={list(self.objectives)!r}"
        return f"StructuredSampler(seed={self.seed}, n_startup_trials={self.n_startup_trials}{more})"


class _Choice:
    """The choice of one trial's values."""

    grid: Grid

    def __init__(self, fitted: Fitted, held: Mapping[str, Any], number: int, rng: np.random.Generator) -> None:
        self._fitted, self._held, self._rng = fitted, held, rng
        self._at_mean = number % CYCLE == CYCLE - 1
        self._near = 0 < number % CYCLE < CYCLE - 1
        self._ranking = np.argsort(-fitted.fits[0].mean, kind="stable")
        self.levels = [self._levels(position, factor) for position, factor in enumerate(fitted.factors)]

    def _levels(self, position: int, factor: Factor) -> Levels:
        known = self._fitted.known[position]
        if factor.path in self._held:
            columns = np.array([factor.encode(self._held[factor.path])])
        else:
            seen = self._fitted.columns[position][self._ranking]
            columns = factor.candidates(seen[~np.isnan(seen[:, 0])], known, self._rng)
        return Levels(columns, factor.features(columns, known))

    def best(self) -> Iterator[dict[str, Any]]:
        """Values of the variables that are modelled and active: the best first, then what is a step away from them."""
        fitted, grid, rng = self._fitted, self.grid, self._rng
        if self._at_mean:
            surfaces = [_untied(found.surface(grid, None), rng) for found in fitted.fits]
        else:
            surfaces = [found.surface(grid, rng, pull=PULL) for found in fitted.fits]
        if fitted.cost is not None:
            surfaces.append(fitted.cost.surface(grid, None))
        utility = _utility(fitted, rng)
        free = [
            position
            for position, factor in enumerate(fitted.factors)
            if grid.rules[position] is not None and factor.path not in self._held
        ]
        starts = self._starts()
        if self._near and len(free) > FEW:
            starts, free = starts[:INCUMBENTS], sorted(rng.permutation(free)[: self._few(len(free))].tolist())
        reached, worth = climb(grid, surfaces, starts, free, utility)
        for row in reached[np.argsort(-worth, kind="stable")]:
            yield self._decoded(row)
        around = _neighbours(grid, reached[int(worth.argmax())], free)
        if len(around):
            places = grid.places(around)
            worth = utility(np.stack([surface.values(places) for surface in surfaces]))
            for row in around[np.argsort(-worth, kind="stable")]:
                yield self._decoded(row)

    def _few(self, free: int) -> int:
        return FEW + int(self._rng.binomial(free - FEW, NEARBY))

    def _starts(self) -> Whole:
        """Random levels, and for some rows those of the best configurations so far."""
        levels = self.grid.levels
        found = np.stack([self._rng.integers(len(level.columns), size=STARTS) for level in levels], axis=1)
        for row, place in zip(range(INCUMBENTS), self._ranking, strict=False):
            for position, level in enumerate(levels):
                here = self._fitted.columns[position][place]
                if not np.isnan(here[0]) and not np.isnan(level.columns[0, 0]):
                    found[row, position] = np.argmin(((level.columns - here) ** 2).sum(axis=1))
        return found

    def _decoded(self, row: Whole) -> dict[str, Any]:
        active = self.grid.active(row[None])[0]
        return {
            factor.path: factor.dimension.decode(level.columns[chosen])
            for factor, level, chosen, on in zip(self._fitted.factors, self.grid.levels, row, active, strict=True)
            if on and factor.path not in self._held
        }


def _left_to_others(fitted: Fitted, evidence: Evidence) -> float:
    """The share of trials that TPE chooses: half when variables predict nothing, soon none when they do.

    TPE learns from trials that have finished, so there have to be some.
    """
    if evidence.finished < 0.5 * len(fitted.places):
        return 0.0
    return float(0.5 * np.exp(-max(fitted.advantage, 0.0) / 2))


def _neighbours(grid: Grid, row: Whole, free: Sequence[int]) -> Whole:
    found = []
    for position in free:
        for level in range(len(grid.levels[position].columns)):
            if level != row[position]:
                other = row.copy()
                other[position] = level
                found.append(other)
    return np.array(found, dtype=np.int64).reshape(-1, len(row))


def _untied(surface: Surface, rng: np.random.Generator) -> Surface:
    # Values that nobody has tried are all alike to a mean; which of them is taken must not hang on rounding.
    return attrs.evolve(surface, single=surface.single + np.append(1e-6 * rng.random(len(surface.single) - 1), 0.0))


def _utility(fitted: Fitted, rng: np.random.Generator) -> Callable[[Array], Array]:
    """What is climbed, given the values of the surfaces: the objectives and then the log cost, if it matters."""
    if len(fitted.fits) > 1:
        weights = rng.dirichlet(np.ones(len(fitted.fits)))
        ideal = np.array([found.mean.max() for found in fitted.fits])

        def chebyshev(values: Array) -> Array:
            shape = (-1,) + (1,) * (values.ndim - 1)
            short = weights.reshape(shape) * (ideal.reshape(shape) - values)
            worth: Array = -short.max(axis=0) - 0.05 * short.sum(axis=0)
            return worth

        return chebyshev
    if fitted.cost is not None:
        best = float(fitted.fits[0].mean.max())

        def per_dollar(values: Array) -> Array:
            gain = np.logaddexp(0.0, (values[0] - best) / SOFTNESS)
            worth: Array = np.log(np.maximum(gain, 1e-300)) - values[1]
            return worth

        return per_dollar
    return lambda values: values[0]


def _rules(
    space: Space, factors: Sequence[Factor], levels: Sequence[Levels], held: Mapping[str, Any]
) -> list[Rule | None]:
    """The conditions of a space by positions and levels."""
    positions = {factor.path: position for position, factor in enumerate(factors)}

    def rule_of(path: str) -> Rule | None:
        rule: list[tuple[int, int]] = []
        for condition in space[path].conditions:
            other = condition.path
            position = positions.get(other)
            if position is None:  # not searched, or chosen already
                more = rule_of(other)
                if more is None or not same(held.get(other, space[other].default), condition.value):
                    return None
                rule += more
                continue
            columns = np.array(factors[position].encode(condition.value))
            match = (levels[position].columns == columns).all(axis=1).nonzero()[0]
            if not len(match):
                return None
            rule.append((position, int(match[0])))
        return tuple(rule)

    return [
        None if np.isnan(level.columns[0, 0]) else rule_of(factor.path)
        for factor, level in zip(factors, levels, strict=True)
    ]


def _active(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    active = set(space.active(values))
    return {path: values[path] for path in space.tunable if path in active and path in values}


def _violated(space: Space, values: Mapping[str, Any], view: StudyView) -> bool:
    if not space.constraints:
        return False
    domains = {path: domain_of(space, path) for path in values}
    return bool(space.violated(resolved(values, domains, view.pools)))


def _evidence(book: _Book) -> Evidence:
    assert book.evidence is not None, "read before anything is fitted"
    return book.evidence
