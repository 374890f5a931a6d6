"""`StructuredSearch`: a few examples at a time, wherever they say most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from dspex.data import Example
from dspex.errors import DefinitionError
from dspex.optimizers.base import Optimizer
from dspex.optimizers.options import check_proposers
from dspex.optimizers.task import Task
from dspex.proposers import BootstrappedDemos, GroundedInstructions, LabeledDemos, Proposer
from dspex.proposers.checks import check_whole
from dspex.samplers import Beliefs, StructuredSampler
from dspex.variables import VariableState

__all__ = ["StructuredSearch"]

CAUTION = 1.5
"""Deviations that are taken off the mean of a configuration before it is compared as a result."""

AGAIN, UNFORESEEN = 0.25, 0.75
"""The shares of the evaluations that go to configurations that have been run before: where their parts foretell how
good the others are, and where they do not."""

INFORMATIVE = 0.3
"""The share of the unseen examples from which those to be run are drawn: the ones that may go either way."""

FEWEST = 4
"""The share is never of fewer examples."""


class StructuredSearch(Optimizer):
    """Each configuration is run on a few examples only, and a model puts together what they say of its parts.

    At first ``startup`` random configurations are run on one example each. From then on a round pays for new
    configurations that `StructuredSampler` proposes, on one example each, and for more examples of one that has been
    run before, which a draw from the model chooses. Where the parts of configurations foretell how good others are,
    a quarter goes to the latter, and three quarters where they foretell nothing and only running tells; between the two
    it goes by the odds. What a round pays for runs at once. The result is the configuration with the largest mean less
    one and a half of its deviations. Whether it is really better is told, as by every optimizer, by held-out examples
    alone.

    Args:
        evaluations: how many (configuration, example) pairs to pay for in all.
        step: evaluations that a round pays for, after which the model is fitted anew.
        startup: random configurations at first.
        refresh: evaluations after which the proposers are asked again, now that there is more to learn from.
        proposers: what fills the pools; None is labelled demos, bootstrapped demos and grounded instructions.
        options: those of `Optimizer`.

    Several objectives: new configurations are those of `StructuredSampler`, revisits and the result go by the first.

    Example:
        >>> import dspex
        >>> optimizer = dspex.optimizers.StructuredSearch(evaluations=200, proposers=[dspex.proposers.LabeledDemos()])
        >>> optimizer.step, optimizer.startup
        (8, 40)
    """

    def __init__(
        self,
        *,
        evaluations: int = 600,
        step: int = 8,
        startup: int = 40,
        refresh: int = 150,
        proposers: Sequence[Proposer] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name, value in (("evaluations", evaluations), ("step", step), ("startup", startup), ("refresh", refresh)):
            check_whole(name, value, 1)
        check_proposers(proposers)
        self.evaluations = evaluations
        self.step = step
        self.startup = startup
        self.refresh = refresh
        self.proposers: tuple[Proposer, ...] = (
            (LabeledDemos(), BootstrappedDemos(), GroundedInstructions()) if proposers is None else tuple(proposers)
        )

    def sampler(self) -> StructuredSampler:
        """The sampler whose model the search goes by; it has the search's seed."""
        return StructuredSampler(seed=self.seed, n_startup_trials=self.startup)

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the results."""
        return {**super().to_json(), "proposers": [proposer.to_json() for proposer in self.proposers]}

    def search(self, task: Task) -> VariableState | None:
        """Rounds until as many evaluations are paid for, or nothing is left to be run.

        What each round was to do is kept with the study, so that a search that is taken up again does the same.
        """
        sampler = task.study.sampler
        if not isinstance(sampler, StructuredSampler):
            raise DefinitionError(
                f"the study {task.study.study_name!r} has the sampler {sampler!r}, and StructuredSearch goes by the "
                "model of its own; give the study's name, study='name', or make it with "
                "create_study(sampler=StructuredSampler(), ...)"
            )
        examples = {example.id: example for example in task.valset}
        seen: dict[str, tuple[VariableState, dict[str, Example]]] = {}
        spent = number = rounds = 0
        while spent < self.evaluations:
            if spent >= rounds * self.refresh:
                for proposer in self.proposers:
                    task.watcher.phase(f"proposing: {type(proposer).__name__}")
                    proposer.propose(task, round=rounds)
                task.watcher.phase(f"{spent} evaluations")
                rounds += 1
            beliefs = sampler.beliefs(task.study.view, task.space)
            plan = task.remember(f"structured:{number}", partial(self._plan, task, beliefs, number, spent))
            states = [task.state if number == 0 else task.ask() for _ in plan["new"]]
            jobs = list(zip(states, plan["new"], strict=True))
            if plan["known"] is not None:
                jobs.append((task.study.state(task.study.trials[plan["known"]]), plan["more"]))
            for state, ids in jobs:
                seen.setdefault(state.fingerprint, (state, {}))[1].update({one: examples[one] for one in ids})
            spent += sum(len(ids) for _, ids in jobs)
            number += 1
            try:
                task.evaluate_many([(state, [examples[one] for one in ids]) for state, ids in jobs])
            finally:  # when the budget ends it, or somebody does, there is a result too, by all that was paid for
                self._prefer(task, sampler.beliefs(task.study.view, task.space))
        best = task.best_state
        for state, known in seen.values():
            task.finish(state, task.evaluate(state, list(known.values())))
        return best

    def _plan(self, task: Task, beliefs: Beliefs | None, number: int, spent: int) -> dict[str, Any]:
        """What a round pays for: ids of the examples of each ``new`` configuration, and how many ``more`` (their ids)
        of a ``known`` trial."""
        ids = [example.id for example in task.valset]
        rng = task.random("structured", number)
        left = self.evaluations - spent
        plan: dict[str, Any] = {"new": [], "known": None, "more": []}
        if number == 0:
            # The program as it is first, before anything is spent on others: a wrong metric or key shows here.
            plan["new"] = [rng.sample(ids, min(math.ceil(self.step / 2), left, len(ids)))]
        elif beliefs is None or spent < self.startup:
            plan["new"] = [[one] for one in rng.choices(ids, k=min(self.step, left, max(self.startup - spent, 1)))]
        else:
            # The advantage is a log Bayes factor by left-out predictions (Geisser & Eddy 1979), of odds that were even.
            foretold = 1 / (1 + math.exp(-min(max(beliefs.advantage, -50.0), 50.0)))
            share = UNFORESEEN + (AGAIN - UNFORESEEN) * foretold
            again = min(math.floor(share * self.step + rng.random()), left)
            place = self._revisited(beliefs, len(ids), np.random.default_rng(rng.randrange(2**32))) if again else None
            if place is not None:
                trial = plan["known"] = beliefs.trials[place]
                run = {row.example_id for row in task.study.ledger.rows(trial=trial)}
                telling = self._telling(beliefs, place, [one for one in ids if one not in run])
                plan["more"] = rng.sample(telling, min(again, len(telling)))
            count = min(self.step, left) - len(plan["more"])
            plan["new"] = [[one] for one in rng.choices(self._telling(beliefs, 0, ids), k=count)]
        return plan

    def _telling(self, beliefs: Beliefs, place: int, ids: Sequence[str]) -> list[str]:
        """Those of the examples that may go either way with a configuration at this place."""
        level = float(beliefs.mean[place])
        # Examples about which as much is known are alike up to rounding; which of them comes first must not hang on it.
        ordered = sorted(ids, key=lambda one: round(abs(level + beliefs.examples.get(one, 0.0)), 9))
        return ordered[: max(FEWEST, math.ceil(INFORMATIVE * len(ordered)))]

    def _revisited(self, beliefs: Beliefs, most: int, rng: np.random.Generator) -> int | None:
        worth = np.where(beliefs.counts < most, beliefs.draw(rng), -math.inf)
        return int(worth.argmax()) if math.isfinite(worth.max()) else None

    def _prefer(self, task: Task, beliefs: Beliefs | None) -> None:
        """Say which configuration would be the result if the search ended here."""
        if beliefs is None:
            return
        trial = beliefs.trials[int((beliefs.mean - CAUTION * beliefs.deviation).argmax())]
        task.prefer(task.study.state(task.study.trials[trial]))
