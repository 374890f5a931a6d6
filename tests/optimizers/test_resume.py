"""Killed at any moment and run again: nothing is paid for twice, and the end is the same."""

from __future__ import annotations

import json
import os
import random
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
KILLS = 3  # in the search; a longer storm is a matter of time only

SCRIPT = """
import json, os, sys, time
sys.path.insert(0, {root!r})
import dspex
from tests.optimizers.tasks import Travels, metric, trainset, travel_model

paid = os.open("paid", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def charged(messages, **params):
    asked = [message["content"] for message in messages] + [params.get("temperature")]
    os.write(paid, (json.dumps(asked) + "\\n").encode())
    while os.path.exists("hold"):
        time.sleep(0.005)
    return travel_model(messages, **params)

class Marking(dspex.optimizers.Watcher):
    def phase(self, name):
        if name.startswith(("comparing", "waiting")):
            open(name.split()[0], "a").write(f"{{os.getpid()}}\\n")

search = dspex.JointSearch(trials=10, width=5, concurrency={concurrency})
result = search.optimize(
    Travels(), trainset(), metric, lm=dspex.MockLM(charged, latency=0.004), storage="sqlite:///s.db",
    watcher=Marking(), budget={budget},
)
trials = [[trial.state.name, trial.fingerprint, trial.values] for trial in result.study.trials]
rows = [sorted([row.example_id, row.score] for row in side.rows) for side in (result.baseline, result.best)]
print(json.dumps([result.state.fingerprint, result.verdict(), trials, rows, len(result.study.ledger)]))
print(result.usage.calls, file=open("counted", "w"))
"""


def start(folder: Path, *, concurrency: int = 1, budget: str = "None") -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "paid").touch()
    script = SCRIPT.format(root=str(ROOT), concurrency=concurrency, budget=budget)
    (folder / "run.py").write_text(script)
    return subprocess.Popen([sys.executable, folder / "run.py"], stdout=subprocess.PIPE, text=True, cwd=folder)


def result_of(process: subprocess.Popen[str]) -> list[Any]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    result: list[Any] = json.loads(out)
    return result


def paid_in(folder: Path) -> list[str]:
    return (folder / "paid").read_text().splitlines()


def kill_at(process: subprocess.Popen[str], folder: Path, calls: int, after: float = 0.0) -> bool:
    """Kill it when so many calls have been paid; whether it was still there."""
    while process.poll() is None and len(paid_in(folder)) < calls:
        time.sleep(0.005)
    time.sleep(after)
    alive = process.poll() is None
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[str]]:
    """What an undisturbed run finds, and what it asks the model."""
    folder = tmp_path_factory.mktemp("calm")
    return result_of(start(folder)), paid_in(folder)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_killed_again_and_again_it_ends_where_an_undisturbed_run_ends(
    calm: tuple[list[Any], list[str]], tmp_path: Path, concurrency: int
) -> None:
    stormy = tmp_path
    expected, undisturbed = calm
    heldout = 2 * 2 * 21  # two programs of two predictors
    rng = random.Random(concurrency)
    targets = sorted(rng.sample(range(1, len(undisturbed) - heldout), KILLS))
    targets.append(len(undisturbed) - heldout + rng.randrange(10, 60))
    kills = 0
    for target in targets:
        process = start(stormy, concurrency=concurrency)
        kills += kill_at(process, stormy, target, after=rng.uniform(0, 0.01))
    assert kills >= KILLS
    assert (stormy / "comparing").exists(), "the comparison was interrupted too"
    assert result_of(start(stormy, concurrency=concurrency)) == expected
    paid = paid_in(stormy)
    # What may be asked again is what was in flight: an example of both predictors in each place.
    assert len(undisturbed) <= len(paid) <= len(undisturbed) + 2 * concurrency * kills
    assert set(paid) == set(undisturbed)
    counted = int((stormy / "counted").read_text())
    assert len(undisturbed) <= counted <= len(paid)


def test_a_budget_is_one_over_all_kills(tmp_path: Path) -> None:
    kills = 0
    for target in (30, 100, 140):
        kills += kill_at(start(tmp_path, budget="dspex.Budget(calls=180)"), tmp_path, target)
    assert kills == 3
    result_of(start(tmp_path, budget="dspex.Budget(calls=180)"))
    assert int((tmp_path / "counted").read_text()) <= 180
    # A call that was in flight at a kill is in no record.
    assert len(paid_in(tmp_path)) <= 180 + 2 * kills


def test_two_at_once_are_one_search(calm: tuple[list[Any], list[str]], tmp_path: Path) -> None:
    expected, undisturbed = calm
    first, second = start(tmp_path), start(tmp_path)
    assert result_of(first) == result_of(second) == expected
    assert sorted(paid_in(tmp_path)) == sorted(undisturbed)


def test_who_waits_takes_over_from_who_is_killed(calm: tuple[list[Any], list[str]], tmp_path: Path) -> None:
    expected, undisturbed = calm
    first = start(tmp_path)
    while first.poll() is None and len(paid_in(tmp_path)) < 20:
        time.sleep(0.005)
    (tmp_path / "hold").touch()
    second = start(tmp_path)
    while first.poll() is None and not (tmp_path / "waiting").exists():
        time.sleep(0.005)
    assert kill_at(first, tmp_path, 0)
    (tmp_path / "hold").unlink()
    assert result_of(second) == expected
    assert len(paid_in(tmp_path)) <= len(undisturbed) + 2


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
    # What a search notes for itself is no business of the user's.
    assert not second.study.user_attrs
    assert not any(trial.user_attrs for trial in second.study.trials)
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
