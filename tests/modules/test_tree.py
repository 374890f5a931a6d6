"""Discovery: which modules and variables a program has, and under which paths."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex import Module, ModuleChoice, Predict, variable
from dspex.errors import BindingError, DefinitionError, StateError
from dspex.variables import Choice, Float, Int


class Step(Module):
    depth = variable(Int(1, 9), default=2)

    def forward(self, x: int) -> int:
        return x * self.depth


def test_paths_go_through_attributes_lists_dicts_and_nesting() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.first = Step()
            self.steps = [Step(), (Step(),)]
            self.named = {"left": Step(), "deep": [{"er": Step()}]}

    assert [path for path, _ in Program().named_modules()] == [
        "", "first", "steps.0", "steps.1.0", "named.left", "named.deep.0.er",
    ]  # fmt: skip
    assert list(Program().space()) == [
        "first.depth", "steps.0.depth", "steps.1.0.depth", "named.left.depth", "named.deep.0.er.depth",
    ]  # fmt: skip


def test_a_subclass_that_calls_no_super_init_has_everything() -> None:
    class Program(Module):
        k = variable(Int(1, 5), default=3)

        def __init__(self) -> None:
            pass

    assert Program().k == 3
    assert list(Program().space()) == ["k"]


def test_variables_are_inherited_and_overridden() -> None:
    class Base(Module):
        k = variable(Int(1, 5), default=3)
        t = variable(Float(0, 1), default=0.5)

    class Narrow(Base):
        k = variable(Int(1, 2), default=1)

    assert Narrow().space()["k"].domain == Int(1, 2)
    assert list(Narrow().space()) == ["k", "t"]
    assert Base().space()["k"].domain == Int(1, 5)


def test_two_instances_of_one_class_do_not_share_values() -> None:
    one, two = Step(), Step()
    one.depth = 7
    assert (one.depth, two.depth, Step().depth) == (7, 2, 2)


def test_one_module_object_at_two_paths_has_the_first_and_is_one_set_of_variables() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.a = Step()
            self.b = self.a

        def forward(self, x: int) -> tuple[int, int]:
            return self.a(x=x), self.b(x=x)

    program = Program()
    assert list(program.space()) == ["a.depth"]
    bound = program.bind({"a.depth": 5})
    assert bound.a is bound.b
    assert bound(x=1) == (5, 5)


def test_a_module_that_holds_its_parent_is_walked_once() -> None:
    class Child(Module):
        k = variable(Int(1, 5), default=3)

        def __init__(self, parent: Module) -> None:
            self.parent = parent

    class Program(Module):
        def __init__(self) -> None:
            self.child = Child(self)

    program = Program().bind({"child.k": 4})
    assert program.child.parent is program
    assert list(program.space()) == ["child.k"]


def test_a_class_attribute_module_is_a_template() -> None:
    class Program(Module):
        step = Step()

        def forward(self, x: int) -> int:
            return self.step(x=x)

    one, two = Program(), Program()
    one.step.depth = 9
    assert one.step is not two.step
    assert (one(x=1), two(x=1), Program.step.depth) == (9, 2, 2)
    assert list(one.space()) == ["step.depth"]


def test_a_list_that_grows_is_noticed() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.steps: list[Module] = []

    program = Program()
    assert list(program.space()) == []
    program.steps.append(Step())
    assert list(program.space()) == ["steps.0.depth"]
    program.steps.append(Step())
    assert list(program.space()) == ["steps.0.depth", "steps.1.depth"]
    program.steps[0] = Predict("q -> a")
    assert "steps.0.instructions" in program.space()


def test_assigning_a_value_changes_the_default_of_the_space() -> None:
    step = Step()
    assert step.space()["depth"].default == 2
    step.depth = 6
    assert step.space()["depth"].default == 6


def test_a_domain_opens_and_a_value_in_the_constructor_fixes() -> None:
    opened = Predict("q -> a", temperature=Float(0.0, 1.0))
    fixed = Predict("q -> a", temperature=0.7, demos=[dspex.Example(q="1", a="2")])
    assert opened.space().tunable == ("instructions", "demos", "temperature")
    assert opened.temperature == 0.0
    assert fixed.space().tunable == ("instructions",)
    assert fixed.temperature == 0.7


def test_freeze_and_unfreeze_take_paths_out_and_in() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.a = Predict("q -> a")
            self.b = Predict("q -> a")

    program = Program().freeze("a.*", "*.demos")
    assert program.space().tunable == ("b.instructions",)
    program.unfreeze("a.temperature")
    assert program.space().tunable == ("a.temperature", "b.instructions")
    with pytest.raises(StateError, match=r"'c\.\*'"):
        program.freeze("c.*")


def test_links_read_the_nearest_enclosing_module() -> None:
    class Reader(Module):
        k = variable(Int(1, 9), default=1)

        def forward(self) -> int:
            return self.k

    class Owner(Module):
        depth = variable(Int(1, 5), default=3)

        def __init__(self) -> None:
            self.reader = Reader()
            self.reader.k = Owner.depth  # type: ignore[assignment]

        def forward(self) -> tuple[int, int]:
            return self.depth, self.reader()

    program = Owner()
    assert list(program.space()) == ["depth"]
    assert program.space()["depth"].readers == ("reader.k",)
    assert program.reader.k == 3
    program.depth = 4
    assert program.reader.k == 4
    assert program() == (4, 4)
    bound = program.bind({"depth": 5})
    assert bound.reader.k == 5
    assert bound() == (5, 5)
    assert program() == (4, 4)

    class Outer(Module):
        def __init__(self) -> None:
            self.left = Owner()
            self.right = Owner()

        def forward(self) -> list[tuple[int, int]]:
            return [self.left(), self.right()]

    assert Outer().bind({"left.depth": 1, "right.depth": 2})() == [(1, 1), (2, 2)]


def test_a_free_variable_is_one_variable_with_many_readers() -> None:
    heat = variable(Float(0.0, 1.0), default=0.5)

    class Program(Module):
        def __init__(self) -> None:
            self.a = Predict("q -> a", temperature=heat)
            self.b = Predict("q -> a", temperature=heat)

    program = Program()
    space = program.space()
    assert [path for path in space if "temperature" in path] == ["a.temperature"]
    assert space["a.temperature"].readers == ("b.temperature",)
    assert program.b.temperature == 0.5
    bound = program.bind({"a.temperature": 0.25})
    assert (bound.a.temperature, bound.b.temperature) == (0.25, 0.25)
    assert (program.a.temperature, program.b.temperature) == (0.5, 0.5)


def test_the_choice_of_a_module_stands_at_its_own_path_and_conditions_its_alternatives() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.answer = ModuleChoice(plain=Step(), other=ModuleChoice(x=Step(), y=Step()))

    space = Program().space()
    assert list(space) == [
        "answer",
        "answer.plain.depth",
        "answer.other",
        "answer.other.x.depth",
        "answer.other.y.depth",
    ]
    assert [(c.path, c.value) for c in space["answer.other.y.depth"].conditions] == [
        ("answer", "other"),
        ("answer.other", "y"),
    ]


def test_a_module_shared_by_exclusive_alternatives_is_refused_unless_it_is_always_there() -> None:
    class Wrap(Module):
        def __init__(self, inner: Module) -> None:
            self.inner = inner

    class Bad(Module):
        def __init__(self) -> None:
            shared = Step()
            self.answer = ModuleChoice(a=Wrap(shared), b=Wrap(shared))

    with pytest.raises(DefinitionError, match="shared by alternatives that exclude each other"):
        Bad().space()

    class Good(Module):
        def __init__(self) -> None:
            self.shared = Step()
            self.answer = ModuleChoice(a=Wrap(self.shared), b=Wrap(self.shared))

    assert Good().space()["shared.depth"].conditions == ()


def test_a_variable_named_like_a_method_is_refused() -> None:
    with pytest.raises(DefinitionError, match="bind"):

        class Bad(Module):
            bind = variable(Int(1, 2))  # type: ignore[assignment]


def test_a_variable_may_be_named_like_a_signature_field() -> None:
    class Program(Module):
        question = variable(Choice("a", "b"))

        def __init__(self) -> None:
            self.predict = Predict("question, temperature -> demos")

        def forward(self, question: str) -> str:
            return f"{self.question}:{self.predict(question=question, temperature='hot').demos}"

    with dspex.context(lm=dspex.MockLM([{"demos": "fine"}])):
        assert Program()(question="why") == "a:fine"


def test_a_bare_domain_in_a_class_says_what_to_write() -> None:
    with pytest.raises(DefinitionError, match=r"right:  k = variable\(Int\(1, 5\)\)"):

        class Bad(Module):
            k = Int(1, 5)


def test_a_domain_assigned_to_an_undeclared_attribute_says_what_to_write() -> None:
    with pytest.raises(DefinitionError, match="declares no variable `k` that could be opened or linked"):
        Step().k = Int(1, 5)  # type: ignore[attr-defined]


def test_a_dict_key_that_is_no_path_is_refused_only_when_it_holds_a_module() -> None:
    class Program(Module):
        def __init__(self, table: dict[object, object]) -> None:
            self.table = table

    assert list(Program({1: "data"}).space()) == []
    with pytest.raises(DefinitionError, match=r"`table` holds a module under the key 'a\.b'"):
        Program({"a.b": Step()}).space()


def test_a_module_without_forward_says_so_when_it_is_called() -> None:
    class Empty(Module):
        pass

    with pytest.raises(DefinitionError, match="Empty has no forward"):
        Empty()()


def test_the_repr_names_what_was_set_and_the_tree_shows_every_variable() -> None:
    from rich.console import Console

    class Program(Module):
        k = variable(Int(1, 5), default=3)

        def __init__(self) -> None:
            self.answer = ModuleChoice(plain=Predict("q -> a"), other=Step())

    program = Program()
    program.k = 4
    assert repr(program).startswith("Program(k=4, answer=ModuleChoice(")
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - closed with the test
    console.print(program)
    text = console.export_text()
    for part in ("Program", "k = 4", "Int(1, 5)", "choice = 'plain'", "instructions", "q -> a"):
        assert part in text


def test_one_demo_is_one_demo() -> None:
    assert "demos=<1 demo>" in repr(Predict("q -> a", demos=[{"q": "1", "a": "2"}]))
    assert "demos=<2 demos>" in repr(Predict("q -> a", demos=[{"q": "1", "a": "2"}] * 2))


def test_a_module_appended_inside_a_nested_container_is_noticed() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.parts: dict[str, list[Module]] = {"a": []}

    program = Program()
    assert list(program.space()) == []
    program.parts["a"].append(Step())
    assert list(program.space()) == ["parts.a.0.depth"]


def test_a_set_of_modules_is_refused_because_its_order_is_none() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.parts = {Step(), Step()}

    with pytest.raises(DefinitionError, match="a set that holds modules"):
        Program().space()


class Looked(dict[Any, Any]):
    """Counts how often it is looked through."""

    looks = 0

    def items(self) -> Any:
        Looked.looks += 1
        assert Looked.looks < 10_000
        return super().items()

    def __repr__(self) -> str:
        return "Looked()"


def test_data_that_is_a_graph_is_looked_through_once() -> None:
    nodes = [Looked(links=[]) for _ in range(20)]  # which has more ways through it than could ever be gone
    for node in nodes:
        node["links"].extend(nodes)

    class Program(Module):
        def __init__(self) -> None:
            self.graph = nodes
            self.by_number = dict(enumerate(nodes))
            self.step = Step()

    program = Program()
    assert list(program.space()) == ["step.depth"]
    assert repr(program) == "Program(step=Step())"
    assert program.bind({"step.depth": 2}).graph is nodes


def test_a_program_in_a_list_that_holds_itself_has_a_repr() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.parts: list[Any] = [Step()]
            self.parts.append(self.parts)

    assert repr(Program()) == "Program(parts.0=Step())"
    with pytest.raises(BindingError, match="break the circle"):
        Program().space()
