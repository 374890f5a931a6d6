"""Many configurations at once are what each of them is by itself, however it ends."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import dspex
from dspex import Budget, Example, JointSearch, MockLM, Module, Predict
from dspex.data import Usage
from dspex.errors import DataError, LMAuthError, LMTimeoutError, MetricError, StudyError
from dspex.execution.crew import crew_here, waiting
from dspex.optimizers import OptimizationResult, Racing, Task
from dspex.storage import InMemoryStorage, Storage
from dspex.trials import TrialState
from tests.optimizers.tasks import CAPITALS, Capitals, asked_country, lm, metric, trainset

Jobs = list[tuple[dict[str, Any] | None, list[int]]]

SIZE = 24  # examples of the valset


def task_model(messages: Any, **params: Any) -> dict[str, str]:
    """Which questions it knows depends on the temperature."""
    country = asked_country(messages)
    known = random.Random(f"{country} {params['temperature']}").random() < 0.2 + params["temperature"]
    return {"capital": CAPITALS[country] if known else "?"}


class Blocking(Module):
    def __init__(self) -> None:
        self.answer = Predict("country -> capital", temperature=dspex.Float(0.0, 1.0))

    def forward(self, country: str) -> Any:
        return self.answer(country=country)


def asynchronous() -> Module:
    return Predict("country -> capital", temperature=dspex.Float(0.0, 1.0))


PROGRAMS = pytest.mark.parametrize("program", [asynchronous, Blocking])


def search(
    program: Callable[[], Module],
    do: Callable[[Task], Any],
    *,
    used: MockLM | None = None,
    storage: Storage | None = None,
    budget: Budget | None = None,
    judge: Any = metric,
    **options: Any,
) -> OptimizationResult:
    class Search(dspex.Optimizer):
        def search(self, task: Task) -> None:
            do(task)

    examples = trainset()
    return Search(**{"concurrency": 8, "retries": 0, **options}).optimize(
        program(),
        examples[SIZE + 2 :],
        judge,
        examples[:SIZE],
        testset=examples[SIZE : SIZE + 2],
        lm=used or MockLM(task_model, retries=0),
        storage=storage,
        budget=budget,
        study="one",
        progress=False,
    )


def path_of(task: Task) -> str:
    return next(path for path in task.space.tunable if path.endswith("temperature"))


def asked(task: Task, jobs: Jobs) -> list[tuple[Any, list[Example]]]:
    path = path_of(task)
    return [
        (None if values is None else {path: values["temperature"]}, [task.valset[one] for one in places])
        for values, places in jobs
    ]


def at(temperature: float, *places: int) -> tuple[dict[str, Any], list[int]]:
    return {"temperature": temperature}, list(places)


def told(study: dspex.Study) -> dict[str, Any]:
    return {
        "trials": [(one.number, one.params, one.values, one.state, one.intermediate_values) for one in study.trials],
        "rows": sorted((row.trial, row.fingerprint, row.example_id, row.status, row.score) for row in study.ledger),
    }


# -- at once -------------------------------------------------------------------------------------------------


class Meeting(MockLM):
    """Once it is armed, nobody is answered before ``together`` calls have met."""

    together = 0
    idle = math.inf

    def arm(self, together: int) -> None:
        self.together = together
        self.tasks, self.threads = asyncio.Barrier(together), threading.Barrier(together)

    def _send(self, request: Any, timeout: float | None) -> Any:
        if self.together:
            with waiting():
                self.threads.wait(60)
                self._look()
        return super()._send(request, timeout)

    async def _asend(self, request: Any, timeout: float | None) -> Any:
        if self.together:
            async with asyncio.timeout(60):
                with waiting():
                    await self.tasks.wait()
                    self._look()
        return await super()._asend(request, timeout)

    def _look(self) -> None:
        crew = crew_here()
        assert crew is not None
        self.idle = min(self.idle, crew.working)


class AtOnce(Meeting):
    at_once = math.inf


@PROGRAMS
def test_configurations_on_one_example_each_run_at_once(program: Callable[[], Module]) -> None:
    used = Meeting(task_model)

    def do(task: Task) -> None:
        task.evaluate(examples=task.valset[:1])
        used.arm(8)
        scores = task.evaluate_many(asked(task, [at(number / 10, number) for number in range(1, 9)]))
        used.together = 0
        assert [len(one.rows) for one in scores] == [1] * 8

    assert search(program, do, used=used).stopped == dspex.optimizers.result.COMPLETE


@PROGRAMS
def test_a_model_that_answers_all_at_once_is_asked_all_at_once(program: Callable[[], Module]) -> None:
    used = AtOnce(task_model)

    def do(task: Task) -> None:
        task.evaluate(examples=task.valset[:1])
        used.arm(30)
        task.evaluate_many(asked(task, [at(number / 20, 0, 1, 2) for number in range(1, 11)]))
        used.together = 0

    search(program, do, used=used, concurrency=2)
    assert used.idle == 0, "it is known that all of them wait"


def test_nothing_more_runs_at_once_than_was_said() -> None:
    used, most = MockLM(task_model), list[int]()

    def judge(example: Any, prediction: Any) -> bool:
        most.append(threading.active_count())
        return metric(example, prediction)

    before = threading.active_count()
    jobs: Jobs = [at(number / 10, *range(4)) for number in range(8)]
    search(Blocking, lambda task: task.evaluate_many(asked(task, jobs)), used=used, judge=judge, concurrency=2)
    assert max(most) <= before + 3  # the workers, and those of one batch that are about to end


# -- as each by itself ---------------------------------------------------------------------------------------

JOBS = st.lists(
    st.tuples(
        st.none() | st.sampled_from([0.0, 0.1, 0.5, 0.9]).map(lambda value: {"temperature": value}),
        st.lists(st.integers(0, SIZE - 1), unique=True, max_size=4) | st.just(list(range(SIZE))),
    ),
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(first=JOBS, then=JOBS, seed=st.integers(0, 99))
def test_it_is_as_each_by_itself_whoever_ends_first(first: Jobs, then: Jobs, seed: int) -> None:
    found: dict[bool, Any] = {}
    for together in (True, False):
        delays = random.Random(seed)
        used = MockLM(task_model, latency=lambda delays=delays: delays.random() * 0.002)
        seen: list[Any] = []

        def do(task: Task, together: bool = together, seen: list[Any] = seen) -> None:
            task.evaluate(examples=task.valset[:1])
            for jobs in (first, then):
                wanted = asked(task, jobs)
                scores = (
                    task.evaluate_many(wanted)
                    if together
                    else [task.evaluate(state, examples) for state, examples in wanted]
                )
                for one, (_, examples) in zip(scores, wanted, strict=True):
                    assert [row.example_id for row in one.rows] == [example.id for example in examples]
                seen.append([(one.state.fingerprint, one.values) for one in scores])
                seen.append(task.best_state.fingerprint)

        result = search(asynchronous, do, used=used)
        found[together] = (repr(seen), told(result.study), result.state.fingerprint, len(used.calls))
    assert found[True] == found[False]


@pytest.mark.parametrize("allocator", [None, Racing(step=3)])
def test_a_search_finds_what_it_found_one_by_one(allocator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> Any:
        result = JointSearch(trials=12, width=5, allocator=allocator).optimize(
            Capitals(), trainset(), metric, lm=lm(), storage=None, progress=False
        )
        return told(result.study), result.state.to_json(), result.verdict()

    at_once = found()
    together = Task.evaluate_many

    def one_by_one(self: Task, jobs: Sequence[Any]) -> Any:
        return [scores for job in jobs for scores in together(self, [job])]

    monkeypatch.setattr(Task, "evaluate_many", one_by_one)
    assert found() == at_once


def test_a_configuration_that_is_asked_for_twice_is_paid_for_once() -> None:
    used = MockLM(task_model, retries=0)

    def do(task: Task) -> None:
        one, other, again = task.evaluate_many(asked(task, [at(0.5, 0, 1), at(0.2, 0), at(0.5, 1, 2)]))
        assert [[row.example_id for row in scores.rows] for scores in (one, other, again)] == [
            [task.valset[place].id for place in places] for places in ((0, 1), (0,), (1, 2))
        ]
        assert one.rows[1] == again.rows[0]
        assert len(used.calls) == 4

    search(asynchronous, do, used=used)


def test_what_is_wrong_is_said_before_anything_is_paid() -> None:
    used = MockLM(task_model, retries=0)

    def do(task: Task) -> None:
        with pytest.raises(DataError, match="not in the valset"):
            task.evaluate_many([(None, None), (None, [Example(country="Land 0").with_inputs("country")])])
        assert not used.calls
        assert task.evaluate_many([]) == []

    search(asynchronous, do, used=used)


# -- ends in the middle --------------------------------------------------------------------------------------

GRID: Jobs = [at(number / 10, *range(number, number + 4)) for number in range(5)]


def grid(task: Task) -> None:
    task.evaluate(examples=task.valset[:2])
    ranked = sorted(task.evaluate_many(asked(task, GRID)), key=lambda scores: -scores.score)
    task.evaluate_many([(scores.state, None) for scores in ranked[:2]])


@pytest.fixture(scope="module")
def calm() -> tuple[Any, str, int]:
    used = MockLM(task_model, retries=0)
    result = search(asynchronous, grid, used=used)
    return told(result.study), result.state.fingerprint, len(used.calls)


def resumed(storage: Storage, calm: tuple[Any, str, int], before: int, lost: int) -> None:
    """Goes on to the end that it would have had, and pays again for at most ``lost`` calls."""
    used = MockLM(task_model, retries=0)
    result = search(asynchronous, grid, used=used, storage=storage)
    ended, fingerprint, calls = calm
    assert (told(result.study), result.state.fingerprint) == (ended, fingerprint)
    assert 0 <= before + len(used.calls) - calls <= lost


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("calls", [*range(1, 24), 40, 55])
def test_a_hard_cap_in_the_middle_keeps_all_that_was_paid(
    calls: int, concurrency: int, calm: tuple[Any, str, int]
) -> None:
    storage, used = InMemoryStorage(), MockLM(task_model, retries=0)
    with dspex.context(budget=Budget(calls=calls)):
        result = search(asynchronous, grid, used=used, storage=storage, concurrency=concurrency)
    assert "calls" in result.stopped
    assert len(used.calls) == len(result.study.ledger) == calls
    resumed(storage, calm, calls, 0)


@PROGRAMS
@pytest.mark.parametrize("limits", [{"calls": 12}, {"calls": 31}, {"usd": 0.00004}, {"tokens": 2600}])
def test_a_budget_that_ends_in_the_middle_keeps_all_that_was_paid(
    program: Callable[[], Module], limits: dict[str, Any]
) -> None:
    found = []
    for concurrency in (1, 8):
        storage, used = InMemoryStorage(), MockLM(task_model, price=(0.01, 0.04), max_tokens=100)
        result = search(program, grid, used=used, storage=storage, budget=Budget(**limits), concurrency=concurrency)
        assert "udget" in result.stopped
        sides = [one.rows for one in (result.best, result.baseline) if one is not None]
        compared = {(row.fingerprint, row.example_id) for rows in sides for row in rows}
        assert len(used.calls) == len(result.study.ledger) + len(compared)
        found.append(len(result.study.ledger))
        again = search(program, grid, used=used, storage=storage, budget=Budget(**limits), concurrency=concurrency)
        assert told(again.study) == told(result.study)
        assert len(used.calls) == len(result.study.ledger) + len(compared)
    if "calls" in limits:
        assert "share" in result.stopped
        assert found[0] == found[1], "each takes one, so how many are allowed does not depend on how they are run"


@PROGRAMS
@pytest.mark.parametrize("moment", [0, 1, 2, 5, 9, 16, 21, 22, 35, 60])
def test_ctrl_c_in_the_middle_is_resumed_to_the_same_end(
    program: Callable[[], Module], moment: int, calm: tuple[Any, str, int]
) -> None:
    storage, count = InMemoryStorage(), itertools.count()

    def stopping(messages: Any, **params: Any) -> Any:
        if next(count) == moment:
            raise KeyboardInterrupt
        return task_model(messages, **params)

    used = MockLM(stopping, retries=0)
    result = search(program, grid, used=used, storage=storage)
    assert result.stopped == "interrupted"
    assert moment - 8 < len(result.study.ledger) < calm[2]
    assert result.usage.calls >= len(result.study.ledger)
    if program is asynchronous:
        resumed(storage, calm, len(used.calls), 8)
    else:
        again = search(program, grid, storage=storage)
        assert told(again.study) == told(search(program, grid).study)


@PROGRAMS
def test_a_wrong_metric_stops_all_and_what_was_paid_is_kept(
    program: Callable[[], Module], calm: tuple[Any, str, int]
) -> None:
    storage, used, count = InMemoryStorage(), MockLM(task_model, retries=0), itertools.count()

    def shaky(example: Any, prediction: Any) -> bool:
        if next(count) == 9:
            raise ValueError("a slip")
        return metric(example, prediction)

    with pytest.raises(MetricError, match="a slip"):
        search(program, grid, used=used, storage=storage, judge=shaky)
    study = dspex.load_study(study_name="one", storage=storage)
    assert 9 <= len(study.ledger) < calm[2]
    assert len(used.calls) < calm[2]
    overhead = Usage.from_json(study.system_attrs["overhead"])
    assert 1 <= overhead.calls <= len(used.calls) - len(study.ledger), "the one that was not scored was paid for"


# -- what fails ----------------------------------------------------------------------------------------------


def failing(error: Exception) -> MockLM:
    def model(messages: Any, **params: Any) -> Any:
        if params["temperature"] == 0.3:
            raise error
        return task_model(messages, **params)

    return MockLM(model, retries=0)


@PROGRAMS
def test_others_go_on_where_the_world_fails_one(program: Callable[[], Module]) -> None:
    places = range(SIZE)

    def do(task: Task) -> None:
        task.evaluate(examples=task.valset[:1])
        jobs: Jobs = [at(value, *places) for value in (0.1, 0.3, 0.5)]
        one, failed, other = task.evaluate_many(asked(task, jobs))
        assert (one.failed, failed.failed, other.failed) == (0, SIZE, 0)
        assert math.isnan(failed.score)

    result = search(program, do, used=failing(LMTimeoutError("slow", model="mock")))
    states = [trial.state for trial in result.study.trials]
    assert states[1:] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert {row.trial for row in result.study.ledger if not row.ok} == {2}


@pytest.mark.parametrize("together", [True, False])
def test_what_no_retry_mends_is_raised_for_one_as_it_is_by_itself(together: bool) -> None:
    def do(task: Task) -> None:
        task.evaluate(examples=task.valset[:1])
        jobs: Jobs = [at(0.1, *range(8)), at(0.3, *range(8))]
        task.evaluate_many(asked(task, jobs if together else jobs[1:]))

    with pytest.raises(LMAuthError, match="no key"):
        search(asynchronous, do, used=failing(LMAuthError("no key", model="mock")))


def test_until_something_works_the_first_is_run_by_itself() -> None:
    used = failing(LMTimeoutError("slow", model="mock"))
    jobs: Jobs = [at(0.3, 0, 1), at(0.2, *range(SIZE))]
    with pytest.raises(StudyError, match="all of the first 2 examples failed"):
        search(asynchronous, lambda task: task.evaluate_many(asked(task, jobs)), used=used)
    assert len(used.calls) == 2
