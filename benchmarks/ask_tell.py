"""What asking for a trial and telling its value costs, and what writing a row of the ledger costs.

Ask and tell: ten mixed variables that an objective suggests one by one, with TPE, at 100 to 10,000 finished
trials; the same with variables under conditions, and with two objectives. Beside Optuna, when it is installed,
in the same process: the contenders take turns. What is there already was drawn at random and added, so that all
contenders work on the same trials.

Rows: evaluations per second into memory and into a SQLite file, one by one (each is on the disk before the next
is begun), in batches, and from 16 threads.

python benchmarks/ask_tell.py [--quick]
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from _measure import QUICK, REPETITIONS, interleaved, table, verdict

from dspex.data import Evaluation, Usage
from dspex.samplers import TPESampler
from dspex.storage import SQLStorage, Storage, get_storage
from dspex.study import create_study
from dspex.trials import FrozenTrial, StudyDirection, create_trial
from dspex.variables import Bool, Choice, Domain, Float, Int

try:
    import optuna
except ImportError:  # the `bench` extra
    optuna = None  # type: ignore[assignment]
else:
    optuna.logging.set_verbosity(optuna.logging.ERROR)

SIZES = [100, 1_000] if QUICK else [100, 1_000, 5_000, 10_000]
TARGET = 2.0  # ms
CALLS = 5

FLAT: dict[str, Domain[Any]] = {
    **{f"x{i}": Float(-5.0, 5.0) for i in range(4)},
    "rate": Float(1e-5, 1.0, log=True),
    "k": Int(1, 50),
    "depth": Int(1, 9),
    "width": Int(1, 1000, log=True),
    "kind": Choice("a", "b", "c", "d"),
    "flag": Bool(),
}
BRANCHES = {"a": ["a.x", "a.y", "a.k"], "b": ["b.x", "b.y", "b.k"], "c": ["c.x", "c.y", "c.k"]}
TREE: dict[str, Domain[Any]] = {
    "branch": Choice(*BRANCHES),
    **{f"{name}.{leaf}": Float(0.0, 1.0) for name in BRANCHES for leaf in "xy"},
    **{f"{name}.k": Int(1, 20) for name in BRANCHES},
}


def flat(suggest: Callable[[str], Any]) -> dict[str, Any]:
    return {name: suggest(name) for name in FLAT}


def conditional(suggest: Callable[[str], Any]) -> dict[str, Any]:
    branch = suggest("branch")
    return {"branch": branch} | {name: suggest(name) for name in BRANCHES[branch]}


def values(params: dict[str, Any], objectives: int) -> list[float]:
    """Two that pull in different directions, so that there is a front with many trials on it."""
    numbers = [float(item) for item in params.values() if isinstance(item, int | float)]
    return [sum(numbers), sum((number - 3.0) ** 2 for number in numbers)][:objectives]


def suggesting(trial: Any, domains: dict[str, Domain[Any]]) -> Callable[[str], Any]:
    def suggest(name: str) -> Any:
        domain = domains[name]
        if isinstance(domain, Float):
            return trial.suggest_float(name, domain.low, domain.high, log=domain.log)
        if isinstance(domain, Int):
            return trial.suggest_int(name, domain.low, domain.high, log=domain.log)
        return trial.suggest_categorical(name, list(getattr(domain, "options", (False, True))))

    return suggest


def random_trials(shape: Any, domains: dict[str, Domain[Any]], count: int, objectives: int) -> list[FrozenTrial]:
    rng = random.Random(0)
    found = []
    for _ in range(count):
        params = shape(lambda name: domains[name].sample(rng))
        used = {name: _as_suggested(domains[name]) for name in params}
        found.append(create_trial(params=params, distributions=used, values=values(params, objectives)))
    return found


def _as_suggested(domain: Domain[Any]) -> Domain[Any]:
    return Choice(False, True) if isinstance(domain, Bool) else domain


def ours(shape: Any, domains: dict[str, Domain[Any]], trials: list[FrozenTrial], objectives: int) -> Any:
    study = create_study(sampler=TPESampler(seed=0), directions=["minimize"] * objectives)
    for trial in trials:
        study.add_trial(trial)

    def call() -> None:
        trial = study.ask()
        study.tell(trial, values(shape(suggesting(trial, domains)), objectives))

    return call


def theirs(shape: Any, domains: dict[str, Domain[Any]], trials: list[FrozenTrial], objectives: int) -> Any:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0), directions=["minimize"] * objectives)
    kinds = {name: _their_distribution(domain) for name, domain in domains.items()}
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(trial.params),
            distributions={name: kinds[name] for name in trial.params},
            values=list(trial.values or ()),
        )
        for trial in trials
    )

    def call() -> None:
        trial = study.ask()
        study.tell(trial, values(shape(suggesting(trial, domains)), objectives))

    return call


def _their_distribution(domain: Domain[Any]) -> Any:
    if isinstance(domain, Float):
        return optuna.distributions.FloatDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Int):
        return optuna.distributions.IntDistribution(domain.low, domain.high, log=domain.log)
    return optuna.distributions.CategoricalDistribution(list(getattr(domain, "options", (False, True))))


def milliseconds(call: Callable[[], None], calls: int) -> Callable[[], float]:
    for _ in range(3):
        call()  # what is worked out once is not what is measured

    def measure() -> float:
        began = time.process_time()
        for _ in range(calls):
            call()
        return (time.process_time() - began) / calls * 1e3

    return measure


def ask_and_tell() -> dict[str, bool]:
    contenders: dict[tuple[str, str], Callable[[], float]] = {}
    for name, shape, domains, objectives in (
        ("ten mixed variables", flat, FLAT, 1),
        ("under conditions", conditional, TREE, 1),
        ("two objectives", flat, FLAT, 2),
    ):
        for size in SIZES:
            trials = random_trials(shape, domains, size, objectives)
            row = f"{name}, {size:,} trials"
            contenders[row, "dspex"] = milliseconds(ours(shape, domains, trials, objectives), CALLS)
            if optuna is not None:
                contenders[row, "Optuna"] = milliseconds(theirs(shape, domains, trials, objectives), 1)
    # All rows take turns, or a slow while of the machine would look like what a number of trials costs.
    found = interleaved(contenders, repetitions=REPETITIONS)
    rows, claims = [], {}
    for row, kind in contenders:
        if kind == "dspex":
            mine, peer = found[row, kind].median, found[row, "Optuna"].median if optuna is not None else None
            cells = ["-", "-"] if peer is None else [f"{peer:.2f} ms", f"{peer / mine:.0f} x"]
            rows.append([row, f"{mine:.2f} ms", *cells])
            claims[f"{row}: at most {TARGET} ms"] = mine <= TARGET
    table("Ask and tell, TPE", ["", "dspex", "Optuna", "faster by"], rows)
    return claims


def memory() -> None:
    rows = []
    for size in SIZES:
        trials = random_trials(flat, FLAT, size, 1)
        tracemalloc.start()
        call = ours(flat, FLAT, trials, 1)
        call()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        rows.append([f"{size:,} trials", f"{used / 1e6:.1f} MB", f"{used / size / 1e3:.1f} kB"])
    table("Memory of a study and its sampler, beside the trials' own values", ["", "in all", "a trial"], rows)


def rows_per_second() -> None:
    rows = []
    count = 200 if QUICK else 1_000
    with tempfile.TemporaryDirectory() as directory:
        for name, storage in (
            ("in memory", get_storage(None)),
            ("SQLite", SQLStorage(f"sqlite:///{Path(directory) / 'study.db'}")),
        ):
            study = storage.create_study("rows", [StudyDirection.MINIMIZE])
            cells = [
                _rate(count, partial(_one_by_one, storage, study.id, count, 0)),
                _rate(count * 10, partial(_in_batches, storage, study.id, count * 10, 1)),
                _rate(count, partial(_from_threads, storage, study.id, count)),
            ]
            rows.append([name, *cells])
            storage.close()
    table("Rows of the ledger per second (wall time)", ["", "one by one", "50 at a time", "16 threads"], rows)


def _row(number: int, trial: int) -> Evaluation:
    return Evaluation(
        example_id=f"example-{number}",
        status="ok",
        scores={"score": 1.0},
        trial=trial,
        fingerprint="0123456789abcdef",
        usage=Usage(calls=1, prompt_tokens=500, completion_tokens=50, cost=0.001),
        output={"answer": "somewhere in the text that a model wrote"},
    )


def _one_by_one(storage: Storage, study: int, count: int, trial: int) -> None:
    for number in range(count):
        storage.append_evaluations(study, [_row(number, trial)])


def _in_batches(storage: Storage, study: int, count: int, trial: int) -> None:
    for start in range(0, count, 50):
        storage.append_evaluations(study, [_row(number, trial) for number in range(start, start + 50)])


def _from_threads(storage: Storage, study: int, count: int) -> None:
    threads = [
        threading.Thread(target=_one_by_one, args=(storage, study, count // 16, 2 + index)) for index in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _rate(count: int, work: Callable[[], None]) -> str:
    began = time.perf_counter()
    work()
    return f"{count / (time.perf_counter() - began):,.0f}"


def main() -> int:
    claims = ask_and_tell()
    memory()
    rows_per_second()
    return verdict(claims)


if __name__ == "__main__":
    sys.exit(main())
