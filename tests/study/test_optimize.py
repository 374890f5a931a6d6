"""The search over a plain function: how it begins, goes on and ends."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dspex.data import Usage
from dspex.errors import BudgetExceeded, LMContextWindowError, LMTimeoutError, StudyError, TrialPruned
from dspex.execution import Budget, current
from dspex.samplers import RandomSampler
from dspex.study import Study, Trial, create_study
from dspex.trials import FrozenTrial, TrialState, create_trial


def _objective(trial: Trial) -> float:
    return trial.suggest_float("x", -5.0, 5.0) ** 2


@pytest.fixture
def study() -> Study:
    return create_study(sampler=RandomSampler(seed=0))


def _states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def test_so_many_trials(study: Study) -> None:
    study.optimize(_objective, n_trials=3)
    study.optimize(_objective, n_trials=2)
    assert _states(study) == ["COMPLETE"] * 5
    assert study.best_value == min(trial.value or 0.0 for trial in study.trials)


def test_none_are_left_to_run(study: Study) -> None:
    study.optimize(_objective, n_trials=3)
    study.optimize(_objective, n_trials=3 - len(study.trials), show_progress_bar=True)
    assert len(study.trials) == 3
    assert study.stopped == "n_trials=0 were run"


def test_arguments_by_place_as_in_optuna(study: Study) -> None:
    seen: list[int] = []
    study.enqueue_trial({"x": 0.5}, {"source": "mine"})
    study.enqueue_trial({"x": 0.5}, None, True)
    study.optimize(_objective, 3, None, 1, (), [lambda study, trial: seen.append(trial.number)])
    assert seen == [0, 1, 2]
    assert study.trials[0].user_attrs == {"source": "mine"}
    assert study.tell(study.ask(), None, TrialState.FAIL).state is TrialState.FAIL
    assert study.tell(3, 1.0, None, True).state is TrialState.FAIL


def test_so_many_seconds(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("dspex.study.loop.time", SimpleNamespace(monotonic=lambda: now))

    def slow(trial: Trial) -> float:
        nonlocal now
        now += 0.125
        return 1.0

    study.optimize(slow, timeout=0.5)
    assert len(study.trials) == 4
    assert study.stopped == "the timeout of 0.5 s was over"


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_stopping(study: Study, n_jobs: int) -> None:
    stopped = threading.Event()

    def objective(trial: Trial) -> float:
        if trial.number == 4:
            study.stop()
            stopped.set()
        return float(trial.number < 4 or stopped.wait(60))  # or the others do many before it is heard

    study.optimize(objective, n_jobs=n_jobs)
    assert 5 <= len(study.trials) <= 4 + n_jobs
    assert set(_states(study)) == {"COMPLETE"}
    study.optimize(lambda trial: 1.0, n_trials=1)  # a stop is for one call


def test_callbacks_get_the_finished_trial(study: Study) -> None:
    seen: list[tuple[int, str]] = []

    def callback(told: Study, trial: FrozenTrial) -> None:
        assert told is study
        seen.append((trial.number, trial.state.name))
        if len(seen) == 3:
            told.stop()

    def objective(trial: Trial) -> float:
        if trial.number == 1:
            raise TrialPruned
        return 1.0

    study.optimize(objective, n_trials=9, callbacks=[callback])
    assert seen == [(0, "COMPLETE"), (1, "PRUNED"), (2, "COMPLETE")]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_exception_fails_its_trial_and_ends_the_search(study: Study, n_jobs: int) -> None:
    def objective(trial: Trial) -> float:
        if trial.number == 2:
            raise KeyError("broken")
        while trial.number > 2 and not study.trials[2].state.is_finished:
            time.sleep(0.001)  # or the other worker does them all before this one is heard
        return 1.0

    with pytest.raises(KeyError, match="broken"):
        study.optimize(objective, n_trials=50, n_jobs=n_jobs)
    assert study.trials[2].state is TrialState.FAIL
    assert study.trials[2].system_attrs["fail_reason"] == "KeyError: 'broken'"
    assert len(study.trials) < 50
    assert all(trial.state.is_finished for trial in study.trials)
    study.optimize(objective, n_trials=1)
    assert study.best_value == 1.0


def test_who_is_to_blame_for_a_failure_is_noted(study: Study) -> None:
    errors = [ValueError("mine"), LMTimeoutError("theirs"), LMContextWindowError("mine"), TimeoutError("theirs")]

    def objective(trial: Trial) -> float:
        raise errors[trial.number]

    study.optimize(objective, n_trials=4, catch=Exception)
    assert [trial.crashed for trial in study.trials] == [True, False, True, False]
    assert [trial.failed_externally for trial in study.trials] == [False, True, False, True]
    assert study.tell(study.ask(), math.nan).crashed
    assert study.tell(study.ask(), state=TrialState.FAIL).crashed
    assert not study.tell(study.ask(), state=TrialState.FAIL, infrastructure=True).crashed
    completed = study.tell(study.ask(), 1.0)
    assert not completed.crashed
    assert not completed.failed_externally
    with pytest.raises(StudyError, match=r"infrastructure=True says why a trial failed, and this one is COMPLETE"):
        study.tell(study.ask(), 1.0, infrastructure=True)


@pytest.mark.parametrize("catch", [ValueError, (KeyError, ValueError), [ValueError]])
def test_a_caught_exception_only_fails_its_trial(study: Study, catch: Any, caplog: pytest.LogCaptureFixture) -> None:
    def objective(trial: Trial) -> float:
        if trial.number % 2:
            raise ValueError("odd")
        return 1.0

    with caplog.at_level(logging.WARNING, "dspex"):
        study.optimize(objective, n_trials=4, catch=catch)
    assert _states(study) == ["COMPLETE", "FAIL", "COMPLETE", "FAIL"]
    assert "Trial 1 failed: ValueError: odd" in caplog.text


def test_nan_fails_its_trial_and_the_search_goes_on(study: Study) -> None:
    study.optimize(lambda trial: math.nan if trial.number == 0 else 1.0, n_trials=2)
    assert _states(study) == ["FAIL", "COMPLETE"]


@pytest.mark.parametrize("returned", [None, "high", [1.0, 2.0]])
def test_what_is_no_value_ends_the_search(study: Study, returned: Any) -> None:
    with pytest.raises(StudyError, match=r"the objective returned .* in trial 0: .*Return a number or raise"):
        study.optimize(lambda trial: returned, n_trials=5)
    assert _states(study) == ["FAIL"]
    study.optimize(lambda trial: returned, n_trials=2, catch=StudyError)
    assert _states(study) == ["FAIL"] * 3


def test_an_objective_that_told_its_trial_itself(study: Study) -> None:
    def objective(trial: Trial) -> float:
        study.tell(trial, 3.0)
        return 4.0

    study.optimize(objective, n_trials=1)
    assert study.trials[0].value == 3.0


def test_pruning(study: Study) -> None:
    def objective(trial: Trial) -> float:
        level = trial.suggest_float("level", 0.0, 1.0)
        for step in range(5):
            trial.report(level, step)
            if trial.should_prune():
                raise TrialPruned
        return level

    study.optimize(objective, n_trials=30)
    pruned = study.get_trials(states=[TrialState.PRUNED])
    assert 0 < len(pruned) < 30
    assert all(len(trial.intermediate_values) == 1 for trial in pruned)
    assert all(trial.value == trial.params["level"] for trial in pruned)


def test_workers_run_at_once_and_count_together(study: Study) -> None:
    together = threading.Barrier(3, timeout=20)

    def objective(trial: Trial) -> float:
        if trial.number < 3:
            together.wait()
        return _objective(trial)

    study.optimize(objective, n_trials=20, n_jobs=3)
    assert [trial.number for trial in study.trials] == list(range(20))


def test_ctrl_c_puts_the_trial_back(study: Study) -> None:
    def objective(trial: Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        if trial.number == 1 and len(seen) == 1:
            seen.append(x)
            raise KeyboardInterrupt
        seen.append(x)
        return x

    seen: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, n_trials=3)
    assert _states(study) == ["COMPLETE", "WAITING"]
    study.optimize(objective, n_trials=1)
    assert _states(study) == ["COMPLETE", "COMPLETE"]
    assert seen[2] == seen[1]  # the same trial with the same value


@pytest.fixture
def press_ctrl_c() -> Iterator[Callable[[], None]]:
    """Interrupts the main thread once. A signal that comes just before a wait does not end it, so it is repeated."""
    main, noticed = threading.main_thread().ident, threading.Event()
    assert main is not None

    def interrupt(*_: object) -> None:
        if not noticed.is_set():
            noticed.set()
            raise KeyboardInterrupt

    def press() -> None:
        while not noticed.wait(0.05):
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt)
    yield lambda: threading.Thread(target=press, daemon=True).start()
    noticed.set()
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_puts_back_what_runs_on_threads(study: Study, press_ctrl_c: Callable[[], None]) -> None:
    both, released = threading.Barrier(2), threading.Event()
    threads: list[threading.Thread] = []

    def objective(trial: Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        threads.append(threading.current_thread())
        if both.wait(20) == 0:
            press_ctrl_c()
        released.wait(20)
        return x

    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, n_trials=6, n_jobs=2)
    assert _states(study) == ["WAITING", "WAITING"]
    assert study.stopped.startswith("KeyboardInterrupt")
    chosen = [dict(trial.params) for trial in study.trials]
    running = study.ask()  # of the same number as one that a thread still works on
    released.set()
    for thread in threads:
        thread.join(20)
    study.tell(running, 7.0)  # the thread has not told it
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=1)
    assert _states(study) == ["COMPLETE", "COMPLETE"]
    assert [dict(trial.params) for trial in study.trials] == chosen


@pytest.mark.parametrize("notebook", [False, True], ids=["plain", "inside-a-loop"])
def test_ctrl_c_puts_back_what_runs_as_tasks(study: Study, press_ctrl_c: Callable[[], None], notebook: bool) -> None:
    begun: list[int] = []

    async def objective(trial: Trial) -> float:
        begun.append(trial.number)
        if len(begun) == 2:
            press_ctrl_c()
        await asyncio.sleep(60)
        return 0.0

    def search() -> None:
        study.optimize(objective, n_trials=6, n_jobs=2)

    async def cell() -> None:
        search()

    with pytest.raises(KeyboardInterrupt):
        # A notebook's loop makes no cancellation of the signal.
        asyncio.new_event_loop().run_until_complete(cell()) if notebook else search()
    assert _states(study) == ["WAITING", "WAITING"]
    assert len(begun) == 2


def test_several_objectives() -> None:
    study = create_study(directions=["minimize", "maximize"])

    def objective(trial: Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0.0, 1.0)
        return x, x * x

    study.optimize(objective, n_trials=15)
    assert len(study.best_trials) == 15


class TestBudget:
    def test_it_holds_where_the_objective_runs_and_ends_the_search(self, study: Study) -> None:
        budget = Budget(calls=7)

        def objective(trial: Trial) -> float:
            x = trial.suggest_float("x", 0.0, 1.0)
            assert current().budget is budget
            for _ in range(2):
                budget.reserve(Usage(calls=1)).settle(Usage(calls=1))  # what each call of a model does
            return x

        study.optimize(objective, budget=budget)
        # The fourth trial made one call and was refused the second; it waits for a budget that lets it finish.
        assert _states(study) == ["COMPLETE"] * 3 + ["WAITING"]
        assert budget.exhausted
        study.optimize(objective, budget=budget)
        assert len(study.trials) == 4
        again, budget = study.trials[3].params, Budget(calls=2)
        study.optimize(objective, budget=budget)
        assert _states(study) == ["COMPLETE"] * 4
        assert study.trials[3].params == again

    @pytest.mark.parametrize("n_jobs", [1, 3])
    def test_seconds(self, study: Study, n_jobs: int) -> None:
        def objective(trial: Trial) -> float:
            time.sleep(0.02)
            return 1.0

        study.optimize(objective, budget=Budget(seconds=0.3), n_jobs=n_jobs)  # and it ends
        assert study.stopped.startswith("the budget was used up")
        assert set(_states(study)) <= {"COMPLETE"}

    def test_the_workers_see_it_too(self, study: Study) -> None:
        budget = Budget(calls=10)

        def objective(trial: Trial) -> float:
            current_budget = current().budget
            assert current_budget is budget
            with current_budget.reserve(Usage(calls=1)) as reservation:
                reservation.settle(Usage(calls=1))
            return 1.0

        study.optimize(objective, budget=budget, n_jobs=3)
        assert _states(study).count("COMPLETE") == 10

    def test_an_objective_that_catches_it_goes_on(self, study: Study) -> None:
        def objective(trial: Trial) -> float:
            try:
                raise BudgetExceeded("no calls left")
            except BudgetExceeded:
                return 2.0

        study.optimize(objective, n_trials=1, budget=Budget(calls=1))
        assert study.best_value == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": 3}, r"objective must be a function of a trial, got 3 \(int\)"),
        ({"n_trials": -1}, r"n_trials must be a whole number >= 0, got -1 \(int\)"),
        ({"n_trials": 2.5}, r"n_trials must be a whole number >= 0, got 2\.5 \(float\)"),
        ({"n_jobs": -1}, r"n_jobs must be a whole number >= 1, got -1 \(int\)"),
        ({"n_jobs": None}, r"n_jobs must be a whole number >= 1, got None"),
        ({"timeout": 0}, r"timeout must be a number of seconds > 0 or None, got 0 \(int\)"),
        ({"timeout": "1h"}, r"timeout must be a number of seconds > 0 or None, got '1h' \(str\)"),
        ({"budget": 2.0}, r"budget must be a Budget or None, got 2\.0 \(float\); write budget=Budget\(usd=2\.0\)"),
        ({"catch": "ValueError"}, r"catch must be an exception type or several, got 'ValueError' \(str\)"),
        ({"callbacks": 3}, r"callbacks must be a list of functions, got 3 \(int\)"),
    ],
)
def test_arguments_that_make_no_sense(study: Study, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        study.optimize(**{"objective": _objective, "n_trials": 1, **arguments})
    assert study.trials == []


def test_a_budget_of_zero_says_so() -> None:
    with pytest.raises(TypeError, match="usd"):
        Budget(usd=0)


def test_it_writes_to_the_file_as_it_goes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = create_study(study_name="one", storage=url)

    def objective(trial: Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        other = create_study(study_name="one", storage=url, load_if_exists=True)
        assert other.trials[trial.number].params == {"x": x}
        assert other.trials[trial.number].state is TrialState.RUNNING
        return x

    study.optimize(objective, n_trials=2)


@pytest.mark.parametrize("error", [ValueError("mine"), TrialPruned(), BudgetExceeded("none left"), KeyboardInterrupt()])
def test_what_an_objective_raises_after_it_told_its_trial_is_not_hidden(study: Study, error: BaseException) -> None:
    def objective(trial: Trial) -> float:
        study.tell(trial.number if trial.number % 2 else trial, 3.0)
        raise error

    for _ in range(2):
        if isinstance(error, TrialPruned | BudgetExceeded):
            study.optimize(objective, n_trials=1)
        else:
            with pytest.raises(type(error)):
                study.optimize(objective, n_trials=1)
    assert [trial.value for trial in study.trials] == [3.0, 3.0]


def test_added_trials_report_what_fits_the_study(study: Study) -> None:
    both = create_study(directions=["minimize", "minimize"])
    with pytest.raises(StudyError, match=r"has 2 objectives, so trial\.report takes 2 numbers, got 0\.4"):
        both.add_trial(create_trial(values=[1.0, 2.0], intermediate_values={1: 0.4}))
    with pytest.raises(StudyError, match="the reported value must be a number"):
        study.add_trial(create_trial(value=1.0, intermediate_values={1: (0.4, 0.5)}))
    with pytest.raises(StudyError, match="must be a number"):
        study.tell(study.ask(), 10**400)
