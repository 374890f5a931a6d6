"""From what a study has measured to fitted models, for any set of variables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import attrs
import numpy as np

from dspex.samplers.evidence import Evidence
from dspex.samplers.factors import Array, Factor, Whole
from dspex.samplers.sizes import estimated
from dspex.samplers.surrogate import Fit, Prior, Rows, Sizes, fit, initial_sizes

__all__ = ["Fitted", "Fitting"]

MOST = 800
"""Configurations that a fit is made of at most; what it costs grows with their third power."""

MOST_FOR_SIZES = 160
FIRST = 16  # measurements before variances are estimated for the first time
GROWTH = 1.25  # they are again whenever there are so many times as many
UNEQUAL = 0.2  # standard deviation of log costs from which on they matter


@attrs.frozen(eq=False)
class Fitted:
    """Models of the configurations at ``places`` of the evidence: of each objective, and of the log cost or None.

    ``columns`` and ``known`` are per factor: see `Factor`. ``advantage`` is by how many nats the first model predicts
    configurations that are left out better than one without any variable does.
    """

    factors: Sequence[Factor]
    places: Whole
    columns: Sequence[Array]
    known: Sequence[Array]
    fits: Sequence[Fit]
    cost: Fit | None
    advantage: float


class Fitting:
    """Fits of one set of variables, kept until more is measured or a pool has grown.

    What comes out is a function of the evidence alone. The variances are those of a first part of it, which grows in
    leaps, so that they need not be estimated at each ask.
    """

    def __init__(self, factors: Sequence[Factor], signs: Sequence[float], *, seed: int) -> None:
        self.factors = factors
        self._signs, self._seed = signs, seed
        self._widths = [factor.dimension.width for factor in factors]
        self._encoded: list[Sequence[float]] = []
        self._stamp: Hashable = None
        self._fitted: Fitted | None = None
        self._sizes: tuple[Hashable, Sequence[Sizes], float] = (None, (), 0.0)

    def fitted(self, evidence: Evidence) -> Fitted | None:
        """The fits to all there is; None when nothing has been measured."""
        grown = tuple(factor.count() for factor in self.factors if factor.domain.open_ended)
        stamp = (evidence.stamp, grown)
        if stamp != self._stamp:
            self._fitted = self._fit(evidence)
            self._stamp = stamp
        return self._fitted

    def _fit(self, evidence: Evidence) -> Fitted | None:
        places, rows, costs = evidence.rows(self._signs)
        if not len(places) or not self.factors:
            return None
        sizes, advantage = self._estimated(evidence, evidence.count(), rows)
        kept = chosen(rows[0], len(places), MOST)
        columns, known, prior = self._prior(evidence, places[kept])
        fits = [fit(prior, only(one, kept, len(places)), size) for one, size in zip(rows, sizes, strict=True)]
        cost = self._cost(prior, rows[0], costs, kept) if len(rows) == 1 else None
        return Fitted(self.factors, places[kept], columns, known, fits, cost, advantage)

    def _initial(self, rows: Rows) -> Sizes:
        numbers = [factor.is_number for factor in self.factors]
        return initial_sizes(numbers, link=rows.link, counted=rows.counted)

    def _estimated(self, evidence: Evidence, count: int, all_rows: Sequence[Rows]) -> tuple[Sequence[Sizes], float]:
        if count < FIRST:
            return [self._initial(one) for one in all_rows], 0.0
        first = FIRST
        while first * GROWTH <= count:
            first = math.ceil(first * GROWTH)
        places, rows, _ = evidence.rows(self._signs, first)
        stamp = (first, rows[0].configs.tobytes(), *(one.scores.tobytes() for one in rows))
        if stamp != self._sizes[0]:
            kept = chosen(rows[0], len(places), MOST_FOR_SIZES)
            prior = self._prior(evidence, places[kept])[2]
            few = [only(one, kept, len(places)) for one in rows]
            # Whether scores are shares is a matter of all that there are, not of the first.
            few = [attrs.evolve(one, link=o.link, counted=o.counted) for one, o in zip(few, all_rows, strict=True)]
            sizes = [estimated(prior, one, self._initial(one)) for one in few]
            advantage = fit(prior, few[0], sizes[0]).advantage()
            self._sizes = (stamp, sizes, advantage)
        return self._sizes[1], self._sizes[2]

    def _prior(self, evidence: Evidence, places: Whole) -> tuple[list[Array], list[Array], Prior]:
        columns = self._columns(evidence, places)
        rng = np.random.default_rng([self._seed, len(places)])
        known = [factor.known(here, rng) for factor, here in zip(self.factors, columns, strict=True)]
        features = [f.features(c, k) for f, c, k in zip(self.factors, columns, known, strict=True)]
        active = np.stack([~np.isnan(here[:, 0]) for here in columns], axis=1)
        return columns, known, Prior(features, active)

    def _columns(self, evidence: Evidence, places: Whole) -> list[Array]:
        """The columns of some configurations, for each factor."""
        for configuration in evidence.configurations[len(self._encoded) :]:
            row: list[float] = []
            for factor, width in zip(self.factors, self._widths, strict=True):
                params: Mapping[str, object] = configuration.params
                row += factor.encode(params[factor.path]) if factor.path in params else [math.nan] * width
            self._encoded.append(row)
        table = np.array([self._encoded[place] for place in places]).reshape(len(places), sum(self._widths))
        return np.split(table, np.cumsum(self._widths)[:-1], axis=1)

    def _cost(self, prior: Prior, rows: Rows, costs: Array, kept: Whole) -> Fit | None:
        if np.isnan(costs).any() or float(np.std(costs)) < UNEQUAL:
            return None
        priced = Rows(rows.configs, np.full(len(costs), -1), costs - costs.mean(), link=False, counted=False)
        size = int(rows.configs.max()) + 1
        sizes = Sizes(np.ones(len(self.factors)), pairs=0.1, joint=0.0, own=0.01, noise=0.1, examples=1.0)
        return fit(prior, only(priced, kept, size), sizes)


def chosen(rows: Rows, size: int, most: int) -> Whole:
    """Which configurations a fit is made of: the best, the most measured, the latest, and some of all others."""
    if size <= most:
        return np.arange(size)
    counts = np.bincount(rows.configs, minlength=size)
    sums = np.bincount(rows.configs, weights=rows.scores, minlength=size)
    shrunk = (sums + 3 * rows.scores.mean()) / (counts + 3)
    keep = np.zeros(size, dtype=bool)
    keep[np.argsort(-shrunk, kind="stable")[: most // 3]] = True
    keep[np.argsort(-counts, kind="stable")[: most // 6]] = True
    keep[size - most // 6 :] = True
    others = (~keep).nonzero()[0]
    wanted = most - int(keep.sum())
    keep[others[np.arange(wanted) * len(others) // wanted]] = True
    return keep.nonzero()[0]


def only(rows: Rows, kept: Whole, size: int) -> Rows:
    """The rows of some of the configurations, which count from 0 again."""
    if len(kept) == size:
        return rows
    order = np.full(size, -1)
    order[kept] = np.arange(len(kept))
    configs = order[rows.configs]
    keep = configs >= 0
    return attrs.evolve(rows, configs=configs[keep], examples=rows.examples[keep], scores=rows.scores[keep])
