"""`Evaluate`: examples per second on a model that takes 20 ms, and what it adds to an example.

The limit is bare asyncio: as many workers as there may be examples at once, which do nothing but sleep for
20 ms per example. DSPy's `Evaluate` on as many threads is shown beside it, on fewer examples as it takes longer.

What `Evaluate` adds (a run, the call itself, the metric, a row of the ledger, the totals) is measured as processor
time on a model that answers at once, for 500 to 8,000 examples: it must not grow with their number.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import _dspy_peer
import dspy
from _measure import QUICK, REPETITIONS, interleaved, table, verdict

import dspex
from dspex.evaluate import Evaluate

LATENCY = 0.02
CONCURRENCIES = (16, 64, 256)
ROUNDS = 10 if QUICK else 25
SIZES = (500, 1000, 2000, 4000, 8000)
TARGET = 0.8
FLAT = 1.2
ANSWER = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"


def devset(size: int) -> list[dspex.Example]:
    return [
        dspex.Example(question=f"What is the capital of country {i}?", answer="Paris").with_inputs("question")
        for i in range(size)
    ]


def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(prediction.answer == example.answer)


def model(latency: float) -> dspex.MockLM:
    lm = dspex.MockLM([ANSWER], repeat=True, latency=latency)
    lm.calls = deque(maxlen=64)  # a list of all requests would grow with the measurement
    return lm


def limit(concurrency: int) -> Callable[[], float]:
    size = concurrency * ROUNDS

    async def sleep_all() -> None:
        examples = iter(range(size))

        async def worker() -> None:
            for _ in examples:
                await asyncio.sleep(LATENCY)

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    def measure() -> float:
        began = time.perf_counter()
        asyncio.run(sleep_all())
        return size / (time.perf_counter() - began)

    return measure


def ours(concurrency: int) -> Callable[[], float]:
    size, lm, program = concurrency * ROUNDS, model(LATENCY), dspex.Predict("question -> answer")
    evaluate = Evaluate(devset(size), metric, concurrency=concurrency, progress=False)

    def measure() -> float:
        began = time.perf_counter()
        result = evaluate(program, lm=lm)
        seconds = time.perf_counter() - began
        assert result.score == 1.0, result
        assert result.complete, result
        return size / seconds

    return measure


class SleepingLM(_dspy_peer.SubclassLM):
    def forward(self, prompt=None, messages=None, **kwargs):
        time.sleep(LATENCY)
        return self.response


def theirs(concurrency: int) -> Callable[[], float]:
    size, program = concurrency * 2, dspy.Predict("question -> answer")
    program.lm = SleepingLM(ANSWER)
    examples = [dspy.Example(**example).with_inputs("question") for example in devset(size)]
    evaluate = dspy.Evaluate(
        devset=examples, metric=metric, num_threads=concurrency, display_progress=False, max_errors=1
    )

    def measure() -> float:
        began = time.perf_counter()
        result = evaluate(program)
        seconds = time.perf_counter() - began
        assert result.score == 100.0, result
        return size / seconds

    return measure


def bookkeeping(size: int) -> Callable[[], float]:
    lm, program = model(0.0), dspex.Predict("question -> answer")

    def measure() -> float:
        evaluate = Evaluate(devset(size), metric, concurrency=64, progress=False)
        began = time.process_time()
        result = evaluate(program, lm=lm)
        seconds = time.process_time() - began
        assert result.score == 1.0, result
        return seconds / size * 1e6

    return measure


def main() -> int:
    rows = []
    claims = {}
    for concurrency in CONCURRENCIES:
        found = interleaved(
            {"limit": limit(concurrency), "dspex": ours(concurrency), "DSPy": theirs(concurrency)},
            repetitions=REPETITIONS,
        )
        bare, mine, peer = (found[name].median for name in ("limit", "dspex", "DSPy"))
        best = found["dspex"].best / found["limit"].best
        rows.append(
            [str(concurrency), f"{bare:,.0f}", f"{mine:,.0f}", f"{mine / bare:.0%}", f"{best:.0%}", f"{peer:,.0f}"]
        )
        if concurrency == max(CONCURRENCIES):
            claims[f"Evaluate at {concurrency}: at least {TARGET:.0%} of bare asyncio, undisturbed"] = best >= TARGET
    table(
        f"Examples/s on a model of {LATENCY * 1e3:g} ms, medians of {REPETITIONS}",
        ["at once", "bare asyncio", "dspex", "of the limit", "best of best", "DSPy, threads"],
        rows,
    )

    costs = interleaved({str(size): bookkeeping(size) for size in SIZES}, repetitions=REPETITIONS)
    first = costs[str(SIZES[0])].median
    table(
        f"All of Evaluate per example, in us of processor time, medians of {REPETITIONS}",
        ["examples", "us", f"x {SIZES[0]}"],
        [[f"{int(size):,}", f"{costs[size].median:.1f}", f"{costs[size].median / first:.2f}"] for size in costs],
    )
    last = costs[str(SIZES[-1])].median
    claims[f"Evaluate per example: flat from {SIZES[0]} to {SIZES[-1]:,} (within {FLAT - 1:.0%})"] = (
        last <= FLAT * first
    )
    return verdict(claims)


if __name__ == "__main__":
    sys.exit(main())
