"""Functions of a configuration that can be climbed: tables over the values of single variables and of pairs.

A `Grid` is what is compared for one trial: some values (`Levels`) of each variable, and which variables are active
under which values. A `Surface` is one function over it: a mean, or a draw from a posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.samplers.factors import Array, Levels, Whole

__all__ = ["Grid", "Surface", "climb"]

_SWEEPS = 6

Rule = tuple[tuple[int, int], ...]
"""Under which levels of which factors a factor is active: (position of the factor, its level) each."""


@attrs.frozen(eq=False)
class Grid:
    """Levels of each factor, by position. ``rules[k]`` is None for a factor that is not to be active at all."""

    levels: Sequence[Levels]
    rules: Sequence[Rule | None]
    starts: Whole = attrs.field(init=False)
    """Where the levels of each factor begin in tables over all levels; the last place is 'not active'."""
    parents: frozenset[int] = attrs.field(init=False)
    _nested: Sequence[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        sizes = [len(level.columns) for level in self.levels]
        object.__setattr__(self, "starts", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
        named = frozenset(position for rule in self.rules if rule for position, _ in rule)
        object.__setattr__(self, "parents", named)

        def depth(position: int) -> int:
            return 1 + max((depth(other) for other, _ in self.rules[position] or ()), default=0)

        conditional = [position for position, rule in enumerate(self.rules) if rule]
        object.__setattr__(self, "_nested", sorted(conditional, key=depth))

    def active(self, chosen: Whole) -> NDArray[np.bool_]:
        """Which factors are active when ``chosen`` (n, factors) levels are: the rules name factors that are too."""
        found = np.ones(chosen.shape, dtype=bool)
        for position, rule in enumerate(self.rules):
            if rule is None:
                found[:, position] = False
        for position in self._nested:
            for other, level in self.rules[position] or ():
                found[:, position] &= found[:, other] & (chosen[:, other] == level)
        return found

    def places(self, chosen: Whole) -> Whole:
        """``chosen`` levels as places in tables over all levels."""
        places: Whole = np.where(self.active(chosen), chosen + self.starts[:-1], self.starts[-1])
        return places


@attrs.frozen(eq=False)
class Surface:
    """constant + single[a] + pairs[a, b] over all active a < b + (product over factors of joint[a]) @ weights.

    ``single`` (levels + 1), ``pairs`` (levels + 1, levels + 1) and ``joint`` (levels + 1, columns) are tables over the
    places of a `Grid`. The last place is that of a factor that is not active: zero, except that for ``joint`` the
    row of the factor in ``inactive`` (factors, columns) stands there.
    """

    constant: float
    single: Array
    pairs: Array
    joint: Array | None
    inactive: Array | None
    weights: Array | None

    def values(self, places: Whole) -> Array:
        """The function at some rows of places, shape (n, factors)."""
        found: Array = self.constant + self.single[places].sum(axis=1)
        found = found + 0.5 * self.pairs[places[:, :, None], places[:, None, :]].sum(axis=(1, 2))
        if self.weights is not None:
            found = found + self._product(places, skip=None) @ self.weights
        return found

    def moves(self, places: Whole, values: Array, factor: int, candidates: Whole) -> Array:
        """The values, shape (n, candidates), when one factor takes other places; the factor is active."""
        rows = self.pairs[candidates]
        change = self.single[candidates][None, :] + rows[:, places].sum(axis=2).T
        here = places[:, factor]
        before = self.single[here] + np.take_along_axis(self.pairs[here], places, axis=1).sum(axis=1)
        found: Array = (values - before)[:, None] + change
        if self.joint is not None and self.weights is not None:
            rest = self._product(places, skip=factor) * self.weights
            now = (rest * self.joint[here]).sum(axis=1)
            found = found - now[:, None] + rest @ self.joint[candidates].T
        return found

    def _product(self, places: Whole, *, skip: int | None) -> Array:
        assert self.joint is not None
        assert self.inactive is not None
        last = len(self.joint) - 1
        found = np.ones((len(places), self.joint.shape[1]))
        for factor in range(places.shape[1]):
            if factor != skip:
                here = places[:, factor]
                rows = self.joint[here]
                off = here == last
                if off.any():
                    rows = np.where(off[:, None], self.inactive[factor], rows)
                found *= rows
        return found


def climb(
    grid: Grid,
    surfaces: Sequence[Surface],
    starts: Whole,
    free: Sequence[int],
    utility: Callable[[Array], Array],
) -> tuple[Whole, Array]:
    """Coordinate ascent of ``utility(values of the surfaces)`` from several rows of levels, all at once.

    ``utility`` takes shape (surfaces, ...) and gives (...). Returns the levels that were reached and their utility.
    """
    chosen = starts.copy()
    places = grid.places(chosen)
    values = np.stack([surface.values(places) for surface in surfaces])
    best = utility(values)
    rows = np.arange(len(chosen))
    for _ in range(_SWEEPS):
        moved = False
        for factor in free:
            levels = np.arange(len(grid.levels[factor].columns))
            if len(levels) < 2:
                continue
            if factor in grid.parents:
                tried = np.repeat(chosen, len(levels), axis=0)
                tried[:, factor] = np.tile(levels, len(chosen))
                there = grid.places(tried)
                options = np.stack([s.values(there).reshape(len(chosen), -1) for s in surfaces])
            else:
                candidates = levels + grid.starts[factor]
                options = np.stack(
                    [s.moves(places, value, factor, candidates) for s, value in zip(surfaces, values, strict=True)]
                )
            found = utility(options)
            target = found.argmax(axis=1)
            better = (found[rows, target] > best + 1e-9) & (places[:, factor] < grid.starts[-1])
            if better.any():
                moved = True
                chosen[better, factor] = target[better]
                values[:, better] = options[:, rows[better], target[better]]
                best = np.where(better, found[rows, target], best)
                places = grid.places(chosen)
        if not moved:
            break
    return chosen, best
