"""Links to variables that a subclass redeclares: they are the redeclared ones, as attribute access would be."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import MockLM, Module, ModuleChoice, Predict, constraint, derived, variable
from dspex.errors import DefinitionError, StateError
from dspex.variables import Choice, Float, Int


class Base(Module):
    heat = variable(Float(0, 1), default=0.2)
    mode = variable(Choice("a", "b"), default="a")

    def __init__(self) -> None:
        self.p = Predict("q -> answer", temperature=Base.heat)
        self.m = ModuleChoice(a=Predict("q -> answer"), b=Predict("q -> answer"), choice=Base.mode)

    def forward(self, q: str) -> tuple[Any, str]:
        return self.p(q=q).answer, self.m.choice


class Child(Base):
    heat = variable(Float(0, 0.5), default=0.4)
    mode = variable(Choice("b", "a"), default="b")


class Grandchild(Child):
    heat = variable(Float(0.1, 0.3), default=0.3)


class Warm:
    heat = variable(Float(0.6, 0.9), default=0.7)


class Mixed(Warm, Base):
    pass


def run(program: Module) -> Any:
    with dspex.context(lm=MockLM(lambda messages, **params: {"answer": str(params["temperature"])})):
        return program(q="?")


@pytest.mark.parametrize(
    ("kind", "value", "other"),
    [
        (Base, ("0.2", "a"), ("0.1", "b")),
        (Child, ("0.4", "b"), ("0.1", "a")),
        (Grandchild, ("0.3", "b"), ("0.2", "a")),
        (Mixed, ("0.7", "a"), ("0.8", "b")),
    ],
)
def test_a_link_is_the_variable_that_attribute_access_gives(kind: type[Base], value: Any, other: Any) -> None:
    program = kind()
    space = program.space()
    assert [path for path in space if not path.startswith(("p.", "m."))] == ["heat", "mode"]
    assert {path.rpartition(".")[2] for path in space.tunable} == {"heat", "mode", "instructions", "demos"}
    assert "m" not in space
    assert "p.temperature" not in space
    assert space["heat"].readers == ("p.temperature",)
    assert space["mode"].readers == ("m",)
    assert (program.p.temperature, program.m.choice) == (program.heat, program.mode)
    assert run(program) == value
    bound = program.bind({"heat": float(other[0]), "mode": other[1]})
    assert bound.p.temperature == bound.heat
    assert run(bound) == run(pickle.loads(pickle.dumps(bound))) == other
    assert run(program) == value


def test_the_alternatives_hang_on_the_redeclared_choice(tmp_path: Path) -> None:
    space = Child().space()
    assert "m.b.instructions" in space.active({})
    assert "m.a.instructions" not in space.active({})
    assert "m.a.instructions" in space.active({"mode": "a"})
    Child().bind({"heat": 0.1, "mode": "a"}).save(tmp_path / "child.json")
    assert run(Child().load(tmp_path / "child.json")) == ("0.1", "a")


def test_the_nearest_enclosing_module_of_the_class_or_a_subclass_has_the_variable() -> None:
    class Reader(Module):
        heat = variable(Float(0, 1), default=0.5)

        def __init__(self) -> None:
            self.heat = Base.heat

        def forward(self) -> float:
            return self.heat

    class Inner(Base):
        heat = variable(Float(0, 0.9), default=0.8)

        def __init__(self) -> None:
            self.reader = Reader()

        def forward(self) -> float:
            return self.reader()

    class Outer(Base):
        heat = variable(Float(0, 0.5), default=0.4)

        def __init__(self) -> None:
            self.inner = Inner()
            self.readers = [Reader()]

        def forward(self) -> tuple[float, float]:
            return self.inner(), self.readers[0]()

    program = Outer()
    assert program() == (0.8, 0.4)
    assert program.bind({"inner.heat": 0.7, "heat": 0.1})() == (0.7, 0.1)
    assert program.space()["heat"].readers == ("readers.0.heat",)
    assert program.space()["inner.heat"].readers == ("inner.reader.heat",)


def test_what_is_computed_from_a_redeclared_variable_reads_the_redeclared_one() -> None:
    class Owner(Module):
        depth = variable(Int(1, 9), default=2)

        def __init__(self) -> None:
            self.part = Part()

        def forward(self) -> int:
            return self.part()

    class Part(Module):
        tokens = derived(lambda depth: 100 * depth, depth=Owner.depth)
        few = constraint(lambda depth: depth < 8, depth=Owner.depth, reason="too deep")

        def forward(self) -> int:
            return self.tokens

    class Deep(Owner):
        depth = variable(Int(3, 9), default=5)

    assert Deep()() == 500
    assert Deep().bind({"depth": 6})() == 600
    assert Deep().state()["part.tokens"] == 500
    with pytest.raises(StateError, match="too deep"):
        Deep().bind({"depth": 8})


def test_derived_variables_of_a_subclass_that_are_computed_from_each_other_are_refused() -> None:
    class First(Module):
        low = variable(Int(1, 9))
        high = variable(Int(1, 9))

    with pytest.raises(DefinitionError, match="it is derived from itself: low → high → low"):

        class Second(First):
            low = derived(lambda high: high, high=First.high)
            high = derived(lambda low: low, low=First.low)


def test_a_redeclared_variable_that_does_not_fit_its_reader_is_refused() -> None:
    class Hot(Base):
        heat = variable(Float(0, 5), default=0.4)

    class Three(Base):
        mode = variable(Choice("a", "b", "c"), default="a")

    with pytest.raises(
        DefinitionError,
        match=r"`p\.temperature` is Base\.heat, which Hot redeclares: the two cannot be one variable, because "
        r"Float\(0\.0, 5\.0\) of Hot\.heat has values that do not fit Float\(0\.0, 2\.0\)\. Declare Hot\.heat with a "
        r"domain inside Float\(0\.0, 2\.0\)\.",
    ):
        Hot().space()
    with pytest.raises(DefinitionError, match=r"`m` is Base\.mode, which Three redeclares: .* of Three\.mode has"):
        run(Three())


def test_a_redeclared_choice_may_leave_alternatives_out() -> None:
    class Only(Base):
        mode = variable(Choice("b"), default="b")

    assert run(Only()) == ("0.2", "b")
    assert "m.a.instructions" not in Only().space().active({})
