"""`JointSearch`: all open variables together, with successive halving over examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dspex.optimizers.base import Optimizer
from dspex.optimizers.options import check_proposers, check_whole
from dspex.optimizers.scores import Scores
from dspex.optimizers.task import Task
from dspex.proposers import BootstrappedDemos, GroundedInstructions, LabeledDemos, Proposer
from dspex.samplers import Sampler, TPESampler
from dspex.variables import VariableState

__all__ = ["JointSearch"]


class JointSearch(Optimizer):
    """Proposers fill the pools, a sampler picks configurations of everything at once, halving pays for the good.

    The search goes in brackets. Each asks for ``width`` configurations and scores all of them on a few examples of
    the valset; the best ``1/eta`` go on to ``eta`` times as many, and so on, until what is left has been scored on
    the whole valset. All configurations see the same examples in the same order, so they are compared like with
    like; the best configuration so far runs along for nothing, as its rows are paid. The first bracket starts from
    the program's own values. Every second bracket the proposers are asked again, now that there is a better
    configuration to learn from.

    Args:
        trials: how many configurations to ask for in all.
        width: how many per bracket.
        eta: the factor between rungs.
        min_examples: examples of the first rung; None is the valset's size over ``eta`` squared, at least 4.
        patience: stop after so many brackets without a better configuration; None never does.
        proposers: what fills the pools; None is labelled demos, bootstrapped demos and grounded instructions.
        sampler: what picks; None is TPE.
        options: those of `Optimizer`.

    Source: Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
    section 3 (successive halving), over examples instead of epochs.

    Example:
        >>> import dspex
        >>> optimizer = dspex.JointSearch(trials=24, width=8, proposers=[dspex.proposers.LabeledDemos()])
        >>> optimizer.rungs(60)
        (7, 20, 60)
    """

    def __init__(
        self,
        *,
        trials: int = 36,
        width: int = 9,
        eta: int = 3,
        min_examples: int | None = None,
        patience: int | None = 3,
        proposers: Sequence[Proposer] | None = None,
        sampler: Sampler | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name, value, least in (("trials", trials, 1), ("width", width, 1), ("eta", eta, 2)):
            check_whole(name, value, least)
        for name, limit in (("min_examples", min_examples), ("patience", patience)):
            if limit is not None:
                check_whole(name, limit, 1)
        check_proposers(proposers)
        self.trials = trials
        self.width = width
        self.eta = eta
        self.min_examples = min_examples
        self.patience = patience
        self.proposers: tuple[Proposer, ...] = (
            (LabeledDemos(), BootstrappedDemos(), GroundedInstructions()) if proposers is None else tuple(proposers)
        )
        self._sampler = sampler

    def sampler(self) -> Sampler:
        """TPE with the search's seed, unless one was given."""
        return self._sampler or TPESampler(seed=self.seed, n_startup_trials=max(4, self.width))

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the results."""
        return {
            **super().to_json(),
            "proposers": [proposer.to_json() for proposer in self.proposers],
            "sampler": repr(self._sampler),
        }

    def rungs(self, size: int) -> tuple[int, ...]:
        """How many examples of a valset of ``size`` a configuration has seen after each rung."""
        first = self.min_examples or max(4, math.ceil(size / self.eta**2))
        sizes = [size]
        while first <= math.ceil(sizes[-1] / self.eta) < sizes[-1]:
            sizes.append(math.ceil(sizes[-1] / self.eta))
        return tuple(reversed(sizes))

    def search(self, task: Task) -> VariableState | None:
        """Brackets of successive halving until the trials are used up or patience is over."""
        order = list(task.valset)
        task.random("order").shuffle(order)
        rungs = self.rungs(len(order))
        # The program as it is, before anything is spent on proposals: a wrong metric or key shows here.
        task.evaluate(task.state, order[: rungs[0]])
        asked = 0
        bracket = 0
        stale = 0
        while asked < self.trials and (self.patience is None or stale < self.patience):
            if bracket % 2 == 0:
                for proposer in self.proposers:
                    task.watcher.phase(f"proposing: {type(proposer).__name__}")
                    proposer.propose(task, round=bracket // 2)
            states = {task.best_state.fingerprint: task.best_state}
            while len(states) <= self.width and asked < self.trials:
                state = task.ask()
                states.setdefault(state.fingerprint, state)
                asked += 1
            before = task.best
            task.watcher.phase(f"bracket {bracket + 1}: {len(states)} configurations on {rungs[0]} examples")
            self._halve(task, list(states.values()), order, rungs)
            stale = stale + 1 if task.best is before and before is not None else 0
            bracket += 1
        return None if task.best is None else task.best.state

    def _halve(self, task: Task, states: list[VariableState], order: Sequence[Any], rungs: Sequence[int]) -> None:
        for rung, size in enumerate(rungs):
            scored = [task.evaluate(state, order[:size]) for state in states]
            if size == len(order):
                return
            ranked = self._ranked(task, scored)
            kept = max(1, math.ceil(len(ranked) / self.eta))
            for scores in ranked[kept:]:
                task.finish(scores.state, scores)
            states = [scores.state for scores in ranked[:kept]]
            task.watcher.phase(f"  rung {rung + 2}: {kept} of {len(ranked)} go on to {rungs[rung + 1]} examples")

    def _ranked(self, task: Task, scored: list[Scores]) -> list[Scores]:
        """Best first; unscored ones last. Of several objectives, front by front of those no other beats in all."""
        signs = {name: -1.0 if direction == "maximize" else 1.0 for name, direction in task.objectives.items()}
        losses = {id(scores): [sign * scores.mean(name) for name, sign in signs.items()] for scores in scored}
        known = [s for s in scored if not any(map(math.isnan, losses[id(s)]))]
        unknown = [s for s in scored if any(map(math.isnan, losses[id(s)]))]
        ranked: list[Scores] = []
        while known:
            front = [s for s in known if not any(_beats(losses[id(other)], losses[id(s)]) for other in known)]
            known = [s for s in known if all(s is not taken for taken in front)]
            # The best in each objective before those between them, so that few places keep the whole range.
            for objective in range(min(len(signs), len(front))):
                best = front.pop(_lowest([losses[id(s)][objective] for s in front]))
                ranked.append(best)
            ranked += sorted(front, key=lambda s: losses[id(s)])
        return ranked + unknown


def _lowest(values: list[float]) -> int:
    return min(range(len(values)), key=values.__getitem__)


def _beats(one: list[float], other: list[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other
