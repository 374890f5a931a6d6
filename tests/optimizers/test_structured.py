"""The structured search: it finds what is there, by few evaluations, and goes on where it was."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest

import dspex
from dspex import Budget, Example, MockLM
from dspex.errors import DefinitionError
from dspex.optimizers import StructuredSearch
from dspex.proposers import LabeledDemos
from dspex.samplers import Beliefs
from dspex.storage import InMemoryStorage
from dspex.study import create_study
from dspex.trials import TrialState
from tests.optimizers.tasks import CAPITALS, Capitals, asked_country, lm, metric, model, trainset


def search(**options: Any) -> StructuredSearch:
    return StructuredSearch(**{"evaluations": 120, "startup": 20, "proposers": [LabeledDemos()], **options})


def test_it_finds_the_demos_with_fewer_evaluations_than_configurations_times_examples() -> None:
    result = search().optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)
    assert result.significant
    assert result.best is not None
    assert result.best.score > 0.8
    assert len(result.state[f"answer.{result.state['answer']}.demos"]) > 0
    assert len(result.study.ledger) <= 120
    assert {trial.state for trial in result.study.trials} <= {TrialState.PRUNED, TrialState.COMPLETE}
    tried = {row.fingerprint for row in result.study.ledger}
    assert len(tried) * 21 > 3 * len(result.study.ledger)


class Meeting(MockLM):
    """Answers none of the calls of the second round before all eight have come."""

    def __init__(self) -> None:
        super().__init__(model)
        self.numbers = itertools.count()
        self.barrier = threading.Barrier(8)
        self.met: list[bool] = []

    def _send(self, request: Any, timeout: float | None) -> Any:
        if 4 <= next(self.numbers) < 12:
            self.barrier.wait(60)
            self.met.append(True)
        return super()._send(request, timeout)


def test_what_a_round_pays_for_runs_at_once() -> None:
    used = Meeting()
    search(evaluations=60, step=8, concurrency=8).optimize(Capitals(), trainset(), metric, lm=used, storage=None)
    assert len(used.met) == 8


@pytest.mark.parametrize(("advantage", "share"), [(-1e9, 0.75), (-50.0, 0.75), (0.0, 0.5), (50.0, 0.25), (1e9, 0.25)])
@pytest.mark.parametrize("step", [1, 3, 8])
def test_known_configurations_are_run_again_the_more_the_less_their_parts_foretell(
    step: int, advantage: float, share: float
) -> None:
    plans = []

    class Foretelling(StructuredSearch):
        def _plan(self, task: Any, beliefs: Beliefs | None, *args: Any) -> dict[str, Any]:
            beliefs = beliefs and attrs.evolve(beliefs, advantage=advantage)
            plans.append(super()._plan(task, beliefs, *args))
            return plans[-1]

    Foretelling(evaluations=148, startup=20, step=step, proposers=[LabeledDemos()]).optimize(
        Capitals(), trainset(), metric, lm=lm(), storage=None
    )
    sizes = [(sum(map(len, plan["new"])), len(plan["more"])) for plan in plans]
    assert sizes[0] == ((step + 1) // 2, 0), "the program as it is"
    assert sum(map(sum, sizes)) == 148
    assert max(map(sum, sizes)) == step
    later = sizes[next(place for place, plan in enumerate(plans) if plan["known"] is not None) :]
    assert sum(more for _, more in later) / sum(map(sum, later)) == pytest.approx(share, abs=0.1)


def test_the_result_is_what_is_good_for_sure() -> None:
    def chosen(mean: list[float], deviation: list[float], counts: list[float]) -> int:
        beliefs = Beliefs(
            trials=tuple(range(len(mean))),
            mean=np.array(mean),
            covariance=np.diag(np.square(deviation)),
            counts=np.array(counts),
            examples={},
            advantage=0.0,
        )
        preferred: list[int] = []
        study = SimpleNamespace(trials=range(len(mean)), state=lambda trial: trial)
        StructuredSearch()._prefer(SimpleNamespace(study=study, prefer=preferred.append), beliefs)  # type: ignore[arg-type]
        return preferred[0]

    assert chosen([2.0, 1.9], [0.5, 0.3], [9, 9]) == 1, "a little less, but more surely so"
    assert chosen([2.0, 1.6], [0.5, 0.3], [9, 9]) == 0
    assert chosen([2.0, 1.0], [0.5, 0.3], [1, 30]) == 0, "how often it was run counts by the deviation alone"


def test_it_stays_within_its_evaluations_and_never_pays_twice() -> None:
    result = search(evaluations=50).optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)
    rows = [(row.fingerprint, row.example_id) for row in result.study.ledger]
    assert len(rows) == len(set(rows)) <= 50


def test_the_same_line_again_costs_nothing_and_says_the_same() -> None:
    storage = InMemoryStorage()
    first = search().optimize(Capitals(), trainset(), metric, lm=lm(), storage=storage)
    model_object = lm()
    again = search().optimize(Capitals(), trainset(), metric, lm=model_object, storage=storage)
    assert not model_object.calls
    assert again.state.fingerprint == first.state.fingerprint
    assert len(again.study.trials) == len(first.study.trials)


def test_a_flat_task_claims_no_gain() -> None:
    def flat(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        country = asked_country(messages)
        return {"reasoning": "", "capital": CAPITALS[country] if int(country.split()[1]) % 2 else "?"}

    result = search().optimize(Capitals(), trainset(), metric, lm=MockLM(flat), storage=None)
    assert not result.significant
    assert "no significant gain" in result.report()


@pytest.mark.parametrize("calls", [3, 40, 90])
def test_when_the_budget_ends_the_best_so_far_comes_back(calls: int) -> None:
    model_object = lm()
    result = search().optimize(
        Capitals(), trainset(), metric, lm=model_object, storage=None, budget=Budget(calls=calls)
    )
    assert len(model_object.calls) <= calls
    assert "budget" in result.stopped.lower()
    if calls == 90:
        assert result.state.changes(), "what the model thinks best comes back, though nothing was run on all examples"


@pytest.mark.parametrize("cut", [None, 31, 46, 47])
def test_the_result_goes_by_all_that_was_paid_for_even_when_a_round_is_cut_off(cut: int | None) -> None:
    considered = []

    class Noting(StructuredSearch):
        def _prefer(self, task: Any, beliefs: Any) -> None:
            super()._prefer(task, beliefs)
            considered.append((int(beliefs.counts.sum()), task.best_state.fingerprint))

    calls = 0

    def answer(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == cut:
            raise KeyboardInterrupt
        return model(messages, **params)

    result = Noting(evaluations=120, startup=20, proposers=[LabeledDemos()], concurrency=1).optimize(
        Capitals(), trainset(), metric, lm=MockLM(answer), storage=None, budget=Budget(calls=110)
    )
    assert result.stopped == "interrupted" if cut else "budget" in result.stopped.lower()
    assert considered[-1] == (len(result.study.ledger), result.state.fingerprint)


def test_a_search_that_was_cut_off_goes_on_as_if_nothing_had_happened() -> None:
    whole = search().optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)
    storage, calls = InMemoryStorage(), 0

    def cut(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 60:
            raise KeyboardInterrupt
        return model(messages, **params)

    first = search(concurrency=1).optimize(Capitals(), trainset(), metric, lm=MockLM(cut), study="s", storage=storage)
    assert first.stopped == "interrupted"
    again = search().optimize(Capitals(), trainset(), metric, lm=lm(), study="s", storage=storage)
    assert again.resumed_rows == 59
    assert [dict(t.params) for t in again.study.trials] == [dict(t.params) for t in whole.study.trials]
    assert {(r.fingerprint, r.example_id) for r in again.study.ledger} == {
        (r.fingerprint, r.example_id) for r in whole.study.ledger
    }
    assert again.state.fingerprint == whole.state.fingerprint


def test_an_objective_that_is_no_share_and_is_minimized() -> None:
    def wrong(example: Example, prediction: Any) -> dict[str, float]:
        return {"score": 100.0 * (example.capital != prediction.capital) + len(prediction.capital) / 10}

    result = search(failure_score=200.0).optimize(
        Capitals(), trainset(), wrong, lm=lm(), storage=None, objectives={"score": "minimize"}
    )
    assert result.best is not None
    assert result.best.score < 25


def test_a_study_of_ones_own_has_to_have_the_sampler() -> None:
    program = Capitals()
    study = create_study(space=program.space(), direction="maximize")
    with pytest.raises(DefinitionError, match=r"has the sampler TPESampler.*create_study\(sampler=StructuredSampler"):
        search().optimize(program, trainset(), metric, lm=lm(), study=study)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluations": 0}, "evaluations must be a whole number from 1 on, got 0"),
        ({"step": 0}, "step must be a whole number from 1 on, got 0"),
        ({"proposers": "demos"}, "proposers must be a list of proposers, got 'demos'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        dspex.optimizers.StructuredSearch(**options)
