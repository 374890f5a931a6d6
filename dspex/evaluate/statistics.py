"""How sure a mean is, and whether one program is really better than another.

An interval is a pair ``(low, high)`` in the units of the values. Everything is deterministic: what is drawn
at random is drawn from ``seed``. numpy is imported when `paired_test` first needs it.

>>> mean_interval([0.2, 0.4, 0.4, 0.6])
(0.14015..., 0.65984...)
>>> wilson_interval(45, 50)
(0.78639..., 0.95652...)
>>> paired_test([1, 1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1]).p_value
0.03125
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["PairedTest", "mean_interval", "paired_test", "score_interval", "wilson_interval"]

Interval = tuple[float, float]

_EVERYTHING: Interval = (-math.inf, math.inf)
# How many different sums the exact permutation distribution may have before it is simulated instead.
# Differences of 0/1 scores collapse to n + 1 sums, so they are exact for any number of examples.
_EXACT_SUMS = 1 << 15


def mean_interval(values: Iterable[float], *, confidence: float = 0.95) -> Interval:
    """Student's t interval for the mean of independent values.

    One value says nothing about its spread, so its interval is everything; no value has ``(nan, nan)``.

    >>> mean_interval([3.0])
    (-inf, inf)
    """
    values = list(values)
    _check_confidence(confidence)
    count = len(values)
    if count == 0:
        return (math.nan, math.nan)
    if count == 1:
        return _EVERYTHING
    mean = fmean(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = _t_quantile((1 + confidence) / 2, count - 1) * math.sqrt(variance / count)
    return (mean - half, mean + half)


def wilson_interval(successes: float, trials: int, *, confidence: float = 0.95) -> Interval:
    """The score interval for a share of successes; it stays inside 0..1 and is honest at 0 % and 100 %.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22
    (1927).

    >>> wilson_interval(0, 10)
    (0.0, 0.27753...)
    """
    _check_confidence(confidence)
    if trials < 0 or not 0 <= successes <= trials:
        raise ValueError(
            f"successes must lie in 0..trials, got successes={successes!r} and trials={trials!r}; "
            f"write wilson_interval(45, 50) for 45 right answers out of 50."
        )
    if trials == 0:
        return (math.nan, math.nan)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    weight = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / weight
    half = z / weight * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return (
        0.0 if successes == 0 else max(0.0, centre - half),
        1.0 if successes == trials else min(1.0, centre + half),
    )


def score_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The interval that fits the values: Wilson's for right-or-wrong scores, Student's t for all others.

    >>> score_interval([1.0, 1.0, 1.0]) == wilson_interval(3, 3)
    True
    """
    if all(value in (0.0, 1.0) for value in values):
        return wilson_interval(math.fsum(values), len(values), confidence=confidence)
    return mean_interval(values, confidence=confidence)


@attrs.frozen
class PairedTest:
    """Two programs compared on the same examples: what `paired_test` found.

    ``difference`` is the mean of ``new - old``, ``interval`` its confidence interval, ``p_value`` the
    two-sided probability of a difference at least this large if the two were interchangeable, ``count`` the
    number of examples, ``method`` how ``p_value`` was found.
    """

    difference: float
    interval: Interval
    p_value: float
    count: int
    confidence: float
    method: Literal["exact", "simulated"]

    @property
    def significant(self) -> bool:
        """Whether the difference is larger than chance explains at this confidence."""
        return self.p_value <= 1 - self.confidence

    def __str__(self) -> str:
        low, high = self.interval
        interval = f"[{low:+.3f}, {high:+.3f}]"
        return f"{self.difference:+.3f} {interval}, p = {self.p_value:.3g} on {self.count} examples"


def paired_test(
    new: Sequence[float],
    old: Sequence[float],
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 10_000,
) -> PairedTest:
    """Whether ``new`` beats ``old``, where the i-th values of both belong to the same example.

    The p-value is Fisher's sign-flip permutation test on the differences: computed exactly as long as the
    sums of flipped differences take few enough values (always so for 0/1 scores, otherwise up to some 15
    examples that differ), simulated with ``resamples`` draws from ``seed`` beyond. The interval of the mean
    difference is Bonett and Price's for 0/1 scores (it stays honest when all examples agree); otherwise a
    bootstrap percentile interval over examples, widened for small samples.

    Raises `ValueError` when the two have different lengths or nothing in them.

    Sources: R. A. Fisher, "The Design of Experiments" (1935), section 21; B. Phipson and G. K. Smyth,
    "Permutation p-values should never be zero" (2010) for the simulated p-value; T. Hesterberg, "What
    teachers should know about the bootstrap" (2015), section 4.5 for the widened interval; D. G. Bonett and
    R. M. Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data" (2012).

    >>> print(paired_test([0.9, 0.8, 0.7, 0.9, 0.8], [0.5, 0.6, 0.6, 0.4, 0.5]))
    +0.300 [+0.120, +0.480], p = 0.0625 on 5 examples
    """
    import numpy as np

    _check_confidence(confidence)
    if len(new) != len(old):
        raise ValueError(
            f"new and old must hold the same examples in the same order, got {len(new)} and {len(old)} values"
        )
    if len(new) == 0:
        raise ValueError("new and old hold no values, so there is nothing to compare; give at least one example")
    better, worse = np.asarray(new, dtype=np.float64), np.asarray(old, dtype=np.float64)
    differences = better - worse
    if not np.isfinite(differences).all():
        raise ValueError("new and old must hold finite numbers only; leave failed examples out of both")
    rng = np.random.default_rng(seed)
    p_value = _exact_p(differences)
    method: Literal["exact", "simulated"] = "exact"
    if p_value is None:
        p_value, method = _simulated_p(differences, rng, resamples), "simulated"
    if np.isin(better, (0, 1)).all() and np.isin(worse, (0, 1)).all():
        interval = _right_or_wrong_interval(differences, confidence)
    else:
        interval = _bootstrap_interval(differences, rng, resamples, confidence)
    return PairedTest(
        difference=float(differences.mean()),
        interval=interval,
        p_value=p_value,
        count=len(differences),
        confidence=confidence,
        method=method,
    )


