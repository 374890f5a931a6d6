"""The model of the structured sampler: a Gaussian process over configurations that share their parts.

    score of configuration x on example i  =  link(f(x) + b_i) + noise
    f  =  constant + sum of effects of single variables + sum over pairs + one joint effect of all + own effect of x

All effects are Gaussian; their variances are estimated, so that what a landscape does not have gets next to no weight
and the model chooses itself: additive, pairwise (Duvenaud et al., "Additive Gaussian Processes", 2011), joint
interactions of any order (a product kernel over all variables), or nothing but a constant.

Scores in [0, 1] have a logit link, all others none. With the link the fit is by Newton steps on working responses
(Breslow & Clayton, "Approximate Inference in Generalized Linear Mixed Models", 1993): each is one solve over the
configurations, because what the rows of one configuration say about f is summed up first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.samplers.factors import Array, Whole
from dspex.samplers.surface import Grid, Surface

__all__ = ["Fit", "Prior", "Rows", "Sizes", "fit", "initial_sizes"]

NEWTON = 3
INNER = 4
JOINT_FEATURES = 64
REACH = 3.0  # the joint kernel of two configurations that have nothing in common is exp(-REACH)
NEGLIGIBLE = 0.01  # share of the variance below which the joint effect is left out of surfaces
CONSTANT = 4.0


@attrs.frozen(eq=False)
class Rows:
    """What was measured: ``scores[r]`` is of configuration ``configs[r]`` on example ``examples[r]``.

    ``examples`` is -1 where the example is not known. ``link`` says whether the scores are shares, ``counted``
    whether each is 0 or 1, so that their noise is known.
    """

    configs: Whole
    examples: Whole
    scores: Array
    link: bool
    counted: bool


@attrs.frozen(eq=False)
class Prior:
    """Configurations as features: ``features[k]`` (configurations, features of factor k), zeros where not active."""

    features: Sequence[Array]
    active: NDArray[np.bool_]

    @property
    def size(self) -> int:
        return len(self.active)

    def take(self, which: Whole) -> Prior:
        """Some of the configurations."""
        return Prior([features[which] for features in self.features], self.active[which])

    def joined(self) -> Array:
        """The features of all factors side by side."""
        return np.concatenate(self.features, axis=1) if self.features else np.zeros((self.size, 0))

    def kernels(self) -> tuple[Array, Array]:
        """The kernel of all pairs together, and the joint kernel; each is at most 1."""
        total = np.zeros((self.size, self.size))
        squares = np.zeros_like(total)
        joint = np.ones_like(total)
        for position, features in enumerate(self.features):
            kernel = features @ features.T
            total += kernel
            squares += kernel**2
            joint *= self.mixed(kernel, position, self.active[:, position])
        return (total**2 - squares) / max(len(self.features) * (len(self.features) - 1), 1), joint

    def mixed(self, kernel: Array, position: int, active: NDArray[np.bool_]) -> Array:
        """The factor's part of the joint kernel: 1 for the same value, and still something for another."""
        apart = self.apart
        both_off = ~active[:, None] & ~self.active[None, :, position]
        found: Array = apart + (1 - apart) * (kernel + both_off)
        return found

    @property
    def apart(self) -> float:
        """The factor's part of the joint kernel for two values that have nothing in common."""
        return math.exp(-REACH / max(len(self.features), 1))


@attrs.frozen(eq=False)
class Sizes:
    """The variances of the effects, of the noise in units of its expectation, and of the examples."""

    single: Array
    pairs: float
    joint: float
    own: float
    noise: float
    examples: float

    @property
    def total(self) -> float:
        """The variance of f over configurations."""
        return float(self.single.sum()) + self.pairs + self.joint + self.own


def initial_sizes(numbers: Sequence[bool], *, link: bool, counted: bool) -> Sizes:
    """What is expected before there are data; ``numbers`` says which factors are numeric.

    Behind a link examples differ much: with most of them a program is nearly always right, or nearly always wrong.
    """
    single = np.where(np.asarray(numbers, dtype=bool), 1.5, 1.0)
    return Sizes(
        single=0.5 * single / single.sum(),
        pairs=0.1,
        joint=0.1,
        own=0.05,
        noise=1.0 if counted else 0.3,
        examples=4.0 if link else 0.7,
    )


