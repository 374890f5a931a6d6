"""Any of Optuna's samplers, for a study of ours.

Each study is mirrored by one of Optuna's, in memory: the same numbers, values and states, with the variables that
Optuna does not know written as the places of their values in a list.
"""

from __future__ import annotations

import copy
import math
import random
import threading
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from dspex.errors import StudyError
from dspex.samplers.base import candidates_of, seed_or_random
from dspex.samplers.branches import BranchSampler
from dspex.samplers.random import RandomSampler
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.variables import Domain, Float, Int

__all__ = ["OptunaSampler"]

_EXACT = 2**53  # whole numbers up to which Optuna, which counts in floats, tells neighbours apart


class OptunaSampler(BranchSampler):
    """Lets a sampler of Optuna choose: ``OptunaSampler(optuna.samplers.GPSampler())``.

    Prompts, demos, subsets, orders and anything else with a list of values are categorical for it. What can neither be
    listed nor is a number it could count with is drawn at random; so are values in place of those that it chose against
    a space's constraints.

    Its random numbers are keyed by ``seed`` and the trial's number. What it notes about trials for itself (as CMA-ES,
    NSGA-II and QMC do) lives as long as this process has the study open; of a study that is taken up later it knows the
    trials.

    Needs Optuna 5: ``pip install 'dspex[optuna]'``.

    Args:
        sampler: The sampler; copies of it do the work.
        seed: Makes the draws repeatable, whatever seed the sampler itself was given.

    Raises:
        StudyError: when ``sampler`` is none of Optuna's, or Optuna is not installed.
    """

    def __init__(self, sampler: Any, *, seed: int | None = None) -> None:
        optuna = _library()
        if not isinstance(sampler, optuna.samplers.BaseSampler):
            raise StudyError(
                f"sampler must be one of Optuna's, got {sampler!r} ({type(sampler).__name__}); write "
                "OptunaSampler(optuna.samplers.TPESampler())"
            )
        self.sampler = sampler
        self.seed = seed_or_random(seed)
        self._random = RandomSampler(seed=self.seed)
        self._mirrors = PerView(partial(_Mirrors, sampler))

    def propose(
        self,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        *,
        given: Mapping[str, Any],
        attempt: int,
    ) -> dict[str, Any]:
        if attempt:
            return self._random.propose(view, number, branch, given=given, attempt=attempt)
        values = {path: given[path] for path in branch if path in given}
        mirrors = self._mirrors.of(view)
        with mirrors.lock:
            mirror = mirrors.current(view)
            trial = mirror.trial(number)
            key = f"{self.seed}/{number}/{zlib.crc32(chr(10).join(branch).encode())}"
            _reseed(mirror.study.sampler, random.Random(key), set())
            for path, domain in branch.items():
                translated = None if path in values else _translate(view, path, domain)
                if translated is not None:
                    values[path] = translated.suggest(trial, path)
        return self._random.propose(view, number, branch, given=values, attempt=attempt)

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        return self.propose(view, number, {path: domain}, given={}, attempt=0)

    def exhausted(self, view: StudyView, *, fixed: Mapping[str, Any] | None = None) -> bool:
        mirrors = self._mirrors.of(view)
        with mirrors.lock:
            return bool(mirrors.current(view).study.stopped)

    def __repr__(self) -> str:
        return f"OptunaSampler({self.sampler!r}, seed={self.seed})"


