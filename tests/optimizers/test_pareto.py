"""With several objectives the winner is one of those that no other beats."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings, strategies as st

import dspex
from dspex import Example, JointSearch, MockLM, Module, Optimizer, Predict
from dspex.optimizers import Task
from dspex.study.best import dominates
from dspex.variables import Choice

EXAMPLES = [Example(question=f"q{n}", right=n).with_inputs("question") for n in range(12)]


class Table(Module):
    """Answers with one of five styles; a metric looks up what a style is worth."""

    style = dspex.variable(Choice(0, 1, 2, 3, 4), default=0)

    def __init__(self) -> None:
        self.answer = Predict("question -> answer").freeze("*")

    def forward(self, question: str) -> Any:
        return dspex.Prediction(answer=self.style)


class Each(Optimizer):
    """Scores every style in an order of its own."""

    def __init__(self, order: list[int]) -> None:
        super().__init__(concurrency=1, failure_score=9.0)
        self.order = order

    def search(self, task: Task) -> None:
        for style in self.order:
            task.evaluate({"style": style})


def run(optimizer: Optimizer, worth: list[tuple[int, int]], directions: tuple[str, str]) -> dspex.OptimizationResult:
    def metric(example: Example, prediction: Any) -> dict[str, float]:
        quality, speed = worth[prediction.answer]
        return {"quality": float(quality), "speed": float(speed)}

    return optimizer.optimize(
        Table(),
        EXAMPLES,
        metric,
        lm=MockLM(["?"]),
        storage=None,
        objectives=dict(zip(("quality", "speed"), directions, strict=True)),
    )


def check(result: dspex.OptimizationResult) -> None:
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in result.objectives.values()]
    losses = [tuple(s * v for s, v in zip(signs, p.values.values(), strict=True)) for p in result.pareto]
    assert not any(dominates(one, other) for one in losses for other in losses)
    assert not result.kept_baseline, "every split is worth the same here"
    assert result.state.fingerprint in {point.state.fingerprint for point in result.pareto}


DIRECTIONS = st.tuples(*[st.sampled_from(["maximize", "minimize"])] * 2)
WORTH = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=5, max_size=5)


@settings(max_examples=25, deadline=None)
@given(worth=WORTH, directions=DIRECTIONS, order=st.permutations(range(5)))
def test_the_winner_is_in_its_own_pareto_set(
    worth: list[tuple[int, int]], directions: tuple[str, str], order: list[int]
) -> None:
    check(run(Each(order), worth, directions))


@settings(max_examples=6, deadline=None)
@given(worth=WORTH, directions=DIRECTIONS)
def test_so_is_that_of_the_joint_search(worth: list[tuple[int, int]], directions: tuple[str, str]) -> None:
    check(run(JointSearch(trials=8, width=4, proposers=[], failure_score=9.0), worth, directions))