@attrs.frozen(eq=False)
class Fit:
    """The posterior given some rows and sizes.

    ``mean`` and ``variance`` are those of f at the configurations, ``inverse`` is that of K + noise.
    """

    prior: Prior
    rows: Rows
    sizes: Sizes
    inverse: Array
    response: Array
    noise: Array
    mean: Array
    variance: Array
    examples: Array
    counts: Array

    @property
    def coefficients(self) -> Array:
        """(K + noise)^-1 response."""
        return self.inverse @ self.response

    def left_out(self) -> Array:
        """Log densities of each response given all others (Rasmussen & Williams 2006, eq. 5.10-5.12)."""
        precision = np.diag(self.inverse)
        residual = self.coefficients / precision
        found: Array = 0.5 * (np.log(precision / (2 * math.pi)) - residual**2 * precision)
        return found

    def advantage(self) -> float:
        """By how many nats configurations that are left out are predicted better than without any variable."""
        without = max(_left_out_of_constant(self.response, self.noise + own) for own in (0.01, 0.1, 0.3, 1.0))
        return float(self.left_out().sum()) - without

    # Surfaces

    def surface(self, grid: Grid, rng: np.random.Generator | None, *, pull: float = 0.0) -> Surface:
        """The posterior mean over a grid; or with ``rng`` a draw from the posterior, pulled to the mean by ``pull``.

        A draw is one from the prior, moved by what the data say of its error (Wilson et al., "Efficiently
        sampling functions from Gaussian process posteriors", 2020).
        """
        sizes, prior = self.sizes, self.prior
        joined = prior.joined()
        widths = [features.shape[1] for features in prior.features]
        scale = np.repeat(sizes.single, widths)
        per_pair = sizes.pairs / max(len(widths) * (len(widths) - 1) / 2, 1)
        table = _block_diagonal([level.features for level in grid.levels])
        with_joint = sizes.joint > NEGLIGIBLE * (sizes.single.sum() + sizes.pairs + sizes.joint)
        signs = _Signs(prior, rng) if rng is not None and with_joint else None

        drawn_constant, drawn_single, drawn_pairs = 0.0, np.zeros(joined.shape[1]), None
        coefficients = self.coefficients
        if rng is not None:
            keep = 1 - pull
            drawn_constant = math.sqrt(CONSTANT) * rng.standard_normal()
            drawn_single = np.sqrt(scale) * rng.standard_normal(joined.shape[1])
            half = np.triu(rng.standard_normal((joined.shape[1],) * 2), 1)
            drawn_pairs = math.sqrt(per_pair) * (half + half.T) * _apart(widths)
            error = drawn_constant + joined @ drawn_single + 0.5 * ((joined @ drawn_pairs) * joined).sum(axis=1)
            if signs is not None:
                error = error + math.sqrt(sizes.joint) * signs.at_data()
            spread = np.sqrt(sizes.own + self.noise)
            error = error + spread * rng.standard_normal(prior.size)
            coefficients = coefficients - keep * (self.inverse @ error)
            drawn_constant, drawn_single, drawn_pairs = keep * drawn_constant, keep * drawn_single, keep * drawn_pairs

        single = table @ (drawn_single + scale * (joined.T @ coefficients))
        moved = per_pair * ((joined * coefficients[:, None]).T @ joined) * _apart(widths)
        pairs = table @ (moved if drawn_pairs is None else moved + drawn_pairs) @ table.T
        joint = inactive = weights = None
        if with_joint:
            joint, inactive = self._joint_tables(grid)
            weights = sizes.joint * coefficients
            if signs is not None:
                more, off = signs.tables(grid)
                joint, inactive = np.concatenate([joint, more], axis=1), np.concatenate([inactive, off], axis=1)
                weights = np.concatenate([weights, (1 - pull) * math.sqrt(sizes.joint) * signs.weights])
        return Surface(
            constant=drawn_constant + CONSTANT * float(coefficients.sum()),
            single=np.append(single, 0.0),
            pairs=np.pad(pairs, (0, 1)),
            joint=joint,
            inactive=inactive,
            weights=weights,
        )

    def _joint_tables(self, grid: Grid) -> tuple[Array, Array]:
        prior = self.prior
        rows = []
        for position, level in enumerate(grid.levels):
            on = np.ones(len(level.features), dtype=bool)
            rows.append(prior.mixed(level.features @ prior.features[position].T, position, on))
        off = [
            prior.mixed(np.zeros((1, prior.size)), position, np.zeros(1, dtype=bool))
            for position in range(len(grid.levels))
        ]
        return np.concatenate([*rows, np.zeros((1, prior.size))]), np.concatenate(off)


class _Signs:
    """A draw from the prior of the joint effect: a sum of random products, some factors left out of each.

    For one product g(x) = product over factors k of s_k(x_k), with s_k = 1 with the probability `Prior.apart` and
    else a random projection of the features to which signs are the weights, E[g(x) g(y)] is the joint kernel.
    """

    def __init__(self, prior: Prior, rng: np.random.Generator) -> None:
        self._prior = prior
        shape = (len(prior.features), JOINT_FEATURES)
        self._out = rng.random(shape) < prior.apart
        self._off = rng.choice([-1.0, 1.0], size=shape)
        self._signs = [rng.choice([-1.0, 1.0], size=(features.shape[1], JOINT_FEATURES)) for features in prior.features]
        self.weights = rng.standard_normal(JOINT_FEATURES) / math.sqrt(JOINT_FEATURES)

    def _rows(self, position: int, features: Array) -> Array:
        return np.where(self._out[position], 1.0, features @ self._signs[position])

    def at_data(self) -> Array:
        found = np.ones((self._prior.size, JOINT_FEATURES))
        for position, features in enumerate(self._prior.features):
            on = self._prior.active[:, position, None]
            found *= np.where(on, self._rows(position, features), self._inactive[position])
        product: Array = found @ self.weights
        return product

    @property
    def _inactive(self) -> Array:
        return np.where(self._out, 1.0, self._off)

    def tables(self, grid: Grid) -> tuple[Array, Array]:
        rows = [self._rows(position, level.features) for position, level in enumerate(grid.levels)]
        return np.concatenate([*rows, np.zeros((1, JOINT_FEATURES))]), self._inactive


