"""Many examples: as many at once as was said, and no more work for each of them than for each of a few."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping
from typing import Any

from dspex.data import Prediction
from dspex.evaluate import Evaluate
from dspex.execution import Run
from tests.evaluate.fakes import examples, right


class Answering:
    """Answers as soon as ``concurrency`` examples are on their way together."""

    natively_async = True

    def __init__(self, concurrency: int = 1) -> None:
        self.together = asyncio.Barrier(concurrency)

    def execute(self, inputs: Mapping[str, Any], *, run: Run) -> Prediction:
        raise AssertionError("a natively async program needs no threads")

    async def aexecute(self, inputs: Mapping[str, Any], *, run: Run) -> Prediction:
        async with asyncio.timeout(60):
            await self.together.wait()
        return Prediction.from_fields({"answer": inputs["question"].upper()})


def test_as_many_are_on_their_way_as_the_concurrency_says() -> None:
    result = Evaluate(examples(256), right, concurrency=64, progress=False)(Answering(64))
    assert (result.score, result.failed, len(result.rows)) == (1.0, 0, 256)


def _calls_per_example(count: int) -> float:
    """Function calls, Python's and C's, on whatever thread."""
    calls = 0

    def counted(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    evaluate = Evaluate(examples(count), right, concurrency=16, progress=False)
    program = Answering()
    before = sys.getprofile()
    threading.setprofile(counted)
    sys.setprofile(counted)
    try:
        evaluate(program)
    finally:
        sys.setprofile(before)
        threading.setprofile(None)  # type: ignore[arg-type]  # as its documentation says
    return calls / count


def test_bookkeeping_does_not_grow_with_the_examples() -> None:
    few, many = _calls_per_example(250), _calls_per_example(4000)
    assert 0 < many < 1.1 * few
