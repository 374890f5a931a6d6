"""What a study has measured, as numbers: which configuration scored what on which example."""

from __future__ import annotations

import math
import sys
from bisect import insort
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import attrs
import numpy as np

from dspex.data import Evaluation
from dspex.samplers.companions import Companions
from dspex.samplers.factors import Array, Whole
from dspex.samplers.ranking import violation
from dspex.samplers.surrogate import Rows
from dspex.trials import FrozenTrial, StudyView, TrialState
from dspex.variables import Domain

__all__ = ["Configuration", "Evidence", "configuration"]

_UNKNOWN = -1
_CRASHED = sys.float_info.max  # more than any constraint is violated by


@attrs.define
class Configuration:
    """Values that one or more trials have had; ``first`` is the lowest number of these trials."""

    first: int
    params: Mapping[str, Any]
    feasible: bool = True


class Evidence:
    """The measurements of one study, read as they come.

    When the ledger has rows with all of ``objectives``, these are what counts; otherwise it is the values of the
    trials that have finished, or else what they reported last. A trial that crashed is as bad as anything that was.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self.objectives = tuple(objectives)
        self.configurations: list[Configuration] = []
        self.trials: dict[int, FrozenTrial] = {}
        self._index: dict[str, int] = {}  # text of the values -> position in configurations
        self._place_of = np.full(256, _UNKNOWN)  # trial -> position in configurations
        self._examples: set[str] = set()
        self._rows = _Table(2 + len(self.objectives))  # trial, log cost, scores
        # Trial, example, rollout and scores of each row, and its place: rows that were run at once come in any order.
        self._order: list[tuple[int, str, int, list[float], int]] = []
        self._finished: _Table | None = None  # trial, violation, values of which more is better
        self._told: set[int] = set()
        self._crashed: list[int] = []
        self.companions = Companions()
        self.domains: dict[str, Domain[Any]] = {}  # as they were last seen
        self._cursor = self._read = 0

    def read(self, view: StudyView) -> None:
        """Takes in what is new."""
        changed, self._cursor = view.changes(self._cursor)
        for trial in sorted(changed, key=lambda trial: trial.number):
            self._take(trial, view)
        rows = view.ledger[self._read :]
        self._read += len(rows)
        for row in rows:
            self._measure(row)

    def _take(self, trial: FrozenTrial, view: StudyView) -> None:
        if trial.state is TrialState.WAITING or not trial.params:
            return
        self.trials[trial.number] = trial
        self.domains.update(trial.distributions)
        key = configuration(trial.params)
        place = self._index.get(key)
        if place is None:
            place = self._index[key] = len(self.configurations)
            self.configurations.append(Configuration(trial.number, trial.params))
        known = self.configurations[place]
        known.first = min(known.first, trial.number)
        known.feasible = known.feasible and trial.feasible
        while trial.number >= len(self._place_of):
            self._place_of = np.concatenate([self._place_of, np.full(len(self._place_of), _UNKNOWN)])
        self._place_of[trial.number] = place
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self.companions.add(trial)
        values = trial.values if trial.state is TrialState.COMPLETE else None
        if trial.state is TrialState.PRUNED and len(view.directions) == 1 and trial.last_step is not None:
            values = (trial.intermediate_values[trial.last_step],)
        if trial.crashed:
            values = (0.0,) * len(view.directions)  # among crashed ones none is better
        if values is not None and not any(map(math.isnan, values)) and trial.number not in self._told:
            if self._finished is None:
                self._finished = _Table(2 + len(values))
            gains = [-d.sign * v for d, v in zip(view.directions, values, strict=True)]
            self._told.add(trial.number)
            self._finished.add([trial.number, _CRASHED if trial.crashed else violation(trial), *gains])
            if trial.crashed:
                self._crashed.append(trial.number)

    def _measure(self, row: Evaluation) -> None:
        if not row.ok or row.trial is None:
            return
        scores = [_score(row, name) for name in self.objectives]
        if any(map(math.isnan, scores)):
            return
        self._examples.add(row.example_id)
        insort(self._order, (row.trial, row.example_id, row.rollout, scores, self._rows.count))
        cost = row.usage.known_cost + (row.usage.saved_cost or 0.0)
        self._rows.add([float(row.trial), math.log(cost) if cost > 0 else math.nan, *scores])

    @property
    def from_rows(self) -> bool:
        """Whether single examples have been measured."""
        return bool(self.objectives) and self._rows.count > 0

    @property
    def examples(self) -> Mapping[str, int]:
        """Example ids → the numbers they have in `Rows`: by the order of the ids, because sums over the examples are
        rounded by their order, and examples that are alike stay alike only if it is the same however rows came in."""
        return {name: number for number, name in enumerate(sorted(self._examples))}

    @property
    def stamp(self) -> tuple[bool, int]:
        """Changes whenever something was measured."""
        return self.from_rows, self.count()

    def count(self) -> int:
        """How many measurements there are."""
        return self._rows.count + len(self._crashed) if self.from_rows else self.finished

    @property
    def finished(self) -> int:
        """How many trials have finished with values."""
        return len(self._told)

    def has(self, params: Mapping[str, Any]) -> bool:
        """Whether a trial has these values that did not fail for reasons of the world."""
        place = self._index.get(configuration(params))
        if place is None:
            return False
        first = self.trials.get(self.configurations[place].first)
        return first is not None and not first.failed_externally

    def rows(self, signs: Sequence[float], limit: int | None = None) -> tuple[Whole, list[Rows], Array]:
        """The measurements: positions of the configurations measured (by first trial), `Rows` for each objective,
        whose ``configs`` count from 0 in that order, and the log cost of each row (NaN where unknown).

        They are in the order of the trials and of the examples' ids, whichever came first. ``signs`` say which way each
        objective goes; in `Rows` more is better. ``limit`` takes the first so many.
        """
        if self.from_rows:
            looks, numbers = self._order[:limit], self.examples
            table = self._rows.filled[[place for *_, place in looks]]
            trials, costs = table[:, 0].astype(np.int64), table[:, 1]
            examples = np.array([numbers[example] for _, example, *_ in looks], dtype=np.int64)
            columns = [_oriented(table[:, 2 + index], sign) for index, sign in enumerate(signs)]
            crashed = np.array(sorted(n for n in self._crashed if limit is None or n < trials.max()), np.int64)
            if len(crashed):
                trials = np.append(trials, crashed)
                examples = np.append(examples, np.full(len(crashed), _UNKNOWN))
                costs = np.append(costs, np.full(len(crashed), np.median(costs)))
                columns = [(np.append(c, np.full(len(crashed), 0.0 if link else c.min())), link) for c, link in columns]
        else:
            table = self._finished.filled if self._finished is not None else np.empty((0, 2 + len(signs)))
            table = table[np.argsort(table[:, 0])][:limit]
            trials = table[:, 0].astype(np.int64)
            examples = np.full(len(table), _UNKNOWN)
            costs = np.full(len(table), math.nan)
            columns = [(_ranked(values, table[:, 1]), False) for values in table[:, 2:].T]
        places = self._place_of[np.minimum(trials, len(self._place_of) - 1)]
        keep = places >= 0
        places, examples, costs = places[keep], examples[keep], costs[keep]
        used = np.unique(places)
        used = used[np.argsort([self.configurations[place].first for place in used])].astype(np.int64)
        order = np.zeros(len(self.configurations), dtype=np.int64)
        order[used] = np.arange(len(used))
        found = []
        for column, link in columns:
            scores = column[keep]
            counted = link and bool(np.isin(scores, (0.0, 1.0)).all())
            found.append(Rows(order[places], examples, scores, link, counted))
        return used, found, costs


class _Table:
    """Rows of numbers that are added to."""

    def __init__(self, width: int) -> None:
        self._data = np.empty((256, width))
        self.count = 0

    def add(self, row: Sequence[float]) -> None:
        if self.count == len(self._data):
            self._data = np.concatenate([self._data, np.empty_like(self._data)])
        self._data[self.count] = row
        self.count += 1

    @property
    def filled(self) -> Array:
        return self._data[: self.count]


def configuration(params: Mapping[str, Any]) -> str:
    """A text that is the same for the same values."""
    return repr(sorted(params.items(), key=lambda item: item[0]))


def _score(row: Evaluation, name: str) -> float:
    return float(row.scores[name]) if name in row.scores else row.measured.get(name, math.nan)


def _oriented(scores: Array, sign: float) -> tuple[Array, bool]:
    """Scores of which more is better, and whether they are shares; others come in units of their usual deviation."""
    if len(scores) and scores.min() >= 0.0 and scores.max() <= 1.0:
        return (scores if sign < 0 else 1.0 - scores), True
    middle = np.median(scores)
    scale = float(np.median(np.abs(scores - middle))) * 1.4826 or float(np.std(scores)) or 1.0
    return np.clip(-sign * (scores - middle) / scale, -6.0, 6.0), False


def _ranked(values: Array, violations: Array) -> Array:
    """Normal scores of the ranks, infeasible trials below all others (Salinas et al., "A quantile-based approach for
    hyperparameter transfer learning", 2020, section 4.1): the scale of an objective may be anything."""
    if not len(values):
        return values
    order = np.lexsort((values, -violations))
    same = np.append(False, (values[order][1:] == values[order][:-1]) & (np.diff(violations[order]) == 0))
    group = np.cumsum(~same) - 1
    means = np.bincount(group, weights=_quantiles(len(values))) / np.bincount(group)
    found = np.empty(len(values))
    found[order] = means[group]
    return found


@lru_cache(maxsize=8)
def _quantiles(count: int) -> Array:
    normal = NormalDist()
    return np.array([normal.inv_cdf((index + 0.5) / count) for index in range(count)])
