"""How declared variables look to a type checker: checked by mypy --strict, never run."""

from __future__ import annotations

from typing import Any, assert_type

from dspex.variables import (
    Bool,
    Choice,
    Demos,
    Derived,
    Domain,
    Entry,
    Float,
    Int,
    ModelChoice,
    Order,
    Prompt,
    Space,
    Subset,
    Tunable,
    Variable,
    VariableState,
    derived,
    variable,
)


def double(depth: int) -> int:
    return 2 * depth


class Support:
    tone = variable(Choice("plain", "warm"), default="plain")
    depth = variable(Int(1, 5), default=3, doc="documents read per question")
    temperature = variable(Float(0.0, 2.0), default=None, tunable=False)
    verbose = variable(Bool())
    tools = variable(Subset("web", "mail"), default=("web",))
    order = variable(Order("facts", "rules"))
    instructions = variable(Prompt())
    demos = variable(Demos())
    model = variable(ModelChoice("a/small", "a/large"))
    maybe = variable(Choice("a", None))
    twice = derived(double)

    def __init__(self, k: Tunable[int] = 3) -> None:
        self.depth = k

    def forward(self) -> None:
        assert_type(self.depth, int)


assert_type(Support.depth, Variable[int])
assert_type(Support.depth.domain, Domain[int])
assert_type(Support.temperature, Variable[float | None])
assert_type(Support.twice, Derived[int])

support = Support()
assert_type(support.tone, str)
assert_type(support.depth, int)
assert_type(support.temperature, float | None)
assert_type(support.verbose, bool)
assert_type(support.tools, tuple[str, ...])
assert_type(support.order, tuple[str, ...])
assert_type(support.instructions, str)
assert_type(support.demos, tuple[Any, ...])
assert_type(support.model, str)
assert_type(support.maybe, str | None)
assert_type(support.twice, int)

# A value, a domain, another variable.
support.depth = 4
support.depth = Int(1, 2)
support.depth = Support.depth
support.depth = Support.twice
support.temperature = None
support.temperature = 0.5
support.temperature = Float(0.0, 1.0)
Support(3)
Support(Int(1, 2))
Support(Support.depth)

# And what is none of them is refused: --strict reports each `type: ignore` that is not needed.
support.depth = "4"  # type: ignore[assignment]
support.temperature = "0.5"  # type: ignore[assignment]
Support("4")  # type: ignore[arg-type]
variable(Int(1, 5), default="3")  # type: ignore[misc]
variable(3)  # type: ignore[call-overload]
Float("0", 1)  # type: ignore[arg-type]

space = Space.of(depth=Int(1, 5), tone=variable(Choice("plain", "warm")))
assert_type(space["depth"], Entry)
assert_type(space.state(depth=3), VariableState)
