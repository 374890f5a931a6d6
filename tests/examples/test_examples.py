"""Every example runs; where the model is not the point, on a scripted one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dspex

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_react_tools(capsys: Any) -> None:
    result = load("react_tools").main()
    assert result.answer == 2.43
    assert "KeyError: 'Bergn'" in result.trajectory[1]["observation"]
    out = capsys.readouterr().out
    assert "answer: 2.43" in out
    assert "agent.max_iters" in out


def test_custom_optimizer_improves_and_stays_in_its_budget(capsys: Any) -> None:
    result = load("custom_optimizer").main()
    assert result.significant
    assert len(result.program.demos) >= 2
    assert "significant gain" in capsys.readouterr().out


def test_the_search_of_the_custom_optimizer_is_fifteen_lines() -> None:
    source = (EXAMPLES / "custom_optimizer.py").read_text()
    body = source.split("class CoordinateAscent")[1].split("\n\n\n")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15


def test_sentiment_gives_a_pareto_set(capsys: Any) -> None:
    example = load("sentiment_pareto")
    reviews = {e.review: e.sentiment for e in dspex.data.load_jsonl(example.DATA, inputs=["review"])}

    def model(messages: list[dict[str, str]], **params: Any) -> dict[str, str]:
        if "better instruction" in messages[0]["content"]:
            return {"instruction": "Judge."}
        asked = messages[-1]["content"]
        review = max((r for r in reviews if r in asked), key=len)
        right = len(messages) > 2 or len(review) % 2 == 0
        other = {"positive": "negative", "negative": "positive"}
        return {"sentiment": reviews[review] if right else other[reviews[review]]}

    result = example.main(dspex.MockLM(model), examples=60, trials=8)
    assert len(result.pareto) >= 2
    cheap, good = result.pareto[-1], result.pareto[0]
    assert len(cheap.state["judge.demos"]) < len(good.state["judge.demos"])
    assert cheap.values["tokens"] < good.values["tokens"]
    assert "accuracy at" in capsys.readouterr().out


def test_plain_function(capsys: Any) -> None:
    load("plain_function").main()
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_says_how_to_run_it_and_has_a_main(path: Path) -> None:
    source = path.read_text()
    assert f"python examples/{path.name}" in source
    assert "def main(" in source
    assert 'if __name__ == "__main__":' in source
