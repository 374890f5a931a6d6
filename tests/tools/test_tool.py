"""Tools: what a model is told, how arguments are checked, and what comes back when something goes wrong."""

from __future__ import annotations

import asyncio
import enum
import functools
import pickle
import threading
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from dspex.errors import BudgetExceeded, DefinitionError, LMTimeoutError, ParseError, ToolError, TrialPruned
from dspex.tools import Tool


class Unit(enum.Enum):
    KM = "km"
    MILE = "mile"


class Place(BaseModel):
    city: str
    country: str = "NO"


def search(query: str, k: int = 3) -> list[str]:
    """Finds passages
    about a query.

    The longest first, which nobody needs to know.

    Args:
        query: what to look for,
            in plain words
        k (int): how many

    Returns:
        The passages.
    """
    return [f"{query} #{index}" for index in range(k)]


async def population(place: Place, year: Annotated[int, Field(ge=1900, description="of the census")] = 2020) -> int:
    """The number of people in a place."""
    await asyncio.sleep(0)
    return len(place.city) * year


def distance(a: Place, b: Place, unit: Unit = Unit.KM, how: Literal["air", "road"] | None = None) -> str:
    return f"{a.city}-{b.city} {unit.value} {how}"


def call(tool: Tool, **arguments: Any) -> Any:
    """Both ways of calling agree."""
    try:
        blocking = tool(**arguments)
    except ToolError as error:
        with pytest.raises(ToolError) as caught:
            asyncio.run(tool.acall(**arguments))
        if str(caught.value) != str(error):
            pytest.fail(f"blocking: {error}; awaited: {caught.value}")
        raise
    assert asyncio.run(tool.acall(**arguments)) == blocking
    return blocking


# -- what a model is told ------------------------------------------------------------------------------


def test_a_function_describes_itself() -> None:
    tool = Tool(search)
    assert tool.name == "search"
    assert tool.desc == "Finds passages about a query."
    assert tool.describe() == (
        "search(query: str, k: int = 3) -> list[str]: Finds passages about a query. "
        "query: what to look for, in plain words; k: how many"
    )
    assert tool.args == {
        "query": {"type": "string", "description": "what to look for, in plain words"},
        "k": {"type": "integer", "description": "how many", "default": 3},
    }
    assert tool.schema["required"] == ["query"]
    assert tool.schema["additionalProperties"] is False
    assert repr(tool) == "<Tool search(query: str, k: int = 3)>"


def test_rich_types_have_a_schema() -> None:
    schema = Tool(distance).schema
    assert schema["properties"]["a"] == {"$ref": "#/$defs/Place"}
    assert schema["properties"]["unit"]["default"] == "km"
    assert schema["$defs"]["Unit"]["enum"] == ["km", "mile"]
    assert Tool(population).args["year"] == {
        "type": "integer",
        "minimum": 1900,
        "description": "of the census",
        "default": 2020,
    }


def test_name_and_description_can_be_given() -> None:
    tool = Tool(search, name="look_up", desc="Looks\n  things up.")
    assert tool.describe().startswith("look_up(query: str, k: int = 3) -> list[str]: Looks things up.")
    again = Tool(tool, name="find")
    assert (again.name, again.desc, again.func) == ("find", "Looks things up.", search)


def test_a_function_without_hints_or_docstring() -> None:
    tool = Tool(lambda text, loud=False: text.upper() if loud else text, name="echo")
    assert tool.describe() == "echo(text, loud=False)"
    assert tool(text="hi", loud=True) == "HI"
    assert tool.args == {"text": {}, "loud": {"default": False}}


