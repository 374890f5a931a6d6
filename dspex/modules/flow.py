"""The flow driver: one generator, run blocking or async.

A built-in module is written once, as a generator that *yields what it needs* and receives the answer::

    def flow(self, *, question):
        draft = yield Call(self.draft, question=question)           # another module
        facts = yield Gather(Call(self.check, claim=c) for c in draft.claims)   # a parallel batch
        return draft.with_facts(facts)

The driver alone knows whether it may block. `drive` performs each need on the calling thread, `adrive`
awaits it; a need that fails is thrown back into the generator at its ``yield``, so ``try/except`` in a
flow means the same on both sides. There are no twin implementations to keep in step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from dspex.execution import map_async, map_threads
from dspex.lm import LMResponse

if TYPE_CHECKING:
    from dspex.execution import Run
    from dspex.lm import BaseLM, LMRequest
    from dspex.modules.listening import Reader
    from dspex.tools import Tool

__all__ = ["Call", "Flow", "Gather", "Generate", "Invoke", "Need", "adrive", "drive"]


class Need(Protocol):
    """What a flow may yield: something that can be performed blocking or awaited, within a run."""

    def perform(self, run: Run) -> Any: ...

    def aperform(self, run: Run) -> Awaitable[Any]: ...


Flow: TypeAlias = Generator[Need, Any, Any]
"""A generator of needs that returns the module's result."""


class Generate:
    """A completion: ``response = yield Generate(lm, request)`` gives an `LMResponse`.

    ``path`` is the asking module's, for ledgers of usage. With a ``reader``, which `Run.sink` gives, the answer is
    shown while it is being written.
    """

    __slots__ = ("lm", "path", "reader", "request")

    def __init__(self, lm: BaseLM, request: LMRequest, path: str = "", reader: Reader | None = None) -> None:
        self.lm = lm
        self.request = request
        self.path = path
        self.reader = reader

    def perform(self, run: Run) -> Any:
        if self.reader is None:
            return self.lm.generate(self.request, run, self.path)
        return self._shown(run, self.reader)

    def aperform(self, run: Run) -> Awaitable[Any]:
        if self.reader is None:
            return self.lm.agenerate(self.request, run, self.path)
        return self._ashown(run, self.reader)

    def _shown(self, run: Run, reader: Reader) -> LMResponse:
        reader.begin()
        with closing(self.lm.stream(self.request, run, self.path)) as events:
            for event in events:
                if isinstance(event, LMResponse):
                    response = event  # the last
                else:
                    run.check()
                    reader.take(event)
        reader.end()
        return response

    async def _ashown(self, run: Run, reader: Reader) -> LMResponse:
        reader.begin()
        async with aclosing(self.lm.astream(self.request, run, self.path)) as events:
            async for event in events:
                if isinstance(event, LMResponse):
                    response = event  # the last
                else:
                    run.check()
                    reader.take(event)
        reader.end()
        return response


class Invoke:
    """A tool call: ``observation = yield Invoke(tool, {"query": "..."})``; raises `ToolError` at the yield."""

    __slots__ = ("arguments", "tool")

    def __init__(self, tool: Tool, arguments: dict[str, Any]) -> None:
        self.tool = tool
        self.arguments = arguments

    def perform(self, run: Run) -> Any:
        run.check()
        return self.tool(**self.arguments)

    async def aperform(self, run: Run) -> Any:
        run.check()
        return await self.tool.acall(**self.arguments)


class Call:
    """A call of another module: ``prediction = yield Call(self.answer, question=question)``."""

    __slots__ = ("inputs", "module")

    def __init__(self, module: Callable[..., Any], /, **inputs: Any) -> None:
        self.module = module
        self.inputs = inputs

    def perform(self, run: Run) -> Any:
        return self.module(**self.inputs)

    def aperform(self, run: Run) -> Awaitable[Any]:
        found: Awaitable[Any] = self.module.acall(**self.inputs)  # type: ignore[attr-defined]  # modules have acall
        return found


class Gather:
    """A parallel batch: ``a, b = yield Gather([need, need])``; answers in order, the first error raised.

    Blocking, the needs run on up to ``concurrency`` threads; async, on as many tasks.
    """

    __slots__ = ("concurrency", "needs")

    def __init__(self, needs: Iterable[Need], *, concurrency: int = 16) -> None:
        self.needs = list(needs)
        self.concurrency = concurrency

    def perform(self, run: Run) -> list[Any]:
        return map_threads(lambda need: need.perform(run), self.needs, concurrency=self.concurrency)

    async def aperform(self, run: Run) -> list[Any]:
        async def answer(need: Need) -> Any:
            return await need.aperform(run)

        return await map_async(answer, self.needs, concurrency=self.concurrency)


def drive(flow: Flow, run: Run) -> Any:
    """Run a flow to its end on this thread and return its result."""
    try:
        need = next(flow)
        while True:
            try:
                answer = need.perform(run)
            except Exception as error:
                need = flow.throw(error)
            else:
                need = flow.send(answer)
    except StopIteration as stop:
        return stop.value
    finally:
        flow.close()


async def adrive(flow: Flow, run: Run) -> Any:
    """Run a flow to its end in this task and return its result; cancelling the task closes the flow."""
    try:
        need = next(flow)
        while True:
            try:
                answer = await need.aperform(run)
            except Exception as error:
                need = flow.throw(error)
            else:
                need = flow.send(answer)
    except StopIteration as stop:
        return stop.value
    finally:
        flow.close()
