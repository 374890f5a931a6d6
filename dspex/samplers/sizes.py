"""How large the effects of a model are: the variances that make what was seen most probable, given what is usual."""

from __future__ import annotations

import attrs
import numpy as np

from dspex.samplers.factors import Array, Whole
from dspex.samplers.surrogate import CONSTANT, Fit, Prior, Rows, Sizes, fit

__all__ = ["estimated"]

STEPS = 12
ROUNDS = 2
FAITH = -0.5
"""Shape of the priors of the variances that all variables have in common; so low that data soon outweigh them."""

FAITH_EACH = 0.5
"""Shape of the prior of each variable's own variance around the common one."""


def estimated(prior: Prior, rows: Rows, initial: Sizes) -> Sizes:
    """Posterior modes of the variances under inverse-gamma priors, first of all variables alike and then of each.

    Each step minorizes the log posterior and maximizes the minorant in closed form, so it never goes down (Zhou et
    al., "MM Algorithms for Variance Components Models", 2019, section 2; the prior adds one term to each). With a
    link the steps are done on working responses, anew in each of a few rounds.
    """
    sizes = initial
    for _ in range(ROUNDS):
        found = fit(prior, rows, sizes)
        unit = found.noise / sizes.noise
        work = _Components(prior, found.response, unit)
        sizes = work.alike(sizes, initial, learn_noise=not rows.counted)
        sizes = attrs.evolve(sizes, examples=_examples(found, initial))
    return work.apart(sizes)


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


class _Components:
    """The parts that the covariance of the responses is made of."""

    def __init__(self, prior: Prior, response: Array, unit: Array) -> None:
        self.response, self.unit = response, unit
        self.pairs, self.joint = prior.kernels()
        self.joined = prior.joined()
        widths = [features.shape[1] for features in prior.features]
        self.owner: Whole = np.repeat(np.arange(len(widths)), widths)
        self.count = len(widths)

    def _inverse(self, single: Array, rest: Array) -> Array:
        kernel = CONSTANT + (self.joined * single[self.owner]) @ self.joined.T + rest[0] * self.pairs
        kernel += rest[1] * self.joint
        kernel[np.diag_indices(len(kernel))] += rest[2] + rest[3] * self.unit
        return np.linalg.inv(kernel)

    def _singles(self, inverse: Array) -> tuple[Array, Array]:
        error = inverse @ self.response
        return self._per_factor((self.joined.T @ error) ** 2), self._per_factor(
            ((inverse @ self.joined) * self.joined).sum(axis=0)
        )

    def _per_factor(self, per_feature: Array) -> Array:
        sums = np.zeros(self.count)
        np.add.at(sums, self.owner, per_feature)
        return sums

    def alike(self, sizes: Sizes, initial: Sizes, *, learn_noise: bool) -> Sizes:
        """One factor for the variances of all single variables, and the other variances."""
        rest = np.array([1.0, sizes.pairs, sizes.joint, sizes.own, sizes.noise])
        rest[0] = float(sizes.single.mean() / initial.single.mean())
        usual = np.array([1.0, initial.pairs, initial.joint, initial.own, initial.noise])
        for _ in range(STEPS):
            inverse = self._inverse(rest[0] * initial.single, rest[1:])
            error = inverse @ self.response
            loads, traces = self._singles(inverse)
            precision = np.diag(inverse)
            loads = np.array(
                [
                    loads @ initial.single,
                    error @ self.pairs @ error,
                    error @ self.joint @ error,
                    error @ error,
                    error @ (self.unit * error),
                ]
            )
            traces = np.array(
                [
                    traces @ initial.single,
                    (inverse * self.pairs).sum(),
                    (inverse * self.joint).sum(),
                    precision.sum(),
                    precision @ self.unit,
                ]
            )
            rest = _step(rest, loads, traces, usual, FAITH)
            if not learn_noise:
                rest[4] = sizes.noise
        return attrs.evolve(
            sizes,
            single=rest[0] * initial.single,
            pairs=float(rest[1]),
            joint=float(rest[2]),
            own=float(rest[3]),
            noise=float(rest[4]),
        )

    def apart(self, sizes: Sizes) -> Sizes:
        """The variance of each single variable, around what it is for all."""
        rest = np.array([sizes.pairs, sizes.joint, sizes.own, sizes.noise])
        single = sizes.single
        for _ in range(STEPS):
            loads, traces = self._singles(self._inverse(single, rest))
            single = _step(single, loads, traces, sizes.single, FAITH_EACH)
        return attrs.evolve(sizes, single=single)


def _step(sizes: Array, loads: Array, traces: Array, usual: Array, faith: float) -> Array:
    # The prior is inverse-gamma with its mode at ``usual``: -(faith + 1) log s - (faith + 1) usual / s.
    shape = faith + 1
    pull = 0.5 * sizes**2 * np.maximum(loads, 0.0) + shape * usual
    traces = np.maximum(traces, 1e-9)
    found: Array = (np.sqrt(shape**2 + 2 * traces * pull) - shape) / traces
    return np.clip(found, 1e-5, 25.0)
