"""The program run on training examples, with what each predictor did: what demos are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dspex.data import Evaluation, Example, Usage
from dspex.errors import BudgetExceeded, DeadlineExceeded, MetricError
from dspex.evaluate.one import ExampleResult, ExampleRun
from dspex.evaluate.scoring import Scorer
from dspex.evaluate.terms import Terms
from dspex.execution import Outcome, current, run_many
from dspex.modules import Module
from dspex.proposers import Demonstration

__all__ = ["Shown", "demonstrate", "demonstration"]

Shown = dict[str, Any]
"""A demonstration as plain data: its row, and a demo for each predictor that was used."""


def demonstrate(
    program: Module,
    examples: Sequence[Example],
    scorer: Scorer,
    terms: dict[str, Any],
    *,
    concurrency: int,
    on_result: Callable[[Usage, Evaluation | None, Shown | None], object],
) -> None:
    """Run ``program`` on examples; ``on_result`` gets of each what it took, its row, and what it showed.

    What failed shows nothing, and has no row where it was ended before it could.

    Raises:
        BudgetExceeded, MetricError: as an example raised it, after the others in flight have ended.
        KeyboardInterrupt: on Ctrl-C, likewise.
    """
    common = Terms(settings=current(), **terms)
    jobs = [ExampleRun(program, example, scorer, common) for example in examples]

    def keep(outcome: Outcome[ExampleRun, ExampleResult]) -> None:
        job = outcome.item
        usage = job.usage + job.judge.usage
        if isinstance(outcome.error, DeadlineExceeded) and terms["deadline"] is not None:
            result = job.abandon()
        elif outcome.error is not None:
            on_result(usage, None, None)
            return
        else:
            result = outcome.result()
        if not result.evaluation.ok:
            on_result(usage, result.evaluation, None)
            return
        demos = {
            entry.path: Example({**entry.inputs, **entry.prediction.to_dict(), "augmented": True}).with_inputs(
                *entry.inputs
            )
            for entry in result.trace
            if entry.prediction is not None
        }
        on_result(usage, result.evaluation, {"row": result.evaluation.to_json(), "demos": demos})

    async def await_one(job: ExampleRun) -> ExampleResult:
        return await job.aperform()

    def perform_one(job: ExampleRun) -> ExampleResult:
        return job.perform()

    outcomes = run_many(
        await_one if program.natively_async else perform_one,
        jobs,
        concurrency=concurrency,
        deadline=terms["deadline"],
        cancel=ExampleRun.cancel,
        on_result=keep,
    )
    if outcomes.interrupted:
        raise KeyboardInterrupt
    for outcome in outcomes:
        if isinstance(outcome.error, BudgetExceeded | MetricError):
            raise outcome.error


def demonstration(example: Example, shown: Shown, merit: Callable[[Evaluation], float]) -> Demonstration:
    """The demonstration that was kept as plain data."""
    row = Evaluation.from_json(shown["row"])
    return Demonstration(example, row, shown["demos"], merit(row))
