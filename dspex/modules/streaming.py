"""A program's run as a stream of events, blocking and async."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from dspex.callbacks import Callback
from dspex.errors import DataError, DefinitionError
from dspex.execution import Activation, Run, active_run, current, produce_in_task, produce_on_thread
from dspex.modules.events import Status, StreamEvent
from dspex.modules.listening import Audience, Sink
from dspex.modules.render import RenderRun
from dspex.variables.messages import shown

if TYPE_CHECKING:
    from dspex.callbacks import Span
    from dspex.modules.module import Module

__all__ = ["Streaming"]

_KINDS = frozenset({"module", "tool", "lm"})


class Streaming:
    """One run of ``program``, to be streamed; `dspex.Module.stream` says what the options are."""

    def __init__(
        self,
        program: Module,
        given: Any,
        named: Mapping[str, Any],
        *,
        listen: Any,
        fields: Any,
        status: Any,
        run: Run | None,
    ) -> None:
        self._program = program
        self._inputs = _inputs(given, named)
        if not isinstance(status, bool):
            raise DefinitionError(
                f"status of stream is True or False, not {shown(status)}.\n"
                '  right:  program.stream({"status": ...})  # when `status` is an input of the program'
            )
        if run is not None and not isinstance(run, Run):
            raise DefinitionError(
                f"run of stream is a dspex.execution.Run, not {shown(run)}.\n"
                '  right:  program.stream({"run": ...})  # when `run` is an input of the program'
            )
        self._audience = Audience(program, listen, fields)
        self._status = status
        # What it was given or what is going on already: it is a part of that, which can be left, and has its own sink.
        self._around = run or program._run or active_run()
        self._settings = current()
        self._started: Run | None = None
        self._stopped = False

    def events(self) -> Generator[StreamEvent, None, None]:
        """The events, blocking."""
        return produce_on_thread(self._perform, stop=self._stop)

    def aevents(self) -> AsyncGenerator[StreamEvent, None]:
        """The events, awaiting."""
        return produce_in_task(self._aperform, stop=self._stop)

    def _perform(self, put: Callable[[StreamEvent], None]) -> None:
        with self._opened(put) as (program, run, sink):
            if program._run is None:
                result = program.execute(self._inputs, run=run)
            else:
                with Activation(run):
                    result = program(**self._inputs)
            sink.finish(result)

    async def _aperform(self, put: Callable[[StreamEvent], None]) -> None:
        with self._opened(put) as (program, run, sink):
            if program._run is None:
                result = await program.aexecute(self._inputs, run=run)
            else:
                with Activation(run):
                    result = await program.acall(**self._inputs)
            sink.finish(result)

    @contextmanager
    def _opened(self, put: Callable[[StreamEvent], None]) -> Iterator[tuple[Module, Run, Sink]]:
        """The program to call, the run to call it within, and its sink."""
        around = self._around
        if isinstance(around, RenderRun):
            yield self._program, around, Sink(put, self._audience)
            return
        part = nullcontext(Run(settings=self._settings)) if around is None else around.branch()
        with part as run, self._listening(run, put) as sink:
            yield self._program if self._program._run is None else self._program._moved_to(run), run, sink

    @contextmanager
    def _listening(self, run: Run, put: Callable[[StreamEvent], None]) -> Iterator[Sink]:
        before = run.sink, run.observers
        sink = run.sink = Sink(put, self._audience, run.sink)
        if self._status:
            run.observers = (*run.observers, _Statuses(sink))
        self._started = run
        if self._stopped:
            self._stop()
        try:
            yield sink
        finally:
            sink.close()
            run.sink, run.observers = before

    def _stop(self) -> None:
        self._stopped = True
        if self._started is not None:
            self._started.cancel("its stream was closed")


class _Statuses(Callback):
    """Spans as events."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def on_start(self, span: Span) -> None:
        self._tell(span, "start", span.inputs)

    def on_end(self, span: Span) -> None:
        self._tell(span, "end", span.outputs)

    def on_error(self, span: Span) -> None:
        self._tell(span, "error", span.error)

    def _tell(self, span: Span, state: Any, detail: Any) -> None:
        if span.kind in _KINDS:
            self._sink.tell(Status(span.kind, span.path, span.name, state, detail))  # type: ignore[arg-type]  # as asked


def _inputs(given: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    if given is None:
        return dict(named)
    if not isinstance(given, Mapping):
        raise DataError(
            f"the inputs of stream have names, got {shown(given)}.\n"
            "  right:  program.stream(question=...)\n"
            '  right:  program.stream({"question": ...})'
        )
    return {**given, **named}
