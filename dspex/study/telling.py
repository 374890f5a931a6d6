"""What finishes a trial: which values and states go together, and what a NaN means."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from numbers import Integral
from typing import TYPE_CHECKING, Any

import attrs

from dspex.errors import StudyError
from dspex.study.trial import Trial
from dspex.trials import FrozenTrial, StudyDirection, TrialState
from dspex.trials.checks import as_float, as_report, as_step
from dspex.trials.frozen import checked_trial
from dspex.trials.params import fingerprint_of
from dspex.variables.messages import counted

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["add", "fail", "find", "fingerprint_in", "tell"]

_logger = logging.getLogger("dspex.study")


def tell(
    study: Study,
    trial: Trial | FrozenTrial | int,
    values: float | Sequence[float] | None,
    *,
    state: TrialState | None,
    skip_if_finished: bool,
    infrastructure: bool = False,
) -> FrozenTrial:
    """See `Study.tell`."""
    frozen = find(study, trial)
    if frozen.state.is_finished and skip_if_finished:
        return frozen
    if frozen.state is not TrialState.RUNNING and not frozen.state.is_finished:
        raise StudyError(f"trial {frozen.number} is {frozen.state.name}; ask for it first, with study.ask()")
    told = None if values is None else _as_floats(values, study.directions)
    state, told = _settle(frozen, state, told, study.directions)
    if infrastructure and state is not TrialState.FAIL:
        raise StudyError(
            f"infrastructure=True says why a trial failed, and this one is {state.name}; leave it out, or write "
            "study.tell(trial, state=TrialState.FAIL, infrastructure=True)"
        )
    finished = attrs.evolve(
        frozen,
        state=state,
        values=told,
        datetime_complete=datetime.now(UTC),
        fingerprint=fingerprint_in(study, frozen),
        system_attrs={**frozen.system_attrs, "infrastructure": True} if infrastructure else frozen.system_attrs,
    )
    study.storage.update_trial(study._mirror.record.id, finished, expected=TrialState.RUNNING)
    if isinstance(trial, Trial):
        trial._frozen = finished
    _logger.info("Trial %d finished: %s %s, %s", finished.number, state.name, told, dict(finished.params))
    return finished


def fail(trial: Trial, *, reason: str, infrastructure: bool = False) -> FrozenTrial:
    """Finishes a trial as failed and notes why, unless it has finished already."""
    study = trial.study
    told = find(study, trial.number)
    if told.state.is_finished:
        return told  # by the objective itself, before it raised
    trial._change(lambda frozen: attrs.evolve(frozen, system_attrs={**frozen.system_attrs, "fail_reason": reason}))
    _logger.warning("Trial %d failed: %s", trial.number, reason)
    return tell(study, trial, None, state=TrialState.FAIL, skip_if_finished=False, infrastructure=infrastructure)


def add(study: Study, trials: Sequence[FrozenTrial]) -> None:
    """See `Study.add_trials`."""
    for trial in trials:
        if not isinstance(trial, FrozenTrial):
            raise StudyError(
                f"add_trial takes a FrozenTrial, got {trial!r} ({type(trial).__name__}); make one with "
                "dspex.trials.create_trial(params=..., distributions=..., value=...)"
            )
        if trial.values is not None:
            _as_floats(trial.values, study.directions)
        for step, reported in trial.intermediate_values.items():
            as_step(step)
            as_report(reported, len(study.directions))
        checked_trial(trial)
    study._mirror.sync()
    first = len(study._mirror.log)
    added = [_addable(study, trial, f"trial {first + index}") for index, trial in enumerate(trials)]
    study.storage.append_trials(study._mirror.record.id, added)


def _addable(study: Study, trial: FrozenTrial, where: str) -> FrozenTrial:
    for path, domain in trial.distributions.items():
        study._mirror.check_domain(path, domain, where)
        item = trial.params[path]
        if domain.open_ended and item is not None and item not in study.pool(path, domain):
            raise StudyError(
                f"{path}={item!r} is no candidate of the pool; add it first and use its id: "
                f"study.pool({path!r}).add(...).id"
            )
    return attrs.evolve(trial, fingerprint=fingerprint_in(study, trial))


def find(study: Study, trial: Trial | FrozenTrial | int, *, fresh: bool = True) -> FrozenTrial:
    """The trial that is meant, as it stands, or with ``fresh=False`` as it was last seen.

    Raises:
        StudyError: when there is none.
    """
    if isinstance(trial, Trial):
        if trial.study.study_name != study.study_name or trial.study.storage is not study.storage:
            raise StudyError(
                f"trial {trial.number} belongs to study {trial.study.study_name!r}, not to {study.study_name!r}"
            )
        return trial.frozen
    named: Any = trial.number if isinstance(trial, FrozenTrial) else trial
    if isinstance(named, bool) or not isinstance(named, Integral):  # those of a DataFrame are numpy's
        raise StudyError(f"trial must be a trial or its number, got {trial!r} ({type(trial).__name__})")
    number = int(named)
    log = study._mirror.log
    if fresh or number >= len(log):
        study._mirror.sync()
    if not 0 <= number < len(log):
        raise StudyError(f"there is no trial {number}; the study has {counted(len(log), 'trial')}")
    return log[number]


def fingerprint_in(study: Study, trial: FrozenTrial) -> str:
    """The id of a trial's values, as the study counts them."""
    if trial.fingerprint or not trial.params:
        return trial.fingerprint  # it is known, or there is nothing to know
    if study.space is not None:
        return str(study.state(trial).fingerprint)
    return fingerprint_of(trial.params, trial.distributions)


def _settle(
    trial: FrozenTrial,
    state: TrialState | None,
    values: tuple[float, ...] | None,
    directions: Sequence[StudyDirection],
) -> tuple[TrialState, tuple[float, ...] | None]:
    unusable = values is not None and any(math.isnan(value) for value in values)
    if state is None:
        if values is None:
            raise StudyError(
                f"trial {trial.number} was told nothing; write study.tell(trial, value), or "
                "study.tell(trial, state=TrialState.FAIL)"
            )
        if unusable:
            _logger.warning("Trial %d failed: its value is NaN (%s)", trial.number, values)
            return TrialState.FAIL, None
        return TrialState.COMPLETE, values
    if state is TrialState.COMPLETE:
        if values is None or unusable:
            raise StudyError(f"trial {trial.number} cannot be COMPLETE with the values {values!r}")
        return state, values
    if state not in (TrialState.PRUNED, TrialState.FAIL):
        raise StudyError(
            f"a trial is told as COMPLETE, PRUNED or FAIL, got {state!r}; to run it again write study.requeue(trial)"
        )
    if values is not None:
        raise StudyError(
            f"a {state.name} trial is told without values, got {values!r}; a pruned one has what it reported"
        )
    if state is TrialState.PRUNED and trial.last_step is not None and len(directions) == 1:
        last = trial.intermediate_values[trial.last_step]
        return state, None if math.isnan(last) else (last,)
    return state, None


def _as_floats(values: object, directions: Sequence[StudyDirection]) -> tuple[float, ...]:
    several = isinstance(values, Sequence) and not isinstance(values, (str, bytes, bytearray))
    listed: Sequence[Any] = values if several else (values,)  # type: ignore[assignment]
    if len(listed) != len(directions):
        raise StudyError(
            f"the study has {counted(len(directions), 'objective')} and was told "
            f"{counted(len(listed), 'value')}: {values!r}. "
            f"Give one value for each of {', '.join(directions)}"
        )
    return tuple(
        as_float(value, "the value" if len(listed) == 1 else f"value {index} of {len(listed)}")
        for index, value in enumerate(listed)
    )
