"""One line has one budget, however often it is run, and most of it is used."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import Budget, JointSearch, MockLM
from dspex.errors import LMTimeoutError, MetricError
from dspex.storage import InMemoryStorage, Storage
from dspex.trials import TrialState
from tests.optimizers.tasks import Capitals, asked_country, lm, metric, model, trainset


def search(**options: Any) -> JointSearch:
    return JointSearch(**{"trials": 30, "width": 6, **options})


def run(budget: Budget | None, storage: Storage | None, *, used: MockLM | None = None, **options: Any) -> Any:
    judge = options.pop("metric", metric)
    return search(**options).optimize(Capitals(), trainset(), judge, lm=used or lm(), storage=storage, budget=budget)


@pytest.mark.parametrize("calls", [60, 100, 150, 200, 300])
def test_most_of_a_small_budget_is_used(calls: int) -> None:
    budget = Budget(calls=calls)
    result = run(budget, None)
    assert budget.spent.calls is not None
    assert 0.85 * calls <= budget.spent.calls <= calls
    assert result.baseline is not None
    assert result.baseline.complete
    used = f"budget: {budget.spent.calls / calls:.0%} of {calls} calls used"
    assert used in result.report()
    assert result.to_json()["budget"]["spent"]["calls"] == budget.spent.calls


def test_no_more_is_kept_than_the_comparison_takes() -> None:
    split = dspex.optimizers.split_for_search(trainset(), None, None, seed=0)
    budget = Budget(calls=160)
    result = search().optimize(
        Capitals(),
        split.train,
        metric,
        split.validation,
        testset=split.heldout[:4],
        lm=lm(),
        budget=budget,
        storage=None,
    )
    assert result.best is not None
    assert result.best.complete
    assert len(result.best.rows) == 4
    assert budget.remaining().calls <= 8, "the comparison needs 8 calls, so nothing more was kept back"


def test_the_metrics_own_calls_are_part_of_what_is_kept() -> None:
    judge = MockLM(lambda messages, **params: "yes")

    def judged(example: Any, prediction: Any) -> bool:
        judge("good?")
        return metric(example, prediction)

    budget = Budget(calls=600)
    result = run(budget, None, metric=judged)
    assert result.stopped.startswith("the search's share")
    assert result.best is not None
    assert result.best.complete
    assert result.usage.calls == budget.spent.calls


def test_what_the_metric_asks_is_charged_when_the_line_is_run_again() -> None:
    storage = InMemoryStorage()

    def judged(judge: MockLM) -> Any:
        def ask(example: Any, prediction: Any, judge: MockLM = judge) -> bool:
            judge("good?")
            return metric(example, prediction)

        return ask

    judge = MockLM(lambda messages, **params: "yes")
    budget = Budget(calls=300)
    run(budget, storage, metric=judged(judge))
    again = Budget(calls=300)
    run(again, storage, metric=judged(judge))
    assert again.spent.calls == budget.spent.calls
    assert len(judge.calls) < 300


def test_a_search_that_its_budget_ended_has_ended_for_good() -> None:
    storage = InMemoryStorage()
    first = run(Budget(calls=200), storage)
    used = lm()
    second = run(Budget(calls=200), storage, used=used)
    assert len(used.calls) == 0
    assert second.state.fingerprint == first.state.fingerprint
    assert (second.stopped, second.verdict()) == (first.stopped, first.verdict())
    less = run(Budget(calls=150), storage, used=used)
    assert len(used.calls) == 0
    assert less.verdict() == first.verdict()
    rows = len(first.study.ledger)
    more = run(Budget(calls=500), storage, used=used)
    assert 0 < len(used.calls) <= 500 - first.usage.calls
    assert len(more.study.ledger) > rows


def failing(split: str, *, stop_at: int | None = None) -> MockLM:
    """One question of a split, asked without demos, never gets an answer."""
    splits = dspex.optimizers.split_for_search(trainset(), None, None, seed=0)
    bad = getattr(splits, split)[1].country
    count = itertools.count()

    def flaky(messages: Any, **params: Any) -> Any:
        if next(count) == stop_at:
            raise KeyboardInterrupt
        if "better instruction" not in messages[0]["content"] and asked_country(messages) == bad and len(messages) <= 2:
            raise LMTimeoutError("slow", model="mock")
        return model(messages, **params)

    return MockLM(flaky, retries=0)


@pytest.mark.parametrize("split", ["validation", "train"])
@pytest.mark.parametrize("calls", [300, 330])
def test_an_example_that_failed_does_not_cost_the_winner_when_the_line_is_run_again(split: str, calls: int) -> None:
    storage = InMemoryStorage()
    first = run(Budget(calls=calls), storage, used=failing(split), retries=0)
    assert "share" in first.stopped
    assert first.significant
    assert any(not row.ok for row in first.study.ledger) == (split == "validation")
    used = failing(split)
    again = run(Budget(calls=calls), storage, used=used, retries=0)
    assert again.state.fingerprint == first.state.fingerprint
    assert again.verdict() == first.verdict()
    assert len(used.calls) == 0


@pytest.mark.parametrize("calls", [300, None])
def test_nor_when_it_was_interrupted_in_the_comparison(calls: int | None) -> None:
    def budget() -> Budget | None:
        return None if calls is None else Budget(calls=calls)

    calm = failing("validation")
    whole = run(budget(), None, used=calm, retries=0, trials=12)
    storage = InMemoryStorage()
    first = run(budget(), storage, used=failing("validation", stop_at=len(calm.calls) - 10), retries=0, trials=12)
    assert first.stopped == "interrupted"
    assert len(first.study.ledger) == len(whole.study.ledger)
    again = run(budget(), storage, used=failing("validation"), retries=0, trials=12)
    assert again.state.fingerprint == whole.state.fingerprint
    assert again.verdict() == whole.verdict()


def test_a_search_without_a_budget_goes_on_where_one_ended_it() -> None:
    storage = InMemoryStorage()
    run(Budget(calls=100), storage)
    result = run(None, storage)
    assert result.stopped == dspex.optimizers.result.COMPLETE
    assert result.budget is None
    assert "budget" not in result.report()
    whole = run(None, None)
    assert result.state.fingerprint == whole.state.fingerprint
    assert result.verdict() == whole.verdict()


def test_seconds_count_over_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = InMemoryStorage()
    seconds = [1.0]
    for clock in ("monotonic", "perf_counter"):  # what portions take is measured too
        monkeypatch.setattr(f"time.{clock}", lambda: sum(seconds))

    def slow(messages: Any, **params: Any) -> Any:
        seconds.append(1.0)  # every call takes a second, on whatever thread
        return model(messages, **params)

    first = run(Budget(seconds=200), storage, used=MockLM(slow), concurrency=1)
    assert "seconds" in first.stopped
    assert 150 <= first.usage.calls <= 201
    seconds.append(1000.0)  # time that nobody worked at it does not count
    used = MockLM(slow)
    again = Budget(seconds=200)
    second = run(again, storage, used=used, concurrency=1)
    assert len(used.calls) + first.usage.calls <= 201
    assert again.spent.seconds == pytest.approx(first.budget["spent"]["seconds"] + len(used.calls))
    assert second.state.fingerprint == first.state.fingerprint
    third = run(Budget(seconds=400), storage, used=used, concurrency=1)
    assert 250 <= third.usage.calls <= 401


KILLED = """
import os, sys, time
sys.path.insert(0, {root!r})
import dspex
from tests.optimizers.tasks import Capitals, metric, model, trainset

