"""The joint search: it finds what is there, spends what it may, and says what is so."""

from __future__ import annotations

import json
import math
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dspex
from dspex import Budget, Example, JointSearch, MockLM, Predict
from dspex.errors import BindingError, DataError, DefinitionError, LMAuthError, MetricError, StateError
from dspex.optimizers import BootstrapFewShot, Halving, LabeledFewShot
from dspex.proposers import LabeledDemos
from dspex.trials import TrialState
from tests.optimizers.tasks import CAPITALS, Capitals, asked_country, lm, metric, model, trainset


def search(**options: Any) -> JointSearch:
    return JointSearch(**{"trials": 12, "width": 6, **options})


def test_it_finds_the_demos_and_reports_a_significant_gain() -> None:
    program = Capitals()
    result = search().optimize(program, trainset(), metric, lm=lm(), storage=None)
    assert result.significant
    assert result.baseline is not None
    assert result.best is not None
    assert result.best.score > result.baseline.score + 0.5
    demos = f"answer.{result.state['answer']}.demos"
    assert len(result.state[demos]) > 0
    assert result.program.answer.choice == result.state["answer"]
    assert program.space().defaults() == Capitals().space().defaults(), "the program that was given is not changed"
    text = result.report()
    for part in ("significant gain", "held-out", "baseline", "what changed", demos, "calls"):
        assert part in text
    assert json.loads(json.dumps(result.to_json()))["significant"] is True


