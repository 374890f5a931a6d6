"""The steps of evaluating one example, and the two drivers that perform them: blocking, and awaiting."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Generator, Mapping
from typing import Any, TypeAlias, TypeVar

from dspex.data import Example
from dspex.evaluate.program import Program
from dspex.evaluate.scoring import Scorer
from dspex.execution import Activation, Run, in_thread, run_blocking

__all__ = ["Execute", "Judge", "Pause", "Step", "adrive", "drive"]

T = TypeVar("T")

# A metric that was seen to take this many seconds holds up an event loop; its next calls go to threads.
_SLOW = 0.005


class Execute:
    """The step of running the program."""

    __slots__ = ("inputs", "program", "run")

    def __init__(self, program: Program, inputs: Mapping[str, Any], run: Run) -> None:
        self.program = program
        self.inputs = inputs
        self.run = run

    def perform(self) -> Any:
        return self.program.execute(self.inputs, run=self.run)

    async def aperform(self) -> Any:
        return await self.program.aexecute(self.inputs, run=self.run)


class Judge:
    """The step of calling the metric."""

    __slots__ = ("example", "prediction", "run", "scorer", "trace")

    def __init__(self, scorer: Scorer, example: Example, prediction: Any, trace: list[Any], run: Run) -> None:
        self.scorer = scorer
        self.example = example
        self.prediction = prediction
        self.trace = trace
        self.run = run

    def perform(self) -> Any:
        with Activation(self.run):
            value = self.scorer.call(self.example, self.prediction, self.trace)
            return run_blocking(_awaited(value)) if inspect.isawaitable(value) else value

    async def aperform(self) -> Any:
        scorer = self.scorer
        with Activation(self.run):
            if scorer.slow:
                value = await in_thread(scorer.call, self.example, self.prediction, self.trace)
            else:
                began = time.perf_counter()
                value = scorer.call(self.example, self.prediction, self.trace)
                scorer.slow = time.perf_counter() - began > _SLOW
            return await value if inspect.isawaitable(value) else value


class Pause:
    """The step of waiting before another try."""

    __slots__ = ("run", "seconds")

    def __init__(self, seconds: float, run: Run) -> None:
        self.seconds = seconds
        self.run = run

    def perform(self) -> None:
        self.run.pause(self.seconds)

    async def aperform(self) -> None:
        await asyncio.sleep(self.seconds)


Step: TypeAlias = Execute | Judge | Pause


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


async def _awaited(value: Any) -> Any:
    return await value
