"""`Evaluate`: a program on many examples, with a bounded number at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dspex.data import Evaluation, Example, Usage, require_examples
from dspex.errors import DefinitionError
from dspex.evaluate.batch import Batch
from dspex.evaluate.collector import Collector
from dspex.evaluate.program import Program, as_program, check_inputs
from dspex.evaluate.progress import progress_for
from dspex.evaluate.result import EvaluationResult
from dspex.evaluate.scoring import Metric, Scorer
from dspex.evaluate.terms import Terms
from dspex.execution import Budget, current, in_thread
from dspex.variables.messages import counted

__all__ = ["Evaluate"]


class Evaluate:
    """Runs programs on a devset and scores them: ``Evaluate(devset, metric)(program)``.

    The metric is ``metric(example, prediction)`` or ``metric(example, prediction, trace)``, sync or async,
    and returns a number, a bool, a `Score` or a dict of named objectives; of several the one called ``score``
    is the main one. Up to ``concurrency`` examples run at once: as asyncio tasks when the whole program can
    (``program.natively_async``), else on threads.

    Args:
        devset: examples that say which of their fields are inputs.
        metric: what a prediction is worth.
        concurrency: how many examples run at once, at most. With a `dspex.BatchLM` all of them do, for they wait for
            one another: as tasks, or on 512 threads when the program blocks.
        deadline: seconds that one example may take, retries included. It is cancelled then: its model calls
            end, and a thread that hangs elsewhere is abandoned and replaced.
        retries: further tries of an example after an infrastructure error that may pass.
        budget: a hard cap on all calls, the metric's included; what is finished by then is the result.
        failure_score: what a program gets that raised; one number, or one for each objective.
        rollouts: how often each example is run; more than once measures ``consistency`` too.
        seed: for models that take one; each rollout has the next.
        confidence: of the result's intervals.
        progress: whether to show a progress bar; ``None`` shows one on a terminal.
        num_threads, display_progress: DSPy's words for ``concurrency`` and ``progress``.

    Raises:
        DataError: the devset is empty, or an example has no inputs or is no example.
        MetricError: the metric takes other arguments.
        DefinitionError: another argument that cannot be meant.

    >>> from dspex.evaluate import answer_exact_match
    >>> capitals = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid"}
    >>> devset = [Example(country=c, answer=a).with_inputs("country") for c, a in capitals.items()]
    >>> def program(country):
    ...     return {"answer": {"France": "paris", "Italy": "Rome"}.get(country, "Lima")}
    >>> result = Evaluate(devset, answer_exact_match, concurrency=2)(program)
    >>> result.score, result.failed, [row.score for row in result.rows]
    (0.666..., 0, [1.0, 1.0, 0.0])
    """

    def __init__(
        self,
        devset: Iterable[Example],
        metric: Metric | Scorer,
        *,
        concurrency: int = 8,
        deadline: float | None = None,
        retries: int = 2,
        budget: Budget | None = None,
        failure_score: float | Mapping[str, float] = 0.0,
        rollouts: int = 1,
        seed: int | None = 0,
        confidence: float = 0.95,
        progress: bool | None = None,
        num_threads: int | None = None,
        display_progress: bool | None = None,
    ) -> None:
        self.devset = require_examples(devset, name="devset")
        self.scorer = Scorer.of(metric)
        self.concurrency = _count("concurrency", concurrency if num_threads is None else num_threads)
        self.rollouts = _count("rollouts", rollouts)
        if not 0 < confidence < 1:
            raise DefinitionError(f"confidence must lie between 0 and 1, got {confidence!r}; write confidence=0.95")
        self.confidence = confidence
        self.progress = progress if display_progress is None else display_progress
        self._terms: dict[str, Any] = {
            "deadline": deadline,
            "retries": retries,
            "budget": budget,
            "failure_score": failure_score,
            "seed": seed,
        }
        Terms(**self._terms)

    def __call__(
        self,
        program: Program | Callable[..., Any],
        *,
        lm: Any = None,
        on_result: Callable[[Evaluation], object] | None = None,
        on_usage: Callable[[Usage], object] | None = None,
        fingerprint: str = "",
        trial: int | None = None,
    ) -> EvaluationResult:
        """Evaluate ``program``; blocking, also inside a running event loop.

        Ctrl-C cancels what is in flight and returns what is finished; ``result.stopped`` says so then.

        Args:
            program: a `Module`, or a function of the inputs.
            lm: the model to use instead of the configured one.
            on_result: called with each row before the next example is started in its place, one at a time.
            on_usage: called with what no row tells, so that it can be kept however this ends: before each row with
                what the metric's own calls took since, and at the end, also when this raises, with what examples
                took that were not finished.
            fingerprint, trial: written into the rows.

        Raises:
            MetricError: the metric raised or returned no score; at once, nothing more is run.
            LMError: the first examples all failed for a reason that no retry mends, such as a missing key.
            DefinitionError: the program is a function that does not take the inputs of an example; nothing is run.
            DefinitionError, BindingError, StorageError: as the program raised it.
        """
        collector = self._collector(program, lm, on_result, on_usage, fingerprint, trial)
        batch = Batch([collector], concurrency=self.concurrency)
        batch.prepare()
        with collector.observed() as span:
            batch.run()
            span.outputs = result = collector.result(self.confidence)
            return result

    async def acall(
        self,
        program: Program | Callable[..., Any],
        *,
        lm: Any = None,
        on_result: Callable[[Evaluation], object] | None = None,
        on_usage: Callable[[Usage], object] | None = None,
        fingerprint: str = "",
        trial: int | None = None,
    ) -> EvaluationResult:
        """The async side of a call. Cancelling it cancels what is in flight.

        A program that is not ``natively_async`` runs on threads here too.
        """
        collector = self._collector(program, lm, on_result, on_usage, fingerprint, trial)
        batch = Batch([collector], concurrency=self.concurrency)
        await in_thread(batch.prepare)
        with collector.observed() as span:
            await batch.arun()
            span.outputs = result = collector.result(self.confidence)
            return result

    def _collector(
        self,
        program: Program | Callable[..., Any],
        lm: Any,
        on_result: Callable[[Evaluation], object] | None,
        on_usage: Callable[[Usage], object] | None,
        fingerprint: str,
        trial: int | None,
    ) -> Collector:
        program = as_program(program)
        check_inputs(program, self.devset)
        settings = current() if lm is None else current().replace(lm=lm)
        return Collector(
            program,
            self.devset,
            self.scorer,
            Terms(settings=settings, **self._terms),
            rollouts=self.rollouts,
            fingerprint=fingerprint,
            trial=trial,
            on_result=on_result,
            on_usage=on_usage,
            progress=progress_for(self.progress, len(self.devset) * self.rollouts),
        )

    def __repr__(self) -> str:
        return f"Evaluate({counted(len(self.devset), 'example')}, {self.scorer.name}, concurrency={self.concurrency})"


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DefinitionError(
            f"{name} must be a whole number from 1 on, got {value!r} ({type(value).__name__}); "
            f"write for example {name}={8 if name == 'concurrency' else 3}"
        )
    return value
