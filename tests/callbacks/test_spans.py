"""What each kind of span says, from a tool's call to a whole search."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import dspex
from dspex.callbacks import Callback, Span, current_span
from dspex.errors import DeadlineExceeded, LMAuthError, LMServerError, ParseError, ToolError, TrialPruned
from dspex.execution import Run
from dspex.lm import Cache, LMRequest, LMResponse
from dspex.study import create_study
from tests.callbacks.recorder import Recorder

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid"}
DEVSET = [dspex.Example(country=c, answer=a).with_inputs("country") for c, a in CAPITALS.items()]


def exact(example: Any, prediction: Any) -> bool:
    return bool(prediction.answer == example.answer)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_predictor(recorder: Recorder) -> None:
    with dspex.context(lm=dspex.MockLM([{"answer": 4}]), callbacks=[recorder]):
        prediction = dspex.Predict("question -> answer: int")(question="2 + 2?")
    recorder.check()
    assert recorder.tree() == [
        "module Predict",
        "  adapter ChatAdapter.request",
        "  lm mock/mock",
        "  adapter ChatAdapter.read",
    ]
    module, request, call, read = recorder.spans
    assert module.inputs == {"question": "2 + 2?"}
    assert module.outputs is prediction
    assert request.inputs == module.inputs
    assert request.outputs is call.inputs
    assert isinstance(call.inputs, LMRequest)
    assert isinstance(call.outputs, LMResponse)
    assert read.inputs == {"completion": call.outputs.completions[0]}
    assert read.outputs == {"answer": 4}
    assert current_span() is None


def test_the_prediction_of_a_program_has_its_usage_when_the_span_ends() -> None:
    seen: list[int] = []

    class Program(dspex.Module):
        def __init__(self) -> None:
            self.first = dspex.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            self.first(question=question)
            return dspex.Prediction(answer=self.first(question=question).answer)

    class Ears(Callback):
        def on_module_end(self, span: Span) -> None:
            if span.parent is None:
                seen.append(span.outputs.usage.calls)

    with dspex.context(lm=dspex.MockLM(["a"], repeat=True), callbacks=[Ears()]):
        Program()("What?")
    assert seen == [2]


def test_positional_inputs_have_their_names(recorder: Recorder) -> None:
    class Two(dspex.Module):
        def forward(self, a: int, b: int, *more: int, c: int = 0) -> int:
            return a + b + c

    with dspex.context(callbacks=[recorder]):
        assert Two()(1, 2, c=3) == 6
        Two()(1, 2, 5)
    assert [span.inputs for span in recorder.spans] == [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "args[0]": 5}]


def test_a_model_called_by_hand(recorder: Recorder) -> None:
    lm = dspex.MockLM(["a", "b"], temperature=0.5)
    with dspex.context(callbacks=[recorder]):
        lm("hello", max_tokens=9, api_key="sk-123456789")
        asyncio.run(lm.acall("hello"))
    recorder.check()
    first, second = recorder.of("lm")
    assert first.parent is None
    assert first.path == ""
    attributes = first.attributes
    assert attributes["params"] == {"temperature": 0.5, "max_tokens": 9}
    assert (attributes["model"], attributes["retries"], attributes["cached"]) == ("mock/mock", 0, False)
    assert attributes["usage"].calls == 1
    assert attributes["latency"] == first.outputs.latency
    assert attributes["cost"] == 0.0
    assert "sk-123456789" not in repr((first, attributes, first.inputs))
    assert second.outputs.text == "b"


def test_retries_and_answers_from_the_cache(recorder: Recorder) -> None:
    lm = dspex.MockLM(["a"], failures=[ConnectionError, ConnectionError], cache=Cache(), price=(1e6, 1e6))
    with dspex.context(callbacks=[recorder]):
        lm("hello")
        lm("hello")
    asked, found = recorder.of("lm")
    assert asked.attributes["retries"] == 2
    assert asked.attributes["usage"].failed_calls == 2
    assert found.attributes["cached"]
    assert found.attributes["retries"] == 0
    assert found.attributes["cost"] == 0.0
    assert found.attributes["usage"].saved_cost > 0


def test_a_fallback_is_within_the_call_and_bills_its_own(recorder: Recorder) -> None:
    other = dspex.MockLM(["b"], model="mock/other")
    lm = dspex.MockLM(["a"], failures=[LMAuthError], fallbacks=[other])
    with dspex.context(callbacks=[recorder]):
        assert lm("hello") == ["b"]
    recorder.check()
    assert recorder.tree() == ["lm mock/mock", "  lm mock/other"]
    first, second = recorder.spans
    assert first.error is None
    assert first.attributes["answered_by"] == "mock/other"
    assert (first.attributes["usage"].failed_calls, first.attributes["usage"].calls) == (1, 0)
    assert (second.attributes["usage"].failed_calls, second.attributes["usage"].calls) == (0, 1)


def test_a_call_that_fails(recorder: Recorder) -> None:
    lm = dspex.MockLM(["a"], failures=lambda n: LMServerError, retries=1)
    with dspex.context(callbacks=[recorder]), pytest.raises(LMServerError) as caught:
        lm("hello")
    (span,) = recorder.spans
    assert span.error is caught.value
    assert span.outputs is None
    assert span.attributes["usage"].failed_calls == 2
    assert span.attributes["retries"] == 1


@pytest.mark.parametrize("awaited", [False, True])
def test_a_stream_is_a_span_and_its_reader_is_not_inside_of_it(recorder: Recorder, awaited: bool) -> None:
    lm = dspex.MockLM(["one two three"])
    inside: list[Span | None] = []

    async def read() -> None:
        async for _ in lm.astream(LMRequest.of("count")):
            inside.append(current_span())

    with dspex.context(callbacks=[recorder]):
        if awaited:
            asyncio.run(read())
        else:
            for _ in lm.stream(LMRequest.of("count")):
                inside.append(current_span())
    recorder.check()
    (span,) = recorder.spans
    assert span.outputs.text == "one two three"
    assert set(inside) == {None}


def test_a_stream_that_is_left_has_an_end(recorder: Recorder) -> None:
    with dspex.context(callbacks=[recorder]):
        stream = dspex.MockLM(["one two three"]).stream(LMRequest.of("count"))
        next(stream)
        stream.close()
    recorder.check()
    (span,) = recorder.spans
    assert isinstance(span.error, GeneratorExit)
    assert span.attributes["usage"].failed_calls == 1


def test_an_answer_that_cannot_be_read(recorder: Recorder) -> None:
    with dspex.context(lm=dspex.MockLM(["no idea"]), callbacks=[recorder]), pytest.raises(ParseError):
        dspex.Predict("question -> answer: int")(question="?")
    recorder.check()
    assert [(span.kind, type(span.error)) for span in recorder.spans if span.error] == [
        ("module", ParseError),
        ("adapter", ParseError),
    ]


def test_asking_again_happens_within_the_reading(recorder: Recorder) -> None:
    with dspex.context(lm=dspex.MockLM(["no idea", {"answer": 4}]), callbacks=[recorder]):
        dspex.Predict("question -> answer: int", reasks=1)(question="?")
    recorder.check()
    assert recorder.tree()[2:] == ["  lm mock/mock", "  adapter ChatAdapter.read", "    lm mock/mock"]


def test_tools_blocking_and_awaited(recorder: Recorder) -> None:
    def population(city: str) -> int:
        return {"Oslo": 709_037}[city]

    tool = dspex.Tool(population)
    with dspex.context(callbacks=[recorder]):
        tool("Oslo")
        asyncio.run(tool.acall(city="Oslo"))
        with pytest.raises(ToolError):
            tool(city="Rome")
        with pytest.raises(ToolError):
            tool(town="Rome")
    recorder.check()
    assert [span.inputs for span in recorder.of("tool")] == [{"city": "Oslo"}] * 2 + [
        {"city": "Rome"},
        {"town": "Rome"},
    ]
    assert [span.outputs for span in recorder.spans] == [709_037, 709_037, None, None]
    assert [type(span.error) for span in recorder.spans[2:]] == [ToolError, ToolError]


def test_a_tool_is_within_the_module_that_calls_it(recorder: Recorder) -> None:
    script = [
        {"thought": "Look it up.", "tool": "population", "arguments": {"city": "Oslo"}},
        {"thought": "I know it.", "tool": "finish", "arguments": {}},
        {"reasoning": "It said so.", "answer": 709037},
    ]

    def population(city: str) -> int:
        return 709_037

    with dspex.context(lm=dspex.MockLM(script), callbacks=[recorder]):
        dspex.ReAct("question -> answer: int", tools=[population])(question="?")
    recorder.check()
    (tool,) = recorder.of("tool")
    assert tool.parent is recorder.spans[0]
    assert [span.path for span in recorder.of("lm")] == ["react", "react", "extract"]


def test_a_program_called_within_another_is_within_its_span(recorder: Recorder) -> None:
    inner = dspex.Predict("question -> answer")

    class Outer(dspex.Module):
        def forward(self, question: str) -> Any:
            return dspex.Predict("question -> answer")(question=question)

    class Outermost(dspex.Module):
        def __init__(self) -> None:
            self.outer = Outer()

        def forward(self, question: str) -> Any:
            inner(question=question)
            return self.outer(question=question)

    with dspex.context(lm=dspex.MockLM(["a"], repeat=True), callbacks=[recorder]):
        Outermost()(question="?")
    recorder.check()
    assert [line for line in recorder.tree() if "module" in line] == [
        "module Outermost",
        "  module Predict",
        "  module Outer",
        "    module Predict",
    ]


def test_a_dry_run_is_nothing_that_happened(recorder: Recorder) -> None:
    with dspex.context(callbacks=[recorder]):
        dspex.ChainOfThought("question -> answer").render(question="?")
    assert recorder.events == []


def test_what_knows_no_run_in_a_raw_thread_begins_a_tree(recorder: Recorder) -> None:
    tool = dspex.Tool(lambda x: x, name="same")

    class Raw(dspex.Module):
        def __init__(self) -> None:
            self.answer = dspex.Predict("question -> answer", lm=dspex.MockLM(["a"]))

        def forward(self) -> None:
            for call in (lambda: tool(x=1), lambda: self.answer(question="?")):
                thread = threading.Thread(target=call)
                thread.start()
                thread.join()

    dspex.configure(callbacks=[recorder])
    try:
        Raw()()
    finally:
        dspex.configure(callbacks=None)
    recorder.check()
    assert [(span.name, span.parent and span.parent.name) for span in recorder.spans[:3]] == [
        ("Raw", None),
        ("same", None),
        ("Predict", "Raw"),
    ]


def test_a_run_may_have_more_observers(recorder: Recorder) -> None:
    run = Run()
    run.observers = (recorder,)
    dspex.Predict("question -> answer", lm=dspex.MockLM(["a"])).execute({"question": "?"}, run=run)
    recorder.check()
    assert len(recorder.spans) == 4


def test_a_cancelled_task_ends_its_spans(recorder: Recorder) -> None:
    async def main() -> None:
        asked = asyncio.Event()

        class Slow(dspex.Module):
            async def forward(self) -> None:
                asked.set()
                await asyncio.Event().wait()

        with dspex.context(callbacks=[recorder]):
            task = asyncio.create_task(Slow().acall())
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    recorder.check()
    assert isinstance(recorder.spans[0].error, asyncio.CancelledError)


class Capital(dspex.Module):
    def __init__(self) -> None:
        self.ask = dspex.Predict("country -> answer")


class Blocking(Capital):
    def forward(self, country: str) -> Any:
        return self.ask(country=country)


class Awaiting(Capital):
    async def forward(self, country: str) -> Any:
        return await self.ask.acall(country=country)


def knows() -> dspex.MockLM:
    return dspex.MockLM({country: {"answer": capital} for country, capital in CAPITALS.items()})


@pytest.mark.parametrize("program", [Blocking(), Awaiting()])
@pytest.mark.parametrize("awaited", [False, True])
def test_an_evaluation(recorder: Recorder, program: dspex.Module, awaited: bool) -> None:
    evaluate = dspex.Evaluate(DEVSET, exact, concurrency=3)
    with dspex.context(lm=knows(), callbacks=[recorder]):
        result = asyncio.run(evaluate.acall(program, trial=7)) if awaited else evaluate(program, trial=7)
    recorder.check()
    evaluation, *_ = recorder.spans
    assert evaluation.outputs is result
    assert evaluation.attributes == {"examples": 3, "trial": 7}
    examples = recorder.of("example")
    assert {span.attributes["example"] for span in examples} == {example.id for example in DEVSET}
    assert {span.outputs.score for span in examples} == {1.0}
    assert {span.parent for span in examples} == {evaluation}
    for call in recorder.of("lm"):
        assert [span.kind for span in call.ancestors] == ["module", "module", "example", "evaluation"]
        example = list(call.ancestors)[2]
        assert str(example.inputs["country"]) in call.inputs.tail[0]["content"]


def test_the_calls_of_a_metric_are_within_its_example(recorder: Recorder) -> None:
    judge = dspex.Predict("answer -> fine: bool", lm=dspex.MockLM([{"fine": True}], repeat=True, model="mock/judge"))

    def metric(example: Any, prediction: Any) -> bool:
        return bool(judge(answer=prediction.answer).fine)

    with dspex.context(lm=knows(), callbacks=[recorder]):
        dspex.Evaluate(DEVSET, metric)(Blocking())
    recorder.check()
    calls = [span for span in recorder.of("lm") if span.name == "mock/judge"]
    assert len({next(one for one in call.ancestors if one.kind == "example") for call in calls}) == 3


def test_an_example_that_failed_says_why(recorder: Recorder) -> None:
    def program(country: str) -> Any:
        if country == "Italy":
            raise ValueError("no Italy")
        return {"answer": CAPITALS[country]}

    with dspex.context(callbacks=[recorder]):
        dspex.Evaluate(DEVSET, lambda example, prediction: True, retries=0)(program)
    recorder.check()
    (failed,) = [span for span in recorder.of("example") if span.error]
    assert failed.inputs == {"country": "Italy"}
    assert isinstance(failed.error, ValueError)
    assert failed.outputs.score == 0.0


@pytest.mark.parametrize("awaited", [False, True])
def test_an_example_that_hangs_ends_with_its_deadline(recorder: Recorder, awaited: bool) -> None:
    release = threading.Event()

    def hang(country: str) -> Any:
        release.wait()
        return {"answer": "late"}

    async def ahang(country: str) -> Any:
        await asyncio.Event().wait()

    with dspex.context(callbacks=[recorder]):
        evaluate = dspex.Evaluate(DEVSET[:1], exact, deadline=0.05, retries=0)
        result = evaluate(ahang if awaited else hang)
    assert result.failed == 1
    (span,) = recorder.of("example")
    heard = [what for what, one, _ in recorder.events if one is span]
    assert heard == ["start", "error"]
    assert isinstance(span.error, DeadlineExceeded)
    assert span.outputs is result.rows[0]
    release.set()


def test_raw_threads_keep_to_the_program_of_their_example(recorder: Recorder) -> None:
    class Threaded(Capital):
        def forward(self, country: str) -> Any:
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(self.ask(country=country)))
            thread.start()
            thread.join()
            return found[0]

    with dspex.context(lm=knows(), callbacks=[recorder]):
        dspex.Evaluate(DEVSET, exact, concurrency=3)(Threaded())
    recorder.check()
    for call in recorder.of("lm"):
        assert [span.name for span in call.ancestors][:2] == ["Predict", "Threaded"]
        assert [span.kind for span in call.ancestors][2:] == ["example", "evaluation"]


def objective(trial: Any) -> float:
    x = float(trial.suggest_float("x", 0.0, 1.0))
    if trial.number == 1:
        raise TrialPruned
    if trial.number == 2:
        raise ValueError("no luck")
    return x


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("awaited", [False, True])
def test_trials_of_a_study(recorder: Recorder, n_jobs: int, awaited: bool) -> None:
    async def aobjective(trial: Any) -> float:
        return objective(trial)

    study = create_study(study_name="s")
    with dspex.context(callbacks=[recorder]):
        study.optimize(aobjective if awaited else objective, n_trials=4, n_jobs=n_jobs, catch=ValueError)
    recorder.check()
    trials = {span.attributes["trial"]: span for span in recorder.of("trial")}
    assert sorted(trials) == [0, 1, 2, 3]
    assert {span.attributes["study"] for span in trials.values()} == {"s"}
    assert [trials[n].outputs.state.name for n in range(4)] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE"]
    assert [type(trials[n].error) for n in range(4)] == [type(None), type(None), ValueError, type(None)]


def test_an_error_that_ends_a_study_ends_its_trial(recorder: Recorder) -> None:
    with dspex.context(callbacks=[recorder]), pytest.raises(ValueError, match="no luck"):
        create_study().optimize(objective, n_trials=4)
    recorder.check()
    assert isinstance(recorder.spans[-1].error, ValueError)


def test_from_the_optimizer_to_the_call(recorder: Recorder) -> None:
    examples = [dspex.Example(country=str(i), answer="Paris").with_inputs("country") for i in range(9)]
    program = dspex.Predict("country -> answer", temperature=dspex.Float(0.0, 1.0))
    with dspex.context(lm=dspex.MockLM([{"answer": "Paris"}], repeat=True), callbacks=[recorder]):
        result = dspex.JointSearch(trials=2).optimize(program, examples, exact, storage=None, progress=False)
    recorder.check()
    root, *others = recorder.spans
    assert (root.kind, root.name, root.outputs) == ("optimizer", "JointSearch", result)
    assert root.attributes["study"] == result.study.study_name
    assert all(list(span.ancestors)[-1] is root for span in others)
    searched = [span for span in recorder.of("lm") if any(one.kind == "trial" for one in span.ancestors)]
    chains = {tuple(one.kind for one in span.ancestors) for span in searched}
    assert chains == {("module", "example", "evaluation", "trial", "optimizer")}
    for call in searched:
        module, example, evaluation, trial, _ = call.ancestors
        assert trial.attributes["trial"] == evaluation.attributes["trial"] == example.attributes["trial"]
        assert trial.inputs["temperature"] == call.attributes["params"].get("temperature")
        assert example.outputs.example_id == example.attributes["example"]
        assert module.path == ""
    for trial in recorder.of("trial"):
        assert trial.outputs.score == 1.0
