"""Searches run as they are, on simulated landscapes: a `Task` whose examples are answered by a `Landscape`."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import attrs
from _landscapes import Landscape

from dspex.data import Evaluation, Example, Usage
from dspex.errors import BudgetExceeded
from dspex.evaluate.statistics import PairedTest, paired_test
from dspex.optimizers import Optimizer, Task, Watcher
from dspex.optimizers.paying import Portion
from dspex.proposers import Proposer
from dspex.proposers.base import Workbench
from dspex.storage import InMemoryStorage
from dspex.study import create_study
from dspex.variables import Space, VariableState

HELDOUT = 60


class Program:
    """What a task asks a program for."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def space(self) -> Space:
        return self._space

    def state(self) -> VariableState:
        return self._space.state()

    def bind(self, state: VariableState) -> Program:
        return self  # what a configuration answers is the landscape's to know


class PoolFiller(Proposer):
    """Gives a landscape's candidates away: all at once, or three more for each pool in each round."""

    def __init__(self, landscape: Landscape) -> None:
        self._landscape = landscape

    def propose(self, bench: Workbench, *, round: int = 0) -> None:
        known = self._landscape.recipe.known
        for path, values in self._landscape.pools.items():
            for value in values if known is None else values[: known + 3 * round]:
                bench.pool(path).add(value)


@attrs.define
class Course:
    """How a search went: after how many evaluations (or thousandths of a dollar) which share of the gap was closed."""

    points: list[tuple[float, float]]

    def reaches(self, share: float) -> float | None:
        """What was paid until the configuration that would be returned closes ``share``, and stays there on average."""
        for index, (paid, _) in enumerate(self.points):
            ahead = [closed for _, closed in self.points[index : index + 5]]
            if self.points[index][1] >= share and sum(ahead) / len(ahead) >= share:
                return paid
        return None

    def mean(self, limit: float) -> float:
        """The share that was closed, on average from a fifth of ``limit`` on."""
        return sum(self.at(limit * part / 20) for part in range(4, 21)) / 17

    def at(self, paid: float) -> float:
        """The share that was closed when so much had been paid."""
        return max(((p, c) for p, c in self.points if p <= paid), default=(0.0, 0.0))[1]


class Unlimited:
    """A reserve that keeps nothing back: what may be paid is counted by the task."""

    def portions(self, new: Portion, again: Portion, *_: object, **__: object) -> Iterator[Portion]:
        wanted = [*new, *again]
        for done in range(0, len(wanted), 16):
            yield wanted[done : done + 16]


class SimulatedTask(Task):
    """Pays with evaluations, or with dollars where models differ in price, and notes what would be returned."""

    def __init__(self, landscape: Landscape, optimizer: Optimizer, *, limit: float) -> None:
        self.landscape, self.limit, self.paid = landscape, limit, 0.0
        self.course = Course([])
        self._closed: dict[str, float] = {}
        space = landscape.space
        study = create_study(storage=InMemoryStorage(), sampler=optimizer.sampler(), space=space, direction="maximize")
        super().__init__(
            program=Program(space),  # type: ignore[arg-type]  # as much of a program as a task looks at
            metric=None,
            trainset=(),
            valset=[Example(number=index) for index in range(landscape.recipe.examples)],
            study=study,
            account=None,  # type: ignore[arg-type]  # no proposals are paid for
            reserve=Unlimited(),  # type: ignore[arg-type]  # see there
            objectives={"score": "maximize"},
            terms={"budget": None, "concurrency": 8, "seed": optimizer.seed},
            watcher=Watcher(),
        )

    def _run(self, portion: Portion) -> None:
        for order, together in itertools.groupby(portion, key=lambda one: one[0]):
            price = self.landscape.price(order.state)
            rows = [
                Evaluation(
                    example_id=example.id,
                    status="ok",
                    scores={"score": float(self.landscape.solves(order.state, example.id))},
                    usage=Usage(calls=1, cost=price),
                    fingerprint=order.state.fingerprint,
                )
                for _, example in together
            ]
            self.paid += price * 1000 * len(rows)
            self.study.record_many(order.trial, rows)
            order.left -= len(rows)
            self.note()
            if self.paid >= self.limit:
                raise BudgetExceeded("as much as was to be simulated")

    def note(self) -> None:
        best = self.best_state
        closed = self._closed.get(best.fingerprint)
        if closed is None:
            closed = self._closed[best.fingerprint] = self.landscape.closed(best)
        self.course.points.append((self.paid, closed))


def simulate(landscape: Landscape, optimizer: Optimizer, *, limit: float) -> tuple[Course, PairedTest]:
    """The course of a search, and the comparison of its result with the default on examples it has not seen."""
    task = SimulatedTask(landscape, optimizer, limit=limit)
    state = None
    with contextlib.suppress(BudgetExceeded):
        state = optimizer.search(task)
    task.note()  # what was paid for last is only now compared
    winner = state or task.best_state
    heldout = [f"held out {index}" for index in range(HELDOUT)]
    new, old = ([float(landscape.solves(one, example)) for example in heldout] for one in (winner, task.state))
    return task.course, paired_test(new, old)
