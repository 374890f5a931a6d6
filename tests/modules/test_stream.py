"""`Module.stream` and `Module.astream`: what is shown of a run, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import pytest

import dspex
from dspex import (
    Budget,
    ChainOfThought,
    ChatAdapter,
    FieldDelta,
    Final,
    MockLM,
    Module,
    ModuleChoice,
    Predict,
    ReAct,
    Reasoning,
    Restart,
    Signature,
    Status,
)
from dspex.adapters.streaming import WholeStream
from dspex.errors import BudgetExceeded, DataError, DeadlineExceeded, DefinitionError, LMServerError, ParseError
from dspex.execution import Deadline, Run, active_run, run_blocking
from dspex.lm import Cache, Delta, LMResponse
from dspex.modules import Call, Gather
from tests.modules.pieces import Pieces, fields_shown, gathered, threads_ended, whole, written

QA = Signature("question -> answer")
PARIS = ["[[ ## answer ## ]]\n", "Par", "is", " it is"]


def deltas(events: Any) -> list[Any]:
    return [event for event in events if isinstance(event, FieldDelta | Restart)]


def statuses(events: Any) -> list[tuple[str, str, str, str]]:
    return [event[:4] for event in events if isinstance(event, Status)]


def events_of(program: Module, on: str, **inputs: Any) -> list[Any]:
    """All events of a stream, blocking or async."""
    seen: list[Any] = []
    consume(program, on, seen, **inputs)
    return seen


def consume(
    program: Module, on: str, seen: list[Any], run: Run | None = None, then: Any = lambda: None, **inputs: Any
) -> None:
    """Take the events of a stream into ``seen``, as far as they come, and do something after each."""
    if on == "threads":
        for event in program.stream(inputs, run=run):
            seen.append(event)
            then()
    else:

        async def main() -> None:
            async for event in program.astream(inputs, run=run):
                seen.append(event)
                then()

        asyncio.run(main())


def until_cancelled() -> Any:
    """A piece of an answer that comes when the run is cancelled."""
    cancelled = threading.Event()

    def wait() -> None:
        run = active_run()
        assert run is not None
        run.on_cancel(cancelled.set)
        assert cancelled.wait(30)

    return wait


either = pytest.mark.parametrize("on", ["threads", "tasks"])


# -- what is shown -------------------------------------------------------------------------------------


class Outline(Module):
    """Two predictors, the second several times in parallel."""

    def __init__(self) -> None:
        self.plan = Predict("topic -> parts: list[str]")
        self.write = ChainOfThought("part -> text")

    def flow(self, topic: str) -> Any:
        plan = yield Call(self.plan, topic=topic)
        written = yield Gather(Call(self.write, part=part) for part in plan.parts)
        return dspex.Prediction(text=" ".join(one.text for one in written))


def outlined(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
    asked = messages[-1]["content"]
    if "topic" in asked:
        return {"parts": ["A", "B"]}
    part = "A" if "A" in asked.split("part ## ]]")[1].split() else "B"
    return {"reasoning": f"of {part}", "text": f"the text of {part}"}


@either
def test_every_predictor_of_a_program_is_shown_at_its_path_and_each_of_its_calls_apart(on: str) -> None:
    with dspex.context(lm=MockLM(outlined)):
        events, prediction = whole(events_of(Outline(), on, topic="tea"))
    assert prediction.text == "the text of A the text of B"
    shown = fields_shown(events)
    assert shown["plan", 0] == {"parts": '["A", "B"]'}
    assert shown.keys() == {("plan", 0), ("write", 0), ("write", 1)}
    by_reasoning = {fields["reasoning"]: fields["text"] for path, fields in shown.items() if path[0] == "write"}
    assert by_reasoning == {"of A": "the text of A", "of B": "the text of B"}
    kinds = statuses(events)
    assert kinds[0] == ("module", "", "Outline", "start")
    assert kinds[1:5] == [
        ("module", "plan", "Predict", "start"),
        ("lm", "plan", "mock/mock", "start"),
        ("lm", "plan", "mock/mock", "end"),
        ("module", "plan", "Predict", "end"),
    ]
    assert kinds[-1] == ("module", "", "Outline", "end")
    assert sorted(kinds[5:-1]) == sorted(
        2 * [(kind, "write", name, state) for kind, name in (("module", "ChainOfThought"), ("lm", "mock/mock"))
             for state in ("start", "end")]
    )  # fmt: skip


def test_calls_in_parallel_are_shown_while_both_are_written() -> None:
    class Two(Module):
        def __init__(self) -> None:
            self.answer = Predict(QA)

        def flow(self, question: str) -> Any:
            return (yield Gather(Call(self.answer, question=question) for _ in range(2)))

    other_begun = [threading.Event(), threading.Event()]

    def answer(number: int) -> list[Any]:
        return [*PARIS[:2], other_begun[number].set, other_begun[1 - number], *PARIS[2:]]

    with dspex.context(lm=Pieces(answer(0), answer(1))):
        events = list(Two().stream(question="?", status=False))
    assert fields_shown(events) == {("answer", 0): {"answer": "Paris it is"}, ("answer", 1): {"answer": "Paris it is"}}
    first = [event.call for event in events[:2]]
    assert set(first) == {0, 1}, "one was shown as a whole before the other"


def test_statuses_have_inputs_outputs_and_errors() -> None:
    with dspex.context(lm=MockLM([{"answer": "Paris"}])):
        start, lm, answered, end = (e for e in Predict(QA).stream(question="?") if isinstance(e, Status))
    assert start == Status("module", "", "Predict", "start", {"question": "?"})
    assert (end.state, end.detail.answer) == ("end", "Paris")
    assert (lm.detail.messages[-1]["role"], isinstance(answered.detail, LMResponse)) == ("user", True)
    with dspex.context(lm=MockLM(["nothing"])):
        seen: list[Any] = []
        with pytest.raises(ParseError):
            consume(Predict("question -> answer: int"), "threads", seen, question="?")
    assert statuses(seen)[-1] == ("module", "", "Predict", "error")
    assert isinstance(seen[-1].detail, ParseError)


@either
def test_thoughts_of_each_turn_and_tools_of_an_agent_are_shown(on: str) -> None:
    def population(city: str) -> int:
        """How many people live there."""
        return {"Oslo": 709_037}[city]

    script = [
        {"thought": "look it up", "tool": "population", "arguments": {"city": "Oslo"}},
        {"thought": "and there", "tool": "population", "arguments": {"city": "Nowhere"}},
        {"thought": "done", "tool": "finish", "arguments": {}},
        {"reasoning": "seen", "answer": 709_037},
    ]
    with dspex.context(lm=MockLM(script)):
        events, prediction = whole(events_of(ReAct("question -> answer: int", tools=[population]), on, question="?"))
    assert prediction.answer == 709_037
    shown = fields_shown(events)
    assert [shown["react", turn]["thought"] for turn in range(3)] == ["look it up", "and there", "done"]
    assert shown["extract", 0] == {"reasoning": "seen", "answer": "709037"}
    tools = [event for event in events if isinstance(event, Status) and event.kind == "tool"]
    assert [(event.name, event.state) for event in tools] == [
        ("population", state) for state in ("start", "end", "start", "error")
    ]
    assert (tools[0].detail, tools[1].detail) == ({"city": "Oslo"}, 709_037)


@either
def test_a_field_is_shown_before_the_answer_is_complete(on: str) -> None:
    taken = threading.Event()
    seen: list[Any] = []

    def then() -> None:
        if deltas(seen):
            taken.set()

    with dspex.context(lm=Pieces([*PARIS[:2], taken, *PARIS[2:]])):
        consume(Predict(QA), on, seen, then=then, question="?")
    assert deltas(seen)[0] == FieldDelta("", "answer", "Par", 0)
    assert isinstance(seen[-1], Final)


def test_the_alternative_that_runs_is_shown() -> None:
    choice = ModuleChoice(direct=Predict(QA), stepwise=ChainOfThought(QA), choice="stepwise")
    with dspex.context(lm=MockLM([{"reasoning": "r", "answer": "Paris"}])):
        events = list(choice.stream(question="?"))
    assert fields_shown(events) == {("stepwise", 0): {"reasoning": "r", "answer": "Paris"}}


def test_a_predictor_that_is_no_part_of_the_program_is_shown_without_a_path() -> None:
    class Made(Module):
        def forward(self, question: str) -> Any:
            return Predict(QA)(question=question)

    with dspex.context(lm=MockLM([{"answer": "Paris"}])):
        run = Run()
        events, prediction = whole(Made().stream(question="?", run=run))
    assert prediction.answer == "Paris"
    assert fields_shown(events) == {("", 0): {"answer": "Paris"}}
    assert run.usage.calls == 1


def test_threads_of_a_programs_own_are_shown() -> None:
    class Pooled(Module):
        def __init__(self) -> None:
            self.answer = Predict(QA)

        def forward(self, question: str) -> Any:
            with ThreadPoolExecutor(2) as pool:
                return list(pool.map(lambda number: self.answer(question=f"{question}{number}"), range(3)))

    with dspex.context(lm=Pieces(PARIS)):
        events = list(Pooled().stream(question="?"))
    assert fields_shown(events) == {("answer", call): {"answer": "Paris it is"} for call in range(3)}


# -- answers that come anew ----------------------------------------------------------------------------


@either
def test_an_answer_that_breaks_off_is_void(on: str) -> None:
    lm = Pieces([*PARIS[:2], LMServerError("it broke off", model="test/pieces")], PARIS, retries=1)
    with dspex.context(lm=lm):
        events, prediction = whole(events_of(Predict(QA), on, question="?"))
    assert [(type(event).__name__, event[1]) for event in deltas(events)][:2] == [
        ("FieldDelta", "answer"),
        ("Restart", "it broke off"),
    ]
    assert fields_shown(events) == {("", 0): {"answer": "Paris it is"}}
    assert (prediction.usage.calls, prediction.usage.failed_calls) == (1, 1)


def test_nothing_is_void_when_nothing_was_shown() -> None:
    lm = Pieces([PARIS[0], LMServerError("it broke off", model="test/pieces")], PARIS, retries=1)
    with dspex.context(lm=lm):
        events = list(Predict(QA).stream(question="?"))
    assert not any(isinstance(event, Restart) for event in events)
    assert fields_shown(events) == {("", 0): {"answer": "Paris it is"}}


def test_a_fallback_answers_anew() -> None:
    lm = Pieces([*PARIS[:2], LMServerError("down", model="test/pieces")], fallbacks=[MockLM([{"answer": "Oslo"}])])
    with dspex.context(lm=lm):
        events, prediction = whole(Predict(QA).stream(question="?"))
    assert [event.reason for event in deltas(events) if isinstance(event, Restart)] == ["down"]
    assert fields_shown(events) == {("", 0): {"answer": "Oslo"}}
    assert prediction.answer == "Oslo"


@either
def test_a_question_again_shows_the_second_answer(on: str) -> None:
    asked = Signature("question -> reasoning, answer: int")
    script = ["[[ ## reasoning ## ]]\nhm\n\n[[ ## answer ## ]]\nmany", {"reasoning": "oh", "answer": 7}]
    with dspex.context(lm=MockLM(script)):
        events, prediction = whole(events_of(Predict(asked, reasks=1), on, question="?"))
    (restart,) = (event for event in events if isinstance(event, Restart))
    assert "asked again" in restart.reason
    assert fields_shown(events) == {("", 0): {"reasoning": "oh", "answer": "7"}}
    assert (prediction.answer, prediction.usage.calls) == (7, 2)


def test_an_answer_that_is_read_otherwise_than_it_was_shown_is_shown_anew() -> None:
    asked = Signature("question -> reasoning, answer: int, city")
    twice = "[[ ## reasoning ## ]]\nr\n[[ ## answer ## ]]\n7\n[[ ## city ## ]]\nOslo\n[[ ## City ## ]]\nBergen"
    fenced = "```\n[[ ## reasoning ## ]]\nr\n[[ ## answer ## ]]\n7\n[[ ## city ## ]]\nOslo\n```"
    restarts = 0
    for text in (twice, fenced):
        with dspex.context(lm=MockLM([text])):
            events, prediction = whole(Predict(asked).stream(question="?"))
        shown = fields_shown(events)["", 0]
        assert (shown["reasoning"], shown["answer"], shown["city"]) == ("r", "7", prediction.city)
        restarts += sum(isinstance(event, Restart) for event in events)
    assert restarts


def test_the_second_step_of_two_is_shown() -> None:
    with dspex.context(lm=MockLM(["It is Paris, I think.", {"answer": "Paris"}])):
        events, prediction = whole(Predict(QA, adapter="two_step").stream(question="?"))
    assert fields_shown(events) == {("", 0): {"answer": "Paris"}}
    assert [state for kind, *_, state in statuses(events) if kind == "lm"] == ["start", "end"] * 2
    assert prediction.usage.calls == 2


@pytest.mark.parametrize("reasks", [0, 1])
def test_of_several_completions_the_first_is_shown(reasks: int) -> None:
    texts = [written(QA, {"answer": city}) for city in ("Paris", "Oslo")]
    answer = [Delta(texts[1], "text", 1), Delta(texts[0], "text", 0)]
    with dspex.context(lm=Pieces(answer)):
        events, prediction = whole(Predict(QA, n=2, reasks=reasks).stream(question="?"))
    assert deltas(events) == [FieldDelta("", "answer", "Paris")]
    assert [one["answer"] for one in prediction.completions] == ["Paris", "Oslo"]


@either
def test_thoughts_that_come_beside_the_answer_are_shown(on: str) -> None:
    class Thinking(Pieces):
        capabilities = frozenset({"reasoning"})

    asked = Signature("question -> thoughts: Reasoning, answer", custom_types={"Reasoning": Reasoning})
    thoughts = [Delta("Let me", "reasoning"), Delta(" think.", "reasoning")]
    with dspex.context(lm=Thinking([*thoughts, *PARIS])):
        events, prediction = whole(events_of(Predict(asked), on, question="?"))
    assert [event.delta for event in deltas(events)] == ["Let me", " think.", "Par", "is", " it is"]
    assert prediction.to_dict() == {"thoughts": "Let me think.", "answer": "Paris it is"}
    # Of what it thinks beside an answer that has thoughts too, the former counts, whichever comes first.
    own = written(asked, {"thoughts": "In the text.", "answer": "Paris"})
    for answer in ([*thoughts, own], [own, *thoughts]):
        with dspex.context(lm=Thinking(answer)):
            events, prediction = whole(events_of(Predict(asked), on, question="?"))
        assert fields_shown(events) == {("", 0): prediction.to_dict()}
        assert prediction.thoughts == "Let me think."


def test_an_adapter_without_an_incremental_parser_is_shown_in_the_end() -> None:
    class Patient(ChatAdapter):
        stream_class = WholeStream

    with dspex.context(lm=Pieces(PARIS), adapter=Patient()):
        events = list(Predict(QA).stream(question="?", status=False))
    assert events[0] == FieldDelta("", "answer", "Paris it is")


def test_a_model_that_cannot_stream_is_shown_in_the_end() -> None:
    class Plain:
        capabilities: frozenset[str] = frozenset()
        params = MappingProxyType[str, Any]({})

        def generate(self, request: Any, run: Any = None, path: str = "") -> Any:
            return MockLM([{"answer": "Paris"}]).generate(request, run, path)

    with dspex.context(lm=Plain()):
        events = list(Predict(QA).stream(question="?", status=False))
    assert events[0] == FieldDelta("", "answer", "Paris")


@either
def test_an_answer_from_the_cache_is_shown(on: str, tmp_path: Any) -> None:
    lm = Pieces(PARIS, cache=Cache(tmp_path / "cache.db"))
    with dspex.context(lm=lm):
        first, again = (whole(events_of(Predict(QA), on, question="?")) for _ in range(2))
        plain = Predict(QA)(question="?")
    assert lm.asked == 1
    assert fields_shown(first[0]) == fields_shown(again[0])
    assert again[1] == plain
    assert again[1].usage == plain.usage
    assert again[1].usage.cached_calls == 1


# -- who listens to what -------------------------------------------------------------------------------


def test_only_what_is_listened_to_is_shown_and_streamed() -> None:
    class Both(Module):
        def __init__(self) -> None:
            self.agent = Inner()
            self.check = Predict("text -> verdict")

        def forward(self, question: str) -> Any:
            return self.check(text=self.agent(question=question).answer)

    class Inner(Module):
        def __init__(self) -> None:
            self.answer = ChainOfThought(QA)

        def forward(self, question: str) -> Any:
            return self.answer(question=question)

    def shown(**options: Any) -> tuple[set[tuple[str, str]], bool]:
        streamed = []

        class Watched(MockLM):
            def _stream(self, request: Any, timeout: Any) -> Any:
                streamed.append(request)
                return super()._stream(request, timeout)

        lm = Watched([{"reasoning": "r", "answer": "Paris"}, {"verdict": "right"}])
        with dspex.context(lm=lm):
            events, _ = whole(Both().stream(question="?", status=False, **options))
        return {event[:2] for event in events}, len(streamed)

    everything = {("agent.answer", "reasoning"), ("agent.answer", "answer"), ("check", "verdict")}
    assert shown() == (everything, 2)
    assert shown(listen="check") == ({("check", "verdict")}, 1)
    assert shown(listen=["agent"]) == ({("agent.answer", "reasoning"), ("agent.answer", "answer")}, 1)
    assert shown(listen="a*", fields="answer") == ({("agent.answer", "answer")}, 1)
    assert shown(fields=["answer", "verdict"]) == ({("agent.answer", "answer"), ("check", "verdict")}, 2)
    with pytest.raises(DefinitionError, match=r"listen='chekc' is the path of no predictor.*Did you mean 'check'"):
        Both().stream(question="?", listen="chekc")
    with pytest.raises(DefinitionError, match=r"fields='verdict' is no output.*'reasoning', 'answer'"):
        Both().stream(question="?", listen="agent", fields="verdict")


def test_inputs_may_be_called_as_the_options_are() -> None:
    program = Predict("status, listen -> fields")
    with dspex.context(lm=MockLM([{"fields": "wide"}])):
        events, prediction = whole(program.stream({"status": "open", "listen": "yes"}, status=False, fields="fields"))
    assert prediction.fields == "wide"
    assert all(isinstance(event, FieldDelta) for event in events)
    with pytest.raises(DefinitionError, match="status of stream is True or False"):
        program.stream(status="open", listen="x")
    with pytest.raises(DefinitionError, match="listen of stream must be a name or several, not 3"):
        program.stream(listen=3)
    with pytest.raises(DefinitionError, match=r"run of stream is a dspex.execution.Run, not 'fast'"):
        program.stream(status=False, run="fast")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(DataError, match="the inputs of stream have names"):
        program.stream("open")  # type: ignore[arg-type]  # that is the test


def test_without_a_listener_nothing_is_streamed() -> None:
    class Loud(MockLM):
        def _stream(self, request: Any, timeout: Any) -> Any:
            raise AssertionError("it was streamed")

    with dspex.context(lm=Loud(["[[ ## answer ## ]]\nParis"] * 2)):
        assert Predict(QA)(question="?").answer == "Paris"
        events = list(Outline().render(topic="tea"))
    assert events


# -- errors, limits, and leaving early -----------------------------------------------------------------


@either
def test_an_error_is_raised_after_what_came_before_it(on: str) -> None:
    class Failing(Module):
        def __init__(self) -> None:
            self.answer = Predict(QA)

        def forward(self, question: str) -> Any:
            raise KeyError(self.answer(question=question).answer)

    seen: list[Any] = []
    with dspex.context(lm=Pieces(PARIS)), pytest.raises(KeyError, match="Paris it is"):
        consume(Failing(), on, seen, question="?")
    assert fields_shown(seen) == {("answer", 0): {"answer": "Paris it is"}}


@either
def test_a_budget_ends_a_stream_with_what_fits_into_it(on: str) -> None:
    seen: list[Any] = []
    with dspex.context(lm=MockLM(outlined), budget=Budget(calls=1)):
        run = Run()
        with pytest.raises(BudgetExceeded):
            consume(Outline(), on, seen, run, topic="tea")
    assert fields_shown(seen) == {("plan", 0): {"parts": '["A", "B"]'}}
    assert (run.usage.calls, run.sink, run.observers) == (1, None, ())


@either
def test_a_deadline_ends_a_stream_in_the_middle_of_an_answer(on: str) -> None:
    run = Run(deadline=1000.0, settings=dspex.execution.current())

    def time_is_up() -> None:
        run.deadline = Deadline(1e-9)

    lm = Pieces([*PARIS[:2], time_is_up, *PARIS[2:]])
    seen: list[Any] = []
    with pytest.raises(DeadlineExceeded):
        consume(Predict(QA, lm=lm), on, seen, run, question="?")
    assert deltas(seen) == [FieldDelta("", "answer", "Par")]
    assert (run.usage.calls, run.usage.failed_calls) == (0, 1)
    gc.collect()  # what was given up in the midst of a piece is closed with its error
    assert lm.closed.wait(30)


@either
def test_leaving_a_stream_cancels_what_it_runs_and_counts_the_call(on: str) -> None:
    seen_by_program = []

    class Going(Module):
        def __init__(self) -> None:
            self.answer = Predict(QA)

        def forward(self, question: str) -> Any:
            try:
                return self.answer(question=question)
            finally:
                seen_by_program.append(active_run().cancelled)  # type: ignore[union-attr]  # there is one

    lm = Pieces([*PARIS[:2], until_cancelled(), *PARIS[2:]])
    with dspex.context(lm=lm):
        run = Run()
        if on == "threads":
            events = Going().stream(question="?", status=False, run=run)
            assert next(events).delta == "Par"
            events.close()
        else:

            async def leave() -> None:
                async with contextlib.aclosing(Going().astream(question="?", status=False, run=run)) as stream:
                    async for _ in stream:
                        break

            asyncio.run(leave())
    threads_ended()
    gc.collect()  # what was given up in the midst of a piece is closed with its error
    assert lm.closed.wait(30)
    assert seen_by_program == [True]
    assert (run.usage.calls, run.usage.failed_calls) == (0, 1)
    assert (run.sink, run.observers, run.cancelled) == (None, (), False)


def test_cancelling_the_consumer_cancels_what_it_runs() -> None:
    begun = threading.Event()
    hang = threading.Event()
    ran: list[Any] = []
    lm = Pieces([lambda: ran.append(active_run()), *PARIS[:2], hang])

    async def main() -> Run:
        run = Run()

        async def consume() -> None:
            async for _ in Predict(QA).astream(question="?", status=False, run=run):
                begun.set()

        task = asyncio.create_task(consume())
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return run

    with dspex.context(lm=lm):
        run = asyncio.run(main())
    hang.set()
    assert [part.cancelled for part in ran] == [True]
    assert (run.cancelled, run.usage.failed_calls) == (False, 1)


def test_a_stream_that_nobody_reads_does_not_run() -> None:
    lm = MockLM([{"answer": "Paris"}])
    with dspex.context(lm=lm):
        Predict(QA).stream(question="?").close()
        asyncio.run(Predict(QA).astream(question="?").aclose())
    assert not lm.calls


# -- where it runs -------------------------------------------------------------------------------------

COLOUR: ContextVar[str] = ContextVar("colour", default="none")


@either
def test_the_program_runs_in_the_context_of_the_call(on: str) -> None:
    class Coloured(Module):
        def forward(self) -> Any:
            return COLOUR.get(), self.__class__.__name__

    token = COLOUR.set("red")
    program = Coloured()
    if on == "threads":
        events = program.stream(status=False)
        COLOUR.reset(token)
        (final,) = events
    else:
        stream = program.astream(status=False)
        COLOUR.reset(token)
        (final,) = asyncio.run(gathered(stream))
    assert final.prediction == ("red", "Coloured")


def test_settings_are_those_of_the_call() -> None:
    with dspex.context(lm=MockLM([{"answer": "Paris"}])), dspex.track_usage() as usage:
        events = Predict(QA).stream(question="?")
    *_, final = events
    assert final.prediction.answer == "Paris"
    assert usage.total.calls == 1


class Awaiting(Module):
    """Async code of a user's own, in a blocking forward and in an async one."""

    def __init__(self, blocking: bool) -> None:
        self.answer = Predict(QA)
        self.check = Checking()
        self.blocking = blocking

    def forward(self, question: str) -> Any:
        async def twice() -> list[Any]:
            return await asyncio.gather(*(self.answer.acall(question=question) for _ in range(2)))

        if self.blocking:
            return self.check(answers=asyncio.run(twice()))
        return run_blocking(self.check.acall(answers=run_blocking(twice())))


