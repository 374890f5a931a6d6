"""The cache: SQLite and JSON, shared by threads and processes, loud when it is damaged."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import sqlite3
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from dspex.data import Example, Usage
from dspex.errors import DefinitionError, LMAuthError, ReplayMissError, StorageError
from dspex.evaluate import Evaluate
from dspex.execution import context, map_threads, track_usage
from dspex.lm import LM, BaseLM, Cache, Completion, LMRequest, LMResponse, MockLM
from dspex.lm.cache import default_cache
from dspex.lm.cache_file import CacheFile
from dspex.modules import Predict


def response(text: str, **usage: Any) -> LMResponse:
    return LMResponse((Completion(text, "stop"),), Usage(calls=1, **usage), "mock/mock", latency=0.5)


def forget(cache: Cache) -> None:
    """What another process would see."""
    cache._memory.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "answers.db"


@pytest.mark.parametrize("text", ["ü\n☃", "\U0001f600", "half a pair: \ud83d"])
def test_what_is_put_is_got_from_memory_and_from_the_file(path: Path, text: str) -> None:
    cache = Cache(path)
    answer = response(text, prompt_tokens=3, completion_tokens=2, cost=None)
    assert cache.get("k") is None
    cache.put("k", answer)
    assert cache.get("k") == answer
    forget(cache)
    assert cache.get("k") == answer
    assert "k" in cache
    assert "other" not in cache
    assert 3 not in cache
    assert len(cache) == 1


def test_entries_are_immutable(path: Path) -> None:
    cache = Cache(path)
    cache.put("k", response("first"))
    cache.put("k", response("second"))
    assert cache.get("k") == response("first")
    forget(cache)
    assert cache.get("k") == response("first")


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_is_done_with_an_answer_does_not_change_the_entry(path: Path, on_disk: bool) -> None:
    def answer() -> LMResponse:
        call = {"id": "1", "name": "look", "arguments": "{}"}
        return LMResponse((Completion("Paris", tool_calls=(call,)), Completion("Oslo")), Usage(calls=1), "mock/mock")

    def spoil(given: LMResponse | None) -> None:
        assert given == answer()
        given.completions[0].tool_calls[0]["arguments"] = "[]"
        given.completions[1].text = "London"
        given.usage.calls = 7

    cache = Cache(path if on_disk else None)
    given = answer()
    cache.put("k", given)
    spoil(given)
    spoil(cache.get("k"))
    if on_disk:
        forget(cache)
        spoil(cache.get("k"))
    assert cache.get("k") == answer()


def test_the_file_is_sql_and_json(path: Path) -> None:
    Cache(path).put("k", response("hi", cost=0.25))
    Cache(path).close()
    with sqlite3.connect(path) as connection:
        ((key, model, text),) = connection.execute("SELECT key, model, response FROM answers").fetchall()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert (key, model) == ("k", "mock/mock")
    assert json.loads(text) == ["mock/mock", 0.5, {"calls": 1, "known_cost": 0.25}, "hi", "stop"]


def test_the_memory_is_bounded_and_keeps_what_was_used_last(path: Path) -> None:
    cache = Cache(path, memory_entries=3)
    for number in range(3):
        cache.put(str(number), response(str(number)))
    cache.get("0")
    cache.put("3", response("3"))
    assert list(cache._memory) == ["2", "0", "3"]
    assert cache.get("1") == response("1")  # from the file, and into memory again
    assert list(cache._memory) == ["0", "3", "1"]


def test_memory_only() -> None:
    cache = Cache()
    cache.put("k", response("x"))
    assert cache.get("k") == response("x")
    assert (len(cache), cache.path, repr(cache)) == (1, None, "Cache()")
    cache.clear()
    assert cache.get("k") is None
    assert bool(cache)
    cache.close()


def test_one_path_is_one_cache(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    monkeypatch.chdir(path.parent)
    assert Cache(path) is Cache(str(path)) is Cache("answers.db")
    assert Cache() is not Cache()
    assert pickle.loads(pickle.dumps(Cache(path))) is Cache(path)
    assert repr(Cache(path)) == f"Cache({str(path)!r})"


def test_the_default_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_cache().path == tmp_path / "cache" / "cache.db"
    monkeypatch.delenv("DSPEX_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache().path == tmp_path / "home" / ".cache" / "dspex" / "cache.db"
    lm = MockLM(["x"], cache=True)
    lm("?")
    assert (tmp_path / "home" / ".cache" / "dspex" / "cache.db").exists()
    assert MockLM(["x"]).cache is None
    mine = Cache()
    assert MockLM(["x"], cache=mine).cache is mine


def test_clearing_and_closing(path: Path) -> None:
    cache = Cache(path)
    cache.put("k", response("x"))
    cache.close()
    cache.close()
    forget(cache)
    assert cache.get("k") == response("x")  # it opens again
    cache.clear()
    assert cache.get("k") is None
    assert len(cache) == 0


def test_threads_share_it(path: Path) -> None:
    cache = Cache(path, memory_entries=5)

    def work(number: int) -> bool:
        key = str(number % 40)
        if cache.get(key) is None:
            cache.put(key, response(key))
        return cache.get(key) == response(key)

    assert all(map_threads(work, range(400), concurrency=8))
    assert len(cache) == 40


class Clock:
    """The time as the cache sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1e9
        monkeypatch.setattr("dspex.lm.cache.time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("on_disk", [True, False])
def test_answers_that_are_too_old_are_asked_for_again(path: Path, clock: Clock, on_disk: bool) -> None:
    cache = Cache(path if on_disk else None, max_age=100.0)
    cache.put("k", response("old"))
    clock.now += 99
    assert cache.get("k") == response("old")
    cache.put("k", response("too early"))
    clock.now += 2
    assert cache.get("k") is None
    cache.put("k", response("new"))
    assert cache.get("k") == response("new")
    if on_disk:
        forget(cache)
        assert cache.get("k") == response("new")
        clock.now += 101
        forget(cache)
        assert cache.get("k") is None


def test_a_file_makes_room_for_new_answers_by_the_oldest(path: Path, clock: Clock) -> None:
    cache = Cache(path, max_bytes=300_000)
    for number in range(1000):
        clock.now += 1
        cache.put(f"{number:04}", response("x" * 1000))
    kept = [row["key"] for row in cache.rows()]
    assert 100 < len(kept) < 200
    assert kept == [f"{number:04}" for number in range(1000 - len(kept), 1000)]
    cache.close()
    assert path.stat().st_size <= 300_000


def test_a_file_that_is_too_large_when_it_gets_a_limit(path: Path, clock: Clock) -> None:
    for number in range(300):
        clock.now += 1
        Cache(path).put(str(number), response("x" * 1000))
    limited = Cache(path, max_bytes=100_000, max_age=50.0)
    assert limited is Cache(path)
    limited.put("last", response("x"))
    assert len(limited) <= 51
    assert pickle.loads(pickle.dumps(limited)).max_bytes == 100_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_bytes": 0}, "max_bytes must be more than 0, or None for no limit, not 0"),
        ({"max_age": True}, "max_age must be more than 0, or None for no limit, not True"),
        ({"max_bytes": 5}, "max_bytes=5 limits a file, and this cache has none"),
    ],
)
def test_limits_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Cache(**options)


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_is_in_it(path: Path, clock: Clock, on_disk: bool) -> None:
    cache = Cache(path if on_disk else None)
    for key, model in (("b", "m/one"), ("a", "m/two"), ("c", "m/two")):
        clock.now += 10
        cache.put(key, LMResponse((Completion(key),), Usage(calls=1), model))
    stats = cache.stats()
    assert (stats["entries"], stats["models"]) == (3, {"m/two": 2, "m/one": 1})
    assert stats["newest"] - stats["oldest"] == 20
    assert (stats["bytes"] > 0) is on_disk
    assert [(row["key"], row["response"]["completions"]) for row in cache.rows()] == [
        (key, [{"text": key}]) for key in "bac"
    ]
    assert cache.clear(model="m/one") == 1
    assert cache.clear(older_than=5) == 1
    assert [row["key"] for row in cache.rows()] == ["c"]
    assert cache.clear() == 1
    assert cache.stats()["entries"] == 0


