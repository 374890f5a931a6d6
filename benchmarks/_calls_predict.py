"""What one call of a module costs beside the model's own time, against DSPy 3.4 in the same process.

The models answer a constant at once: `MockLM` here, and for DSPy the faster of the two kinds of `_dspy_peer`. A call
renders the prompt, asks, accounts, parses and traces. Each row first checks that both give the same prediction, and
each repetition that the model was asked as often as it should have been.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import _dspy_peer
import dspy
from _measure import QUICK, REPETITIONS, faster, interleaved, table

import dspex
from dspex.lm import Cache

PEERS = ["DSPy, BaseLM", "DSPy, engine"]
TARGET = 10.0
CALLS = 200 if QUICK else 300
QUESTIONS = [f"What is the capital of country {number}?" for number in range(CALLS)]
ANY_ORDER = random.Random(0).sample(QUESTIONS, CALLS)
ONE = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
THOUGHT = f"[[ ## reasoning ## ]]\nThe atlas says so.\n\n{ONE}"
TYPED = "question -> answer: str, score: float, tags: list[str]"
CHAT = '[[ ## answer ## ]]\nParis\n\n[[ ## score ## ]]\n0.5\n\n[[ ## tags ## ]]\n["a", "b"]\n\n[[ ## completed ## ]]'
JSON = '{"answer": "Paris", "score": 0.5, "tags": ["a", "b"]}'
DEMOS = [{"question": f"What is the capital of country {i}?", "answer": f"City {i}"} for i in range(16)]


@dataclass(frozen=True)
class Row:
    text: str = ONE
    signature: str = "question -> answer"
    module: str = "Predict"
    adapter: str = "chat"
    demos: tuple[dict[str, str], ...] = ()
    cache: str = ""
    """Where the answers come from: ``"memory"``, ``"file"``, or ``"miss"``, which are kept in a new file."""
    questions: tuple[str, ...] = tuple(QUESTIONS)

    @property
    def asked(self) -> int:
        return 0 if self.cache in ("memory", "file") else CALLS


ROWS = {
    "Predict": Row(),
    "ChainOfThought": Row(THOUGHT, module="ChainOfThought"),
    "three typed outputs, Chat": Row(CHAT, TYPED),
    "three typed outputs, JSON": Row(JSON, TYPED, adapter="json"),
    "16 demos": Row(demos=tuple(DEMOS)),
    "cached, hit in memory": Row(cache="memory"),
    "cached, hit on disk, in order": Row(cache="file"),
    "cached, hit on disk, any order": Row(cache="file", questions=tuple(ANY_ORDER)),
    "cached, miss that is written": Row(cache="miss"),
}

Contender = Iterator[tuple[Callable[..., Any], Callable[[], int]]]
"""For each repetition, what is called, and how often its model has been asked."""


def ours(row: Row, folder: Path) -> Contender:
    def module(name: str) -> tuple[Callable[..., Any], Callable[[], int]]:
        kept = Cache(folder / name, memory_entries=1 if row.cache == "file" else CALLS) if row.cache else False
        lm = dspex.MockLM([row.text], repeat=True, cache=kept)
        made = getattr(dspex, row.module)(row.signature, lm=lm, adapter=row.adapter, demos=row.demos)
        return made, lambda: len(lm.calls)

    for number in count():
        if row.cache == "miss" or number == 0:
            call, asked = module(f"{number}.db")
            for question in ["to open the file"] if row.asked else QUESTIONS:
                call(question=question)
        yield call, asked


def theirs(row: Row, lm: Any, counter: Any, folder: Path) -> Contender:
    module = getattr(dspy, row.module)(row.signature)
    module.set_lm(lm)
    if row.demos:
        module.demos = [dspy.Example(**demo) for demo in row.demos]
    adapter = dspy.JSONAdapter() if row.adapter == "json" else dspy.ChatAdapter()
    for number in count():
        dspy.configure(adapter=adapter)
        if row.cache == "miss" or number == 0:
            dspy.configure_cache(disk_cache_dir=str(folder / str(number)))
            if not row.asked:
                for question in QUESTIONS:
                    module(question=question)
        if row.cache == "file":
            dspy.cache.reset_memory_cache()
        yield module, lambda: counter.asked


def per_call(row: Row, contender: Contender) -> Callable[[], float]:
    """Microseconds of processor time, over all questions."""

    def measure() -> float:
        call, asked = next(contender)
        before = asked()
        began = time.process_time()
        for question in row.questions:
            call(question=question)
        spent = time.process_time() - began
        assert asked() - before == row.asked
        return spent / CALLS * 1e6

    return measure


def claims() -> dict[str, bool]:
    rows, found = [], {}
    for name, row in ROWS.items():
        folder = Path(tempfile.mkdtemp(prefix="dspex-bench-"))
        try:
            contenders = {"dspex": ours(row, folder)}
            for kind, (lm, counter) in _dspy_peer.models(row.text, cache=bool(row.cache)).items():
                contenders[f"DSPy, {kind}"] = theirs(row, lm, counter, folder / kind)
            answers = [dict(next(contender)[0](question="?").items()) for contender in contenders.values()]
            assert all(answer == answers[0] for answer in answers), answers
            samples = interleaved(
                {kind: per_call(row, contender) for kind, contender in contenders.items()}, repetitions=REPETITIONS
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        mine = samples.pop("dspex")
        times = min(faster(mine, peer) for peer in samples.values())
        peers = [f"{samples[kind].median:.0f}" if kind in samples else "-" for kind in PEERS]
        rows.append([name, f"{mine.median:.1f}", *peers, f"{times:.1f}"])
        found[f"{name}: at least {TARGET:g} x as fast as DSPy"] = times >= TARGET
    table(
        f"One call of a module in us of processor time, medians of {REPETITIONS} (DSPy {dspy.__version__})",
        ["call", "dspex", *PEERS, "x faster"],
        rows,
    )
    return found
