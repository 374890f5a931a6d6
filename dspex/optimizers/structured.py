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

CAUTION = 0.25
"""Deviations that are taken off the mean of a configuration before it is compared as a result."""

INFORMATIVE = 0.3
"""The share of the unseen examples from which those to be run are drawn: the ones that may go either way."""

TELLING = 3.0
"""Nats by which variables have to predict configurations for new ones to be worth more than known ones."""


class StructuredSearch(Optimizer):
    """Each configuration is run on a few examples only, and a model puts together what they say of its parts.

    At first as many random configurations as ``startup`` are run on one example each. From then on each step pays for
    ``step`` examples: of a new configuration that `StructuredSampler` proposes, or, every ``revisit``-th time, of one
    that is known already: the present leader, until it has been run on about half the square root of all evaluations,
    and then one by a draw from the model. The result is the configuration with the largest mean, less a part of its
    deviation, among those run on about as many examples. Whether it is really better is told, as by every optimizer,
    by held-out examples alone.

    Args:
        evaluations: how many (configuration, example) pairs to pay for in all.
        step: examples per step.
        startup: random configurations at first.
        revisit: every so many-th step goes to a configuration that is known; every second one while variables predict
            nothing.
        refresh: evaluations after which the proposers are asked again, now that there is more to learn from.
        proposers: what fills the pools; None is labelled demos, bootstrapped demos and grounded instructions.
        options: those of `Optimizer`.

    Several objectives: new configurations are those of `StructuredSampler`, revisits and the result go by the first.

    Example:
        >>> import dspex
        >>> optimizer = dspex.optimizers.StructuredSearch(evaluations=200, proposers=[dspex.proposers.LabeledDemos()])
        >>> optimizer.step, optimizer.startup
        (3, 40)
    """

    def __init__(
        self,
        *,
        evaluations: int = 600,
        step: int = 3,
        startup: int = 40,
        revisit: int = 4,
        refresh: int = 150,
        proposers: Sequence[Proposer] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name, value, least in (
            ("evaluations", evaluations, 1),
            ("step", step, 1),
            ("startup", startup, 1),
            ("revisit", revisit, 2),
            ("refresh", refresh, 1),
        ):
            check_whole(name, value, least)
        check_proposers(proposers)
        self.evaluations = evaluations
        self.step = step
        self.startup = startup
        self.revisit = revisit
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
        """Steps until as many evaluations are paid for, or nothing is left to be run.

        What each step was to do is kept with the study, so that a search that is taken up again does the same.
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
            key = f"structured:{number}"
            beliefs = sampler.beliefs(task.study.view, task.space)
            plan = task.remember(key, partial(self._plan, task, beliefs, number, spent))
            if number == 0:
                state = task.state
            elif plan["trial"] is None:
                state = task.ask()
            else:
                state = task.study.state(task.study.trials[plan["trial"]])
            _, known = seen.setdefault(state.fingerprint, (state, {}))
            known.update({one: examples[one] for one in plan["examples"]})
            task.evaluate(state, [examples[one] for one in plan["examples"]])
            spent += len(plan["examples"])
            number += 1
            self._prefer(task, sampler.beliefs(task.study.view, task.space), spent)
        best = task.best_state
        for state, known in seen.values():
            task.finish(state, task.evaluate(state, list(known.values())))
        return best

    def _plan(self, task: Task, beliefs: Beliefs | None, number: int, spent: int) -> dict[str, Any]:
        """The trial to go on with, or None for a new one, and the ids of the examples to run it on."""
        ids = [example.id for example in task.valset]
        rng = task.random("structured", number)
        if beliefs is None or spent < self.startup:
            # The program as it is first, before anything is spent on others: a wrong metric or key shows here.
            return {
                "trial": None,
                "examples": rng.sample(ids, min(self.step, self.evaluations, len(ids)) if number == 0 else 1),
            }
        place = None
        every = self.revisit if beliefs.advantage > TELLING else 2
        if number % every == 0:
            place = self._revisited(beliefs, len(ids), spent, np.random.default_rng(rng.randrange(2**32)))
        trial = None if place is None else beliefs.trials[place]
        seen = set() if trial is None else {row.example_id for row in task.study.ledger.rows(trial=trial)}
        level = float(beliefs.mean[0 if place is None else place])
        unseen = [one for one in ids if one not in seen]
        unseen.sort(key=lambda one: abs(level + beliefs.examples.get(one, 0.0)))
        either = unseen[: max(self.step, math.ceil(INFORMATIVE * len(unseen)))]
        return {"trial": trial, "examples": rng.sample(either, min(self.step, self.evaluations - spent, len(either)))}

    def _revisited(self, beliefs: Beliefs, most: int, spent: int, rng: np.random.Generator) -> int | None:
        leader = int((beliefs.mean - CAUTION * beliefs.deviation).argmax())
        if beliefs.counts[leader] < self._enough(most, spent):
            return leader
        worth = np.where(beliefs.counts < most, beliefs.draw(rng), -math.inf)
        return int(worth.argmax()) if math.isfinite(worth.max()) else None

    def _enough(self, most: int, spent: int) -> int:
        return min(most, max(self.step, math.isqrt(spent) // 2))

    def _prefer(self, task: Task, beliefs: Beliefs | None, spent: int) -> None:
        """Say which configuration would be the result if the search ended here."""
        if beliefs is None:
            return
        enough = min(self._enough(len(task.valset), spent), int(beliefs.counts.max()))
        worth = beliefs.mean - CAUTION * beliefs.deviation
        trial = beliefs.trials[int(np.where(beliefs.counts >= enough, worth, -math.inf).argmax())]
        task.prefer(task.study.state(task.study.trials[trial]))
