"""Sentiment of product reviews: how much accuracy do tokens buy?

Demos make prompts longer, and every token is paid for with each call. So this search has two objectives, accuracy up
and tokens down, and what comes back is not one winner but all programs that no other beats in both.

    python examples/sentiment_pareto.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import dspex

DATA = Path(__file__).parent / "data" / "sentiment.jsonl"


class Judge(dspex.Signature):
    """Say whether the review is positive or negative."""

    review: str = dspex.InputField()
    sentiment: Literal["positive", "negative"] = dspex.OutputField()


class Sentiment(dspex.Module):
    """Is a review positive or negative?"""

    def __init__(self) -> None:
        self.judge = dspex.Predict(Judge, demos=dspex.Demos(max_demos=6), temperature=0.0, max_tokens=24)

    def forward(self, review: str) -> dspex.Prediction:
        return self.judge(review=review)


def correct(example: dspex.Example, prediction: dspex.Prediction) -> bool:
    return bool(example.sentiment == prediction.sentiment)


def main(lm: Any = None, examples: int = 120, trials: int = 18) -> dspex.OptimizationResult:
    reviews = dspex.data.load_jsonl(DATA, inputs=["review"])[:examples]
    result = dspex.JointSearch(trials=trials, width=6, concurrency=4).optimize(
        Sentiment(),
        reviews,
        correct,
        lm=lm or dspex.LM("local/smollm2-135m"),
        objectives={"score": "maximize", "tokens": "minimize"},
        study="sentiment",
        storage=None,
    )
    print(result.report())
    print()
    for point in result.pareto:
        demos = len(point.state["judge.demos"])
        print(f"{point.values['score']:.2f} accuracy at {point.values['tokens']:.0f} tokens a review ({demos} demos)")
    return result


if __name__ == "__main__":
    main()
