"""Cached answers per second, against DSPy 3.4 in the same process; and two processes that share one cache.

A row is a whole call of the model (its key, the lookup, the accounts), without a module around it: a hit in memory; a
hit on disk (nothing of it in memory when the round begins), asked for in the order in which the answers were kept, as a
run that is repeated does, and in any order; and a miss, whose answer is written. Prompts are about 1,000 characters,
answers 200; so they are in two processes, where each first asks what the other does not, and then what the other has
asked, of which it has nothing in memory; a call there is one of the model, or of `Predict`.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _dspy_peer
import dspy
from _measure import QUICK, REPETITIONS, Samples, faster, interleaved, table

from dspex.lm import Cache, MockLM

ENTRIES = 500 if QUICK else 2000
DISK_HITS = 25_000.0
FASTER = 10.0
IN_ORDER = range(ENTRIES)
ANY_ORDER = random.Random(0).sample(IN_ORDER, ENTRIES)
ANSWER = "Paris is the capital of France. " * 6
FIELD = f"[[ ## answer ## ]]\n{ANSWER}\n\n[[ ## completed ## ]]"
PROMPT = "Answer the question in one word, and nothing else. " * 20
PROMPTS = [PROMPT + str(number) for number in range(ENTRIES)]

Asks = dict[str, Callable[[], float]]


def rate(ask: Callable[[int], Any]) -> float:
    """Calls a second of processor time, over all entries."""
    began = time.process_time()
    for number in range(ENTRIES):
        ask(number)
    return ENTRIES / (time.process_time() - began)


def ours(folder: Path) -> Asks:
    filled = Cache(folder / "answers.db")
    memory = MockLM({"": ANSWER}, cache=filled)
    for prompt in PROMPTS:
        memory(prompt)
    memory.calls = []
    filled.close()
    rounds = iter(range(10_000))

    def hit(lm: MockLM, order: Sequence[int] = IN_ORDER) -> float:
        found = rate(lambda number: lm(PROMPTS[order[number]]))
        assert not lm.calls, "this should have come from the cache"
        return found

    def on_disk(order: Sequence[int]) -> float:
        path = folder / f"answers-{next(rounds)}.db"
        shutil.copyfile(folder / "answers.db", path)
        cache = Cache(path)  # which has nothing in memory
        found = hit(MockLM({"": ANSWER}, cache=cache), order)
        cache.clear()
        return found

    def miss() -> float:
        lm = MockLM({"": ANSWER}, cache=Cache(folder / f"miss-{next(rounds)}.db"))
        lm("to open the file")
        return rate(lambda number: lm(PROMPTS[number]))

    return {
        "hit in memory": lambda: hit(memory),
        "hit on disk, in order": lambda: on_disk(IN_ORDER),
        "hit on disk, any order": lambda: on_disk(ANY_ORDER),
        "miss, written": miss,
    }


def theirs(folder: Path) -> Asks:
    lm, counter = _dspy_peer.models(ANSWER, cache=True)["engine"]
    rounds = iter(range(10_000))

    def measured(name: str, order: Sequence[int] = IN_ORDER) -> float:
        nonlocal opened
        hits = not name.startswith("miss")
        if name != opened:
            dspy.configure_cache(disk_cache_dir=str(folder / f"dspy-{name}"))
            opened = name
            for number in IN_ORDER if hits else ():
                lm(PROMPTS[number])
        if name == "disk":
            dspy.cache.reset_memory_cache()
        before = counter.asked
        found = rate(lambda number: lm(PROMPTS[order[number]]))
        assert (counter.asked == before) is hits
        return found

    opened = ""
    return {
        "hit in memory": lambda: measured("memory"),
        "hit on disk, in order": lambda: measured("disk"),
        "hit on disk, any order": lambda: measured("disk", ANY_ORDER),
        "miss, written": lambda: measured(f"miss-{next(rounds)}"),
    }


PROCESSES = 2
WORKER = """
import gc, sys, time
folder, one, entries, answer, prompt = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
{model}
def ask_all(owner):
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for number in range(entries):
        ask(f"{{prompt}}{{owner}} {{number}}")
    print(entries / (time.perf_counter() - began), flush=True)

