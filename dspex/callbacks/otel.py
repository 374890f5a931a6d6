"""`OpenTelemetry`: spans as traces, named by the semantic conventions for generative AI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.callbacks.callback import Callback
from dspex.callbacks.span import Span
from dspex.errors import DefinitionError, TrialPruned

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OTelSpan, TracerProvider

__all__ = ["OpenTelemetry"]

# The conventions' names for litellm's providers, where they differ.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_IN_PROCESS = ("local", "mock")

_PARAMS = {
    "frequency_penalty": float,
    "max_tokens": int,
    "presence_penalty": float,
    "seed": int,
    "temperature": float,
    "top_k": float,
    "top_p": float,
}

_here: ContextVar[_Here | None] = ContextVar("dspex_otel_span", default=None)
"""What was made current last in this thread or task, by any of these callbacks."""


class OpenTelemetry(Callback):
    """Writes each `Span` to OpenTelemetry, with its own times and under its own parent.

    A program's outermost module is ``invoke_workflow {class}``, a model's call ``chat {model}`` (or
    ``text_completion``), a tool's ``execute_tool {name}``, each with the attributes ``gen_ai.*`` that the conventions
    have for it; the others have their kind and name. What is dspex's own is under ``dspex.*``: path, trial, example,
    retries, whether an answer was cached, its cost in US dollars. A call's tokens are those that its own model
    billed; a fallback's are in the span of the fallback, which is inside of it.

    Spans that have no parent here belong to the OpenTelemetry span that is open where the program is called, and what
    a program's own code opens (a database's span, say) belongs to the module or tool that it runs in.

    What users and models write is not recorded, neither are the messages of errors, which may quote it, unless
    ``content`` is set: then messages, tools' arguments and results, and exceptions are. Secrets never are; of a call's
    parameters only those of sampling.

    Args:
        tracer_provider: where spans go; None is OpenTelemetry's global provider, as it is when the first span starts.
        content: whether to record what was written.

    Raises:
        DefinitionError: opentelemetry is not installed (``pip install 'dspex[otel]'``), or ``tracer_provider`` is none.

    Source: OpenTelemetry semantic conventions for generative AI (status: development), spans of models and agents.
    """

    def __init__(self, *, tracer_provider: TracerProvider | None = None, content: bool = False) -> None:
        try:
            from opentelemetry import context, trace
        except ImportError:
            raise DefinitionError(
                "dspex.callbacks.OpenTelemetry needs opentelemetry; write pip install 'dspex[otel]'"
            ) from None
        if tracer_provider is not None and not hasattr(tracer_provider, "get_tracer"):
            raise DefinitionError(
                f"tracer_provider must be a TracerProvider of OpenTelemetry, not {tracer_provider!r} "
                f"({type(tracer_provider).__name__}); write tracer_provider=opentelemetry.sdk.trace.TracerProvider()"
            )
        self.content = content
        self._context = context
        self._trace = trace
        # The global one is a proxy, whose tracers turn real when a provider is set.
        self._tracer = trace.get_tracer("dspex", tracer_provider=tracer_provider)
        self._open: dict[int, _Open] = {}

    def on_start(self, span: Span) -> None:
        """Start a span under that of the nearest ancestor which has one here, or under what is current."""
        around = next((one for one in span.ancestors if one.id in self._open), None)
        here, parent = _here.get(), None
        # Where the span around is current, that is the parent, or what the user's code has opened inside of it.
        if around is not None and (here is None or here.span is not around or here.owner is not self):
            if opened := self._open.get(around.id):
                parent = self._trace.set_span_in_context(opened.otel)
        elif around is None:
            # What another one of these has opened for this very span is not around it.
            while here is not None and here.span is span:
                parent = here.context
                here = here.before
        name, attributes = _described(span)
        remote = span.kind == "lm" and span.name.partition("/")[0] not in _IN_PROCESS
        otel = self._tracer.start_span(
            name,
            context=parent,
            kind=self._trace.SpanKind.CLIENT if remote else self._trace.SpanKind.INTERNAL,
            attributes=attributes,
            start_time=int(span.started * 1e9),
        )
        opened = self._open[span.id] = _Open(otel)
        if span.kind != "lm":  # a stream's is left and entered again
            opened.here = _here.set(_Here(span, self, _here.get(), self._context.get_current()))
            opened.token = self._context.attach(self._trace.set_span_in_context(otel))

    def on_end(self, span: Span) -> None:
        """End its span, with what came of it."""
        opened = self._open.pop(span.id, None)
        if opened is None:
            return
        self._detach(opened)
        otel = opened.otel
        try:
            if otel.is_recording():
                otel.set_attributes(_results(span))
                if self.content:
                    otel.set_attributes(_content(span))
                if span.error is not None and not isinstance(span.error, TrialPruned):
                    otel.set_attribute("error.type", _type(span.error))
                    otel.set_status(self._trace.StatusCode.ERROR, str(span.error) if self.content else None)
                    if self.content:
                        otel.record_exception(span.error, timestamp=_nanoseconds(span))
        finally:
            otel.end(end_time=_nanoseconds(span))

    def on_error(self, span: Span) -> None:
        """End its span as failed."""
        self.on_end(span)

    def _detach(self, opened: _Open) -> None:
        if opened.here is not None:
            try:
                _here.reset(opened.here)
            except ValueError:
                return  # given up from elsewhere: what was attached went with the thread or task it was attached in
            self._context.detach(opened.token)


class _Here(NamedTuple):
    """A span that ``owner`` has made current, and what was before."""

    span: Span
    owner: OpenTelemetry
    before: _Here | None
    context: Any


class _Open:
    """A span that has been started, and how to leave its context."""

    __slots__ = ("here", "otel", "token")

    token: Any

    def __init__(self, otel: OTelSpan) -> None:
        self.otel = otel
        self.here: Token[_Here | None] | None = None


def _nanoseconds(span: Span) -> int:
    return int((span.started if span.ended is None else span.ended) * 1e9)


def _described(span: Span) -> tuple[str, dict[str, Any]]:
    """The name, and the attributes that samplers may decide by."""
    found: dict[str, Any] = {"dspex.kind": span.kind}
    if span.path:
        found["dspex.path"] = span.path
    for name in ("trial", "example", "rollout", "study", "examples"):
        if (value := span.attributes.get(name)) is not None:
            found[f"dspex.{name}"] = value
    if span.kind == "lm":
        provider, _, model = span.name.partition("/")
        if not model:
            provider, model = "_OTHER", provider
        operation = "text_completion" if span.attributes["interface"] == "text" else "chat"
        found["gen_ai.operation.name"] = operation
        found["gen_ai.provider.name"] = _PROVIDERS.get(provider, provider)
        found["gen_ai.request.model"] = model
        return f"{operation} {model}", found
    if span.kind == "tool":
        found |= {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": span.name,
            "gen_ai.tool.type": "function",
        }
        return f"execute_tool {span.name}", found
    if span.kind == "module":
        found["dspex.module"] = span.name
        if not any(one.kind == "module" for one in span.ancestors):
            found |= {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": span.name}
            return f"invoke_workflow {span.name}", found
    # Names group spans, so what tells one trial or example from the next is not part of them.
    return (span.kind if span.kind in ("trial", "example") else span.name), found


def _results(span: Span) -> dict[str, Any]:
    if span.kind == "example" and span.outputs is not None and span.outputs.scores:
        return {"dspex.score": span.outputs.score}
    if span.kind != "lm":
        return {}
    # An answer from a cache took no tokens, and a call that failed none that are known, unless there was an answer.
    attributes, request, response = span.attributes, span.inputs, span.outputs
    found: dict[str, Any] = {"dspex.retries": attributes["retries"], "dspex.cached": attributes["cached"]}
    if attributes["cost"] is not None:
        found["dspex.cost"] = attributes["cost"]
    params = attributes["params"]
    for name, kind in _PARAMS.items():
        value = params.get(name, params.get("max_completion_tokens") if name == "max_tokens" else None)
        if isinstance(value, int | float):
            found[f"gen_ai.request.{name}"] = kind(value)
    if stop := params.get("stop"):
        found["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if params.get("n", 1) != 1:
        found["gen_ai.request.choice.count"] = params["n"]
    if request.schema is not None:
        found["gen_ai.output.type"] = "json"
    usage = attributes["usage"]
    if usage.calls or usage.total_tokens:
        found["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        found["gen_ai.usage.output_tokens"] = usage.completion_tokens
        if usage.cache_read_tokens:
            found["gen_ai.usage.cache_read.input_tokens"] = usage.cache_read_tokens
        if usage.cache_write_tokens:
            found["gen_ai.usage.cache_creation.input_tokens"] = usage.cache_write_tokens
    if response is not None:
        found["gen_ai.response.model"] = response.model.partition("/")[2] or response.model
        if reasons := [one.finish_reason for one in response.completions if one.finish_reason]:
            found["gen_ai.response.finish_reasons"] = reasons
    return found


def _content(span: Span) -> dict[str, Any]:
    if span.kind == "lm":
        found = {"gen_ai.input.messages": _json([_message(one) for one in span.inputs.messages])}
        if span.outputs is not None:
            found["gen_ai.output.messages"] = _json([_answer(one) for one in span.outputs.completions])
        return found
    if span.kind == "tool":
        found = {"gen_ai.tool.call.arguments": _json(span.inputs)}
        if span.error is None:
            found["gen_ai.tool.call.result"] = _json(span.outputs)
        return found
    return {}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if message["role"] == "tool":
        parts = [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}]
    elif isinstance(content, str):
        parts = [{"type": "text", "content": content}]
    else:
        # Of images, sound and files the kind alone: they may be of any size.
        parts = [
            {"type": "text", "content": one["text"]} if one["type"] == "text" else {"type": one["type"]}
            for one in content or ()
        ]
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        parts.append(_call(call.get("id"), function["name"], function.get("arguments")))
    return {"role": message["role"], "parts": parts}


def _answer(completion: Any) -> dict[str, Any]:
    parts = []
    if completion.reasoning:
        parts.append({"type": "reasoning", "content": completion.reasoning})
    if completion.text:
        parts.append({"type": "text", "content": completion.text})
    parts += [_call(call["id"], call["name"], call["arguments"]) for call in completion.tool_calls]
    return {"role": "assistant", "parts": parts, "finish_reason": completion.finish_reason or ""}


def _call(id: Any, name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": id, "name": name, "arguments": arguments}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)


def _type(error: BaseException) -> str:
    kind = type(error)
    own = kind.__module__ == "builtins" or kind.__module__.partition(".")[0] == "dspex"
    return kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}"
