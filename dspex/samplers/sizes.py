"""How large the effects of a model are: the variances that make what was seen probable, given what is usual."""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs
import numpy as np

from dspex.samplers.factors import Array, Whole
from dspex.samplers.surrogate import CONSTANT, Fit, Prior, Rows, Sizes, fit

__all__ = ["estimated"]

ROUNDS = 2
STEPS = 8
FAITH = 3.0
"""Shape of the inverse-gamma prior of each variable's variance around what it is for all."""

TOTALS = (0.05, 0.3, 0.6, 1.2, 2.4, 4.8)
"""Variances of f over random configurations that are compared."""

USUAL, SPREAD = 1.2, 0.3
"""Median and width of the prior of the total, whose logarithm is Cauchy's: narrow, because the likelihoods of working
responses make the effects of few counts look too small (Breslow & Clayton say so), with tails for what is plain."""

NOISES = (0.02, 0.1, 0.4, 1.0)
"""Noise in units of its expectation, where it is not known."""

SHARES = (
    (0.92, 0.04, 0.02, 0.02),  # single variables
    (0.45, 0.40, 0.05, 0.10),  # pairs too
    (0.15, 0.15, 0.60, 0.10),  # interactions of any order
    (0.15, 0.05, 0.10, 0.70),  # no two configurations have anything in common
)
"""How the variance may be divided: single variables, pairs, all variables jointly, each configuration by itself."""

DOUBTS = (0.0, 2.0, 2.0, 3.0)
"""By how many nats each of `SHARES` is thought less probable than the first before there are data: what is more than
effects of single variables has to be seen, because a model that allows for it learns these only half as fast."""


def estimated(prior: Prior, rows: Rows, initial: Sizes) -> Sizes:
    """The mean of the variances over a grid of models, by their marginal likelihoods; then each variable's own.

    With a link the likelihoods are those of working responses, anew in each of a few rounds.
    """
    sizes = initial
    for _ in range(ROUNDS):
        found = fit(prior, rows, sizes)
        parts = _Parts(prior, found.response, found.noise / sizes.noise)
        sizes = parts.averaged(sizes, learn_noise=not rows.counted)
        sizes = attrs.evolve(sizes, examples=_examples(found, initial))
    return parts.apart(sizes)


def _examples(found: Fit, initial: Sizes) -> float:
    rows, sizes = found.rows, found.sizes
    if not found.examples.size:
        return sizes.examples
    seen = np.bincount(rows.examples[rows.examples >= 0], minlength=found.examples.size)
    # What is left of the variance after so many looks, each of which is worth about p(1 - p).
    slope = 0.2 if rows.link else 1.0
    left = 1 / (slope * seen / sizes.noise + 1 / sizes.examples)
    total = float((found.examples**2 + left)[seen > 0].sum())
    return (total + 5 * initial.examples) / (int((seen > 0).sum()) + 5)


class _Parts:
    """The parts that the covariance of the responses is made of."""

    def __init__(self, prior: Prior, response: Array, unit: Array) -> None:
        self.response, self.unit = response, unit
        self.pairs, self.joint = prior.kernels()
        self.joined = prior.joined()
        widths = [features.shape[1] for features in prior.features]
        self.owner: Whole = np.repeat(np.arange(len(widths)), widths)
        self.count = len(widths)

    def _rest(self, sizes: Sizes) -> Array:
        rest = sizes.pairs * self.pairs + sizes.joint * self.joint + CONSTANT
        rest[np.diag_indices(len(rest))] += sizes.own + sizes.noise * self.unit
        return rest

    def averaged(self, sizes: Sizes, *, learn_noise: bool) -> Sizes:
        """The posterior mean over the grid."""
        usual = sizes.single / sizes.single.sum()
        single = (self.joined * usual[self.owner]) @ self.joined.T
        models = list(_grid(usual, sizes, NOISES if learn_noise else (sizes.noise,)))
        evidence = np.array(
            [
                self._evidence(float(one.single.sum()) * single + self._rest(one))
                - math.log1p((math.log(one.total / USUAL) / SPREAD) ** 2)
                for one in models
            ]
        )
        evidence -= np.tile(DOUBTS, len(models) // len(SHARES))
        weights = np.exp(evidence - evidence.max())
        weights /= weights.sum()

        def mean(values: list[float]) -> float:
            return float(weights @ np.array(values))

        return attrs.evolve(
            sizes,
            single=mean([float(one.single.sum()) for one in models]) * usual,
            pairs=mean([one.pairs for one in models]),
            joint=mean([one.joint for one in models]),
            own=mean([one.own for one in models]),
            noise=mean([one.noise for one in models]),
        )

    def _evidence(self, covariance: Array) -> float:
        lower = np.linalg.cholesky(covariance)
        half = np.linalg.solve(lower, self.response)
        return float(-0.5 * half @ half - np.log(np.diag(lower)).sum())

    def apart(self, sizes: Sizes) -> Sizes:
        """The variance of each single variable, with an inverse-gamma prior around what it is for all.

        Each step minorizes the log posterior and maximizes the minorant in closed form, so it never goes down (Zhou
        et al., "MM Algorithms for Variance Components Models", 2019, section 2; the prior adds two terms).
        """
        rest, single = self._rest(sizes), sizes.single
        shape = FAITH + 1
        for _ in range(STEPS):
            inverse = np.linalg.inv((self.joined * single[self.owner]) @ self.joined.T + rest)
            loads = self._per_factor((self.joined.T @ (inverse @ self.response)) ** 2)
            traces = np.maximum(self._per_factor(((inverse @ self.joined) * self.joined).sum(axis=0)), 1e-9)
            pull = 0.5 * single**2 * loads + shape * sizes.single
            single = (np.sqrt(shape**2 + 2 * traces * pull) - shape) / traces
        return attrs.evolve(sizes, single=single)

    def _per_factor(self, per_feature: Array) -> Array:
        sums = np.zeros(self.count)
        np.add.at(sums, self.owner, per_feature)
        return sums


def _grid(usual: Array, sizes: Sizes, noises: tuple[float, ...]) -> Iterator[Sizes]:
    for noise in noises:
        for total in TOTALS:
            for single, pairs, joint, own in SHARES:
                yield attrs.evolve(
                    sizes,
                    single=total * single * usual,
                    pairs=total * pairs,
                    joint=total * joint,
                    own=total * own,
                    noise=noise,
                )