ask("to open the file")
gc.collect()
gc.freeze()  # as for the other rows
ask_all(one)
ask_all(1 - one)
"""
OURS = """
from dspex.lm import Cache, MockLM
ask = MockLM({"": answer}, cache=Cache(folder + "/answers.db"))
"""
THEIRS = """
import _dspy_peer, dspy
dspy.configure_cache(disk_cache_dir=folder)
ask = _dspy_peer.models(answer, cache=True)["engine"][0]
"""
OUR_PREDICT = f"""{OURS}
import dspex
predict = dspex.Predict("question -> answer", lm=ask)
ask = lambda question: predict(question=question)
"""
THEIR_PREDICT = f"""{THEIRS}
predict = dspy.Predict("question -> answer")
predict.set_lm(ask)
ask = lambda question: predict(question=question)
"""


def processes(folder: Path, model: str, answer: str) -> tuple[float, float]:
    """Answers a second that two processes write into one cache, and that each then reads of what the other wrote."""
    path = tempfile.mkdtemp(dir=folder)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER.format(model=model), path, str(one), str(ENTRIES), answer, PROMPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )
        for one in range(PROCESSES)
    ]
    pipes: list[tuple[Any, Any]] = [(worker.stdin, worker.stdout) for worker in workers]
    rates = []
    for _ in ("write", "read"):
        for _, told in pipes:
            assert told.readline() == "ready\n"
        for say, _ in pipes:
            say.write("go\n")
            say.flush()
        rates.append(sum(float(told.readline()) for _, told in pipes))
    for worker in workers:
        worker.communicate()
    return rates[0], rates[1]


def claims() -> dict[str, bool]:
    folder = Path(tempfile.mkdtemp(prefix="dspex-bench-"))
    rows, holds = [], {}
    try:
        mine, peer = ours(folder), theirs(folder)
        for name in mine:
            found = interleaved({"dspex": mine[name], "DSPy": peer[name]}, repetitions=max(3, REPETITIONS // 2))
            one, other = found["dspex"], found["DSPy"]
            times = faster(other, one)  # of rates
            rows.append([name, f"{one.median:,.0f}", f"{one.best:,.0f}", f"{other.median:,.0f}", f"{times:.1f}"])
            holds[f"{name}: at least {FASTER:g} x as many a second as DSPy"] = times >= FASTER
            if name.startswith("hit on disk"):
                holds[f"{name}, undisturbed: at least {DISK_HITS:,.0f} a second"] = one.best >= DISK_HITS
        table(
            f"Calls of a model a second of processor time, {ENTRIES:,} entries (DSPy {dspy.__version__})",
            ["call", "dspex", "its best", "DSPy", "x"],
            rows,
        )
        rows = []
        for what, sides, answer in (
            ("a model", (OURS, THEIRS), ANSWER),
            ("Predict", (OUR_PREDICT, THEIR_PREDICT), FIELD),
        ):
            rounds = [[processes(folder, side, answer) for side in sides] for _ in range(max(3, REPETITIONS // 2))]
            for index, kind in enumerate(("misses that are written", "hits of what the other wrote")):
                one, other = (Samples(found[which][index] for found in rounds) for which in (0, 1))
                times = faster(other, one)
                name = f"{what}, {kind}"
                rows.append([name, f"{one.median:,.0f}", f"{other.median:,.0f}", f"{times:.1f}"])
                holds[f"two processes, {name}: at least {FASTER:g} x as many a second as DSPy"] = times >= FASTER
        table("Two processes on one cache, calls a second of wall time together", ["", "dspex", "DSPy", "x"], rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return holds