class _Mirrors:
    """The mirror of one study; a new one when a pool has grown, because Optuna's categories do not."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self._mirror: _Mirror | None = None
        self._candidates = 0
        self.lock = threading.Lock()

    def current(self, view: StudyView) -> _Mirror:
        candidates = sum(len(pool) for pool in view.pools.values())
        if self._mirror is None or candidates != self._candidates:
            self._mirror, self._candidates = _Mirror(self._sampler, view, self._mirror), candidates
        self._mirror.read(view)
        return self._mirror


class _Mirror:
    """A study of Optuna's with the trials of ours, and what the sampler noted about them in the one before."""

    def __init__(self, sampler: Any, view: StudyView, before: _Mirror | None) -> None:
        optuna = _library()
        self._optuna = optuna
        self._storage = optuna.storages.InMemoryStorage()
        directions = [
            optuna.study.StudyDirection.MINIMIZE if direction.sign > 0 else optuna.study.StudyDirection.MAXIMIZE
            for direction in view.directions
        ]
        self._id = self._storage.create_new_study(directions, study_name="dspex")
        # A copy, because a sampler remembers what it saw, and of one study only.
        self.study = _study_type()("dspex", self._storage, sampler=copy.deepcopy(sampler))
        self._before = before
        if before is not None:
            for key, value in before._storage.get_study_system_attrs(before._id).items():
                self._storage.set_study_system_attr(self._id, key, value)
        self._ids: list[int] = []
        self._asked: dict[int, Any] = {}
        self._finished: set[int] = set()
        self._cursor = 0

    def trial(self, number: int) -> Any:
        """The trial that values are to be suggested for."""
        self._reach(number)
        if number not in self._asked:
            self._asked[number] = self._optuna.trial.Trial(self.study, self._ids[number])
        return self._asked[number]

    def read(self, view: StudyView) -> None:
        """Takes in what has changed since the last time."""
        changed, self._cursor = view.changes(self._cursor)
        for trial in changed:
            if trial.number not in self._finished:
                self._reach(trial.number)
                self._copy(view, trial)

    def _reach(self, number: int) -> None:
        while len(self._ids) <= number:
            self._ids.append(self._storage.create_new_trial(self._id))
            if self._before is not None and len(self._ids) <= len(self._before._ids):
                attributes = self._before._storage.get_trial_system_attrs(self._before._ids[len(self._ids) - 1])
                for key, value in attributes.items():
                    self._storage.set_trial_system_attr(self._ids[-1], key, value)

    def _copy(self, view: StudyView, trial: FrozenTrial) -> None:
        storage, number = self._storage, self._ids[trial.number]
        known = storage.get_trial(number)
        for path, domain in trial.distributions.items():
            translated = _translate(view, path, domain)
            value = None if translated is None else translated.encode(trial.params[path])
            if translated is not None and value is not None and known.params.get(path) != value:
                distribution = translated.distribution
                storage.set_trial_param(number, path, distribution.to_internal_repr(value), distribution)
        if not trial.state.is_finished:
            return
        self._finished.add(trial.number)
        self._asked.pop(trial.number, None)
        for step, value in trial.intermediate_values.items():
            storage.set_trial_intermediate_value(number, step, value)
        for key, value in trial.constraints.items():
            storage.set_trial_system_attr(number, f"constraints:{key}", value)
        state = self._optuna.trial.TrialState[trial.state.name]
        values = None if trial.values is None or trial.state is TrialState.FAIL else list(trial.values)
        if self._before is None or trial.number not in self._before._finished:
            self.study.sampler.after_trial(self.study, storage.get_trial(number), state, values)
        storage.set_trial_state_values(number, state, values)


class _Number:
    """A number, as Optuna counts it."""

    def __init__(self, domain: Float | Int) -> None:
        distributions = _library().distributions
        kind = distributions.FloatDistribution if isinstance(domain, Float) else distributions.IntDistribution
        self._domain = domain
        self.distribution = kind(domain.low, domain.high, log=domain.log, step=domain.step)

    def suggest(self, trial: Any, path: str) -> Any:
        domain = self._domain
        ask = trial.suggest_float if isinstance(domain, Float) else trial.suggest_int
        found = min(max(ask(path, domain.low, domain.high, log=domain.log, step=domain.step), domain.low), domain.high)
        return domain.validate(found, name=path)

    def encode(self, value: Any) -> Any:
        return value


class _Listed:
    """One of a list of values, by its place."""

    def __init__(self, options: Sequence[Any]) -> None:
        self._options = options
        self.distribution = _library().distributions.CategoricalDistribution(range(len(options)))

    def suggest(self, trial: Any, path: str) -> Any:
        return self._options[trial.suggest_categorical(path, range(len(self._options)))]

    def encode(self, value: Any) -> Any:
        text = repr(value)
        return next((place for place, option in enumerate(self._options) if repr(option) == text), None)


def _translate(view: StudyView, path: str, domain: Domain[Any]) -> _Number | _Listed | None:
    if isinstance(domain, Float | Int):
        countable = math.isfinite(float(domain.high) - float(domain.low)) and (
            isinstance(domain, Float) or max(abs(domain.low), abs(domain.high)) < _EXACT
        )
        return _Number(domain) if countable else None
    options = candidates_of(view, path) if domain.open_ended else domain.candidates()
    return _Listed(options) if options else None


def _reseed(part: Any, rng: random.Random, seen: set[int]) -> None:
    """Seeds the random numbers of a sampler and of the parts it is made of."""
    if id(part) in seen:
        return
    seen.add(id(part))
    from optuna.samplers._lazy_random_state import LazyRandomState  # its only name

    if isinstance(part, LazyRandomState):
        part.rng.seed(rng.getrandbits(32))
    elif type(part).__module__.startswith("optuna."):
        inner: Iterable[Any] = vars(part).values() if hasattr(part, "__dict__") else ()
        for one in inner:
            _reseed(one, rng, seen)


def _study_type() -> Any:
    class Mirrored(_library().study.Study):  # type: ignore[misc]
        """A study in which a sampler may end the search, though no `optimize` is running."""

        stopped = False

        def stop(self) -> None:
            self.stopped = True

        def _get_trials(self, deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> Any:
            # What it caches it forgets at its own `ask`, which nobody calls here.
            return super()._get_trials(deepcopy, states, use_cache=False)

    return Mirrored


def _library() -> Any:
    try:
        import optuna
    except ImportError:
        raise StudyError("OptunaSampler needs Optuna 5; write pip install 'dspex[optuna]'") from None
    return optuna
