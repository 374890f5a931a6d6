"""Where the next trial comes from, and how the values of a declared space are put into it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from dspex.errors import StorageError
from dspex.execution.processes import this_process
from dspex.samplers.branches import domain_of
from dspex.study import queue, telling
from dspex.study.pools import given_param
from dspex.study.trial import Trial
from dspex.trials import FrozenTrial, TrialState
from dspex.trials.checks import as_plain
from dspex.trials.params import resolved
from dspex.variables import Space

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["ask"]


def ask(
    study: Study,
    space: Space | None,
    fixed: Mapping[str, Any],
    user_attrs: Mapping[str, Any],
    system_attrs: Mapping[str, Any],
) -> Trial:
    """See `Study.ask`."""
    study._heartbeat.start()
    study._mirror.sync()
    user, system = as_plain(dict(user_attrs)), as_plain(dict(system_attrs))
    at = datetime.now(UTC)
    trial = None
    try:
        begun = _next(study, fixed, user, system, at)
        trial = Trial(study, begun, space)
        study._mirror.begin(begun)
        if not (user.keys() <= begun.user_attrs.keys() and system.keys() <= begun.system_attrs.keys()):
            trial._change(  # it was queued
                lambda frozen: attrs.evolve(
                    frozen,
                    user_attrs={**user, **frozen.user_attrs},
                    system_attrs={**system, **frozen.system_attrs},
                )
            )
        if space is not None and not begun.params:
            _fill(study, trial, space)
        return trial
    except Exception as error:
        if trial is not None:
            try:
                telling.fail(trial, reason=f"{type(error).__name__}: {error}")
            except StorageError:
                queue.give_back(study, trial.frozen)
        raise
    except BaseException:  # Ctrl-C: nobody gets the trial
        _give_back(study, at)
        raise


def _give_back(study: Study, at: datetime) -> None:
    """Puts the trial that this process began at the moment ``at`` back in the queue, if there is one by now."""
    study._mirror.forget()
    with suppress(StorageError):
        study._mirror.sync()
        for number in list(study._mirror.running):
            trial = study._mirror.log[number]
            if trial.datetime_start == at and trial.owner == this_process():
                queue.give_back(study, trial)


def _next(
    study: Study, fixed: Mapping[str, Any], user: Mapping[str, Any], system: Mapping[str, Any], at: datetime
) -> FrozenTrial:
    mirror, owner = study._mirror, this_process()
    if mirror.waiting and not fixed:
        claimed = study.storage.claim_waiting(mirror.record.id, owner, at)
        if claimed is not None:
            return claimed
    new = FrozenTrial(
        number=-1,
        state=TrialState.RUNNING,
        system_attrs={**system, "fixed_params": as_plain(dict(fixed))} if fixed else system,
        user_attrs=user,
        datetime_start=at,
        owner=owner,
    )
    return study.storage.append_trials(mirror.record.id, [new])[0]


def _fill(study: Study, trial: Trial, space: Space) -> None:
    fixed = {path: given_param(study, space, path, value) for path, value in trial.frozen.fixed_params.items()}
    for path in space.open_ended:
        study.pool(path, domain_of(space, path))
    mirror = study._mirror
    with mirror.choosing:
        mirror.sync_others(trial.number)
        params = study.sampler.sample(mirror.view, trial.number, space, fixed=fixed)
        domains = {path: mirror.check_domain(path, domain_of(space, path), f"trial {trial.number}") for path in params}
        state = space.state(resolved(params, domains, mirror.pools))
        trial._put(params, domains, fingerprint=state.fingerprint)