class Checking(Module):
    def __init__(self) -> None:
        self.verdict = Predict("answer -> verdict")

    async def forward(self, answers: list[Any]) -> Any:
        return await self.verdict.acall(answer=answers[0].answer)


@either
@pytest.mark.parametrize("blocking", [True, False])
def test_async_code_of_a_blocking_forward_is_shown(on: str, blocking: bool) -> None:
    def answer(messages: Any, **params: Any) -> dict[str, str]:
        return {"verdict": "right"} if "verdict" in messages[0]["content"] else {"answer": "Paris"}

    with dspex.context(lm=MockLM(answer)):
        events, prediction = whole(events_of(Awaiting(blocking), on, question="?"))
    assert prediction.verdict == "right"
    assert fields_shown(events) == {
        ("answer", 0): {"answer": "Paris"},
        ("answer", 1): {"answer": "Paris"},
        ("check.verdict", 0): {"verdict": "right"},
    }


# -- within another run --------------------------------------------------------------------------------


class Guarded(Module):
    """Leaves its first draft as soon as it begins with the wrong word."""

    def __init__(self) -> None:
        self.inner = Drafting()
        self.seen: list[Any] = []

    def forward(self, question: str) -> Any:
        for event in self.inner.stream(question=question, listen="inner.draft"):
            self.seen.append(event)
            if isinstance(event, FieldDelta) and event.delta == "No":
                break
        return self.inner.final(question=question)


