"""PED-ANOVA: what sets the best trials apart from the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.errors import StudyError
from dspex.importance.columns import column_of
from dspex.importance.evaluator import ImportanceEvaluator
from dspex.importance.targets import Target, checked_params, measured
from dspex.study import Study
from dspex.trials import FrozenTrial
from dspex.variables import Domain, Float, Int

__all__ = ["PedAnovaImportanceEvaluator"]

Array = NDArray[np.float64]

_STEPS = 50  # cells of the grid that numbers are put on
_FEWEST = 2  # trials that a domain must have to be judged by them


class PedAnovaImportanceEvaluator(ImportanceEvaluator):
    """How differently a variable is distributed among the best trials and among all.

    Watanabe, Bansal and Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
    Subspaces", IJCAI
    2023: the Pearson divergence between two one-dimensional Parzen estimates on a grid. Where a variable is not
        there in all trials, or not with the same bounds, each of its domains is judged apart and weighed by how
        often the best trials have it ("Conditional PED-ANOVA", KDD 2026, theorem 4.2). A text is one of the
        candidates that were tried.

    Costs one pass over the trials. It sees a variable by itself: what only matters together with another one is
    told by `FanovaImportanceEvaluator.interactions`.

    Args:
        target_quantile: Which share of the trials counts as the best.
        region_quantile: Which share of them they are compared with.
        evaluate_on_local: Whether to compare with how the trials are distributed, rather than with an even
            distribution over the domain.

    >>> from dspex.importance import get_param_importances
    >>> from dspex.samplers import RandomSampler
    >>> from dspex.study import create_study
    >>> study = create_study(sampler=RandomSampler(seed=0))
    >>> study.optimize(lambda t: t.suggest_float("x", 0, 1) ** 2 + t.suggest_float("y", 0, 0.1), n_trials=40)
    >>> list(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))
    ['x', 'y']
    """

    def __init__(
        self, *, target_quantile: float = 0.1, region_quantile: float = 1.0, evaluate_on_local: bool = True
    ) -> None:
        if not 0.0 < target_quantile < region_quantile <= 1.0:
            raise StudyError(
                "the quantiles must be 0 < target_quantile < region_quantile <= 1, got "
                f"target_quantile={target_quantile!r} and region_quantile={region_quantile!r}"
            )
        self._target_quantile = target_quantile
        self._region_quantile = region_quantile
        self._local = evaluate_on_local

    def evaluate(self, study: Study, params: Sequence[str] | None = None, *, target: Target = None) -> dict[str, float]:
        data = measured(study, target, pareto=True)
        wanted = checked_params(data.trials, params)
        inside = data.best(self._region_quantile)
        best = data.best(self._target_quantile)[inside].tolist()
        region = [trial for trial, kept in zip(data.trials, inside, strict=True) if kept]
        found = {path: self._importance(path, region, best) for path in wanted}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _importance(self, path: str, region: Sequence[FrozenTrial], best: Sequence[bool]) -> float:
        regimes: dict[Domain[Any], tuple[list[FrozenTrial], list[FrozenTrial]]] = {}
        for trial, is_best in zip(region, best, strict=True):
            if trial.params.get(path) is not None or (path in trial.params and not _is_number(trial, path)):
                everyone, chosen = regimes.setdefault(trial.distributions[path], ([], []))
                everyone.append(trial)
                if is_best:
                    chosen.append(trial)
        total = 0.0
        for domain, (everyone, chosen) in regimes.items():
            if chosen and len(everyone) >= _FEWEST:
                share, base = len(chosen) / sum(best), len(everyone) / len(region)
                total += share**2 / base * self._divergence(path, domain, everyone, chosen)
        return float(total * (sum(best) / len(region)) ** 2)

    def _divergence(
        self, path: str, domain: Domain[Any], everyone: Sequence[FrozenTrial], chosen: Sequence[FrozenTrial]
    ) -> float:
        if isinstance(domain, Float | Int):
            if domain.size() == 1:
                return 0.0
            estimate, cells = _number_density, _steps(domain)
            places = _on_grid(domain, [trial.params[path] for trial in everyone], cells)
        else:
            column = column_of(path, everyone)
            if column.cells == 1:
                return 0.0
            estimate, cells, places = _category_density, column.cells, column.places
        numbers = {trial.number for trial in chosen}
        among_best = np.array([trial.number in numbers for trial in everyone])
        top = estimate(np.bincount(places[among_best], minlength=cells))
        base = estimate(np.bincount(places, minlength=cells)) if self._local else np.full(cells, 1.0 / cells)
        return float(base @ (top / base - 1.0) ** 2)

    def __repr__(self) -> str:
        return (
            f"PedAnovaImportanceEvaluator(target_quantile={self._target_quantile}, "
            f"region_quantile={self._region_quantile}, evaluate_on_local={self._local})"
        )


def _is_number(trial: FrozenTrial, path: str) -> bool:
    return isinstance(trial.distributions[path], Float | Int)


def _steps(domain: Float | Int) -> int:
    if isinstance(domain, Int) and domain.log:
        return min(math.ceil(math.log2(domain.high - domain.low + 1)) + 1, _STEPS)
    return int(min(domain.size(), _STEPS))


def _on_grid(domain: Float | Int, values: Sequence[float], cells: int) -> NDArray[np.int64]:
    """The nearest of ``cells`` points from the lower to the upper bound."""
    low, high, numbers = domain.low, domain.high, np.asarray(values, dtype=np.float64)
    if domain.log:
        low, high, numbers = math.log(low), math.log(high), np.log(numbers)
    places = np.ceil((numbers - low) / ((high - low) / (cells - 1)) - 0.5)  # one in the middle goes down
    return np.clip(places, 0, cells - 1).astype(np.int64)


def _category_density(counts: NDArray[np.int64]) -> Array:
    """A mixture of one kernel a trial and an even prior, each kernel with a little of the other categories."""
    used, cells = np.flatnonzero(counts), len(counts)
    kernels = len(used) + 1
    rest = 1.0 / kernels
    density = np.full(cells, (counts.sum() * rest / (1 + cells * rest) + 1.0 / cells))
    density[used] += counts[used] / (1 + cells * rest)
    scaled: Array = density / (counts.sum() + 1.0)
    return scaled + 1e-12


def _number_density(counts: NDArray[np.int64]) -> Array:
    """Normals on the grid, cut off at its ends, as wide as Scott's rule says, and a wide prior in the middle."""
    used, cells = np.flatnonzero(counts), len(counts)
    weights = counts[used].astype(np.float64)
    below, total = np.cumsum(weights), weights.sum()
    mean = used @ weights / total
    spread = math.sqrt((used - mean) ** 2 @ weights / max(1.0, total - 1.0))
    first = used[np.searchsorted(below, total // 4, side="left")]
    third = used[min(len(used) - 1, int(np.searchsorted(below, total * 3 // 4, side="right")))]
    width = 1.059 * min((third - first) / 1.34, spread) * total**-0.2
    # 90 % of a normal lie in its own cell at the least.
    widths = np.r_[np.full(len(used), max(width, 0.5 / 1.64)), cells]
    middles = np.r_[used, (cells - 1) / 2]
    edges = (np.arange(cells + 1) - 0.5 - middles[:, None]) / widths[:, None]
    below_edge = np.array([[math.erf(edge / math.sqrt(2)) for edge in row] for row in edges.tolist()])
    mass = np.diff(below_edge, axis=1) / (below_edge[:, -1:] - below_edge[:, :1])
    density: Array = np.r_[weights, 1.0] @ mass / (total + 1.0)
    return density + 1e-12