def test_the_search_never_sees_the_held_out_examples() -> None:
    seen: list[str] = []
    told: list[int] = []

    class Spy(dspex.optimizers.Watcher):
        def phase(self, name: str) -> None:
            if name.startswith("comparing"):
                told.append(len(seen))

    def watched(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        seen.append("\n".join(m["content"] for m in messages))
        return model(messages, **params)

    result = search().optimize(Capitals(), trainset(), metric, lm=MockLM(watched), storage=None, watcher=Spy())
    assert result.best is not None
    heldout = {row.example_id for row in result.best.rows}
    names = {e.country for e in trainset() if e.id in heldout}
    assert len(names) == 21
    during_search = "\n".join(seen[: told[0]])
    assert not [name for name in names if f"{name}\n" in f"{during_search}\n"]
    assert not heldout & {row.example_id for row in result.study.ledger}


def test_flat_tasks_claim_no_gain() -> None:
    def flat(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        if "better instruction" in messages[0]["content"]:
            return {"instruction": "Guess."}
        country = asked_country(messages)
        return {"reasoning": "", "capital": CAPITALS[country] if int(country.split()[1]) % 2 else "?"}

    result = search().optimize(Capitals(), trainset(), metric, lm=MockLM(flat), storage=None)
    assert not result.significant
    assert "no significant gain" in result.report()
    assert result.test is not None
    assert result.test.difference == 0


def test_a_winner_that_loses_on_held_out_examples_is_not_returned() -> None:
    split = dspex.optimizers.split_for_search(trainset(), None, None, seed=0)
    lucky = {e.country for e in split.validation}

    def overfit(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        if "better instruction" in messages[0]["content"]:
            return {"instruction": "Guess."}
        country = asked_country(messages)
        return {"reasoning": "", "capital": CAPITALS[country] if (len(messages) > 2) == (country in lucky) else "?"}

    result = search().optimize(Capitals(), trainset(), metric, lm=MockLM(overfit), storage=None)
    assert result.kept_baseline
    assert result.state.changes() == {}
    assert "the baseline is kept" in result.report()


@pytest.mark.parametrize("calls", [1, 7, 40, 150])
def test_the_budget_is_a_hard_cap_and_the_best_so_far_comes_back(calls: int) -> None:
    model_object = lm()
    budget = Budget(calls=calls)
    result = search().optimize(Capitals(), trainset(), metric, lm=model_object, storage=None, budget=budget)
    assert len(model_object.calls) <= calls
    assert budget.spent.calls == len(model_object.calls)
    assert isinstance(result.program, Capitals)
    assert "budget" in result.stopped.lower()


def test_some_of_the_budget_is_kept_for_the_held_out_comparison() -> None:
    result = search(trials=60).optimize(Capitals(), trainset(), metric, lm=lm(), storage=None, budget=Budget(calls=300))
    assert "kept for the held-out comparison" in result.stopped
    assert result.best is not None
    assert result.best.complete
    assert result.state.changes() != {}


def test_before_anything_is_complete_the_best_of_the_furthest_comes_back() -> None:
    split = dspex.optimizers.split_for_search(trainset(), None, None, seed=0)
    budget = Budget(calls=75)
    result = search(width=8, proposers=[LabeledDemos(sizes=[4], sets=3)]).optimize(
        Capitals(), split.train, metric, split.validation, testset=split.heldout, lm=lm(), storage=None, budget=budget
    )
    assert all(trial.state is not TrialState.COMPLETE for trial in result.study.trials)
    assert result.significant
    assert result.state.changes() != {}


def test_failed_trials_rank_nothing() -> None:
    calls = {"n": 0}

    def shaky(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        calls["n"] += 1
        if calls["n"] % 7 == 0:
            raise dspex.errors.LMServerError("down for a moment")
        return model(messages, **params)

    result = search(retries=0).optimize(Capitals(), trainset(), metric, lm=MockLM(shaky, retries=0), storage=None)
    failed = [row for row in result.study.ledger if not row.ok]
    assert failed
    assert all(row.scores == {} for row in failed)
    assert all("LMServerError" in row.error for row in failed)
    assert result.significant, "failures are no zeros, so the good configurations still win"


def test_several_objectives_give_a_pareto_set() -> None:
    def both(example: Example, prediction: Any) -> dict[str, float]:
        return {"score": float(metric(example, prediction)), "brevity": -float(len(prediction.capital))}

    result = search().optimize(
        Capitals(),
        trainset(),
        both,
        lm=lm(),
        storage=None,
        objectives={"score": "maximize", "tokens": "minimize"},
    )
    assert len(result.pareto) >= 2
    scores = [point.values["score"] for point in result.pareto]
    tokens = [point.values["tokens"] for point in result.pareto]
    assert scores == sorted(scores, reverse=True)
    assert tokens == sorted(tokens, reverse=True), "whoever scores less must be cheaper, or it is beaten"
    assert "not beaten in every objective, on the valset" in result.report()

    # On the held-out examples the further objectives are compared too, example by example.
    assert result.baseline is not None
    assert result.best is not None
    test = result.tests["tokens"]
    mean = {
        name: sum(row.usage.total_tokens for row in one.rows) / len(one.rows)
        for name, one in (("baseline", result.baseline), ("best", result.best))
    }
    assert test.count == len(result.best.rows)
    assert test.difference == pytest.approx(mean["best"] - mean["baseline"])
    line = next(line for line in result.report().splitlines() if line.startswith("tokens (minimize)"))
    assert line.split()[2:5] == [f"{mean['baseline']:.4g}", f"{mean['best']:.4g}", f"{test.difference:+.4g}"]


def test_rungs_grow_by_eta_up_to_the_valset() -> None:
    assert Halving(eta=3).rungs(60) == (7, 20, 60)
    assert Halving(eta=2, min_examples=10).rungs(60) == (15, 30, 60)
    assert Halving().rungs(3) == (3,)


def test_losers_are_pruned_and_winners_complete() -> None:
    result = search().optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)
    states = {trial.state for trial in result.study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    complete = [t for t in result.study.trials if t.state is TrialState.COMPLETE]
    assert all(len(result.study.ledger.rows(fingerprint=t.fingerprint)) == 21 for t in complete)


def test_the_same_seed_repeats_the_search() -> None:
    runs = [search(seed=3).optimize(Capitals(), trainset(), metric, lm=lm(), storage=None) for _ in range(2)]
    assert [dict(t.params) for t in runs[0].study.trials] == [dict(t.params) for t in runs[1].study.trials]
    assert runs[0].state.fingerprint == runs[1].state.fingerprint


def test_frozen_variables_are_not_searched() -> None:
    program = Capitals().freeze("*.demos", "answer")
    result = search().optimize(program, trainset(), metric, lm=lm(), storage=None)
    assert all("answer" not in t.params for t in result.study.trials)
    assert all(not path.endswith("demos") for t in result.study.trials for path in t.params)


class Holding:
    def __init__(self, program: dspex.Module) -> None:
        self.program = program


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"trainset": []}, DataError, "trainset"),
        ({"trainset": [Example(country="a", capital="b")] * 20}, DataError, "with_inputs"),
        ({"trainset": trainset()[:4]}, DataError, "too few to split"),
        ({"valset": trainset()[:9], "testset": trainset()[40:]}, DataError, "share 9 examples"),
        ({"metric": lambda example, prediction: "good"}, MetricError, "'good'"),
        ({"metric": lambda example, prediction: 1 / 0}, MetricError, "ZeroDivisionError"),
        ({"metric": lambda example, prediction: math.nan}, MetricError, "nan"),
        ({"metric": lambda: 1}, MetricError, "example, prediction"),
        ({"program": Capitals().freeze("*")}, DefinitionError, "nothing to search"),
        ({"program": lambda country: country}, DefinitionError, "must be a dspex.Module"),
        ({"budget": 5}, DefinitionError, "budget must be a dspex.Budget, got 5"),
        ({"objectives": {"score": "up"}}, DefinitionError, "'maximize' or 'minimize'"),
        ({"objectives": {}}, DefinitionError, "objectives must be a dict"),
        ({"lm": "gpt"}, DefinitionError, "dspex.LM"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"program": Capitals(), "trainset": trainset(), "metric": metric, "lm": lm(), "storage": None}
    arguments.update(change)
    program, examples, judge = arguments.pop("program"), arguments.pop("trainset"), arguments.pop("metric")
    with pytest.raises(error, match=message):
        search().optimize(program, examples, judge, **arguments)


def test_a_capture_that_cannot_follow_stops_before_any_call() -> None:
    program = Capitals()
    program.holder = Holding(program.answer)
    model_object = lm()
    with pytest.raises(BindingError, match="Holding"):
        search().optimize(program, trainset(), metric, lm=model_object, storage=None)
    assert len(model_object.calls) == 0


def test_a_key_that_is_refused_stops_the_search_at_once() -> None:
    def refused(messages: Any, **params: Any) -> Any:
        raise LMAuthError("no key: set EXAMPLE_API_KEY")

    model_object = MockLM(refused)
    with pytest.raises(LMAuthError, match="EXAMPLE_API_KEY"):
        search().optimize(Capitals(), trainset(), metric, lm=model_object, storage=None)
    assert len(model_object.calls) < 30


def test_wrong_options_are_named() -> None:
    with pytest.raises(DefinitionError, match="eta must be a whole number from 2 on, got 1"):
        Halving(eta=1)


def test_a_search_that_returns_nonsense_is_named() -> None:
    class Bad(dspex.Optimizer):
        def search(self, task: Any) -> Any:
            return "best"

    with pytest.raises(StateError, match=r"Bad\.search must return a VariableState or None, got 'best'"):
        Bad().optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)


def test_own_demo_sizes_are_kept() -> None:
    result = search(proposers=[LabeledDemos(sizes=[2], sets=5)]).optimize(
        Predict("country -> capital"), trainset(), metric, lm=lm(), storage=None
    )
    assert {len(value) for value in result.study.pool("demos").values} == {0, 2}


def test_the_default_storage_is_a_file_in_the_working_directory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    first = search().optimize(Capitals(), trainset(), metric, lm=lm())
    assert (tmp_path / ".dspex" / "studies.db").exists()
    model_object = lm()
    second = search().optimize(Capitals(), trainset(), metric, lm=model_object)
    assert len(model_object.calls) == 0, "the same line again costs nothing"
    assert second.state.fingerprint == first.state.fingerprint
    assert second.test == first.test


def test_the_report_shows_numbers_as_a_person_reads_them() -> None:
    program = Predict("country -> capital", temperature=dspex.Float(0.0, 1.0)).freeze("instructions", "demos")

    class Warmer(dspex.Optimizer):
        def search(self, task: Any) -> Any:
            return task.evaluate({**task.state.to_dict(), "temperature": 0.3184729384}).state

    def warm(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        return {"capital": CAPITALS[asked_country(messages)] if params.get("temperature") else "?"}

    result = Warmer().optimize(program, trainset(), metric, lm=MockLM(warm), storage=None)
    assert result.state["temperature"] == 0.3184729384
    assert "temperature: 0.0 → 0.3185" in result.report()
    assert "Warmer: 1 trial, " in result.report()


class Keeping(dspex.proposers.Proposer):
    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def propose(self, bench: Any, *, round: int = 0) -> None: ...


def test_what_a_proposer_keeps_is_part_of_the_name() -> None:
    def name(kept: Any) -> str:
        options = {"lm": lm(), "storage": None, "budget": Budget(calls=1)}
        found = search(proposers=[Keeping(kept)]).optimize(Capitals(), trainset(), metric, **options)
        return found.study.study_name

    kept = [
        1,
        {"a": (2,)},
        len,
        max,
        trainset()[0],
        np.arange(3),
        np.arange(4),
        re.compile("a"),
        lambda text: text.upper(),
        lambda text: text.lower(),
        {3},
        {4},
    ]
    assert len({name(one) for one in kept}) == len(kept)
    assert name(lambda text: text.title()) != name(lambda text: text.strip())


@pytest.mark.parametrize("kept", [threading.Lock(), {"deep": [threading.Lock()]}])
def test_what_cannot_be_told_from_another_is_refused(kept: Any) -> None:
    with pytest.raises(
        DefinitionError,
        match=r"proposers\[0\]\.kept\S* = .* cannot be described.*to_json\(self\).*_(kept|deep)",
    ):
        search(proposers=[Keeping(kept)]).optimize(Capitals(), trainset(), metric, lm=lm(), storage=None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: BootstrapFewShot(metric=metric),
            r"^BootstrapFewShot takes no metric=.* \(function\); the metric goes to the search: "
            r"BootstrapFewShot\(\)\.optimize\(program, trainset, metric\)$",
        ),
        (
            lambda: BootstrapFewShot(max_demo=3),
            r"takes no max_demo=3 \(int\); did you mean max_demos=\?",
        ),
        (lambda: search(zzz=None), r"JointSearch takes no zzz=None \(NoneType\); it takes trials, width, allocator"),
        (lambda: BootstrapFewShot(max_demos=-1), r"max_demos must be a whole number from 1 on, got -1 \(int\)"),
        (lambda: BootstrapFewShot(candidates=0), r"candidates must be a whole number from 1 on, got 0 \(int\)"),
    ],
)
def test_arguments_of_optimizers_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()