class Drafting(Module):
    tone = dspex.variable(dspex.Choice("plain", "warm"), default="plain")

    def __init__(self) -> None:
        self.draft = Predict("question, tone -> answer")
        self.final = Predict(QA)

    def forward(self, question: str) -> Any:
        return self.draft(question=question, tone=self.tone)


def test_a_part_of_a_running_program_can_be_streamed_and_left() -> None:
    def answer(request: Any) -> list[Any]:
        if "tone" in request.messages[0]["content"]:
            assert "warm" in request.messages[-1]["content"]
            return [PARIS[0], "No", until_cancelled(), ", never"]
        return PARIS

    lm = Pieces(answer)
    program = Guarded().bind({"inner.tone": "warm"})
    with dspex.context(lm=lm):
        run = Run()
        events = list(program.stream(question="?", run=run))
    threads_ended()
    assert events[-1].prediction.answer == "Paris it is"
    assert not run.cancelled
    assert (run.usage.calls, run.usage.failed_calls) == (1, 1)
    assert [entry.path for entry in run.trace] == ["inner.final"]
    assert fields_shown(events) == {
        ("inner.draft", 0): {"answer": "No"},
        ("inner.final", 0): {"answer": "Paris it is"},
    }
    inner = program.seen
    assert fields_shown(inner) == {("inner.draft", 0): {"answer": "No"}}
    assert ("module", "inner", "Drafting", "start") in statuses(inner)
    assert program.render(question="?")


