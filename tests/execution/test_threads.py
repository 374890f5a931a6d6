"""Batches on threads: bounded, in order, with deadlines that let nothing hang."""

from __future__ import annotations

import contextvars
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dspex.errors import DeadlineExceeded, DefinitionError
from dspex.execution import Outcome, Run, map_threads, run_many, stream_threads

_earlier: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _only_this_tests_workers() -> None:
    """What another test left hanging, as a test of deadlines must, is not counted here."""
    _earlier.clear()
    _earlier.update(threading.enumerate())


def workers() -> int:
    return sum(thread.name == "dspex-worker" for thread in threading.enumerate() if thread not in _earlier)


def settled(deadline: float = 30.0) -> bool:
    """Whether all workers end soon."""
    until = time.monotonic() + deadline
    while workers() and time.monotonic() < until:
        time.sleep(0.01)
    return not workers()


class Gauge:
    """How many are inside at once, at most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self.now -= 1


def test_values_come_in_order_and_never_more_at_once_than_allowed() -> None:
    gauge = Gauge()
    two = threading.Barrier(2, timeout=60)

    def work(number: int) -> int:
        with gauge:
            if number < 2:
                two.wait()
            time.sleep(0.002 * (number % 3))
        return number * 2

    assert map_threads(work, range(60), concurrency=5) == [number * 2 for number in range(60)]
    assert 2 <= gauge.most <= 5
    assert settled()


def test_outcomes_come_as_they_finish() -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert release.wait(10)
        return number

    seen = []
    for outcome in stream_threads(work, range(6), concurrency=2):
        seen.append(outcome.index)
        if len(seen) == 5:
            release.set()
    assert seen[-1] == 0
    assert sorted(seen) == list(range(6))


def test_no_more_workers_than_items() -> None:
    names = map_threads(lambda _: threading.get_ident(), range(3), concurrency=100)
    assert len(set(names)) <= 3
    assert map_threads(str, [], concurrency=4) == []


def test_items_are_drawn_as_threads_get_free() -> None:
    ended: list[int] = []
    ahead: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():  # endless, so it must not be drawn to its end
            ahead.append(number - len(ended))
            yield number

    def work(number: int) -> int:
        time.sleep(0.001)
        ended.append(number)
        return number

    stream = stream_threads(work, items(), concurrency=3)
    for _ in range(30):
        next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert settled()
    assert max(ahead) < 3


def test_what_a_function_raises_stops_nothing() -> None:
    outcomes = run_many(lambda number: 1 // number, [1, 0, 2])
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, ZeroDivisionError)
    assert outcomes[1].value is None
    with pytest.raises(ZeroDivisionError):
        outcomes[1].result()
    assert repr(outcomes[0]) == "<Outcome 0: 1>"
    assert "ZeroDivisionError" in repr(outcomes[1])
    assert not outcomes.interrupted


def test_map_raises_the_first_error_once_those_in_flight_have_ended() -> None:
    ended: list[int] = []
    started = threading.Barrier(3)

    def work(number: int) -> int:
        if number < 3:
            started.wait(10)
        if number == 1:
            raise ValueError("one")
        time.sleep(0.05)
        ended.append(number)
        return number

    with pytest.raises(ValueError, match="one"):
        map_threads(work, range(1000), concurrency=3)
    assert {0, 2} <= set(ended)
    assert len(ended) < 900  # the rest was not started


@pytest.mark.parametrize("broken", ["items", "on_result"])
def test_what_is_not_the_functions_fault_ends_the_batch(broken: str) -> None:
    def items() -> Iterator[int]:
        yield 1
        if broken == "items":
            raise RuntimeError("broken items")
        yield 2

    def on_result(outcome: Outcome[int, int]) -> None:
        if broken == "on_result":
            raise RuntimeError("broken on_result")

    with pytest.raises(RuntimeError, match=f"broken {broken}"):
        list(stream_threads(abs, items(), on_result=on_result))
    assert settled()


def test_results_are_written_down_before_the_next_item_is_drawn() -> None:
    events: list[tuple[str, int]] = []

    def items() -> Iterator[int]:
        for number in range(20):
            events.append(("drawn", number))
            yield number

    list(stream_threads(abs, items(), concurrency=1, on_result=lambda o: events.append(("written", o.index))))
    expected = [(kind, number) for number in range(20) for kind in ("drawn", "written")]
    assert events == expected


def test_an_item_past_its_deadline_is_abandoned_and_the_rest_goes_on() -> None:
    hang = threading.Event()
    cancelled: list[tuple[int, str]] = []

    def work(number: int) -> int:
        if number in (1, 2):
            hang.wait(60)
        return number

    outcomes = run_many(
        work, range(8), concurrency=2, deadline=3.0, cancel=lambda number, why: cancelled.append((number, why))
    )
    assert [outcome.ok for outcome in outcomes] == [True, False, False, True, True, True, True, True]
    for late in outcomes[1:3]:
        assert isinstance(late.error, DeadlineExceeded)
        assert str(late.error) == "it took longer than its deadline of 3 s"
        assert late.seconds >= 3.0
    assert sorted(number for number, _ in cancelled) == [1, 2]
    hang.set()
    assert settled()


def test_an_item_that_ends_itself_at_its_deadline_is_not_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.execution.threads.grace", lambda deadline: 30.0)
    cancelled: list[Run] = []

    def work(run: Run) -> None:
        run.limit(0.2)
        run.pause(30)

    (outcome,) = run_many(work, [Run()], deadline=0.2, cancel=lambda run, _: cancelled.append(run))
    assert str(outcome.error) == "the deadline of 0.2 s is over"
    assert not cancelled


def test_what_an_abandoned_item_returns_is_dropped() -> None:
    given_up = threading.Event()

    def work(number: int) -> int:
        assert given_up.wait(60)
        return number

    (outcome,) = run_many(work, [1], deadline=0.05)
    given_up.set()
    assert settled()
    assert isinstance(outcome.error, DeadlineExceeded)
    assert outcome.value is None


def test_leaving_early_cancels_what_is_in_flight() -> None:
    runs = [Run() for _ in range(20)]

    def work(run: Run) -> int:
        if run is runs[0]:
            return 0
        run.pause(30)
        return 1

    for outcome in stream_threads(work, runs, concurrency=4, cancel=Run.cancel):
        assert outcome.value == 0
        break
    assert settled()
    assert any(run.cancelled for run in runs)
    started = [run for run in runs if run.cancelled]
    assert len(started) <= 4


def test_the_cancel_event_ends_it_from_another_thread() -> None:
    event = threading.Event()
    runs = [Run() for _ in range(10)]
    all_begun = threading.Barrier(3, action=event.set, timeout=60)

    def work(run: Run) -> None:
        all_begun.wait()
        run.pause(30)

    outcomes = run_many(work, runs, concurrency=3, cancel=Run.cancel, cancel_event=event)
    assert outcomes == []
    assert sum(run.cancelled for run in runs) == 3
    assert settled()


def test_what_is_being_written_down_is_written_when_the_batch_has_ended() -> None:
    writing = threading.Event()
    written = []

    def keep(outcome: Outcome[int, int]) -> None:
        if outcome.index == 1:
            assert writing.wait(60)
            raise OSError("disk full")
        writing.set()
        time.sleep(0.2)
        written.append(outcome.index)

    with pytest.raises(OSError, match="disk full"):
        run_many(abs, [0, 1], concurrency=2, on_result=keep)
    assert written == [0]


def test_workers_see_the_callers_context_and_change_only_their_own() -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    variable.set("caller")

    def work(number: int) -> str:
        before = variable.get()
        variable.set(f"item {number}")
        return before

    assert map_threads(work, range(10), concurrency=2) == ["caller"] * 10
    assert variable.get() == "caller"


def test_batches_nest() -> None:
    def outer(number: int) -> int:
        return sum(map_threads(lambda inner: inner * number, range(5), concurrency=2))

    assert map_threads(outer, range(6), concurrency=3) == [10 * number for number in range(6)]


def test_workers_keep_no_interpreter_alive() -> None:
    flags = map_threads(lambda _: threading.current_thread().daemon, range(3))
    assert flags == [True] * 3


@pytest.mark.parametrize("number", [0, -1, True, 2.0, "8"])
def test_a_concurrency_that_cannot_be_meant(number: Any) -> None:
    with pytest.raises(DefinitionError, match="concurrency must be a whole number, 1 or more"):
        map_threads(abs, [1], concurrency=number)


def test_a_deadline_that_cannot_be_meant() -> None:
    with pytest.raises(DefinitionError, match="deadline must be more than 0 seconds"):
        stream_threads(abs, [1], deadline=0)
    assert len(run_many(abs, [1], deadline=float("inf"))) == 1


def interrupt_soon(after: float) -> None:
    main = threading.main_thread().ident
    threading.Timer(after, signal.pthread_kill, [main, signal.SIGINT]).start()


def test_ctrl_c_returns_what_is_finished() -> None:
    runs = [Run() for _ in range(12)]

    def work(item: tuple[int, Run]) -> int:
        number, run = item
        if number == 8:
            interrupt_soon(0.3)
        if number >= 5:
            run.pause(30)
        return number

    outcomes = run_many(work, list(enumerate(runs)), concurrency=4, cancel=lambda item, why: item[1].cancel(why))
    assert outcomes.interrupted
    assert [outcome.value for outcome in outcomes] == [0, 1, 2, 3, 4]
    assert sum(run.cancelled for run in runs) == 4
    assert settled()


def test_ctrl_c_hands_over_before_it_goes_on() -> None:
    finished = []
    released = threading.Event()

    def work(number: int) -> int:
        if number == 4:
            interrupt_soon(0.3)
        if number >= 3:
            released.wait(60)
        return number

    def consume() -> None:
        for outcome in stream_threads(work, range(6), concurrency=2):
            finished.append(outcome.value)

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert sorted(finished) == [0, 1, 2]
    released.set()
    assert settled()
