"""What is known while an evaluation goes on: the work left, the rows so far, and reasons to stop."""

from __future__ import annotations

import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import attrs

from dspex.callbacks.observed import Observed
from dspex.callbacks.span import Span
from dspex.data import Evaluation, Example, Usage
from dspex.errors import BudgetExceeded, DeadlineExceeded, DspexError, MetricError, is_infrastructure
from dspex.evaluate.one import ExampleResult, ExampleRun
from dspex.evaluate.program import Program
from dspex.evaluate.progress import Progress, Tally
from dspex.evaluate.result import EvaluationResult
from dspex.evaluate.scoring import Scorer
from dspex.evaluate.terms import Terms

__all__ = ["Collector"]

# When the first so many rows all failed for a reason that no retry mends, such as a missing key, so will the
# rest.
_HOPELESS = 5


class Collector:
    """Hands out the work of one evaluation and keeps what comes back; threads may share it."""

    def __init__(
        self,
        program: Program,
        devset: Sequence[Example],
        scorer: Scorer,
        terms: Terms,
        *,
        rollouts: int,
        fingerprint: str,
        trial: int | None,
        on_result: Callable[[Evaluation], object] | None,
        on_usage: Callable[[Usage], object] | None,
        progress: Progress,
    ) -> None:
        self.program = program
        self.terms = terms
        self.planned = len(devset) * rollouts
        self.stopped = ""
        self._devset = devset
        self._scorer = scorer
        self._rollouts = rollouts
        self._on_result = on_result
        self._on_usage = on_usage
        self._reported = Usage()  # of the metric's
        self._progress = progress
        self._fingerprint = fingerprint
        self._trial = trial
        self._lock = threading.Lock()
        self._in_flight: dict[ExampleRun, int] = {}
        # What is finished, as three lists: tuples of one each would be one more thing per row for the garbage
        # collector to go through, which with many examples at once is a good part of all time spent.
        self._indices: list[int] = []
        self._rows: list[Evaluation] = []
        self._predictions: list[Any] = []
        self._tally = Tally()
        # Where the metric's calls count; with a deadline, each example has a run of its own that can end.
        self.judge = terms.new_run()
        self.judge.trace = _Forgetful()
        self._unfinished_usage = Usage()
        self._names: tuple[str, ...] = ()
        self._hopeless = 0
        self._span: Span | None = None
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)
        if kind is not None:
            interrupted = issubclass(kind, KeyboardInterrupt | CancelledError)
            self.cancel("interrupted" if interrupted else "an error")

    def observed(self, within: Span | None = None) -> Observed:
        """The span of this evaluation, which those of its examples are in.

        With ``within``, the span that it is in itself, it may be open beside those of other evaluations.
        """
        observed = Observed(
            self.terms.settings.callbacks,
            "evaluation",
            "Evaluate",
            inputs={"program": self.program, "devset": self._devset},
            attributes={"examples": self.planned, "trial": self._trial},
            within=within,
            detached=within is not None,
        )
        self._span = self.judge.span = observed.span
        return observed

    def work(self) -> Iterator[ExampleRun]:
        """All examples once, then all again for the next rollout; ends early once it is stopped."""
        for rollout in range(self._rollouts):
            for index, example in enumerate(self._devset):
                if self.stopped:
                    return
                run = ExampleRun(
                    self.program,
                    example,
                    self._scorer,
                    self.terms,
                    rollout=rollout,
                    fingerprint=self._fingerprint,
                    trial=self._trial,
                    judge=self.judge if self.terms.deadline is None else None,
                    within=self._span,
                )
                self._in_flight[run] = index
                yield run

    def finish(self, run: ExampleRun, result: ExampleResult) -> None:
        """Keep what came of ``run``.

        Raises `MetricError` when the metric changed its objectives, the cause when all that was tried so far
        failed beyond repair, and what the caller's ``on_result`` raises.
        """
        try:
            with self._lock:
                self._keep(run, result)
        except BaseException:
            self.stopped = "an error"  # no other worker starts more until the error has got through
            raise

    def fail(self, run: ExampleRun, error: BaseException) -> None:
        """Take note that ``run`` raised; raises its error unless it is only a reason to stop."""
        if isinstance(error, DeadlineExceeded) and self.terms.deadline is not None:
            self.finish(run, run.abandon())
        elif isinstance(error, BudgetExceeded):
            with self._lock:
                del self._in_flight[run]
                self._unfinished_usage.add(run.usage)
                self._close_judge(run)
                # The first message names the limit; later ones only repeat it.
                self.stopped = self.stopped or f"BudgetExceeded: {error}"
        else:
            self.stopped = "an error"
            raise error

    def cancel(self, reason: str) -> None:
        """End what is in flight at its next boundary, and hand out no more."""
        self.stopped = self.stopped or reason
        self.judge.cancel(reason)
        for run in list(self._in_flight):
            run.cancel(reason)

    def report_rest(self) -> None:
        """Tell ``on_usage`` what no row will: all that was not finished, and the rest of the metric's calls."""
        with self._lock:
            rest = self._unfinished_usage.copy()
            for run in list(self._in_flight):
                rest.add(run.usage)
                if run.judge is not self.judge:
                    rest.add(run.judge.usage)
            self._report(rest)

    def result(self, confidence: float = 0.95) -> EvaluationResult:
        """The result of what is finished."""
        with self._lock:
            indices, rows, predictions = self._indices, self._rows, self._predictions
            order = sorted(range(len(rows)), key=lambda at: (indices[at], rows[at].rollout))
            usage = self._tally.usage + self._unfinished_usage
            for run in list(self._in_flight):
                usage.add(run.usage)
        return EvaluationResult(
            rows=tuple(self._filled(rows[at]) for at in order),
            examples=tuple(self._devset[indices[at]] for at in order),
            predictions=tuple(predictions[at] for at in order),
            planned=self.planned,
            metric=self._scorer.name,
            stopped=self.stopped,
            seconds=time.perf_counter() - self._began,
            usage=usage,
            metric_usage=self.judge.usage.copy(),
            confidence=confidence,
        )

    def _keep(self, run: ExampleRun, result: ExampleResult) -> None:
        row = result.evaluation
        if result.cause is None and (*row.scores,) != self._names:
            self._check_names(row, run.example)
        index = self._in_flight.pop(run)
        self._close_judge(run)
        self._report(Usage())
        if self._on_result is not None:
            self._on_result(row)
        self._indices.append(index)
        self._rows.append(row)
        self._predictions.append(result.prediction)
        self._tally.add(row)
        if result.cause is not None:
            self._check_hope(result.cause)
        self._progress.advance(self._tally)

    def _report(self, more: Usage) -> None:
        if self._on_usage is not None:
            judged = self.judge.usage.copy()
            more.add(judged.beyond(self._reported))
            self._reported = judged
            self._on_usage(more)

    def _close_judge(self, run: ExampleRun) -> None:
        if run.judge is not self.judge and run.judge.usage:
            self.judge.account(run.judge.usage)

    def _check_names(self, row: Evaluation, example: Example) -> None:
        names = tuple(row.scores)
        if not self._names:
            self._names = names
        elif set(names) != set(self._names):
            raise MetricError(
                f"metric {self._scorer.name!r} returned the objectives {_listed(names)} for example "
                f"{example.id}, but {_listed(self._names)} before; return the same ones for every example, "
                f"or their means would be of different examples"
            )

    def _check_hope(self, cause: Exception) -> None:
        if isinstance(cause, DspexError) and is_infrastructure(cause) and not cause.retryable:
            self._hopeless += 1
            if self._hopeless == len(self._rows) == min(_HOPELESS, self.planned):
                raise cause

    def _filled(self, row: Evaluation) -> Evaluation:
        # The program raised before the metric could say which objectives there are.
        if not (row.ok and row.error) or isinstance(self.terms.failure_score, Mapping):
            return row
        return attrs.evolve(row, scores=dict.fromkeys(self._names or ("score",), row.scores["score"]))


class _Forgetful(list[Any]):
    """The trace of the metric's calls: nobody reads it, and it would keep every one of them alive."""

    def append(self, entry: Any) -> None:
        return None


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names))
