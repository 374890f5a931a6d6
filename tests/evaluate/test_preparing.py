"""What loads on first use is loaded before the first example's clock starts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import Evaluate, Example, MockLM, Module, ModuleChoice, Predict
from dspex.adapters import ChatAdapter
from dspex.errors import DspexError

ROOT = Path(__file__).parents[2]
DEVSET = [Example(question=f"{n}", answer=n).with_inputs("question") for n in range(3)]

LOADED_BEFORE = """
import sys
import dspex

class Watched(dspex.Module):
    def __init__(self):
        self.answer = dspex.Predict("question -> answer: int", demos=[dspex.Example(question="1", answer=1)])

    def forward(self, question):
        before = set(sys.modules)
        answer = self.answer(question=question)
        late.append(sorted(set(sys.modules) - before))
        return answer

late = []
devset = [dspex.Example(question=str(n), answer=1).with_inputs("question") for n in range(2)]
evaluate = dspex.Evaluate(devset, lambda example, prediction: True, concurrency=1, progress=False)
print(evaluate(Watched(), lm=dspex.MockLM(lambda messages, **params: {"answer": 1})).score)
print(late)
"""

LITELLM = """
import socket, sys

def refuse(*_):
    raise AssertionError("prepare must not use the network")

socket.socket.connect = socket.getaddrinfo = refuse
import dspex
lm = dspex.LM("openai/gpt-4o-mini")  # without a key
assert "litellm" not in sys.modules
lm.prepare()
print("litellm" in sys.modules, "openai.resources.chat.completions" in sys.modules, len(lm.history))
try:
    dspex.LM("nosuchprovider/x").prepare()
except dspex.errors.LMRequestError as error:
    print(str(error)[:37])
"""


def script(text: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_first_example_loads_nothing() -> None:
    assert script(LOADED_BEFORE) == ["1.0", "[[], []]"]


def test_a_model_is_loaded_without_a_call() -> None:
    assert script(LITELLM) == ["True True 0", "there is no provider 'nosuchprovider'"]


class Recording(MockLM):
    """Notes in which order it was prepared and called."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(lambda messages, **params: log.append("call") or {"answer": "1"})
        self.log = log

    def prepare(self) -> None:
        self.log.append("prepare")


def metric(example: Example, prediction: Any) -> bool:
    return True


@pytest.mark.parametrize("how", ["module", "function", "async", "own"])
def test_models_are_prepared_before_the_first_call(how: str) -> None:
    log: list[str] = []
    model: Any = Recording(log)
    program: Any = Predict("question -> answer", lm=model if how == "own" else None)
    evaluate = Evaluate(DEVSET, metric, concurrency=1, progress=False)
    given = None if how == "own" else model
    predict = program
    if how == "function":
        program = lambda question: predict(question=question)  # noqa: E731 - a program in a line
    result = asyncio.run(evaluate.acall(program, lm=given)) if how == "async" else evaluate(program, lm=given)
    assert result.score == 1.0
    assert log == ["prepare", "call", "call", "call"]


def test_what_is_not_chosen_is_not_loaded() -> None:
    chosen: list[str] = []
    other: list[str] = []

    class Program(Module):
        def __init__(self) -> None:
            self.answer = ModuleChoice(
                one=Predict("question -> answer", lm=Recording(chosen)),
                two=Predict("question -> answer", lm=Recording(other)),
            )

        def forward(self, question: str) -> Any:
            return self.answer(question=question)

    Evaluate(DEVSET, metric, progress=False)(Program())
    assert chosen[0] == "prepare"
    assert other == []


def test_what_is_wrong_is_said_by_the_call() -> None:
    # Neither a missing model nor a demo that shows nothing is an error of the preparation.
    for program in (Predict("question -> answer"), Predict("question -> answer", demos=[Example(other="x")])):
        with dspex.context(lm=None), pytest.raises(DspexError):
            Evaluate(DEVSET, metric, progress=False, retries=0)(program)


class BrokenAdapter(ChatAdapter):
    def prepare(self, *args: Any, **options: Any) -> None:
        raise ZeroDivisionError("a bug")


class BrokenModel(MockLM):
    def prepare(self) -> None:
        raise ImportError("no such library")


@pytest.mark.parametrize("how", ["module", "function", "adapter"])
def test_a_bug_in_the_preparation_is_no_error_of_the_evaluation(how: str) -> None:
    predict = Predict("question -> answer", adapter=BrokenAdapter() if how == "adapter" else None)
    program: Any = (lambda question: predict(question=question)) if how == "function" else predict
    model = (MockLM if how == "adapter" else BrokenModel)(lambda messages, **params: {"answer": "1"})
    assert Evaluate(DEVSET, metric, progress=False)(program, lm=model).score == 1.0
