"""Who of a bracket of configurations is run on how many examples: what all allocators are, and successive halving."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from dspex.data import Example
from dspex.optimizers.scores import Scores
from dspex.optimizers.task import Task
from dspex.proposers.checks import check_whole
from dspex.variables import VariableState

__all__ = ["Allocator", "Halving"]


class Allocator(ABC):
    """Pays for examples of a bracket of configurations, until it is settled which of them is worth all examples.

    It keeps nothing of a search: what it does depends on the task and on its own settings alone, so that a search that
    is taken up again takes the same steps.
    """

    def check(self, task: Task) -> None:  # noqa: B027  # most have nothing to check
        """Raise `DefinitionError` when it cannot work with a task; called before anything is paid for."""

    @abstractmethod
    def first(self, task: Task) -> Sequence[Example]:
        """The examples on which the program as it is runs at first."""

    @abstractmethod
    def allot(self, task: Task, states: Sequence[VariableState], bracket: int) -> Sequence[VariableState]:
        """Run ``states`` on examples, finish those that lose, and run the best on the whole valset.

        The first of ``states`` is the best configuration so far. Gives back those that it has left open.
        """

    def settle(self, task: Task, states: Sequence[VariableState]) -> None:  # noqa: B027  # most leave nothing open
        """Decide, at the end of the search, about those that `allot` has left open."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The settings that decide the results."""


class Halving(Allocator):
    """Successive halving: all on a few examples, the best ``1/eta`` on ``eta`` times as many, and so on up to all.

    All brackets see the examples in one order. It is cheap, and says nothing of how often the best is lost.

    Args:
        eta: the factor between rungs.
        min_examples: examples of the first rung; None is the valset's size over ``eta`` squared, at least 4.

    Source: Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
    section 3 (successive halving), over examples instead of epochs.

    Example:
        >>> Halving().rungs(60)
        (7, 20, 60)
    """

    def __init__(self, *, eta: int = 3, min_examples: int | None = None) -> None:
        check_whole("eta", eta, 2)
        if min_examples is not None:
            check_whole("min_examples", min_examples, 1)
        self.eta = eta
        self.min_examples = min_examples

    def to_json(self) -> dict[str, Any]:
        return {"eta": self.eta, "min_examples": self.min_examples}

    def rungs(self, size: int) -> tuple[int, ...]:
        """How many examples of a valset of ``size`` a configuration has seen after each rung."""
        first = self.min_examples or max(4, math.ceil(size / self.eta**2))
        sizes = [size]
        while first <= math.ceil(sizes[-1] / self.eta) < sizes[-1]:
            sizes.append(math.ceil(sizes[-1] / self.eta))
        return tuple(reversed(sizes))

    def first(self, task: Task) -> Sequence[Example]:
        order = self._order(task)
        return order[: self.rungs(len(order))[0]]

    def allot(self, task: Task, states: Sequence[VariableState], bracket: int) -> Sequence[VariableState]:
        order = self._order(task)
        rungs = self.rungs(len(order))
        task.watcher.phase(f"bracket {bracket + 1}: {len(states)} configurations on {rungs[0]} examples")
        for rung, size in enumerate(rungs):
            scored = task.evaluate_many([(state, order[:size]) for state in states])
            if size == len(order):
                break
            ranked = _ranked(task, scored)
            kept = max(1, math.ceil(len(ranked) / self.eta))
            for scores in ranked[kept:]:
                task.finish(scores.state, scores)
            states = [scores.state for scores in ranked[:kept]]
            task.watcher.phase(f"  rung {rung + 2}: {kept} of {len(ranked)} go on to {rungs[rung + 1]} examples")
        return ()

    def _order(self, task: Task) -> list[Example]:
        order = list(task.valset)
        task.random("order").shuffle(order)
        return order

    def __repr__(self) -> str:
        return f"Halving(eta={self.eta}, min_examples={self.min_examples})"


def _ranked(task: Task, scored: list[Scores]) -> list[Scores]:
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