# What a call does with it.


def asked(policy: str | None, lm: MockLM, prompt: str = "?") -> str:
    return lm(prompt, cache=policy)[0]


def numbered(**options: Any) -> MockLM:
    numbers = iter(range(100))
    return MockLM(lambda messages: str(next(numbers)), **options)


def test_what_is_put_or_cleared_while_one_looks_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.lm.cache_file._PAGE", 2)
    cache = Cache(path)
    for key in "abcd":
        cache.put(key, response(key))
    seen = []
    for row in cache.rows():
        seen.append(row["key"])
        cache.put(f"later-{len(seen)}", response("new"))
    assert seen == list("abcd")
    seen = []
    for row in cache.rows():
        seen.append(row["key"])
        cache.clear()
    assert seen == ["a", "b"]


def test_policies_of_a_call(path: Path) -> None:
    lm = numbered(cache=Cache(path))
    assert [asked("read", lm), asked("read", lm)] == ["0", "1"]  # looked up, and not kept
    assert [asked("off", lm), asked("on", lm), asked("off", lm)] == ["2", "3", "4"]
    assert asked("read", lm) == asked(None, lm) == asked("replay", lm) == "3"
    assert [asked("write", lm), asked(None, lm)] == ["5", "3"]  # asked, and the first answer stays
    assert [asked("refresh", lm), asked(None, lm)] == ["6", "6"]
    forget(lm.cache)  # type: ignore[arg-type]
    assert asked(None, lm) == "6"
    assert [asked("write", lm, "new"), asked(None, lm, "new")] == ["7", "7"]


