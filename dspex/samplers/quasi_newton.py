"""Minimising a smooth function in a box.

Nocedal and Wright, "Numerical Optimization", 2nd edition, algorithm 7.4 (L-BFGS) with the projection of Bertsekas,
"Projected Newton Methods for Optimization Problems with Simple Constraints", SIAM Journal on Control and Optimization
1982: variables that are on a bound and pushed against it stay there, the others take the step, which is cut off at the
bounds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["minimize"]

Array = NDArray[np.float64]

_MEMORY = 8  # steps that the curvature is taken from
_HALVINGS = 12


def minimize(
    function: Callable[[Array], tuple[float, Array]],
    start: Array,
    low: Array,
    high: Array,
    *,
    steps: int,
    tolerance: float = 1e-5,
    longest: float = 1.0,
) -> tuple[Array, float]:
    """The lowest point that was come to from ``start``, and the value there.

    ``function`` gives value and gradient; a value that is not finite is never stepped to. It ends after so many
    ``steps``, or when one lowers the value by less than ``tolerance``. The first step is at most ``longest`` long.

    >>> def bowl(x):
    ...     return float(((x - 3) ** 2).sum()), 2 * (x - 3)
    >>> minimize(bowl, np.zeros(2), np.zeros(2), np.array([5.0, 1.0]), steps=20)[0].round(3).tolist()
    [3.0, 1.0]
    """
    point = np.clip(start, low, high)
    value, gradient = function(point)
    pairs: list[tuple[Array, Array, float]] = []
    for _ in range(steps):
        free = ~(((point <= low) & (gradient > 0)) | ((point >= high) & (gradient < 0)))
        downhill = np.where(free, -gradient, 0.0)
        if not downhill.any() or not np.isfinite(value):
            break
        direction = _direction(-downhill, pairs, free)
        if direction @ gradient >= 0:
            pairs.clear()
            direction = downhill
        if not pairs:
            direction *= min(1.0, longest / float(np.abs(direction).max()))
        moved = _search(function, point, value, gradient, direction, low, high)
        if moved is None:
            if not pairs:
                break
            pairs.clear()  # the curvature misled; once more along the gradient
            continue
        new, new_value, new_gradient = moved
        step, change = new - point, new_gradient - gradient
        curvature = float(step @ change)
        if curvature > 1e-12 * float(change @ change):
            pairs.append((step, change, 1 / curvature))
            del pairs[:-_MEMORY]
        lowered = value - new_value
        point, value, gradient = new, new_value, new_gradient
        if lowered < tolerance:
            break
    return point, value


def _direction(gradient: Array, pairs: list[tuple[Array, Array, float]], free: NDArray[np.bool_]) -> Array:
    direction = -gradient
    weights = []
    for step, change, inverse in reversed(pairs):
        weight = inverse * float(step @ direction)
        weights.append(weight)
        direction = direction - weight * change
    if pairs:
        _, change, inverse = pairs[-1]
        direction = direction / (inverse * float(change @ change))
    for (step, change, inverse), weight in zip(pairs, reversed(weights), strict=True):
        direction = direction + (weight - inverse * float(change @ direction)) * step
    found: Array = np.where(free, direction, 0.0)
    return found


def _search(
    function: Callable[[Array], tuple[float, Array]],
    point: Array,
    value: float,
    gradient: Array,
    direction: Array,
    low: Array,
    high: Array,
) -> tuple[Array, float, Array] | None:
    """The first point along the direction, halving, where the value is low enough (Armijo)."""
    length = 1.0
    for _ in range(_HALVINGS):
        new = np.clip(point + length * direction, low, high)
        if (new == point).all():
            return None
        new_value, new_gradient = function(new)
        if np.isfinite(new_value) and new_value <= value + 1e-4 * float(gradient @ (new - point)):
            return new, new_value, new_gradient
        length *= 0.4
    return None
