"""A trial while it runs: where its values come from, and where what it finds out goes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.study.pools import as_param
from dspex.trials import FrozenTrial, TrialState
from dspex.trials.checks import as_float, as_plain, as_report, as_step
from dspex.trials.params import fingerprint_of, resolved
from dspex.trials.suggest import Suggestions, check_name
from dspex.variables import Domain, Space, VariableState

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["Trial"]

T = TypeVar("T")


class Trial(Suggestions):
    """One trial that has been asked for and not told yet; made by `Study.ask` and `Study.optimize`.

    Where the study declares a space, `values` and `state` hold all values at once; the ``suggest_...``
    methods declare variables on the way. Everything that is written here is in the study's storage when the
    call returns.

    >>> from dspex.study import create_study
    >>> study = create_study()
    >>> trial = study.ask()
    >>> k = trial.suggest_int("k", 1, 5)
    >>> trial.params == {"k": k}
    True
    >>> study.tell(trial, float(k)).value == k
    True
    """

    def __init__(self, study: Study, frozen: FrozenTrial, space: Space | None) -> None:
        self.study = study
        self._frozen = frozen
        self._space = space
        self._lock = threading.RLock()

    # What it is

    @property
    def number(self) -> int:
        """0 for a study's first trial, and so on."""
        return self._frozen.number

    @property
    def params(self) -> dict[str, Any]:
        """The values so far by path; of an open-ended variable the id of the pool's item."""
        return dict(self._frozen.params)

    @property
    def distributions(self) -> dict[str, Domain[Any]]:
        """The domains of `params`."""
        return dict(self._frozen.distributions)

    @property
    def values(self) -> dict[str, Any]:
        """The values so far by path, the items of pools themselves included."""
        return self.study.values(self._frozen)

    @property
    def state(self) -> VariableState:
        """The values as a state of the declared space, to bind a program to.

        Raises:
            StudyError: when the trial was asked for without a space.
        """
        if self._space is None:
            raise StudyError(
                f"trial {self.number} has no declared space, so it has no state; read trial.values, or ask "
                "with one: study.ask(program.space())"
            )
        return self._space.state(self.values)

    @property
    def fingerprint(self) -> str:
        """The id of the configuration: the same values give the same one, in every process.

        From the first time it is read (recording an evaluation reads it) nothing more can be suggested, because
        what has been paid for is found by it.
        """
        with self._lock:
            if not self._frozen.fingerprint:
                found = fingerprint_of(self._frozen.params, self._frozen.distributions)
                with suppress(StudyError):  # the trial is no longer ours to write
                    self._change(lambda trial: attrs.evolve(trial, fingerprint=found))
                return found
            return self._frozen.fingerprint

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """What `set_user_attr` has set."""
        return self._frozen.user_attrs

    @property
    def constraints(self) -> dict[str, float]:
        """What `set_constraint` has set; above zero it is violated."""
        return dict(self._frozen.constraints)

    @property
    def datetime_start(self) -> datetime | None:
        """When it began, in UTC."""
        return self._frozen.datetime_start

    @property
    def frozen(self) -> FrozenTrial:
        """The trial as it stands."""
        return self._frozen

    # Values

    def suggest(self, name: str, domain: Domain[T]) -> T:
        check_name(name)
        with self._lock:
            if name in self._frozen.distributions:
                known = self._frozen.distributions[name]
                if known is not domain and known != domain:
                    raise StudyError(
                        f"{name!r} is {known!r} in trial {self.number} already and {domain!r} now; a name "
                        "has one domain in a trial. Give the second variable another name, for example "
                        f"{name + '_2'!r}"
                    )
            else:
                self._check_open(name)
                mirror = self.study._mirror
                known = mirror.check_domain(name, domain, f"trial {self.number}")
                with mirror.choosing:
                    self._put({name: self._choose(name, known)}, {name: known})
                    mirror.chosen.notify_all()
            value: T = resolved({name: self._frozen.params[name]}, {name: domain}, self.study._mirror.pools)[name]
            return value

    def _choose(self, name: str, domain: Domain[Any]) -> Any:
        study, fixed = self.study, self._frozen.fixed_params
        if name in fixed:
            return as_param(study, name, domain, fixed[name])
        plan = study._mirror.planned.setdefault(self.number, {})
        if name in plan and self._allowed(name, domain, plan[name]):
            return plan.pop(name)
        study._mirror.sync_others(self.number)
        plan.update(study.sampler.suggest(study._mirror.view, self.number, name, domain, params=self._frozen.params))
        value = plan.pop(name)
        if not self._allowed(name, domain, value):
            raise StudyError(f"{study.sampler!r} chose {name}={value!r}, which is not in {domain!r}")
        return value

    def _allowed(self, name: str, domain: Domain[Any], value: Any) -> bool:
        return value in self.study._mirror.pools[name] if domain.open_ended else domain.contains(value)

    def _put(self, params: Mapping[str, Any], domains: Mapping[str, Domain[Any]], *, fingerprint: str = "") -> None:
        self._change(
            lambda trial: attrs.evolve(
                trial,
                params={**trial.params, **params},
                distributions={**trial.distributions, **domains},
                fingerprint=fingerprint,
            )
        )

    def _extend_pool(self, name: str, domain: Domain[Any], candidates: Iterable[Any]) -> None:
        pool = self.study.pool(name, domain)
        for candidate in candidates:
            pool.add(candidate, source="objective")

    # Findings

    def report(self, value: float | Sequence[float], step: int) -> None:
        """Notes an intermediate value, or one for each objective; of the same ``step`` the last report counts.

        Raises:
            StudyError: when there is not one number for each objective, or ``step`` is no whole number >= 0.
        """
        at = as_step(step)
        reported = as_report(value, len(self.study.directions))
        self._change(lambda trial: attrs.evolve(trial, intermediate_values={**trial.intermediate_values, at: reported}))

    def should_prune(self) -> bool:
        """Whether the study's pruner holds the trial not worth finishing; then raise `TrialPruned`.

        It is asked once something is known of the trial: a report, or a row of the ledger. With several objectives it
        has to say so of each of them: what is hopeless in one may still be on the Pareto front for another.
        """
        mirror, pruner = self.study._mirror, self.study.pruner
        mirror.sync()
        if not self._frozen.intermediate_values and not mirror.ledger.rows(trial=self.number):
            return False
        if len(mirror.objective_views) == 1:
            return pruner.prune(mirror.view, self._frozen)
        return all(
            pruner.prune(view, self._frozen.of_objective(index)) for index, view in enumerate(mirror.objective_views)
        )

    def record(self, evaluation: Evaluation) -> Evaluation:
        """Writes one row of the ledger, as this trial's; see `Study.record`."""
        return self.study.record(self, evaluation)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Notes something of one's own about the trial; the value has to be plain data."""
        plain = as_plain(value)
        self._change(lambda trial: attrs.evolve(trial, user_attrs={**trial.user_attrs, key: plain}))

    def set_constraint(self, key: str, value: float) -> None:
        """Notes a constraint's value; above zero it is violated, and such a trial is never the best."""
        number = as_float(value, f"the constraint {key!r}")
        if math.isnan(number):
            raise StudyError(f"the constraint {key!r} must be a number, got NaN")
        self._change(lambda trial: attrs.evolve(trial, constraints={**trial.constraints, key: number}))

    # Shared with the study

    def _change(self, change: Callable[[FrozenTrial], FrozenTrial]) -> FrozenTrial:
        with self._lock:
            changed = change(self._frozen)
            study = self.study
            study.storage.update_trial(study._mirror.record.id, changed, expected=TrialState.RUNNING)
            self._frozen = changed
            return changed

    def _check_open(self, name: str) -> None:
        if self._frozen.state is not TrialState.RUNNING:
            raise StudyError(
                f"trial {self.number} has finished already ({self._frozen.state.name}), so nothing more can be "
                "suggested for it; ask for another one with study.ask()"
            )
        if self._space is not None and self._frozen.fingerprint:
            why = "it is inactive under them" if name in self._space else "declare it there"
            raise StudyError(
                f"{name!r} has no value in trial {self.number}, whose values were chosen for the whole space at once; "
                f"{why}"
            )
        if self._frozen.fingerprint:
            raise StudyError(
                f"{name!r} comes too late: trial {self.number} has recorded evaluations under the values it had "
                f"({', '.join(self._frozen.params) or 'none'}). Suggest all values before the first trial.record(...)"
            )

    def __repr__(self) -> str:
        return f"<Trial {self.number}: {self._frozen.state.name}, {self.params}>"
