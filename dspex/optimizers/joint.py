"""`JointSearch`: all open variables together, in brackets that share their examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspex.errors import DefinitionError
from dspex.optimizers.allocation import Allocator, Halving
from dspex.optimizers.base import Optimizer
from dspex.optimizers.options import check_proposers
from dspex.optimizers.task import Task
from dspex.proposers import BootstrappedDemos, GroundedInstructions, LabeledDemos, Proposer
from dspex.proposers.checks import check_whole
from dspex.samplers import Sampler, TPESampler
from dspex.variables import VariableState

__all__ = ["JointSearch"]


class JointSearch(Optimizer):
    """Proposers fill the pools, a sampler picks configurations of everything at once, the good ones are paid for.

    The search goes in brackets. Each asks for ``width`` configurations and runs all of them on a few examples of the
    valset; its allocator says who goes on to more, until what is left has been run on the whole valset: successive
    halving, or a race with a stated rate of error. The configurations of a bracket see the same examples, so they are
    compared like with like; the best configuration so far runs along for nothing, as its rows are paid. The first
    bracket starts from the program's own values. Every second bracket the proposers are asked again, now that there is
    a better configuration to learn from.

    Args:
        trials: how many configurations to ask for in all.
        width: how many per bracket.
        allocator: who pays for examples: `Halving`, the default, or `Racing`.
        patience: stop after so many brackets without a better configuration; None never does.
        proposers: what fills the pools; None is labelled demos, bootstrapped demos and grounded instructions.
        sampler: what picks; None is TPE.
        options: those of `Optimizer`.

    Example:
        >>> import dspex
        >>> proposers = [dspex.proposers.LabeledDemos()]
        >>> dspex.JointSearch(trials=24, width=8, proposers=proposers).allocator
        Halving(eta=3, min_examples=None)
        >>> raced = dspex.JointSearch(allocator=dspex.optimizers.Racing(alpha=0.05), proposers=proposers)
    """

    def __init__(
        self,
        *,
        trials: int = 36,
        width: int = 9,
        allocator: Allocator | None = None,
        patience: int | None = 3,
        proposers: Sequence[Proposer] | None = None,
        sampler: Sampler | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name, value, least in (("trials", trials, 1), ("width", width, 1)):
            check_whole(name, value, least)
        if patience is not None:
            check_whole("patience", patience, 1)
        if allocator is not None and not isinstance(allocator, Allocator):
            raise DefinitionError(
                f"allocator must be an Allocator, got {allocator!r} ({type(allocator).__name__}); write for example "
                "allocator=dspex.optimizers.Racing()"
            )
        check_proposers(proposers)
        self.trials = trials
        self.width = width
        self.allocator = allocator or Halving()
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

    def search(self, task: Task) -> VariableState | None:
        """Brackets until the trials are used up or patience is over."""
        self.allocator.check(task)
        # The program as it is, before anything is spent on proposals: a wrong metric or key shows here.
        task.evaluate(task.state, self.allocator.first(task))
        asked = 0
        bracket = 0
        stale = 0
        left: dict[str, VariableState] = {}
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
            for state in self.allocator.allot(task, list(states.values()), bracket):
                left[state.fingerprint] = state
            stale = stale + 1 if task.best is before and before is not None else 0
            bracket += 1
        self.allocator.settle(task, list(left.values()))
        return None if task.best is None else task.best.state
