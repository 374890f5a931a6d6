"""Bayesian optimization with Gaussian processes: for few, expensive trials.

Frazier, "A Tutorial on Bayesian Optimization", 2018. The parts: a process over mixed and conditional configurations
(`gp_process`, `layout`), fitted to a bounded number of trials (`gp_observations`), the logarithm of the expected
improvement for one objective or several (`gp_improvement`), and its maximisation (`gp_acquisition`).
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.samplers.apart import apart
from dspex.samplers.base import Sampler, seed_or_random
from dspex.samplers.branches import domain_of
from dspex.samplers.gp_acquisition import DRAWS, STARTS, Acquisition, climb
from dspex.samplers.gp_improvement import Chebyshev, Improvement, Nothing, Single
from dspex.samplers.gp_observations import Observations
from dspex.samplers.gp_process import Process
from dspex.samplers.layout import Flags, Layout, Tree
from dspex.samplers.presence import Presence, Rules, rules_of
from dspex.samplers.qmc import QMCSampler
from dspex.samplers.random import RandomSampler
from dspex.samplers.ranking import fronts
from dspex.samplers.seen import TriedCandidates
from dspex.samplers.sequences import halton
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.trials.checks import at_least
from dspex.trials.params import resolved
from dspex.variables import Domain, Space

__all__ = ["GPSampler"]

Array = NDArray[np.float64]

_MOST_LAYOUTS = 32
_EXPLORE = 0.5  # while candidates of a pool are untried, the probability that one of them is tried
_NOISY = 0.01  # a deviation, in that of all values, below which noise is only what keeps matrices invertible
_BELOW = 0.05  # how far the ideal point of several objectives is below the best of each, in parts of the front's extent


class _Book:
    """What is kept of one study."""

    def __init__(self) -> None:
        self._cursor = 0
        self._numbers: set[int] = set()
        self.finished: list[FrozenTrial] = []
        self.completed = 0
        self.running: dict[int, FrozenTrial] = {}
        self.presence = Presence()
        self.tried = TriedCandidates()
        self._observations: OrderedDict[tuple[tuple[str, Domain[Any]], ...], Observations] = OrderedDict()
        self.lock = threading.RLock()

    def read(self, view: StudyView) -> None:
        """Takes in what has changed since the last time."""
        changed, self._cursor = view.changes(self._cursor)
        for trial in changed:
            self.running.pop(trial.number, None)
            self.tried.take(trial)
            if trial.state is TrialState.RUNNING:
                self.running[trial.number] = trial
            elif (
                trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or trial.crashed
            ) and trial.number not in self._numbers:
                self._numbers.add(trial.number)
                self.finished.append(trial)
                if trial.state is TrialState.COMPLETE:
                    self.completed += 1
                    self.presence.add(trial)  # one that was pruned may not have come to all of its variables

    def observations(self, view: StudyView, domains: Mapping[str, Domain[Any]]) -> Observations:
        """The observations of some variables."""
        # A pool that has got its first candidate makes another layout.
        key = tuple((path, domain) for path, domain in domains.items() if not domain.open_ended or view.pools.get(path))
        found = self._observations.get(key)
        if found is None:
            found = self._observations[key] = Observations(dict(key), view.pools, view.directions)
            if len(self._observations) > _MOST_LAYOUTS:
                self._observations.popitem(last=False)
        self._observations.move_to_end(key)
        found.read(self.finished)
        return found


class GPSampler(Sampler):
    """Models the objective by a Gaussian process and tries next where the most improvement is expected.

    The sampler for few, expensive trials. All variables of a conditional space are modelled together, and of variables
    that are declared on the way it is learned which come under which values of others. Running trials are taken to
    come out as expected, so trials that are asked for at once keep apart. Constraints are modelled too, each by a
    process of its own, and so is where trials fail (Gelbart, Snoek and Adams, "Bayesian Optimization with Unknown
    Constraints", UAI 2014), unless it was the infrastructure that failed. Pruned and failed trials count as worse than
    half of the others. With several objectives each trial goes for another trade-off between them.

    Noise is estimated from the values, and what is to be improved on is the best expected value, not the best measured
    one. A process sees 256 trials at most (the best ones and those that say most about the rest), so that an ask costs
    no more with many trials than with a few hundred: with ten mixed variables some 40 ms of a core. Its matrices are
    small; where the cores have other work, ``OPENBLAS_NUM_THREADS=1`` in the environment makes an ask several times
    cheaper, because the threads of numpy's BLAS wait for each other by spinning.

    Args:
        seed: Makes the draws repeatable.
        n_startup_trials: So many trials have to complete first; until then a scrambled Sobol sequence is drawn from.

    Raises:
        StudyError: when an argument makes no sense.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=GPSampler(seed=0))
    >>> study.optimize(lambda trial: (trial.suggest_float("x", -10, 10) - 3) ** 2, n_trials=20)
    >>> study.best_value < 1e-3
    True
    """

    def __init__(self, *, seed: int | None = None, n_startup_trials: int = 10) -> None:
        self.seed = seed_or_random(seed)
        self.n_startup_trials = at_least("n_startup_trials", n_startup_trials, 0)
        self._start = QMCSampler(seed=self.seed)
        self._random = RandomSampler(seed=self.seed)
        self._books = PerView(_Book)

    def sample(self, view: StudyView, number: int, space: Space, *, fixed: Mapping[str, Any]) -> dict[str, Any]:
        book = self._books.of(view)
        with book.lock:
            book.read(view)
            if book.completed < max(self.n_startup_trials, 1):
                return self._start.sample(view, number, space, fixed=fixed)
            domains = {path: domain_of(space, path) for path in space.tunable}
            # It satisfies the constraints, and it has the values that are not modelled.
            drawn = self._random.sample(view, number, space, fixed=fixed)
            observations = book.observations(view, domains)
            layout = observations.layout
            known = {path: value for path, value in {**drawn, **fixed}.items() if path not in layout.dimensions}
            given = {path: value for path, value in fixed.items() if path in layout.dimensions}

            def complete(row: Array, active: Flags) -> dict[str, Any]:
                """The values of a row, and beside them those that are not modelled."""
                chosen = self._decoded(layout, row, active, given)
                rest = {**drawn, **fixed, **chosen}
                wanted = space.active({**{path: entry.default for path, entry in space.items()}, **known, **chosen})
                missing = {path: domains[path] for path in wanted if path in domains and path not in rest}
                if missing:
                    rest |= self._random.propose(view, number, missing, given={}, attempt=0)
                return {path: rest[path] for path in domains if path in set(wanted)}

            def allowed(row: Array, active: Flags) -> bool:
                return not space.constraints or not space.violated(
                    resolved(values := complete(row, active), {path: domains[path] for path in values}, view.pools)
                )

            rules = rules_of(space, known)
            found = self._best(book, view, number, observations, rules, given, drawn, allowed)
            return apart(view, number, space, fixed, drawn if found is None else complete(*found))

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        book = self._books.of(view)
        with book.lock:
            book.read(view)
            if book.completed < max(self.n_startup_trials, 1):
                return self._start.suggest(view, number, path, domain, params=params)
            seen = book.presence.domains
            drawn = self._random.suggest(view, number, path, domain, params=params)
            if path not in seen:
                return drawn
            observations = book.observations(view, {**seen, path: domain})
            layout = observations.layout
            rules = dict(book.presence.rules()) | {path: (), **{one: () for one in params if one in seen}}
            given = {one: value for one, value in params.items() if one in layout.dimensions}
            if path not in layout.dimensions:
                return drawn
            found = self._best(book, view, number, observations, rules, given, drawn, lambda row, active: True)
            return drawn if found is None else self._decoded(layout, *found, given, leave_out=True)

    def _decoded(
        self, layout: Layout, row: Array, active: Flags, given: Mapping[str, Any], *, leave_out: bool = False
    ) -> dict[str, Any]:
        """The values of a row; those that are ``given`` as they are, or not at all."""
        found: dict[str, Any] = {}
        for variable in active.nonzero()[0]:
            path = layout.paths[variable]
            if path not in given:
                found[path] = layout.decode(row, int(variable))
            elif not leave_out:
                found[path] = given[path]
        return found

    def _best(
        self,
        book: _Book,
        view: StudyView,
        number: int,
        observations: Observations,
        rules: Rules,
        given: Mapping[str, Any],
        drawn: Mapping[str, Any],
        allowed: Callable[[Array, Flags], bool],
    ) -> tuple[Array, Flags] | None:
        """The row to try next and which of its variables are active; ``None`` when the process cannot say."""
        layout = observations.layout
        places = observations.places
        losses = observations.losses(places)
        complete = ~np.isnan(losses[0])
        if not layout.paths or not complete.any():
            return None
        rng = np.random.default_rng([self.seed, number, zlib.crc32("\n".join(layout.paths).encode())])
        tree = layout.tree(rules)
        others = [view.params(trial) for other, trial in sorted(book.running.items()) if other != number]
        rows = layout.draw(DRAWS, rng)
        first = layout.encode(drawn)
        if first is not None:
            rows[0, np.repeat(first[1], layout.widths)] = first[0][np.repeat(first[1], layout.widths)]
        # What a trial did not have is drawn, for when a change of its row brings in another branch.
        had = observations.had(places).repeat(layout.widths, axis=1)
        tried = np.where(had, observations.rows(places), rows[np.arange(len(places)) % len(rows)])
        free = np.ones(len(layout.paths), dtype=bool)
        held = {**given, **self._untried(book, view, layout, given, rng)}
        encoded = layout.encode(held)
        if encoded is None:
            return None  # a value that is decided lies outside of a domain that has changed
        columns = np.repeat(encoded[1], layout.widths)
        for some in (rows, tried):
            some[:, columns] = encoded[0][columns]
        free &= ~encoded[1]
        acquisition, expected = self._acquisition(observations, tree, others, number, places, losses, complete)

        def active(row: Array) -> Flags:
            found: Flags = tree.active(row[None])[0]
            return found

        # Of the trials those that are expected to be the best, and some that were drawn around them.
        best = tried[complete][np.argsort(expected, kind="stable")[:STARTS]]
        near = np.repeat(best, STARTS, axis=0)
        smooth = layout.places[layout.smooth]
        smooth = smooth[free[layout.of_number[layout.smooth]]]
        near[:, smooth] = np.clip(near[:, smooth] + rng.normal(0.0, 0.05, (len(near), len(smooth))), 0.0, 1.0)
        near = np.array([layout.snapped(row) for row in near]).reshape(len(near), layout.width)
        found = climb(
            acquisition,
            np.concatenate([rows, near]),
            best[:2],
            free,
            lambda row: allowed(row, active(row)),
            lambda row: observations.is_new(row, active(row), others),
            rng,
        )
        return None if found is None else (found, active(found))

    def _untried(
        self, book: _Book, view: StudyView, layout: Layout, given: Mapping[str, Any], rng: np.random.Generator
    ) -> dict[str, Any]:
        """Candidates that nobody has tried, now and then."""
        found: dict[str, Any] = {}
        for path in layout.paths:
            if path in view.pools and path not in given:
                untried = book.tried.untried(view, path)
                if untried and rng.random() < _EXPLORE:
                    found[path] = untried[int(rng.integers(len(untried)))]
        return found

    def _acquisition(
        self,
        observations: Observations,
        tree: Tree,
        others: Sequence[Mapping[str, Any]],
        number: int,
        places: NDArray[np.intp],
        losses: Array,
        complete: Flags,
    ) -> tuple[Acquisition, Array]:
        """What is maximised, and how good each completed trial is expected to be."""
        pending = observations.pending(others)
        trials = observations.trials(places)
        where = observations.columns(places[complete])
        processes: list[Process] = []
        for index, values in enumerate(losses):
            processes.append(observations.process(f"objective {index}", places, values, pending, self.seed)[0])
        means = np.array([process.posterior(where)[0] for process in processes])
        limits = []
        for name in sorted({name for trial in trials for name in trial.constraints}):
            having = np.array([index for index, trial in enumerate(trials) if name in trial.constraints])
            values = np.array([trials[index].constraints[name] for index in having], dtype=float)
            process, standard = observations.process(
                f"constraint {name}", places[having], np.where(np.isnan(values), np.inf, values), pending, self.seed
            )
            limits.append((process, standard.of(0.0)))
        crashed = np.array([trial.crashed for trial in trials])
        if crashed.any():
            values = np.where(crashed, 1.0, -1.0)
            process, standard = observations.process("crashed", places, values, pending, self.seed)
            limits.append((process, standard.of(0.0)))
        feasible = np.array([trial.feasible for trial in trials])[complete]
        improvement, expected = self._improvement(means, processes, feasible, number)
        return Acquisition(observations.layout, tree, processes, improvement, limits), expected

    def _improvement(
        self, means: Array, processes: list[Process], feasible: Flags, number: int
    ) -> tuple[Improvement, Array]:
        """What is hoped for, from the expected values (objectives, trials) of what completed; and how good each is."""
        if not feasible.any():
            return Nothing(), means.sum(axis=0)
        reached = means[:, feasible]
        if len(means) == 1:
            return Single(float(reached.min()), processes[0].noise if processes[0].noise > _NOISY else 0.0), np.where(
                feasible, means[0], np.inf
            )
        ideal = reached.min(axis=1)
        # As far as the front goes: beyond it, the worst of each objective says nothing about trade-offs.
        front = reached[:, fronts(reached, np.zeros(reached.shape[1]))[0]]
        extent = np.maximum(front.max(axis=1) - ideal, 1e-6 + 1e-3 * np.ptp(reached, axis=1))
        cuts = np.sort([halton(number, place, scramble=self.seed) for place in range(len(means) - 1)])
        weights = np.maximum(np.diff(np.concatenate([[0.0], cuts, [1.0]])), 1e-3)
        scalar = Chebyshev(weights / extent, ideal - _BELOW * extent, 0.0)
        values = scalar.scalarized(means)
        best = Chebyshev(scalar.weights, scalar.ideal, float(values[feasible].min()))
        return best, np.where(feasible, values, np.inf)

    def __repr__(self) -> str:
        return f"GPSampler(seed={self.seed}, n_startup_trials={self.n_startup_trials})"
