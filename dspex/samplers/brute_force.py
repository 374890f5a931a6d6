"""Every configuration once."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from dspex.errors import StudyError
from dspex.samplers.base import Sampler, candidates_of, seed_or_random
from dspex.samplers.branches import domain_of
from dspex.samplers.decisions import Decisions
from dspex.samplers.enumeration import Enumeration
from dspex.samplers.seen import configuration
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.trials.checks import true_or_false
from dspex.trials.params import resolved
from dspex.variables import Domain, Space

__all__ = ["BruteForceSampler"]

_PATIENCE = 100_000  # configurations in a row that violate a constraint before giving up on the others


class BruteForceSampler(Sampler):
    """Tries every configuration once, in a random order, and then ends the search.

    A declared space is enumerated, only active variables counted. Of an objective that declares its variables while it
    runs the tree is learned on the way: each trial goes where no other one has been or is going. A pool that has grown
    adds configurations. Trials that failed count as tried. Who asks on when there is nothing new gets configurations
    again.

    Args:
        seed: Of the order.
        avoid_premature_stop: Whether a search with nothing left to try waits for the running trials of other processes
            too: they may come to variables that nobody knew, or be put back when their process dies. Without it, it
            ends, and what they come to is left to them.

    Raises:
        StudyError: for an argument that is none, and at an ask, when a variable's values cannot be listed.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=BruteForceSampler(seed=0))
    >>> def objective(trial):
    ...     if trial.suggest_categorical("kind", ["plain", "deep"]) == "deep":
    ...         return trial.suggest_int("depth", 1, 2)
    ...     return 0
    >>> study.optimize(objective)
    >>> sorted(str(trial.params) for trial in study.trials)
    ["{'kind': 'deep', 'depth': 1}", "{'kind': 'deep', 'depth': 2}", "{'kind': 'plain'}"]
    """

    def __init__(self, *, seed: int | None = None, avoid_premature_stop: bool = False) -> None:
        self.seed = seed_or_random(seed)
        self.avoid_premature_stop = true_or_false("avoid_premature_stop", avoid_premature_stop)
        self._books = PerView(_Book)

    def options(self, view: StudyView, path: str, domain: Domain[Any]) -> Sequence[Any]:
        """The values that are tried of a variable.

        Raises:
            StudyError: when they cannot be listed.
        """
        found = candidates_of(view, path) if domain.open_ended else domain.candidates()
        if found is None:
            raise StudyError(
                f"{path!r} is {domain!r}, whose values are too many to try each; give it a step, fewer values, or "
                f"a list: GridSampler({{{path!r}: [...]}})"
            )
        return found

    def sample(self, view: StudyView, number: int, space: Space, *, fixed: Mapping[str, Any]) -> dict[str, Any]:
        book = self._books.of(view)
        with book.lock:
            book.read(view)
            tour = self._tour(book, view, space, fixed)
            # Those that have been asked for earlier and have no values yet will get the first that are free.
            values = tour.free(view, book.configurations, skip=sum(other < number for other in book.empty))
            return tour.again(view, number) if values is None else values

    def _tour(self, book: _Book, view: StudyView, space: Space, fixed: Mapping[str, Any]) -> _Tour:
        domains = {path: domain_of(space, path) for path in space.tunable}
        fixed = {path: fixed[path] for path in domains if path in fixed}
        sizes = tuple(len(candidates_of(view, path)) for path in space.open_ended if path not in fixed)
        key = (space, sizes, configuration(fixed))
        tour = book.tours.get(key)
        if tour is None:
            options = {
                path: [fixed[path]] if path in fixed else self.options(view, path, domain)
                for path, domain in domains.items()
            }
            book.tours.clear()  # the one before will hardly come back
            tour = book.tours[key] = _Tour(space, Enumeration(space, options, seed=self.seed))
        return tour

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        options = self.options(view, path, domain)
        book = self._books.of(view)
        with book.lock:
            book.read(view)
            decisions = book.grown(view, self.options)
            running = book.ways(view, but=number)
            chosen: dict[str, Any] = {}
            # As far as the way is known, so that others keep off it.
            while True:
                before = {**params, **chosen}
                found = decisions.open(path, options, before, running) or decisions.open(path, options, before, ())
                chosen[path] = random.Random(f"{self.seed}/{number}/{path}").choice(found or options)
                further = decisions.after({**params, **chosen})
                if further is None:
                    return chosen
                path, options = further[0], self.options(view, *further)

    def exhausted(self, view: StudyView, *, fixed: Mapping[str, Any] | None = None) -> bool:
        book = self._books.of(view)
        with book.lock:
            book.read(view)
            if view.space is not None:
                tour = self._tour(book, view, view.space, fixed or {})
                return tour.free(view, book.configurations, skip=len(book.empty)) is None
            return not book.grown(view, self.options).is_open(book.ways(view), fixed=fixed or {})

    def __repr__(self) -> str:
        waits = ", avoid_premature_stop=True" if self.avoid_premature_stop else ""
        return f"BruteForceSampler(seed={self.seed}{waits})"


class _Book:
    """What is kept of one study."""

    def __init__(self) -> None:
        self._cursor = 0
        self.configurations: set[str] = set()
        self.empty: set[int] = set()  # running trials whose values have not been chosen
        self._running: dict[int, FrozenTrial] = {}
        self._unread: dict[int, FrozenTrial] = {}  # trials that are to be put on the tree, when it is asked for
        self.tours: dict[Any, _Tour] = {}
        self._decisions: Decisions | None = None
        self._candidates = 0  # in all pools together, when the tree was looked at
        self.lock = threading.Lock()

    def read(self, view: StudyView) -> None:
        changed, self._cursor = view.changes(self._cursor)
        for trial in changed:
            # Without any variables there is one configuration, which a trial has tried when it is over.
            known = trial.params or (trial.state.is_finished and not trial.failed_externally)
            if known:
                self.configurations.add(configuration(trial.params))
            running = trial.state is TrialState.RUNNING
            (self.empty.add if running and not trial.params and not trial.fixed_params else self.empty.discard)(
                trial.number
            )
            if running:
                self._running[trial.number] = trial
            else:
                self._running.pop(trial.number, None)
            if known:
                self._unread[trial.number] = trial

    def ways(self, view: StudyView, *, but: int | None = None) -> list[Mapping[str, Any]]:
        """What the running trials have decided, and are going to."""
        return [
            {**trial.fixed_params, **view.params(trial)} for number, trial in self._running.items() if number != but
        ]

    def grown(self, view: StudyView, options: Any) -> Decisions:
        """The tree, with all trials on it."""
        if self._decisions is None:
            # Not the view itself, which has to be able to go with its study.
            self._decisions = Decisions(partial(options, weakref.proxy(view)))
        candidates = sum(len(pool) for pool in view.pools.values())
        if candidates != self._candidates:
            self._candidates = candidates
            self._decisions.review()
        for trial in self._unread.values():
            self._decisions.add(trial)
        self._unread.clear()
        return self._decisions


class _Tour:
    """The way through the configurations of one space."""

    def __init__(self, space: Space, configurations: Enumeration) -> None:
        self._space = space
        self._configurations = configurations
        self._begin = 0  # before it none is free any more

    def free(self, view: StudyView, tried: set[str], *, skip: int) -> dict[str, Any] | None:
        """The first configuration that nobody has tried, after ``skip`` others."""
        refused = 0
        index = self._begin
        while index < self._configurations.size:
            values = self._configurations[index]
            if configuration(values) in tried:
                refused = 0
            elif reason := self._violated(view, values):
                refused += 1
                if refused == _PATIENCE:
                    raise self._nothing_holds(reason)
            elif skip:
                skip -= 1
                index += 1
                continue
            else:
                return values
            self._begin += index == self._begin
            index += 1
        return None

    def again(self, view: StudyView, number: int) -> dict[str, Any]:
        """A configuration for trial ``number``, though all have been tried."""
        size = self._configurations.size
        reason = "there is none"
        for step in range(min(size, _PATIENCE)):
            values = self._configurations[(number + step) % size]
            reason = self._violated(view, values)
            if not reason:
                return values
        raise self._nothing_holds(reason)

    def _violated(self, view: StudyView, values: Mapping[str, Any]) -> str:
        if not self._space.constraints:
            return ""
        domains = {path: domain_of(self._space, path) for path in values}
        broken = self._space.violated(resolved(values, domains, view.pools))
        return "; ".join(constraint.reason for constraint in broken)

    def _nothing_holds(self, reason: str) -> StudyError:
        return StudyError(
            f"no values were found that satisfy the space's constraints; the last ones violate: {reason}. Narrow the "
            "domains to where they can hold"
        )
