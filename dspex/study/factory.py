"""Opening studies by name."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from dspex.errors import StudyError
from dspex.pruners import MedianPruner, Pruner
from dspex.samplers import Sampler, TPESampler
from dspex.storage import Storage, get_storage
from dspex.study.best import best_of, pareto_front
from dspex.study.lead import LEADER
from dspex.study.queue import requeued
from dspex.study.study import Study
from dspex.trials import AttrRecord, FrozenTrial, StudyDirection, StudyRecord, TrialState
from dspex.variables import Space
from dspex.variables.readonly import read_only

__all__ = [
    "StudySummary",
    "copy_study",
    "create_study",
    "delete_study",
    "get_all_study_names",
    "get_all_study_summaries",
    "load_study",
]


def create_study(
    *,
    study_name: str | None = None,
    storage: Storage | str | None = None,
    sampler: Sampler | None = None,
    pruner: Pruner | None = None,
    direction: StudyDirection | str | None = None,
    directions: Sequence[StudyDirection | str] | None = None,
    space: Space | None = None,
    load_if_exists: bool = False,
) -> Study:
    """A new study, or with ``load_if_exists`` the one of that name.

    Args:
        study_name: What it is found by in its storage; made up when not given.
        storage: ``None`` for this process's memory, a URL (``"sqlite:///study.db"``), or a `Storage`.
        sampler: What chooses values; `TPESampler` by default.
        pruner: What ends trials early; `MedianPruner` by default.
        direction: ``"minimize"`` (the default, as in Optuna) or ``"maximize"``.
        directions: One for each objective, when there are several.
        space: The variables of a program, whose values each `ask` chooses at once. Without it, an objective
            declares them by ``trial.suggest_...``.

    Raises:
        StudyError: when the name is taken, a direction is unknown, or the study that exists has other
        directions
            or another space.
        StorageError: when the storage cannot be opened.

    >>> create_study(study_name="one", directions=["maximize", "minimize"])
    <Study 'one': 0 trials, maximize, minimize>
    """
    wanted = _directions(direction, directions)
    _check_parts(sampler, pruner, space)
    backend = get_storage(storage)
    name = f"study-{uuid.uuid4()}" if study_name is None else _name(study_name)
    record = _find(backend, name) if load_if_exists else None
    if record is None:
        try:
            record = backend.create_study(
                name, wanted or (StudyDirection.MINIMIZE,), space=None if space is None else space.to_json()
            )
        except StudyError:
            # Two processes may both want to be the first to create it.
            if not load_if_exists:
                raise
            record = backend.get_study(name)
    if wanted and record.directions != wanted:
        raise StudyError(
            f"study {name!r} exists with the directions {', '.join(record.directions)}, not "
            f"{', '.join(wanted)}; leave direction out, or use another study_name"
        )
    return _open(record, backend, sampler, pruner, space)


def load_study(
    *,
    study_name: str | None = None,
    storage: Storage | str,
    sampler: Sampler | None = None,
    pruner: Pruner | None = None,
    space: Space | None = None,
) -> Study:
    """The study of that name, as it was left; the name may be left out when the storage has only one.

    Raises:
        StudyError: when there is no such study, or its space differs from ``space``.
        StorageError: when the storage cannot be opened.

    >>> from dspex.storage import InMemoryStorage
    >>> storage = InMemoryStorage()  # of this process; "sqlite:///study.db" is there in the next one too
    >>> create_study(study_name="one", storage=storage).optimize(lambda trial: 1.5, n_trials=2)
    >>> load_study(study_name="one", storage=storage).best_value
    1.5
    """
    _check_parts(sampler, pruner, space)
    backend = get_storage(storage)
    if study_name is None:
        records = backend.studies()
        if len(records) != 1:
            names = ", ".join(repr(record.name) for record in records) or "none at all"
            raise StudyError(f"study_name is needed, because the storage does not have one study but: {names}")
        return _open(records[0], backend, sampler, pruner, space)
    return _open(backend.get_study(_name(study_name)), backend, sampler, pruner, space)


def copy_study(
    *,
    from_study_name: str,
    from_storage: Storage | str,
    to_storage: Storage | str,
    to_study_name: str | None = None,
) -> None:
    """Copies a study into another storage, or under another name into the same one: with its trials, their
    evaluations, the candidates of its pools, its space and its attributes.

    A trial that is running stays with those who run it: in the copy it waits to be run.

    Raises:
        StudyError: when there is no such study, or the name is taken where it goes to.
        StorageError: when a storage cannot be opened.

    >>> from dspex.storage import InMemoryStorage
    >>> here, there = InMemoryStorage(), InMemoryStorage()
    >>> study = create_study(study_name="one", storage=here)
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    >>> copy_study(from_study_name="one", from_storage=here, to_storage=there)
    >>> len(load_study(study_name="one", storage=there).trials)
    3
    """
    source, target = get_storage(from_storage), get_storage(to_storage)
    record = source.get_study(_name(from_study_name))
    # While others go on with it, each of these may refer to what the next one has: rows to trials, these to candidates.
    rows = source.read_evaluations(record.id)[0]
    trials = sorted(source.read_trials(record.id)[0], key=lambda trial: trial.number)
    candidates = source.read_pool(record.id)[0]
    name = record.name if to_study_name is None else _name(to_study_name)
    copy = target.create_study(name, record.directions, space=record.space)
    try:
        target.append_pool(copy.id, candidates)
        target.append_trials(copy.id, [_unowned(trial) for trial in trials])
        target.append_evaluations(copy.id, rows)
        for item in source.read_study_attrs(record.id)[0]:
            if (item.kind, item.key) != ("system", LEADER):  # who is at the original is not at the copy
                target.set_study_attr(copy.id, item.kind, item.key, item.value)
    except BaseException:
        target.delete_study(copy.id)  # half a study would look like a whole one
        raise


def _unowned(trial: FrozenTrial) -> FrozenTrial:
    return requeued(trial) if trial.state is TrialState.RUNNING else trial


def delete_study(*, study_name: str, storage: Storage | str) -> None:
    """Removes a study with all its trials and evaluations.

    Raises:
        StudyError: when there is no such study.

    >>> from dspex.storage import InMemoryStorage
    >>> storage = InMemoryStorage()
    >>> study = create_study(study_name="one", storage=storage)
    >>> delete_study(study_name="one", storage=storage)
    >>> get_all_study_names(storage)
    []
    """
    backend = get_storage(storage)
    backend.delete_study(backend.get_study(_name(study_name)).id)


def get_all_study_names(storage: Storage | str) -> list[str]:
    """The names of the studies in a storage, in the order in which they were created.

    >>> from dspex.storage import InMemoryStorage
    >>> storage = InMemoryStorage()
    >>> for name in ("one", "two"):
    ...     study = create_study(study_name=name, storage=storage)
    >>> get_all_study_names(storage)
    ['one', 'two']
    """
    return [record.name for record in get_storage(storage).studies()]


@attrs.frozen(kw_only=True)
class StudySummary:
    """What a study is and how far it has come.

    ``best_trial`` is ``None`` when none has completed feasibly, or there are several objectives.
    """

    study_name: str
    directions: tuple[StudyDirection, ...]
    n_trials: int
    best_trial: FrozenTrial | None
    user_attrs: Mapping[str, Any]
    datetime_start: datetime | None


def get_all_study_summaries(storage: Storage | str) -> list[StudySummary]:
    """A summary of each study in a storage, in the order in which they were created. It reads all trials.

    >>> from dspex.storage import InMemoryStorage
    >>> storage = InMemoryStorage()
    >>> create_study(study_name="one", storage=storage).optimize(lambda trial: 1.5, n_trials=2)
    >>> [(one.study_name, one.n_trials, one.best_trial.value) for one in get_all_study_summaries(storage)]
    [('one', 2, 1.5)]
    """
    backend = get_storage(storage)
    return [
        _summary(record, backend.read_trials(record.id)[0], backend.read_study_attrs(record.id)[0])
        for record in backend.studies()
    ]


def _summary(record: StudyRecord, trials: list[FrozenTrial], attributes: list[AttrRecord]) -> StudySummary:
    trials.sort(key=lambda trial: trial.number)
    best = None
    if len(record.directions) == 1 and pareto_front(trials, record.directions):
        best = best_of(trials, record.directions[0])
    return StudySummary(
        study_name=record.name,
        directions=record.directions,
        n_trials=len(trials),
        best_trial=best,
        user_attrs=read_only({item.key: item.value for item in attributes if item.kind == "user"}),
        datetime_start=min((trial.datetime_start for trial in trials if trial.datetime_start), default=None),
    )


def _open(
    record: StudyRecord,
    storage: Storage,
    sampler: Sampler | None,
    pruner: Pruner | None,
    space: Space | None,
) -> Study:
    known = None if record.space is None else Space.from_json(record.space)
    if space is not None and known is None:
        storage.set_space(record.id, space.to_json())
    elif space is not None and known is not None and space.hash != known.hash:
        raise StudyError(
            f"study {record.name!r} was made for another space, so its trials cannot be compared with new "
            f"ones:\n{known.diff(space)}\nUse another study_name, or bring the program back to what it was"
        )
    return Study(
        record,
        storage,
        sampler=TPESampler() if sampler is None else sampler,
        pruner=MedianPruner() if pruner is None else pruner,
        space=known if space is None else space,
    )


def _directions(
    direction: StudyDirection | str | None, directions: Sequence[StudyDirection | str] | None
) -> tuple[StudyDirection, ...]:
    if direction is not None and directions is not None:
        raise StudyError(f"give direction= or directions=, not both (got {direction!r} and {directions!r})")
    if directions is not None:
        if isinstance(directions, str) or not isinstance(directions, Sequence) or not directions:
            raise StudyError(
                f"directions must be a list of 'minimize' and 'maximize', got {directions!r} "
                f"({type(directions).__name__}); write directions=['maximize', 'minimize']"
            )
        return tuple(StudyDirection.parse(item) for item in directions)
    return () if direction is None else (StudyDirection.parse(direction),)


def _name(study_name: object) -> str:
    if not isinstance(study_name, str) or not study_name:
        raise StudyError(f"study_name must be a non-empty text, got {study_name!r} ({type(study_name).__name__})")
    return study_name


def _find(storage: Storage, name: str) -> StudyRecord | None:
    try:
        return storage.get_study(name)
    except StudyError:
        return None


def _check_parts(sampler: object, pruner: object, space: object) -> None:
    # Before a storage is opened: a study that was made in vain would have taken its name.
    for argument, value, kind, example in (
        ("sampler", sampler, Sampler, "TPESampler()"),
        ("pruner", pruner, Pruner, "MedianPruner()"),
        ("space", space, Space, "program.space()"),
    ):
        if value is not None and not isinstance(value, kind):
            given = f"{value.__name__}()" if isinstance(value, type) and issubclass(value, kind) else example
            raise StudyError(
                f"{argument} must be a {kind.__name__}, got {value!r} ({type(value).__name__}); "
                f"write {argument}={given}"
            )
