"""An optimizer of one's own in 15 lines: coordinate ascent, with restarts from random configurations.

It gets parallel evaluation, the hard budget, resumption and the honest held-out comparison for nothing.

    python examples/custom_optimizer.py
"""

from __future__ import annotations

from typing import Any

import dspex


class CoordinateAscent(dspex.Optimizer):
    """Improve one variable after the other until none helps."""

    def search(self, task: dspex.optimizers.Task) -> dspex.VariableState:
        dspex.proposers.LabeledDemos(sizes=[2, 4], sets=2).propose(task)
        best, improved = task.evaluate(), True
        while improved:
            improved = False
            for path in task.space.tunable:
                for value in task.candidates(path):
                    scores = task.evaluate({**best.state.to_dict(), path: value})
                    if task.is_better(scores.score, best.score):
                        best, improved = scores, True
        return best.state


CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Norway": "Oslo", "Japan": "Tokyo"} | {
    f"Province {n}": f"Chief Town {n}" for n in range(40)
}


def model(messages: list[dict[str, str]], **params: Any) -> dict[str, str]:
    """A scripted model that answers well once it is shown two demos, and less well when it runs hot."""
    country = max((c for c in CAPITALS if c in messages[-1]["content"]), key=len)
    answer = CAPITALS[country] if len(messages) > 4 else "I do not know"
    hot = (params.get("temperature") or 0) > 0.8
    return {"capital": answer.upper() if hot and len(country) % 3 == 0 else answer}


def right(example: dspex.Example, prediction: dspex.Prediction) -> bool:
    return bool(example.capital == prediction.capital)


def main(lm: Any = None) -> dspex.OptimizationResult:
    program = dspex.Predict("country -> capital", temperature=dspex.Choice(1.0, 0.5, 0.0))
    trainset = [dspex.Example(country=c, capital=t).with_inputs("country") for c, t in CAPITALS.items()]
    result = CoordinateAscent().optimize(
        program, trainset, right, lm=lm or dspex.MockLM(model), budget=dspex.Budget(calls=2000), storage=None
    )
    print(result.report())
    return result


if __name__ == "__main__":
    main()
