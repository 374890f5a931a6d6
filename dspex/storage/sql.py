"""Studies in a SQL database: a SQLite file on one machine, PostgreSQL for many.

Nothing here is imported before a study is opened by URL: SQLAlchemy takes longer to import than all the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.forks import held_at_forks
from dspex.storage import rows as codec, sql_statements as sql
from dspex.storage.base import Storage, deleted_study, name_taken, not_in_state, unknown_study, unknown_trial
from dspex.storage.memory import claim
from dspex.storage.sql_engine import Database
from dspex.storage.sql_tables import attributes, evaluations, owners, pool, studies, trials
from dspex.trials import AttrRecord, FrozenTrial, PoolRecord, StudyDirection, StudyRecord, TrialState
from dspex.trials.ledger import already_recorded

__all__ = ["SQLStorage"]


class _Ticket:
    """Rows that one caller wants written, and what became of them."""

    __slots__ = ("done", "error", "rows", "study_id")

    def __init__(self, study_id: int, rows: Sequence[Evaluation]) -> None:
        self.study_id = study_id
        self.rows = rows
        self.done = False
        self.error: BaseException | None = None


class SQLStorage(Storage):
    """Keeps studies in the database at ``url``: ``sqlite:///study.db`` or ``postgresql://...``.

    Threads and processes may share it (a SQLite file: those of one machine). Every call is one transaction;
    rows that several threads record at the same moment share one, so that they wait for the disk once.
    It pickles as its URL, so it may be handed to another process.

    Raises:
        StorageError: when the database cannot be opened, is damaged, or was written by a newer dspex.

    >>> import tempfile, os
    >>> storage = SQLStorage(f"sqlite:///{os.path.join(tempfile.mkdtemp(), 'study.db')}")
    >>> record = storage.create_study("one", [StudyDirection.MINIMIZE])
    >>> storage.append_evaluations(record.id, [Evaluation(example_id="e1", status="ok")])
    >>> len(storage.read_evaluations(record.id)[0])
    1
    """

    shared = True

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._queue: list[_Ticket] = []
        self._queue_lock = held_at_forks(threading.Lock(), order=3)
        self._writer = held_at_forks(threading.Lock(), order=2)
        self._opened: dict[int, str] = {}  # the names of studies, for when they are deleted

    @property
    def url(self) -> str:
        """Where it is, without the password."""
        return self._database.shown

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self._database.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["url"])  # type: ignore[misc]  # a storage is nothing but its URL

    def __repr__(self) -> str:
        return f"SQLStorage({self.url!r})"

    # Studies

    def create_study(
        self, name: str, directions: Sequence[StudyDirection], *, space: Mapping[str, Any] | None = None
    ) -> StudyRecord:
        try:
            with self._database.write(durable=True) as connection:
                connection.execute(
                    insert(studies),
                    {
                        "name": name,
                        "directions": codec.dump([str(direction) for direction in directions]),
                        "space": None if space is None else codec.dump(space),
                        "revision": 0,
                    },
                )
        except IntegrityError:
            raise name_taken(name) from None
        return self.get_study(name)

    def studies(self) -> list[StudyRecord]:
        with self._database.read() as connection:
            found = connection.execute(sql.STUDY.order_by(studies.c.id)).all()
        return [codec.study_record(*row) for row in found]

    def get_study(self, name: str) -> StudyRecord:
        with self._database.read() as connection:
            row = connection.execute(sql.STUDY.where(studies.c.name == name)).first()
            if row is None:
                raise unknown_study(name, self._names(connection))
        record = codec.study_record(*row)
        self._opened[record.id] = name
        return record

    def delete_study(self, study_id: int) -> None:
        with self._database.write(durable=True) as connection:
            self._next_revision(connection, study_id)
            for table in (attributes, trials, evaluations, pool):
                connection.execute(delete(table).where(table.c.study_id == study_id))
            connection.execute(delete(studies).where(studies.c.id == study_id))

    def set_space(self, study_id: int, space: Mapping[str, Any]) -> None:
        with self._database.write(durable=True) as connection:
            self._next_revision(connection, study_id)
            connection.execute(update(studies).where(studies.c.id == study_id).values(space=codec.dump(space)))

    # Attributes

    def set_study_attr(self, study_id: int, kind: Literal["user", "system"], key: str, value: Any) -> None:
        with self._database.write(durable=True) as connection:
            self._set_attribute(connection, study_id, kind, key, value)

    def swap_study_attr(
        self, study_id: int, kind: Literal["user", "system"], key: str, value: Any, *, expected: Any
    ) -> bool:
        with self._database.write(durable=True) as connection:
            self._next_revision(connection, study_id)  # nobody else sets it until this ends
            text = connection.execute(sql.READ_ATTRIBUTE, {"study": study_id, "of_kind": kind, "at": key}).scalar()
            if (None if text is None else codec.attribute_from_text(kind, key, text).value) != expected:
                return False
            self._set_attribute(connection, study_id, kind, key, value)
            return True

    def _set_attribute(self, connection: Connection, study_id: int, kind: str, key: str, value: Any) -> None:
        revision = self._next_revision(connection, study_id)
        text = codec.attribute_to_text(value)
        changed = connection.execute(
            sql.UPDATE_ATTRIBUTE,
            {"study": study_id, "of_kind": kind, "at": key, "new_revision": revision, "new_value": text},
        )
        if not changed.rowcount:
            connection.execute(
                insert(attributes),
                {"study_id": study_id, "kind": kind, "key": key, "revision": revision, "value": text},
            )

    def read_study_attrs(self, study_id: int, cursor: int = 0) -> tuple[list[AttrRecord], int]:
        found = self._read(sql.READ_ATTRIBUTES, study_id, cursor)
        records = [codec.attribute_from_text(row.kind, row.key, row.value) for row in found]
        return records, found[-1].revision if found else cursor

    # Trials

    def append_trials(self, study_id: int, new: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        if not new:
            return []
        with self._database.write(durable=False) as connection:
            revision = self._next_revision(connection, study_id, by=len(new))
            first = connection.execute(sql.COUNT_TRIALS, {"study": study_id}).scalar_one()
            added = [codec.numbered(trial, first + index) for index, trial in enumerate(new)]
            connection.execute(
                insert(trials),
                [
                    {
                        "study_id": study_id,
                        "number": trial.number,
                        "state": trial.state.name,
                        "revision": revision + index,
                        "data": codec.trial_to_text(trial),
                    }
                    for index, trial in enumerate(added)
                ],
            )
        return added

    def claim_waiting(self, study_id: int, owner: str, at: datetime) -> FrozenTrial | None:
        with self._database.write(durable=False) as connection:
            revision = self._next_revision(connection, study_id)
            row = connection.execute(sql.FIRST_WAITING, {"study": study_id}).first()
            if row is None:
                return None
            claimed = claim(codec.trial_from_text(row.number, row.data), owner, at)
            self._replace(connection, study_id, claimed, TrialState.WAITING, revision)
            return claimed

    def update_trial(self, study_id: int, trial: FrozenTrial, *, expected: TrialState) -> None:
        with self._database.write(durable=trial.state.is_finished) as connection:
            revision = self._next_revision(connection, study_id)
            if not self._replace(connection, study_id, trial, expected, revision):
                found = connection.execute(
                    select(trials.c.state).where(trials.c.study_id == study_id, trials.c.number == trial.number)
                ).scalar()
                if found is None:
                    count = connection.execute(sql.COUNT_TRIALS, {"study": study_id}).scalar_one()
                    raise unknown_trial(trial.number, count)
                raise not_in_state(trial.number, TrialState[found], expected)

    def _replace(
        self, connection: Connection, study_id: int, trial: FrozenTrial, expected: TrialState, revision: int
    ) -> bool:
        result = connection.execute(
            sql.UPDATE_TRIAL,
            {
                "study": study_id,
                "trial": trial.number,
                "expected": expected.name,
                "new_state": trial.state.name,
                "new_revision": revision,
                "new_data": codec.trial_to_text(trial),
            },
        )
        return result.rowcount == 1

    def read_trials(self, study_id: int, cursor: int = 0) -> tuple[list[FrozenTrial], int]:
        found = self._read(sql.READ_TRIALS, study_id, cursor)
        trials_found = [codec.trial_from_text(row.number, row.data) for row in found]
        return trials_found, found[-1].revision if found else cursor

    # Evaluations

    def append_evaluations(self, study_id: int, rows: Sequence[Evaluation]) -> None:
        if not rows:
            return
        ticket = _Ticket(study_id, rows)
        with self._queue_lock:
            self._queue.append(ticket)
        with self._writer:
            # Whoever gets here first writes for all who have queued up meanwhile: one commit for many rows.
            if not ticket.done:
                with self._queue_lock:
                    batch, self._queue = self._queue, []
                self._write_tickets(batch)
        if ticket.error is not None:
            raise ticket.error

    def _write_tickets(self, batch: list[_Ticket]) -> None:
        try:
            try:
                with self._database.write(durable=True) as connection:
                    for ticket in batch:
                        self._insert_evaluations(connection, ticket, [0] * len(ticket.rows))
            except (IntegrityError, StudyError):
                # Somebody's row was there before, as failed or as measured. One by one, to tell them apart.
                for ticket in batch:
                    self._write_carefully(ticket)
        except BaseException as error:
            for ticket in batch:
                ticket.error = error
            raise
        finally:
            for ticket in batch:
                ticket.done = True

    def _write_carefully(self, ticket: _Ticket) -> None:
        try:
            with self._database.write(durable=True) as connection:
                attempts = self._attempts(connection, ticket)
                self._insert_evaluations(connection, ticket, attempts)
        except StudyError as error:
            ticket.error = error

    def _insert_evaluations(self, connection: Connection, ticket: _Ticket, attempts: Sequence[int]) -> None:
        revision = self._next_revision(connection, ticket.study_id, by=len(ticket.rows))
        connection.execute(
            sql.INSERT_EVALUATION,
            [
                {
                    "study_id": ticket.study_id,
                    "revision": revision + index,
                    **_key(row),
                    "attempt": attempt,
                    "status": row.status,
                    "data": codec.dump(row.to_json()),
                }
                for index, (row, attempt) in enumerate(zip(ticket.rows, attempts, strict=True))
            ],
        )

    def _attempts(self, connection: Connection, ticket: _Ticket) -> list[int]:
        """How many failed rows stand before each row.

        Raises:
            StudyError: when a measured one does.
        """
        attempts: list[int] = []
        before: dict[tuple[Any, ...], tuple[int, str]] = {}
        for row in ticket.rows:
            key = _key(row)
            last = before.get(tuple(key.values()))
            if last is None:
                found = connection.execute(sql.LAST_ATTEMPT, {"study": ticket.study_id, **key}).first()
                last = (-1, "failed") if found is None else (found.attempt, found.status)
            if last[1] == "ok":
                raise already_recorded(row)
            attempts.append(last[0] + 1)
            before[tuple(key.values())] = (last[0] + 1, row.status)
        return attempts

    def read_evaluations(self, study_id: int, cursor: int = 0) -> tuple[list[Evaluation], int]:
        found = self._read(sql.READ_EVALUATIONS, study_id, cursor)
        rows = [codec.evaluation_from_text(row.data) for row in found]
        return rows, found[-1].revision if found else cursor

    # Pools

    def append_pool(self, study_id: int, items: Sequence[PoolRecord]) -> None:
        if not items:
            return
        with self._database.write(durable=True) as connection:
            revision = self._next_revision(connection, study_id, by=len(items))
            found = connection.execute(
                select(pool.c.path, pool.c.item).where(
                    pool.c.study_id == study_id, pool.c.path.in_({item.path for item in items})
                )
            )
            known = {(row.path, row.item) for row in found}
            for index, item in enumerate(items):
                if (item.path, item.id) not in known:
                    known.add((item.path, item.id))
                    connection.execute(
                        insert(pool),
                        {
                            "study_id": study_id,
                            "revision": revision + index,
                            "path": item.path,
                            "item": item.id,
                            "data": codec.pool_to_text(item),
                        },
                    )

    def read_pool(self, study_id: int, cursor: int = 0) -> tuple[list[PoolRecord], int]:
        found = self._read(sql.READ_POOL, study_id, cursor)
        items = [codec.pool_record(row.path, row.item, row.data) for row in found]
        return items, found[-1].revision if found else cursor

    # Owners

    def beat(self, owner: str, now: float) -> None:
        with self._database.write(durable=False) as connection:
            changed = connection.execute(update(owners).where(owners.c.owner == owner).values(seen=now))
            if not changed.rowcount:
                connection.execute(insert(owners), {"owner": owner, "seen": now})

    def last_beat(self, owner: str) -> float | None:
        with self._database.read() as connection:
            seen: float | None = connection.execute(select(owners.c.seen).where(owners.c.owner == owner)).scalar()
            return seen

    def close(self) -> None:
        self._database.close()

    # Shared

    def _next_revision(self, connection: Connection, study_id: int, *, by: int = 1) -> int:
        """The first of ``by`` new revisions. Locks the study until the transaction ends."""
        if not connection.execute(sql.RAISE_REVISION, {"study": study_id, "by": by}).rowcount:
            raise deleted_study(study_id, self._opened.get(study_id), self._names(connection))
        last: int = connection.execute(sql.READ_REVISION, {"study": study_id}).scalar_one()
        return last - by + 1

    def _names(self, connection: Connection) -> list[str]:
        return list(connection.execute(select(studies.c.name).order_by(studies.c.id)).scalars())

    def _read(self, statement: Any, study_id: int, cursor: int) -> Sequence[Any]:
        with self._database.read() as connection:
            found = connection.execute(statement, {"study": study_id, "cursor": cursor}).all()
            if not found and connection.execute(sql.READ_REVISION, {"study": study_id}).first() is None:
                raise deleted_study(study_id, self._opened.get(study_id), self._names(connection))
            return found


def _key(row: Evaluation) -> dict[str, Any]:
    return {
        "trial": -1 if row.trial is None else row.trial,
        "fingerprint": row.fingerprint,
        "example_id": row.example_id,
        "rollout": row.rollout,
    }
