"""Racing in the joint search: what it pays for, what it puts out, how often wrongly, and that it repeats itself."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import dspex
from dspex import Budget, Example, JointSearch, MockLM
from dspex.data import Evaluation
from dspex.errors import DefinitionError
from dspex.optimizers import Racing, Scores, Watcher
from dspex.optimizers.racing import Race
from dspex.storage import InMemoryStorage
from dspex.trials import TrialState
from tests.optimizers.tasks import Capitals, lm, metric, model, trainset


class Table:
    """As much of a task as a race needs: scores that are written down, (configurations, examples); NaN fails."""

    def __init__(self, outcomes: Any, *, seed: int, best: int | None = None) -> None:
        self.outcomes = np.asarray(outcomes, dtype=float)
        self.valset = [Example(number=number) for number in range(self.outcomes.shape[1])]
        self.objectives = {"score": "maximize"}
        self.watcher = Watcher()
        self.seed = seed
        self.paid: dict[tuple[str, str], Evaluation] = {}
        self.finished: list[str] = []
        self.study = SimpleNamespace(ledger=self.paid.values())
        self.best: Scores | None = None
        self.states: list[Any] = [SimpleNamespace(fingerprint=str(row)) for row in range(len(self.outcomes))]
        if best is not None:
            self.best = self.evaluate(self.states[best])

    def random(self, *key: str) -> random.Random:
        return random.Random(":".join([str(self.seed), *key]))

    def remember(self, key: str, make: Any) -> Any:
        return make()

    def evaluate(self, state: Any, examples: Sequence[Example] | None = None) -> Scores:
        rows = []
        for example in self.valset if examples is None else examples:
            value = float(self.outcomes[int(state.fingerprint), example["number"]])
            scores = {} if math.isnan(value) else {"score": value}
            status: Any = "ok" if scores else "failed"
            row = Evaluation(example_id=example.id, status=status, scores=scores, fingerprint=state.fingerprint)
            rows.append(self.paid.setdefault((state.fingerprint, example.id), row))
        return Scores(state, tuple(rows), ("score",))

    def evaluate_many(self, jobs: Sequence[tuple[Any, Sequence[Example]]]) -> list[Scores]:
        return [self.evaluate(state, examples) for state, examples in jobs]

    def finish(self, state: Any, scores: Scores) -> None:
        self.finished.append(state.fingerprint)


def outs(table: Table, states: Sequence[Any], **options: Any) -> set[str]:
    """Who is put out in one race, whoever is paid for first."""
    racing = Racing(**options)
    race = racing._race(table, "0", states)  # type: ignore[arg-type]  # it is as much of a task as is needed
    racing._run(table, race, racing.optimism)  # type: ignore[arg-type]  # see above
    return {one.state.fingerprint for one in race.runners if one.out}


def _outcomes(seed: int, count: int) -> Any:
    """A bar, one that is exactly as good on other examples, and others; some examples are hard for all."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0.5, 2.0, count)
    table = [(rng.random(count) < 1 / (1 + np.exp(-ease - shift))) * 1.0 for shift in (0.5, 0.5, -0.5, -3.0)]
    surplus = int(table[1].sum() - table[0].sum())
    flip = rng.permutation(np.flatnonzero(table[1] == (1.0 if surplus > 0 else 0.0)))[: abs(surplus)]
    table[1][flip] = 1 - table[1][flip]
    return np.array(table)


@pytest.mark.parametrize("optimism", [0.5, math.inf])
def test_one_that_is_as_good_as_the_bar_is_put_out_no_oftener_than_stated(optimism: float) -> None:
    runs, alpha, wrong, right = 120, 0.2, 0, 0
    for seed in range(runs):
        table = Table(_outcomes(seed, 24), seed=seed, best=0)
        out = outs(table, table.states, alpha=alpha, optimism=optimism, step=2)
        wrong += "1" in out
        right += "3" in out
    # Half of alpha is for the race of the bracket, the other half for the last one; four deviations for the draw.
    assert wrong <= runs * alpha / 2 + 4 * math.sqrt(runs * alpha / 2)
    if math.isinf(optimism):
        assert wrong > 0
        assert right > 0.9 * runs


