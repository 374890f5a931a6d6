"""ModuleChoice: the choice is a variable; only the chosen alternative runs."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

import dspex
from dspex import ChainOfThought, MockLM, Module, ModuleChoice, Predict, variable
from dspex.errors import DefinitionError, StateError
from dspex.variables import Choice, ModelChoice


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


class Planned(Module):
    plan = variable(Choice("short", "long"), default="long")

    def __init__(self) -> None:
        self.read = ModuleChoice(choice=Planned.plan, short=Predict("text -> brief"), long=Predict("text -> full"))
        self.write = ModuleChoice(choice=Planned.plan, short=Sync(), long=Predict("question -> answer"))

    def forward(self, text: str) -> Any:
        return self.read(text=text), self.write(question=text)


def test_a_name_fixes_the_choice_and_takes_what_it_excludes_out_of_the_search() -> None:
    fixed = ModuleChoice(choice="b", a=Predict("q -> a"), b=Predict("q -> a"))
    assert fixed.choice == "b"
    assert fixed.space().tunable == ("b.instructions", "b.demos")
    assert fixed.bind({"choice": "a"}).choice == "a"  # fixed for the search alone


def test_a_domain_opens_the_choice_and_says_where_it_begins() -> None:
    start = ModuleChoice(choice=Choice("b", "a"), a=Sync(), b=Predict("q -> a"))
    assert start.choice == "b"
    assert start.space().tunable == ("choice", "b.instructions", "b.demos")
    some = ModuleChoice(choice=Choice("c", "b"), a=Predict("q -> a"), b=Sync(), c=Sync())
    assert some.choice == "c"
    assert some.space().tunable == ("choice",)
    assert "a.instructions" in some.space()
    with pytest.raises(StateError, match=r"choice = 'a' \(str\) does not fit Choice\('c', 'b'\)"):
        some.bind({"choice": "a"})


def test_a_variable_links_the_choice_and_is_what_the_alternatives_hang_on() -> None:
    program = Planned()
    assert "read" not in program.space()
    assert program.space()["plan"].readers == ("read", "write")
    assert "read.short.instructions" in program.space().active({"plan": "short"})
    assert "write.long.instructions" not in program.space().active({"plan": "short"})
    with dspex.context(lm=MockLM(lambda messages, **params: {"brief": "b", "full": "f", "answer": "a"})):
        read, write = program(text="t")
        assert (read.full, write.answer) == ("f", "a")
        read, write = pickle.loads(pickle.dumps(program.bind({"plan": "short"})))(text="t")
    assert (read.brief, write) == ("b", "sync t")


def test_a_choice_that_is_taken_back_is_the_first_again() -> None:
    answer = ModuleChoice(a=Sync(), b=Sync())
    answer.choice = "b"
    assert answer.space()["choice"].default == "b"
    del answer.choice
    assert answer.choice == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"choice": "c"},
            r"`choice` of a ModuleChoice is 'c' of type str, but the alternatives are 'a', 'b'\.\n"
            r"  right:  choice='a'  # always 'a'\n"
            r"  right:  choice=Choice\('a', 'b'\)  # searched, beginning with 'a'",
        ),
        ({"choice": Choice("a", "z")}, r"is Choice\('a', 'z'\) of type Choice, but the alternatives are 'a', 'b'"),
        ({"choice": ModelChoice("a", "b")}, r"is ModelChoice\('a', 'b'\) of type ModelChoice, but the alternatives"),
        ({"choice": variable(ModelChoice("a", "b"))}, r"ModelChoice\('a', 'b'\) of a free variable"),
        ({"choice": ["a"]}, r"is \['a'\] of type list, but the alternatives"),
        ({"choice": Sync()}, r"of type Sync, but the alternatives"),
        (
            {"default": "b"},
            r"the alternative `default` of a ModuleChoice is 'b' of type str, not a Module\.\n"
            r"  right:  choice='b'  # always 'b'\n"
            r"  right:  choice=Choice\('b', 'a'\)  # searched, beginning with 'b'",
        ),
        ({"choice": variable(Choice("a", "z"))}, r"Choice\('a', 'z'\) of a free variable has values that do not fit"),
        ({"choice": variable(Choice("a", "b"), default=None)}, "the default None of a free variable does not fit"),
    ],
)
def test_a_wrong_choice_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        ModuleChoice(a=Sync(), b=Sync(), **arguments)


def test_alternatives_without_names_are_refused() -> None:
    for unnamed in ([Sync()], [[Sync()]], [Sync(), Sync()], [{"a": Sync()}, Sync()]):
        with pytest.raises(DefinitionError, match=r"need names, got .*\n  wrong: .*\n  right:  ModuleChoice\(direct="):
            ModuleChoice(*unnamed)  # type: ignore[arg-type]  # the test
