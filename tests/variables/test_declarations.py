"""What a class declares, and the declarations that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.errors import DefinitionError
from dspex.variables import (
    Choice,
    Int,
    check_declarations,
    constraint,
    constraints_of,
    declared,
    derived,
    variable,
)


class Checked:
    """Like Module: checks its declarations when a class is made."""

    def __init_subclass__(cls) -> None:
        check_declarations(cls)

    def forward(self) -> None: ...


class Support(Checked):
    tone = variable(Choice("plain", "warm"))
    depth = variable(Int(1, 5), default=3)
    tokens = derived(lambda depth: 100 * depth)
    sane = constraint(lambda tone, depth: tone != "warm" or depth < 5, reason="warm answers are short")


def test_declarations_are_inherited_in_order_and_overridden_by_name() -> None:
    class Deep(Support):
        breadth = variable(Int(1, 5))
        depth = variable(Int(1, 50), default=40)

    assert list(declared(Support)) == ["tone", "depth", "tokens"]
    assert list(declared(Deep)) == ["tone", "depth", "tokens", "breadth"]
    assert declared(Deep)["depth"] is Deep.depth is not Support.depth
    assert declared(Deep)["tone"] is Support.tone
    assert list(constraints_of(Deep)) == ["sane"]
    assert constraints_of(Deep)["sane"].inputs == {"tone": "tone", "depth": "depth"}
    assert repr(Support.sane) == "<constraint sane: warm answers are short>"


def test_declarations_are_computed_once_per_class() -> None:
    assert declared(Support) is declared(Support)
    with pytest.raises(TypeError):
        declared(Support)["more"] = Support.depth  # type: ignore[index]  # the test


def test_mixins() -> None:
    class Mixin:
        breadth = variable(Int(1, 5))

    class Both(Support, Mixin):
        pass

    assert list(declared(Both)) == ["breadth", "tone", "depth", "tokens"]


def refused(message: str) -> Any:
    return pytest.raises(DefinitionError, match=message)


def test_a_variable_named_like_a_method() -> None:
    with refused(
        r"^Wrong\.forward = variable\(Int\(1, 5\)\): Checked has a method of that name\. Give the variable another "
        r"name, for example forward_value = variable\(Int\(1, 5\)\)\.$"
    ):

        class Wrong(Checked):
            forward = variable(Int(1, 5))


def test_a_mixin_with_a_method_of_that_name() -> None:
    class Mixin:
        def depth(self) -> int:
            return 1

    with refused(r"Wrong\.depth = variable\(Int\(1, 5\)\): Mixin has a method of that name"):

        class Wrong(Mixin, Support):
            pass


def test_an_attribute_that_hides_a_variable() -> None:
    with refused(
        r"Wrong\.depth = 5: this would hide the variable Support\.depth\. Write depth = variable\(Int\(1, 5\), "
        r"default=5\), or set it on the instance: self\.depth = 5\."
    ):

        class Wrong(Support):
            depth = 5

    with refused(r"this would hide the derived variable Support\.tokens\. Write another name than 'tokens'"):

        class Wrong2(Support):
            tokens = 5


def test_a_private_name() -> None:
    with refused(
        r"Wrong\._depth = variable\(Int\(1, 5\)\): a variable is public.*Write depth = variable\(Int\(1, 5\)\)"
    ):

        class Wrong(Checked):
            _depth = variable(Int(1, 5))


def test_one_variable_under_two_names() -> None:
    with refused(
        r"Wrong\.other: this variable already is Wrong\.depth, and one variable has one name\. .* link the two in "
        r"__init__: self\.other = Wrong\.depth\."
    ):

        class Wrong(Checked):
            depth = variable(Int(1, 5))
            other = depth


def test_a_variable_of_another_class() -> None:
    with refused(r"Wrong\.mine: this variable already is Support\.depth"):

        class Wrong(Checked):
            mine = Support.depth


def test_an_input_that_does_not_exist() -> None:
    with refused(
        r"Wrong\.tokens: the derived variable reads 'dept', but Wrong declares no variable 'dept'\. Did you mean "
        r"'depth'\? Name the parameter like a variable of the class, or say what it is: dept=Support\.depth\."
    ):

        class Wrong(Checked):
            depth = variable(Int(1, 5))
            tokens = derived(lambda dept: dept)

    with refused(r"Wrong3\.tokens: the derived variable reads 'self', but it is no method.*derived\(lambda depth"):

        class Wrong3(Checked):
            depth = variable(Int(1, 5))

            @derived
            def tokens(self) -> int: ...

    with refused(r"Wrong2\.rule: the constraint reads 'depth', but Wrong2 declares no variable 'depth'"):

        class Wrong2(Checked):
            rule = constraint(lambda depth: True, reason="because")


def test_a_cycle_of_derived_variables() -> None:
    with refused(r"Wrong\.one: it is derived from itself: one → three → two → one\. One of them has to be a variable"):

        class Wrong(Checked):
            one = derived(lambda three: three)
            two = derived(lambda one: one)
            three = derived(lambda two: two)

    with refused(r"it is derived from itself: one → one"):

        class Wrong2(Checked):
            one = derived(lambda one: one)


def test_a_constraint_needs_a_reason() -> None:
    with refused(r"constraint\(\.\.\., reason=' '\): say why it has to hold"):
        constraint(lambda low, high: low <= high, reason=" ")
    with refused(r"say why it has to hold\. Write ordered = constraint\(lambda .*; it is no decorator of a method"):

        class Wrong(Checked):
            @constraint
            def ordered(self) -> bool: ...
