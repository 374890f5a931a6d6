"""What `bind` promises: copies that never touch each other, and captures that follow."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import dspex
from dspex import Module, Predict, Tool, variable
from dspex.errors import BindingError, StateError
from dspex.variables import Choice, Int, VariableState


class Leaf(Module):
    k = variable(Int(0, 100_000), default=1)

    def forward(self) -> int:
        return self.k

    def method(self) -> int:
        return self.k


class Holder(Module):
    def __init__(self, make: Callable[[Leaf], Any]) -> None:
        self.leaf = Leaf()
        self.held = make(self.leaf)

    def forward(self) -> Any:
        return self.held


def partial_target(leaf: Leaf, scale: int) -> int:
    return leaf.k * scale


@pytest.mark.parametrize(
    ("make", "call"),
    [
        (lambda leaf: leaf.method, lambda held: held()),
        (lambda leaf: lambda: leaf.k, lambda held: held()),
        (lambda leaf: lambda leaf=leaf: leaf.k, lambda held: held()),
        (lambda leaf: [lambda: leaf.k], lambda held: held[0]()),
        (lambda leaf: {"f": (leaf.method, 3)}, lambda held: held["f"][0]()),
        (lambda leaf: functools.partial(partial_target, leaf, scale=1), lambda held: held()),
        (lambda leaf: functools.partial(lambda f: f(), leaf.method), lambda held: held()),
        (lambda leaf: Tool(leaf.method), lambda held: held()),
        (lambda leaf: [Tool(leaf.method)], lambda held: held[0]()),
        (lambda leaf: (lambda inner: lambda: inner())(lambda: leaf.k), lambda held: held()),
        (lambda leaf: leaf, lambda held: held.k),
        (lambda leaf: {leaf}, lambda held: next(iter(held)).k),
    ],
)
def test_captures_follow_the_copy(make: Any, call: Any) -> None:
    program = Holder(make)
    bound = program.bind({"leaf.k": 42})
    assert call(bound.held) == 42
    assert call(program.held) == 1
    assert call(bound()) == 42, "and the copy that a run makes"
    again = bound.bind({"leaf.k": 43})
    assert (call(again.held), call(bound.held)) == (43, 42)


def test_a_recursive_closure_follows_the_copy() -> None:
    def make(leaf: Leaf) -> Any:
        def countdown(n: int) -> int:
            return leaf.k if n == 0 else countdown(n - 1)

        return countdown

    assert Holder(make).bind({"leaf.k": 9}).held(3) == 9


def test_a_closure_keeps_sharing_what_is_no_module() -> None:
    log: list[int] = []

    def make(leaf: Leaf) -> Any:
        return lambda: log.append(leaf.k)

    Holder(make).bind({"leaf.k": 5}).held()
    assert log == [5]


def test_a_module_that_only_a_tool_captures_is_part_of_the_program() -> None:
    class Program(Module):
        def __init__(self) -> None:
            hidden = Leaf()
            self.tool = lambda: hidden.k

    program = Program()
    assert list(program.space()) == ["tool.hidden.k"]
    assert program.bind({"tool.hidden.k": 8}).tool() == 8


def test_shared_objects_are_shared_and_modules_are_not() -> None:
    class Program(Module):
        def __init__(self, index: dict[str, int]) -> None:
            self.index = index
            self.leaf = Leaf()
            self.leaves = [self.leaf]

    index = {"a": 1}
    bound = Program(index).bind({"leaf.k": 2})
    assert bound.index is index
    assert bound.leaves[0] is bound.leaf


class Capturing:
    def __init__(self, leaf: Leaf) -> None:
        self.inner = {"deep": [leaf]}

    def __call__(self) -> int:
        return 0


def test_a_foreign_object_that_holds_a_module_is_a_loud_error() -> None:
    program = Holder(Capturing)
    with pytest.raises(
        BindingError, match=r"`held` is a Capturing that holds the module `leaf` .* in `inner\['deep'\]\[0\]`"
    ):
        program.bind({"leaf.k": 2})


GLOBAL_LEAF = Leaf()


def reads_a_global() -> int:
    return GLOBAL_LEAF.k


def test_a_function_that_reads_a_module_from_a_global_is_a_loud_error() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.leaf = GLOBAL_LEAF
            self.tool = reads_a_global

    with pytest.raises(BindingError, match="`tool` reads the global `GLOBAL_LEAF`, which is the module `leaf`"):
        Program().bind({})


GLOBAL_ECHO = None


def test_a_global_of_the_same_name_as_an_attribute_is_no_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.GLOBAL_ECHO = Leaf()

        def forward(self) -> int:
            return self.GLOBAL_ECHO()

    program = Program()
    monkeypatch.setitem(globals(), "GLOBAL_ECHO", program.GLOBAL_ECHO)
    assert program.bind({"GLOBAL_ECHO.k": 4})() == 4


def test_a_circle_through_a_container_is_a_loud_error() -> None:
    def make(leaf: Leaf) -> Any:
        circle: list[Any] = [leaf]
        circle.append(circle)
        return circle

    with pytest.raises(BindingError, match="break the circle"):
        Holder(make).bind({})


def test_values_are_validated_and_unknown_paths_named() -> None:
    program = Holder(lambda leaf: None)
    with pytest.raises(StateError, match=r"leaf\.k"):
        program.bind({"leaf.k": "many"})
    with pytest.raises(StateError, match=r"leaf\.kk"):
        program.bind({"leaf.kk": 1})


@pytest.mark.parametrize("nothing", [None, [], "", 0])
def test_what_is_nothing_is_no_state_and_leaves_no_program_untuned(nothing: Any) -> None:
    with pytest.raises(StateError, match=r"are no values\. Write a mapping"):
        Leaf().bind(nothing)
    assert Leaf().bind({}).k == 1


def test_a_state_of_another_space_is_refused_with_the_difference() -> None:
    class Other(Module):
        z = variable(Int(1, 3), default=1)

    with pytest.raises(StateError, match=r"(?s)another space.*leaf\.k"):
        Holder(lambda leaf: None).bind(Other().state())


def test_a_state_made_before_the_values_changed_binds_whole() -> None:
    program = Leaf()
    state = program.state()
    program.k = 5
    assert program.bind(state).k == 1
    assert program.bind(program.state()).k == 5


def test_bind_of_a_bound_program_keeps_what_was_bound() -> None:
    class Two(Module):
        def __init__(self) -> None:
            self.a, self.b = Leaf(), Leaf()

    bound = Two().bind({"a.k": 2}).bind({"b.k": 3})
    assert (bound.a.k, bound.b.k) == (2, 3)
    assert bound.state().changes() == {}


def test_an_assignment_in_forward_is_local_to_its_run() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.count = 0

        def forward(self) -> int:
            self.count += 1
            return self.count

    program = Program()
    assert (program(), program(), program.count) == (1, 1, 0)


class Echo(Module):
    def __init__(self) -> None:
        self.leaves = [Leaf() for _ in range(3)]
        self.tool = lambda: self.leaves[2]()
        self.predict = Predict("x -> y: int")

    def forward(self, x: int) -> tuple[int, ...]:
        return (*(leaf() for leaf in self.leaves), self.tool(), self.predict(x=x).y)


class AsyncEcho(Echo):
    async def forward(self, x: int) -> tuple[int, ...]:  # type: ignore[override]
        first = self.leaves[0]()
        await asyncio.sleep(0)
        answer = await self.predict.acall(x=x)
        return (first, self.leaves[1](), self.leaves[2](), self.tool(), answer.y)


def answer(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
    return {"y": int(messages[-1]["content"].split("x ## ]]")[-1].split()[0])}


def states(count: int, program: Module) -> list[tuple[int, VariableState]]:
    out = []
    for i in range(count):
        state = program.state()
        state.update({f"leaves.{n}.k": i * 10 + n for n in range(3)})
        out.append((i, state))
    return out


def expected(i: int) -> tuple[int, ...]:
    return (i * 10, i * 10 + 1, i * 10 + 2, i * 10 + 2, i)


def test_a_thousand_states_at_once_on_threads_do_not_mix() -> None:
    program = Echo()
    with dspex.context(lm=dspex.MockLM(answer)):
        settings = dspex.execution.current()

        def one(job: tuple[int, VariableState]) -> bool:
            i, state = job
            run = dspex.execution.Run(settings=settings)
            result = program.bind(state).execute({"x": i}, run=run)
            return result == expected(i) and [e.path for e in run.trace] == ["predict"] and run.usage.calls == 1

        with ThreadPoolExecutor(32) as pool:
            assert all(pool.map(one, states(1000, program)))


def test_a_thousand_states_at_once_on_asyncio_do_not_mix() -> None:
    program = AsyncEcho()

    async def main() -> list[tuple[int, ...]]:
        bound = [program.bind(state) for _, state in states(1000, program)]
        return await asyncio.gather(*(b.acall(x=i) for i, b in enumerate(bound)))

    with dspex.context(lm=dspex.MockLM(answer, latency=0.001)):
        assert asyncio.run(main()) == [expected(i) for i in range(1000)]


def test_raw_threads_inside_forward_keep_the_run() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.predict = Predict("x -> y: int")

        def forward(self) -> int:
            threads = [threading.Thread(target=self.predict, kwargs={"x": i}) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return 0

    run = dspex.execution.Run(settings=dspex.execution.Settings(lm=dspex.MockLM(answer)))
    Program().execute({}, run=run)
    assert sorted(entry.inputs["x"] for entry in run.trace) == [0, 1, 2, 3]
    assert run.usage.calls == 4


class Portable(Module):
    k = variable(Int(0, 9), default=1)

    def __init__(self) -> None:
        self.predict = Predict("x -> y: int")

    def forward(self, x: int) -> tuple[int, int]:
        return self.k, self.predict(x=x).y


def in_a_child(payload: bytes, out: Any) -> None:
    program = pickle.loads(payload)  # this test's own bytes, from its own parent
    with dspex.context(lm=dspex.MockLM([{"y": 7}])):
        out.put((program(x=3), program.space().hash, program.predict.instructions))


def test_a_bound_program_survives_the_way_into_a_spawned_process() -> None:
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    bound = Portable().bind({"k": 6, "predict.instructions": "Count."})
    child = context.Process(target=in_a_child, args=(pickle.dumps(bound), out))
    child.start()
    result, space_hash, instructions = out.get(timeout=60)
    child.join()
    assert result == (6, 7)
    assert space_hash == bound.space().hash
    assert instructions == "Count."


class Planner(Module):
    plan = variable(Choice(["read", "answer"], ["answer"]))

    def forward(self) -> list[str]:
        self.plan.append("check")
        return self.plan


def test_a_run_cannot_change_an_option_for_the_others() -> None:
    for program in (Planner(), Planner().bind(Planner().space().state({"plan": ["read", "answer"]}))):
        with pytest.raises(TypeError, match=r"this list is read-only.*write list\(x\) for one of your own"):
            program()
    assert Planner.plan.default == Planner().plan == ["read", "answer"]