def test_policies_of_a_model_of_a_context_and_of_all(path: Path) -> None:
    lm = numbered(cache="refresh")
    assert [lm("?"), lm("?"), lm("?", cache="on")] == [["0"], ["1"], ["1"]]
    with context(cache="on"):
        assert lm("?") == ["1"]
        assert lm("?", cache="off") == ["2"]
        with context(cache="off"):
            assert lm("?") == ["3"]
    assert lm.to_json()["cache"] == "refresh"
    assert lm.copy().cache_policy == "refresh"
    with pytest.raises(DefinitionError, match=r"cache must be one of 'on', 'read', .* not 'always'"):
        lm("?", cache="always")
    with pytest.raises(DefinitionError, match="cache must be one of"), context(cache="always"):
        pass


def test_a_rollout_is_an_entry_of_its_own_and_a_policy_is_none(path: Path) -> None:
    lm = numbered(cache=Cache(path))
    assert [lm("?", rollout_id=1), lm("?", rollout_id=2), lm("?", rollout_id=1)] == [["0"], ["1"], ["0"]]
    assert lm.key(LMRequest.of("?", cache="refresh")) == lm.key(LMRequest.of("?"))


def test_rollout_0_is_the_one_of_calls_that_name_none() -> None:
    predict = Predict("question -> answer", lm=MockLM(lambda messages: {"answer": f"{messages}"}, cache=Cache()))
    predict(question="?")
    assert predict(question="?", config={"rollout_id": 0}).usage.cached_calls == 1
    assert predict(question="?", config={"rollout_id": 1}).usage.cached_calls == 0
    first = MockLM(["a"], rollout_id=1)
    assert first.copy(rollout_id=0).key(LMRequest.of("?")) == MockLM(["a"]).key(LMRequest.of("?"))
    assert first.key(LMRequest.of("?")) != MockLM(["a"]).key(LMRequest.of("?"))


