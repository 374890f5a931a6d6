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
        seed: Decides the bootstrap samples; the same seed gives the same importances, and so does none.

    >>> from dspex.importance import get_param_importances
    >>> from dspex.samplers import RandomSampler
    >>> from dspex.study import create_study
    >>> study = create_study(sampler=RandomSampler(seed=0))
    >>> study.optimize(lambda t: t.suggest_float("x", 0, 1) ** 2 + t.suggest_float("y", 0, 0.1), n_trials=40)
    >>> list(get_param_importances(study, evaluator=FanovaImportanceEvaluator()))
    ['x', 'y']
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
        found = zip(wanted, model.shares([(path,) for path in wanted]), strict=True)
        return dict(sorted(found, key=lambda item: -item[1]))

    def interactions(
        self, study: Study, params: Sequence[str] | None = None, *, target: Target = None
    ) -> dict[tuple[str, str], float]:
        """Which share of the variance each two of ``params`` explain only together, the largest first."""
        model, wanted = self._fit(study, params, target)
        pairs = list(combinations(wanted, 2))
        return dict(sorted(zip(pairs, model.shares(pairs), strict=True), key=lambda item: -item[1]))

    def _fit(self, study: Study, params: Sequence[str] | None, target: Target) -> tuple[_Model, list[str]]:
        data = measured(study, target)
        wanted = checked_params(data.trials, params)
        columns = [column_of(path, data.trials) for path in checked_params(data.trials, None)]
        # A variable with one value explains nothing.
        columns = [column for column in columns if len(np.unique(column.values[column.active])) > 1]
        if not columns:
            return _Model((), {}, None), wanted
        conditions = gates(columns, study.space)
        leaves = grow(
            columns, conditions, data.values, n_trees=self._n_trees, max_depth=self._max_depth, seed=self._seed
        )
        return _Model(tuple(columns), conditions, leaves), wanted

    def __repr__(self) -> str:
        return f"FanovaImportanceEvaluator(n_trees={self._n_trees}, max_depth={self._max_depth}, seed={self._seed})"


@attrs.frozen(eq=False)
class _Asked:
    """Variables whose share is asked for.

    Where they stand, how the cells of their conditions weigh where all of them are active, and how often that is.
    """

    at: tuple[int, ...]
    weights: Mapping[int, Array]
    chance: float


@attrs.frozen(eq=False)
class _Model:
    """The fitted forest, and when each variable is active."""

    columns: tuple[Column, ...]
    gates: Mapping[str, Mapping[str, Mask]]
    leaves: Leaves | None

    def shares(self, groups: Sequence[tuple[str, ...]]) -> list[float]:
        """For each group of one or two variables the part of the variance that is due to them together and no fewer.

        Averaged over the trees.
        """
        asked = [self._asked(group) for group in groups]
        everywhere = [column.seen / column.seen.sum() for column in self.columns]
        totals, count = np.zeros(len(groups)), 0
        for value, overlap in self._trees():
            parts = [cells @ weight for cells, weight in zip(overlap, everywhere, strict=True)]
            volume = np.prod(parts, axis=0)
            variance = float(volume @ (value - volume @ value) ** 2)
            if variance <= 1e-12 * float(value @ value):
                continue  # nothing but rounding
            count += 1
            for number, one in enumerate(asked):
                if one is not None:
                    totals[number] += one.chance * _explained(value, overlap, parts, everywhere, one) / variance
        return [float(total) / max(count, 1) for total in totals]

    def _asked(self, group: tuple[str, ...]) -> _Asked | None:
        """``None`` for variables that explain nothing, or are never active together."""
        index = {column.path: position for position, column in enumerate(self.columns)}
        if not all(path in index for path in group):
            return None
        region: dict[int, Mask] = {}
        for path in group:
            for gate, mask in self.gates[path].items():
                if gate in index:
                    region[index[gate]] = region.get(index[gate], mask) & mask
        weights, chance = dict[int, Array](), 1.0
        for position, mask in region.items():
            inside = (self.columns[position].seen & mask).astype(np.float64)
            if not inside.any():
                return None
            chance *= float(inside.sum() / self.columns[position].seen.sum())
            weights[position] = inside / inside.sum()
        return _Asked(tuple(index[path] for path in group), weights, chance)

    def _trees(self) -> Iterator[tuple[Array, list[Array]]]:
        """Tree by tree the values of the leaves, and for each column which part of each cell belongs to each leaf."""
        if self.leaves is None:
            return
        leaves = self.leaves
        for number in range(int(leaves.tree[-1]) + 1):
            start, end = np.searchsorted(leaves.tree, [number, number + 1])
            overlap = []
            for index, column in enumerate(self.columns):
                if column.categorical:
                    first = leaves.offsets[index]
                    overlap.append(leaves.members[start:end, first : first + column.cells].astype(np.float64))
                else:
                    edges = np.arange(column.cells + 1) / column.cells
                    low, high = leaves.low[start:end, index, None], leaves.high[start:end, index, None]
                    covered = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
                    overlap.append(np.clip(covered, 0.0, None) * column.cells)
            yield leaves.value[start:end], overlap


def _explained(
    value: Array, overlap: Sequence[Array], parts: Sequence[Array], everywhere: Sequence[Array], asked: _Asked
) -> float:
    here = [
        overlap[position] @ asked.weights[position] if position in asked.weights else part
        for position, part in enumerate(parts)
        if position not in asked.at
    ]
    mass = np.prod(here, axis=0) * value if here else value
    if len(asked.at) == 1:
        (at,) = asked.at
        weight = asked.weights.get(at, everywhere[at])
        marginal = mass @ overlap[at]
        return float(weight @ (marginal - weight @ marginal) ** 2)
    first, second = (overlap[at] for at in asked.at)
    one, two = (asked.weights.get(at, everywhere[at]) for at in asked.at)
    joint = (first * mass[:, None]).T @ second
    # What is left of the surface when the mean of each row and each column is taken out of it.
    rest = joint - (joint @ two)[:, None] - (one @ joint)[None, :] + one @ joint @ two
    return float(one @ rest**2 @ two)
