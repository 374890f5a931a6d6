"""The examples of several evaluations, as many at once as if they were one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from dspex.evaluate.collector import Collector
from dspex.evaluate.one import ExampleResult, ExampleRun
from dspex.evaluate.program import at_once, prepare
from dspex.execution import Crew, Outcome, in_thread, run_blocking, stream_async, stream_threads

__all__ = ["Batch"]

_MOST_THREADS = 512
"""Threads, at most, for a program that blocks and a model that would have all calls at once."""

Work = tuple[Collector, ExampleRun]


class Batch:
    """Runs what some collectors hand out, those of the first one first, ``concurrency`` at once over all of them.

    They are as tasks if all their programs can, else on threads. Whatever stops one of them stops all; what each has
    finished by then, and what it took, is its own. They are on the same terms.
    """

    def __init__(self, collectors: Sequence[Collector], *, concurrency: int) -> None:
        self._collectors = collectors
        self._concurrency = concurrency
        self._terms = collectors[0].terms
        self._planned = sum(collector.planned for collector in collectors)
        self._cancelled = threading.Event()

    def prepare(self) -> None:
        """Load what the first runs would load; raises `DefinitionError` for a program that cannot be meant."""
        for collector in self._collectors:
            prepare(collector.program, self._terms.settings)

    def run(self) -> None:
        """Do it all; blocking. Ctrl-C cancels what is in flight, and the collectors say then that they were stopped.

        Raises what `Collector.finish` and `Collector.fail` raise.
        """
        try:
            if self._natively_async():
                run_blocking(self._tasks())
            else:
                self._threads()
        except KeyboardInterrupt:
            for collector in self._collectors:
                collector.cancel("interrupted")
        finally:
            self._end()

    async def arun(self) -> None:
        """The async side of `run`; cancelling it cancels what is in flight."""
        try:
            if self._natively_async():
                await self._tasks()
            else:
                await in_thread(self._threads, stop=self._cancelled.set)
        finally:
            self._end()

    def _end(self) -> None:
        self._cancelled.set()
        for collector in self._collectors:
            collector.report_rest()

    def _natively_async(self) -> bool:
        return all(collector.program.natively_async for collector in self._collectors)

    def _places(self, most: float) -> int:
        """How many examples run at once: more than ``concurrency`` where a model answers all at once, or not at all."""
        wanted = max(at_once(collector.program, self._terms.settings) for collector in self._collectors)
        return int(min(max(self._concurrency, min(wanted, most)), self._planned))

    def _work(self) -> Iterator[Work]:
        for collector in self._collectors:
            for run in collector.work():
                yield collector, run

    def _finish(self, collector: Collector, run: ExampleRun, result: ExampleResult) -> None:
        try:
            collector.finish(run, result)
        except BaseException:
            self._stop(collector.stopped)
            raise

    def _fail(self, collector: Collector, run: ExampleRun, error: BaseException) -> None:
        try:
            collector.fail(run, error)
        finally:
            self._stop(collector.stopped)

    def _stop(self, reason: str) -> None:
        """No more is handed out by any, if one was stopped."""
        for collector in self._collectors:
            collector.stopped = collector.stopped or reason

    async def _tasks(self) -> None:
        work = self._work()
        places = self._places(self._planned)
        crew = Crew(places, self._planned)

        async def worker(_: int) -> None:
            # A task for each worker rather than each example: starting one costs as much as all else here.
            for collector, run in work:
                try:
                    with crew.member():
                        result = await run.aperform()
                except Exception as error:
                    self._fail(collector, run, error)
                else:
                    self._finish(collector, run, result)

        workers = range(places)
        with self._entered():
            async for _ in stream_async(
                worker,
                workers,
                concurrency=len(workers),
                on_result=Outcome.result,  # raises what the worker raised, and so ends all
                cancel_event=self._cancelled,
            ):
                pass

    def _threads(self) -> None:
        places = self._places(_MOST_THREADS)
        crew = Crew(places, self._planned)

        def perform(work: Work) -> ExampleResult:
            with crew.member():
                return work[1].perform()

        def cancel(work: Work, reason: str) -> None:
            work[1].cancel(reason)

        def keep(outcome: Outcome[Work, ExampleResult]) -> None:
            if outcome.error is not None:
                self._fail(*outcome.item, outcome.error)
            else:
                self._finish(*outcome.item, outcome.result())

        with self._entered():
            for _ in stream_threads(
                perform,
                self._work(),
                concurrency=places,
                deadline=self._terms.deadline,
                cancel=cancel,
                on_result=keep,
                cancel_event=self._cancelled,
            ):
                pass

    def _entered(self) -> ExitStack:
        with ExitStack() as stack:
            for collector in self._collectors:
                stack.enter_context(collector)
            return stack.pop_all()
