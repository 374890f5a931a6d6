"""A ReAct program over plain functions: the tools are tuned with the program, and their errors are observations.

python examples/react_tools.py                 # a scripted model, no key needed
OPENAI_API_KEY=... python examples/react_tools.py openai/gpt-4o-mini
"""

from __future__ import annotations

import sys
from typing import Any

import dspex

POPULATION = {"Oslo": 709_037, "Bergen": 291_940, "Trondheim": 214_565}


def population(city: str) -> int:
    """How many people live in a Norwegian city."""
    return POPULATION[city]


class Geographer(dspex.Module):
    """Answers questions about Norwegian cities with a table and a calculator."""

    digits = dspex.variable(dspex.Int(0, 6), default=2, doc="digits that ratios are rounded to")

    def __init__(self) -> None:
        self.agent = dspex.ReAct(
            "question -> answer: float", tools=[population, self.ratio], max_iters=dspex.Int(5, 12)
        )

    def ratio(self, a: float, b: float) -> float:
        """How many times b goes into a."""
        return round(a / b, self.digits)

    def forward(self, question: str) -> dspex.Prediction:
        return self.agent(question=question)


def scripted() -> dspex.MockLM:
    """What a capable model says, turn by turn; the second turn misspells a city and recovers."""

    def turn(thought: str, tool: str, **arguments: Any) -> dict[str, Any]:
        return {"thought": thought, "tool": tool, "arguments": arguments}

    return dspex.MockLM(
        [
            turn("First Oslo.", "population", city="Oslo"),
            turn("Now Bergen.", "population", city="Bergn"),
            turn("That was misspelled.", "population", city="Bergen"),
            turn("Divide.", "ratio", a=709_037, b=291_940),
            turn("Done.", "finish"),
            {"reasoning": "The ratio is in the trajectory.", "answer": 2.43},
        ]
    )


def main(lm: Any = None) -> dspex.Prediction:
    program = Geographer()
    print(program.space().describe())
    with dspex.context(lm=lm or scripted()):
        result: dspex.Prediction = program(question="How many times larger than Bergen is Oslo?")
    for number, turn in enumerate(result.trajectory, 1):
        print(f"{number}. {turn['thought']} {turn['tool']}({turn['arguments']}) → {turn['observation']}")
    print(f"answer: {result.answer}   ({result.usage})")
    return result


if __name__ == "__main__":
    main(dspex.LM(sys.argv[1]) if len(sys.argv) > 1 else None)
