"""A search is replayed from the cache: for nothing, and row for row as it was paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import Budget, JointSearch, MockLM
from dspex.data import Usage
from dspex.errors import BudgetExceeded, ReplayMissError
from dspex.lm import Cache
from dspex.optimizers import OptimizationResult, Optimizer, StructuredSearch
from tests.optimizers.tasks import Capitals, metric, model, trainset


def _told(result: OptimizationResult) -> dict[str, Any]:
    """All that a search decided, and none of what it was billed."""
    assert result.best is not None
    assert result.baseline is not None
    return {
        "trials": [(trial.number, trial.params, trial.values, trial.state) for trial in result.study.trials],
        "rows": sorted((row.trial, row.example_id, row.scores["score"]) for row in result.study.ledger),
        "state": result.state.to_json(),
        "heldout": [sorted((row.example_id, row.score) for row in one.rows) for one in (result.best, result.baseline)],
        "budget": (result.budget or {}).get("spent", {}).get("calls"),
    }


@pytest.mark.parametrize(
    "limits",
    [{"calls": 120}, {"tokens": 20_000}, {"usd": 0.004}],
    ids=["calls", "tokens", "usd"],
)
@pytest.mark.parametrize("kind", [JointSearch, StructuredSearch])
def test_a_search_that_its_budget_ended_is_replayed_as_it_was(
    kind: type[Optimizer], limits: dict[str, Any], tmp_path: Path
) -> None:
    def search(policy: str) -> OptimizationResult:
        lm = MockLM(model, cache=Cache(tmp_path / "cache.db"), price=(0.1, 0.4), max_tokens=100)
        with dspex.context(cache=policy):
            found = kind(concurrency=1, seed=3).optimize(
                Capitals(), trainset(), metric, lm=lm, storage=None, budget=Budget(**limits)
            )
        return found

    first, again = search("on"), search("replay")
    assert "share of Budget" in first.stopped
    assert first.study.ledger.usage().calls > 10
    assert again.study.ledger.usage().calls == 0
    assert again.usage.known_cost == 0.0
    assert _told(again) == _told(first)


def test_each_answer_counts_once_as_what_it_took() -> None:
    cache = Cache()
    lm = MockLM(["one", "two", "three"], cache=cache)
    lm("a")
    lm("b")
    budget = Budget(calls=1)
    with dspex.context(cache="replay", budget=budget), dspex.track_usage() as ledger:
        lm("a")
        lm("a")
        with pytest.raises(BudgetExceeded, match="1 of 1 calls"):
            lm("b")
        with pytest.raises(BudgetExceeded):  # it may be why the first run did not ask
            lm("c")
    with dspex.context(cache="replay", budget=Budget(calls=2)), pytest.raises(ReplayMissError):
        lm("c")
    assert budget.spent.calls == 1
    assert ledger.total == Usage(cached_calls=2, saved_tokens=ledger.total.saved_tokens)
    assert ledger.total.saved_tokens > 0


def test_cached_answers_count_against_no_budget_otherwise() -> None:
    lm = MockLM(["one", "two"], cache=Cache())
    lm("a")
    budget = Budget(calls=1)
    with dspex.context(budget=budget):
        lm("a")
    assert budget.spent.calls == 0
