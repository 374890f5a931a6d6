"""Which sampler suits a study: by its space, its data, its objectives and its budget."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from typing import Any

import attrs

from dspex.errors import StudyError
from dspex.samplers.base import Sampler, seed_or_random
from dspex.samplers.branches import domain_of
from dspex.samplers.cmaes import CmaEsSampler
from dspex.samplers.gp import GPSampler
from dspex.samplers.presence import Presence
from dspex.samplers.structured import StructuredSampler
from dspex.samplers.tpe import TPESampler
from dspex.trials import PerView, StudyView, TrialState
from dspex.trials.checks import at_least
from dspex.variables import Domain, Float, Int, Space

__all__ = ["AutoSampler", "Choice"]

MOST_MODELLED = 1000
"""Trials from which on a Gaussian process, which sees 256 of them, gives way to what sees all."""

MOST_VARIABLES = 64
MANY = 1000  # trials with which covariance matrix adaptation has the time to adapt


@attrs.frozen
class Choice:
    """A sampler, and why it is the one."""

    sampler: Sampler
    why: str

    def __str__(self) -> str:
        return f"{type(self.sampler).__name__}, because {self.why}"


class _Seen:
    """What the finished trials of one study had."""

    def __init__(self) -> None:
        self._cursor = 0
        self._rows = 0
        self._finished: set[int] = set()
        self.presence = Presence()
        self.constrained = False
        self.scored = False
        self.lock = threading.Lock()

    def read(self, view: StudyView) -> None:
        """Takes in what has changed since the last time."""
        changed, self._cursor = view.changes(self._cursor)
        for trial in changed:
            if trial.state is TrialState.COMPLETE and trial.number not in self._finished:
                self._finished.add(trial.number)
                self.presence.add(trial)
                self.constrained |= bool(trial.constraints)
        rows = view.ledger[self._rows :]
        self._rows += len(rows)
        self.scored |= any("score" in row.scores for row in rows)


class AutoSampler(Sampler):
    """Leaves each trial to the sampler that suits the study, and says which one that is and why.

    The first of these that applies:

    1. One objective and rows in the ledger that score single examples: `StructuredSampler`, which learns from them.
    2. More than 64 variables: `TPESampler`, since what a Gaussian process costs grows with them.
    3. ``n_trials`` of 1,000 and more, one objective, nothing but numbers, no conditions and no constraints:
       `CmaEsSampler`, if cmaes is installed.
    4. The first 1,000 trials: `GPSampler`, which after 60 trials is ahead of TPE and CMA-ES on the numbers, mixed and
       conditional spaces of ``benchmarks/samplers_quality.py``, and after 100 of NSGA-II with two objectives.
    5. After that: `TPESampler`, whose model is made of all trials and whose ask costs a twentieth. That is a rule of
       cost: so late the two have not been compared.

    The choice depends on the number of the trial and on what the study has by then, and on nothing that was kept, so a
    study that is taken up goes on with the same samplers. As in OptunaHub's AutoSampler, whose rule is another one.

    Args:
        n_trials: How many trials there will be, if that is known. With few of them the quasi-random start is shorter.
        seed: Makes the draws repeatable.

    Raises:
        StudyError: when an argument makes no sense.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=AutoSampler(seed=0))
    >>> study.optimize(lambda trial: (trial.suggest_float("x", -10, 10) - 3) ** 2, n_trials=15)
    >>> study.best_value < 1e-2
    True
    >>> print(study.sampler.choice(study.view, len(study.trials)))
    GPSampler, because trials are few and each has to tell the most
    """

    def __init__(self, *, n_trials: int | None = None, seed: int | None = None) -> None:
        self.seed = seed_or_random(seed)
        self.n_trials = None if n_trials is None else at_least("n_trials", n_trials, 1)
        start = 10 if n_trials is None else min(10, max(n_trials // 4, 2))
        self._structured = StructuredSampler(seed=self.seed)
        self._tpe = TPESampler(seed=self.seed)
        self._gp = GPSampler(seed=self.seed, n_startup_trials=start)
        self._cmaes = CmaEsSampler(seed=self.seed) if importlib.util.find_spec("cmaes") else None
        self._seen = PerView(_Seen)

    def choice(self, view: StudyView, number: int, space: Space | None = None) -> Choice:
        """Who chooses the values of trial ``number``, and why; of a ``space`` when it is not the study's own.

        Raises:
            StudyError: when ``number`` is no number of a trial.
        """
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise StudyError(f"number must be a trial's number, got {number!r} ({type(number).__name__})")
        space = view.space if space is None else space
        seen = self._seen.of(view)
        with seen.lock:
            seen.read(view)
            constrained, scored = seen.constrained, seen.scored
            if space is not None:
                domains = {path: domain_of(space, path) for path in space.tunable}
                conditional = any(space[path].conditions for path in space.tunable)
                constrained |= bool(space.constraints)
            else:
                domains = seen.presence.domains
                conditional = any(rule != () for rule in seen.presence.rules().values())
        one = len(view.directions) == 1
        if one and scored:
            return Choice(self._structured, "the ledger has scores of single examples to learn from")
        if len(domains) > MOST_VARIABLES:
            return Choice(self._tpe, f"there are {len(domains)} variables, too many for a Gaussian process")
        numbers = bool(domains) and all(isinstance(domain, Float | Int) for domain in domains.values())
        many = self.n_trials is not None and self.n_trials >= MANY
        if many and one and numbers and not conditional and not constrained and self._cmaes is not None:
            return Choice(self._cmaes, f"all variables are numbers, and {self.n_trials:,} trials are time to adapt")
        if number < MOST_MODELLED:
            return Choice(self._gp, "trials are few and each has to tell the most")
        return Choice(self._tpe, f"after {MOST_MODELLED:,} trials a model of all of them costs less")

    def sample(self, view: StudyView, number: int, space: Space, *, fixed: Mapping[str, Any]) -> dict[str, Any]:
        return self.choice(view, number, space).sampler.sample(view, number, space, fixed=fixed)

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        return self.choice(view, number).sampler.suggest(view, number, path, domain, params=params)

    def describe(self, view: StudyView) -> str:
        return f"{self!r}; now {self.choice(view, len(view.trials))}"

    def __repr__(self) -> str:
        return f"AutoSampler(n_trials={self.n_trials}, seed={self.seed})"