def test_that_hard_examples_come_sooner_is_no_evidence() -> None:
    """One that is as good as the bar, and wins where little is drawn: by bets that know no chances it would be out."""
    runs, alpha, wrong = 120, 0.5, 0
    usual = [1.0] * 12 + [0.0] * 12
    outcomes = [[1.0] * 8 + [0.0] * 4 + [1.0] * 4 + [0.0] * 8, usual, *[usual] * 4]
    for seed in range(runs):
        table = Table(outcomes, seed=seed, best=0)
        for state in table.states[2:]:
            table.evaluate(state)
        race = Race(table, "1", [table.states[1]], lambda row, name: row.scores[name], margin=0.0)  # type: ignore[arg-type]
        for _ in range(23):
            race.run(race.runners, 1)
            if race.doubt(race.runners[0]) >= 1 / alpha:
                wrong += 1
                break
    assert 0 < wrong <= runs * alpha + 3 * math.sqrt(runs * alpha * (1 - alpha))


def test_the_hopeless_are_hardly_paid_for() -> None:
    table = Table([[1.0] * 28 + [0.0] * 12, *[[0.0] * 40] * 6], seed=1, best=0)
    before = len(table.paid)
    Racing(step=4).allot(table, table.states, 1)  # type: ignore[arg-type]  # as above
    assert len(table.paid) - before == 6 * 4


def test_who_is_not_shown_to_be_worse_is_left_open_and_settled_in_the_end() -> None:
    rng = np.random.default_rng(0)
    table = Table([rng.permutation([1.0] * right + [0.0] * (40 - right)) for right in (28, 26, 26, 25)], seed=3, best=0)
    racing = Racing(step=4)
    left = racing.allot(table, table.states, 1)  # type: ignore[arg-type]  # as above
    assert left
    racing.settle(table, left)  # type: ignore[arg-type]  # as above
    for state in left:
        count = sum(fingerprint == state.fingerprint for fingerprint, _ in table.paid)
        assert count == 40 or state.fingerprint in table.finished


def test_a_race_without_a_bar_runs_the_best_on_everything() -> None:
    rng = np.random.default_rng(1)
    table = Table([rng.permutation([1.0] * right + [0.0] * (40 - right)) for right in (10, 12, 34, 8)], seed=0)
    racing = Racing()
    racing.allot(table, table.states, 0)  # type: ignore[arg-type]  # as above
    counts = [sum(fingerprint == str(row) for fingerprint, _ in table.paid) for row in range(4)]
    assert counts[2] == 40
    assert max(counts[0], counts[1], counts[3]) < 40


def test_a_race_of_the_bar_alone_costs_nothing() -> None:
    table = Table([[1.0, 0.0] * 10] * 2, seed=0, best=0)
    racing, before = Racing(), len(table.paid)
    assert racing.allot(table, table.states[:1], 1) == []  # type: ignore[arg-type]  # as above
    racing.settle(table, [])  # type: ignore[arg-type]  # as above
    assert len(table.paid) == before


def test_a_configuration_that_always_fails_is_no_end_of_a_race() -> None:
    table = Table([[math.nan] * 12, [1.0, 0.0] * 6], seed=0)
    Racing().allot(table, table.states, 0)  # type: ignore[arg-type]  # as above
    assert sum(fingerprint == "1" for fingerprint, _ in table.paid) == 12


def test_what_failed_is_taken_to_be_as_good_as_the_bar() -> None:
    table = Table([[1.0] * 28 + [0.0] * 12, [math.nan] * 39 + [1.0], [0.0] * 39 + [1.0]], seed=0, best=0)
    assert outs(table, table.states, alpha=0.2, optimism=math.inf) == {"2"}


def test_what_failed_is_no_evidence_with_a_margin_either() -> None:
    table = Table([[0.7] * 40, [math.nan] * 40, [math.nan, math.nan, 0.95, 0.95] * 10, [0.7] * 40], seed=0, best=0)
    assert outs(table, table.states, alpha=0.2, margin=0.2, optimism=math.inf) == {"3"}


def test_examples_on_which_little_is_expected_are_drawn_sooner() -> None:
    places: list[float] = []
    for seed in range(30):
        table = Table([[1.0] * 30 + [0.0] * 10] * 4, seed=seed, best=0)
        for state in table.states:
            table.evaluate(state)
        race = Race(table, "1", table.states, lambda row, name: row.scores[name], margin=0.0)  # type: ignore[arg-type]
        places += [place for place, example in enumerate(race.examples) if example["number"] >= 30]
    assert np.mean(places) < 10


# In the search itself


def raced(**options: Any) -> JointSearch:
    return JointSearch(**{"trials": 12, "width": 6, "allocator": Racing(), **options})


