"""Programs with the protocol of a module and nothing behind it, so that these tests need no other room."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from dspex.data import Example, Prediction, Usage
from dspex.execution import Run


class Fake:
    """Answers ``question`` with what ``answer`` makes of it; keeps count of what runs at once.

    ``answer(question)`` returns a text or raises. ``usage`` is accounted to each run. ``seen`` keeps the runs.
    """

    def __init__(
        self,
        answer: Callable[[str], Any] = str.upper,
        *,
        natively_async: bool = True,
        latency: float = 0.0,
        usage: Usage | None = None,
        reserve: bool = False,
    ) -> None:
        self.natively_async = natively_async
        self.seen: list[Run] = []
        self.at_once = self.most_at_once = 0
        self._answer = answer
        self._latency = latency
        self._usage = usage
        self._reserve = reserve
        self._lock = threading.Lock()

    def execute(self, inputs: Mapping[str, Any], *, run: Run) -> Prediction:
        self._enter(run)
        try:
            if self._latency:
                time.sleep(self._latency)
            return self._answered(inputs, run)
        finally:
            self._leave()

    async def aexecute(self, inputs: Mapping[str, Any], *, run: Run) -> Prediction:
        self._enter(run)
        try:
            await asyncio.sleep(self._latency)
            return self._answered(inputs, run)
        finally:
            self._leave()

    @property
    def calls(self) -> int:
        return len(self.seen)

    def _answered(self, inputs: Mapping[str, Any], run: Run) -> Prediction:
        run.check()
        if self._reserve:
            assert run.budget is not None
            with run.budget.reserve(Usage(calls=1)) as reservation:
                reservation.settle(self._usage or Usage(calls=1))
        if self._usage is not None:
            run.account(self._usage)
        answer = self._answer(inputs["question"])
        return answer if isinstance(answer, Prediction) else Prediction(answer=answer)

    def _enter(self, run: Run) -> None:
        with self._lock:
            self.seen.append(run)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)

    def _leave(self) -> None:
        with self._lock:
            self.at_once -= 1


def examples(count: int = 4) -> list[Example]:
    """``question`` is a, b, c, ...; the right ``answer`` is A, B, C, ..."""
    names = [chr(ord("a") + index % 26) * (1 + index // 26) for index in range(count)]
    return [Example(question=name, answer=name.upper()).with_inputs("question") for name in names]


def right(example: Any, prediction: Any) -> bool:
    """The metric of most of these tests."""
    return bool(prediction.answer == example.answer)
