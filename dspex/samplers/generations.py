"""The generations of an evolutionary search, as anybody can read them off the trials of a study.

The trials that have completed, in the order in which they did, are the generations: each time as many as a population
has are there, the survivors among them and their parents become the parents of what is asked for from then on. Nothing
has to be noted about a trial when it is asked for, trials of other origin take part, and nobody waits for a straggler:
it belongs to the generation in which it arrives. What an ask costs does not depend on how many trials there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.dimensions import Dimension, NumberDimension, dimension_of
from dspex.samplers.ranking import violation
from dspex.samplers.seen import Configurations, TriedCandidates
from dspex.trials import FrozenTrial, StudyView, TrialState
from dspex.variables import Domain

__all__ = ["Generations", "Genes", "Parents", "Select"]

Array = NDArray[np.float64]

Select = Callable[[Array, Array, np.random.Generator], tuple[NDArray[np.intp], Array]]
"""From losses (an objective a row) and violations: the survivors' places, and of each a key (a row), the lower the
better, by which it is compared when parents are chosen."""


class Genes:
    """The parents that have a value for every variable of a branch, with their values as columns."""

    def __init__(self, parents: Sequence[FrozenTrial], branch: Mapping[str, Domain[Any]], view: StudyView) -> None:
        found = {path: dimension_of(domain, view.pools.get(path)) for path, domain in branch.items()}
        self.numbers = {path: one for path, one in found.items() if isinstance(one, NumberDimension)}
        self.others = [path for path, one in found.items() if path not in self.numbers and one is not None]
        rows, places = [], []
        for place, trial in enumerate(parents):
            row = _row(trial, found)
            if row is not None:
                rows.append([row[path][0] for path in self.numbers])
                places.append(place)
        self.rows = np.array(rows).reshape(len(rows), len(self.numbers))
        self.place = {place: index for index, place in enumerate(places)}  # place among the parents -> row


def _row(trial: FrozenTrial, dimensions: Mapping[str, Dimension | None]) -> dict[str, Sequence[float]] | None:
    row: dict[str, Sequence[float]] = {}
    for path, dimension in dimensions.items():
        if dimension is not None:
            columns = dimension.encode(trial.params[path]) if path in trial.params else None
            if columns is None:
                return None
            row[path] = columns
    return row


class Parents:
    """Those of whom the next trials are the children."""

    def __init__(self, trials: Sequence[FrozenTrial], keys: Array) -> None:
        self.trials = tuple(trials)
        self._keys = [tuple(key) for key in keys.tolist()]
        self._genes: dict[tuple[tuple[str, Domain[Any]], ...], Genes] = {}

    def genes(self, view: StudyView, branch: Mapping[str, Domain[Any]]) -> Genes:
        """The parents that entered a branch."""
        key = tuple(branch.items())
        found = self._genes.get(key)
        if found is None:
            found = self._genes[key] = Genes(self.trials, branch, view)
        return found

    def line(self, rng: np.random.Generator) -> list[int]:
        """The parents' places as they won a tournament of two; those who lost one come after them."""
        order: list[int] = rng.permutation(len(self.trials)).tolist()
        winners, losers = [], []
        for one, two in zip(order[::2], order[1::2], strict=False):
            first, second = (two, one) if self._keys[two] < self._keys[one] else (one, two)
            winners.append(first)
            losers.append(second)
        return winners + order[len(order) // 2 * 2 :] + losers


class Generations:
    """What is kept of one study.

    Args:
        size: Trials in a population.
        seed: For what is left to chance when survivors are selected.
        select: Selects as many survivors as a population has.
    """

    def __init__(self, size: int, seed: int, select: Select) -> None:
        self._size = size
        self._seed = seed
        self._select = select
        self._cursor = 0
        self._counted: set[int] = set()
        self._newcomers: list[FrozenTrial] = []
        self.generation = 0
        self.parents = Parents([], np.empty((0, 0)))
        self.tried = TriedCandidates()
        self.configurations = Configurations()
        self.lock = threading.Lock()

    def read(self, view: StudyView) -> None:
        """Takes in what has changed since the last time."""
        changed, self._cursor = view.changes(self._cursor)
        for trial in changed:
            self.tried.take(trial)
            if trial.state is TrialState.COMPLETE and trial.number not in self._counted:
                self._counted.add(trial.number)
                self._newcomers.append(trial)
                if len(self._newcomers) == self._size:
                    self._next(view)

    def _next(self, view: StudyView) -> None:
        self.generation += 1
        everybody = [*self.parents.trials, *self._newcomers]
        signs = np.array([direction.sign for direction in view.directions])
        losses = np.array([trial.values for trial in everybody]).T * signs[:, None]
        violations = np.array([violation(trial) for trial in everybody])
        places, keys = self._select(losses, violations, np.random.default_rng([self._seed, self.generation]))
        self.parents = Parents([everybody[place] for place in places], keys)
        self._newcomers = []