now = [0.0]
time.monotonic = lambda: now[0]

def slow(messages, **params):
    now[0] += 1.0
    if now[0] == 20.0:
        os._exit(9)
    return model(messages, **params)

dspex.JointSearch(concurrency=1).optimize(
    Capitals(), trainset(), metric, lm=dspex.MockLM(slow), storage="sqlite:///s.db", study="s"
)
"""


def test_seconds_of_a_run_that_was_killed_are_kept(tmp_path: Path) -> None:
    script = KILLED.format(root=str(Path(__file__).parents[2]))
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False).returncode == 9
    study = dspex.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/s.db")
    assert 17 <= study.system_attrs["seconds"] <= 20


def test_one_budget_of_two_searches_is_spent_by_both() -> None:
    storage = InMemoryStorage()
    budget = Budget(calls=400)
    one = run(budget, storage)
    two = run(budget, storage, seed=1)
    assert budget.spent.calls == one.usage.calls + two.usage.calls <= 400
    # In a new process the budget is a new object, and both lines find what they have spent.
    again, used = Budget(calls=400), lm()
    assert run(again, storage, used=used).verdict() == one.verdict()
    assert run(again, storage, used=used, seed=1).verdict() == two.verdict()
    assert len(used.calls) == 0
    assert again.spent.calls == budget.spent.calls


def test_a_run_that_raised_is_charged_once() -> None:
    storage = InMemoryStorage()
    budget = Budget(calls=300)
    count = itertools.count()

    def shaky(example: Any, prediction: Any) -> bool:
        if next(count) == 40:
            raise ValueError("a slip")
        return metric(example, prediction)

    with pytest.raises(MetricError, match="a slip"):
        run(budget, storage, metric=shaky)
    before = budget.spent.calls
    assert before is not None
    assert before >= 40
    used = lm()
    run(budget, storage, used=used, metric=shaky)
    assert budget.spent.calls == before + len(used.calls)


def test_an_objective_that_nothing_gives_is_named_at_once() -> None:
    used = lm()
    with pytest.raises(MetricError, match=r"no value for the objective 'speed'; .*'score'.*'latency'"):
        search().optimize(
            Capitals(), trainset(), metric, lm=used, storage=None, objectives={"score": "maximize", "speed": "maximize"}
        )
    assert len(used.calls) <= 10


def test_trials_that_were_begun_are_left_to_be_continued() -> None:
    result = run(Budget(calls=100), None)
    assert not [trial for trial in result.study.trials if trial.state is TrialState.RUNNING]


class Reconsidered(dspex.Optimizer):
    """Gives a configuration up and then scores it on everything."""

    def search(self, task: Any) -> Any:
        task.evaluate()
        scores = task.evaluate({"answer": "stepwise"}, task.valset[:5])
        task.finish(scores.state, scores)
        return task.evaluate({"answer": "stepwise"}).state


def test_a_trial_that_was_given_up_and_then_completed_is_completed_once() -> None:
    storage = InMemoryStorage()
    for _ in range(3):
        result = Reconsidered().optimize(Capitals(), trainset(), metric, lm=lm(), storage=storage)
        states = [trial.state for trial in result.study.trials]
        assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]


class Rising(dspex.Optimizer):
    """Looks at what is best while nothing has been scored on everything."""

    def search(self, task: Any) -> Any:
        seen = []
        task.evaluate(examples=task.valset[:2])
        for value in ("stepwise", "direct"):
            scores = task.evaluate({"answer": value}, task.valset[:4])
            seen.append((len(scores.rows), scores.score, scores.state.fingerprint))
            best = max(seen, key=lambda one: one[:2])
            assert task.best_state.fingerprint == best[2]
        task.evaluate(task.state)
        assert task.best_state.fingerprint == task.state.fingerprint
        return task.best_state


def test_the_furthest_is_the_best_until_one_has_been_scored_on_everything() -> None:
    Rising().optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)


@pytest.mark.parametrize(("raised", "more"), [(0.9, False), (20.0, True)])
def test_seconds_that_differ_a_little_do_not_begin_an_ended_search_again(
    monkeypatch: pytest.MonkeyPatch, raised: float, more: bool
) -> None:
    storage = InMemoryStorage()
    seconds = [1.0]
    for clock in ("monotonic", "perf_counter"):  # what portions take is measured too
        monkeypatch.setattr(f"time.{clock}", lambda: sum(seconds))

    def slow(messages: Any, **params: Any) -> Any:
        seconds.append(1.0)
        return model(messages, **params)

    run(Budget(seconds=50), storage, used=MockLM(slow), concurrency=1)
    used = MockLM(slow)
    again = run(Budget(seconds=50 + raised), storage, used=used, concurrency=1)
    rows = len(again.study.ledger)
    assert (rows > again.resumed_rows) is more


@pytest.mark.parametrize("concurrency", [1, 8])
def test_what_the_metric_asked_is_kept_when_an_evaluation_raises(concurrency: int) -> None:
    storage, judge, used = InMemoryStorage(), MockLM(lambda messages, **params: "yes"), lm()
    count = itertools.count()

    def judged(example: Any, prediction: Any) -> bool:
        judge("good?")
        if next(count) == 20:
            raise ValueError("a slip")
        return metric(example, prediction)

    with pytest.raises(MetricError, match="a slip"):
        run(None, storage, metric=judged, used=used, concurrency=concurrency, proposers=[])
    study = dspex.load_study(study_name=storage.studies()[0].name, storage=storage)
    overhead = study.system_attrs["overhead"]["calls"]
    unfinished = len(used.calls) + len(judge.calls) - len(study.ledger) - overhead
    assert 0 <= unfinished <= 2 * (concurrency - 1), "what others had in flight"
    assert overhead >= 20


def test_one_budget_charges_one_line_in_two_storages_for_each() -> None:
    budget, one, two = Budget(calls=2000), InMemoryStorage(), InMemoryStorage()
    count = itertools.count()

    def stopping(messages: Any, **params: Any) -> Any:
        if next(count) == 30:
            raise KeyboardInterrupt
        return model(messages, **params)

    run(budget, one, trials=6, width=3)
    run(budget, two, trials=6, width=3, used=MockLM(stopping))
    spent = budget.spent.calls
    run(budget, one, trials=6, width=3)
    assert budget.spent.calls == spent


def test_what_the_metric_takes_is_known_after_a_resumption() -> None:
    storage, judge = InMemoryStorage(), MockLM(lambda messages, **params: "yes")

    def judged(judge: MockLM = judge) -> Any:
        def ask(example: Any, prediction: Any, judge: MockLM = judge) -> bool:
            judge("good?")
            return metric(example, prediction)

        return ask

    for calls in (100, 200):
        run(Budget(calls=calls), storage, metric=judged(), proposers=[])
    study = dspex.load_study(study_name=storage.studies()[0].name, storage=storage)
    known = study.system_attrs["portions"]
    assert known["judged"]["calls"] == known["examples"] == len(study.ledger)


def test_the_first_portion_does_not_say_how_long_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def loading(messages: Any, **params: Any) -> Any:
        now[0] += 0.01 if now[0] else 60.0
        return model(messages, **params)

    result = run(Budget(seconds=100), None, used=MockLM(loading), trials=12)
    assert result.stopped == dspex.optimizers.result.COMPLETE
