"""A search is replayed from the cache: for nothing, and row for row as it was paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import Budget, JointSearch, MockLM
from dspex.data import Usage
from dspex.errors import BudgetExceeded, LMContentFilterError, LMError, LMTimeoutError, ReplayMissError
from dspex.lm import Cache
from dspex.optimizers import OptimizationResult, Optimizer, StructuredSearch
from tests.optimizers.tasks import Capitals, asked_country, metric, model, trainset


def _told(result: OptimizationResult) -> dict[str, Any]:
    """All that a search decided, and none of what it was billed."""
    assert result.best is not None
    assert result.baseline is not None
    return {
        "trials": [(trial.number, trial.params, trial.values, trial.state) for trial in result.study.trials],
        "rows": sorted(
            (row.trial, row.example_id, row.status, row.scores.get("score"), row.error) for row in result.study.ledger
        ),
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


def test_a_search_in_which_calls_failed_is_replayed_with_its_failures(tmp_path: Path) -> None:
    def failing(messages: list[dict[str, str]], **params: Any) -> Any:
        if "better instruction" not in messages[0]["content"]:
            number = int(asked_country(messages).split()[1])
            if number % 11 == 3:
                raise LMContentFilterError("no word about it", usage=Usage(calls=1, prompt_tokens=40, cost=0.001))
            if number % 13 == 5:
                raise LMTimeoutError("too slow")
        return model(messages, **params)

    def search(policy: str) -> OptimizationResult:
        lm = MockLM(failing, cache=Cache(tmp_path / "cache.db"), price=(0.1, 0.4), max_tokens=100, retries=0)
        with dspex.context(cache=policy):
            return JointSearch(concurrency=1, seed=3, retries=1).optimize(
                Capitals(), trainset(), metric, lm=lm, storage=None, budget=Budget(calls=150)
            )

    first, again = search("on"), search("replay")
    assert {"ok", "failed"} == {row.status for row in first.study.ledger}
    assert any("no word about it" in row.error for row in first.study.ledger if row.status == "ok")
    assert again.usage.calls == 0
    assert again.usage.known_cost == 0.0
    assert _told(again) == _told(first)


class TestFailures:
    def _lm(self, *script: Any, retries: int = 0, **options: Any) -> MockLM:
        left = list(script)

        def answer(messages: Any) -> Any:
            if isinstance(left[0], Exception):
                raise left.pop(0)
            return left.pop(0)

        return MockLM(answer, cache=Cache(), retries=retries, **options)

    def test_it_comes_again_in_a_replay_and_nowhere_else(self) -> None:
        spent = Usage(calls=1, prompt_tokens=40, cost=0.001)
        lm = self._lm(LMContentFilterError("no word about it", usage=spent), "one")
        with pytest.raises(LMContentFilterError):
            lm("a")
        budget = Budget(usd=1.0)
        with (
            dspex.context(cache="replay", budget=budget),
            dspex.track_usage() as ledger,
            pytest.raises(LMContentFilterError, match="no word about it") as caught,
        ):
            lm("a")
        assert not caught.value.infrastructure
        spent_again = budget.to_json()["spent"]
        assert [spent_again[name] for name in ("usd", "tokens", "calls")] == [0.001, 40, 1]
        assert (ledger.total.cached_calls, ledger.total.saved_tokens, ledger.total.cost) == (1, 40, 0.0)
        assert lm("a") == ["one"]
        with dspex.context(cache="replay"):  # what was answered then is what counts
            assert lm("a") == ["one"]

    def test_all_its_attempts_count_each_time(self) -> None:
        lm = self._lm(LMTimeoutError("too slow"), LMTimeoutError("too slow"), retries=1)
        for policy in ("on", "replay"):
            budget = Budget(calls=10)
            with dspex.context(cache=policy, budget=budget), pytest.raises(LMTimeoutError) as caught:
                lm("a")
            assert budget.to_json()["spent"]["calls"] == 2
        assert caught.value.replayed
        assert caught.value.infrastructure

    @pytest.mark.parametrize("policy", ["read", "off"])
    def test_it_is_kept_where_answers_are(self, policy: str) -> None:
        lm = self._lm(LMTimeoutError("too slow"))
        with pytest.raises(LMTimeoutError):
            lm("a", cache=policy)
        with dspex.context(cache="replay"), pytest.raises(ReplayMissError):
            lm("a")

    def test_fallbacks_come_before_it_as_far_as_they_were_asked(self) -> None:
        other = self._lm("other's", "other's", model="other")
        late = self._lm(LMTimeoutError("too slow"), fallbacks=(other,))
        assert late("a") == ["other's"]
        refused = self._lm(LMContentFilterError("no"), fallbacks=(other,))
        other("b")
        with pytest.raises(LMContentFilterError):
            refused("b")
        with dspex.context(cache="replay"):
            assert late("a") == ["other's"]
            with pytest.raises(LMContentFilterError):
                refused("b")

    def test_all_that_failed_is_the_first_ones_failure(self) -> None:
        other = self._lm(LMTimeoutError("slow too"), model="other")
        lm = self._lm(LMError("down"), fallbacks=(other,))
        for policy in ("on", "replay"):
            with pytest.raises(LMError, match="down"):
                lm("a", cache=policy)


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
