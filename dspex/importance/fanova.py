"""fANOVA: which share of the variance of the objective is due to a variable, or to two together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.errors import StudyError
from dspex.importance.columns import Column, column_of, gates
from dspex.importance.evaluator import ImportanceEvaluator
from dspex.importance.forest import Leaves, grow
from dspex.importance.targets import Target, checked_params, measured
from dspex.study import Study

__all__ = ["FanovaImportanceEvaluator"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class FanovaImportanceEvaluator(ImportanceEvaluator):
    """The variance of the objective over the whole space, divided among the variables.

    A random forest is fitted to the trials, and what it predicts is decomposed exactly: Hutter, Hoos and
    Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014, algorithm 2. The
    importance of a variable is the variance of the prediction over its values, averaged over all values of the
    others, as a share of the whole variance. So all of them add up to at most 1, and what is missing is due to
    interactions.

    Numbers are weighed as they are searched (on a log scale where their domain says so), options and the candidates
    of pools that were tried all alike. A *conditional* variable is judged where it is active: the importance is its
    variance there, times how often that is. The result is as good as the forest, which wants trials all over the
    space rather than around the best.

    Args:
        n_trees: How many trees.
        max_depth: How deep they grow at most.
        seed: Decides the bootstrap samples; the same seed gives the same importances.
    """

    def __init__(self, *, n_trees: int = 64, max_depth: int = 64, seed: int | None = None) -> None:
        for name, value in (("n_trees", n_trees), ("max_depth", max_depth)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise StudyError(f"{name} must be a whole number above 0, got {value!r} ({type(value).__name__})")
        self._n_trees = n_trees
        self._max_depth = max_depth
        self._seed = 0 if seed is None else seed

    def evaluate(self, study: Study, params: Sequence[str] | None = None, *, target: Target = None) -> dict[str, float]:
        model, wanted = self._fit(study, params, target)
        found = {path: model.share((path,)) for path in wanted}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def interactions(
        self, study: Study, params: Sequence[str] | None = None, *, target: Target = None
    ) -> dict[tuple[str, str], float]:
        """Which share of the variance each two of ``params`` explain only together, the largest first."""
        model, wanted = self._fit(study, params, target)
        found = {pair: model.share(pair) for pair in combinations(wanted, 2)}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _fit(self, study: Study, params: Sequence[str] | None, target: Target) -> tuple[_Model, list[str]]:
        data = measured(study, target)
        wanted = checked_params(data.trials, params)
        columns = [column_of(path, data.trials) for path in checked_params(data.trials, None)]
        # A variable with one value explains nothing.
        columns = [column for column in columns if len(np.unique(column.values[column.active])) > 1]
        if not columns:
            return _Model((), {}, ()), wanted
        conditions = gates(columns, study.space)
        leaves = grow(
            columns, conditions, data.values, n_trees=self._n_trees, max_depth=self._max_depth, seed=self._seed
        )
        return _Model(tuple(columns), conditions, tuple(_trees(leaves, columns))), wanted

    def __repr__(self) -> str:
        return f"FanovaImportanceEvaluator(n_trees={self._n_trees}, max_depth={self._max_depth}, seed={self._seed})"


@attrs.frozen(eq=False)
class _Tree:
    """``value`` and, for each column, which part of each cell belongs to each leaf (a row for each leaf)."""

    value: Array
    overlap: tuple[Array, ...]


@attrs.frozen(eq=False)
class _Model:
    """The fitted trees, and when each variable is active."""

    columns: tuple[Column, ...]
    gates: Mapping[str, Mapping[str, Mask]]
    trees: tuple[_Tree, ...]

    def share(self, paths: tuple[str, ...]) -> float:
        """The part of the variance that is due to ``paths`` all together and no fewer, averaged over the trees."""
        index = {column.path: position for position, column in enumerate(self.columns)}
        if not all(path in index for path in paths):
            return 0.0
        region: dict[int, Mask] = {}
        for path in paths:
            for gate, mask in self.gates[path].items():
                if gate in index:
                    region[index[gate]] = region.get(index[gate], mask) & mask
        everywhere = [column.seen / column.seen.sum() for column in self.columns]
        weights, chance = list(everywhere), 1.0
        for position, mask in region.items():
            inside = weights[position] * mask
            if inside.sum() <= 0:
                return 0.0  # they are never active together
            chance *= float(inside.sum())
            weights[position] = inside / inside.sum()
        shares = []
        for tree in self.trees:
            variance = _variance(tree, everywhere)
            if variance > 0:
                shares.append(chance * _explained(tree, weights, [index[path] for path in paths]) / variance)
        return float(np.mean(shares)) if shares else 0.0


def _variance(tree: _Tree, weights: Sequence[Array]) -> float:
    volume = np.prod([overlap @ weight for overlap, weight in zip(tree.overlap, weights, strict=True)], axis=0)
    mean = volume @ tree.value
    variance = float(volume @ (tree.value - mean) ** 2)
    return variance if variance > 1e-12 * float(tree.value @ tree.value) else 0.0


def _explained(tree: _Tree, weights: Sequence[Array], at: Sequence[int]) -> float:
    parts = [overlap @ weight for overlap, weight in zip(tree.overlap, weights, strict=True)]
    others = np.prod([part for position, part in enumerate(parts) if position not in at], axis=0)
    mass = others * np.ones(len(tree.value))
    if len(at) == 1:
        overlap, weight = tree.overlap[at[0]], weights[at[0]]
        marginal = (mass * tree.value) @ overlap
        return float(weight @ (marginal - weight @ marginal) ** 2)
    (first, second), (one, two) = (tree.overlap[position] for position in at), (weights[position] for position in at)
    joint = (first * (mass * tree.value)[:, None]).T @ second
    # What is left of the surface when the mean of each row and each column is taken out of it.
    rest = joint - (joint @ two)[:, None] - (one @ joint)[None, :] + one @ joint @ two
    return float(one @ rest**2 @ two)


def _trees(leaves: Leaves, columns: Sequence[Column]) -> Iterator[_Tree]:
    for number in range(int(leaves.tree[-1]) + 1):
        start, end = np.searchsorted(leaves.tree, [number, number + 1])
        overlap = []
        for index, column in enumerate(columns):
            if column.categorical:
                first = leaves.offsets[index]
                overlap.append(leaves.members[start:end, first : first + column.cells].astype(np.float64))
            else:
                edges = np.arange(column.cells + 1) / column.cells
                low, high = leaves.low[start:end, index, None], leaves.high[start:end, index, None]
                covered = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
                overlap.append(np.clip(covered, 0.0, None) * column.cells)
        yield _Tree(leaves.value[start:end], tuple(overlap))
