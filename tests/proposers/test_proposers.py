"""Proposers: what they put into the pools, and that they pay for it once."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex import Example, MockLM, Module, Predict
from dspex.errors import LMRequestError
from dspex.proposers import BootstrappedDemos, GroundedInstructions, LabeledDemos, Proposer
from tests.optimizers.tasks import Capitals, lm, metric, model, trainset


def propose(proposer: Proposer, program: Module, used: Any, *, rounds: int = 1, storage: Any = None) -> Any:
    """Run a proposer in a search that does nothing else; returns the study."""

    class Propose(dspex.Optimizer):
        def search(self, task: Any) -> Any:
            for round in range(rounds):
                proposer.propose(task, round=round)

    arguments: dict[str, Any] = {"lm": used, "storage": storage}
    return Propose(concurrency=1).optimize(program, trainset(), metric, **arguments).study


def test_labeled_demos_have_the_sizes_and_only_the_fields_of_the_predictor() -> None:
    study = propose(LabeledDemos(sizes=[2, 4], sets=3), Capitals(), lm())
    for path in ("answer.direct.demos", "answer.stepwise.demos"):
        sets = [item for item in study.pool(path) if item.source == "labeled"]
        assert sorted(len(item.value) for item in sets) == [2, 2, 2, 4, 4, 4]
        assert all(set(demo.to_dict()) == {"country", "capital"} for item in sets for demo in item.value)


def test_labeled_demos_leave_out_predictors_whose_fields_no_example_has() -> None:
    class Two(Module):
        def __init__(self) -> None:
            self.plan = Predict("country -> plan")
            self.answer = Predict("country, plan -> capital")

        def forward(self, country: str) -> Any:
            return self.answer(country=country, plan=self.plan(country=country).plan)

    def both(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        return {**model(messages, **params), "plan": "look it up"}

    study = propose(LabeledDemos(sizes=[2], sets=2), Two(), MockLM(both))
    assert [len(study.pool(path)) for path in ("plan.demos", "answer.demos")] == [1, 1]
    study = propose(BootstrappedDemos(sizes=[2], sets=2, examples=12), Two(), MockLM(both))
    for path, fields in (
        ("plan.demos", {"country", "plan", "augmented"}),
        ("answer.demos", {"country", "plan", "capital", "augmented"}),
    ):
        sets = [item for item in study.pool(path) if item.source == "bootstrapped"]
        assert sets, "the runs show what no label has"
        assert all(set(demo.to_dict()) == fields for item in sets for demo in item.value)


def test_examples_with_labels_that_do_not_fit_are_no_demos() -> None:
    examples = [
        Example(text=f"{number}", size=number if number % 2 else None).with_inputs("text") for number in range(30)
    ]
    program = Predict("text -> size: int", lm=MockLM(lambda messages: {"size": 3}))
    result = dspex.optimizers.LabeledFewShot(max_demos=4, candidates=3).optimize(
        program, examples, lambda example, prediction: prediction.size == example.size, storage=None
    )
    demos = [demo for item in result.study.pool("demos") for demo in item.value]
    assert demos
    assert all(demo.size is not None for demo in demos)


def test_bootstrapped_demos_come_only_from_runs_above_the_threshold() -> None:
    study = propose(BootstrappedDemos(sizes=[1], sets=4, examples=18), Capitals(), lm())
    demos = [demo for item in study.pool("answer.direct.demos") for demo in item.value]
    assert demos
    assert all(int(demo.country.split()[1]) % 5 == 0 for demo in demos), "the model knows only every fifth"


def test_bootstrapping_twice_runs_nothing_twice() -> None:
    storage = dspex.storage.InMemoryStorage()
    proposer = BootstrappedDemos(sizes=[1], sets=2, examples=18)
    first, second = lm(), lm()
    one = propose(proposer, Capitals(), first, storage=storage)
    two = propose(proposer, Capitals(), second, storage=storage)
    assert len(first.calls) >= 18
    assert len(second.calls) == 0
    assert one.study_name == two.study_name
    assert len(one.pool("answer.direct.demos")) == len(two.pool("answer.direct.demos"))


def test_instructions_are_grounded_have_parents_and_are_paid_for_once() -> None:
    asked: list[str] = []

    def writer(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        if "better instruction" in messages[0]["content"]:
            asked.append(messages[-1]["content"])
            return {"instruction": f"Instruction {len(asked)}."}
        return model(messages, **params)

    storage = dspex.storage.InMemoryStorage()
    study = propose(GroundedInstructions(count=3), Capitals(), MockLM(writer), storage=storage)
    pool = study.pool("answer.direct.instructions")
    assert len(pool) == 4
    assert all(item.parents == (pool[0].id,) for item in list(pool)[1:])
    assert all(item.note for item in list(pool)[1:])
    assert "country (str)" in asked[0]
    assert "Land " in asked[0]
    count = len(asked)
    propose(GroundedInstructions(count=3), Capitals(), MockLM(writer), storage=storage)
    assert len(asked) == count


def test_later_rounds_write_further_instructions() -> None:
    count = {"n": 0}

    def writer(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
        if "better instruction" in messages[0]["content"]:
            count["n"] += 1
            return {"instruction": f"Instruction {count['n']}."}
        return model(messages, **params)

    study = propose(GroundedInstructions(count=2), Capitals(), MockLM(writer), rounds=2)
    assert len(study.pool("answer.direct.instructions")) == 5


def test_an_unreadable_or_unsuitable_proposal_is_left_out() -> None:
    def writer(messages: list[dict[str, str]], **params: Any) -> Any:
        if "better instruction" in messages[0]["content"]:
            return {"instruction": "x" * 500}
        return model(messages, **params)

    program = Predict("country -> capital", instructions=dspex.Prompt(max_chars=100))
    study = propose(GroundedInstructions(count=2), program, MockLM(writer))
    assert len(study.pool("instructions")) == 1


def test_a_writer_that_cannot_be_reached_is_an_error() -> None:
    def refused(messages: list[dict[str, str]], **params: Any) -> Any:
        raise LMRequestError("no such model")

    with pytest.raises(LMRequestError, match="no such model"):
        propose(GroundedInstructions(lm=MockLM(refused)), Capitals(), lm())


def test_fixed_demos_are_not_proposed_for() -> None:
    program = Predict("country -> capital", demos=[Example(country="a", capital="b")])
    study = propose(LabeledDemos(), program, lm())
    assert "demos" not in study.space.tunable
    assert all("demos" not in trial.params for trial in study.trials)
