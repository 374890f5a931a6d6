"""What a configuration scored, and which of two is ahead."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from dspex.data import Evaluation
from dspex.variables import VariableState

__all__ = ["Scores", "is_ahead", "objective_of"]


@attrs.frozen
class Scores:
    """What one configuration scored on some examples: one row each, in their order; failed rows count nowhere."""

    state: VariableState
    rows: tuple[Evaluation, ...]
    objectives: tuple[str, ...]

    @property
    def score(self) -> float:
        """The mean of the first objective; NaN when no row was scored."""
        return self.mean(self.objectives[0])

    @property
    def values(self) -> dict[str, float]:
        """The mean of every objective."""
        return {name: self.mean(name) for name in self.objectives}

    @property
    def known(self) -> bool:
        """Whether there is a mean of every objective."""
        return not any(map(math.isnan, self.values.values()))

    @property
    def failed(self) -> int:
        """How many rows the world failed."""
        return sum(not row.ok for row in self.rows)

    def mean(self, objective: str) -> float:
        """The mean of one objective over the scored rows; NaN when there is none."""
        numbers = [objective_of(row, objective) for row in self.rows if row.ok]
        return math.fsum(numbers) / len(numbers) if numbers else math.nan


def objective_of(row: Evaluation, name: str) -> float:
    """The value of an objective in a row, given by the metric or measured; NaN when there is none."""
    if name in row.scores:
        return row.scores[name]
    found = row.measured
    if name not in found and row.error:  # a program that raised has the failure score in all the metric's objectives
        return row.scores.get("score", math.nan)
    return found.get(name, math.nan)


def is_ahead(one: Scores, other: Scores, directions: Mapping[str, str]) -> bool:
    """Whether ``one`` is better in the first objective in which the two differ; what is not known is never better.

    The one that nobody is ahead of is in the Pareto set: who beat it would be equal or better in every objective.
    """
    for name, direction in directions.items():
        mine, theirs = one.mean(name), other.mean(name)
        if math.isnan(mine) or math.isnan(theirs):
            return not math.isnan(mine)
        if mine != theirs:
            return mine > theirs if direction == "maximize" else mine < theirs
    return False
