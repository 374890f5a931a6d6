"""500 calls at once of a model that takes 50 ms: as tasks, and on threads, beside bare asyncio and DSPy 3.4.

The limit is 500 tasks that do nothing but sleep for 50 ms. A row is the wall time until all have answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import _dspy_peer
import dspy
from _measure import REPETITIONS, interleaved, table

import dspex
from dspex.lm import LMRequest

CALLS = 500
LATENCY = 0.05
TARGET = 1.5
BARE, MODEL, PREDICT = "bare asyncio", "calls of a model", "calls of Predict"
ANSWER = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"


def timed(main: Callable[[], Any]) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        found = asyncio.run(main())
        seconds = time.perf_counter() - began
        assert len(found) == CALLS
        return seconds * 1e3

    return measure


async def bare() -> list[None]:
    return await asyncio.gather(*(asyncio.sleep(LATENCY) for _ in range(CALLS)))


def model() -> dspex.MockLM:
    return dspex.MockLM([ANSWER], repeat=True, latency=LATENCY)


def calls_of_the_model() -> Callable[[], Any]:
    lm = model()

    async def main() -> list[Any]:
        return await asyncio.gather(*(lm.agenerate(LMRequest.of(str(number))) for number in range(CALLS)))

    return main


def calls_with_everything_on() -> Callable[[], Any]:
    lm = model()
    guarded = dspex.MockLM(
        [ANSWER], repeat=True, latency=LATENCY, max_concurrency=CALLS, breaker=10, deadline=30.0, fallbacks=[lm]
    )

    async def main() -> list[Any]:
        with dspex.track_usage() as usage:
            found = await asyncio.gather(*(guarded.agenerate(LMRequest.of(str(number))) for number in range(CALLS)))
        assert usage.total.calls == CALLS
        return found

    return main


def predictions() -> Callable[[], Any]:
    predict = dspex.Predict("question -> answer", lm=model())

    async def main() -> list[Any]:
        return await asyncio.gather(*(predict.acall(question=str(number)) for number in range(CALLS)))

    return main


class SleepingLM(_dspy_peer.SubclassLM):
    async def aforward(self, prompt=None, messages=None, **kwargs):
        await asyncio.sleep(LATENCY)
        return self.response


def theirs() -> Callable[[], Any]:
    predict = dspy.Predict("question -> answer")
    predict.lm = SleepingLM(ANSWER)

    async def main() -> list[Any]:
        return await asyncio.gather(*(predict.acall(question=str(number)) for number in range(CALLS)))

    return main


def threads() -> float:
    lm = model()
    began = time.perf_counter()
    with ThreadPoolExecutor(CALLS) as pool:
        found = list(pool.map(lambda number: lm.generate(LMRequest.of(str(number))), range(CALLS)))
    assert len(found) == CALLS
    return (time.perf_counter() - began) * 1e3


def claims() -> dict[str, bool]:
    contenders = {
        BARE: timed(bare),
        MODEL: timed(calls_of_the_model()),
        "... with gate, deadline, fallbacks, ledger": timed(calls_with_everything_on()),
        "... on 500 threads": threads,
        PREDICT: timed(predictions()),
        "DSPy, calls of Predict": timed(theirs()),
    }
    for contender in contenders.values():
        contender()  # what happens once is not what is measured
    found = interleaved(contenders, repetitions=REPETITIONS)
    limit = found[BARE].median
    rows = [
        [name, f"{samples.median:.1f}", f"{min(samples):.1f}", f"{samples.median / limit:.2f}"]
        for name, samples in found.items()
    ]
    table(f"{CALLS} calls of {LATENCY * 1e3:g} ms at once, in ms of wall time", ["", "median", "best", "x bare"], rows)
    best = {name: min(samples) for name, samples in found.items()}
    return {
        f"{CALLS} {name} at once, undisturbed: within {TARGET:g} x of bare asyncio": best[name] <= TARGET * best[BARE]
        for name in (MODEL, PREDICT)
    }
