"""The journal of a cache: what is appended by all, moved by anyone, and never lost or paid for twice."""

from __future__ import annotations

import concurrent.futures
import errno
import json
import math
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from dspex.cli import main
from dspex.data import Usage
from dspex.errors import StorageError
from dspex.lm import Cache, Completion, LMResponse, MockLM
from dspex.lm.cache_file import CacheFile
from dspex.lm.kept import Kept

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no journal")

NEVER = -math.inf


def response(text: str, model: str = "mock/mock") -> LMResponse:
    return LMResponse((Completion(text, "stop"),), Usage(calls=1), model, latency=0.5)


def put(file: CacheFile, key: str, text: str, created: float = 1.0, stale: float = NEVER) -> None:
    file.write(key, Kept.of(response(text), created), stale)


def got(file: CacheFile, key: str) -> str | None:
    row = file.read(key)
    if row is None:
        return None
    assert isinstance(row, Kept), row
    return row.response().text


def in_table(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT key, response FROM answers").fetchall()
    connection.close()
    return {key: Kept(json.loads(text), 0.0).response().text for key, text in rows}


def journals(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir() if file.name.endswith(("-recent", "-moving")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.db"


@pytest.fixture
def files(path: Path) -> Iterator[tuple[CacheFile, CacheFile]]:
    """Two that see one cache as two processes do."""
    pair = CacheFile(path), CacheFile(path)
    for one in pair:
        assert one.count() == 0
    yield pair
    for one in pair:
        one.close()
    assert journals(path) == []


Files = tuple[CacheFile, CacheFile]


def test_an_answer_is_seen_by_others_at_once_and_in_the_table_after_closing(path: Path, files: Files) -> None:
    one, other = files
    put(one, "k", 'a tab \t a line \n "quoted"')
    assert journals(path) == ["answers.db-recent"]
    assert in_table(path) == {}
    assert got(other, "k") == 'a tab \t a line \n "quoted"'
    one.close()
    assert (in_table(path), journals(path)) == ({"k": 'a tab \t a line \n "quoted"'}, [])
    assert got(other, "k") == 'a tab \t a line \n "quoted"'


def test_a_journal_that_grows_large_is_moved(path: Path, files: Files) -> None:
    one, other = files
    for number in range(700):
        put(one, str(number), "x" * 300)
    moved = in_table(path)
    assert list(moved) == [str(number) for number in range(len(moved))]  # in the order in which they were put
    assert 300 < len(moved) < 700
    assert (path.parent / "answers.db-recent").stat().st_size < 256_000
    assert {got(other, str(number)) for number in range(700)} == {"x" * 300}


def test_what_many_ask_for_is_moved_where_many_are_read_at_once(path: Path, files: Files) -> None:
    one, other = files
    for number in range(63):
        put(one, str(number), "x")
    assert all(got(other, str(number)) for number in range(63))
    assert not in_table(path)  # they are too few for that to pay
    put(one, "63", "x")
    assert got(other, "63")
    assert len(in_table(path)) == 64


def rows(path: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT key, response FROM answers ORDER BY rowid").fetchall()
    connection.close()
    return [(key, Kept(json.loads(text), 0.0).response().text) for key, text in found]


def test_what_each_has_put_lies_together_in_the_table(path: Path, files: Files) -> None:
    one, other = files
    for number in range(0, 8, 2):
        put(one, str(number), "one")
        put(other, str(number + 1), "other")
    one.close()
    assert rows(path) == [*((key, "one") for key in "0246"), *((key, "other") for key in "1357")]


def test_of_two_under_one_key_the_first_stays_whoever_put_more(path: Path, files: Files) -> None:
    one, other = files
    put(one, "a", "one")
    put(other, "b", "other")
    put(one, "b", "one, too late")
    one.close()
    assert rows(path) == [("a", "one"), ("b", "other")]


def test_anyone_moves_what_anyone_has_put(path: Path, files: Files) -> None:
    one, other = files
    put(one, "a", "1")
    put(other, "b", "2")
    assert other.count() == 2
    assert (in_table(path), journals(path)) == ({"a": "1", "b": "2"}, [])
    put(one, "c", "3")  # who did not know that it was moved
    put(other, "d", "4")
    assert [got(other, key) for key in "abcd"] == [got(one, key) for key in "abcd"] == list("1234")
    assert one.count() == 4


def test_the_first_answer_stays_wherever_it_is(path: Path, files: Files) -> None:
    one, other = files
    put(one, "k", "first")
    put(other, "k", "second")
    assert got(one, "k") == got(other, "k") == "first"
    assert one.count() == 1
    put(other, "k", "third")
    assert got(one, "k") == got(other, "k") == "first"
    other.close()
    assert in_table(path) == {"k": "first"}


def test_what_takes_the_place_of_another_does_so_wherever_that_is(path: Path, files: Files) -> None:
    one, other = files
    put(one, "moved", "old", created=1.0)
    put(one, "beside", "old", created=1.0)
    assert one.count() == 2
    put(one, "not moved", "old", created=1.0)
    for key in ("moved", "not moved"):
        put(other, key, "new", created=2.0, stale=math.inf)
        put(other, key, "too late", created=3.0, stale=1.5)
    assert got(one, "beside") == "old"  # and what is around it is read with it
    assert [got(one, key) for key in ("moved", "not moved")] == ["new", "new"]
    one.close()
    assert in_table(path) == {"moved": "new", "beside": "old", "not moved": "new"}


def test_clearing_trimming_and_counting_see_what_is_not_moved(path: Path, files: Files) -> None:
    one, other = files
    for number in range(4):
        put(one, str(number), "x", created=float(number))
    assert other.models() == [(4, "mock/mock", 0.0, 3.0)]
    put(one, "4", "x", created=4.0)
    assert [row["key"] for row in other.rows()] == list("01234")
    put(one, "5", "x", created=5.0)
    other.trim(10**9, until=1.0)
    assert [got(one, str(number)) for number in range(6)] == [None, None, "x", "x", "x", "x"]
    put(one, "6", "x", created=6.0)
    before = other.size()
    put(one, "7", "x", created=7.0)
    assert other.size() > before
    assert other.clear(before=6.5, model=None) == 5
    put(one, "8", "x", created=8.0)
    assert other.clear(math.inf, None) == 2
    assert journals(path) == []
    assert [got(one, str(number)) for number in range(9)] == [None] * 9


def test_limits_hold_for_what_is_not_moved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr("dspex.lm.cache.time.time", lambda: now)
    cache = Cache(path, max_age=100.0, memory_entries=1)
    cache.put("k", response("old"))
    cache._memory.clear()
    now += 101
    assert cache.get("k") is None
    cache.put("k", response("new"))
    cache._memory.clear()
    assert cache.get("k") == response("new")
    cache.put("k", response("newer"), replace=True)
    cache._memory.clear()
    assert cache.get("k") == response("newer")
    assert len(cache) == 1


# Writers that are killed, disks that are full or damaged.

KILLED = """
import os, signal, sys
from dspex.lm import Cache, Completion, LMResponse
from dspex.data import Usage
cache = Cache(sys.argv[1])
for number in range(3):
    cache.put(f"k{number}", LMResponse((Completion(f"answer {number}", "stop"),), Usage(calls=1), "mock/mock"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_after_three(path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert journals(path) == ["answers.db-recent"]


def test_what_a_process_has_put_that_is_killed_is_there(path: Path) -> None:
    killed_after_three(path)
    cache = Cache(path)
    assert [cache.get(f"k{number}").text for number in range(3)] == [f"answer {number}" for number in range(3)]
    cache.close()
    assert len(in_table(path)) == 3
    assert journals(path) == []


@pytest.mark.parametrize("command", ["stats", "export", "clear"])
def test_commands_see_what_a_process_has_put_that_is_killed(
    path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    killed_after_three(path)
    main(["cache", command, "--path", str(path)])
    printed = capsys.readouterr().out
    assert {
        "stats": "3 answers" in printed,
        "export": printed.count("\n") == 3,
        "clear": printed.startswith("3 answers deleted") and in_table(path) == {},
    }[command]
    assert journals(path) == []


@pytest.mark.parametrize("length", [1, 2, 30, 38, 60, -2, -1])
def test_a_line_that_was_not_written_to_its_end_is_none(path: Path, files: Files, length: int) -> None:
    one, other = files
    put(one, "a", "1")
    journal = path.parent / "answers.db-recent"
    torn = journal.read_bytes().replace(b'"a"', b'"torn"')[:length]
    with journal.open("ab") as file:
        file.write(torn)
    assert (got(one, "a"), got(other, "a"), got(other, "torn")) == ("1", "1", None)
    put(other, "b", "2")
    assert (got(one, "b"), got(one, "torn")) == ("2", None)
    assert one.count() == 2
    assert in_table(path) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("damage", [b"\0" * 20, b"\xff" * 20, b"\t" * 20, b"\n" * 20, b"[" * 20])
def test_a_damaged_line_is_none_and_leaves_the_others_as_they_are(path: Path, files: Files, damage: bytes) -> None:
    one, other = files
    for key in "abc":
        put(one, key, key)
    journal = path.parent / "answers.db-recent"
    text = journal.read_bytes()
    journal.write_bytes(b"".join([text[: text.index(b'["b"')], damage, text[text.index(b'["b"') + 20 :]]))
    assert [got(other, key) for key in "abc"] == ["a", None, "c"]
    assert other.count() == 2
    assert journals(path) == []


def test_an_answer_that_cannot_be_read_is_asked_for_again_and_replaced(path: Path) -> None:
    lm = MockLM(["0", "1"], cache=Cache(path))
    lm("?")
    journal = path.parent / "answers.db-recent"
    journal.write_bytes(journal.read_bytes().replace(b'"0"', b" 0 "))
    Cache._shared.pop(str(path))
    lm = MockLM(["0", "1"], cache=Cache(path))
    lm._player.answer(None, {})  # type: ignore[arg-type]  # so that the next is another
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        assert lm("?") == ["1"]
    Cache(path).close()
    assert list(in_table(path).values()) == ["1"]


def test_a_full_disk(path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = files
    put(one, "a", "1")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr("dspex.lm.cache_journal.os.write", lambda descriptor, line: write(descriptor, line[:40]))
        with pytest.raises(StorageError, match="No space left on device"):
            put(one, "b", "2")

        def refuse(descriptor: int, line: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr("dspex.lm.cache_journal.os.write", refuse)
        with pytest.raises(StorageError, match="No space left on device"):
            put(one, "c", "3")
        assert [got(other, key) for key in "abc"] == ["1", None, None]
    put(one, "d", "4")
    assert [got(each, key) for key in "abcd" for each in files] == ["1", "1", None, None, None, None, "4", "4"]
    assert one.count() == 2


def test_a_journal_that_cannot_be_moved_stays_and_says_so(path: Path) -> None:
    file = CacheFile(path)
    put(file, "a", "1")
    file._connection.execute("PRAGMA query_only = 1")  # type: ignore[union-attr]
    with pytest.raises(StorageError, match="attempt to write a readonly database"):
        file.count()
    assert got(file, "a") == "1"
    with pytest.warns(RuntimeWarning, match="stay in its journal for now: attempt to write a readonly database"):
        file.close()
    assert got(CacheFile(path), "a") == "1"
    assert in_table(path) == {"a": "1"}


def test_where_no_journal_can_be_made_it_is_a_warning(path: Path) -> None:
    cache = Cache(path)
    assert cache.get("k") is None
    (path.parent / "answers.db-recent").mkdir()
    with pytest.warns(RuntimeWarning, match="answers are not kept in the cache .*Is a directory"):
        cache.put("k", response("x"))
    assert cache.get("k") == response("x")
    (path.parent / "answers.db-recent").rmdir()


def test_who_may_not_read_the_cache_may_not_read_its_journal(path: Path) -> None:
    file = CacheFile(path)
    assert file.count() == 0
    path.chmod(0o600)
    put(file, "k", "x")
    assert (path.parent / "answers.db-recent").stat().st_mode & 0o777 == 0o600
    file.close()


# Those who move are killed too, at each step.


def renamed(file: CacheFile) -> None:
    file._journal.recent.rename(file._journal.moving)  # type: ignore[union-attr]


def closed(file: CacheFile) -> None:
    file._journal.take()  # type: ignore[union-attr]
    file._journal.leave()  # type: ignore[union-attr]


def committed(file: CacheFile) -> None:
    from dspex.lm.cache_file import _KEEP

    entries = file._journal.take()  # type: ignore[union-attr]
    file._connection.executemany(_KEEP, entries)  # type: ignore[union-attr, arg-type]
    file._journal.leave()  # type: ignore[union-attr]


@pytest.mark.parametrize("step", [renamed, closed, committed])
@pytest.mark.parametrize("by", [0, 1, 2])
def test_one_who_is_killed_while_he_moves_leaves_it_to_others(path: Path, files: Files, step: Any, by: int) -> None:
    one, other = files
    put(one, "a", "1")
    assert got(other, "a") == "1"
    step(files[by] if by < 2 else prepared(path))
    assert got(one, "a") == got(other, "a") == got(prepared(path), "a") == "1"
    put(other, "b", "2")
    put(one, "a", "another")
    put(one, "c", "3")
    third = prepared(path)
    assert [[got(file, key) for key in "abc"] for file in (one, other, third)] == [["1", "2", "3"]] * 3
    other.close()
    assert (in_table(path), journals(path)) == ({"a": "1", "b": "2", "c": "3"}, [])
    assert [[got(file, key) for key in "abc"] for file in (one, third)] == [["1", "2", "3"]] * 2


def test_who_is_late_to_delete_deletes_no_other_file(path: Path, files: Files) -> None:
    one, other = files
    put(one, "a", "1")
    assert one._journal.take()  # type: ignore[union-attr]
    assert other.count() == 1  # who goes on with it, and deletes it
    put(other, "b", "2")
    renamed(other)
    one._journal.remove()  # type: ignore[union-attr]
    assert journals(path) == ["answers.db-moving"]
    assert [got(file, "b") for file in (one, other, prepared(path))] == ["2"] * 3


def test_no_file_is_appended_to_before_the_one_before_it_is_closed(path: Path, files: Files) -> None:
    one, other = files
    put(one, "a", "1")
    renamed(one)  # and killed before it was closed
    third = prepared(path)
    put(third, "k", "first")
    put(one, "k", "second")  # who does not know any of that
    assert got(one, "k") == got(other, "k") == got(third, "k") == "first"
    other.close()
    assert in_table(path) == {"a": "1", "k": "first"}


def prepared(path: Path) -> CacheFile:
    """One that has just been opened, before anything is moved."""
    file = CacheFile(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CacheFile, "_try_to_move", lambda self: None)
        file._open()
    if file._journal is not None:
        file._journal.look()
    return file


def test_what_is_appended_behind_the_mark_goes_into_the_next(path: Path, files: Files) -> None:
    one, other = files
    put(one, "a", "1")
    put(other, "b", "2")
    taken = one._journal.take()  # type: ignore[union-attr]
    put(other, "c", "3")  # who has not seen that it was closed
    assert [entry[0] for entry in taken or ()] == ["a", "b"]
    assert journals(path) == ["answers.db-moving", "answers.db-recent"]
    assert [got(file, key) for key in "abc" for file in files] == ["1", "1", "2", "2", "3", "3"]


def test_a_cache_that_is_deleted_begins_anew(path: Path, files: Files) -> None:
    one, _ = files
    put(one, "a", "1")
    assert one.count() == 1
    for file in path.parent.iterdir():
        file.unlink()
    another = CacheFile(path)
    put(another, "b", "2")
    put(one, "c", "3")
    one.close()  # its connection is to the file that was deleted
    assert in_table(path) == {"b": "2", "c": "3"}
    assert got(another, "c") == "3"
    another.close()


# Processes.


def write_and_read(path: str, worker: int) -> dict[str, str]:
    """Runs in other processes: what they put overlaps, and it is moved all the time."""
    import dspex.lm.cache_file

    dspex.lm.cache_file._JOURNAL_BYTES = 2_000
    cache = Cache(path, memory_entries=1)
    seen = {}
    for number in range(120):
        key = f"key {number * (1 + worker % 3) % 120}"
        cache.put(key, response(f"{worker} {number}"))
        cache._memory.clear()
        found = cache.get(key)
        assert found is not None
        seen[key] = found.text
    return seen


def test_processes_agree_on_every_answer(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(8, mp_context=spawn) as pool:
        results = list(pool.map(write_and_read, [str(path)] * 8, range(8)))
    kept = {row["key"]: row["response"]["completions"][0]["text"] for row in Cache(path).rows()}
    assert len(kept) == 120
    assert all(kept[key] == text for result in results for key, text in result.items())
    Cache(path).close()
    assert journals(path) == []


def answer(path: str, mine: Any, others: Any, name: str) -> None:
    """Runs in another process: puts an answer, says so, and looks for the one that was said to it."""
    cache = Cache(path, memory_entries=1)
    missed = 0
    for number in range(300):
        cache.put(f"{name} {number}", response(name))
        mine.send(f"{name} {number}")
        missed += cache.get(others.recv()) is None
    sys.exit(missed)


def test_two_find_what_each_has_just_put_while_a_third_moves_it(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe(duplex=False) for _ in range(2)]
    (heard_by_b, told_by_a), (heard_by_a, told_by_b) = pipes
    workers = [
        spawn.Process(target=answer, args=(str(path), told_by_a, heard_by_a, "a")),
        spawn.Process(target=answer, args=(str(path), told_by_b, heard_by_b, "b")),
    ]
    for worker in workers:
        worker.start()
    for end in (*pipes[0], *pipes[1]):
        end.close()  # so that one ends when the other does
    third = CacheFile(path)
    while any(worker.is_alive() for worker in workers):
        third.count()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert third.count() == 600
    third.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_view_of_what_is_not_moved(path: Path) -> None:
    cache = Cache(path, memory_entries=1)
    cache.put("before", response("by the parent"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                cache.put("child", response("by the child"))
                cache.put("before", response("too late"))
                cache._memory.clear()
                status = 0 if cache.get("before") == response("by the parent") else 2
        finally:
            os._exit(status)  # as those of multiprocessing do: nothing is closed
    cache.put("parent", response("by the parent"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    cache._memory.clear()
    assert cache.get("child") == response("by the child")
    cache.close()
    assert in_table(path) == {"before": "by the parent", "child": "by the child", "parent": "by the parent"}


# Without a journal, and files without one.


def test_without_a_journal_answers_are_written_one_by_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dspex.lm.cache_file.sys.platform", "win32")
        file = CacheFile(path)
    assert file._journal is None
    put(file, "a", "1")
    put(file, "a", "another")
    put(file, "b", "1")
    put(file, "b", "2", created=2.0, stale=math.inf)
    assert in_table(path) == {"a": "1", "b": "2"}
    assert [got(file, key) for key in "abc"] == ["1", "2", None]
    assert file.count() == 2
    assert file.clear(math.inf, None) == 2
    file.close()


def test_a_file_from_before_there_were_journals(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE answers (key TEXT PRIMARY KEY, model TEXT NOT NULL, response TEXT NOT NULL, "
            "created REAL NOT NULL)"
        )
        connection.execute(f"PRAGMA application_id = {0x64737078}")
        connection.execute("PRAGMA user_version = 1")
        text = json.dumps(response("old").to_json())
        connection.execute("INSERT INTO answers VALUES ('k', 'mock/mock', ?, ?)", (text, time.time()))
    connection.close()
    file = CacheFile(path)
    assert got(file, "k") == "old"
    put(file, "k", "new")
    assert got(file, "k") == "old"
    file.close()


# Any order of events.

KEYS = st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 1), KEYS),
    st.tuples(st.just("replace"), st.integers(0, 1), KEYS),
    st.tuples(st.just("get"), st.integers(0, 1), KEYS),
    st.tuples(st.sampled_from(["count", "close", "clear", "reset", "move"]), st.integers(0, 1), st.none()),
    st.tuples(st.sampled_from(["renamed", "closed", "committed"]), st.integers(0, 1), st.none()),
    st.tuples(st.just("torn"), st.just(0), st.none()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_any_order_of_events_agrees_with_a_dict(steps: list[tuple[str, int, str | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.db"
        files = [CacheFile(path), CacheFile(path)]
        for file in files:
            file.count()
        expected: dict[str, str] = {}
        for number, (step, which, key) in enumerate(steps):
            file = files[which]
            recent, moving = path.with_name("answers.db-recent"), path.with_name("answers.db-moving")
            if step == "put":
                put(file, key, str(number), created=float(number))  # type: ignore[arg-type]
                expected.setdefault(key, str(number))  # type: ignore[arg-type]
            elif step == "replace":
                put(file, key, str(number), created=float(number), stale=math.inf)  # type: ignore[arg-type]
                expected[key] = str(number)  # type: ignore[index]
                # What was read ahead is not looked at again when another process takes its place.
                for each in files:
                    each._ahead.clear()
            elif step == "get":
                assert got(file, key) == expected.get(key)  # type: ignore[arg-type]
            elif step == "count":
                assert file.count() == len(expected)
            elif step == "clear":
                assert file.clear(math.inf, None) == len(expected)
                expected.clear()
                for each in files:
                    each._ahead.clear()
            elif step == "close":
                opened = file._connection is not None
                file.close()
                assert not opened or in_table(path) == expected
            elif step == "move":
                file._try_to_move()
            elif step == "reset":
                file.reset()  # as in a forked child
            elif step == "torn":
                if recent.exists():
                    with recent.open("ab") as torn:
                        torn.write(b'\n["a","mock/mock",5.0,-Inf')
            elif recent.exists() and not moving.exists():
                file._connection or file._open()
                if recent.exists():
                    {"renamed": renamed, "closed": closed, "committed": committed}[step](file)
        for file in files:
            assert {key: got(file, key) for key in "abc" if got(file, key)} == expected
        for file in files:
            file.close()
        assert in_table(path) == expected
        assert journals(path) == []
