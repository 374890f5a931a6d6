"""Anytime-valid evidence that the values of a finite set sum to less than zero, from some that were drawn at random.

Somebody bets on it, draw by draw, with a game that cannot be won in the long run unless it is so. If the sum is zero or
more, the chance that the wealth ever reaches 1 / alpha is at most alpha, however often and whenever one looks (Ville's
inequality); nothing has to be said before about when one will stop.

Sources: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B, sections 4 and 5
(betting; sampling without replacement); Shekhar, Xu, Lipton, Liang & Ramdas 2023, "Risk-limiting financial audits via
weighted sampling without replacement", UAI, section 2 (draws with unequal chances). Instead of one bet that is guessed
from the past, the wealth is spread over fixed fractions of the largest bet, which needed fewer draws in our
measurements (benchmarks/racing.py).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["wealth"]

Floats = NDArray[np.float64]

_FRACTIONS = (np.arange(8) + 0.5) / 8  # of the largest bet that cannot be lost entirely
_ROUNDING = 1e-9  # a sum this close to zero, per example, counts as zero


def wealth(values: Floats, *, rooms: Floats, weights: Floats | None = None) -> Floats:
    """The wealth after each draw of one who bets that all values sum to less than zero; it begins at 1.

    Each example is drawn from those that are left, with a chance proportional to its weight. Then, where the sum is not
    negative, the wealth is a supermartingale. It is infinite from where on the sum must be negative, even if what
    is left had the largest values it can have.

    Args:
        values: of the n examples drawn so far, in their order.
        rooms: the largest value that each example can have, shape (N,): those drawn in their order, then the others.
        weights: of the examples in the same order, shape (N,), positive; None draws uniformly. They may not depend on
            values that were not known when they were chosen.

    Returns:
        shape (n,).

    >>> wealth(np.array([-1.0, -1.0, -1.0]), rooms=np.full(20, 1.0)).round(2)
    array([1.5 , 2.42, 4.27])
    >>> wealth(np.array([-1.0, -1.0]), rooms=np.full(3, 1.0))
    array([1.5, inf])
    """
    count, size = len(values), len(rooms)
    if weights is None:
        weights = np.ones(size)
    before = np.cumsum(values) - values
    left = np.cumsum(weights[::-1])[::-1][:count]  # the weight of what is left before each draw
    # An example that is drawn with the chance c counts 1/c times, which on average is the sum of what is left.
    most = np.maximum.accumulate((rooms / weights)[::-1])[::-1][:count] * left + before
    gains = values / weights[:count] * left + before
    tiny = _ROUNDING * size
    # Where nothing can be gained any more, nothing is bet.
    shares = np.where(most > tiny, np.minimum(gains / np.where(most > tiny, most, 1.0), 1.0), 0.0)
    path: Floats = np.cumprod(1 - _FRACTIONS[:, None] * shares, axis=1).mean(axis=0)
    ahead = np.concatenate([np.cumsum(rooms[::-1])[::-1], [0.0]])[1 : count + 1]  # what is left can add at most
    certain = np.logical_or.accumulate(before + values + ahead < -tiny)
    return np.where(certain, np.inf, path)
