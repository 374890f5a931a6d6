"""One program on one example: run, retried when the world failed, scored by the metric.

What can happen, and what comes of it:

* The program answers: the metric scores the prediction.
* The program raises (its answer does not parse, its code fails on this input): its own wrong answer. The row
  is ``"ok"`` with the failure score, and says what was raised.
* The world fails (timeout, rate limit, unreachable model, deadline): retried as far as that can help, then
  the row is ``"failed"``, without scores. The same goes for a metric that asks a model.
* The budget is used up (`BudgetExceeded`), the metric is wrong (`MetricError`), the program cannot be meant
  (`DefinitionError`, `BindingError`) or a file is corrupt (`StorageError`): raised, since no other example
  would fare better.

The steps are written once, as a generator; one driver performs them blocking, one awaits them.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Literal, NamedTuple

from dspex.callbacks.observed import Observed
from dspex.callbacks.span import Span
from dspex.data import Evaluation, Example, Prediction, Usage
from dspex.data.plain import plain_data
from dspex.errors import (
    BindingError,
    BudgetExceeded,
    DataError,
    DeadlineExceeded,
    DefinitionError,
    DspexError,
    LMError,
    MetricError,
    StorageError,
    TrialPruned,
    is_infrastructure,
)
from dspex.evaluate.program import Program, as_program, check_inputs
from dspex.evaluate.scoring import PLAIN_SCORES, Metric, Scorer
from dspex.evaluate.steps import Await, Execute, Judge, Pause, Step, adrive, drive
from dspex.evaluate.terms import Terms
from dspex.execution import Budget, Deadline, Run, TraceEntry, stream_threads

__all__ = ["ExampleResult", "ExampleRun", "aevaluate_one", "evaluate_one"]

_RAISED = (BindingError, BudgetExceeded, DefinitionError, MetricError, StorageError, TrialPruned)


class ExampleResult(NamedTuple):
    """An `Evaluation` with what it came from.

    ``prediction`` is ``None`` when there is none, ``trace`` the list of `TraceEntry` of the last try,
    ``cause`` the error that ended it, if one did.
    """

    evaluation: Evaluation
    prediction: Any
    trace: list[TraceEntry]
    cause: Exception | None = None


class ExampleRun:
    """One program on one example, to be performed once, blocking (`perform`) or awaited (`aperform`).

    It raises what `evaluate_one` says; `usage` is what it took so far, also then. ``judge`` is the `Run` that
    the metric's own model calls count in, apart from the program's; ``within`` is the span around this one, if that
    is not the one that is open where it is performed.

    >>> def answer(question):
    ...     return Prediction(answer=question.upper())
    >>> def metric(example, prediction):
    ...     return prediction.answer == example.right
    >>> example = Example(question="a", right="A").with_inputs("question")
    >>> result = ExampleRun(as_program(answer), example, Scorer(metric), Terms()).perform()
    >>> result.prediction, result.evaluation.score
    (Prediction(answer='A'), 1.0)
    """

    __slots__ = (
        "_deadline",
        "_latency",
        "_observed",
        "_run",
        "_started",
        "_surrounding",
        "_usage",
        "example",
        "fingerprint",
        "judge",
        "program",
        "rollout",
        "scorer",
        "terms",
        "trial",
    )

    def __init__(
        self,
        program: Program,
        example: Example,
        scorer: Scorer,
        terms: Terms,
        *,
        rollout: int = 0,
        fingerprint: str = "",
        trial: int | None = None,
        judge: Run | None = None,
        within: Span | None = None,
    ) -> None:
        self.program = program
        self.example = example
        self.scorer = scorer
        self.terms = terms
        self.rollout = rollout
        self.fingerprint = fingerprint
        self.trial = trial
        self.judge = terms.new_run() if judge is None else judge
        self._deadline: Deadline | None = None
        self._latency: float | None = None
        self._observed: Observed | None = None
        self._usage: Usage | None = None
        self._run: Run | None = None
        self._started = 0.0
        self._surrounding = within

    def perform(self) -> ExampleResult:
        """Do it on this thread; the deadline ends it at its next model call, tool call or pause."""
        if self.terms.settings.callbacks:
            with self._observe() as span:
                return self._tell(span, drive(self._steps(blocking=True)))
        return drive(self._steps(blocking=True))

    def aperform(self) -> Awaitable[ExampleResult]:
        """Do it in the task that awaits this; the deadline cancels it wherever it awaits."""
        seconds = self.terms.deadline
        result = adrive(self._steps(blocking=False)) if seconds is None else self._within(seconds)
        return self._aobserved(result) if self.terms.settings.callbacks else result

    async def _aobserved(self, result: Awaitable[ExampleResult]) -> ExampleResult:
        with self._observe() as span:
            return self._tell(span, await result)

    def _observe(self) -> Observed:
        attributes = {"example": self.example.id, "rollout": self.rollout, "trial": self.trial}
        self._observed = observed = Observed(
            self.terms.settings.callbacks,
            "example",
            f"example {self.example.id}",
            inputs=dict(_inputs(self.example)),
            attributes=attributes,
            within=self._surrounding,
        )
        if self.judge.span is None:
            self.judge.span = observed.span
        return observed

    def _tell(self, span: Span, result: ExampleResult) -> ExampleResult:
        if span.ended is None:  # it may have been given up before it came back
            span.outputs = result.evaluation
            span.error = result.cause
        return result

    async def _within(self, seconds: float) -> ExampleResult:
        try:
            async with asyncio.timeout(seconds) as scope:
                return await adrive(self._steps(blocking=False))
        except TimeoutError:
            if not scope.expired():
                raise
        return self.abandon()

    def abandon(self) -> ExampleResult:
        """End it from outside, its deadline being over: what still runs stops at its next boundary."""
        self.cancel("its deadline is over")
        self._latency = time.time() - self._started
        result = self._failed(DeadlineExceeded(f"the deadline of {self.terms.deadline:g} s is over"))
        if self._observed is not None:
            self._tell(self._observed.span, result)
            self._observed.close()
        return result

    def cancel(self, reason: str) -> None:
        """Make it raise at its next boundary."""
        self.judge.cancel(reason)
        if self._run is not None:
            self._run.cancel(reason)

    @property
    def usage(self) -> Usage:
        """What the program's model calls took so far, over all tries."""
        if self._run is None:
            return Usage()
        return self._run.usage if self._usage is None else self._usage + self._run.usage

    def _steps(self, *, blocking: bool) -> Generator[Step, Any, ExampleResult]:
        self._started = time.time()
        terms = self.terms
        inputs = _inputs(self.example)
        if terms.deadline is not None:
            self.judge.deadline = self._deadline = Deadline(terms.deadline)
        tries = 0
        while True:
            run = self._next_run()
            began = time.perf_counter()
            try:
                prediction = yield Execute(self.program, inputs, run)
                self._latency = time.perf_counter() - began
                break
            except _RAISED:
                raise
            except Exception as error:
                self._latency = time.perf_counter() - began
                if not is_infrastructure(error):
                    return self._outcome("ok", terms.failure_scores(), "", None, error)
                pause = self._pause_before_retry(error, tries)
                if pause is None:
                    return self._failed(error)
            tries += 1
            yield Pause(pause, run)

        scorer = self.scorer
        tries = 0
        while True:
            try:
                # What blocks may ask a model, and wait for a place or for budget that other tasks of this loop have.
                if blocking or scorer.is_async:
                    value = scorer.call(self.example, prediction, run.trace, self.judge)
                else:
                    value = yield Judge(scorer, self.example, prediction, run.trace, self.judge)
                if type(value) not in PLAIN_SCORES and inspect.isawaitable(value):
                    value = yield Await(value, self.judge)
                break
            except (BudgetExceeded, MetricError, TrialPruned):
                raise
            except Exception as error:
                if not is_infrastructure(error):
                    raise scorer.raised(error, self.example) from error
                pause = self._pause_before_retry(error, tries)
                if pause is None:
                    return self._failed(error, prediction)
            tries += 1
            yield Pause(pause, self.judge)
        scores, feedback = scorer.read(value, self.example)
        return self._outcome("ok", scores, feedback, prediction)

    def _next_run(self) -> Run:
        if self._run is not None:
            self._usage = self.usage.copy()
        self._run = run = self.terms.new_run(self.rollout)
        run.deadline = self._deadline
        run.trial = self.trial
        run.example = self.example
        if self._observed is not None:
            run.span = self._observed.span
        return run

    def _pause_before_retry(self, error: Exception, tries: int) -> float | None:
        """Seconds to wait, or ``None`` when another try is not allowed or cannot help."""
        if tries >= self.terms.retries:
            return None
        if isinstance(error, DspexError) and not error.retryable:
            return None
        if isinstance(error, LMError) and error.replayed:
            return 0.0  # as often as it was tried then, but nobody has to be waited for
        # Doubling, and spread out so that examples that failed together do not come back together.
        pause: float = min(30.0, 0.5 * 2.0**tries) * random.uniform(0.5, 1.0)
        if isinstance(error, LMError) and error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if self._deadline is not None and pause >= self._deadline.remaining():
            return None
        return pause

    def _failed(self, error: Exception, prediction: Any = None) -> ExampleResult:
        return self._outcome("failed", {}, "", prediction, error)

    def _outcome(
        self,
        status: Literal["ok", "failed"],
        scores: dict[str, float],
        feedback: str,
        prediction: Any,
        error: Exception | None = None,
    ) -> ExampleResult:
        run = self._run
        usage = self.usage
        evaluation = Evaluation(
            example_id=self.example.id,
            status=status,
            scores=scores,
            feedback=feedback,
            error="" if error is None else f"{type(error).__name__}: {error}",
            rollout=self.rollout,
            latency=self._latency,
            # What is still running must not change a row that is written.
            usage=usage if error is None else usage.copy(),
            trial=self.trial,
            fingerprint=self.fingerprint,
            output=None if prediction is None else _plain_output(prediction),
            started=self._started,
        )
        return ExampleResult(evaluation, prediction, [] if run is None else run.trace, error)


