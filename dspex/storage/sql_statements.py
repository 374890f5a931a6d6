"""The statements of `SQLStorage` that run often, built once: building one costs more than SQLite needs to run it."""

from __future__ import annotations

from sqlalchemy import bindparam, func, insert, select, update

from dspex.storage.sql_tables import attributes, evaluations, pool, studies, trials
from dspex.trials import TrialState

__all__ = [
    "COUNT_TRIALS",
    "FIRST_WAITING",
    "INSERT_EVALUATION",
    "LAST_ATTEMPT",
    "RAISE_REVISION",
    "READ_ATTRIBUTE",
    "READ_ATTRIBUTES",
    "READ_EVALUATIONS",
    "READ_POOL",
    "READ_REVISION",
    "READ_TRIALS",
    "STUDY",
    "UPDATE_ATTRIBUTE",
    "UPDATE_TRIAL",
]

RAISE_REVISION = (
    update(studies).where(studies.c.id == bindparam("study")).values(revision=studies.c.revision + bindparam("by"))
)
READ_REVISION = select(studies.c.revision).where(studies.c.id == bindparam("study"))
COUNT_TRIALS = select(func.count()).select_from(trials).where(trials.c.study_id == bindparam("study"))
UPDATE_TRIAL = (
    update(trials)
    .where(
        trials.c.study_id == bindparam("study"),
        trials.c.number == bindparam("trial"),
        trials.c.state == bindparam("expected"),
    )
    .values(state=bindparam("new_state"), revision=bindparam("new_revision"), data=bindparam("new_data"))
)
READ_TRIALS = (
    select(trials.c.number, trials.c.revision, trials.c.data)
    .where(trials.c.study_id == bindparam("study"), trials.c.revision > bindparam("cursor"))
    .order_by(trials.c.revision)
)
FIRST_WAITING = (
    select(trials.c.number, trials.c.data)
    .where(trials.c.study_id == bindparam("study"), trials.c.state == TrialState.WAITING.name)
    .order_by(trials.c.number)
    .limit(1)
)
READ_EVALUATIONS = (
    select(evaluations.c.revision, evaluations.c.data)
    .where(evaluations.c.study_id == bindparam("study"), evaluations.c.revision > bindparam("cursor"))
    .order_by(evaluations.c.revision)
)
LAST_ATTEMPT = (
    select(evaluations.c.attempt, evaluations.c.status)
    .where(
        evaluations.c.study_id == bindparam("study"),
        evaluations.c.trial == bindparam("trial"),
        evaluations.c.fingerprint == bindparam("fingerprint"),
        evaluations.c.example_id == bindparam("example_id"),
        evaluations.c.rollout == bindparam("rollout"),
    )
    .order_by(evaluations.c.attempt.desc())
    .limit(1)
)
READ_POOL = (
    select(pool.c.revision, pool.c.path, pool.c.item, pool.c.data)
    .where(pool.c.study_id == bindparam("study"), pool.c.revision > bindparam("cursor"))
    .order_by(pool.c.revision)
)
_THIS_ATTRIBUTE = (
    attributes.c.study_id == bindparam("study"),
    attributes.c.kind == bindparam("of_kind"),
    attributes.c.key == bindparam("at"),
)
UPDATE_ATTRIBUTE = (
    update(attributes).where(*_THIS_ATTRIBUTE).values(revision=bindparam("new_revision"), value=bindparam("new_value"))
)
READ_ATTRIBUTE = select(attributes.c.value).where(*_THIS_ATTRIBUTE)
READ_ATTRIBUTES = (
    select(attributes.c.revision, attributes.c.kind, attributes.c.key, attributes.c.value)
    .where(attributes.c.study_id == bindparam("study"), attributes.c.revision > bindparam("cursor"))
    .order_by(attributes.c.revision)
)

STUDY = select(studies.c.id, studies.c.name, studies.c.directions, studies.c.space)
INSERT_EVALUATION = insert(evaluations)
