"""What it costs to put values into a program of 10 predictors with 16 demos each.

The peer is ``deepcopy()`` of the same program in DSPy: what its optimizers do before they set values, and what
the user of a program does who wants another one beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import dspy
from _measure import REPETITIONS, interleaved, per_call, table, verdict

import dspex

TARGET = 50.0  # microseconds
PREDICTORS = 10
DEMOS = [{"question": f"What is the capital of country {i}?", "answer": f"City {i}"} for i in range(16)]


class Program(dspex.Module):
    def __init__(self) -> None:
        self.steps = [
            dspex.Predict("question -> answer", demos=list(map(dspex.Example, DEMOS))) for _ in range(PREDICTORS)
        ]

    def forward(self, question: str) -> Any:
        for step in self.steps:
            question = step(question=question).answer
        return question


class Peer(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = [dspy.Predict("question -> answer") for _ in range(PREDICTORS)]
        for step in self.steps:
            step.demos = [dspy.Example(**demo) for demo in DEMOS]


def main() -> int:
    program, peer = Program(), Peer()
    state = program.state()
    state.update({"steps.3.instructions": "Answer briefly.", "steps.4.temperature": 0.5})
    values = {
        "steps.3.instructions": "Answer briefly.",
        "steps.4.temperature": 0.5,
        "steps.5.demos": program.steps[5].demos[:4],
    }
    binds: dict[str, Callable[[], Any]] = {
        "bind({}), a copy": lambda: program.bind({}),
        f"bind(state), all {len(state)} values": lambda: program.bind(state),
        f"bind(mapping), {len(values)} values": lambda: program.bind(values),
    }
    assert program.bind(state).steps[4].temperature == 0.5
    assert program.bind(values).steps[5].demos == values["steps.5.demos"]
    found = interleaved(
        {
            **{name: per_call(call, calls=500) for name, call in binds.items()},
            "DSPy": per_call(peer.deepcopy, calls=2),
        },
        repetitions=REPETITIONS,
    )
    theirs = found.pop("DSPy").median
    table(
        f"{PREDICTORS} predictors with {len(DEMOS)} demos: us of processor time, medians of {REPETITIONS}",
        ["call", "dspex", "DSPy, deepcopy()", "x faster"],
        [
            [name, f"{samples.median:.1f}", f"{theirs:.0f}", f"{theirs / samples.median:.0f}"]
            for name, samples in found.items()
        ],
    )
    return verdict({f"{name}: at most {TARGET:g} us": samples.median <= TARGET for name, samples in found.items()})


if __name__ == "__main__":
    sys.exit(main())
