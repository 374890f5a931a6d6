"""Where the most is to be hoped for: the acquisition function of the Gaussian process sampler, and how it is climbed.

What is maximised is the logarithm of the expected improvement times the probability that every constraint holds
(Gardner et al., "Bayesian Optimization with Inequality Constraints", ICML 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.gp_improvement import Improvement
from dspex.samplers.gp_process import Process
from dspex.samplers.layout import Flags, Layout, Tree
from dspex.samplers.normal import log_cdf
from dspex.samplers.quasi_newton import minimize

__all__ = ["Acquisition", "climb"]

Array = NDArray[np.float64]

DRAWS = 256
"""Configurations that are compared first."""

STARTS = 4
"""Of them so many are improved; and as many of those tried already."""

_ROUNDS = 8
_STEPS = 12
_CHECKS = 64  # configurations that are held against the space's constraints, best first


class Acquisition:
    """The logarithm of what a configuration promises.

    Args:
        layout: The variables.
        tree: When they are active.
        objectives: A process for each.
        improvement: What is hoped for from the objectives.
        limits: Of each constraint a process, and the value up to which it holds.
    """

    def __init__(
        self,
        layout: Layout,
        tree: Tree,
        objectives: Sequence[Process],
        improvement: Improvement,
        limits: Sequence[tuple[Process, float]],
    ) -> None:
        self.layout, self.tree = layout, tree
        self._objectives, self._improvement, self._limits = objectives, improvement, limits

    def values(self, rows: Array) -> Array:
        """At some rows."""
        where = self.layout.columns(rows, self.tree.active(rows))
        found = [process.posterior(where) for process in self._objectives]
        value = self._improvement(np.array([mean for mean, _ in found]), np.array([width for _, width in found]))[0]
        for process, limit in self._limits:
            mean, width = process.posterior(where)
            value = value + log_cdf((limit - mean) / width)[0]
        return value

    def slopes(self, row: Array, columns: NDArray[np.intp]) -> tuple[float, Array]:
        """At one row, with the derivatives by some columns of numbers (as `Layout.columns` has them)."""
        where = self.layout.columns(row[None], self.tree.active(row[None]))
        found = [process.slopes(where, columns) for process in self._objectives]
        mean, width = (np.array([[one[index]] for one in found]) for index in (0, 1))
        value, by_mean, by_width = self._improvement(mean, width)
        gradient = np.zeros(len(columns))
        for index, one in enumerate(found):
            gradient += by_mean[index, 0] * one[2] + by_width[index, 0] * one[3]
        total = float(value[0])
        for process, limit in self._limits:
            middle, deviation, of_mean, of_width = process.slopes(where, columns)
            z = (limit - middle) / deviation
            feasible, slope = (float(one[0]) for one in log_cdf(np.array([z])))
            total += feasible
            gradient -= slope / deviation * (of_mean + z * of_width)
        return total, gradient


def climb(
    acquisition: Acquisition,
    draws: Array,
    tried: Array,
    free: Flags,
    allowed: Callable[[Array], bool],
    is_new: Callable[[Array], bool],
    rng: np.random.Generator,
) -> Array | None:
    """The best row that was found from ``draws`` and from rows that were ``tried``, changing ``free`` variables.

    Several rows are improved at a time: by changing one variable each, as long as that helps, then along the slopes of
    the continuous numbers. Of those that are ``allowed`` one that ``is_new`` is preferred; without any it is ``None``.
    """
    values = acquisition.values(draws)
    starts = _first(draws, values, allowed, STARTS)
    starts += [row for row in tried if allowed(row)]
    if not starts:
        return None
    chosen = np.array(starts)
    reached = acquisition.values(chosen)
    for _ in range(2):
        chosen, reached, moved = _exchanged(acquisition, chosen, reached, free, allowed, rng)
        # The far-off ones are left behind.
        best = np.argsort(-reached, kind="stable")[:3]
        chosen, reached = _distinct(chosen[best], reached[best])
        for index in range(len(chosen)):
            chosen[index], reached[index] = _along(acquisition, chosen[index], reached[index], free, allowed)
        if not moved:
            break
    found = np.concatenate([chosen, draws])
    order = np.concatenate([np.argsort(-reached, kind="stable"), len(chosen) + np.argsort(-values, kind="stable")])
    new = next((index for index in order if is_new(found[index]) and allowed(found[index])), None)
    best_row: Array = found[order[0] if new is None else new]
    return best_row


def _first(rows: Array, values: Array, allowed: Callable[[Array], bool], count: int) -> list[Array]:
    found: list[Array] = []
    for index in np.argsort(-values, kind="stable")[:_CHECKS]:
        if allowed(rows[index]):
            found.append(rows[index])
            if len(found) == count:
                break
    return found


def _distinct(rows: Array, values: Array) -> tuple[Array, Array]:
    _, first = np.unique(rows, axis=0, return_index=True)
    first.sort()
    return rows[first], values[first]


def _exchanged(
    acquisition: Acquisition,
    rows: Array,
    values: Array,
    free: Flags,
    allowed: Callable[[Array], bool],
    rng: np.random.Generator,
) -> tuple[Array, Array, bool]:
    """Each row with single variables changed, as long as that is better: the best change first."""
    layout, tree = acquisition.layout, acquisition.tree
    rows, values = rows.copy(), values.copy()
    moving, ever = np.arange(len(rows)), False
    for _ in range(_ROUNDS):
        active = tree.active(rows[moving]) & free
        changed: list[Array] = []
        owner: list[int] = []
        for index, place in enumerate(moving):
            for variable in active[index].nonzero()[0]:
                near = layout.neighbours(rows[place], int(variable), rng)
                changed.append(near)
                owner += [int(place)] * len(near)
        if not owner:
            break
        every, owners = np.concatenate(changed), np.array(owner)
        found = acquisition.values(every)
        still = []
        for place in moving:
            mine = (owners == place).nonzero()[0]
            better = mine[found[mine] > values[place] + 1e-6]
            for index in better[np.argsort(-found[better], kind="stable")][:_CHECKS]:
                if allowed(every[index]):
                    rows[place], values[place] = every[index], found[index]
                    still.append(place)
                    break
        if not still:
            break
        moving, ever = np.array(still), True
    return rows, values, ever


def _along(
    acquisition: Acquisition, row: Array, value: float, free: Flags, allowed: Callable[[Array], bool]
) -> tuple[Array, float]:
    """The row with its continuous numbers moved up the slopes."""
    layout = acquisition.layout
    active = acquisition.tree.active(row[None])[0] & free
    columns = np.array([one for one in layout.smooth if active[layout.of_number[one]]], dtype=np.intp)
    if not len(columns):
        return row, value
    places = layout.places[columns]
    moved = row.copy()

    def loss(shares: Array) -> tuple[float, Array]:
        moved[places] = shares
        found, gradient = acquisition.slopes(moved, columns)
        return -found, -gradient

    low, high = np.zeros(len(columns)), np.ones(len(columns))
    shares, _ = minimize(loss, row[places], low, high, steps=_STEPS, longest=0.1)
    new = row.copy()
    new[places] = shares
    new = layout.snapped(new)
    reached = float(acquisition.values(new[None])[0])
    return (new, reached) if reached > value and allowed(new) else (row, value)
