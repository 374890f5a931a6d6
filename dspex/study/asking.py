"""Where the next trial comes from, and how the values of a declared space are put into it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dspex.errors import DspexError
from dspex.execution.processes import this_process
from dspex.samplers.branches import domain_of
from dspex.study import telling
from dspex.study.pools import given_param
from dspex.study.trial import Trial
from dspex.trials import FrozenTrial, TrialState
from dspex.trials.params import resolved
from dspex.variables import Space, decode, encode

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["ask"]


def ask(study: Study, space: Space | None, fixed: Mapping[str, Any], user_attrs: Mapping[str, Any]) -> Trial:
    """See `Study.ask`."""
    study._heartbeat.start()
    study._mirror.sync()
    trial = Trial(study, _next(study, fixed, user_attrs), space)
    for key in user_attrs.keys() - trial.user_attrs.keys():
        trial.set_user_attr(key, user_attrs[key])  # on one that was queued
    if space is not None and not trial.frozen.params:
        try:
            _fill(study, trial, space)
        except DspexError as error:
            telling.fail(trial, reason=f"{type(error).__name__}: {error}")
            raise
    return trial


def _next(study: Study, fixed: Mapping[str, Any], user_attrs: Mapping[str, Any]) -> FrozenTrial:
    mirror, owner = study._mirror, this_process()
    if mirror.waiting and not fixed:
        claimed = study.storage.claim_waiting(mirror.record.id, owner)
        if claimed is not None:
            return claimed
    new = FrozenTrial(
        number=-1,
        state=TrialState.RUNNING,
        system_attrs={"fixed_params": decode(encode(dict(fixed)))} if fixed else {},
        user_attrs=decode(encode(dict(user_attrs))),
        datetime_start=datetime.now(UTC),
        owner=owner,
    )
    return study.storage.append_trials(mirror.record.id, [new])[0]


def _fill(study: Study, trial: Trial, space: Space) -> None:
    fixed = {path: given_param(study, space, path, value) for path, value in trial.frozen.fixed_params.items()}
    for path in space.open_ended:
        study.pool(path, domain_of(space, path))
    params = study.sampler.sample(study._mirror.view, trial.number, space, fixed=fixed)
    domains = {
        path: study._mirror.check_domain(path, domain_of(space, path), f"trial {trial.number}") for path in params
    }
    state = space.state(resolved(params, domains, study._mirror.pools))
    trial._put(params, domains, fingerprint=state.fingerprint)
