"""ModuleChoice: the choice is a variable; only the chosen alternative runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import dspex
from dspex import ChainOfThought, MockLM, Module, ModuleChoice, Predict
from dspex.errors import DefinitionError, StateError


class Sync(Module):
    def forward(self, question: str) -> str:
        return f"sync {question}"


def test_only_the_chosen_alternative_runs() -> None:
    answer = ModuleChoice(direct=Predict("question -> answer"), stepwise=ChainOfThought("question -> answer"))
    script = [{"answer": "d"}]
    with dspex.context(lm=MockLM(script)):
        assert answer(question="q").answer == "d"
    with dspex.context(lm=MockLM([{"reasoning": "r", "answer": "s"}])):
        assert answer.bind({"choice": "stepwise"})(question="q").reasoning == "r"


def test_inside_a_program_the_choice_has_the_attribute_as_its_path() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.answer = ModuleChoice(a=Sync(), b=Predict("question -> answer"))

        def forward(self, question: str) -> Any:
            return self.answer(question=question)

    program = Program()
    assert program(question="q") == "sync q"
    with dspex.context(lm=MockLM([{"answer": "x"}])):
        assert program.bind({"answer": "b"})(question="q").answer == "x"
    assert asyncio.run(program.acall(question="q")) == "sync q"
    assert not program.natively_async
    state = program.state()
    before = state.fingerprint
    state["answer.b.instructions"] = "inactive, so it is the same configuration"
    assert state.fingerprint == before
    with pytest.raises(StateError, match="answer"):
        program.bind({"answer": "c"})


def test_alternatives_are_attributes_and_can_be_given_as_a_mapping() -> None:
    choice = ModuleChoice({"one": Sync()}, two=Sync())
    assert list(choice.alternatives) == ["one", "two"]
    assert choice.one is choice.alternatives["one"]


@pytest.mark.parametrize(
    ("alternatives", "message"),
    [
        ({}, "at least one alternative"),
        ({"a": 3}, "the alternative `a` of a ModuleChoice is 3 of type int"),
        ({"bind": Sync()}, "Module uses the name itself"),
        ({"_x": Sync()}, "cannot name an alternative"),
        ({"not a name": Sync()}, "it is no identifier"),
    ],
)
def test_wrong_alternatives_are_refused(alternatives: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        ModuleChoice(alternatives)
