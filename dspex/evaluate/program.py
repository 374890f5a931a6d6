"""What can be evaluated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from dspex.data import Example
from dspex.errors import DefinitionError
from dspex.execution import Activation, Run, Settings, run_blocking
from dspex.lm import BaseLM
from dspex.modules import Module
from dspex.modules.preparing import models_of, prepare as prepare_module

__all__ = ["FunctionProgram", "Program", "as_program", "at_once", "check_inputs", "prepare"]


class Program(Protocol):
    """What can be evaluated: every `Module` is one, and `as_program` makes one of a function."""

    @property
    def natively_async(self) -> bool:
        """Whether `aexecute` blocks no thread, so that examples can run as tasks."""
        ...

    def execute(self, inputs: Mapping[str, Any], *, run: Run) -> Any:
        """The prediction for ``inputs``; ``run`` keeps trace and usage, also when it raises."""
        ...

    async def aexecute(self, inputs: Mapping[str, Any], *, run: Run) -> Any:
        """The async side of `execute`."""
        ...


class FunctionProgram:
    """A plain function, sync or async, as a program; the predictors it calls join its run.

    >>> from dspex.execution import Run
    >>> FunctionProgram(lambda question: question.upper()).execute({"question": "hm"}, run=Run())
    'HM'
    """

    __slots__ = ("function", "natively_async")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.natively_async = inspect.iscoroutinefunction(function)

    def execute(self, inputs: Mapping[str, Any], *, run: Run) -> Any:
        """Call the function; an async one is run to its end."""
        with Activation(run):
            answer = self.function(**inputs)
            return run_blocking(answer) if inspect.iscoroutine(answer) else answer

    async def aexecute(self, inputs: Mapping[str, Any], *, run: Run) -> Any:
        """Call the function and await it; a sync one runs right here."""
        with Activation(run):
            answer = self.function(**inputs)
            return await answer if inspect.isawaitable(answer) else answer


def check_inputs(program: Program, examples: Iterable[Example]) -> None:
    """Raise `DefinitionError` when ``program`` is a function that cannot be called with the inputs of an example.

    >>> def answer(question, tone="plain"): ...
    >>> check_inputs(FunctionProgram(answer), [Example(query="1+1?", right="2").with_inputs("query")])
    Traceback (most recent call last):
        ...
    dspex.errors.DefinitionError: the function answer(question, tone='plain') cannot be called with the inputs (query) \
of example ...: missing a required argument: 'question'. ...
    """
    if not isinstance(program, FunctionProgram):
        return
    function = program.function
    try:
        # As it is called, and not as what it wraps would be.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # written in C, or of no type that says what it takes
    fitting: set[frozenset[str]] = set()
    for example in examples:
        keys = example.input_keys
        if keys is None or keys in fitting:
            continue
        try:
            signature.bind(**dict.fromkeys(keys))
        except TypeError as error:
            name = getattr(function, "__name__", type(function).__name__)
            inputs = ", ".join(field for field in example if field in keys)
            raise DefinitionError(
                f"the function {name}{signature} cannot be called with the inputs ({inputs}) of example {example.id}: "
                f"{error}. Give it these parameters, such as def answer({inputs}): ..., or say which fields are its "
                "inputs with example.with_inputs(...)."
            ) from None
        fitting.add(keys)


def prepare(program: Program, settings: Settings) -> None:
    """Load what the first run would load, so that its latency is its own; no model is called.

    What is wrong is left for the run to say, but for a `DefinitionError`.
    """
    if isinstance(program, Module):
        prepare_module(program, settings)
    elif isinstance(settings.lm, BaseLM):
        with suppress(Exception):
            settings.lm.prepare()


def at_once(program: Program, settings: Settings) -> float:
    """How many calls the models of ``program`` would have at once; 0 when the usual number is right for them."""
    models = models_of(program, settings) if isinstance(program, Module) else [settings.lm]
    return max((lm.at_once for lm in models if isinstance(lm, BaseLM)), default=0)


def as_program(program: Program | Callable[..., Any]) -> Program:
    """``program`` itself, or a function made into one; raises `DefinitionError` for anything else.

    >>> as_program("question -> answer")
    Traceback (most recent call last):
        ...
    dspex.errors.DefinitionError: a program is a dspex.Module or a function, got 'question -> answer' (str)...
    """
    candidate: Any = program
    if isinstance(candidate, type):
        raise DefinitionError(
            f"a program is an instance, got the class {candidate.__name__}; write {candidate.__name__}(...)"
        )
    if hasattr(candidate, "execute") and hasattr(candidate, "aexecute"):
        found: Program = candidate
        return found
    if callable(candidate):
        return FunctionProgram(candidate)
    hint = f"dspex.Predict({candidate!r})" if isinstance(candidate, str) else "a subclass of dspex.Module"
    raise DefinitionError(
        f"a program is a dspex.Module or a function, got {candidate!r} ({type(candidate).__name__}); write {hint}"
    )
