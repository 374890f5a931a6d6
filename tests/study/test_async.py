"""Asking, telling and optimizing on an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from typing import Any

import pytest

from dspex.errors import BudgetExceeded, TrialPruned
from dspex.execution import Budget
from dspex.lm import MockLM
from dspex.samplers import RandomSampler
from dspex.study import Study, create_study
from dspex.trials import TrialState
from dspex.variables import Float, Space


@pytest.fixture(params=["memory", "sqlite"])
def study(request: pytest.FixtureRequest, tmp_path: Any) -> Study:
    storage = None if request.param == "memory" else f"sqlite:///{tmp_path}/study.db"
    return create_study(storage=storage, sampler=RandomSampler(seed=0))


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def test_ask_and_tell(study: Study) -> None:
    async def main() -> None:
        trials = await asyncio.gather(*(study.aask() for _ in range(8)))
        assert sorted(trial.number for trial in trials) == list(range(8))
        values = [trial.suggest_float("x", 0.0, 1.0) for trial in trials]
        told = await asyncio.gather(*(study.atell(trial, x) for trial, x in zip(trials, values, strict=True)))
        assert [trial.value for trial in told] == values

    asyncio.run(main())
    assert states(study) == ["COMPLETE"] * 8


def test_what_may_be_asked_and_told_may_be_awaited(study: Study) -> None:
    for blocking, awaited in ((Study.ask, Study.aask), (Study.tell, Study.atell)):
        assert inspect.signature(awaited) == inspect.signature(blocking)
    attributes: dict[str, Any] = {"fixed": {"x": 0.5}, "user_attrs": {"a": 1}, "system_attrs": {"b": [2]}}
    trial = asyncio.run(study.aask(Space.of(x=Float(0.0, 1.0)), **attributes))
    assert (trial.params["x"], trial.user_attrs["a"], trial.frozen.system_attrs["b"]) == (0.5, 1, [2])


def test_an_async_objective_runs_as_tasks_and_as_many_as_it_may(study: Study) -> None:
    now = most = 0
    together = asyncio.Barrier(4)  # whoever comes first waits for the others, three times

    async def objective(trial: Any) -> float:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.wait_for(together.wait(), 60)
        now -= 1
        if trial.number == 3:
            raise TrialPruned
        if trial.number == 4:
            raise KeyError("odd")
        return float(trial.suggest_float("x", 0.0, 1.0))

    study.optimize(objective, n_trials=12, n_jobs=4, catch=KeyError)
    assert most == 4
    assert sorted(set(states(study))) == ["COMPLETE", "FAIL", "PRUNED"]
    assert len(study.trials) == 12
    assert study.stopped == "n_trials=12 were run"


def test_the_event_loop_goes_on_meanwhile() -> None:
    ticked = threading.Event()

    class Waiting(RandomSampler):
        def exhausted(self, *args: Any, **keywords: Any) -> bool:
            ticked.clear()
            assert ticked.wait(60)  # which nobody sets while the loop is held up
            return False

    study = create_study(sampler=Waiting(seed=0))

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.001)
            ticked.set()

    async def objective(trial: Any) -> float:
        return 1.0

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        await study.aoptimize(objective, n_trials=5, show_progress_bar=True)
        ticking.cancel()

    asyncio.run(main())
    assert states(study) == ["COMPLETE"] * 5


def test_an_error_ends_it(study: Study) -> None:
    async def objective(trial: Any) -> float:
        if trial.number == 2:
            raise ValueError("odd")
        return 1.0

    with pytest.raises(ValueError, match="odd"):
        study.optimize(objective, n_trials=10)
    assert states(study) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert study.stopped == "ValueError: odd"


def test_cancelling_puts_the_running_trials_back(study: Study) -> None:
    async def objective(trial: Any) -> float:
        trial.suggest_float("x", 0.0, 1.0)
        await asyncio.sleep(60 if trial.number >= 2 else 0)
        return 1.0

    async def main() -> None:
        search = asyncio.create_task(study.aoptimize(objective, n_trials=10, n_jobs=3))
        while len(study.trials) < 5:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search

    asyncio.run(main())
    until = time.monotonic() + 60  # an ask that was under way ends on its thread
    while "RUNNING" in states(study) and time.monotonic() < until:
        time.sleep(0.01)
    assert states(study)[:5] == ["COMPLETE"] * 2 + ["WAITING"] * 3
    waiting = study.trials[2]
    again = study.ask()
    assert again.number == 2
    assert dict(again.params) == dict(waiting.params)


@pytest.mark.parametrize("alone", [False, True], ids=["aoptimize", "atell"])
def test_what_is_being_told_is_written_down_before_a_cancelled_task_ends(
    study: Study, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling, cancelled = threading.Event(), threading.Event()
    tell = study.tell

    def slow(*args: Any, **keywords: Any) -> Any:
        telling.set()
        cancelled.wait()
        return tell(*args, **keywords)

    monkeypatch.setattr(study, "tell", slow)

    async def main() -> list[str]:
        work = study.atell(study.ask(), 1.0) if alone else study.aoptimize(lambda trial: 1.0, n_trials=3)
        task = asyncio.create_task(work)
        while not telling.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)  # it has heard of it, and is waiting
        asyncio.get_running_loop().call_later(0.01, cancelled.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        return states(study)

    assert asyncio.run(main()) == ["COMPLETE"]


def test_a_budget_holds_for_async_objectives(study: Study) -> None:
    lm = MockLM(["yes"], repeat=True)

    async def objective(trial: Any) -> float:
        for _ in range(3):
            await lm.acall("Is it?")
        return 1.0

    study.optimize(objective, n_trials=10, budget=Budget(calls=7))
    assert len(lm.calls) == 7
    assert states(study) == ["COMPLETE", "COMPLETE", "WAITING"]
    assert study.stopped.startswith(BudgetExceeded.__name__)
    study.optimize(objective, n_trials=1)
    assert study.trials[2].state is TrialState.COMPLETE


def test_a_trial_that_is_asked_for_while_the_loop_ends_is_put_back() -> None:
    class Slow(RandomSampler):
        def suggest(self, *args: Any, **keywords: Any) -> dict[str, Any]:
            return super().suggest(*args, **keywords)

        def exhausted(self, *args: Any, **keywords: Any) -> bool:
            time.sleep(0.3)
            return super().exhausted(*args, **keywords)

    study = create_study(sampler=Slow(seed=0))

    async def objective(trial: Any) -> float:
        await asyncio.sleep(60)
        return 1.0

    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(study.aoptimize(objective, n_trials=5), 0.1))
    until = time.monotonic() + 60
    while states(study) != ["WAITING"] and time.monotonic() < until:
        time.sleep(0.01)
    assert states(study) == ["WAITING"]


def test_a_sampler_that_raises_leaves_no_trial_running(study: Study) -> None:
    class Broken(RandomSampler):
        def sample(self, *args: Any, **keywords: Any) -> dict[str, Any]:
            raise ZeroDivisionError("odd")

    study.sampler = Broken(seed=0)
    with pytest.raises(ZeroDivisionError, match="odd"):
        study.ask({"x": Float(0.0, 1.0)})
    assert states(study) == ["FAIL"]
