"""The honest comparison: the start and the winner on examples that the search has never seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dspex.data import Evaluation, Example, Usage
from dspex.errors import BudgetExceeded
from dspex.evaluate import Evaluate, EvaluationResult, Scorer
from dspex.modules import Module
from dspex.study import Study, create_study
from dspex.variables import VariableState

__all__ = ["Heldout"]


class Heldout:
    """The held-out examples, in a study of their own that no sampler ever sees.

    ``terms`` are those of `Evaluate`, ``concurrency`` among them.
    """

    def __init__(self, examples: Sequence[Example], metric: Scorer, study: Study, terms: dict[str, Any]) -> None:
        self.examples = examples
        self.metric = metric
        self.interrupted = False
        self._terms = terms
        # Under a budget in small steps, so that when it ends both programs have been run on the same examples.
        self._portion: int = terms["concurrency"] * (2 if terms["budget"] is None else 1)
        self.study = create_study(
            study_name=f"{study.study_name}:held-out",
            storage=study.storage,
            directions=study.directions,
            load_if_exists=True,
        )

    def missing(self, state: VariableState) -> int:
        """How many examples have not been paid for under ``state``."""
        return len(self._missing(state, self.examples))

    def _missing(self, state: VariableState, examples: Sequence[Example]) -> list[Example]:
        ledger = self.study.ledger
        return [example for example in examples if ledger.lookup(state.fingerprint, example.id) is None]

    def compare(
        self, program: Module, states: Sequence[VariableState], on_usage: Callable[[Usage], object]
    ) -> Iterator[EvaluationResult | None]:
        """Each state's result; they take turns, so that when the budget ends the same examples have been run.

        ``on_usage`` hears what no row tells, see `Evaluate`.
        """
        began = time.perf_counter()
        stopped = ""
        for start in range(0, len(self.examples), self._portion):
            for state in states:
                missing = self._missing(state, self.examples[start : start + self._portion])
                if missing and not stopped:
                    result = self._run(program.bind(state), state, missing, on_usage)
                    stopped = result.stopped
        self.interrupted = bool(stopped) and not stopped.startswith(BudgetExceeded.__name__)
        seconds = time.perf_counter() - began
        return (self._result(state, stopped, seconds) for state in states)

    def _run(
        self,
        program: Module,
        state: VariableState,
        missing: Sequence[Example],
        on_usage: Callable[[Usage], object],
    ) -> EvaluationResult:
        def record(row: Evaluation) -> None:
            self.study.record(None, row)

        evaluate = Evaluate(missing, self.metric, progress=False, **self._terms)
        return evaluate(program, on_result=record, on_usage=on_usage, fingerprint=state.fingerprint)

    def _result(self, state: VariableState, stopped: str, seconds: float) -> EvaluationResult | None:
        ledger = self.study.ledger
        failed = {row.example_id: row for row in ledger.rows(fingerprint=state.fingerprint) if not row.ok}
        found = [
            (example, ledger.lookup(state.fingerprint, example.id) or failed.get(example.id))
            for example in self.examples
        ]
        known = [(example, row) for example, row in found if row is not None]
        if not any(row.ok for _, row in known):
            return None
        return EvaluationResult(
            rows=tuple(row for _, row in known),
            planned=len(self.examples),
            examples=tuple(example for example, _ in known),
            predictions=(None,) * len(known),
            stopped=stopped,
            seconds=seconds,
            usage=sum((row.usage for _, row in known), Usage()),
        )