@pytest.mark.parametrize("how", ["generate", "agenerate", "stream"])
def test_replay_asks_nobody(path: Path, how: str) -> None:
    def ask(lm: MockLM, prompt: str) -> LMResponse:
        request = LMRequest.of(prompt)
        if how == "generate":
            return lm.generate(request)
        if how == "agenerate":
            return asyncio.run(lm.agenerate(request))
        return list(lm.stream(request))[-1]  # type: ignore[return-value]

    lm = numbered(cache=Cache(path), price=(1.0, 1.0))
    paid = ask(lm, "?")
    with context(cache="replay"), track_usage() as usage:
        again = ask(lm, "?")
        assert (again.completions, again.latency) == (paid.completions, paid.latency)
        with pytest.raises(ReplayMissError, match=r"there is no answer to replay for this call of mock/mock \(key "):
            ask(lm, "another")
        with pytest.raises(ReplayMissError, match="mock/mock has no cache to replay from"):
            ask(MockLM(["x"]), "?")
    assert len(lm.calls) == 1
    assert (usage.total.cost, usage.total.saved_cost, usage.total.cached_calls) == (0.0, paid.usage.cost, 1)


def test_a_replay_that_misses_stops_an_evaluation(path: Path) -> None:
    devset = [Example(question=str(number), answer="0").with_inputs("question") for number in range(3)]
    program = Predict("question -> answer", lm=MockLM({"": {"answer": "0"}}, cache=Cache(path)))
    metric = lambda example, prediction: example.answer == prediction.answer  # noqa: E731 - one line says it
    paid = Evaluate(devset[:2], metric, progress=False)(program)
    with context(cache="replay"):
        assert Evaluate(devset[:2], metric, progress=False)(program).score == paid.score == 1.0
        with pytest.raises(ReplayMissError):
            Evaluate(devset, metric, progress=False)(program)


def test_a_replay_finds_what_a_fallback_answered(path: Path) -> None:
    cache = Cache(path)
    lm = MockLM(
        ["from a"],
        model="mock/a",
        failures=[LMAuthError],
        cache=cache,
        fallbacks=[MockLM(["x"], model="mock/b"), MockLM(["from c"], model="mock/c", cache=cache)],
    )
    lm.fallbacks[0]._failure = lambda number: LMAuthError("no")  # type: ignore[attr-defined]
    assert lm("?") == ["from c"]
    assert lm("?", cache="replay") == ["from c"]
    assert len(lm.calls) == 1
    with pytest.raises(ReplayMissError, match="mock/a"):
        lm("another", cache="replay")


def test_a_key_says_what_it_is_made_of() -> None:
    lm = LM("openai/gpt-4o-mini", api_key="sk-canary-key-0001", temperature=0.5, timeout=3)
    request = LMRequest.of("hi", max_tokens=5, rollout_id=2)
    explained = lm.explain_key(request)
    assert explained["key"] == lm.key(request) == hashlib.sha256(explained["hashed"].encode()).hexdigest()
    assert explained["model"] == {"model": "openai/gpt-4o-mini"}
    assert explained["params"] == {"max_tokens": 5, "temperature": 0.5}
    assert explained["messages"] == [{"role": "user", "content": "hi"}]
    assert explained["rollout_id"] == 2
    assert "sk-canary-key-0001" not in json.dumps(explained)
    assert "timeout" not in json.dumps(explained)


def write_and_read(path: str, worker: int) -> list[str]:
    """Runs in other processes: everybody writes the same keys, and reads what the first has written."""
    cache = Cache(path)
    seen = []
    for number in range(60):
        key = str(number)
        cache.put(key, response(f"{worker} {number}"))
        cache._memory.clear()
        found = cache.get(key)
        assert found is not None
        seen.append(found.text)
    return seen


