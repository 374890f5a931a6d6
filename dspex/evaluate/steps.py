"""The steps of evaluating one example, and the two drivers that perform them: blocking, and awaiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Mapping
from typing import Any, TypeAlias, TypeVar

from dspex.data import Example
from dspex.evaluate.program import Program
from dspex.evaluate.scoring import Scorer
from dspex.execution import Activation, Run, in_thread, run_blocking

__all__ = ["Await", "Execute", "Judge", "Pause", "Step", "adrive", "drive"]

T = TypeVar("T")


class Execute:
    """The step of running the program."""

    __slots__ = ("inputs", "program", "run")

    def __init__(self, program: Program, inputs: Mapping[str, Any], run: Run) -> None:
        self.program = program
        self.inputs = inputs
        self.run = run

    def perform(self) -> Any:
        return self.program.execute(self.inputs, run=self.run)

    def aperform(self) -> Awaitable[Any]:
        return self.program.aexecute(self.inputs, run=self.run)


class Judge:
    """The step of calling a metric that must not be called on the event loop, as it would hold it up."""

    __slots__ = ("example", "prediction", "run", "scorer", "trace")

    def __init__(self, scorer: Scorer, example: Example, prediction: Any, trace: list[Any], run: Run) -> None:
        self.scorer = scorer
        self.example = example
        self.prediction = prediction
        self.trace = trace
        self.run = run

    def perform(self) -> Any:
        return self.scorer.call(self.example, self.prediction, self.trace, self.run)

    def aperform(self) -> Awaitable[Any]:
        return in_thread(self.perform)


class Await:
    """The step of awaiting the score of an async metric."""

    __slots__ = ("run", "value")

    def __init__(self, value: Awaitable[Any], run: Run) -> None:
        self.value = value
        self.run = run

    def perform(self) -> Any:
        return run_blocking(self.aperform())

    async def aperform(self) -> Any:
        with Activation(self.run):
            return await self.value


class Pause:
    """The step of waiting before another try."""

    __slots__ = ("run", "seconds")

    def __init__(self, seconds: float, run: Run) -> None:
        self.seconds = seconds
        self.run = run

    def perform(self) -> None:
        self.run.pause(self.seconds)

    def aperform(self) -> Awaitable[None]:
        return asyncio.sleep(self.seconds)


Step: TypeAlias = Execute | Judge | Await | Pause


def drive(steps: Generator[Step, Any, T]) -> T:
    """Perform all steps on this thread; gives what the generator returns."""
    try:
        step = next(steps)
        while True:
            try:
                answer = step.perform()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


async def adrive(steps: Generator[Step, Any, T]) -> T:
    """Perform all steps in this task; gives what the generator returns."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await step.aperform()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()
