"""For any program of modules, tools, threads, tasks and errors, the spans are those of what happened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

import dspex
from dspex.data import Usage
from dspex.execution import Run, map_threads
from dspex.modules.flow import Call, Flow, Gather
from tests.callbacks.recorder import Recorder, left_to_itself


class PlannedError(Exception):
    """What the plans below fail with."""


def _tool(fails: bool) -> dspex.Tool:
    def work(x: int) -> int:
        if fails:
            raise PlannedError("tool")
        return x

    return dspex.Tool(work, name="work")


class Node(dspex.Module):
    """Does its parts, each a module or a tool, and perhaps fails after them or takes no notice of their errors."""

    def __init__(self, parts: list[Any], *, fails: bool, catches: bool) -> None:
        self.parts = [part for part in parts if isinstance(part, dspex.Module)]
        self.tools = [part for part in parts if not isinstance(part, dspex.Module)]
        self.fails = fails
        self.catches = catches

    def calls(self) -> list[Callable[[], Any]]:
        asked = [lambda part=part: part() if isinstance(part, Node) else part(question="?") for part in self.parts]
        return [*asked, *(lambda tool=tool: tool(x=1) for tool in self.tools)]

    def finish(self, errors: list[BaseException]) -> int:
        if errors and not self.catches:
            raise errors[0]
        if self.fails:
            raise PlannedError("module")
        return 1


class InTurn(Node):
    def forward(self) -> int:
        errors: list[BaseException] = []
        for call in self.calls():
            try:
                call()
            except Exception as error:
                errors.append(error)
        return self.finish(errors)


class OnThreads(Node):
    def forward(self) -> int:
        def attempt(call: Callable[[], Any]) -> list[BaseException]:
            try:
                call()
            except Exception as error:
                return [error]
            return []

        return self.finish([error for errors in map_threads(attempt, self.calls(), concurrency=3) for error in errors])


class OnRawThreads(Node):
    def forward(self) -> int:
        errors: list[BaseException] = []

        def attempt(call: Callable[[], Any]) -> None:
            try:
                call()
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=attempt, args=(call,)) for call in self.calls()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.finish(errors)


class OnTasks(Node):
    async def forward(self) -> int:
        parts = [part.acall() if isinstance(part, Node) else part.acall(question="?") for part in self.parts]
        tools = [tool.acall(x=1) for tool in self.tools]
        answers = await asyncio.gather(*parts, *tools, return_exceptions=True)
        return self.finish([answer for answer in answers if isinstance(answer, BaseException)])


class AsFlow(Node):
    def flow(self) -> Flow:
        errors: list[BaseException] = []
        try:
            yield Gather([Call(part) if isinstance(part, Node) else Call(part, question="?") for part in self.parts])
        except Exception as error:
            errors.append(error)
        return self.finish(errors)


def _predict(outcome: str) -> dspex.Predict:
    if outcome == "answers":
        return dspex.Predict("question -> answer: int", lm=dspex.MockLM([{"answer": 1}], repeat=True))
    if outcome == "retries":
        lm = dspex.MockLM([{"answer": 1}], repeat=True, failures=lambda n: ConnectionError if n % 2 == 0 else None)
        return dspex.Predict("question -> answer: int", lm=lm)
    if outcome == "is cached":
        return dspex.Predict("question -> answer: int", lm=dspex.MockLM([{"answer": 1}], cache=dspex.Cache()))
    if outcome == "falls back":
        other = dspex.MockLM([{"answer": 1}], repeat=True, model="mock/other")
        lm = dspex.MockLM(["?"], failures=lambda n: dspex.errors.LMAuthError, fallbacks=[other])
        return dspex.Predict("question -> answer: int", lm=lm)
    if outcome == "is asked again":
        return dspex.Predict("question -> answer: int", lm=dspex.MockLM(["?", {"answer": 1}] * 9), reasks=1)
    return dspex.Predict("question -> answer: int", lm=dspex.MockLM(["no number"], repeat=True))


LEAVES = st.one_of(
    st.sampled_from(["answers", "retries", "is cached", "falls back", "is asked again", "is illegible"]).map(_predict),
    st.booleans().map(_tool),
)


def _nodes(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    kinds = st.sampled_from([InTurn, OnThreads, OnRawThreads, OnTasks, AsFlow])
    return st.builds(
        lambda kind, parts, fails, catches: kind(parts, fails=fails, catches=catches),
        kinds,
        st.lists(parts, max_size=3),
        st.booleans(),
        st.booleans(),
    )


PROGRAMS = _nodes(st.recursive(LEAVES, _nodes, max_leaves=6))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(PROGRAMS, st.booleans())
def test_spans_are_what_happened(program: Node, awaited: bool) -> None:
    recorder = Recorder()
    with dspex.context(callbacks=[recorder]):
        run = Run()
        try:
            if awaited:
                asyncio.run(program.aexecute({}, run=run))
            else:
                program.execute({}, run=run)
        except Exception as error:
            raised: Exception | None = error
        else:
            raised = None
    recorder.check()
    if left_to_itself(recorder.events):
        return  # what goes on after its run is no part of it

    root = recorder.spans[0]
    assert root.parent is None
    assert root.error is raised
    assert run.span is None
    raw = {path for path, module in program.named_modules() if isinstance(module, OnRawThreads)}
    for span in recorder.spans[1:]:
        *_, last = [span, *span.ancestors]
        assert last is root
        above = span.path if span.kind != "module" else _above(span.path)
        around = next(one for one in span.ancestors if one.kind == "module")
        # A thread that a program makes itself knows its run's outermost module, and what it opens itself.
        assert around.path == above or (around is root and above in raw), (span, around)

    total = sum((span.attributes["usage"] for span in recorder.of("lm")), Usage())
    assert total.to_json() == run.usage.to_json()


def _above(path: str) -> str:
    """The path of the module that holds the one at ``path``; lists are no modules."""
    return path.rpartition(".")[0].removesuffix(".parts") if ".parts" in path else ""
