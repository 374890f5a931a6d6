"""A forest of regression trees as the boxes of its leaves, all trees grown together, level by level.

Breiman, "Random Forests", Machine Learning 2001. Two things are particular. Options are divided freely: within a
node they are ordered by their mean, and the best division into two groups is a cut in that order (Fisher, "On
Grouping for Maximum Homogeneity", 1958). And a node is divided by a variable only when all its samples have that
variable: so nothing is made up for an inactive one, and under the other branch it has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.importance.columns import Column

__all__ = ["Leaves", "grow"]

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

Conditions = Mapping[str, Mapping[str, Mask]]

_MOST = 2000  # samples that one tree is grown on


@attrs.frozen(eq=False)
class Leaves:
    """The leaves of all trees: a row each.

    ``value`` is the mean of a leaf. ``low`` and ``high`` bound it in each column that is a number (a column of them
    for each `Column`); ``members`` says which categories it holds, those of all columns side by side, from
    ``offsets`` on.
    """

    tree: Places
    value: Array
    low: Array
    high: Array
    members: Mask
    offsets: tuple[int, ...]


@attrs.frozen(eq=False)
class _Split:
    """The best division of each node of a level."""

    gain: Array
    feature: Places
    threshold: Array
    left: Mask  # of the categories of the feature, from its first on


def grow(
    columns: Sequence[Column], conditions: Conditions, targets: Array, *, n_trees: int, max_depth: int, seed: int
) -> Leaves:
    """The leaves of ``n_trees`` trees, each grown to the end on a bootstrap sample of the rows of ``columns``.

    ``conditions`` says when each column is there (see `dspex.importance.columns.gates`).
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(targets), size=(n_trees, min(len(targets), _MOST)))
    pairs, weight = np.unique(drawn + np.arange(n_trees)[:, None] * len(targets), return_counts=True)
    tree_of, row = np.divmod(pairs, len(targets))
    weight = weight.astype(np.float64)
    table = np.stack([column.values for column in columns], axis=1)
    widths = [column.cells if column.categorical else 0 for column in columns]
    offsets = tuple(np.concatenate([[0], np.cumsum(widths)]).astype(int).tolist())

    node, tree = tree_of, np.arange(n_trees)
    low, high = np.zeros((n_trees, len(columns))), np.ones((n_trees, len(columns)))
    members = np.ones((n_trees, offsets[-1]), np.bool_)
    done: list[tuple[Places, Array, Array, Array, Mask]] = []
    for depth in range(max_depth + 1):
        count = len(tree)
        total = np.bincount(node, weight, count).astype(np.float64)
        summed = np.bincount(node, weight * targets[row], count).astype(np.float64)
        split = _best_split(columns, conditions, table[row], targets[row], weight, node, total, summed, rng)
        ends = ~(split.gain > 0) if depth < max_depth else np.ones(count, np.bool_)
        done.append((tree[ends], (summed / total)[ends], low[ends], high[ends], members[ends]))
        if ends.all():
            break
        # Children stand side by side: the left one of the k-th divided node at 2k, the right one at 2k + 1.
        parents = np.flatnonzero(~ends)
        first = np.cumsum(~ends) * 2 - 2
        kept = ~ends[node]
        row, weight, node = row[kept], weight[kept], node[kept]
        feature, value = split.feature[node], table[row, split.feature[node]]
        is_category = np.array(widths)[feature] > 0
        place = np.where(is_category, np.nan_to_num(value), 0).astype(np.int64)
        goes_left = np.where(is_category, split.left[node, place], value <= split.threshold[node])
        node = first[node] + ~goes_left
        tree = np.repeat(tree[parents], 2)
        low, high, members = (np.repeat(box[parents], 2, axis=0) for box in (low, high, members))
        _cut(split, parents, widths, offsets, low, high, members)
    trees, values, lows, highs, groups = (np.concatenate(part) for part in zip(*done, strict=True))
    order = np.argsort(trees, kind="stable")
    return Leaves(trees[order], values[order], lows[order], highs[order], groups[order], offsets)


def _cut(
    split: _Split,
    parents: Places,
    widths: Sequence[int],
    offsets: Sequence[int],
    low: Array,
    high: Array,
    members: Mask,
) -> None:
    """Narrows the boxes of the children."""
    for index, width in enumerate(widths):
        which = np.flatnonzero(split.feature[parents] == index)
        left, right = 2 * which, 2 * which + 1
        if width:
            group = split.left[parents[which], :width]
            here = slice(offsets[index], offsets[index] + width)
            members[left, here] &= group
            members[right, here] &= ~group
        else:
            high[left, index] = low[right, index] = split.threshold[parents[which]]


