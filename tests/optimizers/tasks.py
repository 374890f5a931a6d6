"""A small real task for the optimizers: a scripted model that needs demos and the right instruction."""

from __future__ import annotations

import re
from typing import Any

import dspex
from dspex import ChainOfThought, Example, MockLM, Module, ModuleChoice, Predict

CAPITALS = {f"Land {number}": f"Town {number}" for number in range(60)}


def trainset() -> list[Example]:
    return [Example(country=c, capital=t).with_inputs("country") for c, t in CAPITALS.items()]


def metric(example: Example, prediction: Any) -> bool:
    return bool(example.capital == prediction.capital)


class Capitals(Module):
    def __init__(self) -> None:
        self.answer = ModuleChoice(
            direct=Predict("country -> capital", temperature=dspex.Float(0.0, 1.0)),
            stepwise=ChainOfThought("country -> capital"),
        )

    def forward(self, country: str) -> Any:
        return self.answer(country=country)


class Travels(Module):
    """Two predictors, the second one reading what the first one wrote."""

    def __init__(self) -> None:
        self.place = Predict("country -> region")
        self.answer = ChainOfThought("country, region -> capital")

    def forward(self, country: str) -> Any:
        return self.answer(country=country, region=self.place(country=country).region)


def travel_model(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
    """Each predictor is right of every third question; with demos or the instruction it was given of all but some."""
    system = messages[0]["content"]
    if "better instruction" in system:
        return {"instruction": "Think of the map first."}
    country = asked_country(messages)
    number = int(country.split()[1])
    helped = len(messages) > 2 or "map" in system
    if "capital" not in system:
        return {"region": f"Region {number % 4}" if helped or number % 3 else "?"}
    known = (helped and number % 7 != 0) or number % 3 == 0
    lost = "Region" not in messages[-1]["content"]
    return {"reasoning": "thinking", "capital": CAPITALS[country] if known and not lost else "?"}


def asked_country(messages: list[dict[str, str]]) -> str:
    return re.findall(r"Land \d+", messages[-1]["content"])[-1]


def model(messages: list[dict[str, str]], **params: Any) -> dict[str, Any]:
    """Knows the capital when it is shown demos; of the other questions it knows every fifth."""
    if "better instruction" in messages[0]["content"]:
        return {"instruction": "Say the capital."}
    country = asked_country(messages)
    known = len(messages) > 2 or int(country.split()[1]) % 5 == 0
    return {"reasoning": "thinking", "capital": CAPITALS[country] if known else "?"}


def lm(**options: Any) -> MockLM:
    return MockLM(model, **options)