@either
def test_a_part_of_a_running_program_can_be_streamed_in_a_run_of_its_own(on: str) -> None:
    class Outer(Module):
        def __init__(self) -> None:
            self.answer = Predict(QA)

        def forward(self, question: str) -> Any:
            if on == "tasks":
                events = run_blocking(gathered(self.answer.astream(question=question, run=own, status=False)))
            else:
                events = list(self.answer.stream(question=question, run=own, status=False))
            assert fields_shown(events) == {("answer", 0): {"answer": "Paris it is"}}
            return events[-1].prediction

    with dspex.context(lm=Pieces(PARIS)):
        own, run = Run(), Run()
        assert Outer().execute({"question": "?"}, run=run).answer == "Paris it is"
    assert (own.usage.calls, run.usage.calls) == (1, 0)


@either
def test_a_run_may_be_streamed_several_times_at_once_and_each_stream_has_its_own_events(on: str) -> None:
    """Leaving one ends none of the others."""
    both = threading.Barrier(2)
    texts = {"tea": ["Black", " tea"], "milk": ["White", " milk"]}

    def answer(request: Any) -> list[Any]:
        topic = next(topic for topic in texts if topic in request.messages[-1]["content"])
        first, second = texts[topic]
        meet = lambda: both.wait(60) and None  # noqa: E731 - a step of the answer
        return ["[[ ## answer ## ]]\n", first, meet, second, meet, "\n\n[[ ## completed ## ]]"]

    async def at_once() -> list[Any]:
        streams = [Predict(QA).astream(question=topic, run=run) for topic in texts]
        return await asyncio.gather(*map(gathered, streams))

    with dspex.context(lm=Pieces(answer)):
        run = Run()
        if on == "tasks":
            told = asyncio.run(at_once())
        else:
            streams = [Predict(QA).stream(question=topic, run=run) for topic in texts]
            with ThreadPoolExecutor(2) as pool:
                told = list(pool.map(list, streams))
    for (topic, text), events in zip(texts.items(), told, strict=True):
        assert fields_shown(events) == {("", 0): {"answer": "".join(text)}}
        assert events[-1].prediction.answer == "".join(text)
        assert statuses(events) == [
            ("module", "", "Predict", "start"),
            ("lm", "", "test/pieces", "start"),
            ("lm", "", "test/pieces", "end"),
            ("module", "", "Predict", "end"),
        ]
        assert events[0].detail == {"question": topic}
    assert (run.usage.calls, len(run.trace), run.sink, run.observers) == (2, 2, None, ())


