"""`Racing`: pays for the examples that may change what the best is, and puts out who is shown not to be it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dspex.data import Evaluation, Example
from dspex.errors import DefinitionError
from dspex.evaluate import MEASURED
from dspex.optimizers.allocation import Allocator
from dspex.optimizers.race import Race, Runner
from dspex.optimizers.scores import objective_of
from dspex.optimizers.task import Task
from dspex.proposers.checks import check_number, check_whole
from dspex.variables import VariableState

__all__ = ["Racing"]

_RACES = 2  # that a configuration may be in: its bracket's, and the one in which the search is settled

Bounds = Mapping[str, tuple[float, float]]


class Racing(Allocator):
    """Races on examples drawn at random: who is shown to be worse than the bar is out, at a stated rate of error.

    The bar is the best configuration known on the whole valset. In the race of a bracket the next examples are always
    those of the configuration that may still become the best, by its mean and ``optimism`` deviations; when none may,
    the race is over. Those that were not shown to be worse are left open, and when the search has asked for its last
    configuration they race against the bar that there is then, until each is out, or known on all examples.

    The statement: a configuration that is better than the bar by ``margin`` (or as good, where that is 0) is put out
    with a chance of at most ``alpha``, whatever the scores depend on, although it is looked at again and again. It is
    made for each configuration by itself, as it stands when it is first raced: not for all of them at once, and not for
    one that is picked by how the races went, such as the best of those that were asked for, since what is asked for and
    when the search ends depend on who was put out before. One that is asked for again in a later bracket is raced again
    there. The examples of a race are drawn after its configurations are known, with known chances, and weighted by
    their inverse. An example whose run fails speaks neither for nor against a configuration.

    Args:
        alpha: the chance of putting a configuration out wrongly, between 0 and 1.
        margin: the share of the objective's range by which a configuration has to be better than the bar to be worth
            finding. With 0 those that are close to it are run on all examples in the end.
        step: examples between two looks; they run at once.
        optimism: deviations by which the promise of a configuration exceeds its mean. It decides who is paid for first,
            and not who is out.
        bounds: the lowest and highest value of an objective by name; (0, 1) for a metric's own unless given. Those that
            are measured (cost, tokens, calls, latency) have to be given.

    Several objectives: a configuration is out when it is shown to be worse than the bar in all of them.

    Sources: Maron & Moore 1994, "Hoeffding Races" (racing); Auer, Cesa-Bianchi & Fischer 2002, "Finite-time analysis of
    the multiarmed bandit problem" (optimism); `dspex.pruners.betting` for the bets.

    Example:
        >>> Racing(alpha=0.1, bounds={"tokens": (0, 4000)})
        Racing(alpha=0.1, margin=0.0, step=4, optimism=1.0, bounds={'tokens': (0.0, 4000.0)})
    """

    def __init__(
        self,
        *,
        alpha: float = 0.05,
        margin: float = 0.0,
        step: int = 4,
        optimism: float = 1.0,
        bounds: Bounds | None = None,
    ) -> None:
        check_number("alpha", alpha, low=1e-6, high=0.999999, example=0.05)
        check_number("margin", margin, low=0.0, high=0.999999, example=0.05)
        check_number("optimism", optimism, low=0.0, example=1.0)
        check_whole("step", step, 1)
        self.alpha = alpha
        self.margin = margin
        self.step = step
        self.optimism = optimism
        self.bounds = {name: _checked(name, pair) for name, pair in dict(bounds or {}).items()}

    def to_json(self) -> dict[str, Any]:
        bounds = {name: list(pair) for name, pair in self.bounds.items()}
        settings = {"alpha": self.alpha, "margin": self.margin, "optimism": self.optimism}
        return {**settings, "step": self.step, "bounds": bounds}

    def check(self, task: Task) -> None:
        for name in task.objectives:
            if name in MEASURED and name not in self.bounds:
                raise DefinitionError(
                    f"the objective {name!r} has no bounds, so no rate of error can be stated for a race on it; write "
                    f"Racing(bounds={{{name!r}: (0, ...)}}) with the most that one example may take"
                )

    def first(self, task: Task) -> Sequence[Example]:
        return self._race(task, "0", ()).examples[: self.step]

    def allot(self, task: Task, states: Sequence[VariableState], bracket: int) -> list[VariableState]:
        task.watcher.phase(f"race {bracket + 1}: {len(states)} configurations")
        return self._run(task, self._race(task, str(bracket), states), self.optimism)

    def settle(self, task: Task, states: Sequence[VariableState]) -> None:
        if states:
            task.watcher.phase(f"last race: {len(states)} configurations that may be the best")
            self._run(task, self._race(task, "last", states), math.inf)

    def _race(self, task: Task, key: str, states: Sequence[VariableState]) -> Race:
        def share(row: Evaluation, name: str) -> float:
            return self._share(row, name, maximized=task.objectives[name] == "maximize")

        return Race(task, key, states, share, margin=self.margin)

    def _run(self, task: Task, race: Race, optimism: float) -> list[VariableState]:
        """Run a race until nobody may become the best any more; those that are neither out nor complete."""
        self._step(task, race, race.runners)
        while worth := self._worth(race, optimism):
            self._step(task, race, worth[:1])
        left = [runner for runner in race.runners if not runner.out and not race.complete(runner)]
        for runner in left:
            assert runner.scores is not None
            task.finish(runner.state, runner.scores)
        return [runner.state for runner in left]

    def _step(self, task: Task, race: Race, runners: Sequence[Runner]) -> None:
        race.run(runners, self.step)
        for runner in runners:
            assert runner.scores is not None
            if not race.complete(runner) and race.doubt(runner) >= _RACES / self.alpha:
                runner.out = True
                task.finish(runner.state, runner.scores)

    def _worth(self, race: Race, optimism: float) -> list[Runner]:
        """Who may be better, in some objective, than each that is known on everything; the most promising first."""
        if not race.runners:  # all that were asked for are the bar
            return []
        hopes = {id(one): hope for one, hope in zip(race.runners, race.hopes(optimism), strict=True)}
        known = [hopes[id(one)] for one in race.runners if race.complete(one)]
        if race.barred:
            known.append(np.zeros(len(race.expected)))  # the bar is what is expected
        worth = [
            one
            for one in race.runners
            if not one.out and not race.complete(one) and not any((hopes[id(one)] <= best).all() for best in known)
        ]
        return sorted(worth, key=lambda one: -hopes[id(one)][0])

    def _share(self, row: Evaluation, name: str, *, maximized: bool) -> float:
        value = objective_of(row, name)
        low, high = self.bounds.get(name, (0.0, 1.0))
        if not math.isnan(value) and not low <= value <= high:
            raise DefinitionError(
                f"{name} = {value!r} lies outside the bounds {low:g} to {high:g} of the race, so its rate of error "
                f"would not hold; write Racing(bounds={{{name!r}: (lowest, highest)}}), or give another allocator"
            )
        share = (value - low) / (high - low)
        return share if maximized else 1.0 - share

    def __repr__(self) -> str:
        return (
            f"Racing(alpha={self.alpha}, margin={self.margin}, step={self.step}, optimism={self.optimism}, "
            f"bounds={self.bounds!r})"
        )


def _checked(name: str, pair: Any) -> tuple[float, float]:
    numbers = tuple(pair) if isinstance(pair, Sequence) and not isinstance(pair, str) else ()
    fine = [x for x in numbers if isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)]
    if len(numbers) != 2 or len(fine) != 2 or not numbers[0] < numbers[1]:
        raise DefinitionError(
            f"bounds[{name!r}] must be the lowest and the highest value, got {pair!r} ({type(pair).__name__}); write "
            f"for example bounds={{{name!r}: (0, 4000)}}"
        )
    return float(numbers[0]), float(numbers[1])