def test_it_finds_the_demos_and_says_so() -> None:
    result = raced().optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)
    assert result.significant
    assert {trial.state for trial in result.study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    full = [t for t in result.study.trials if t.state is TrialState.COMPLETE]
    assert all(len({row.example_id for row in result.study.ledger.rows(fingerprint=t.fingerprint)}) == 21 for t in full)


def test_the_same_seed_repeats_the_race_and_another_does_not() -> None:
    def rows(seed: int) -> set[tuple[str, str]]:
        result = raced(seed=seed).optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)
        return {(row.fingerprint, row.example_id) for row in result.study.ledger}

    assert rows(3) == rows(3)
    assert rows(3) != rows(4)


def test_a_race_that_was_broken_off_is_finished_as_if_it_had_not_been() -> None:
    def run(storage: InMemoryStorage, budget: Budget | None = None) -> dspex.OptimizationResult:
        search = raced(trials=8, width=4, proposers=[dspex.proposers.LabeledDemos()])
        return search.optimize(Capitals(), trainset(), metric, lm=lm(), storage=storage, study="s", budget=budget)

    whole, storage = run(InMemoryStorage()), InMemoryStorage()
    for calls in (90, 10_000):
        pieces = run(storage, Budget(calls=calls))
    paid = [{(row.fingerprint, row.example_id) for row in one.study.ledger} for one in (whole, pieces)]
    assert paid[0] == paid[1]
    assert pieces.state.fingerprint == whole.state.fingerprint


def test_what_fails_in_a_race_ranks_nothing() -> None:
    calls = {"n": 0}

    def shaky(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        calls["n"] += 1
        if calls["n"] % 9 == 0:
            raise dspex.errors.LMServerError("down for a moment")
        return model(messages, **params)

    result = raced(retries=0).optimize(Capitals(), trainset(), metric, lm=MockLM(shaky, retries=0), storage=None)
    assert any(not row.ok for row in result.study.ledger)
    assert result.significant


def test_several_objectives_need_bounds_for_what_is_measured() -> None:
    objectives = {"score": "maximize", "tokens": "minimize"}
    asked = lm()
    with pytest.raises(DefinitionError, match=r"'tokens' has no bounds.*Racing\(bounds=\{'tokens': \(0, \.\.\.\)\}\)"):
        raced().optimize(Capitals(), trainset(), metric, lm=asked, storage=None, objectives=objectives)
    assert not asked.calls
    search = raced(allocator=Racing(bounds={"tokens": (0, 4000)}))
    result = search.optimize(Capitals(), trainset(), metric, lm=lm(), storage=None, objectives=objectives)
    assert result.pareto


def test_a_score_outside_the_bounds_says_what_to_write() -> None:
    def percent(example: Example, prediction: Any) -> float:
        return 100.0 * metric(example, prediction)

    with pytest.raises(DefinitionError, match=r"score = 100\.0 lies outside.*Racing\(bounds=\{'score': \(lowest"):
        raced().optimize(Capitals(), trainset(), percent, lm=lm(), storage=None)
    search = raced(allocator=Racing(bounds={"score": (0, 100)}))
    assert search.optimize(Capitals(), trainset(), percent, lm=lm(), storage=None).significant


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Racing(alpha=1),
            r"alpha must be a number from .*, got 1 \(int\); write for example alpha=0.05",
        ),
        (lambda: Racing(margin=True), r"margin must be a number from 0 .*, got True \(bool\)"),
        (lambda: Racing(optimism=-1), r"optimism must be a number from 0 to inf, got -1"),
        (lambda: Racing(step=0), r"step must be a whole number from 1 on, got 0"),
        (
            lambda: Racing(bounds={"score": (1, 0)}),
            r"bounds\['score'\] must be the lowest and the highest value.*\(1, 0",
        ),
        (lambda: JointSearch(allocator="racing"), r"allocator must be an Allocator, got 'racing' \(str\)"),
    ],
)
def test_arguments_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()


def test_the_allocator_is_part_of_the_name_of_a_search() -> None:
    def name(allocator: Any) -> str:
        search = raced(allocator=allocator, proposers=[])
        options: dict[str, Any] = {"lm": lm(), "storage": None, "budget": Budget(calls=1)}
        return search.optimize(Capitals(), trainset(), metric, **options).study.study_name

    kinds = [None, dspex.optimizers.Halving(eta=2), Racing(), Racing(alpha=0.1), Racing(bounds={"score": (0, 2)})]
    assert len({name(kind) for kind in kinds}) == len(kinds)