def _exact_p(differences: Floats) -> float | None:
    """The share of all 2^n sign flips whose sum is as far from zero; ``None`` when too many sums differ."""
    import numpy as np

    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 1.0
    # Sums that are equal but for rounding are one sum, so they are counted on a grid far finer than the data.
    scale = 1e-9 * float(np.abs(nonzero).sum())
    steps = np.round(np.abs(nonzero) / scale).astype(np.int64)
    observed = abs(int(np.round(nonzero / scale).astype(np.int64).sum()))
    sums: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
    weights: Floats = np.ones(1)
    # Equal steps first: their sums collapse before the others multiply them.
    for step in np.sort(steps):
        sums, where = np.unique(np.concatenate((sums - step, sums + step)), return_inverse=True)
        halves = np.concatenate((weights, weights)) / 2
        weights = np.asarray(np.bincount(where, weights=halves), dtype=np.float64)
        if len(sums) > _EXACT_SUMS:
            return None
    # Each difference may be rounded by half a step.
    return float(min(1.0, weights[np.abs(sums) >= observed - len(steps)].sum()))


def _simulated_p(differences: Floats, rng: np.random.Generator, resamples: int) -> float:
    import numpy as np

    observed = abs(float(differences.sum())) * (1 - 1e-12)
    extreme = 0
    for size in _chunks(resamples, len(differences)):
        signs = rng.integers(0, 2, size=(size, len(differences)), dtype=np.int8) * 2.0 - 1.0
        extreme += int((np.abs(signs @ differences) >= observed).sum())
    # The observed arrangement is one of the possible ones, so the p-value is never zero.
    return (extreme + 1) / (resamples + 1)


def _right_or_wrong_interval(differences: Floats, confidence: float) -> Interval:
    # Bonett and Price: one more example is imagined won, and one more lost.
    count = len(differences) + 2
    won = (int((differences > 0).sum()) + 1) / count
    lost = (int((differences < 0).sum()) + 1) / count
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    half = z * math.sqrt((won + lost - (won - lost) ** 2) / count)
    return (max(-1.0, won - lost - half), min(1.0, won - lost + half))


def _bootstrap_interval(differences: Floats, rng: np.random.Generator, resamples: int, confidence: float) -> Interval:
    import numpy as np

    count = len(differences)
    if count == 1:
        return _EVERYTHING
    means = np.concatenate(
        [differences[rng.integers(0, count, size=(size, count))].mean(axis=1) for size in _chunks(resamples, count)]
    )
    # A plain percentile interval is as narrow as a z interval with the population variance; this makes it as
    # wide as a t interval with the sample variance.
    widened = -_t_quantile((1 + confidence) / 2, count - 1) * math.sqrt(count / (count - 1))
    tail = NormalDist().cdf(widened)
    low, high = np.quantile(means, (tail, 1 - tail))
    return (float(low), float(high))


def _chunks(resamples: int, count: int) -> list[int]:
    # About 16 MB of draws at a time, however many examples there are.
    size = max(1, min(resamples, 2_000_000 // max(1, count)))
    whole, rest = divmod(resamples, size)
    return [size] * whole + ([rest] if rest else [])


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}; write confidence=0.95")


@lru_cache(maxsize=1024)
def _t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t distribution for ``probability`` above 0.5, by bisection of its CDF."""
    low, high = 0.0, 2.0
    while _t_cdf(high, freedom) < probability:
        low, high = high, high * 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _t_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _t_cdf(t: float, freedom: int) -> float:
    # P(T > t) = I_x(v/2, 1/2) / 2 with x = v / (v + t^2).
    return 1 - _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        # The fraction converges fast only on the near side of the mean.
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # Lentz's method: c and d are the ratios of successive numerators and denominators.
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + numerator * d or tiny)
            c = 1 + numerator / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction / a
