"""Three studies: of a plain function, of two objectives, and of a program with prompts and a ledger."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from dspex.data import Evaluation, Usage
from dspex.errors import TrialPruned
from dspex.samplers import RandomSampler
from dspex.study import Study, create_study
from dspex.variables import Choice, Condition, Demos, Entry, Float, Prompt, Space

NASTY = "Answer in $one$ word & <b>no</b> more: <script>alert(1)</script>"


@pytest.fixture(scope="session")
def flat() -> Study:
    """70 trials: floats, a log scale, an int, options, a conditional float; pruned, failed and infeasible ones."""
    study = create_study(study_name="flat", sampler=RandomSampler(seed=0))

    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -5, 5)
        rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        trial.suggest_int("depth", 1, 8)
        model = trial.suggest_categorical("model", ["openai/gpt-5-mini-2026-01-01", "local/small"])
        value: float = (x - 1) ** 2 + (math.log10(rate) + 3) ** 2
        if model.startswith("openai"):
            value += trial.suggest_float("model.temperature", 0, 2)
        for step in range(4):
            trial.report(value * (1 + 1 / (step + 1)), step)
        if trial.number % 9 == 4:
            raise TrialPruned
        if trial.number % 13 == 5:
            raise RuntimeError("no answer")
        trial.set_constraint("x", x - 3)
        return value

    study.optimize(objective, n_trials=70, catch=RuntimeError)
    return study


@pytest.fixture(scope="session")
def several() -> Study:
    """40 trials with two objectives."""
    study = create_study(study_name="several", sampler=RandomSampler(seed=0), directions=["maximize", "minimize"])

    def objective(trial: Any) -> tuple[float, float]:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return x * (1.0 if trial.suggest_categorical("c", ["a", "b"]) == "a" else 0.8), x**2 + 0.3 * y

    study.optimize(objective, n_trials=40)
    return study


@pytest.fixture(scope="session")
def program() -> Study:
    """30 trials over a declared space with prompts and demos, on 12 examples, some of which were not run."""
    space = Space(
        [
            Entry("answer", Choice("direct", "stepwise"), "direct"),
            Entry("answer.instructions", Prompt(), "Answer the question."),
            Entry("answer.stepwise.temperature", Float(0.0, 1.0), 0.5, conditions=[Condition("answer", "stepwise")]),
            Entry("demos", Demos(), ()),
        ]
    )
    study = create_study(study_name="program", space=space, direction="maximize", sampler=RandomSampler(seed=0))
    pool, rng = study.pool("answer.instructions"), random.Random(1)
    first = pool.add(NASTY, parents=[pool.items[0].id], source="reflection")
    second = pool.add("Think step by step. " * 12, parents=[first.id], source="reflection")
    study.pool("demos").add(({"question": "1+1", "answer": "2"},), source="bootstrap")
    for _ in range(30):
        trial = study.ask()
        index = next(item.index for item in pool if item.value == trial.state["answer.instructions"])
        scores = []
        for example in range(12):
            if rng.random() < 0.2:
                continue
            scores.append(float(rng.random() < 0.3 * index + example / 30))
            usage = Usage(calls=1, prompt_tokens=200, completion_tokens=30, cost=0.0004)
            trial.record(
                Evaluation(
                    example_id=f"question-{example:02d}",
                    status="ok",
                    scores={"score": scores[-1]},
                    latency=0.5,
                    usage=usage,
                )
            )
        study.tell(trial, sum(scores) / len(scores))
    # After the last trial, so that nobody has tried it.
    pool.add("Be brief.", parents=[second.id], source="merge", note="never tried")
    return study
