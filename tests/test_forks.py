"""What a child finds that is forked while other threads of its parent are in the middle of something."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dspex.forks import Traffic, held_at_forks
from dspex.samplers import RandomSampler
from dspex.study import create_study

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no fork there"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_child(run: Callable[[], bool]) -> bool:
    """What ``run`` gives in a forked child."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if run() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def free(lock: threading.Lock) -> bool:
    got = lock.acquire(blocking=False)
    if got:
        lock.release()
    return got


def test_a_lock_is_free_in_the_child_and_what_it_guards_is_whole() -> None:
    lock = held_at_forks(threading.Lock(), order=0)
    holding, whole = threading.Event(), []

    def hold() -> None:
        with lock:
            holding.set()
            time.sleep(0.05)
            whole.append(True)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    assert in_child(lambda: free(lock) and whole == [True])
    thread.join()
    assert free(lock)


def test_locks_are_taken_in_their_order() -> None:
    inner = held_at_forks(threading.Lock(), order=3)
    outer = held_at_forks(threading.Lock(), order=2)
    holding = threading.Event()

    def hold() -> None:
        with outer:
            holding.set()
            time.sleep(0.05)
            with inner:
                pass

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    assert in_child(lambda: free(inner) and free(outer))
    thread.join()


def test_traffic_is_waited_for_by_those_that_fork_and_by_nobody_else() -> None:
    traffic = held_at_forks(Traffic(longest=60.0), order=0)
    using, ended = threading.Barrier(3), []

    def use() -> None:
        with traffic.one():
            using.wait()  # both at once
            time.sleep(0.05)
            ended.append(True)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    using.wait()

    def child() -> bool:
        with traffic.one():
            return len(ended) == 2

    assert in_child(child)
    with traffic.one():
        assert in_child(lambda: True)  # one's own use is none to wait for
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_study_may_be_used_by_a_child_while_other_threads_use_it(kind: str, tmp_path: Path) -> None:
    url = None if kind == "memory" else f"sqlite:///{tmp_path / 'study.db'}"
    study = create_study(storage=url, sampler=RandomSampler(seed=0))
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=1)
            time.sleep(0.002)  # SQLite is not fair: without it nobody else comes to write

    def child() -> bool:
        study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
        return len(study.trials) >= 2

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert all(in_child(child) for _ in range(10))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
