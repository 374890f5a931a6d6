"""Racing: a trial ends when it is shown to be worse than the best one, with a stated rate of error.

Maron and Moore, "Hoeffding Races: Accelerating Model Selection Search for Classification and Function Approximation",
NIPS 1994, with the bets of `dspex.pruners.betting` in place of Hoeffding's bound.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from dspex.errors import StudyError
from dspex.pruners.base import Pruner
from dspex.pruners.betting import wealth
from dspex.pruners.checks import number_in
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState

__all__ = ["RacingPruner"]

T = TypeVar("T")


class _Leaders:
    """The completed trials of one study that were better than all before them, in the order in which they completed."""

    def __init__(self) -> None:
        self._cursor = 0
        self._trials: list[FrozenTrial] = []
        self._lock = threading.Lock()

    def when_began(self, view: StudyView, trial: FrozenTrial) -> FrozenTrial | None:
        """The best trial of those that had completed when ``trial`` began."""
        began = trial.datetime_start
        with self._lock:
            changed, self._cursor = view.changes(self._cursor)
            sign = view.directions[0].sign
            for other in changed:
                if other.state is not TrialState.COMPLETE or not other.feasible or not other.values:
                    continue
                if not self._trials or sign * other.values[0] < sign * self._trials[-1].values[0]:  # type: ignore[index]
                    self._trials.append(other)
            for other in reversed(self._trials):
                done = other.datetime_complete
                if began is not None and done is not None and done <= began:
                    return other
        return None


class RacingPruner(Pruner):
    """Ends a trial when its scores show that it is worse than the best completed trial, example by example.

    For objectives that are the mean of a bounded score over examples. The scores are the trial's rows in the ledger or,
    where it has none, its reports: the score of example i as step i. The rollouts of an example are averaged; run them
    all before the next example. An example that failed (a failed row, a NaN, an infinite value) speaks neither for nor
    against a trial, and one that only one of the two was run on is not compared.

    The opponent is the trial that was the best when this one began, and the examples are those that it was scored on.
    If every trial runs them in a random order of its own, the chance that a trial is ever ended that is at least as
    good there is at most ``alpha``, however often it is asked. (An order that all trials share is not random any more
    for a trial that was proposed because of how others did on its beginning.) With a ``margin`` that holds for trials
    that are better by as much at least, and the others end sooner.

    With several objectives a trial has to be worse in all of them, and the statement is about the trial that is
    at least as good in one.

    Args:
        alpha: The chance of ending a trial wrongly, between 0 and 1.
        bounds: The lowest and the highest score there can be; with several objectives a list of one pair for each, or
            one pair for all.
        margin: By how much, as a share of the range, a trial has to be better to be worth finding.
        scores: What the score is called in the ledger's rows; with several objectives one name for each.

    Raises:
        StudyError: when an argument makes no sense; while running, when a score lies outside its bounds.

    >>> import random
    >>> from dspex.study import create_study
    >>> study = create_study(pruner=RacingPruner(alpha=0.1), direction="maximize")
    >>> for right in (0.9, 0.2):
    ...     trial = study.ask()
    ...     order = random.Random(trial.number).sample(range(40), 40)
    ...     for count, example in enumerate(order, start=1):
    ...         trial.report(float(example < 40 * right), step=example)
    ...         if trial.should_prune():
    ...             break
    ...     finished = study.tell(trial, right)
    ...     print(count)
    40
    7
    """

    def __init__(
        self,
        *,
        alpha: float = 0.05,
        bounds: Sequence[Any] = (0.0, 1.0),
        margin: float = 0.0,
        scores: str | Sequence[str] = "score",
    ) -> None:
        self.alpha = number_in("alpha", alpha, 0.0, 1.0)
        if not 0 < self.alpha < 1:
            raise StudyError(f"alpha must lie between 0 and 1, got {alpha!r}; write RacingPruner(alpha=0.05)")
        self.bounds = bounds
        self._ranges = _ranges(bounds)
        self.margin = number_in("margin", margin, 0.0, 1.0)
        self.scores = scores
        self._names = (scores,) if isinstance(scores, str) else tuple(scores) if isinstance(scores, Sequence) else ()
        if not self._names or not all(isinstance(name, str) for name in self._names):
            raise StudyError(f"scores must be a name, or one for each objective, got {scores!r}; write scores='score'")
        self._studies = PerView(_Leaders)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        opponent = self._studies.of(view).when_began(view, trial)
        if opponent is None:
            return False
        theirs = {one: share for one, share in self._shares(view, opponent).items() if not math.isnan(share)}
        mine = {one: share for one, share in self._shares(view, trial).items() if one in theirs}
        if not mine:
            return False
        # Those drawn in their order, then the others.
        other = np.array([*(theirs[one] for one in mine), *(theirs[one] for one in theirs if one not in mine)])
        own = np.array(list(mine.values()))
        least = other + self.margin
        # One that failed was drawn, and says nothing: it counts as what is asked for, which may be more than there is.
        values = np.where(np.isnan(own), 0.0, own - least[: len(own)])
        return bool(wealth(values, rooms=np.maximum(1.0 - least, 0.0)).max() >= 1 / self.alpha)

    def _shares(self, view: StudyView, trial: FrozenTrial) -> Mapping[Hashable, float]:
        """The score of each example as a share of the range, 1 the best; NaN where it failed. As they were run."""
        name, (low, high) = _of(self._names, view.objective), _of(self._ranges, view.objective)
        found: dict[Hashable, list[float]] = {}
        rows = view.ledger.rows(trial=trial.number)
        for row in rows:
            value = row.scores.get(name, math.nan) if row.ok else math.nan
            found.setdefault(row.example_id, []).append(value)
        for step, value in () if rows else trial.intermediate_values.items():
            found[step] = [value]
        means = {}
        for example, values in found.items():
            known = [value for value in values if math.isfinite(value)]
            for value in known:
                if not low <= value <= high:
                    raise StudyError(
                        f"trial {trial.number} has the score {value!r} on example {example!r}, which lies outside "
                        f"bounds=({low:g}, {high:g}), so its rate of error would not hold. Say between what numbers "
                        "every score lies: RacingPruner(bounds=(lowest, highest))"
                    )
            share = (math.fsum(known) / len(known) - low) / (high - low) if known else math.nan
            means[example] = share if view.directions[0].sign < 0 else 1 - share
        return means

    def __repr__(self) -> str:
        return f"RacingPruner(alpha={self.alpha}, bounds={self.bounds!r}, margin={self.margin}, scores={self.scores!r})"


def _ranges(bounds: Any) -> tuple[tuple[float, float], ...]:
    pairs = (
        [bounds] if isinstance(bounds, Sequence) and not any(isinstance(one, Sequence) for one in bounds) else bounds
    )
    found = []
    for pair in pairs if isinstance(pairs, Sequence) else [pairs]:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise StudyError(
                f"bounds must be the lowest and the highest score, got {pair!r} ({type(pair).__name__}); write "
                "RacingPruner(bounds=(0.0, 1.0))"
            )
        low, high = (number_in("bounds", one, -math.inf) for one in pair)
        if not -math.inf < low < high < math.inf:
            raise StudyError(
                f"bounds must be two finite numbers, the lower one first, got {pair!r}. A score without bounds has no "
                "rate of error that could be stated: bound it, for example min(score, 10.0)"
            )
        found.append((low, high))
    return tuple(found)


def _of(items: tuple[T, ...], objective: int) -> T:
    """The item of an objective, or the only one there is."""
    if 1 < len(items) <= objective:
        raise StudyError(
            f"the study has more objectives than the {len(items)} that the RacingPruner was told of, {items!r}; give "
            "scores and bounds one for each"
        )
    return items[objective] if len(items) > 1 else items[0]
