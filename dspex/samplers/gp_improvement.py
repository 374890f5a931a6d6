"""What is hoped for from one more trial, in logarithms, from what is expected of its objectives.

One objective: the expected improvement (Mockus 1978) of Ament et al., "Unexpected Improvements to Expected Improvement
for Bayesian Optimization", NeurIPS 2023.

Several: the expected improvement of one Chebyshev scalarization, the largest of the weighted objectives, with weights
that are others for each trial (Knowles, "ParEGO: A Hybrid Algorithm With On-Line Landscape Approximation for Expensive
Multiobjective Optimization Problems", IEEE Transactions on Evolutionary Computation 2006). Different here: every
objective has a model of its own, as in Paria et al., "A Flexible Framework for Multi-Objective Bayesian Optimization
using Random Scalarizations", UAI 2019. The largest of independent normal variables stays below t with the product of
their probabilities to, so the expected improvement is an integral over t alone, for any number of objectives.
"""

from __future__ import annotations

from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.samplers.normal import log_cdf, log_improvement

__all__ = ["Chebyshev", "Improvement", "Nothing", "Single"]

Array = NDArray[np.float64]

# With 32 an objective that is known much better than the others makes slopes that point elsewhere, by 0.1.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_DROP = 60.0  # twice the logarithm by which the integrand has fallen where the integral is ended


class Improvement(Protocol):
    """The logarithm (k) of the expected improvement at ``mean`` and ``deviation`` (objectives, k), and its derivatives
    by both, in their shape."""

    def __call__(self, mean: Array, deviation: Array) -> tuple[Array, Array, Array]: ...


@attrs.frozen
class Nothing:
    """No improvement to hope for, while there is nothing to improve on: only feasibility counts."""

    def __call__(self, mean: Array, deviation: Array) -> tuple[Array, Array, Array]:
        return np.zeros(mean.shape[1]), np.zeros_like(mean), np.zeros_like(mean)


@attrs.frozen
class Single:
    """Below ``best``, of one objective that is measured with a standard deviation of ``noise``.

    Augmented (Huang et al., "Global Optimization of Stochastic Black-Box Systems via Sequential Kriging Meta-Models",
    Journal of Global Optimization 2006): less is hoped for where most of what would be measured is noise, or else the
    same place would be measured for ever.
    """

    best: float
    noise: float = 0.0

    def __call__(self, mean: Array, deviation: Array) -> tuple[Array, Array, Array]:
        z = (self.best - mean) / deviation
        value, slope = log_improvement(z)
        # 1 - noise / sqrt(deviation^2 + noise^2), without cancellation.
        both = np.sqrt(deviation * deviation + self.noise * self.noise)
        learned = 2 * np.log(deviation) - np.log(both) - np.log(both + self.noise)
        by_deviation = 2 / deviation - deviation / both * (1 / both + 1 / (both + self.noise))
        return (
            (value + np.log(deviation) + learned)[0],
            -slope / deviation,
            (1 - z * slope) / deviation + by_deviation,
        )


@attrs.frozen(eq=False)
class Chebyshev:
    """Below ``best``, of the largest of ``weights * (objective - ideal)`` (objectives)."""

    weights: Array
    ideal: Array
    best: float

    def __call__(self, mean: Array, deviation: Array) -> tuple[Array, Array, Array]:
        weights = self.weights[:, None]
        middle, width = weights * (mean - self.ideal[:, None]), weights * deviation
        z = (self.best - middle) / width
        # Beyond this, one of the factors has become negligible.
        end = (width * (z + np.sqrt(np.minimum(z, 0.0) ** 2 + _DROP))).min(axis=0)
        nodes = 0.5 * end[:, None] * (1 + _NODES)
        below, slope = log_cdf((self.best - nodes - middle[:, :, None]) / width[:, :, None])
        logs = below.sum(axis=0) + np.log(_WEIGHTS)
        top = logs.max(axis=1)
        parts = np.exp(logs - top[:, None])
        total = parts.sum(axis=1)
        value = np.log(0.5 * end * total) + top
        share = parts / total[:, None] * slope
        lies = (self.best - nodes - middle[:, :, None]) / width[:, :, None]
        return value, -share.sum(axis=2) / deviation, -(share * lies).sum(axis=2) / deviation

    def scalarized(self, values: Array) -> Array:
        """Of some values (objectives, k) the scalars (k)."""
        found: Array = (self.weights[:, None] * (values - self.ideal[:, None])).max(axis=0)
        return found
