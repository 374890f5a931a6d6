"""Several evaluations under one concurrency: each keeps what is its own, and what stops one stops all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dspex.data import Evaluation, Example, Usage
from dspex.errors import MetricError
from dspex.evaluate import Progress, Scorer, Terms
from dspex.evaluate.batch import Batch
from dspex.evaluate.collector import Collector
from dspex.execution import Budget
from tests.evaluate.fakes import Fake, examples, right


def collector(
    program: Any,
    devset: Sequence[Example],
    trial: int,
    *,
    terms: Terms | None = None,
    metric: Any = right,
    on_result: Callable[[Evaluation], object] | None = None,
) -> Collector:
    return Collector(
        program,
        devset,
        Scorer.of(metric),
        terms or Terms(retries=0),
        rollouts=1,
        fingerprint=f"fingerprint {trial}",
        trial=trial,
        on_result=on_result,
        on_usage=None,
        progress=Progress(),
    )


def run(batch: Batch, *, awaited: bool) -> None:
    if awaited:
        asyncio.run(batch.arun())
    else:
        batch.run()


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("natively", [(True, True), (False, False), (True, False)])
def test_each_has_its_own_rows_whichever_way_they_run(natively: tuple[bool, bool], awaited: bool) -> None:
    good = Fake(natively_async=natively[0], latency=0.001)
    bad = Fake(lambda question: "?", natively_async=natively[1], latency=0.001)
    seen: list[int | None] = []
    both = [
        collector(good, examples(5), 3, on_result=lambda row: seen.append(row.trial)),
        collector(bad, examples(7), 4, on_result=lambda row: seen.append(row.trial)),
    ]
    run(Batch(both, concurrency=4), awaited=awaited)
    one, other = (each.result() for each in both)
    assert (one.score, len(one.rows), one.complete) == (1.0, 5, True)
    assert (other.score, len(other.rows), other.complete) == (0.0, 7, True)
    assert [row.example_id for row in other.rows] == [example.id for example in examples(7)]
    assert {(row.trial, row.fingerprint) for row in one.rows} == {(3, "fingerprint 3")}
    assert sorted(map(int, filter(None, seen))) == [3] * 5 + [4] * 7


@pytest.mark.parametrize("natively", [True, False])
@pytest.mark.parametrize("calls", range(1, 10))
def test_a_budget_that_one_uses_up_stops_all(calls: int, natively: bool) -> None:
    budget = Budget(calls=calls)
    programs = [Fake(natively_async=natively, reserve=True, usage=Usage(calls=1)) for _ in range(3)]
    terms = Terms(retries=0, budget=budget)
    all_of_them = [collector(program, examples(4), trial, terms=terms) for trial, program in enumerate(programs)]
    run(Batch(all_of_them, concurrency=3), awaited=False)
    results = [each.result() for each in all_of_them]
    assert sum(len(result.rows) for result in results) == calls == budget.spent.calls
    assert len({result.stopped for result in results}) == 1
    assert results[0].stopped.startswith("BudgetExceeded: ")


@pytest.mark.parametrize("natively", [True, False])
def test_an_error_of_one_ends_all(natively: bool) -> None:
    def wrong(example: Any, prediction: Any) -> bool:
        raise ValueError("a slip")

    first, second = Fake(natively_async=natively), Fake(natively_async=natively)
    both = [collector(first, examples(3), 0), collector(second, examples(200), 1, metric=wrong)]
    with pytest.raises(MetricError, match="a slip"):
        run(Batch(both, concurrency=1), awaited=False)
    assert [len(each.result().rows) for each in both] == [3, 0]
    assert second.calls < 200
    assert all(each.stopped for each in both)


def test_objectives_need_to_agree_within_each_only() -> None:
    def named(example: Any, prediction: Any) -> dict[str, float]:
        return {"score": 1.0, prediction.answer: 1.0}

    both = [collector(Fake(lambda _, name=name: name), examples(3), 0, metric=named) for name in ("recall", "speed")]
    run(Batch(both, concurrency=2), awaited=False)
    assert [each.result().complete for each in both] == [True, True]