def fit(prior: Prior, rows: Rows, sizes: Sizes) -> Fit:
    """The posterior of f at the configurations, and the examples' effects."""
    pairs, joint = prior.kernels()
    joined = prior.joined()
    scale = np.repeat(sizes.single, [features.shape[1] for features in prior.features])
    kernel = CONSTANT + (joined * scale) @ joined.T + sizes.pairs * pairs + sizes.joint * joint
    kernel[np.diag_indices(prior.size)] += sizes.own
    work = _Work(prior.size, rows, sizes)
    for _ in range(NEWTON if rows.link or work.effects.size else 1):
        response, noise = work.responses()
        inverse = np.asarray(np.linalg.inv(kernel + np.diag(noise)), dtype=np.float64)
        work.mean = response - noise * (inverse @ response)
        # Configurations and examples in turn, which takes a few rounds where only some have met.
        for _ in range(INNER if work.effects.size else 0):
            work.update_examples()
            response = work.mean + work.residuals() * noise / sizes.noise
            work.mean = response - noise * (inverse @ response)
    variance = noise - noise**2 * np.diag(inverse)
    return Fit(
        prior=prior,
        rows=rows,
        sizes=sizes,
        inverse=inverse,
        response=response,
        noise=noise,
        mean=work.mean,
        variance=np.maximum(variance, 1e-12),
        examples=work.effects,
        counts=work.counts,
    )


class _Work:
    """Working responses per configuration, and example effects, while a fit is going on."""

    def __init__(self, size: int, rows: Rows, sizes: Sizes) -> None:
        self.size, self.rows, self.sizes = size, rows, sizes
        self.counts = np.bincount(rows.configs, minlength=size).astype(np.float64)
        mean = float(rows.scores.mean())
        start = math.log((mean * len(rows.scores) + 0.5) / ((1 - mean) * len(rows.scores) + 0.5)) if rows.link else mean
        self.mean = np.full(size, start)
        self.effects = np.zeros(int(rows.examples.max()) + 1)

    def predicted(self) -> tuple[Array, Array]:
        """Expected score of each row, and the slope of the link there, which for counts is also the variance."""
        rows = self.rows
        inner = self.mean[rows.configs]
        if self.effects.size:
            inner = inner + np.where(rows.examples >= 0, self.effects[rows.examples], 0.0)
        if not rows.link:
            return inner, np.ones_like(inner)
        expected = _sigmoid(inner)
        return expected, np.maximum(expected * (1 - expected), 0.01)

    def responses(self) -> tuple[Array, Array]:
        """The working response of each configuration and its noise variance."""
        _, slope = self.predicted()
        weight = np.bincount(self.rows.configs, weights=slope, minlength=self.size)
        return self.mean + self.residuals() / weight, self.sizes.noise / weight

    def residuals(self) -> Array:
        """How much better than expected each configuration was, summed up over its rows."""
        expected, _ = self.predicted()
        sums = np.bincount(self.rows.configs, weights=self.rows.scores - expected, minlength=self.size)
        return sums.astype(np.float64)

    def update_examples(self) -> None:
        if not self.effects.size:
            return
        known = self.rows.examples >= 0
        expected, slope = self.predicted()
        places = self.rows.examples[known]
        weight = np.bincount(places, weights=slope[known], minlength=self.effects.size) / self.sizes.noise
        residual = (self.rows.scores - expected)[known] / self.sizes.noise
        pull = np.bincount(places, weights=residual, minlength=self.effects.size) - self.effects / self.sizes.examples
        self.effects = self.effects + pull / (weight + 1 / self.sizes.examples)


def _left_out_of_constant(response: Array, variance: Array) -> float:
    """The sum of left-out log densities where f is one constant (the inverse by Sherman and Morrison)."""
    weight = 1 / variance
    total = weight.sum() + 1 / CONSTANT
    precision = weight - weight**2 / total
    residual = (weight * response - weight * (weight @ response) / total) / precision
    return float((0.5 * (np.log(precision / (2 * math.pi)) - residual**2 * precision)).sum())


def _sigmoid(logit: Array) -> Array:
    found: Array = 0.5 * (1 + np.tanh(0.5 * logit))
    return found


def _block_diagonal(blocks: Sequence[Array]) -> Array:
    found = np.zeros((sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)))
    row = column = 0
    for block in blocks:
        found[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return found


def _apart(widths: Sequence[int]) -> Array:
    """1 where two features are of different factors."""
    owner = np.repeat(np.arange(len(widths)), widths)
    found: Array = (owner[:, None] != owner[None, :]).astype(np.float64)
    return found
