"""This process's image of one study in a storage, brought up to date by reading only what is new."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import attrs

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.forks import held_at_forks
from dspex.storage import Storage
from dspex.trials import FrozenTrial, Ledger, PoolRecord, StudyRecord, StudyView, TrialLog, TrialState, objective_views
from dspex.variables import Domain, Float, Int, Pool, Space, decode
from dspex.variables.readonly import read_only

__all__ = ["Mirror"]


class Mirror:
    """Trials, ledger, pools and known domains of one study, as this process last saw them.

    Everything is written to the storage and read back from it by `sync`, never beside it: so several
    processes see the same trials, rows and candidates in the same order.
    """

    def __init__(self, storage: Storage, record: StudyRecord, space: Space | None) -> None:
        self.storage = storage
        self.record = record
        self.log = TrialLog()
        self.ledger = Ledger()
        self.pools: dict[str, Pool] = {}
        self.domains: dict[str, tuple[Domain[Any], str]] = {}  # path -> its domain, and where that was said
        self.waiting: set[int] = set()
        self.running: set[int] = set()
        self._begun: set[int] = set()  # by this process, and not read as finished
        self.given_up: set[int] = set()  # trials of this process that nobody in it runs any more
        self.planned: dict[int, dict[str, Any]] = {}
        self.view = StudyView(
            directions=record.directions,
            space=space,
            ledger=self.ledger,
            pools=self.pools,
            log=self.log,
            planned=self.planned,
        )
        self.choosing = held_at_forks(threading.RLock(), order=0)
        """Held from a sampler's choice until it is written, so that whoever chooses next knows of it."""
        self.chosen = threading.Condition(self.choosing)
        """Notified then, for those who have to know what others do before they choose. It is `choosing` that is
        entered: Ctrl-C while a condition is would leave the lock taken for ever, and a lock is entered in one step."""
        self.user_attrs: dict[str, Any] = {}
        self.system_attrs: dict[str, Any] = {}
        # How far the storage has been read. It is moved when all before it is here, so after Ctrl-C that is read again.
        self._trials_read = self._pool_read = self._attrs_read = 0
        self._rows_read = (0, 0)  # and the rows that the ledger had then
        self.objective_views = _objective_views(self.view)
        self._lock = held_at_forks(threading.RLock(), order=1)

    def forget(self) -> None:
        """Drops what samplers, pruners and callbacks keep of the study: after Ctrl-C, which may have left it half done.

        They keep it by view, and read it again for another one.
        """
        self.view = attrs.evolve(self.view)
        self.objective_views = _objective_views(self.view)

    def sync(self) -> None:
        """Reads what is new in the storage."""
        with self._lock:
            study = self.record.id
            # Read what refers to others before these, and put in the others first: so whatever is written meanwhile,
            # no row is here without its trial, and no trial without its candidates.
            rows, rows_end = self.storage.read_evaluations(study, self._rows_read[0])
            trials, trials_end = self.storage.read_trials(study, self._trials_read)
            items, items_end = self.storage.read_pool(study, self._pool_read)
            for item in items:
                self._add_candidate(item)
            self._pool_read = items_end
            if trials:
                self.log.put(*trials)
                for trial in trials:
                    self._index(trial)
            self._trials_read = trials_end
            self._add_rows(rows, rows_end)

    def begin(self, trial: FrozenTrial) -> None:
        """Notes a trial that this process begins, so that its others look for it before they choose."""
        self._begun.add(trial.number)

    def sync_others(self, number: int) -> None:
        """Reads what is new if there are running trials beside one, those included that were never read as running."""
        if (self.running | self._begun) - {number}:
            self.sync()

    def sync_ledger(self) -> None:
        """Reads only the new rows."""
        with self._lock:
            self._add_rows(*self.storage.read_evaluations(self.record.id, self._rows_read[0]))

    def _add_rows(self, rows: Sequence[Evaluation], end: int) -> None:
        if rows:
            self.ledger.append(
                *rows[len(self.ledger) - self._rows_read[1] :]
            )  # the others are in it, and this is again
            self._rows_read = (end, len(self.ledger))

    def sync_attrs(self) -> None:
        """Reads only the attributes that were set since."""
        with self._lock:
            found, end = self.storage.read_study_attrs(self.record.id, self._attrs_read)
            for item in found:
                (self.user_attrs if item.kind == "user" else self.system_attrs)[item.key] = read_only(item.value)
            self._attrs_read = end

    def _index(self, trial: FrozenTrial) -> None:
        (self.waiting.add if trial.state is TrialState.WAITING else self.waiting.discard)(trial.number)
        if trial.state is TrialState.RUNNING:
            self.running.add(trial.number)
        else:
            self.running.discard(trial.number)
            self._begun.discard(trial.number)
            self.given_up.discard(trial.number)
            self.planned.pop(trial.number, None)
        for path, domain in trial.distributions.items():
            if path not in self.domains:
                self.domains[path] = (domain, f"trial {trial.number}")

    def _add_candidate(self, item: PoolRecord) -> None:
        pool = self.pools.get(item.path)
        if pool is None:
            domain: Domain[Any] = Domain.from_json(item.domain)
            pool = self.pools[item.path] = Pool(item.path, self.check_domain(item.path, domain, "the pool"))
        pool.add(
            pool.domain.decode(item.value),
            parents=item.parents,
            source=item.source,
            note=item.note,
            metadata=decode(item.metadata),
        )

    def open_pool(self, path: str, domain: Domain[Any]) -> Pool:
        """The pool of an open-ended variable; an empty one where nothing has been added yet."""
        with self._lock:
            domain = self.check_domain(path, domain, "the pool")
            pool = self.pools.get(path)
            if pool is None:
                pool = self.pools[path] = Pool(path, domain)
            return pool

    def add_candidates(self, records: Sequence[PoolRecord]) -> None:
        """Stores candidates and reads back what the storage made of them."""
        self.storage.append_pool(self.record.id, records)
        with self._lock:
            added, end = self.storage.read_pool(self.record.id, self._pool_read)
            for record in added:
                self._add_candidate(record)
            self._pool_read = end

    def check_domain(self, path: str, domain: Domain[Any], where: str) -> Domain[Any]:
        """Notes the domain of a variable, or holds it against what other trials used.

        The bounds of a number may differ from trial to trial; what else a domain is may not, because the trials
        could not be compared. Gives back an equal domain: the one that other trials hold, where there is one.

        Raises:
            StudyError: when the domain does not go with what another trial used.
        """
        known, user = self.domains.setdefault(path, (domain, where))
        if known is domain or _equal(known, domain):
            return known
        if _go_together(known, domain):
            return domain
        raise StudyError(
            f"{path!r} is {known!r} in {user} and {domain!r} in {where}; within a study a name "
            f"keeps its domain. Give the new variable a name of its own, for example {path + '_2'!r}, or start "
            "another study"
        )


def _objective_views(view: StudyView) -> tuple[StudyView, ...]:
    return objective_views(view) if len(view.directions) > 1 else (view,)


def _equal(known: Domain[Any], new: Domain[Any]) -> bool:
    if type(known) is type(new) in (Float, Int):  # most are, and these compare fast
        return (known.low, known.high, known.log, known.step) == (new.low, new.high, new.log, new.step)  # type: ignore[attr-defined]
    return known == new


def _go_together(known: Domain[Any], new: Domain[Any]) -> bool:
    if type(known) is not type(new):
        return False
    if isinstance(known, Float | Int) and isinstance(new, Float | Int):
        return known.log == new.log
    return False
