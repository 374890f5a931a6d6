"""Studies that live as long as the process."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import attrs

from dspex.data import Evaluation
from dspex.forks import held_at_forks
from dspex.storage.base import Storage, deleted_study, name_taken, not_in_state, unknown_study, unknown_trial
from dspex.trials import (
    AttrRecord,
    FrozenTrial,
    Ledger,
    PoolRecord,
    StudyDirection,
    StudyRecord,
    TrialLog,
    TrialState,
)

__all__ = ["InMemoryStorage"]


class _Study:
    # Ctrl-C may come between any two lines. So of two things that belong together the one comes first which alone does
    # no harm: what is announced and not there is passed over, and what is there unannounced would be lost.
    __slots__ = ("attr_history", "attributes", "ledger", "pool", "pool_ids", "record", "trials", "waiting")

    def __init__(self, record: StudyRecord) -> None:
        self.record = record
        self.attributes: dict[tuple[str, str], AttrRecord] = {}
        self.attr_history: list[tuple[str, str]] = []  # the attribute that each change was of
        self.trials = TrialLog()
        self.ledger = Ledger()
        self.pool: list[PoolRecord] = []
        self.pool_ids: set[tuple[str, str]] = set()
        self.waiting: list[int] = []


class InMemoryStorage(Storage):
    """Keeps studies in this process's memory. Thread-safe; nothing outlives the process.

    >>> storage = InMemoryStorage()
    >>> study = storage.create_study("one", [StudyDirection.MAXIMIZE])
    >>> [record.name for record in storage.studies()]
    ['one']
    """

    shared = False

    def __init__(self) -> None:
        self._studies: dict[int, _Study] = {}
        self._deleted: dict[int, str] = {}  # their names
        self._beats: dict[str, float] = {}
        self._next_id = 1
        self._lock = held_at_forks(threading.RLock(), order=2)

    def _study(self, study_id: int) -> _Study:
        try:
            return self._studies[study_id]
        except KeyError:
            raise deleted_study(study_id, self._deleted.get(study_id), self._names()) from None

    def _names(self) -> list[str]:
        return [study.record.name for study in self._studies.values()]

    def create_study(
        self, name: str, directions: Sequence[StudyDirection], *, space: Mapping[str, Any] | None = None
    ) -> StudyRecord:
        with self._lock:
            if name in self._names():
                raise name_taken(name)
            record = StudyRecord(
                id=self._next_id,
                name=name,
                directions=tuple(directions),
                space=None if space is None else dict(space),
            )
            self._next_id += 1
            self._studies[record.id] = _Study(record)
            return record

    def studies(self) -> list[StudyRecord]:
        with self._lock:
            return [study.record for study in self._studies.values()]

    def get_study(self, name: str) -> StudyRecord:
        with self._lock:
            for study in self._studies.values():
                if study.record.name == name:
                    return study.record
            raise unknown_study(name, self._names())

    def delete_study(self, study_id: int) -> None:
        with self._lock:
            self._deleted[study_id] = self._study(study_id).record.name
            del self._studies[study_id]

    def set_space(self, study_id: int, space: Mapping[str, Any]) -> None:
        with self._lock:
            study = self._study(study_id)
            study.record = attrs.evolve(study.record, space=dict(space))

    def set_study_attr(self, study_id: int, kind: Literal["user", "system"], key: str, value: Any) -> None:
        with self._lock:
            study = self._study(study_id)
            study.attr_history.append((kind, key))
            study.attributes[kind, key] = AttrRecord(kind, key, value)

    def swap_study_attr(
        self, study_id: int, kind: Literal["user", "system"], key: str, value: Any, *, expected: Any
    ) -> bool:
        with self._lock:
            found = self._study(study_id).attributes.get((kind, key))
            if (None if found is None else found.value) != expected:
                return False
            self.set_study_attr(study_id, kind, key, value)
            return True

    def read_study_attrs(self, study_id: int, cursor: int = 0) -> tuple[list[AttrRecord], int]:
        with self._lock:
            study = self._study(study_id)
            newest_first = dict.fromkeys(reversed(study.attr_history[cursor:]))
            found = [study.attributes[at] for at in reversed(newest_first) if at in study.attributes]
            return found, len(study.attr_history)

    def append_trials(self, study_id: int, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        with self._lock:
            study = self._study(study_id)
            first = len(study.trials)
            added = [attrs.evolve(trial, number=first + index) for index, trial in enumerate(trials)]
            for trial in added:
                if trial.state is TrialState.WAITING:
                    heapq.heappush(study.waiting, trial.number)
            study.trials.put(*added)
            return added

    def claim_waiting(self, study_id: int, owner: str, at: datetime) -> FrozenTrial | None:
        with self._lock:
            study = self._study(study_id)
            while study.waiting:
                number = study.waiting[0]
                claimed = None
                if number < len(study.trials) and study.trials[number].state is TrialState.WAITING:
                    claimed = claim(study.trials[number], owner, at)
                    study.trials.put(claimed)
                heapq.heappop(study.waiting)
                if claimed is not None:
                    return claimed
            return None

    def update_trial(self, study_id: int, trial: FrozenTrial, *, expected: TrialState) -> None:
        with self._lock:
            study = self._study(study_id)
            if not 0 <= trial.number < len(study.trials):
                raise unknown_trial(trial.number, len(study.trials))
            found = study.trials[trial.number].state
            if found is not expected:
                raise not_in_state(trial.number, found, expected)
            if trial.state is TrialState.WAITING:
                heapq.heappush(study.waiting, trial.number)
            study.trials.put(trial)

    def read_trials(self, study_id: int, cursor: int = 0) -> tuple[list[FrozenTrial], int]:
        with self._lock:
            return self._study(study_id).trials.changes(cursor)

    def append_evaluations(self, study_id: int, rows: Sequence[Evaluation]) -> None:
        with self._lock:
            self._study(study_id).ledger.append(*rows)

    def read_evaluations(self, study_id: int, cursor: int = 0) -> tuple[list[Evaluation], int]:
        with self._lock:
            ledger = self._study(study_id).ledger
            return ledger[cursor:], len(ledger)

    def append_pool(self, study_id: int, items: Sequence[PoolRecord]) -> None:
        with self._lock:
            study = self._study(study_id)
            for item in items:
                if (item.path, item.id) not in study.pool_ids:
                    study.pool.append(item)
                    study.pool_ids.add((item.path, item.id))

    def read_pool(self, study_id: int, cursor: int = 0) -> tuple[list[PoolRecord], int]:
        with self._lock:
            pool = self._study(study_id).pool
            return pool[cursor:], len(pool)

    def beat(self, owner: str, now: float) -> None:
        with self._lock:
            self._beats[owner] = now

    def last_beat(self, owner: str) -> float | None:
        with self._lock:
            return self._beats.get(owner)

    def close(self) -> None:
        """Does nothing: there is nothing to let go of."""

    def __repr__(self) -> str:
        return f"<InMemoryStorage: {len(self._studies)} studies>"


def claim(trial: FrozenTrial, owner: str, at: datetime) -> FrozenTrial:
    """``trial`` as ``owner`` starts running it; shared by the backends."""
    return attrs.evolve(trial, state=TrialState.RUNNING, owner=owner, datetime_start=at)
