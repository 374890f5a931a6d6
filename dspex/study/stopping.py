"""Callbacks that end a search: enough trials, a value that is good enough, no progress, no gain worth its cost.

Each goes into ``study.optimize(..., callbacks=[...])`` and says in ``study.stopped`` why it ended the search.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from dspex.data import Usage
from dspex.errors import StudyError
from dspex.study.best import dominates
from dspex.trials import FrozenTrial, Ledger, PerView, StudyView, TrialState
from dspex.trials.checks import at_least

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["ExpectedGainCallback", "MaxTrialsCallback", "StagnationCallback", "TargetCallback"]


_FINISHED = tuple(state for state in TrialState if state.is_finished)


class MaxTrialsCallback:
    """Ends the search when the study has ``n_trials`` trials in ``states``, those of earlier runs and of other
    processes included. ``states=None`` counts all that have finished.

    >>> from dspex.study import create_study
    >>> study = create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), callbacks=[MaxTrialsCallback(5)])
    >>> len(study.trials), study.stopped
    (5, 'MaxTrialsCallback: 5 trials are COMPLETE')
    """

    def __init__(self, n_trials: int, states: Iterable[TrialState] | None = (TrialState.COMPLETE,)) -> None:
        self.n_trials = _whole("n_trials", n_trials)
        self.states = _states(states) if states is not None else _FINISHED
        if not self.states or not set(self.states) <= set(_FINISHED):
            raise StudyError(
                f"states must be some of {', '.join(state.name for state in _FINISHED)}, got {states!r}; "
                "write states=[TrialState.COMPLETE]"
            )

        self._finished = PerView(_Finished)

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        self.look(study)

    def look(self, study: Study) -> None:
        """End the search if there are enough; `Study.optimize` looks before its first trial, too."""
        finished = self._finished.of(study.view)
        finished.read(study.view)
        if sum(finished.counts[state] for state in self.states) >= self.n_trials:
            study.stop(f"{_name(self)}: {self.n_trials} trials are {' or '.join(state.name for state in self.states)}")


class TargetCallback:
    """Ends the search with the first feasible trial that is at least as good as ``target``: a number, or one for each
    objective.

    >>> from dspex.study import create_study
    >>> study = create_study(direction="maximize")
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), callbacks=[TargetCallback(0.5)])
    >>> study.best_value >= 0.5
    True
    """

    def __init__(self, target: float | Sequence[float]) -> None:
        listed = tuple(target) if isinstance(target, Sequence) else (target,)
        if not listed or any(isinstance(x, bool | str) or not isinstance(x, int | float) or x != x for x in listed):
            raise StudyError(
                f"target must be a number, or one for each objective, got {target!r} ({type(target).__name__}); "
                "write TargetCallback(0.95)"
            )
        self.target = tuple(float(number) for number in listed)

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        if len(self.target) != len(study.directions):
            raise StudyError(
                f"target has {len(self.target)} numbers for {len(study.directions)} objectives; give one for each of "
                f"{', '.join(study.directions)}"
            )
        loss = _loss(study, trial)
        wanted = tuple(way.sign * number for way, number in zip(study.directions, self.target, strict=True))
        if loss is not None and all(a <= b for a, b in zip(loss, wanted, strict=True)):
            study.stop(f"{_name(self)}: trial {trial.number} reached {', '.join(f'{x:g}' for x in self.target)}")


class StagnationCallback:
    """Ends the search when ``n_trials`` completed trials in a row made nothing better: the best value by more than
    ``min_delta``, or with several objectives the Pareto set.

    It counts the trials that it is called with, and begins anew when it has ended a run. ``min_delta`` is for one
    objective.

    >>> from dspex.study import create_study
    >>> study = create_study()
    >>> study.optimize(lambda trial: 1.0, callbacks=[StagnationCallback(5)])
    >>> len(study.trials), study.stopped
    (6, 'StagnationCallback: nothing better in 5 trials')
    """

    def __init__(self, n_trials: int, *, min_delta: float = 0.0) -> None:
        self.n_trials = _whole("n_trials", n_trials)
        if isinstance(min_delta, bool) or not isinstance(min_delta, int | float) or not 0 <= min_delta < math.inf:
            raise StudyError(
                f"min_delta must be a number >= 0, got {min_delta!r} ({type(min_delta).__name__}); write min_delta=0.0"
            )
        self.min_delta = min_delta
        self._progress = PerView(_Progress)

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        if trial.state is TrialState.COMPLETE and self._progress.of(study.view).stands_still(
            _loss(study, trial), self.min_delta, self.n_trials
        ):
            study.stop(f"{_name(self)}: nothing better in {self.n_trials} trials")


class _Progress:
    """The best that was seen, and for how many trials there was nothing better."""

    def __init__(self) -> None:
        self._front: list[tuple[float, ...]] = []
        self._since = 0
        self._lock = threading.Lock()

    def stands_still(self, loss: tuple[float, ...] | None, min_delta: float, patience: int) -> bool:
        with self._lock:
            if loss is not None and self._is_better(loss, min_delta):
                self._front = [other for other in self._front if not dominates(loss, other)] + [loss]
                self._since = 0
                return False
            self._since += 1
            if self._since < patience:
                return False
            self._since = 0
            return True

    def _is_better(self, loss: tuple[float, ...], min_delta: float) -> bool:
        if len(loss) == 1:
            return not self._front or loss[0] < self._front[0][0] - min_delta
        return not any(other == loss or dominates(other, loss) for other in self._front)


class ExpectedGainCallback:
    """Ends the search when the next trial is not expected to gain what it costs.

    How much the best value still moves is read from the best trials so far. The distances between the values in order,
    each times its rank, estimate how fast the tail of the values falls, and where it falls exponentially, the best of
    n values is expected to move by that scale over n + 1 with the next one. It is an estimate for trials that are
    drawn alike: a sampler that learns does better for a while, so give it some ``min_trials`` to learn in.

    Source: Weissman 1978, "Estimation of parameters and large quantiles based on the k largest observations", section
    2 (the k largest values of an exponential tail; their normalized spacings are independent).

    Args:
        worth: what one unit of the objective's value is worth, in the unit of ``cost``.
        cost: what a trial costs: a number; ``"usd"`` for the mean cost of the ledger's rows of a trial; or
            ``"seconds"`` for the mean duration of a trial.
        top: how many distances between the best values say how the tail falls.
        min_trials: completed trials before it decides anything.

    >>> from dspex.study import create_study
    >>> study = create_study(direction="maximize")
    >>> enough = ExpectedGainCallback(worth=100.0, cost=1.0)
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=500, callbacks=[enough])
    >>> len(study.trials) < 500, study.stopped.startswith("ExpectedGainCallback: the next trial is expected to gain")
    (True, True)
    """

    def __init__(
        self, *, worth: float, cost: float | Literal["usd", "seconds"], top: int = 10, min_trials: int = 20
    ) -> None:
        for name, value in (("worth", worth), *((("cost", cost),) if cost not in ("usd", "seconds") else ())):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                also = ', or "usd" or "seconds"' if name == "cost" else ""
                raise StudyError(
                    f"{name} must be a number > 0{also}, got {value!r} ({type(value).__name__}); "
                    "write ExpectedGainCallback(worth=100.0, cost=0.5)"
                )
        self.worth = worth
        self.cost = cost
        self.top = _whole("top", top)
        self.min_trials = _whole("min_trials", min_trials)
        self._finished = PerView(_Finished)

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        if len(study.directions) > 1:
            raise StudyError(f"{_name(self)} is for one objective, this study has {len(study.directions)}")
        finished = self._finished.of(study.view)
        finished.read(study.view)
        if len(finished.losses) < max(self.min_trials, 3):
            return
        gain, cost = self.worth * expected_gain(finished.losses, self.top), self._cost(study, finished)
        if cost is not None and gain < cost:
            study.stop(f"{_name(self)}: the next trial is expected to gain {gain:.3g}, and costs {cost:.3g}")

    def _cost(self, study: Study, finished: _Finished) -> float | None:
        trials = sum(finished.counts.values())
        if self.cost == "usd":
            total = finished.usage(study.ledger).cost
            return None if total is None else total / trials  # unknown is no reason to stop
        return finished.seconds / trials if self.cost == "seconds" else float(self.cost)


class _Finished:
    """What is known of a study's finished trials, read as they come."""

    def __init__(self) -> None:
        self.counts: Counter[TrialState] = Counter()
        self.losses: list[float] = []  # of the first objective, ascending; feasible trials only
        self.seconds = 0.0
        self._unbilled: list[int] = []  # numbers of those whose rows have not been counted
        self._usage = Usage()
        self._cursor = 0
        self._lock = threading.Lock()

    def read(self, view: StudyView) -> None:
        with self._lock:
            changed, self._cursor = view.changes(self._cursor)
            for trial in changed:
                if not trial.state.is_finished:
                    continue
                self.counts[trial.state] += 1  # a finished trial is final, so it comes once
                self._unbilled.append(trial.number)
                self.seconds += trial.duration.total_seconds() if trial.duration else 0.0
                if trial.state is TrialState.COMPLETE and trial.feasible and trial.values:
                    loss = view.directions[0].sign * trial.values[0]
                    if math.isfinite(loss):
                        bisect.insort(self.losses, loss)

    def usage(self, ledger: Ledger) -> Usage:
        """What the rows of all finished trials took."""
        with self._lock:
            for number in self._unbilled:
                for row in ledger.rows(trial=number):
                    self._usage.add(row.usage)
            self._unbilled.clear()
            return self._usage


def expected_gain(losses: Sequence[float], top: int) -> float:
    """By how much one more value is expected to lower the smallest of ``losses``, which are in ascending order.

    >>> round(expected_gain([0.0, 1.0, 1.5, 1.8], top=3), 3)  # spacings 1, .5, .3 times 1, 2, 3: a scale of 0.967
    0.193
    """
    count = min(top, len(losses) - 1)
    scale = sum(rank * (losses[rank] - losses[rank - 1]) for rank in range(1, count + 1)) / count
    return scale / (len(losses) + 1)


def _loss(study: Study, trial: FrozenTrial) -> tuple[float, ...] | None:
    """The values as what is to be minimized, or ``None`` of a trial that cannot be the best."""
    if trial.state is not TrialState.COMPLETE or not trial.feasible:
        return None
    return tuple(way.sign * value for way, value in zip(study.directions, trial.values or (), strict=True))


def _states(states: Iterable[TrialState] | TrialState) -> tuple[TrialState, ...]:
    return (states,) if isinstance(states, TrialState) else tuple(states)


def _name(callback: object) -> str:
    return type(callback).__name__


def _whole(name: str, value: object) -> int:
    return at_least(name, value, 1, advice=f"; write {name}=20")
