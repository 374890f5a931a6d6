"""What a study is kept in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.trials import AttrRecord, FrozenTrial, PoolRecord, StudyDirection, StudyRecord, TrialState

__all__ = ["Storage"]


class Storage(ABC):
    """Keeps studies: their trials, their evaluations, the candidates of their pools.

    A storage decides nothing. It numbers trials, orders what arrives, and refuses what would change something
    final; what a trial *means* is the study's business.

    **Threads and processes.** Every method may be called from any thread at any time, and from several
    processes when the storage outlives one (`shared` is true). Each call is atomic: it happened as a whole
    when it returns, not at all when it raises, and a reader sees either all of it or nothing. What a call wrote
    outlives the process when it returns; evaluations, candidates and finished trials outlive a power failure too.
    The trial of one `update_trial` belongs to one process at a time: the one that created or claimed it.

    **Cursors.** The `read_...` methods return what arrived or changed after a cursor, in the order in which
    it did, and the next cursor; 0 reads everything. A reader that keeps its cursor misses nothing and reads
    no change twice.

    Each backend passes the suite in `dspex.testing.storage`. All methods that take a ``study_id`` raise
    `StudyError` when there is no such study, and `StorageError` when the backend fails.
    """

    @property
    @abstractmethod
    def shared(self) -> bool:
        """Whether other processes can open it, so that an owner may die while its trials stay."""

    # Studies

    @abstractmethod
    def create_study(
        self, name: str, directions: Sequence[StudyDirection], *, space: Mapping[str, Any] | None = None
    ) -> StudyRecord:
        """Adds a study; ``space`` is `Space.to_json()`.

        Raises:
            StudyError: when the name is taken.
        """

    @abstractmethod
    def studies(self) -> list[StudyRecord]:
        """All studies, in the order in which they were created."""

    @abstractmethod
    def get_study(self, name: str) -> StudyRecord:
        """The study of that name.

        Raises:
            StudyError: when there is none; the message lists the names there are.
        """

    @abstractmethod
    def delete_study(self, study_id: int) -> None:
        """Removes a study and everything in it."""

    @abstractmethod
    def set_space(self, study_id: int, space: Mapping[str, Any]) -> None:
        """Declares the study's space, or replaces it."""

    # Attributes

    @abstractmethod
    def set_study_attr(self, study_id: int, kind: Literal["user", "system"], key: str, value: Any) -> None:
        """Sets one attribute of a study to a plain value; it costs the same however many there are."""

    @abstractmethod
    def swap_study_attr(
        self, study_id: int, kind: Literal["user", "system"], key: str, value: Any, *, expected: Any
    ) -> bool:
        """Sets one attribute if its value is ``expected``, where ``None`` is one that was never set; whether it was.

        Of several callers that expect the same, one succeeds.
        """

    @abstractmethod
    def read_study_attrs(self, study_id: int, cursor: int = 0) -> tuple[list[AttrRecord], int]:
        """The attributes that were set after ``cursor``, in the order in which each was last set."""

    # Trials

    @abstractmethod
    def append_trials(self, study_id: int, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Adds trials and returns them with the numbers they got: 0, 1, 2, ... without gaps."""

    @abstractmethod
    def claim_waiting(self, study_id: int, owner: str, at: datetime) -> FrozenTrial | None:
        """Turns the waiting trial with the smallest number into one that ``owner`` runs since ``at``; or ``None``.

        Two callers never get the same trial.
        """

    @abstractmethod
    def update_trial(self, study_id: int, trial: FrozenTrial, *, expected: TrialState) -> None:
        """Replaces the trial with this number, if it still is in the state ``expected``.

        Raises:
            StudyError: when it is in another state, or does not exist; nothing is written then.
        """

    @abstractmethod
    def read_trials(self, study_id: int, cursor: int = 0) -> tuple[list[FrozenTrial], int]:
        """The trials that changed after ``cursor``, in the order of each one's last change."""

    # Evaluations

    @abstractmethod
    def append_evaluations(self, study_id: int, rows: Sequence[Evaluation]) -> None:
        """Adds rows to the ledger: all of them or none.

        Raises:
            StudyError: when (trial, fingerprint, example, rollout) of a row has been measured already; a
                failed row does not count as measured.
        """

    @abstractmethod
    def read_evaluations(self, study_id: int, cursor: int = 0) -> tuple[list[Evaluation], int]:
        """The rows that were added after ``cursor``, in order."""

    # Pools

    @abstractmethod
    def append_pool(self, study_id: int, items: Sequence[PoolRecord]) -> None:
        """Adds candidates of open-ended variables; one whose path and id are known is left as it is."""

    @abstractmethod
    def read_pool(self, study_id: int, cursor: int = 0) -> tuple[list[PoolRecord], int]:
        """The candidates that were added after ``cursor``, in order."""

    # Owners

    @abstractmethod
    def beat(self, owner: str, now: float) -> None:
        """Notes that ``owner`` was alive at ``now`` (seconds since the epoch)."""

    @abstractmethod
    def last_beat(self, owner: str) -> float | None:
        """When ``owner`` was last known to be alive, or ``None``."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of files and connections. Reading or writing afterwards opens them again."""


def name_taken(name: str) -> StudyError:
    return StudyError(
        f"there is a study named {name!r} already. Go on with it by create_study(study_name={name!r}, "
        "load_if_exists=True), or remove it with delete_study"
    )


def unknown_study(name: str, names: Sequence[str]) -> StudyError:
    return StudyError(f"there is no study named {name!r} in this storage; there are: {_listed(names)}")


def deleted_study(study_id: int, name: str | None, names: Sequence[str]) -> StudyError:
    study = f"the study with the id {study_id}" if name is None else f"study {name!r}"
    return StudyError(f"{study} was deleted from this storage; there are: {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) if names else "none at all"


def unknown_trial(number: int, count: int) -> StudyError:
    return StudyError(f"there is no trial {number}; the study has {count} trials")


def not_in_state(number: int, found: TrialState, expected: TrialState) -> StudyError:
    if found.is_finished:
        return StudyError(
            f"trial {number} has finished already ({found.name}), and a finished trial is final. "
            "Ask for another one with study.ask()"
        )
    return StudyError(f"trial {number} is {found.name}, not {expected.name}")
