"""`ReAct`: a loop of thought, tool call and observation, then an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from dspex.errors import DefinitionError, ParseError, ToolError
from dspex.modules.chain_of_thought import ChainOfThought
from dspex.modules.flow import Call, Flow, Invoke
from dspex.modules.module import Module
from dspex.modules.predict import Predict
from dspex.signatures import InputField, OutputField, Signature, ensure_signature
from dspex.tools import Tool
from dspex.variables import Domain, Int, Variable, set_tunable, variable

__all__ = ["ReAct"]

_FINISH = "finish"
_ADDED = ("trajectory", "thought", "tool", "arguments")


class ReAct(Module):
    """Lets a model use tools until it knows enough, then answers from what it saw.

    Each turn, ``react`` reads the inputs and the trajectory so far and names a tool and its arguments; the
    tool's result becomes the next observation. A tool that fails, is unknown, or is called with wrong
    arguments is no end of the run: the error's text becomes the observation, for the model to react to. When
    the model calls ``finish``, or after ``max_iters`` turns, ``extract`` reads the trajectory and fills the
    signature's outputs. The prediction also carries ``trajectory``, a list of turns.

    Args:
        signature: what goes in and what is to come out.
        tools: plain functions (sync or async), bound methods or `Tool` objects; names must differ.
        max_iters: the most turns: a number, an `Int` domain or a variable.
        predict: arguments for both inner predictors, such as ``temperature=0.0``.

    Raises:
        DefinitionError: no tool, a tool that is not callable, two of one name, or a field of the signature called like
            one that the loop adds: an input ``trajectory``, ``thought``, ``tool`` or ``arguments``, an output
            ``trajectory``.

    Source: Yao et al. 2023, "ReAct: Synergizing Reasoning and Acting in Language Models", section 2.

    Example:
        >>> import dspex
        >>> def population(city: str) -> int:
        ...     "How many people live in a city."
        ...     return {"Oslo": 709_037}[city]
        >>> agent = dspex.ReAct("question -> answer: int", tools=[population])
        >>> script = [
        ...     {"thought": "Look it up.", "tool": "population", "arguments": {"city": "Oslo"}},
        ...     {"thought": "I know it.", "tool": "finish", "arguments": {}},
        ...     {"reasoning": "The tool said so.", "answer": 709037},
        ... ]
        >>> with dspex.context(lm=dspex.MockLM(script)):
        ...     result = agent(question="How many people live in Oslo?")
        >>> result.answer, result.trajectory[0]["observation"]
        (709037, 709037)
    """

    max_iters: Variable[int] = variable(Int(1, 100), default=10, tunable=False, doc="the most turns")

    def __init__(
        self,
        signature: str | type[Signature],
        tools: Sequence[Callable[..., Any] | Tool] | Mapping[str, Callable[..., Any] | Tool] = (),
        *,
        max_iters: int | Domain[int] | Variable[int] | None = None,
        **predict: Any,
    ) -> None:
        self.signature = asked = ensure_signature(signature)
        _check_fields(asked)
        self.tools = _named(tools)
        if max_iters is not None:
            self.max_iters = max_iters
            if not isinstance(max_iters, Domain | Variable):
                set_tunable(self, ReAct.max_iters, False)
        names = (*self.tools, _FINISH)
        outputs = ", ".join(f"`{name}`" for name in asked.output_fields)
        steps = Signature({name: (f.annotation, f) for name, f in asked.input_fields.items()}, _task(asked, self.tools))
        for name, annotation, field in (
            ("trajectory", str, InputField(desc="thoughts, tool calls and observations so far")),
            ("thought", str, OutputField(desc="what is known and what to do next")),
            ("tool", Literal[names], OutputField(desc=f"{_FINISH} when {outputs} can be given")),
            ("arguments", dict[str, Any], OutputField(desc="the tool's arguments as a JSON object")),
        ):
            steps = steps.append(name, field, annotation)
        answer = asked.append("trajectory", InputField(desc="what the tools found out"), str)
        self.react = Predict(steps, **predict)
        self.extract = ChainOfThought(answer, **predict)

    def flow(self, **inputs: Any) -> Flow:
        """Take turns until the model finishes, then answer."""
        turns: list[dict[str, Any]] = []
        for _ in range(self.max_iters):
            try:
                step = yield Call(self.react, **inputs, trajectory=_spell(turns))
            except ParseError as error:  # a turn that cannot be read is a turn lost, not the run
                turns.append({"thought": error.text.strip(), "tool": "", "arguments": {}})
                turns[-1]["observation"] = f"Error: this turn could not be read: {error}"
                continue
            turn = {"thought": step.thought, "tool": step.tool, "arguments": step.arguments}
            turns.append(turn)
            if step.tool == _FINISH:
                turn["observation"] = "Finished."
                break
            try:
                turn["observation"] = yield Invoke(self.tools[step.tool], step.arguments)
            except ToolError as error:
                turn["observation"] = f"Error: {error}"
        result = yield Call(self.extract, **inputs, trajectory=_spell(turns))
        result["trajectory"] = turns
        return result


def _check_fields(asked: type[Signature]) -> None:
    for name, field in asked.fields.items():
        if name in _ADDED and (field.is_input or name == "trajectory"):
            kind = "input" if field.is_input else "output"
            other = f"{'given' if field.is_input else 'found'}_{name}"
            parts = (asked.input_fields, asked.output_fields)
            right = " -> ".join(", ".join(other if one == name else one for one in part) for part in parts)
            raise DefinitionError(
                f"the {kind} `{name}` of `{asked.spec}` cannot have that name, because ReAct adds a field `{name}` "
                "of its own to what the model reads and writes.\n"
                f"  wrong:  ReAct({asked.spec!r}, tools=...)\n"
                f"  right:  ReAct({right!r}, tools=...)"
            )


def _named(tools: Any) -> dict[str, Tool]:
    if isinstance(tools, str) or not isinstance(tools, Iterable):
        raise DefinitionError(
            f"tools of ReAct must be a list, got {tools!r} of type {type(tools).__name__}.\n"
            f"  right:  ReAct('question -> answer', tools=[{getattr(tools, '__name__', 'search')}])"
        )
    given = tools.items() if isinstance(tools, Mapping) else ((None, tool) for tool in tools)
    named: dict[str, Tool] = {}
    for name, tool in given:
        if not isinstance(tool, Tool):
            if not callable(tool):
                raise DefinitionError(
                    f"a tool of ReAct is {tool!r} of type {type(tool).__name__}, which cannot be called.\n"
                    "  right:  ReAct('question -> answer', tools=[search])  # a function with type hints"
                )
            tool = Tool(tool, name=name)
        elif name is not None and name != tool.name:
            tool = Tool(tool, name=name)
        if tool.name in named or tool.name == _FINISH:
            raise DefinitionError(
                f"two tools of ReAct are called {tool.name!r}"
                + (" (it has that one itself, to end the loop)" if tool.name == _FINISH else "")
                + ".\n  right:  tools={'search_web': search, 'search_mail': mail.search}"
            )
        named[tool.name] = tool
    if not named:
        raise DefinitionError("ReAct needs at least one tool.\n  right:  ReAct('question -> answer', tools=[search])")
    return named


def _task(signature: type[Signature], tools: Mapping[str, Tool]) -> str:
    lines = [signature.instructions, "", "In each turn, think, then call one tool:"]
    lines += [f"- {tool.describe()}" for tool in tools.values()]
    lines.append(f"- {_FINISH}(): call it once the outputs can be given")
    return "\n".join(lines)


def _spell(turns: list[dict[str, Any]]) -> str:
    if not turns:
        return "(nothing yet)"
    lines = []
    for number, turn in enumerate(turns, 1):
        for key in ("thought", "tool", "arguments", "observation"):
            lines.append(f"{key} {number}: {turn[key]}")
    return "\n".join(lines)
