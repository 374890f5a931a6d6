"""The normal distribution in logarithms, where nothing underflows: its distribution function and expected improvement.

Ament et al., "Unexpected Improvements to Expected Improvement for Bayesian Optimization", NeurIPS 2023, section 4.1:
far from the best point the expected improvement is zero in floating point and tells no direction; its logarithm does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_cdf", "log_improvement"]

Array = NDArray[np.float64]

_ROOT = math.sqrt(2 * math.pi)
_FAR = 100.0  # standard deviations from which on an asymptotic series is exact

# Chebyshev coefficients of log erfcx(x) - log t over t = 2 / (2 + x): Press et al., "Numerical Recipes", 3rd edition,
# section 6.2.2.
_ERFC = (
    -1.3026537197817094,
    6.4196979235649026e-1,
    1.9476473204185836e-2,
    -9.561514786808631e-3,
    -9.46595344482036e-4,
    3.66839497852761e-4,
    4.2523324806907e-5,
    -2.0278578112534e-5,
    -1.624290004647e-6,
    1.303655835580e-6,
    1.5626441722e-8,
    -8.5238095915e-8,
    6.529054439e-9,
    5.059343495e-9,
    -9.91364156e-10,
    -2.27365122e-10,
    9.6467911e-11,
    2.394038e-12,
    -6.886027e-12,
    8.94487e-13,
    3.13092e-13,
    -1.12708e-13,
    3.81e-16,
    7.106e-15,
    -1.523e-15,
    -9.4e-17,
    1.21e-16,
    -2.8e-17,
)


def _erfcx(x: Array) -> Array:
    """exp(x^2) erfc(x) for x >= 0, to fifteen digits."""
    t = 2 / (2 + x)
    twice = 4 * t - 2
    one, two = np.zeros_like(t), np.zeros_like(t)
    for coefficient in _ERFC[:0:-1]:
        one, two = twice * one - two + coefficient, one
    found: Array = t * np.exp(0.5 * (_ERFC[0] + twice * one) - two)
    return found


def log_cdf(z: Array) -> tuple[Array, Array]:
    """The logarithm of the standard normal distribution function, and its derivative.

    >>> value, slope = log_cdf(np.array([0.0, -40.0]))
    >>> value.round(3).tolist(), slope.round(3).tolist()
    ([-0.693, -804.608], [0.798, 40.025])
    """
    scaled = _erfcx(np.abs(z) / math.sqrt(2))
    tail = np.exp(-0.5 * z * z)
    below = z <= 0
    value = np.where(below, np.log(0.5 * scaled) - 0.5 * z * z, np.log1p(-0.5 * scaled * tail))
    slope = np.where(below, math.sqrt(2 / math.pi) / scaled, tail / (_ROOT * (1 - 0.5 * scaled * tail)))
    return value, slope


def log_improvement(z: Array) -> tuple[Array, Array]:
    """The logarithm of E[max(z + normal, 0)] = phi(z) + z Phi(z), and its derivative.

    >>> value, slope = log_improvement(np.array([0.0, -40.0]))
    >>> value.round(3).tolist(), slope.round(3).tolist()
    ([-0.919, -808.299], [1.253, 40.05])
    """
    size = np.abs(z)
    scaled = _erfcx(size / math.sqrt(2))
    tail = np.exp(-0.5 * z * z)
    above = tail / _ROOT + size * (1 - 0.5 * scaled * tail)
    # phi(z) - |z| Phi(z) = tail / root * rest; what is left of 1 where |z| is large has to be taken from its series.
    square = np.maximum(size, _FAR) ** -2.0
    rest = np.where(
        size > _FAR,
        square * (1 - 3 * square * (1 - 5 * square * (1 - 7 * square))),
        1 - size * math.sqrt(math.pi / 2) * scaled,
    )
    value = np.where(z > 0, np.log(above), np.log(rest / _ROOT) - 0.5 * z * z)
    slope = np.where(z > 0, (1 - 0.5 * scaled * tail) / above, 0.5 * _ROOT * scaled / rest)
    return value, slope
