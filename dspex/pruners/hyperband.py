"""Hyperband: several successive halvings side by side, from brave to cautious.

Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 2018, section 3; with the
asynchronous halving of Li et al., MLSys 2020, in each bracket.
"""

from __future__ import annotations

import math
import threading
import zlib
from itertools import accumulate

from dspex.errors import StudyError
from dspex.pruners.base import Pruner
from dspex.pruners.rungs import Rungs
from dspex.pruners.successive_halving import auto_or_whole, bootstrap, first_completed_step
from dspex.trials import FrozenTrial, PerView, StudyView
from dspex.trials.checks import at_least

__all__ = ["HyperbandPruner"]


class _Kept:
    """What is kept of one study."""

    def __init__(self) -> None:
        self.cursor = 0
        self.brackets: list[Rungs] = []
        self.lock = threading.Lock()


class HyperbandPruner(Pruner):
    """Deals the trials out to brackets, in each of which successive halving begins later than in the one before.

    So nothing is lost when the first values a trial reports say little about its last one. There are
    ``floor(log(max_resource / min_resource) / log(reduction_factor)) + 1`` brackets; a trial's number decides which one
    it is in, and each bracket gets as many trials as makes it cost about as much as the others.

    Args:
        min_resource: The steps every trial gets at least.
        max_resource: The steps of a whole trial; ``"auto"`` takes what the first completed trial reported, and ends
            nobody before.
        reduction_factor: One of so many goes on.
        bootstrap_count: Nobody goes on from a rung that no more trials of the bracket than this have reached.

    Raises:
        StudyError: when a resource is below 1, ``max_resource`` below ``min_resource``, ``reduction_factor`` below 2,
            or a ``bootstrap_count`` comes with ``"auto"``.

    >>> from dspex.study import create_study
    >>> study = create_study(pruner=HyperbandPruner(max_resource=9))
    >>> def objective(trial):
    ...     x = trial.suggest_float("x", 0.0, 1.0)
    ...     for step in range(1, 10):
    ...         trial.report(x + 1 / step, step)
    ...         if trial.should_prune():
    ...             raise dspex.TrialPruned
    ...     return x
    >>> import dspex
    >>> study.optimize(objective, n_trials=40)
    >>> 0 < sum(trial.state.name == "PRUNED" for trial in study.trials) < 40
    True
    """

    def __init__(
        self,
        min_resource: int = 1,
        max_resource: int | str = "auto",
        reduction_factor: int = 3,
        bootstrap_count: int = 0,
    ) -> None:
        self.min_resource = at_least("min_resource", min_resource, 1)
        self.max_resource = auto_or_whole("max_resource", max_resource)
        if not isinstance(self.max_resource, str) and self.max_resource < self.min_resource:
            raise StudyError(
                f"max_resource must not be below min_resource, got max_resource={max_resource!r} and "
                f"min_resource={min_resource!r}"
            )
        self.reduction_factor = at_least("reduction_factor", reduction_factor, 2)
        self.bootstrap_count = bootstrap(bootstrap_count, "max_resource", max_resource)
        self._studies = PerView(_Kept)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        kept = self._studies.of(view)
        with kept.lock:
            if not kept.brackets:
                kept.brackets = self._brackets(view)
            if not kept.brackets:
                return False
            changed, kept.cursor = view.changes(kept.cursor)
            for other in changed:
                kept.brackets[self._bracket_of(other.number, len(kept.brackets))].take(other)
            return kept.brackets[self._bracket_of(trial.number, len(kept.brackets))].ends(trial)

    def _brackets(self, view: StudyView) -> list[Rungs]:
        largest = self.max_resource
        if isinstance(largest, str):
            longest = first_completed_step(view)
            if longest is None:
                return []
            largest = longest + 1
        smallest, found = self.min_resource, []
        while smallest <= max(largest, self.min_resource):
            found.append(
                Rungs(smallest, self.reduction_factor, self.bootstrap_count, sign=view.directions[0].sign),
            )
            smallest *= self.reduction_factor
        return found

    def _bracket_of(self, number: int, count: int) -> int:
        # Trials in bracket k, for each one of the last bracket; the rounds of a bracket cost the same in all.
        shares = [math.ceil(count * self.reduction_factor ** (count - 1 - k) / (count - k)) for k in range(count)]
        ticket = zlib.crc32(f"dspex_{number}".encode()) % sum(shares)
        return next(k for k, edge in enumerate(accumulate(shares)) if ticket < edge)

    def __repr__(self) -> str:
        return (
            f"HyperbandPruner(min_resource={self.min_resource}, max_resource={self.max_resource!r}, "
            f"reduction_factor={self.reduction_factor}, bootstrap_count={self.bootstrap_count})"
        )
