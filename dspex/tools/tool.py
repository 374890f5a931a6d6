"""`Tool`: a plain function, with what a model has to know to call it."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dspex.callbacks.observed import Observed
from dspex.errors import DefinitionError, DspexError, ToolError, TrialPruned
from dspex.execution import active_run, current, in_thread, run_blocking
from dspex.tools.parameters import Parameter, described, parameters_of, return_type

if TYPE_CHECKING:
    from dspex.callbacks import Callback
    from dspex.execution import Run

__all__ = ["Tool"]


class Tool:
    """A function that a model may call: any function, bound method, partial or object with ``__call__``.

    Everything the model is told comes from the function itself: its name, the first paragraph of its
    docstring, its type hints (`typing.Annotated` with a pydantic ``Field`` describes an argument, as does an
    ``Args:`` section). Arguments are checked and converted by pydantic before the function sees them.

    The function may be sync or async; a tool is called either way: ``tool(query="...")`` blocks,
    ``await tool.acall(query="...")`` does not. Tools are immutable and as safe to share between threads as
    their functions are.

    Args:
        func: the function.
        name: what the model calls it; by default the function's own name.
        desc: what it does, in a sentence; by default from the docstring.

    Raises:
        DefinitionError: what is given cannot be called, has no usable name, or has a type hint that cannot be
            resolved or be written as JSON.

    >>> def search(query: str, k: int = 3) -> list[str]:
    ...     '''Finds passages about a query.'''
    ...     return [f"{query} #{i}" for i in range(k)]
    >>> tool = Tool(search)
    >>> print(tool.describe())
    search(query: str, k: int = 3) -> list[str]: Finds passages about a query.
    >>> tool(query="tea", k="2")
    ['tea #0', 'tea #1']
    >>> tool(quary="tea")
    Traceback (most recent call last):
    dspex.errors.ToolError: search: `query` was not given; there is no argument `quary` (did you mean \
`query`?). Call it as search(query: str, k: int = 3).
    """

    __slots__ = ("_notes", "_open_ended", "_parameters", "_returns", "desc", "func", "name")

    func: Callable[..., Any]
    name: str
    desc: str

    def __init__(self, func: Callable[..., Any], *, name: str | None = None, desc: str | None = None) -> None:
        if isinstance(func, Tool):
            name, desc, func = name or func.name, func.desc if desc is None else desc, func.func
        if not callable(func):
            raise DefinitionError(
                f"a tool is a function, not {func!r} ({type(func).__name__}).\n"
                "  wrong:  Tool(search('tea'))\n"
                "  right:  Tool(search)"
            )
        summary, notes = described(func)
        self.func = func
        self.name = _own_name(func) if name is None else name
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z_][\w-]{0,63}", self.name):
            raise DefinitionError(
                f"a tool needs a name that a model can write, not {self.name!r}.\n"
                "  right:  Tool(lambda city: ..., name='population')"
            )
        self.desc = summary if desc is None else " ".join(desc.split())
        self._parameters, self._open_ended = parameters_of(func, self.name)
        self._returns = return_type(func, self.name)
        self._notes = {name: note for name, note in notes.items() if name in self._parameters}

    # -- what a model is told --------------------------------------------------------------------------

    @property
    def args(self) -> dict[str, dict[str, Any]]:
        """The JSON schema of each argument, by name.

        >>> def sign(*, text: str, times: int = 1): ...
        >>> Tool(sign).args
        {'text': {'type': 'string'}, 'times': {'type': 'integer', 'default': 1}}
        """
        schema: dict[str, dict[str, Any]] = self.schema["properties"]
        return schema

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the object that holds all arguments."""
        from pydantic import TypeAdapter
        from pydantic_core import PydanticSerializationError, to_jsonable_python

        found, definitions = TypeAdapter.json_schemas(
            [(name, "validation", parameter.adapter) for name, parameter in self._parameters.items()]
        )
        properties = {}
        for name, parameter in self._parameters.items():
            one = dict(found[name, "validation"])
            if name in self._notes:
                one.setdefault("description", self._notes[name])
            if not parameter.required:
                with suppress(PydanticSerializationError):  # a default that a model could not write either
                    one["default"] = to_jsonable_python(parameter.default)
            properties[name] = one
        schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "required": [name for name, parameter in self._parameters.items() if parameter.required],
            "additionalProperties": self._open_ended,
        }
        if "$defs" in definitions:
            schema["$defs"] = definitions["$defs"]
        return schema

    def describe(self) -> str:
        """One line for a prompt: how it is called, what it returns, what it does."""
        returns = f" -> {self._returns}" if self._returns else ""
        notes = [
            f"{name}: {note}"
            for name, parameter in self._parameters.items()
            if (note := parameter.schema.get("description") or self._notes.get(name))
        ]
        said = " ".join(part for part in (self.desc, "; ".join(notes)) if part)
        return f"{self._head}{returns}{': ' if said else ''}{said}"

    @property
    def _head(self) -> str:
        inner = [str(parameter) for parameter in self._parameters.values()]
        return f"{self.name}({', '.join([*inner, '**more'] if self._open_ended else inner)})"

    # -- calling it ------------------------------------------------------------------------------------

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        function: Any = self.func
        while hasattr(function, "func"):
            function = function.func
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - not whether it can be called, but how
        )

    def __call__(self, /, *args: Any, **arguments: Any) -> Any:
        """Check the arguments, call the function, return what it returns; blocks if it is async.

        Raises:
            ToolError: an argument is missing, unknown or of the wrong type, or the function raised; the
                message says what to write instead, so that a model can do better. Failures of the world
                (`DspexError.infrastructure`) and `TrialPruned` pass as they are: they are nobody's answer.
        """
        run = active_run()
        if observers := current().callbacks if run is None else run.observers:
            with self._observed(observers, run, args, arguments) as span:
                span.outputs = result = self._perform(args, arguments)
                return result
        return self._perform(args, arguments)

    async def acall(self, /, *args: Any, **arguments: Any) -> Any:
        """As calling it, without blocking: a sync function runs in a thread."""
        run = active_run()
        if observers := current().callbacks if run is None else run.observers:
            with self._observed(observers, run, args, arguments) as span:
                span.outputs = result = await self._aperform(args, arguments)
                return result
        return await self._aperform(args, arguments)

    def _observed(
        self, observers: tuple[Callback, ...], run: Run | None, args: tuple[Any, ...], arguments: dict[str, Any]
    ) -> Observed:
        inputs = {**dict(zip(self._parameters, args, strict=False)), **arguments}
        return Observed(observers, "tool", self.name, inputs=inputs, root=None if run is None else run.span)

    def _perform(self, args: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
        call = self._prepared(args, arguments)
        try:
            result = call()
            return run_blocking(_awaited(result)) if inspect.isawaitable(result) else result
        except Exception as error:  # whatever a function of the user's raises
            if _passes(error):
                raise
            raise self._failure(error) from error

    async def _aperform(self, args: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
        call = self._prepared(args, arguments)
        try:
            result = call() if self.is_async else await in_thread(call)
            return await result if inspect.isawaitable(result) else result
        except Exception as error:  # whatever a function of the user's raises
            if _passes(error):
                raise
            raise self._failure(error) from error

    def _prepared(self, args: tuple[Any, ...], arguments: dict[str, Any]) -> Callable[[], Any]:
        if args:
            arguments = self._named(args, arguments)
        read, problems = self._read(arguments)
        if problems:
            raise ToolError(f"{self.name}: {'; '.join(problems)}. Call it as {self._head}.")
        first = [read.pop(name) for name, one in self._parameters.items() if one.positional_only and name in read]
        return functools.partial(self.func, *first, **read)

    def _named(self, args: tuple[Any, ...], arguments: Mapping[str, Any]) -> dict[str, Any]:
        names = list(self._parameters)
        if len(args) > len(names):
            raise ToolError(
                f"{self.name}: it takes {len(names)} arguments, {len(args)} were given. Call it as {self._head}."
            )
        named = dict(zip(names, args, strict=False))
        twice = [name for name in named if name in arguments]
        if twice:
            raise ToolError(f"{self.name}: `{twice[0]}` was given twice. Call it as {self._head}.")
        return {**named, **arguments}

    def _read(self, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        from pydantic import ValidationError

        read: dict[str, Any] = {}
        problems = []
        for name, parameter in self._parameters.items():
            if name in arguments:
                try:
                    read[name] = parameter.read(arguments[name])
                except ValidationError as error:
                    problems.append(_mismatch(parameter, arguments[name], error))
            elif parameter.required:
                problems.append(f"`{name}` was not given")
        for name, value in arguments.items():
            if name in self._parameters:
                continue
            if self._open_ended:
                read[name] = value
                continue
            close = difflib.get_close_matches(str(name), self._parameters, n=1)
            hint = f" (did you mean `{close[0]}`?)" if close else ""
            problems.append(f"there is no argument `{name}`{hint}")
        return read, problems

    def _failure(self, error: Exception) -> ToolError:
        return ToolError(f"{self.name} raised {type(error).__name__}: {error}")

    # -- copies ----------------------------------------------------------------------------------------

    def with_function(self, func: Callable[..., Any]) -> Tool:
        """The same tool around a function of the same signature: that of a copied program, for example."""
        copy = Tool.__new__(Tool)
        for slot in Tool.__slots__:
            setattr(copy, slot, getattr(self, slot))
        copy.func = func
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (self.func, self.name, self.desc))

    def __repr__(self) -> str:
        return f"<Tool {self._head}>"


def _passes(error: Exception) -> bool:
    return isinstance(error, TrialPruned) or (isinstance(error, DspexError) and error.infrastructure)


def _rebuilt(func: Callable[..., Any], name: str, desc: str) -> Tool:
    return Tool(func, name=name, desc=desc)


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _own_name(func: Any) -> str:
    while isinstance(func, functools.partial):
        func = func.func
    name = getattr(func, "__name__", None)
    if isinstance(name, str):
        return name
    # An object: WebSearch() is web_search.
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(func).__name__).lower()


def _mismatch(parameter: Parameter, value: Any, error: Any) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = "".join(f"[{part!r}]" for part in found["loc"])
    text = repr(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    return f"`{parameter.name}{place}` was {text} ({type(value).__name__}): {found['msg']}"
