"""Traces as a backend gets them: names, attributes, parents and times, by the conventions for generative AI."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

import dspex
from dspex.callbacks import OpenTelemetry
from dspex.data import Usage
from dspex.errors import DefinitionError, LMAuthError, LMContentFilterError, LMServerError, ParseError, ToolError
from dspex.lm import Cache, LMRequest
from tests.callbacks.recorder import Recorder

trace = pytest.importorskip("opentelemetry.sdk.trace")
api = pytest.importorskip("opentelemetry.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

SECRET = "sk-verysecret-123456"


class Traces:
    """A provider that keeps all spans."""

    def __init__(self) -> None:
        self._exporter = in_memory.InMemorySpanExporter()
        self.provider = trace.TracerProvider()
        self.provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[Any]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time)

    def named(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def chain(self, span: Any) -> list[str]:
        """Its own name and those around it."""
        known = {one.context.span_id: one for one in self.spans}
        names = [span.name]
        while span.parent is not None:
            span = known[span.parent.span_id]
            names.append(span.name)
        return names

    def said(self) -> str:
        """All that was recorded, as one text."""
        return "\n".join(span.to_json() for span in self.spans)


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
def callback(traces: Traces) -> OpenTelemetry:
    return OpenTelemetry(tracer_provider=traces.provider)


def test_a_model_s_call(traces: Traces, callback: OpenTelemetry) -> None:
    lm = dspex.MockLM(["Paris"], model="mistral/large", temperature=0.5, price=(1e6, 1e6))
    with dspex.context(callbacks=[callback]):
        lm("Capital of France?", max_tokens=40, seed=3, stop=["\n"], n=2, top_p=0.9, api_key=SECRET)
    span = traces.named("chat large")
    assert span.kind is api.SpanKind.CLIENT
    attributes = dict(span.attributes)
    assert attributes.pop("dspex.cost") > 0
    assert attributes == {
        "dspex.kind": "lm",
        "dspex.rollout": 0,
        "dspex.retries": 0,
        "dspex.cached": False,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": "large",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 40,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("\n",),
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.response.model": "large",
        "gen_ai.response.finish_reasons": ("stop", "stop"),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
    }
    assert span.status.status_code is api.StatusCode.UNSET
    assert span.instrumentation_scope.name == "dspex"


def test_every_attribute_of_the_conventions_is_one_of_theirs(traces: Traces) -> None:
    registry = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    known = {value for name, value in vars(registry).items() if name.startswith("GEN_AI_")}
    callback = OpenTelemetry(tracer_provider=traces.provider, content=True)
    with dspex.context(callbacks=[callback], lm=dspex.MockLM([{"answer": "a"}], repeat=True)):
        dspex.Predict("question -> answer", adapter="json", n=2, top_p=0.5, stop="x", seed=1)(question="?")
        dspex.Tool(abs, name="absolute")(1)
    used = {name for span in traces.spans for name in span.attributes if not name.startswith("dspex.")}
    assert used - {"error.type"} <= known
    assert {"gen_ai.output.type", "gen_ai.input.messages", "gen_ai.tool.call.arguments"} <= used


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("bedrock/anthropic.claude", "aws.bedrock", "anthropic.claude"),
        ("openrouter/anthropic/claude", "openrouter", "anthropic/claude"),
        ("gpt-4o", "_OTHER", "gpt-4o"),
    ],
)
def test_providers_and_models(traces: Traces, callback: OpenTelemetry, model: str, provider: str, name: str) -> None:
    with dspex.context(callbacks=[callback]):
        dspex.MockLM(["a"], model=model)("?")
    span = traces.named(f"chat {name}")
    assert span.attributes["gen_ai.provider.name"] == provider
    assert span.attributes["gen_ai.request.model"] == name


def test_a_model_in_this_process_is_no_client(traces: Traces, callback: OpenTelemetry) -> None:
    with dspex.context(callbacks=[callback]):
        dspex.MockLM(["a"])("?")
    assert traces.named("chat mock").kind is api.SpanKind.INTERNAL


@pytest.mark.local_model
def test_the_embedded_model(traces: Traces, callback: OpenTelemetry) -> None:
    with dspex.context(callbacks=[callback], lm=dspex.LM("local/smollm2-135m", cache=False)):
        prediction = dspex.Predict("question -> answer", max_tokens=16, adapter="lines")(question="Say hello.")
    span = traces.named("chat smollm2-135m")
    assert span.kind is api.SpanKind.INTERNAL
    assert span.attributes["gen_ai.provider.name"] == "local"
    assert span.attributes["gen_ai.request.max_tokens"] == 16
    assert span.attributes["gen_ai.usage.input_tokens"] == prediction.usage.prompt_tokens
    assert span.attributes["gen_ai.usage.output_tokens"] == prediction.usage.completion_tokens
    assert traces.chain(span) == ["chat smollm2-135m", "invoke_workflow Predict"]


def test_what_is_cached_took_no_tokens(traces: Traces, callback: OpenTelemetry) -> None:
    lm = dspex.MockLM(["a"], cache=Cache())
    with dspex.context(callbacks=[callback]):
        lm("?")
        lm("?")
    asked, found = traces.spans
    assert "gen_ai.usage.input_tokens" in asked.attributes
    assert "gen_ai.usage.input_tokens" not in found.attributes
    assert found.attributes["dspex.cached"] is True


def test_an_answer_of_no_use_took_its_tokens(traces: Traces, callback: OpenTelemetry) -> None:
    stopped = LMContentFilterError("stopped", billed=True, usage=Usage(calls=1, prompt_tokens=12, completion_tokens=3))
    with dspex.context(callbacks=[callback]), dspex.track_usage() as usage, pytest.raises(LMContentFilterError):
        dspex.MockLM(["a"], failures=[stopped])("?")
    (span,) = traces.spans
    assert span.attributes["gen_ai.usage.input_tokens"] == usage.total.prompt_tokens == 12
    assert span.attributes["gen_ai.usage.output_tokens"] == usage.total.completion_tokens == 3


def test_a_fallback_s_tokens_are_counted_once(traces: Traces, callback: OpenTelemetry) -> None:
    lm = dspex.MockLM(["a"], failures=[LMAuthError], fallbacks=[dspex.MockLM(["b"], model="mock/other")])
    with dspex.context(callbacks=[callback]):
        lm("?")
    assert traces.chain(traces.named("chat other")) == ["chat other", "chat mock"]
    assert "gen_ai.usage.input_tokens" in traces.named("chat other").attributes
    assert "gen_ai.usage.input_tokens" not in traces.named("chat mock").attributes
    assert traces.named("chat mock").attributes["gen_ai.response.model"] == "other"


def test_errors_are_named_and_not_quoted(traces: Traces, callback: OpenTelemetry) -> None:
    with dspex.context(callbacks=[callback], lm=dspex.MockLM(["private words"])):
        with pytest.raises(ParseError):
            dspex.Predict("question -> answer: int")(question="private question")
        with pytest.raises(LMServerError):
            dspex.MockLM(["a"], failures=lambda n: LMServerError("private"), retries=0)("private")
        with pytest.raises(ToolError):
            dspex.Tool(lambda x: {}[x], name="look")(x="private")
    failed = {span.name: span.attributes["error.type"] for span in traces.spans if "error.type" in span.attributes}
    assert failed == {
        "invoke_workflow Predict": "ParseError",
        "ChatAdapter.read": "ParseError",
        "chat mock": "LMServerError",
        "execute_tool look": "ToolError",
    }
    assert all(
        (span.status.status_code is api.StatusCode.ERROR) == ("error.type" in span.attributes) for span in traces.spans
    )
    assert "private" not in traces.said()


def test_content_is_recorded_on_demand_and_secrets_never(traces: Traces) -> None:
    callback = OpenTelemetry(tracer_provider=traces.provider, content=True)
    lm = dspex.MockLM(["Paris"], api_key=SECRET)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "a tower"},
    ]
    with dspex.context(callbacks=[callback]):
        lm.generate(LMRequest.of(messages=messages, extra_headers={"authorization": SECRET}))
        dspex.Tool(lambda place: "tower", name="look")(place="Paris")
        with pytest.raises(ToolError):
            dspex.Tool(lambda place: {}[place], name="find")(place="Paris")
    span = traces.named("chat mock")
    assert json.loads(span.attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "What is it?"}, {"type": "image_url"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "look", "arguments": "{}"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "a tower"}]},
    ]
    assert json.loads(span.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Paris"}], "finish_reason": "stop"}
    ]
    tool = traces.named("execute_tool look")
    assert tool.attributes["gen_ai.tool.call.arguments"] == '{"place": "Paris"}'
    assert tool.attributes["gen_ai.tool.call.result"] == '"tower"'
    (event,) = traces.named("execute_tool find").events
    assert event.name == "exception"
    assert SECRET not in traces.said()


def test_from_the_trial_to_the_call_with_true_parents_and_times(traces: Traces, callback: OpenTelemetry) -> None:
    examples = [dspex.Example(country=str(i), answer="Paris").with_inputs("country") for i in range(9)]

    def exact(example: Any, prediction: Any) -> bool:
        return bool(prediction.answer == example.answer)

    heard = Recorder()
    lm = dspex.MockLM([{"reasoning": "It is.", "answer": "Paris"}], repeat=True)
    with dspex.context(lm=lm, callbacks=[callback, heard]):
        search = dspex.JointSearch(trials=2, concurrency=4)
        program = dspex.ChainOfThought("country -> answer", temperature=dspex.Float(0.0, 1.0))
        search.optimize(program, examples, exact, storage=None, progress=False)
    assert len(traces.spans) == len(heard.spans)
    assert len({span.context.trace_id for span in traces.spans}) == 1
    chains = {tuple(traces.chain(span)) for span in traces.spans if span.name == "chat mock"}
    program_chain = ("chat mock", "invoke_workflow ChainOfThought", "example", "Evaluate")
    assert chains >= {(*program_chain, "trial", "JointSearch"), (*program_chain, "JointSearch")}
    known = {span.context.span_id: span for span in traces.spans}
    for span in traces.spans:
        assert span.start_time <= span.end_time
        if span.parent is not None:
            parent = known[span.parent.span_id]
            assert parent.start_time <= span.start_time
            assert span.end_time <= parent.end_time
        if span.name == "example":
            assert span.attributes["dspex.score"] == 1.0
    times = sorted((int(one.started * 1e9), int((one.ended or 0) * 1e9)) for one in heard.spans)
    assert times == sorted((span.start_time, span.end_time) for span in traces.spans)


def test_the_user_s_own_spans_are_around_and_inside(traces: Traces, callback: OpenTelemetry) -> None:
    own = traces.provider.get_tracer("app")

    class Program(dspex.Module):
        def __init__(self) -> None:
            self.answer = dspex.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            with own.start_as_current_span("database"):
                pass
            with own.start_as_current_span("rewrite"):
                return self.answer(question=question)

    with (
        dspex.context(lm=dspex.MockLM(["a"]), callbacks=[callback]),
        own.start_as_current_span("request"),
    ):
        Program()(question="?")
        assert api.get_current_span().name == "request"
    assert traces.chain(traces.named("database")) == ["database", "invoke_workflow Program", "request"]
    assert traces.chain(traces.named("chat mock")) == [
        "chat mock",
        "Predict",
        "rewrite",
        "invoke_workflow Program",
        "request",
    ]


def test_two_of_them_have_a_tree_each(traces: Traces, callback: OpenTelemetry) -> None:
    others = Traces()
    other = OpenTelemetry(tracer_provider=others.provider, content=True)

    class Program(dspex.Module):
        def __init__(self) -> None:
            self.answer = dspex.ChainOfThought("question -> answer")

        def forward(self, question: str) -> Any:
            return self.answer(question=question)

    with dspex.context(lm=dspex.MockLM([{"reasoning": "r", "answer": "a"}]), callbacks=[callback, other]):
        Program()(question="?")
    assert api.get_current_span() is api.INVALID_SPAN
    for one in (traces, others):
        assert one.chain(one.named("chat mock")) == ["chat mock", "ChainOfThought", "invoke_workflow Program"]
    assert traces.spans[0].context.trace_id != others.spans[0].context.trace_id


def test_threads_and_tasks_keep_their_parents(traces: Traces, callback: OpenTelemetry) -> None:
    class Raw(dspex.Module):
        def __init__(self) -> None:
            self.answer = dspex.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            thread = threading.Thread(target=self.answer, kwargs={"question": question})
            thread.start()
            thread.join()

    async def main() -> None:
        await asyncio.gather(*(Raw().acall(question="?") for _ in range(5)))

    with dspex.context(lm=dspex.MockLM(["a"], repeat=True), callbacks=[callback]):
        asyncio.run(main())
    chains = [traces.chain(span) for span in traces.spans if span.name == "chat mock"]
    assert chains == [["chat mock", "Predict", "invoke_workflow Raw"]] * 5
    assert len({span.context.trace_id for span in traces.spans}) == 5
    assert not callback._open


def test_a_stream_that_is_read_elsewhere(traces: Traces, callback: OpenTelemetry, caplog: Any) -> None:
    with dspex.context(callbacks=[callback]):
        stream = dspex.MockLM(["one two"]).stream(LMRequest.of("count"))
        next(stream)
    thread = threading.Thread(target=lambda: list(stream))
    thread.start()
    thread.join()
    assert traces.named("chat mock").attributes["gen_ai.usage.output_tokens"] > 0
    assert caplog.messages == []


def test_what_is_given_up_ends_quietly(traces: Traces, callback: OpenTelemetry, caplog: Any) -> None:
    release = threading.Event()

    def hang(country: str) -> Any:
        release.wait()

    devset = [dspex.Example(country="France", answer="Paris").with_inputs("country")]
    with dspex.context(callbacks=[callback]):
        dspex.Evaluate(devset, lambda example, prediction: 1.0, deadline=0.05, retries=0)(hang)
    assert traces.named("example").attributes["error.type"] == "DeadlineExceeded"
    release.set()
    assert caplog.messages == []
    assert not callback._open


def test_the_global_provider_is_the_default(monkeypatch: pytest.MonkeyPatch, traces: Traces) -> None:
    callback = OpenTelemetry()  # before there is one
    with dspex.context(callbacks=[callback]):
        dspex.MockLM(["a"])("?")
        monkeypatch.setattr(api, "_TRACER_PROVIDER", traces.provider)
        dspex.MockLM(["a"])("?")
    assert [span.name for span in traces.spans] == ["chat mock"]


def test_what_is_no_provider_is_refused() -> None:
    with pytest.raises(DefinitionError, match="must be a TracerProvider of OpenTelemetry, not 'otlp' \\(str\\)"):
        OpenTelemetry(tracer_provider="otlp")
