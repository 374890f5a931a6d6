"""ReAct: tools are plain functions, and their errors are observations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import dspex
from dspex import MockLM, ReAct, Tool
from dspex.errors import DefinitionError


def population(city: str) -> int:
    """How many people live in a city."""
    return {"Oslo": 709_037}[city]


async def slow_population(city: str) -> int:
    """The same, after a moment."""
    await asyncio.sleep(0)
    return population(city)


def turn(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"thought": "hm", "tool": tool, "arguments": arguments}


ANSWER = {"reasoning": "seen", "answer": 7}


def observations(script: list[Any], tools: list[Any] | None = None, **options: Any) -> tuple[Any, list[Any]]:
    lm = MockLM(script)
    with dspex.context(lm=lm):
        result = ReAct("question -> answer: int", tools=tools or [population], **options)(question="?")
    return result, [t["observation"] for t in result.trajectory]


def test_observations_reach_the_next_turn() -> None:
    lm = MockLM([turn("population", city="Oslo"), turn("finish"), ANSWER])
    with dspex.context(lm=lm):
        result = ReAct("question -> answer: int", tools=[population])(question="How many?")
    assert result.answer == 7
    assert "709037" in lm.calls[1].messages[-1]["content"]
    assert "709037" in lm.calls[2].messages[-1]["content"]
    assert "How many people live in a city." in lm.calls[0].messages[0]["content"]


def test_tool_errors_become_observations() -> None:
    _, seen = observations(
        [turn("population", city="Nowhere"), turn("population", town="Oslo"), turn("finish"), ANSWER]
    )
    assert "KeyError" in seen[0]
    assert "town" in seen[1]
    assert seen[2] == "Finished."


def test_a_turn_that_cannot_be_read_is_lost_not_the_run() -> None:
    result, seen = observations([turn("no_such_tool"), turn("finish"), ANSWER])
    assert "could not be read" in seen[0]
    assert result.answer == 7


def test_max_iters_ends_the_loop() -> None:
    result, seen = observations([turn("population", city="Oslo")] * 2 + [ANSWER], max_iters=2)
    assert seen == [709_037, 709_037]
    assert result.answer == 7


def test_async_tools_work_on_both_sides() -> None:
    script = [turn("slow_population", city="Oslo"), turn("finish"), ANSWER]
    _, seen = observations(script, [slow_population])
    assert seen[0] == 709_037

    async def main() -> Any:
        return await ReAct("question -> answer: int", tools=[slow_population]).acall(question="?")

    with dspex.context(lm=MockLM(script)):
        assert asyncio.run(main()).trajectory[0]["observation"] == 709_037


def test_a_tool_over_a_module_is_tuned_with_the_program() -> None:
    class Program(dspex.Module):
        scale = dspex.variable(dspex.Int(1, 100), default=1)

        def __init__(self) -> None:
            self.agent = ReAct("question -> answer: int", tools=[self.lookup])

        def lookup(self, x: int) -> int:
            return x * self.scale

        def forward(self, question: str) -> Any:
            return self.agent(question=question)

    script = [turn("lookup", x=2), turn("finish"), ANSWER]
    with dspex.context(lm=MockLM(script)):
        result = Program().bind({"scale": 50})(question="?")
    assert result.trajectory[0]["observation"] == 100


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([], "at least one tool"),
        (["search"], "which cannot be called"),
        ([population, population], "two tools of ReAct are called 'population'"),
        ({"finish": population}, "it has that one itself"),
        (None, r"tools of ReAct must be a list, got None of type NoneType\.\n  right:  ReAct\(.*tools=\[search\]\)"),
        (population, r"must be a list, got <function population .*\n.*tools=\[population\]\)"),
    ],
)
def test_wrong_tools_are_refused(tools: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        ReAct("question -> answer", tools=tools)


def test_no_tools_at_all() -> None:
    with pytest.raises(DefinitionError, match=r"needs at least one tool\.\n  right:  ReAct\(.*, tools=\[search\]\)"):
        ReAct("question -> answer")


@pytest.mark.parametrize(
    ("signature", "kind", "name", "right"),
    [
        ("tool, q: int -> a", "input", "tool", "given_tool, q -> a"),
        ("q, trajectory -> a", "input", "trajectory", "q, given_trajectory -> a"),
        ("q -> a, trajectory", "output", "trajectory", "q -> a, found_trajectory"),
    ],
)
def test_fields_called_like_those_of_the_loop_are_refused(signature: str, kind: str, name: str, right: str) -> None:
    with pytest.raises(
        DefinitionError,
        match=f"the {kind} `{name}` of `{signature}` cannot have that name, because ReAct adds a field `{name}`"
        rf".*\n  wrong:  ReAct\('{signature}', tools=\.\.\.\)\n  right:  ReAct\('{right}', tools=\.\.\.\)",
    ):
        ReAct(signature, tools=[population])


def test_outputs_may_be_called_like_those_of_a_turn() -> None:
    script = [turn("finish"), {"reasoning": "r", "tool": "hammer", "thought": "t"}]
    with dspex.context(lm=MockLM(script)):
        assert ReAct("question -> tool, thought", tools=[population])(question="?").tool == "hammer"


def test_tool_objects_and_names() -> None:
    agent = ReAct("question -> answer", tools={"people": Tool(population)})
    assert list(agent.tools) == ["people"] or list(agent.tools) == ["population"]
    assert "max_iters" in agent.space()
