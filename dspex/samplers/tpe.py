"""The tree-structured Parzen estimator.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011, section 4; with the joint
kernels and the components that Watanabe, "Tree-Structured Parzen Estimator: Understanding Its Algorithm
Components and Their Roles for Better Empirical Performance", 2023, recommends. Two densities are estimated,
of the good trials and of all others; of some draws from the first the one where their ratio is largest is
tried next.

Different here: within a branch of a conditional space all variables are modelled jointly, on the trials that
entered the branch, and good means good among those. Candidates of a pool that no trial has tried are explored
on purpose. The data are kept as rows of numbers and added to, so that an ask costs the same after ten
thousand trials as after a few hundred.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from dspex.errors import StudyError
from dspex.samplers.base import seed_or_random
from dspex.samplers.branches import BranchSampler, domain_of, is_listed
from dspex.samplers.companions import Companions
from dspex.samplers.dimensions import Dimension, dimension_of
from dspex.samplers.history import BranchHistory
from dspex.samplers.parzen import Array, Mixture
from dspex.samplers.random import RandomSampler
from dspex.samplers.seen import Configurations, TriedCandidates
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.trials.checks import at_least
from dspex.variables import Domain, Space

__all__ = ["TPESampler"]

MOST_GOOD = 25
"""Good trials at most, as in Bergstra et al. 2011 and Optuna."""

MOST_OTHERS = 512
"""Other trials that the second density is made of at most."""

_MOST_BRANCHES = 128
_PATIENCE = 50  # draws that violated a constraint before drawing at random


class _Book:
    """What is kept of one study."""

    def __init__(self) -> None:
        self.cursor = 0
        self.finished: set[int] = set()
        self.crashed: set[int] = set()
        self.companions = Companions()
        self.branches: dict[tuple[tuple[str, Domain[Any]], ...], BranchHistory] = {}  # the last one used is last
        self.tried = TriedCandidates()
        self.configurations = Configurations()
        self.lock = threading.Lock()

    def read(self, view: StudyView) -> None:
        """Takes in what has changed since the last time."""
        changed, self.cursor = view.changes(self.cursor)
        for trial in sorted(changed, key=lambda trial: trial.number):
            if trial.number not in self.finished and trial.number not in self.crashed:
                self._take(trial, view)

    def _take(self, trial: FrozenTrial, view: StudyView) -> None:
        useful = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        if useful:
            self.finished.add(trial.number)
            self.companions.add(trial)
        elif trial.crashed:
            self.crashed.add(trial.number)
        for history in self.branches.values():
            _show(history, trial, view)
        self.tried.take(trial)

    def history(self, view: StudyView, branch: Mapping[str, Domain[Any]]) -> BranchHistory:
        """The history of a branch; the first time it is asked for, all trials are read."""
        key = tuple(branch.items())
        history = self.branches.pop(key, None)
        if history is None:
            dimensions: dict[str, Dimension] = {}
            for path, domain in branch.items():
                dimension = dimension_of(domain, view.pools.get(path))
                if dimension is not None:
                    dimensions[path] = dimension
            history = BranchHistory(dimensions, view.directions, most=MOST_GOOD)
            for trial in view.trials:
                if trial.state is TrialState.RUNNING or trial.number in self.finished or trial.number in self.crashed:
                    _show(history, trial, view)
            if len(self.branches) >= _MOST_BRANCHES:
                del self.branches[next(iter(self.branches))]
        self.branches[key] = history
        return history


def _show(history: BranchHistory, trial: FrozenTrial, view: StudyView) -> None:
    if trial.state is TrialState.RUNNING:
        history.start(trial.number, view.params(trial))
    elif trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or trial.crashed:
        history.finish(trial)
    else:
        history.drop(trial.number)


class TPESampler(BranchSampler):
    """Draws where good trials are dense and the others are not.

    Running trials count as bad ones, so that trials asked for at the same time keep apart (the "constant
    liar"). Pruned trials count as worse than completed ones, and failed ones as bad, unless it was the infrastructure
    that failed. With several objectives the good trials are the first fronts of non-dominated ones.

    Args:
        seed: Makes the draws repeatable.
        n_startup_trials: So many trials are drawn at random first.
        n_ei_candidates: How many draws are compared for one trial.
        explore: While candidates of a pool are untried, the probability that one of them is tried next.

    Raises:
        StudyError: when a number makes no sense.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=TPESampler(seed=0))
    >>> study.optimize(lambda trial: (trial.suggest_float("x", -10, 10) - 3) ** 2, n_trials=60)
    >>> study.best_value < 0.5
    True
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
        n_ei_candidates: int = 24,
        explore: float = 0.5,
    ) -> None:
        self.seed = seed_or_random(seed)
        self.n_startup_trials = at_least("n_startup_trials", n_startup_trials, 0)
        self.n_ei_candidates = at_least("n_ei_candidates", n_ei_candidates, 1)
        if isinstance(explore, bool) or not isinstance(explore, int | float) or not 0 <= explore <= 1:
            raise StudyError(f"explore must be a probability, got {explore!r} ({type(explore).__name__})")
        self.explore = float(explore)
        self._random = RandomSampler(seed=self.seed)
        self._books = PerView(_Book)

    def propose(
        self,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        *,
        given: Mapping[str, Any],
        attempt: int,
    ) -> dict[str, Any]:
        book = self._books.of(view)
        with book.lock:
            book.read(view)
            if len(book.finished) < self.n_startup_trials:
                return self._random.propose(view, number, branch, given=given, attempt=attempt)
            return self._propose(book, view, number, branch, given, attempt)

    def is_repeat(self, view: StudyView, space: Space, values: Mapping[str, Any]) -> bool:
        if not _is_listed(space):
            return False
        book = self._books.of(view)
        with book.lock:
            return book.configurations.has(view, values)

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        book = self._books.of(view)
        with book.lock:
            book.read(view)
            branch = {**book.companions.of(path), path: domain}

        def is_had(values: Mapping[str, Any]) -> bool:
            with book.lock:
                return book.configurations.has(view, values)

        return self.unlike_others(view, number, branch, params, is_had)

    def _propose(
        self,
        book: _Book,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        given: Mapping[str, Any],
        attempt: int,
    ) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, number, attempt, zlib.crc32("\n".join(branch).encode())])
        fixed = {path: given[path] for path in branch if path in given}
        for path, domain in branch.items():
            if domain.open_ended and path not in fixed:
                untried = book.tried.untried(view, path)
                if untried and rng.random() < self.explore:
                    fixed[path] = untried[int(rng.integers(len(untried)))]
        history = book.history(view, branch)
        # When a draw was not taken, the next one is not compared with others: the ratio is largest where nobody has
        # been, and that may be just where a constraint lets nobody go.
        if history.ranked < 2 or not history.dimensions or attempt > _PATIENCE:
            values = self._random.propose(view, number, branch, given=fixed, attempt=attempt)
        else:
            values = self._best_draw(history, number, fixed, rng, draws=1 if attempt else self.n_ei_candidates)
            unmodelled = {path: domain for path, domain in branch.items() if path not in values}
            values |= self._random.propose(view, number, unmodelled, given=fixed, attempt=attempt)
        return values

    def _best_draw(
        self,
        history: BranchHistory,
        number: int,
        fixed: Mapping[str, Any],
        rng: np.random.Generator,
        *,
        draws: int,
    ) -> dict[str, Any]:
        good = min(math.ceil(0.1 * history.ranked), MOST_GOOD)
        below, above = history.split(good, MOST_OTHERS, asking=number)
        likely, unlikely = Mixture(history.columns, below), Mixture(history.columns, above)
        points = likely.draw(draws, rng)
        _hold(points, history, fixed)
        best = points[int(np.argmax(likely.log_density(points) - unlikely.log_density(points)))]
        values: dict[str, Any] = {}
        start = 0
        for path, dimension in history.dimensions.items():
            columns = best[start : start + dimension.width]
            values[path] = fixed[path] if path in fixed else dimension.decode(columns)
            start += dimension.width
        return values

    def __repr__(self) -> str:
        return (
            f"TPESampler(seed={self.seed}, n_startup_trials={self.n_startup_trials}, "
            f"n_ei_candidates={self.n_ei_candidates}, explore={self.explore})"
        )


def _hold(points: Array, history: BranchHistory, fixed: Mapping[str, Any]) -> None:
    """Writes the values that are decided into all draws, so that the others are compared beside them."""
    if not fixed:
        return
    start = 0
    for path, dimension in history.dimensions.items():
        columns = dimension.encode(fixed[path]) if path in fixed else None
        if columns is not None:
            points[:, start : start + dimension.width] = columns
        start += dimension.width


@lru_cache(maxsize=64)
def _is_listed(space: Space) -> bool:
    return is_listed(domain_of(space, path) for path in space.tunable)
