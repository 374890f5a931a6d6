"""What one call of `Predict` costs beside the model's own time, against DSPy 3.4 in the same process.

The models answer a constant at once: `MockLM` here, and for DSPy the faster of the two kinds of
`_dspy_peer`. A call renders the prompt, asks, accounts, parses and traces. Each row first checks that both
give the same prediction.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import _dspy_peer
import dspy
from _measure import REPETITIONS, interleaved, per_call, table, verdict

import dspex
from dspex.lm import Cache

PEERS = ["DSPy, BaseLM", "DSPy, engine"]
TARGET = 8.0
QUESTION = "What is the capital of France?"
ONE = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
THREE = '[[ ## answer ## ]]\nParis\n\n[[ ## score ## ]]\n0.5\n\n[[ ## tags ## ]]\n["a", "b"]\n\n[[ ## completed ## ]]'
DEMOS = [{"question": f"What is the capital of country {i}?", "answer": f"City {i}"} for i in range(16)]

ROWS: dict[str, dict[str, Any]] = {
    "plain": {"signature": "question -> answer", "text": ONE},
    "three typed outputs": {"signature": "question -> answer: str, score: float, tags: list[str]", "text": THREE},
    "16 demos": {"signature": "question -> answer", "text": ONE, "demos": DEMOS},
    "cache hit": {"signature": "question -> answer", "text": ONE, "cache": True},
}


def ours(signature: str, text: str, *, demos: list[dict[str, str]] | None = None, cache: bool = False) -> Any:
    lm = dspex.MockLM([text], repeat=True, cache=Cache() if cache else False)
    lm.calls = deque(maxlen=64)  # a list of all requests would grow with the measurement
    predict = dspex.Predict(signature, lm=lm, demos=[dspex.Example(demo) for demo in demos or []])

    def call() -> Any:
        return predict(question=QUESTION)

    return call, lambda: len(lm.calls)


def theirs(
    signature: str, text: str, *, demos: list[dict[str, str]] | None = None, cache: bool = False
) -> dict[str, tuple[Callable[[], Any], Callable[[], int]]]:
    found = {}
    for kind, (lm, counter) in _dspy_peer.models(text, cache=cache).items():
        predict = dspy.Predict(signature)
        predict.demos = [dspy.Example(**demo) for demo in demos or []]
        predict.lm = lm

        def call(predict: Any = predict) -> Any:
            return predict(question=QUESTION)

        def asked(counter: Any = counter) -> int:
            return int(counter.asked)

        found[f"DSPy, {kind}"] = (call, asked)
    return found


def main() -> int:
    rows, claims = [], {}
    for name, row in ROWS.items():
        contenders = {"dspex": ours(**row), **theirs(**row)}
        answers = [dict(call().items()) for call, _ in contenders.values()]
        assert all(answer == answers[0] for answer in answers), answers
        if row.get("cache"):
            for call, asked in contenders.values():
                before = asked()
                call()
                assert asked() == before, "this should have come from the cache"
        found = interleaved(
            {kind: per_call(call, calls=2000 if kind == "dspex" else 100) for kind, (call, _) in contenders.items()},
            repetitions=REPETITIONS,
        )
        medians = {kind: samples.median for kind, samples in found.items()}
        mine = medians.pop("dspex")
        ratio = min(medians.values()) / mine
        peers = [f"{medians[kind]:.0f}" if kind in medians else "-" for kind in PEERS]
        rows.append([name, f"{mine:.1f}", *peers, f"{ratio:.1f}"])
        claims[f"Predict, {name}: at least {TARGET:g} x as fast as DSPy"] = ratio >= TARGET
    table(
        f"One call of Predict in us of processor time, medians of {REPETITIONS} (DSPy {dspy.__version__})",
        ["call", "dspex", *PEERS, "x faster"],
        rows,
    )
    return verdict(claims)


if __name__ == "__main__":
    sys.exit(main())
