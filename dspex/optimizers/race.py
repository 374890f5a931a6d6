"""One race: examples drawn at random, a bar to beat, and what is known of each runner."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.data import Evaluation
from dspex.optimizers.scores import Scores
from dspex.optimizers.task import Task
from dspex.pruners.betting import wealth
from dspex.variables import VariableState

__all__ = ["Race", "Runner"]

Floats = NDArray[np.float64]
Share = Callable[[Evaluation, str], float]
"""The value of an objective in a row as a share of its range, 1 the best; NaN where there is none."""

TELLING = 0.8
"""The share of the draws that goes to examples by how much they can tell; the rest is uniform."""

_PRIOR = 2.0  # by so many examples the mean of a runner is drawn to that of all
_SPREAD = 0.1  # the least deviation of a share that a few scores are believed to show


@attrs.define(eq=False)
class Runner:
    """A configuration in a race, with its scores as shares, (objectives, examples run so far); NaN where it failed."""

    state: VariableState
    shares: Floats
    scores: Scores | None = None
    out: bool = False


class Race:
    """A race of some configurations on the valset.

    Its examples are drawn anew, in an order that is kept with the study under ``key``, because it depends on the ledger
    as it is before the race: those on which little is expected are drawn with larger chances, since there a
    configuration can still show that it is good. What is expected is the mean of all configurations on the example,
    moved to the mean of the bar: the best configuration that is known on the whole valset.
    """

    def __init__(self, task: Task, key: str, states: Sequence[VariableState], share: Share, *, margin: float) -> None:
        self._task = task
        self._share = share
        self._margin = margin
        self._objectives = tuple(task.objectives)
        plan = task.remember(f"race:{key}", partial(self._draw, key))
        by_id = {example.id: example for example in task.valset}
        self.examples = [by_id[one] for one in plan["order"]]
        self._weights = np.array(plan["weights"])
        self.expected = np.array(plan["expected"])
        self._bar = self._shares(task.best) if plan["barred"] and task.best is not None else None
        best = None if self._bar is None or task.best is None else task.best.state.fingerprint
        none = np.zeros((len(self._objectives), 0))
        self.runners = [Runner(state, none) for state in states if state.fingerprint != best]

    @property
    def barred(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def run(self, runners: Sequence[Runner], step: int) -> None:
        """Run configurations on ``step`` more examples each, all at once."""
        counts = [min(runner.shares.shape[1] + step, len(self.examples)) for runner in runners]
        jobs = [(runner.state, self.examples[:count]) for runner, count in zip(runners, counts, strict=True)]
        for runner, count, scores in zip(runners, counts, self._task.evaluate_many(jobs), strict=True):
            runner.scores = scores
            runner.shares = self._shares(scores)[:, :count]

    def complete(self, runner: Runner) -> bool:
        """Whether a configuration has been run on everything."""
        return len(runner.shares[0]) == len(self.examples)

    def doubt(self, runner: Runner) -> float:
        """The most that could be made of one unit by betting that a runner is not better than the bar by the margin.

        If it is better by that in one objective, the chance that this ever reaches 1 / alpha is at most alpha. Where it
        failed it is taken to be better than the bar by just the margin.
        """
        if self._bar is None:
            return 1.0
        count = runner.shares.shape[1]
        least = self.expected + self._margin
        enough = np.where(np.isnan(self._bar), self.expected, self._bar) + self._margin
        values = np.where(np.isnan(runner.shares), enough[:, :count], runner.shares) - least[:, :count]
        rooms = np.maximum(1.0, enough) - least  # enough may be more than there is
        return min(
            float(wealth(value, rooms=room, weights=self._weights).max(initial=1.0))
            for value, room in zip(values, rooms, strict=True)
        )

    def hopes(self, optimism: float) -> list[Floats]:
        """What each runner may have beyond what was expected, (objectives,) shares; of a complete one what it has."""
        gains = [runner.shares - self.expected[:, : runner.shares.shape[1]] for runner in self.runners]
        everything = np.concatenate(gains, axis=1)
        scored = np.maximum(np.isfinite(everything).sum(axis=1), 1)
        level = np.nansum(everything, axis=1) / scored
        spread = np.sqrt(np.nansum((everything.T - level) ** 2, axis=0) / scored)
        spread = np.maximum(spread, _SPREAD)
        found = []
        for runner, gain in zip(self.runners, gains, strict=True):
            count = np.isfinite(gain).sum(axis=1)
            if self.complete(runner):
                found.append(np.nansum(gain, axis=1) / np.maximum(count, 1))
                continue
            mean = (np.nansum(gain, axis=1) + _PRIOR * level) / (count + _PRIOR)
            deviation = spread * np.sqrt((1 - count / len(self.examples)) / (count + _PRIOR))
            found.append(mean + optimism * deviation)
        return found

    # What is drawn

    def _draw(self, key: str) -> dict[str, Any]:
        task = self._task
        ids = [example.id for example in task.valset]
        weights, expected = np.ones(len(ids)), np.zeros((len(self._objectives), len(ids)))
        if task.best is not None:
            rows = [row for row in task.study.ledger if row.ok]
            for index, name in enumerate(self._objectives):
                level = np.nanmean([self._share(row, name) for row in task.best.rows if row.ok])
                usual = self._usual(rows, ids, name)
                expected[index] = usual + level - usual.mean()
            room = np.maximum(1.0 - expected[0], 0.01)
            weights = 1 - TELLING + TELLING * room / room.mean()
        # To draw one after another by weight is to sort by exponential clocks that run at these rates.
        rng = np.random.default_rng(task.random("race", key).randrange(2**63))
        order = np.argsort(rng.exponential(size=len(ids)) / weights)
        return {
            "order": [ids[index] for index in order],
            "weights": weights[order].tolist(),
            "expected": expected[:, order].tolist(),
            "barred": task.best is not None,
        }

    def _usual(self, rows: Sequence[Evaluation], ids: Sequence[str], name: str) -> Floats:
        """The mean of all configurations on each example, drawn to the mean of all as if by one more."""
        found: Mapping[str, list[float]] = {one: [] for one in ids}
        for row in rows:
            share = self._share(row, name)
            if row.example_id in found and not math.isnan(share):
                found[row.example_id].append(share)
        everything = [share for shares in found.values() for share in shares]
        overall = math.fsum(everything) / len(everything)
        # Exact sums, because rows that were run at once are in another order each time.
        return np.array([(math.fsum(shares) + overall) / (len(shares) + 1) for shares in found.values()])

    def _shares(self, scores: Scores) -> Floats:
        rows = {row.example_id: row for row in scores.rows if row.ok}
        return np.array(
            [
                [self._share(rows[one.id], name) if one.id in rows else math.nan for one in self.examples]
                for name in self._objectives
            ]
        )