def test_an_optimizer_is_made_before_it_is_given() -> None:
    for wrong, message in (
        (JointSearch, r"optimizer must be an Optimizer, got <class .*; write optimizer=JointSearch\(\)"),
        ("joint", r"got 'joint' \(str\); write optimizer=dspex\.JointSearch\(\)"),
    ):
        with pytest.raises(DefinitionError, match=message):
            dspex.optimize(Capitals(), trainset(), metric, optimizer=wrong)  # type: ignore[arg-type]  # the test


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"n_trials": 30},
            r"takes no n_trials=30 \(int\); it is a setting of the search: optimizer=JointSearch\(trials=30",
        ),
        ({"seed": 1, "optimizer": LabeledFewShot()}, r"setting of the search: optimizer=LabeledFewShot\(seed=1\)"),
        ({"storag": None}, r"optimize takes no storag=None \(NoneType\); did you mean storage=\?"),
        (
            {"zzz": 1},
            r"it takes program, trainset, .*settings of the search go to its optimizer: optimizer=JointSearch",
        ),
    ],
)
def test_an_argument_that_the_search_does_not_take(arguments: dict[str, Any], message: str) -> None:
    asked = lm()
    with pytest.raises(DefinitionError, match=message):
        dspex.optimize(Capitals(), trainset(), metric, lm=asked, **arguments)
    assert not asked.calls


def test_a_model_that_no_name_stands_for_is_found_before_anything_is_paid() -> None:
    asked = lm()
    program = Predict("country -> capital", model=dspex.ModelChoice("openai/some", "nope"))
    message = r"^model = 'nope': no model is registered as 'nope'.*\n.*\"openai/nope\".*\n.*register_lm\(.*name='nope'"
    with pytest.raises(DefinitionError, match=message):
        dspex.optimize(program, trainset(), metric, lm=asked, storage=None)
    assert not asked.calls
