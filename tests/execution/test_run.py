"""A run carries what an execution did, and ends it when its time is up."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from dspex.data import Usage
from dspex.errors import BudgetExceeded, DeadlineExceeded, DefinitionError
from dspex.execution import Activation, Budget, Deadline, Run, Settings, TraceEntry, active_run, context


def test_it_takes_the_settings_and_budget_that_hold_where_it_is_made() -> None:
    budget, other = Budget(calls=5), Budget(calls=6)
    with context(budget=budget):
        assert Run().budget is budget
        assert Run(budget=other).budget is other
        assert Run(settings=Settings()).budget is None
    assert Run().budget is None


def test_accounts_from_many_threads_add_up() -> None:
    run = Run()

    def work() -> None:
        for _ in range(500):
            run.account(Usage(calls=1, prompt_tokens=3, cost=0.25))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.usage == Usage(calls=4000, prompt_tokens=12000, cost=1000.0)


def test_a_deadline_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    run = Run(deadline=5)
    run.check()
    assert run.remaining() == 5.0
    now = 15.0
    with pytest.raises(DeadlineExceeded, match="the deadline of 5 s is over"):
        run.check()
    assert run.remaining() == 0.0


def test_limit_only_shortens() -> None:
    run = Run(deadline=Deadline(1000))
    run.limit(50)
    assert run.deadline is not None
    assert run.deadline.seconds == 50
    run.limit(2000)
    assert run.deadline.seconds == 50
    endless = Run()
    assert endless.remaining() is None
    endless.limit(7)
    left = endless.remaining()
    assert left is not None
    assert left <= 7


def test_the_seconds_of_its_budget_end_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    budget = Budget(seconds=3)
    run = Run(budget=budget, deadline=100)
    budget.start()
    assert run.remaining() == 3.0
    now = 14.0
    with pytest.raises(BudgetExceeded, match="its 3 seconds are over"):
        run.check()


def test_cancelling_is_said_once_and_ends_pauses() -> None:
    run = Run()
    threading.Timer(0.05, run.cancel, ["enough"]).start()
    with pytest.raises(DeadlineExceeded, match="the run was cancelled: enough"):
        run.pause(30)
    run.cancel("later")
    with pytest.raises(DeadlineExceeded, match="enough"):
        run.check()
    with pytest.raises(DeadlineExceeded, match="enough"):
        run.pause(30)  # it was cancelled before the pause


def test_a_pause_ends_with_the_deadline() -> None:
    run = Run(deadline=0.05)
    with pytest.raises(DeadlineExceeded, match=r"the deadline of 0\.05 s is over"):
        run.pause(30)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5"])
def test_deadlines_that_cannot_be_meant(seconds: Any) -> None:
    with pytest.raises(DefinitionError, match="deadline must be"):
        Deadline(seconds)


def test_it_does_not_travel_to_another_process() -> None:
    with pytest.raises(TypeError, match="a Run lives in one process and cannot be pickled"):
        pickle.dumps(Run())


def test_trace_and_repr() -> None:
    run = Run(rollout_id=2)
    run.record(TraceEntry("answer", {"question": "?"}, prediction="!"))
    run.account(Usage(calls=1))
    assert [entry.path for entry in run.trace] == ["answer"]
    assert repr(run.trace[0]) == "<TraceEntry answer: question -> ok>"
    assert repr(run).startswith("<Run 2: ")
    assert "1 calls traced" in repr(run)
    assert run.elapsed >= 0


def test_the_active_run_is_the_innermost() -> None:
    outer, inner = Run(), Run()
    assert active_run() is None
    with Activation(outer):
        with Activation(inner):
            assert active_run() is inner
        assert active_run() is outer
    assert active_run() is None