class Index:
    """Knows passages."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def find(self, word: str) -> bool:
        """Whether a word is known."""
        return word in self.words

    def __call__(self, word: str) -> int:
        return self.words.index(word)

    @staticmethod
    def shout(word: str) -> str:
        return word.upper()

    @classmethod
    def empty(cls, size: int = 0) -> int:
        return len(cls([]).words) + size


class FirstWord(Index):
    async def __call__(self, word: str) -> int:  # type: ignore[override]
        """Where a word stands."""
        return self.words.index(word)


def test_methods_partials_and_objects() -> None:
    index = Index(["tea", "milk"])
    assert Tool(index.find).describe() == "find(word: str) -> bool: Whether a word is known."
    assert call(Tool(index.find), word="tea") is True
    assert Tool(index).describe() == "index(word: str) -> int: Knows passages."
    assert call(Tool(index), word="milk") == 1
    assert Tool(FirstWord(["a"])).describe() == "first_word(word: str) -> int: Where a word stands."
    assert call(Tool(FirstWord(["a"])), word="a") == 0
    assert call(Tool(Index.shout), word="tea") == "TEA"
    assert call(Tool(Index.empty), size=2) == 2
    few = Tool(functools.partial(search, k=1))
    assert few.describe().startswith("search(query: str, k: int = 1) -> list[str]: Finds passages about a query.")
    assert call(few, query="tea") == ["tea #0"]
    assert call(Tool(functools.partial(population, year=2000), name="people"), place={"city": "Oslo"}) == 8000


def test_a_wrapped_function_keeps_its_face() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(*args: Any, **keywords: Any) -> Any:
            return function(*args, **keywords)

        return inner

    assert Tool(logged(search)).describe() == Tool(search).describe()
    assert Tool(logged(search))(query="tea", k="1") == ["tea #0"]


def test_builtins_are_tools_too() -> None:
    assert Tool(len)([1, 2]) == 2
    assert Tool(round)(number=2.567, ndigits=1) == 2.6


# -- arguments -----------------------------------------------------------------------------------------


def test_arguments_are_converted() -> None:
    assert call(Tool(search), query="tea", k="2") == ["tea #0", "tea #1"]
    assert call(Tool(population), place={"city": "Oslo"}, year="2000") == 8000
    assert call(Tool(population), place='{"city": "Oslo"}', year=2000) == 8000
    places = {"a": {"city": "Oslo"}, "b": {"city": "Bergen"}}
    assert call(Tool(distance), **places, unit="mile", how="air") == "Oslo-Bergen mile air"

    def total(numbers: list[int], when: date) -> str:
        return f"{sum(numbers)} {when:%d.%m.}"

    assert call(Tool(total), numbers="[1, 2]", when="2026-05-01") == "3 01.05."


def test_defaults_are_the_functions_own() -> None:
    default = object()

    def get(key: str, fallback: Any = default) -> Any:
        return fallback

    assert Tool(get)(key="x") is default
    assert Tool(get).describe() == "get(key: str, fallback=...) -> Any"


def test_positional_arguments_work() -> None:
    def both(a: int, /, b: int, *, c: int = 0) -> tuple[int, int, int]:
        return (a, b, c)

    tool = Tool(both)
    assert tool("1", 2) == tool(a=1, b=2) == tool(1, b=2) == (1, 2, 0)
    assert asyncio.run(tool.acall(1, 2, 3)) == (1, 2, 3)
    with pytest.raises(ToolError, match=r"both: it takes 3 arguments, 4 were given. Call it as both"):
        tool(1, 2, 3, 4)
    with pytest.raises(ToolError, match="both: `a` was given twice"):
        tool(1, a=1, b=2)


def test_an_argument_may_be_called_anything() -> None:
    def odd(self: int, func: str, args: list[int], name: str) -> str:
        return f"{self}{func}{args}{name}"

    assert call(Tool(odd), self="1", func="f", args=[2], name="n") == "1f[2]n"


def test_open_ended_functions_take_what_they_get() -> None:
    def anything(first: int, *rest: int, **more: Any) -> Any:
        return first, rest, more

    tool = Tool(anything)
    assert tool.describe() == "anything(first: int, **more) -> Any"
    assert tool.schema["additionalProperties"] is True
    assert call(tool, first="1", x=[2]) == (1, (), {"x": [2]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"quary": "tea"},
            "search: `query` was not given; there is no argument `quary` (did you mean `query`?). "
            "Call it as search(query: str, k: int = 3).",
        ),
        ({}, "search: `query` was not given. Call it as search(query: str, k: int = 3)."),
        (
            {"query": "tea", "k": "many"},
            "search: `k` was 'many' (str): Input should be a valid integer, unable to parse string as an integer. "
            "Call it as search(query: str, k: int = 3).",
        ),
        (
            {"query": ["tea"] * 50},
            "search: `query` was ['tea', 'tea', 'tea', 'tea', 'tea', 'tea', 'tea', 'tea', 'tea', 'tea', 'tea',... "
            "(list): Input should be a valid string. Call it as search(query: str, k: int = 3).",
        ),
        ({"query": "tea", "zzz": 1}, "search: there is no argument `zzz`. Call it as search(query: str, k: int = 3)."),
    ],
)
def test_wrong_arguments_say_what_is_right(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError) as caught:
        call(Tool(search), **arguments)
    assert str(caught.value) == message


def test_wrong_arguments_inside_are_placed() -> None:
    with pytest.raises(ToolError, match=r"population: `place\['city'\]` was .*Field required; `year` was 3 \(int\): "):
        call(Tool(population), place={"country": "NO"}, year=3)


def test_constraints_of_arguments_hold() -> None:
    with pytest.raises(ToolError, match=r"`year` was 1800 .*greater than or equal to 1900"):
        Tool(population)(place={"city": "Oslo"}, year=1800)


# -- what goes wrong inside ----------------------------------------------------------------------------


def test_what_a_function_raises_is_a_tool_error() -> None:
    def divide(a: int, b: int) -> float:
        return a / b

    with pytest.raises(ToolError, match=r"^divide raised ZeroDivisionError: division by zero$") as caught:
        call(Tool(divide), a=1, b=0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)

    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ToolError, match=r"^fail raised ValueError: no$"):
        call(Tool(fail))


@pytest.mark.parametrize("error", [ParseError("unreadable"), ToolError("inner raised"), DefinitionError("wrong")])
def test_errors_of_a_program_inside_are_observations(error: Exception) -> None:
    def ask() -> None:
        raise error

    with pytest.raises(ToolError, match=f"ask raised {type(error).__name__}: {error}"):
        call(Tool(ask))


@pytest.mark.parametrize("error", [LMTimeoutError("slow"), BudgetExceeded("spent"), TrialPruned("hopeless")])
def test_failures_of_the_world_are_not(error: Exception) -> None:
    def ask() -> None:
        raise error

    tool = Tool(ask)
    with pytest.raises(type(error)) as caught:
        tool()
    assert caught.value is error
    assert error.__cause__ is None
    with pytest.raises(type(error)):
        asyncio.run(tool.acall())


def test_interrupts_pass() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Tool(stop)()


# -- sync and async ------------------------------------------------------------------------------------


def test_an_async_function_can_be_called_inside_a_running_loop() -> None:
    async def outer() -> Any:
        return Tool(population)(place={"city": "Oslo"}, year=2000)

    assert asyncio.run(outer()) == 8000
    assert Tool(population).is_async
    assert not Tool(search).is_async


def test_a_sync_function_does_not_block_the_loop() -> None:
    started, release = threading.Event(), threading.Event()

    def wait() -> str:
        started.set()
        assert release.wait(5)
        return "done"

    async def outer() -> str:
        task = asyncio.ensure_future(Tool(wait).acall())
        while not started.is_set():
            await asyncio.sleep(0.001)
        release.set()
        return await task

    assert asyncio.run(outer()) == "done"


def test_a_function_that_returns_an_awaitable() -> None:
    tool = Tool(lambda place: population(Place(city=place), 2000), name="people")
    assert call(tool, place="Oslo") == 8000


# -- copies --------------------------------------------------------------------------------------------


def test_a_tool_around_another_function() -> None:
    old, new = Index(["tea"]), Index(["milk"])
    tool = Tool(old.find, name="known", desc="Knows.")
    moved = tool.with_function(new.find)
    assert (moved.name, moved.desc, moved.args) == ("known", "Knows.", tool.args)
    assert moved(word="milk")
    assert not tool(word="milk")


def test_tools_travel_to_other_processes() -> None:
    tool = pickle.loads(pickle.dumps(Tool(search, name="find", desc="Finds.")))
    assert tool.describe() == Tool(search, name="find", desc="Finds.").describe()
    assert tool(query="tea", k="1") == ["tea #0"]


# -- what is no tool -----------------------------------------------------------------------------------


class Handle:
    pass


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"a tool is a function, not 'tea' \(str\)(.|\n)*right:  Tool\(search\)"):
        Tool("tea")  # type: ignore[arg-type]  # the error is the test


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(DefinitionError, match="a tool needs a name that a model can write, not '<lambda>'"):
        Tool(lambda: 1)


def test_an_argument_a_model_cannot_write_is_refused() -> None:
    def use(handle: Handle, n: int) -> None: ...

    with pytest.raises(DefinitionError) as caught:
        Tool(use)
    assert str(caught.value) == (
        "the tool 'use' needs 'handle', a Handle, which a model cannot write as JSON.\n"
        "  wrong:  Tool(use)\n"
        "  right:  Tool(functools.partial(use, handle=...)), or a default for 'handle'"
    )
    assert Tool(functools.partial(use, Handle())).describe() == "use(n: int) -> None"
    assert Tool(functools.partial(use, handle=Handle())).describe() == "use(n: int) -> None"


def test_an_unknown_type_is_refused() -> None:
    def use(thing: Unknown) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the error is the test

    with pytest.raises(DefinitionError, match=r"the tool 'use' has a type hint that cannot be resolved: .*Unknown"):
        Tool(use)