def _best_split(
    columns: Sequence[Column],
    conditions: Conditions,
    table: Array,
    targets: Array,
    weight: Array,
    node: Places,
    total: Array,
    summed: Array,
    rng: np.random.Generator,
) -> _Split:
    count = len(total)
    widest = max((column.cells for column in columns if column.categorical), default=1)
    best = _Split(np.zeros(count), np.zeros(count, np.int64), np.zeros(count), np.zeros((count, widest), np.bool_))
    moment = weight * targets
    # What is no more than rounding of equal targets is no gain.
    least = 1e-12 * np.bincount(node, weight * targets**2, count)
    behind: list[tuple[int, Array]] = []
    for index, column in enumerate(columns):
        values = table[:, index]
        active = ~np.isnan(values)
        if not active.any():
            continue
        at, value, mass, moments = node[active], values[active], weight[active], moment[active]
        here = np.bincount(at, mass, count).astype(np.float64)
        sums = np.bincount(at, moments, count).astype(np.float64)
        code = np.empty(0, np.int64)
        if column.categorical:
            used, inverse = np.unique(at * column.cells + value.astype(np.int64), return_inverse=True)
            at, code = np.divmod(used, column.cells)
            mass, moments = (np.bincount(inverse, part).astype(np.float64) for part in (mass, moments))
            value = moments / mass
            order = np.lexsort((code, value, at))
        else:
            order = np.argsort(at + value * 0.5, kind="stable")  # by node, and within it by value
        at, value, mass, moments = at[order], value[order], mass[order], moments[order]
        starts = np.flatnonzero(np.r_[True, at[1:] != at[:-1]])
        cut, gain = _cuts(at, value, mass, moments, starts, here, sums)
        nodes = at[starts]
        whole = np.bincount(node, ~active, count)[nodes] == 0
        if not whole.all():
            behind.append((index, _spread(nodes[~whole], gain[~whole], count)))
        # Which of equal divisions is taken is left to chance, or the first variables would matter more than the last.
        gain = gain * (1.0 + 1e-9 * rng.random(len(gain)))
        better = whole & (gain > best.gain[nodes]) & (gain > least[nodes])
        chosen, cut = nodes[better], cut[better]
        best.gain[chosen], best.feature[chosen] = gain[better], index
        if not column.categorical:
            best.threshold[chosen] = (value[cut] + value[cut + 1]) / 2
            continue
        last = np.full(count, -1)
        last[chosen] = cut
        on_left = np.arange(len(at)) <= last[at]
        masses = np.bincount(at[on_left], mass[on_left], count)
        # Categories that a node has no sample of go where more samples go.
        best.left[chosen] = (masses > total / 2)[chosen, None]
        mine = last[at] >= 0
        best.left[at[mine], code[order][mine]] = on_left[mine]
    for index, gain in behind:
        for gate, mask in conditions[columns[index].path].items():
            _open_gate(best, columns, gate, mask, gain, table, weight, moment, node, total, summed)
    return best


def _spread(nodes: Places, gain: Array, count: int) -> Array:
    spread = np.zeros(count)
    spread[nodes] = np.maximum(gain, 0.0)
    return spread


def _open_gate(
    best: _Split,
    columns: Sequence[Column],
    gate: str,
    mask: Mask,
    behind: Array,
    table: Array,
    weight: Array,
    moment: Array,
    node: Places,
    total: Array,
    summed: Array,
) -> None:
    """Divides nodes by a condition where this, together with the division ``behind`` it, gains more than any other.

    A choice that matters by nothing but what it activates would otherwise never be divided by, and its variables
    never be reached.
    """
    index = next((index for index, column in enumerate(columns) if column.path == gate), None)
    if index is None:
        return
    column, values, count = columns[index], table[:, index], len(total)
    usable = np.bincount(node, np.isnan(values), count) == 0
    inside = np.flatnonzero(mask)
    bounds = (inside[0] / column.cells, (inside[-1] + 1) / column.cells) if len(inside) else ()
    for bound in (0.0,) if column.categorical else bounds:
        on_left = mask[np.nan_to_num(values).astype(np.int64)] if column.categorical else values <= bound
        mass, moments = (
            np.bincount(node[on_left], weight[on_left], count),
            np.bincount(node[on_left], moment[on_left], count),
        )
        apart = usable & (mass > 0) & (mass < total)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = moments**2 / mass + (summed - moments) ** 2 / (total - mass) - summed**2 / total
        chosen = np.flatnonzero(apart & (behind > 0) & (np.where(apart, gain, 0.0) + behind > best.gain))
        best.gain[chosen], best.feature[chosen] = gain[chosen] + behind[chosen], index
        best.threshold[chosen] = bound
        if column.categorical:
            best.left[chosen, : column.cells] = mask


def _cuts(
    at: Array | Places, value: Array, mass: Array, moments: Array, starts: Places, total: Array, summed: Array
) -> tuple[Places, Array]:
    """For each node the entry after which a cut lowers the squared error most, and by how much."""
    masses, sums = np.cumsum(mass), np.cumsum(moments)
    segment = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(at)]))
    left_mass = masses - (masses[starts] - mass[starts])[segment]
    left_sum = sums - (sums[starts] - moments[starts])[segment]
    nodes = at[starts].astype(np.int64)
    right_mass = total[nodes][segment] - left_mass
    possible = np.r_[(segment[1:] == segment[:-1]) & (value[1:] > value[:-1]), False]
    gain = np.full(len(at), -np.inf)
    p = possible
    right_sum = summed[nodes][segment][p] - left_sum[p]
    gain[p] = (
        left_sum[p] ** 2 / left_mass[p] + right_sum**2 / right_mass[p] - (summed[nodes] ** 2 / total[nodes])[segment][p]
    )
    best = np.maximum.reduceat(gain, starts)
    first = np.flatnonzero(gain == best[segment])
    _, unique = np.unique(segment[first], return_index=True)
    return first[unique], best