def test_processes_share_it_from_its_first_moment(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(8, mp_context=spawn) as pool:
        results = list(pool.map(write_and_read, [str(path)] * 8, range(8)))
    # Whoever wrote an entry first, all of them read the same.
    assert all(result == results[0] for result in results)
    assert len(Cache(path)) == 60


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_connection_and_locks_of_its_own(path: Path) -> None:
    cache = Cache(path)
    cache.put("k", response("x"))
    writing, forked = threading.Event(), threading.Event()

    def write() -> None:
        # What is written when the child is forked would keep it out for ever, so the fork waits for it.
        with cache._file._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            writing.set()
            forked.wait(0.2)
            connection.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    writing.wait()
    with cache._lock:  # as if another thread were in the middle of something
        child = os.fork()
        if child == 0:
            status = 1
            try:
                forget(cache)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    cache.put("child", response("from the child"))
                status = 0 if cache.get("k") == response("x") else 2
            finally:
                os._exit(status)
        forked.set()
    writer.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.get("child") == response("from the child")


ADVICE = "It holds nothing but answers that can be asked for again: delete the file, name another"


def test_a_damaged_file_is_refused_before_anything_is_paid_for(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database at all, but long enough to be looked at as one" * 40)
    lm = MockLM(["x"], cache=Cache(path))
    with pytest.raises(StorageError) as caught:
        lm("?")
    assert str(caught.value).startswith(f"the cache {path} cannot be used: file is not a database.")
    assert ADVICE in str(caught.value)
    assert "DSPEX_CACHE_DIR" in str(caught.value)
    assert lm.calls == []
    with pytest.raises(StorageError, match="cannot be used"):
        len(Cache(path))
    with pytest.raises(StorageError, match="cannot be used"):
        Cache(path).clear()
    path.unlink()
    assert lm("?") == ["x"]


def test_damage_in_the_middle_of_the_file(path: Path) -> None:
    cache = Cache(path)
    for number in range(300):
        cache.put(str(number), response("x" * 500))
    cache.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    forget(cache)

    def read_all() -> None:
        for number in range(300):
            cache.get(str(number))

    with pytest.raises(StorageError, match="cannot be used"):
        read_all()


UNREADABLE = [
    "{not json",
    "[]",
    "{}",
    '{"completions": [{}], "usage": {}, "model": "m", "latency": 0}',
    '{"completions": [], "usage": {}, "model": "m", "latency": 0}',
    '{"completions": [{"text": 5}], "usage": {}, "model": "m", "latency": 0}',
    "[" * 100_000,
    b"\xff\xfe",
]


def spoil(path: Path, text: str | bytes, where: str = "TRUE") -> None:
    raw = text if isinstance(text, bytes) else text.encode()
    Cache(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE answers SET response = CAST(? AS TEXT) WHERE {where}", (raw,))
    connection.close()


@pytest.mark.parametrize("text", UNREADABLE)
def test_an_answer_that_is_unreadable_is_asked_for_again_and_replaced(path: Path, text: str | bytes) -> None:
    lm = numbered(cache=Cache(path))
    assert lm("?") == ["0"]
    spoil(path, text)
    forget(Cache(path))
    key = lm.key(LMRequest.of("?"))
    with pytest.raises(StorageError, match=rf"the answer {key} in the cache .*cannot be read .*leave replay") as caught:
        lm("?", cache="replay")
    assert not isinstance(caught.value, ReplayMissError)
    assert str(path) in str(caught.value)
    with pytest.warns(RuntimeWarning, match=f"the answer {key} in the cache {path} cannot be read .*; it is asked for"):
        assert lm("?", cache="read") == ["1"]  # which writes nothing
    forget(Cache(path))
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        assert lm("?") == ["2"]
    forget(Cache(path))
    assert lm("?") == lm("?", cache="replay") == ["2"]
    assert len(Cache(path)) == 1


def test_whether_there_is_an_answer_is_told_without_a_warning(path: Path) -> None:
    cache = Cache(path)
    for key in "ab":
        cache.put(key, response(key))
    forget(cache)
    spoil(path, "[", where="key = 'a'")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "a" not in cache
        assert "b" in cache
    with pytest.warns(RuntimeWarning, match="it is asked for again"):
        assert cache.get("a") is None


def test_what_another_process_put_in_the_place_of_an_unreadable_answer_stays(path: Path) -> None:
    cache = Cache(path)
    cache.put("k", response("first"))
    spoil(path, "{")
    other = forgetful(path)
    for one in (cache, other):
        forget(one)
        with pytest.warns(RuntimeWarning, match="cannot be read"):
            assert one.get("k") is None
    other.put("k", response("second"))
    cache.put("k", response("third"))
    forget(cache)
    assert cache.get("k") == response("second")


@pytest.mark.parametrize("text", ["{", b"\xff"])
def test_one_unreadable_answer_leaves_the_others_as_they_are(path: Path, text: str | bytes) -> None:
    keys = kept_in_order(path, 20)
    spoil(path, text, f"key = '{keys[7]}'")
    cache = forgetful(path)
    with pytest.warns(RuntimeWarning, match=f"the answer {keys[7]} in the cache"):
        found = [cache.get(key) for key in keys]
    assert [number for number, one in enumerate(found) if one is None] == [7]
    with pytest.warns(RuntimeWarning, match=f"the answer {keys[7]} in the cache .* it is left out"):
        assert {row["key"] for row in cache.rows()} == {*keys} - {keys[7]}


def test_the_database_of_another_program(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE precious (x)")
    with pytest.raises(StorageError, match="is a database of another program, not a cache of dspex"):
        Cache(path).get("k")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]


def test_a_cache_of_a_newer_version(path: Path) -> None:
    Cache(path).put("k", response("x"))
    Cache(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    forget(Cache(path))
    with pytest.raises(
        StorageError, match=r"was written by a newer dspex \(format 99, this one reads 1\): update dspex"
    ):
        Cache(path).get("k")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot be used: .*Not a directory|cannot be used: .*File exists"):
        Cache(tmp_path / "file" / "cache.db").get("k")
    with pytest.raises(StorageError, match="cannot be used"):
        Cache(tmp_path).get("k")


def test_an_answer_that_cannot_be_kept_is_still_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(path)
    lm = MockLM({"": "x"}, cache=cache)
    cache.get("k")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("dspex.lm.cache_journal.os.write", full)
    with pytest.warns(RuntimeWarning, match=f"answers are not kept in the cache {path}: .*No space left on device"):
        assert lm("?") == ["x"]
    assert lm("?") == ["x"]
    assert len(lm.calls) == 1  # it is in memory all the same
    lm("another")  # and it warns once


@pytest.mark.parametrize("value", [3, b"x", 2.5])
def test_paths_that_cannot_be_meant(value: Any) -> None:
    with pytest.raises(DefinitionError, match="path must be a file name or None"):
        Cache(value)


@pytest.mark.parametrize("number", [0, -1, True, 2.5])
def test_sizes_that_cannot_be_meant(number: Any) -> None:
    with pytest.raises(DefinitionError, match="memory_entries must be a whole number, 1 or more"):
        Cache(memory_entries=number)


def test_a_file_that_is_written_to_is_waited_for_where_it_has_to_be(path: Path) -> None:
    cache = Cache(path)
    cache.put("k", response("x"))
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    cache.put("later", response("y"))  # nobody waits for SQLite here
    forget(cache)
    assert cache.get("later") == response("y")
    timer = threading.Timer(0.2, other.execute, ["COMMIT"])
    timer.start()
    assert len(cache) == 2
    timer.join()
    other.close()


# Reading ahead.


def kept_in_order(path: Path, number: int) -> list[str]:
    keys = [f"key {index}" for index in range(number)]
    cache = Cache(path)
    for key in keys:
        cache.put(key, LMResponse((Completion(f"answer to {key}", "stop"),), Usage(calls=1), "mock/mock"))
    return keys


def forgetful(path: Path) -> Cache:
    """The cache of ``path`` as another process would open it."""
    Cache._shared.pop(str(path))
    return Cache(path, memory_entries=1)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that the file was asked for."""
    found: list[str] = []
    read = CacheFile._read
    monkeypatch.setattr(CacheFile, "_read", lambda self, key: found.append(key) or read(self, key))
    return found


@pytest.mark.parametrize("order", ["as kept", "backwards", "any"])
def test_answers_kept_together_are_read_several_at_a_time(tmp_path: Path, reads: list[str], order: str) -> None:
    keys = kept_in_order(tmp_path / "a.db", 200)
    cache = forgetful(tmp_path / "a.db")
    asked = {"as kept": keys, "backwards": keys[::-1], "any": random.Random(0).sample(keys, 200)}[order]
    for _ in range(2):
        assert [cache.get(key).text for key in asked] == [f"answer to {key}" for key in asked]
    assert len(reads) <= 2 * 4


def test_nothing_is_read_ahead_any_more_where_nobody_asks_for_it(tmp_path: Path, reads: list[str]) -> None:
    keys = kept_in_order(tmp_path / "a.db", 4096)
    cache = forgetful(tmp_path / "a.db")
    for key in keys[:2080:64]:
        assert cache.get(key) is not None
    before = len(reads)
    assert all(cache.get(key) for key in (keys[-1], keys[-2]))
    assert len(reads) == before + 2


def test_what_was_read_ahead_is_not_older_than_what_was_done_since(tmp_path: Path) -> None:
    keys = kept_in_order(tmp_path / "a.db", 20)
    cache = forgetful(tmp_path / "a.db")
    assert all(cache.get(key) for key in keys[:2])  # and so the others have been read
    cache.put(keys[5], LMResponse((Completion("new", "stop"),), Usage(calls=1), "mock/mock"), replace=True)
    cache.put("another", LMResponse((Completion("x", "stop"),), Usage(calls=1), "mock/mock"))
    assert cache.get(keys[5]).text == "new"
    assert cache.get(keys[6]).text == f"answer to {keys[6]}"
    cache.clear()
    assert [cache.get(key) for key in keys[7:]] == [None] * 13


def test_what_was_read_ahead_grows_old_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = kept_in_order(tmp_path / "a.db", 20)
    cache = forgetful(tmp_path / "a.db")
    assert all(cache.get(key) for key in keys[:2])
    cache.max_age = 100.0
    now = time.time()
    monkeypatch.setattr("dspex.lm.cache.time.time", lambda: now + 200.0)
    assert cache.get(keys[3]) is None


class Odd(BaseLM):
    """Somebody's own model, which answers with whatever it is given."""

    def __init__(self, response: Any, cache: Cache) -> None:
        self.response = response
        super().__init__("odd/odd", cache=cache)

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        return self.response  # type: ignore[no-any-return]


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (LMResponse((Completion(None),), Usage(calls=1), "m"), "a text that is none"),  # type: ignore[arg-type]
        (LMResponse((), Usage(calls=1), "m"), "no completion"),
        (LMResponse((Completion("hi"),), Usage(calls=1), None), "no name"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_answer_and_was_paid_for_is_given_and_not_kept(
    path: Path, odd: LMResponse, says: str, in_file: bool
) -> None:
    lm = Odd(odd, Cache(path) if in_file else Cache())
    with pytest.warns(RuntimeWarning, match=f"answers are not kept in the cache .*{says}"):
        assert lm.generate(LMRequest.of("?")) is odd
    assert not lm.generate(LMRequest.of("?")).cached
    assert lm.cache is not None
    assert len(lm.cache) == 0


def test_what_is_no_plain_data_and_was_paid_for_is_given_and_not_written(path: Path) -> None:
    lm = Odd(LMResponse((Completion("hi", logprobs=object()),), Usage(calls=1), "m"), Cache(path))
    with pytest.warns(RuntimeWarning, match="not JSON serializable"):
        assert lm.generate(LMRequest.of("?")).text == "hi"
    assert lm.cache is not None
    assert len(lm.cache) == 0


def test_a_text_may_be_of_a_subclass(path: Path) -> None:
    class Text(str):
        pass

    lm = Odd(LMResponse((Completion(Text("hi"), "stop"),), Usage(calls=1), "m"), Cache(path))
    lm.generate(LMRequest.of("?"))
    Cache(path).close()
    Cache._shared.pop(str(path))
    again = Odd(response("another"), Cache(path)).generate(LMRequest.of("?"))
    assert (again.text, again.cached) == ("hi", True)