def test_leaving_one_of_the_streams_of_a_run_ends_only_that_one() -> None:
    first_shown, second_left = threading.Event(), threading.Event()
    answers = [[*PARIS[:2], first_shown.set, second_left, *PARIS[2:]], [*PARIS[:2], until_cancelled(), *PARIS[2:]]]
    with dspex.context(lm=Pieces(*answers)):
        run = Run()
        first = Predict(QA).stream(question="first", run=run, status=False)
        assert next(first).delta == "Par"
        assert first_shown.wait(30)
        second = Predict(QA).stream(question="second", run=run, status=False)
        assert next(second).delta == "Par"
        second.close()
        second_left.set()
        *rest, _ = first
        assert [event.delta for event in rest] == ["is", " it is"]
    threads_ended()
    assert (run.usage.calls, run.usage.failed_calls, run.cancelled, run.sink) == (1, 1, False, None)


def test_a_part_of_a_running_program_is_cancelled_with_it() -> None:
    hang = threading.Event()

    class Outer(Module):
        def __init__(self) -> None:
            self.answer = Predict(QA)

        def forward(self, question: str) -> Any:
            *_, last = self.answer.stream(question=question)
            return last.prediction

    def cancel() -> None:
        run.cancel("enough")
        hang.set()

    with dspex.context(lm=Pieces([*PARIS[:2], cancel, hang, *PARIS[2:]])):
        run = Run()
        with pytest.raises(DeadlineExceeded, match="enough"):
            Outer().execute({"question": "?"}, run=run)
    assert run.usage.failed_calls == 1
