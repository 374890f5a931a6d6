"""Killed at any moment and run again: nothing is paid for twice, and the end is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import Budget, JointSearch
from dspex.errors import StudyError
from tests.optimizers.tasks import Capitals, lm, metric, model, trainset

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
sys.path.insert(0, {root!r})
import dspex
from tests.optimizers.tasks import Capitals, metric, model, trainset

paid = open({paid!r}, "a")

def charged(messages, **params):
    paid.write(json.dumps([m["content"] for m in messages] + [params.get("temperature")]) + "\\n")
    paid.flush()
    return model(messages, **params)

result = dspex.JointSearch(trials=12, width=6, concurrency=1).optimize(
    Capitals(), trainset(), metric, lm=dspex.MockLM(charged, latency=0.004), storage={storage!r}
)
print(json.dumps([result.state.fingerprint, result.best.score, len(result.study.ledger)]))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    script = SCRIPT.format(root=str(ROOT), paid=str(folder / "paid"), storage=f"sqlite:///{folder}/s.db")
    (folder / "run.py").write_text(script)
    return subprocess.Popen([sys.executable, folder / "run.py"], stdout=subprocess.PIPE, text=True, cwd=folder)


def finish(folder: Path) -> list[Any]:
    process = start(folder)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    result: list[Any] = json.loads(out)
    return result


def test_killed_again_and_again_it_ends_where_an_undisturbed_run_ends(tmp_path: Path) -> None:
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    calm.mkdir()
    stormy.mkdir()
    expected = finish(calm)
    undisturbed = (calm / "paid").read_text().splitlines()
    paid = stormy / "paid"
    paid.touch()
    kills = 0
    for target in (5, 25, 50, 80, 120):
        process = start(stormy)
        while process.poll() is None and len(paid.read_text().splitlines()) < target:
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills >= 3
    assert finish(stormy) == expected
    lines = paid.read_text().splitlines()
    # With one call at a time, the one that was in flight at a kill is all that may be asked again.
    assert len(lines) <= len(undisturbed) + kills
    assert len(lines) - len(set(lines)) <= kills + (len(undisturbed) - len(set(undisturbed)))


def test_an_interrupt_in_this_process_is_resumed_in_this_process() -> None:
    storage = dspex.storage.InMemoryStorage()
    count = {"calls": 0}

    def interrupted(messages: Any, **params: Any) -> Any:
        count["calls"] += 1
        if count["calls"] == 60:
            raise KeyboardInterrupt
        return model(messages, **params)

    search = JointSearch(trials=12, width=6)
    arguments: dict[str, Any] = {"storage": storage, "study": "one"}
    first = search.optimize(Capitals(), trainset(), metric, lm=dspex.MockLM(interrupted), **arguments)
    assert first.stopped == "interrupted"
    assert first.best is None
    known = len(first.study.ledger)
    again = lm()
    second = search.optimize(Capitals(), trainset(), metric, lm=again, **arguments)
    assert second.resumed_rows == known
    assert second.significant
    whole = lm()
    undisturbed = search.optimize(Capitals(), trainset(), metric, lm=whole, storage=None)
    assert second.state.fingerprint == undisturbed.state.fingerprint


def test_a_budget_counts_over_resumptions() -> None:
    storage = dspex.storage.InMemoryStorage()
    search = JointSearch(trials=30, width=6)
    one, two = lm(), lm()
    search.optimize(Capitals(), trainset(), metric, lm=one, storage=storage, study="s", budget=Budget(calls=100))
    result = search.optimize(
        Capitals(), trainset(), metric, lm=two, storage=storage, study="s", budget=Budget(calls=150)
    )
    assert len(one.calls) <= 100
    assert len(one.calls) + len(two.calls) <= 150
    assert result.usage.calls == len(one.calls) + len(two.calls)


@pytest.mark.parametrize("change", ["metric", "data", "seed", "program", "model"])
def test_a_changed_line_is_another_study(change: str) -> None:
    storage = dspex.storage.InMemoryStorage()
    search, program, examples, judge, used = JointSearch(trials=6, width=6), Capitals(), trainset(), metric, lm()
    first = search.optimize(program, examples, judge, lm=used, storage=storage)
    if change == "metric":
        judge = lambda example, prediction: float(metric(example, prediction))  # noqa: E731 - a metric in a line
    elif change == "data":
        examples = examples[:-1]
    elif change == "seed":
        search = JointSearch(trials=6, width=6, seed=1)
    elif change == "program":
        program.answer.direct.instructions = "Say it."
    else:
        used = lm(model="mock/other")
    second = search.optimize(program, examples, judge, lm=used, storage=storage)
    assert second.study.study_name != first.study.study_name
    assert second.resumed_rows == 0


def test_a_named_study_refuses_another_search() -> None:
    storage = dspex.storage.InMemoryStorage()
    arguments: dict[str, Any] = {"lm": lm(), "storage": storage, "study": "mine"}
    JointSearch(trials=6, width=6).optimize(Capitals(), trainset(), metric, **arguments)
    with pytest.raises(StudyError, match="study 'mine' was made with another metric, so its results are not"):
        JointSearch(trials=6, width=6).optimize(Capitals(), trainset(), lambda e, p: 0.25, **arguments)
    with pytest.raises(StudyError, match="another examples"):
        JointSearch(trials=6, width=6).optimize(Capitals(), trainset()[:-1], metric, **arguments)


def test_what_a_metric_closes_over_is_part_of_it() -> None:
    def weighted(weight: float) -> Any:
        return lambda example, prediction: weight * metric(example, prediction)

    names = [
        JointSearch(trials=3, width=3)
        .optimize(Capitals(), trainset(), weighted(weight), lm=lm(), storage=None)
        .study.study_name
        for weight in (0.5, 0.5, 0.9)
    ]
    assert names[0] == names[1] != names[2]


def test_one_budget_object_counts_one_study_once() -> None:
    storage = dspex.storage.InMemoryStorage()
    budget = Budget(calls=600)
    search = JointSearch(trials=6, width=6)
    for _ in range(2):
        search.optimize(Capitals(), trainset(), metric, lm=lm(), storage=storage, budget=budget)
        spent = budget.spent.calls
    first = budget.spent.calls
    search.optimize(Capitals(), trainset(), metric, lm=lm(), storage=storage, budget=budget)
    assert budget.spent.calls == first == spent
