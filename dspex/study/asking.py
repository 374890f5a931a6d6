"""Where the next trial comes from, and how the values of a declared space are put into it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from dspex.execution.processes import this_process
from dspex.samplers.branches import domain_of
from dspex.study import telling
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
    begun = _next(study, fixed, user, system)
    study._mirror.begin(begun)
    trial = Trial(study, begun, space)
    if not (user.keys() <= trial.frozen.user_attrs.keys() and system.keys() <= trial.frozen.system_attrs.keys()):
        trial._change(  # it was queued
            lambda frozen: attrs.evolve(
                frozen,
                user_attrs={**user, **frozen.user_attrs},
                system_attrs={**system, **frozen.system_attrs},
            )
        )
    if space is not None and not trial.frozen.params:
        try:
            _fill(study, trial, space)
        except Exception as error:
            telling.fail(trial, reason=f"{type(error).__name__}: {error}")
            raise
    return trial


def _next(study: Study, fixed: Mapping[str, Any], user: Mapping[str, Any], system: Mapping[str, Any]) -> FrozenTrial:
    mirror, owner = study._mirror, this_process()
    if mirror.waiting and not fixed:
        claimed = study.storage.claim_waiting(mirror.record.id, owner)
        if claimed is not None:
            return claimed
    new = FrozenTrial(
        number=-1,
        state=TrialState.RUNNING,
        system_attrs={**system, "fixed_params": as_plain(dict(fixed))} if fixed else system,
        user_attrs=user,
        datetime_start=datetime.now(UTC),
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
