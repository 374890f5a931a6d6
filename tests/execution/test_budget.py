"""A budget is a cap that nothing passes."""

from __future__ import annotations

import math
import pickle
import threading
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dspex.data import Usage
from dspex.errors import BudgetExceeded, DefinitionError, StateError
from dspex.execution import Amounts, Budget

CALL = Usage(calls=1)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {},
            "Budget() has no limit: give at least one of usd, tokens, calls, seconds, for example dspex.Budget(usd=2",
        ),
        (
            {"usd": 0},
            "Budget(usd=0) must be finite and more than 0, or nothing could be called; write for example "
            "dspex.Budget(usd=2.0), or leave usd out for no limit on it",
        ),
        ({"calls": 0}, "Budget(calls=0) must be finite and more than 0"),
        ({"tokens": -5}, "Budget(tokens=-5) must be finite and more than 0"),
        ({"seconds": math.nan}, "Budget(seconds=nan) must be finite and more than 0"),
        ({"usd": math.inf}, "Budget(usd=inf) must be finite"),
        ({"calls": 2.5}, "Budget(calls=2.5) must be a whole number; write for example dspex.Budget(calls=3)"),
        ({"usd": "2"}, "Budget(usd=...) must be a number, not '2' (str); write for example dspex.Budget(usd=2.0)"),
        ({"calls": True}, "Budget(calls=...) must be a number, not True (bool)"),
    ],
)
def test_limits_that_cannot_be_meant(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Budget(**limits)
    assert message in str(caught.value)


def test_whole_floats_are_counts() -> None:
    assert Budget(tokens=1e6).limits == Amounts(tokens=1_000_000)
    assert repr(Budget(tokens=1e6, usd=2)) == "Budget(usd=2.0, tokens=1000000)"


def test_reserving_holds_the_bound_and_settling_frees_the_rest() -> None:
    budget = Budget(usd=1.0, tokens=1000, calls=10)
    hold = budget.reserve(Usage(calls=1, prompt_tokens=100, completion_tokens=400, cost=0.5))
    assert budget.remaining() == Amounts(usd=0.5, tokens=500, calls=9)
    assert budget.in_flight == Amounts(usd=0.5, tokens=500, calls=1)
    hold.settle(Usage(calls=1, prompt_tokens=90, completion_tokens=10, cost=0.1))
    assert budget.remaining() == Amounts(usd=0.9, tokens=900, calls=9)
    assert budget.in_flight == Amounts(usd=0.0, tokens=0, calls=0)
    spent = budget.spent
    assert (spent.usd, spent.tokens, spent.calls) == (0.1, 100, 1)


def test_ending_a_reservation_twice_counts_once() -> None:
    budget = Budget(calls=5)
    hold = budget.reserve(CALL)
    hold.settle(CALL)
    hold.settle(CALL)
    hold.forfeit()
    hold.release()
    assert budget.spent.calls == 1
    assert budget.remaining().calls == 4


def test_release_gives_all_back_and_forfeit_nothing() -> None:
    budget = Budget(usd=1.0)
    budget.reserve(Usage(calls=1, cost=0.6)).release()
    assert budget.remaining().usd == 1.0
    budget.reserve(Usage(calls=1, cost=0.6)).forfeit()
    assert budget.remaining().usd == 0.4


def test_a_block_that_leaves_it_open_forfeits_it() -> None:
    budget = Budget(calls=2)
    with pytest.raises(KeyError), budget.reserve(CALL):
        raise KeyError
    assert budget.spent.calls == 1


def test_what_the_provider_did_not_tell_counts_at_its_bound() -> None:
    budget = Budget(usd=1.0, tokens=1000)
    bound = Usage(calls=1, prompt_tokens=100, completion_tokens=200, cost=0.25)
    budget.reserve(bound).settle(Usage(calls=1, cost=None))
    spent = budget.spent
    assert (spent.usd, spent.tokens) == (None, 300)
    assert budget.remaining() == Amounts(usd=0.75, tokens=700)


def test_each_limit_names_itself() -> None:
    budget = Budget(calls=1)
    budget.charge(CALL)
    with pytest.raises(BudgetExceeded, match=r"^Budget\(calls=1\): 1 of 1 calls are used, and this needs 1 more$"):
        budget.reserve(CALL)

    budget = Budget(tokens=100)
    budget.charge(Usage(calls=1, prompt_tokens=60))
    held = budget.reserve(Usage(calls=1, prompt_tokens=30))
    with pytest.raises(BudgetExceeded, match=r"may take up to 50 tokens, but of 100 60 \(and 30 in flight\) are spent"):
        budget.reserve(Usage(calls=1, prompt_tokens=50))
    held.release()

    with pytest.raises(
        BudgetExceeded, match=r"Budget\(usd=0.5\): this call may cost up to \$0.75, but of \$0.5 \$0 is"
    ):
        Budget(usd=0.5).reserve(Usage(calls=1, cost=0.75))


def test_a_bound_that_does_not_fit_names_what_lowers_it() -> None:
    bound = Usage(calls=1, prompt_tokens=20, completion_tokens=4000, cost=0.75)
    with pytest.raises(BudgetExceeded, match=r"longest that is allowed, 4000 tokens: .*max_tokens=, or .* tokens="):
        Budget(tokens=1000).reserve(bound)
    with pytest.raises(BudgetExceeded, match=r"4000 tokens: .*max_tokens=, give its price .*price=\(input, output\)"):
        Budget(usd=0.5).reserve(bound)


def test_seconds_that_were_spent_elsewhere_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    budget = Budget(seconds=10)
    budget.charge(Usage(), seconds=7.0)
    now = 200.0  # which does not count, as the clock has not started
    assert budget.seconds_left() == 3.0
    assert budget.spent.seconds == 7.0
    budget.start()
    now = 202.0
    assert budget.remaining().seconds == 1.0
    again = Budget.from_json(budget.to_json())
    assert (again.spent.seconds, again.seconds_left()) == (9.0, 1.0)
    now = 203.0
    assert budget.exhausted


def test_an_unknown_price_is_refused_with_the_way_to_give_it() -> None:
    with pytest.raises(BudgetExceeded) as caught:
        Budget(usd=1.0).reserve(Usage(calls=1, cost=None))
    assert "the price of this call is not known" in str(caught.value)
    assert 'dspex.LM("provider/model", price=(input, output))' in str(caught.value)
    # Without a limit in dollars, prices do not matter.
    budget = Budget(calls=1)
    budget.reserve(Usage(calls=1, cost=None)).settle(Usage(calls=1, cost=None))
    assert budget.spent.usd is None


def test_the_clock_starts_with_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    budget = Budget(seconds=10)
    now = 500.0
    assert budget.seconds_left() == 10
    budget.reserve(CALL).settle(CALL)
    now = 509.0
    assert budget.seconds_left() == 1
    assert not budget.exhausted
    now = 511.0
    assert budget.exhausted
    assert budget.remaining().seconds == 0.0
    with pytest.raises(BudgetExceeded, match="its 10 seconds are over"):
        budget.reserve(CALL)
    with pytest.raises(BudgetExceeded, match="its 10 seconds are over"):
        budget.check()


def test_try_reserve_tells_waiting_from_never() -> None:
    budget = Budget(tokens=100)
    bound = Usage(calls=1, prompt_tokens=60)
    first = budget.try_reserve(bound)
    assert first is not None
    assert budget.try_reserve(bound) is None  # fits once the first has settled for less
    first.settle(Usage(calls=1, prompt_tokens=20))
    second = budget.try_reserve(bound)
    assert second is not None
    second.settle(Usage(calls=1, prompt_tokens=60))
    with pytest.raises(BudgetExceeded):
        budget.try_reserve(bound)


def test_exhausted_means_that_a_limit_is_reached() -> None:
    budget = Budget(calls=2, usd=10)
    assert not budget.exhausted
    budget.check()
    budget.charge(Usage(calls=1, failed_calls=1))
    assert budget.exhausted
    with pytest.raises(BudgetExceeded, match="2 of 2 calls are used"):
        budget.check()


def test_json_keeps_what_was_spent() -> None:
    budget = Budget(usd=2.0, calls=10)
    budget.charge(Usage(calls=3, prompt_tokens=10, cost=0.5))
    twin = Budget.from_json(budget.to_json())
    assert repr(twin) == repr(budget)
    assert twin.remaining() == budget.remaining()
    assert twin.to_json() == budget.to_json()


@pytest.mark.parametrize("data", [{}, {"limits": 3}, {"limits": {"apples": 1}}, {"limits": {"calls": 0}}, None])
def test_json_that_is_no_budget(data: Any) -> None:
    with pytest.raises(StateError, match="this is no saved budget"):
        Budget.from_json(data)


def test_it_does_not_travel_to_another_process() -> None:
    with pytest.raises(TypeError, match="counts in one process and cannot be pickled"):
        pickle.dumps(Budget(calls=1))


def test_money_is_exact() -> None:
    budget = Budget(usd=0.3)
    for _ in range(3):
        budget.reserve(Usage(calls=1, cost=0.1)).settle(Usage(calls=1, cost=0.1))
    assert budget.spent.usd == 0.3
    assert budget.exhausted
    cheap = Budget(usd=0.001)
    for _ in range(1000):
        cheap.reserve(Usage(calls=1, cost=1e-6)).settle(Usage(calls=1, cost=1e-6))
    assert cheap.exhausted


@given(
    limit=st.integers(1, 60),
    plans=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 100), st.booleans()), min_size=1, max_size=40),
)
def test_what_is_spent_and_in_flight_never_passes_the_cap(limit: int, plans: list[tuple[int, int, bool]]) -> None:
    budget = Budget(tokens=limit, usd=limit / 1000)
    open_holds: list[tuple[Any, int]] = []
    for tokens, percent, end_first in plans:
        if end_first and open_holds:
            hold, bound = open_holds.pop(0)
            actual = bound * percent // 100
            hold.settle(Usage(calls=1, prompt_tokens=actual, cost=actual / 1000) if actual else Usage(failed_calls=1))
        try:
            hold = budget.reserve(Usage(calls=1, prompt_tokens=tokens, cost=tokens / 1000))
        except BudgetExceeded:
            pass
        else:
            open_holds.append((hold, tokens))
        spent, held = budget.spent, budget.in_flight
        assert spent.tokens is not None
        assert held.tokens is not None
        assert spent.usd is not None
        assert held.usd is not None
        assert spent.tokens + held.tokens <= limit
        assert spent.usd + held.usd <= limit / 1000 + 1e-12
    for hold, _ in open_holds:
        hold.release()
    assert budget.in_flight == Amounts(usd=0.0, tokens=0, calls=0)


def test_threads_that_reserve_at_once_get_exactly_what_there_is() -> None:
    budget = Budget(calls=500)
    start = threading.Barrier(16)
    got: list[int] = []

    def work() -> None:
        start.wait()
        mine = 0
        while True:
            try:
                hold = budget.reserve(CALL)
            except BudgetExceeded:
                break
            mine += 1
            hold.settle(CALL)
        got.append(mine)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 500
    assert budget.spent.calls == 500
