"""SQLite: the suite, agreement with the in-memory storage, processes, damage."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import sqlite3
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, settings

from dspex.data import Evaluation
from dspex.errors import StorageError, StudyError
from dspex.storage import SQLStorage, Storage, get_storage, sql_statements as sql
from dspex.testing.storage import StorageSuite, agreement
from dspex.trials import FrozenTrial, StudyDirection, TrialState

MINIMIZE = [StudyDirection.MINIMIZE]


class TestSQLite(StorageSuite):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def open(self) -> Storage:
        return SQLStorage(f"sqlite:///{self.directory}/study.db")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def test_it_agrees_with_the_in_memory_storage(tmp_path: Path) -> None:
    count = 0

    def make() -> Storage:
        nonlocal count
        count += 1
        return SQLStorage(f"sqlite:///{tmp_path}/{count}.db")

    case = agreement(make).TestCase
    case.settings = settings(
        max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    case("runTest").runTest()


def test_a_second_handle_sees_what_the_first_wrote(url: str) -> None:
    first, second = SQLStorage(url), SQLStorage(url)
    study = first.create_study("one", MINIMIZE)
    first.append_trials(study.id, [FrozenTrial(number=-1, state=TrialState.RUNNING)])
    trials, cursor = second.read_trials(second.get_study("one").id)
    assert [trial.number for trial in trials] == [0]
    first.update_trial(study.id, attrs.evolve(trials[0], state=TrialState.FAIL), expected=TrialState.RUNNING)
    assert [trial.state for trial in second.read_trials(study.id, cursor)[0]] == [TrialState.FAIL]


def _record(url: str, worker: int, rows: int) -> None:
    storage = SQLStorage(url)
    study = storage.get_study("one")
    for index in range(rows):
        trial = storage.append_trials(study.id, [FrozenTrial(number=-1, state=TrialState.RUNNING)])[0]
        row = Evaluation(example_id=f"{worker}-{index}", status="ok", trial=trial.number, fingerprint="f")
        storage.append_evaluations(study.id, [row])
        with contextlib.suppress(StudyError):
            storage.append_evaluations(study.id, [Evaluation(example_id=f"shared-{index}", status="ok")])
        storage.update_trial(study.id, attrs.evolve(trial, state=TrialState.FAIL), expected=TrialState.RUNNING)


def test_four_processes_write_at_once(url: str) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_record, args=(url, worker, 10)) for worker in range(4)]
    for process in workers:
        process.start()
    # Read along meanwhile: a cursor must not miss what is committed out of sight.
    seen: list[str] = []
    numbers: set[int] = set()
    rows_cursor = trials_cursor = 0
    while any(process.is_alive() for process in workers):
        rows, rows_cursor = storage.read_evaluations(study.id, rows_cursor)
        seen += [row.example_id for row in rows]
        trials, trials_cursor = storage.read_trials(study.id, trials_cursor)
        numbers |= {trial.number for trial in trials}
    for process in workers:
        process.join()
        assert process.exitcode == 0
    rows, _ = storage.read_evaluations(study.id, rows_cursor)
    trials, _ = storage.read_trials(study.id, trials_cursor)
    seen += [row.example_id for row in rows]
    assert len(seen) == len(set(seen)) == 4 * 10 + 10
    assert numbers | {trial.number for trial in trials} == set(range(40))
    assert {trial.state for trial in storage.read_trials(study.id)[0]} == {TrialState.FAIL}


def _create(url: str, index: int) -> None:
    SQLStorage(url).create_study(f"study-{index}", MINIMIZE)


def test_three_processes_create_the_file_at_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_create, args=(url, index)) for index in range(3)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0] * 3
    assert {record.name for record in SQLStorage(url).studies()} == {f"study-{index}" for index in range(3)}


def _append_and_die(url: str) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    storage.append_evaluations(study.id, [Evaluation(example_id="paid", status="ok")])
    os._exit(9)


def test_what_was_appended_outlives_a_killed_process(url: str) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_append_and_die, args=(url,))
    process.start()
    process.join()
    assert process.exitcode == 9
    storage = SQLStorage(url)
    assert [row.example_id for row in storage.read_evaluations(storage.get_study("one").id)[0]] == ["paid"]


def test_it_survives_a_fork(url: str) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    pid = os.fork()
    if pid == 0:
        try:
            storage.append_evaluations(study.id, [Evaluation(example_id="child", status="ok")])
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    storage.append_evaluations(study.id, [Evaluation(example_id="parent", status="ok")])
    assert {row.example_id for row in storage.read_evaluations(study.id)[0]} == {"child", "parent"}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_what_other_threads_are_writing(url: str) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    writing, forked = threading.Event(), threading.Event()

    def write() -> None:
        with storage._database.write(durable=False):
            writing.set()
            forked.wait(0.2)

    writer = threading.Thread(target=write)
    writer.start()
    writing.wait()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            storage.append_evaluations(study.id, [Evaluation(example_id="child", status="ok")])
            status = len(SQLStorage(url).read_evaluations(study.id)[0]) - 1
        finally:
            os._exit(status)
    forked.set()
    writer.join()
    assert os.waitpid(pid, 0)[1] == 0
    storage.append_evaluations(study.id, [Evaluation(example_id="parent", status="ok")])


def test_many_transactions_at_once(url: str) -> None:
    storage = SQLStorage(url)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(storage._database.read()) for _ in range(20)]
        assert len({id(connection.connection.dbapi_connection) for connection in connections}) == 20


@pytest.mark.parametrize("writes", [True, False])
def test_an_interrupt_in_the_middle_of_a_query_keeps_nobody_out(url: str, writes: bool) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    storage.append_evaluations(study.id, [Evaluation(example_id=f"e{index}", status="ok") for index in range(3)])
    database = storage._database
    results: list[Any] = []  # as a traceback may hold them

    def query() -> None:
        with database.write(durable=False) if writes else database.read() as connection:
            if writes:
                storage._next_revision(connection, study.id)
            results.append(connection.execute(sql.READ_EVALUATIONS, {"study": study.id, "cursor": 0}))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        query()
    SQLStorage(url).append_evaluations(study.id, [Evaluation(example_id="another's", status="ok")])
    storage.append_evaluations(study.id, [Evaluation(example_id="mine", status="ok")])
    assert len(storage.read_evaluations(study.id)[0]) == 5
    assert results


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_deleted_while_it_is_in_use_is_not_written_to(url: str, tmp_path: Path, replaced: bool) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    storage.append_evaluations(study.id, [Evaluation(example_id="e1", status="ok")])
    for file in tmp_path.iterdir():
        file.rename(f"{file}.away")
    if replaced:
        SQLStorage(url).create_study("another", MINIMIZE)
    with pytest.raises(StorageError, match=r"deleted or replaced while this process had it open.*copy_study"):
        storage.append_evaluations(study.id, [Evaluation(example_id="e2", status="ok")])
    assert [row.example_id for row in storage.read_evaluations(study.id)[0]] == ["e1"]
    for file in list(tmp_path.glob("*.away")):
        file.rename(str(file).removesuffix(".away"))
    storage.append_evaluations(study.id, [Evaluation(example_id="e2", status="ok")])
    assert [row.example_id for row in SQLStorage(url).read_evaluations(study.id)[0]] == ["e1", "e2"]


def test_a_file_that_may_only_be_read(url: str, tmp_path: Path) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    storage.close()
    reading = SQLStorage(f"sqlite:///file:{url.removeprefix('sqlite:///')}?mode=ro&uri=true")
    assert [record.name for record in reading.studies()] == ["one"]
    with pytest.raises(StorageError, match=r"cannot be written.*copy it to another directory"):
        reading.append_evaluations(study.id, [Evaluation(example_id="e1", status="ok")])


def test_it_pickles_as_its_url(url: str) -> None:
    storage = SQLStorage(url)
    storage.create_study("one", MINIMIZE)
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.get_study("one") == storage.get_study("one")
    assert repr(copy) == f"SQLStorage({url!r})"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_text("this is no database, but it is long enough to have a header" * 50)
    with pytest.raises(StorageError, match=r"study\.db is damaged or is no study file .*Restore it from a copy"):
        SQLStorage(f"sqlite:///{path}")


def test_a_file_that_was_cut_short(url: str, tmp_path: Path) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    storage.append_evaluations(study.id, [Evaluation(example_id=f"{i:03}" * 50, status="ok") for i in range(200)])
    storage.close()
    path = tmp_path / "study.db"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(StorageError, match=r"study\.db is damaged"):
        SQLStorage(url).read_evaluations(study.id)


def test_a_row_that_was_tampered_with(url: str, tmp_path: Path) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    storage.append_trials(study.id, [FrozenTrial(number=-1, state=TrialState.RUNNING)])
    storage.close()
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute('UPDATE dspex_trials SET data = \'{"state": "RUNN\'')
    with pytest.raises(StorageError, match=r"trial 0 cannot be read back: JSONDecodeError"):
        SQLStorage(url).read_trials(study.id)
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE dspex_trials SET data = '{}'")
    with pytest.raises(StorageError, match=r"trial 0 cannot be read back: KeyError: 'distributions'"):
        SQLStorage(url).read_trials(study.id)


def test_a_file_of_a_newer_version(url: str, tmp_path: Path) -> None:
    SQLStorage(url).close()
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE dspex_meta SET value = '99'")
    with pytest.raises(StorageError, match=r"its tables are version 99, this one reads version 2.*Upgrade dspex"):
        SQLStorage(url)


def test_a_file_of_an_older_version_is_left_as_it_is(url: str, tmp_path: Path) -> None:
    SQLStorage(url).close()
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE dspex_meta SET value = '1'")
        connection.execute("DROP TABLE dspex_attributes")
    connection.close()
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(StorageError, match=r"its tables are version 1, this one reads version 2"):
        SQLStorage(url)
    assert (tmp_path / "study.db").read_bytes() == before


@pytest.mark.parametrize("tables", [["studies"], ["studies", "trials", "alembic_version", "trial_values"]])
def test_another_programs_file_is_left_as_it_is(url: str, tmp_path: Path, tables: list[str]) -> None:
    with sqlite3.connect(tmp_path / "study.db") as connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table} (id INTEGER)")
    connection.close()
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(StorageError, match=r"study\.db is another program's database .*studies.*file of its own"):
        SQLStorage(url)
    assert (tmp_path / "study.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]


def test_an_empty_file_becomes_a_study_file(url: str, tmp_path: Path) -> None:
    (tmp_path / "study.db").touch()
    assert SQLStorage(url).studies() == []


def test_setting_an_attribute_costs_the_same_however_many_there_are(url: str, tmp_path: Path) -> None:
    storage = SQLStorage(url)
    study = storage.create_study("one", MINIMIZE)
    written: list[int] = []
    log = tmp_path / "study.db-wal"
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection:
        for number in range(60):
            storage.set_study_attr(study.id, "user", f"key-{number}", "x" * 2000)
            written.append(log.stat().st_size)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert max(written[30:]) <= 2 * max(written[:10]), "as many bytes go to the disk for the last as for the first"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be opened .*Does its directory exist"):
        SQLStorage(f"sqlite:///{tmp_path}/nowhere/study.db")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (
            "study.db",
            r"storage must be a URL, got 'study\.db' \(str\)\. For a file write storage='sqlite:///study\.db'",
        ),
        ("sqlite://", r"'sqlite://' names no file"),
        ("sqlite:///:memory:", r"names no file.*storage=None to keep the study in memory"),
        ("nosuchdb://host/x", r"there is no database called 'nosuchdb'"),
        (3, r"storage must be a URL such as 'sqlite:///study\.db', got 3 \(int\)"),
        (Path("study.db"), r"write storage='sqlite:///study\.db'"),
    ],
)
def test_what_is_no_storage(storage: object, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        get_storage(storage)  # type: ignore[arg-type]


def test_a_password_is_not_shown() -> None:
    with pytest.raises(StorageError) as caught:
        SQLStorage("postgresql+nosuchdriver://me:secret@localhost/x")
    assert "secret" not in str(caught.value)