_SCALARS = frozenset({str, int, float, bool, type(None)})


def _inputs(example: Example) -> Mapping[str, Any]:
    keys = example.input_keys
    if keys is None:
        return example.inputs()  # which explains what is wrong
    return {name: value for name, value in example.__dict__.items() if name in keys}


def _plain_output(prediction: Any) -> dict[str, Any]:
    if isinstance(prediction, Prediction):
        fields = prediction.__dict__
    else:
        fields = dict(prediction) if isinstance(prediction, Mapping) else {"output": prediction}
    return {name: value if type(value) in _SCALARS else _plain(value, name) for name, value in fields.items()}


def _plain(value: Any, name: str) -> Any:
    try:
        return plain_data(value, name=f"output {name!r}")
    except DataError:
        # A row is a record for people; an answer that has no plain form is no reason to lose it.
        return repr(value)


def evaluate_one(
    program: Program | Callable[..., Any],
    example: Example,
    metric: Metric | Scorer,
    *,
    deadline: float | None = None,
    retries: int = 2,
    budget: Budget | None = None,
    rollout: int = 0,
    seed: int | None = None,
    failure_score: float | Mapping[str, float] = 0.0,
    fingerprint: str = "",
    trial: int | None = None,
) -> Evaluation:
    """Run ``program`` on ``example``'s inputs and score the prediction; blocking.

    The arguments are those of `Terms`; ``rollout``, ``fingerprint`` and ``trial`` are written into the row.
    When ``deadline`` (seconds) is over, the run is cancelled and the row is there, whatever it was doing.

    Raises `BudgetExceeded`, `MetricError`, `DefinitionError`, `BindingError` and `StorageError`; every other
    error ends up in the row.

    >>> def answer(question):
    ...     return Prediction(answer=question.upper())
    >>> row = evaluate_one(answer, Example(question="a", right="A").with_inputs("question"),
    ...                    lambda example, prediction: prediction.answer == example.right)
    >>> row.status, row.scores, row.output
    ('ok', {'score': 1.0}, {'answer': 'A'})
    """
    terms = Terms(deadline=deadline, retries=retries, budget=budget, seed=seed, failure_score=failure_score)
    program = as_program(program)
    check_inputs(program, [example])
    run = ExampleRun(
        program,
        example,
        Scorer.of(metric),
        terms,
        rollout=rollout,
        fingerprint=fingerprint,
        trial=trial,
    )
    if deadline is None:
        return run.perform().evaluation
    # On a thread of its own, which is left to itself if it has not ended by then.
    for outcome in stream_threads(
        ExampleRun.perform, [run], concurrency=1, deadline=deadline, cancel=ExampleRun.cancel
    ):
        if not isinstance(outcome.error, DeadlineExceeded):
            return outcome.result().evaluation
    return run.abandon().evaluation


async def aevaluate_one(
    program: Program | Callable[..., Any],
    example: Example,
    metric: Metric | Scorer,
    *,
    deadline: float | None = None,
    retries: int = 2,
    budget: Budget | None = None,
    rollout: int = 0,
    seed: int | None = None,
    failure_score: float | Mapping[str, float] = 0.0,
    fingerprint: str = "",
    trial: int | None = None,
) -> Evaluation:
    """The async side of `evaluate_one`; ``deadline`` cancels the program wherever it awaits."""
    terms = Terms(deadline=deadline, retries=retries, budget=budget, seed=seed, failure_score=failure_score)
    program = as_program(program)
    check_inputs(program, [example])
    run = ExampleRun(
        program,
        example,
        Scorer.of(metric),
        terms,
        rollout=rollout,
        fingerprint=fingerprint,
        trial=trial,
    )
    return (await run.aperform()).evaluation
