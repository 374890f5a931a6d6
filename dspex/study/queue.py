"""Trials that wait to be run: queued by a user, put back, or left behind by a process that was killed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from dspex.errors import StateError, StorageError, StudyError
from dspex.execution.processes import this_process
from dspex.study.owners import is_alive
from dspex.study.pools import check_given
from dspex.trials import FrozenTrial, TrialState
from dspex.trials.checks import as_plain
from dspex.variables import encode

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["enqueue", "give_back", "interrupted", "requeue", "requeue_interrupted", "requeued"]


def enqueue(study: Study, params: Mapping[str, Any], *, user_attrs: Mapping[str, Any], skip_if_exists: bool) -> None:
    """See `Study.enqueue_trial`."""
    if not isinstance(params, Mapping):
        raise StudyError(
            f"params must be a mapping, got {params!r} ({type(params).__name__}); write study.enqueue_trial({{'k': 3}})"
        )
    if study.space is not None:
        for path, value in params.items():
            check_given(study, study.space, path, value)
    given = as_plain(dict(params))
    if skip_if_exists and any(_has(study, trial, given) for trial in study.trials):
        return
    waiting = FrozenTrial(
        number=-1,
        state=TrialState.WAITING,
        system_attrs={"fixed_params": given},
        user_attrs=as_plain(dict(user_attrs)),
    )
    study.storage.append_trials(study._mirror.record.id, [waiting])


def _has(study: Study, trial: FrozenTrial, given: Mapping[str, Any]) -> bool:
    queued = trial.state is TrialState.WAITING and not trial.params
    values = trial.fixed_params if queued else study.values(trial)
    try:
        return bool(encode(dict(values)) == encode(dict(given)))
    except StateError:
        return False  # values of a type that cannot be enqueued either


def interrupted(study: Study) -> list[FrozenTrial]:
    """See `Study.interrupted`."""
    study._mirror.sync()
    running = [study._mirror.log[number] for number in sorted(study._mirror.running)]
    alive = {owner: is_alive(owner, study.storage) for owner in {trial.owner for trial in running}}
    given_up = {(number, this_process()) for number in study._mirror.given_up}
    return [trial for trial in running if not alive[trial.owner] or (trial.number, trial.owner) in given_up]


def requeue(study: Study, trial: FrozenTrial) -> None:
    """See `Study.requeue`."""
    study.storage.update_trial(study._mirror.record.id, requeued(trial), expected=TrialState.RUNNING)


def give_back(study: Study, trial: FrozenTrial) -> None:
    """Puts a trial of this process back that nobody runs any more.

    Where that cannot be written, as on a full disk, `requeue_interrupted` does so later.
    """
    study._mirror.given_up.add(trial.number)
    with suppress(StorageError, StudyError):  # or it is finished
        requeue(study, trial)
        study._mirror.given_up.discard(trial.number)


def requeued(trial: FrozenTrial) -> FrozenTrial:
    """``trial`` as it waits to be run again, with its values and from the beginning."""
    return attrs.evolve(trial, state=TrialState.WAITING, intermediate_values={}, datetime_start=None, owner="")


def requeue_interrupted(study: Study) -> list[FrozenTrial]:
    """See `Study.requeue_interrupted`."""
    requeued = []
    for trial in interrupted(study):
        try:
            requeue(study, trial)
        except StudyError:
            continue  # another process was faster
        requeued.append(trial)
    return requeued
