"""What a callback may be, and that it cannot break what it watches."""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any

import attrs
import pytest

import dspex
from dspex.callbacks import Callback, Span, current_span
from dspex.callbacks.observed import Observed
from dspex.errors import DefinitionError
from tests.callbacks.recorder import Recorder


def ask(*callbacks: Callback) -> Any:
    with dspex.context(lm=dspex.MockLM(["Paris"]), callbacks=callbacks):
        return dspex.Predict("question -> answer")(question="Capital of France?").answer


def test_methods_of_a_kind_hear_that_kind_alone() -> None:
    heard: list[str] = []

    class Ears(Callback):
        def on_lm_start(self, span: Span) -> None:
            heard.append(f"start of {span.name}")

        def on_lm_end(self, span: Span) -> None:
            heard.append(f"end of {span.name}")

        def on_module_end(self, span: Span) -> None:
            heard.append(f"{span.name}: {span.outputs.answer}")

    assert ask(Ears()) == "Paris"
    assert heard == ["start of mock/mock", "end of mock/mock", "Predict: Paris"]


def test_who_writes_on_start_may_pass_it_on() -> None:
    heard: list[str] = []

    class Ears(Callback):
        def on_start(self, span: Span) -> None:
            heard.append(span.kind)
            super().on_start(span)

        def on_adapter_start(self, span: Span) -> None:
            heard.append(span.name)

    ask(Ears())
    assert heard == ["module", "adapter", "ChatAdapter.request", "lm", "adapter", "ChatAdapter.read"]


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("on_modul_start", lambda self, span: None, "did you mean on_module_start?"),
        ("on_adapter_format_start", lambda self, span: None, "did you mean on_adapter_start?"),
        ("on_evaluate_end", lambda self, span: None, "did you mean on_evaluation_end?"),
        ("on_chunk_end", lambda self, span: None, "the kinds of spans are optimizer, trial, evaluation"),
        ("on_module_start", lambda self, call_id, instance, inputs: None, "is called with a span alone"),
        ("on_end", lambda self: None, "right:  def on_end(self, span): ..."),
    ],
)
def test_a_method_that_would_never_work_is_refused(name: str, method: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        type("Wrong", (Callback,), {name: method})
    assert f"Wrong.{name}" in str(caught.value)
    assert message in str(caught.value)


def test_an_async_method_is_refused() -> None:
    async def on_lm_end(self: Any, span: Span) -> None: ...

    with pytest.raises(DefinitionError, match="async, and nobody would await it"):
        type("Wrong", (Callback,), {"on_lm_end": on_lm_end})


def test_other_methods_are_nobodys_business() -> None:
    class Fine(Callback):
        on_start_up = 3

        def on_click(self, a: int, b: int) -> None: ...

        @staticmethod
        def on_lm_start(span: Span) -> None: ...

        on_tool_end = functools.partialmethod(lambda self, mark, span: None, "x")

    assert ask(Fine()) == "Paris"


class Broken(Callback):
    def on_start(self, span: Span) -> None:
        raise RuntimeError("no disk")

    def on_end(self, span: Span) -> None:
        raise ValueError("no disk either")

    def __repr__(self) -> str:
        raise AssertionError("nobody needs it")


def test_what_a_callback_raises_is_logged_once_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    after = Recorder()
    callback = Broken()
    with caplog.at_level(logging.DEBUG, "dspex.callbacks"):
        assert ask(callback, after) == "Paris"
        assert ask(callback, after) == "Paris"
    after.check()
    assert len(after.spans) == 8
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "Broken.on_start raised RuntimeError" in caplog.messages[0]
    assert "Broken.on_end raised ValueError" in caplog.messages[1]
    assert caplog.records[0].exc_info is not None
    assert current_span() is None


def test_one_that_empties_a_span_breaks_nothing() -> None:
    class Tidy(Callback):
        def on_start(self, span: Span) -> None:
            span.inputs = None
            span.attributes.clear()

    assert ask(Tidy()) == "Paris"


def test_one_that_takes_the_attributes_away_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Thief(Callback):
        def on_start(self, span: Span) -> None:
            span.attributes = None  # type: ignore[assignment, misc]  # on purpose

    assert ask(Thief()) == "Paris"
    assert len(caplog.records) == 1


def test_another_instance_has_its_own_word(caplog: pytest.LogCaptureFixture) -> None:
    ask(Broken(), Broken())
    assert len(caplog.records) == 4


def test_one_that_is_frozen_may_fail_too(caplog: pytest.LogCaptureFixture) -> None:
    @attrs.frozen(slots=False)
    class Frozen(Callback):
        name: str

        def on_start(self, span: Span) -> None:
            raise RuntimeError(self.name)

    assert ask(Frozen("x")) == "Paris"
    assert len(caplog.records) == 1


def test_threads_that_fail_at_once_log_once(caplog: pytest.LogCaptureFixture) -> None:
    callback = Broken()
    ready = threading.Barrier(8)

    def work() -> None:
        ready.wait()
        with Observed((callback,), "tool", "x"):
            pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caplog.records) == 2


def test_an_interruption_within_a_callback_passes_and_closes_what_was_open() -> None:
    class Interrupted(Callback):
        def on_lm_start(self, span: Span) -> None:
            raise KeyboardInterrupt

    before = Recorder()
    with pytest.raises(KeyboardInterrupt):
        ask(before, Interrupted())
    before.check()
    assert {span.name for span in before.spans if isinstance(span.error, KeyboardInterrupt)} == {"Predict", "mock/mock"}
    assert current_span() is None


def test_ends_come_in_reverse() -> None:
    heard: list[str] = []

    class Named(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_lm_start(self, span: Span) -> None:
            heard.append(f"{self.name} starts")

        def on_lm_end(self, span: Span) -> None:
            heard.append(f"{self.name} ends")

    ask(Named("a"), Named("b"))
    assert heard == ["a starts", "b starts", "b ends", "a ends"]


def test_a_span_says_what_it_is_and_nothing_of_what_was_said() -> None:
    recorder = Recorder()
    ask(recorder)
    module, *_ = recorder.spans
    assert repr(module).startswith(f"<Span {module.id}: module Predict, ")
    assert "Paris" not in repr(module)
    assert repr(Span("lm", "openai/x", path="answer")).endswith(": lm openai/x at answer, open>")


def test_a_failed_span_closes_once() -> None:
    recorder = Recorder()
    observed = Observed((recorder,), "tool", "slow")
    with observed as span:
        observed.close(TimeoutError("given up"))
        span.outputs = 3
    assert [what for what, _, _ in recorder.events] == ["start", "error"]
    assert isinstance(span.error, TimeoutError)
