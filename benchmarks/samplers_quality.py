"""How good the samplers are, beside Optuna's: TPE, GP, CMA-ES, NSGA-II, quasi-random and random draws; and Auto.

One objective: classic functions of numbers, mixed ones and conditional ones, each with a known minimum. What is
compared is the normalized regret after so many trials, (best - minimum) / (typical - minimum), where typical is the
median of random draws: 0 is the minimum, 1 no better than one draw. Over a group of functions it is averaged in
logarithms, because it falls by factors; so the ratio of two samplers is how many times nearer one is than the other,
with its 95 % interval over the seeds (by Student's t, since five seeds make a normal one far too narrow).
Optuna's GP needs torch (`pip install torch`) and is left out where that is not installed; it takes some 0.3 s a trial.

Two objectives: ZDT1 to ZDT3 in six variables, the hypervolume below (1.1, 7), as a part of what the front has. They are
left out where only some samplers or functions are asked for.

python benchmarks/samplers_quality.py [--quick] [--seeds=30] [--trials=100] [--functions=Branin,mixed] [sampler ...]
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from _measure import QUICK, table, verdict

from dspex.samplers import (
    AutoSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    Sampler,
    TPESampler,
)
from dspex.study import create_study

try:
    import optuna
except ImportError:  # the `bench` extra
    sys.exit("needs Optuna and cmaes: pip install -e '.[bench]'")

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore")

OPTIONS = dict(one[2:].split("=") for one in sys.argv[1:] if one.startswith("--") and "=" in one)
ASKED = [one for one in sys.argv[1:] if not one.startswith("--")]
SEEDS = int(OPTIONS.get("seeds", 4 if QUICK else 30))
TRIALS = int(OPTIONS.get("trials", 60 if QUICK else 100))
SMALLEST = 1e-8  # regret that counts as none


class Function(NamedTuple):
    """An objective of a trial, ours or Optuna's, and its minimum."""

    objective: Callable[[Any], float]
    minimum: float


def floats(trial: Any, count: int, low: float, high: float) -> list[float]:
    return [trial.suggest_float(f"x{i}", low, high) for i in range(count)]


def sphere(trial: Any) -> float:
    return sum((x - 1.3) ** 2 for x in floats(trial, 5, -5.0, 5.0))


def rosenbrock(trial: Any) -> float:
    x = floats(trial, 4, -2.0, 2.0)
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


def rotated(trial: Any) -> float:
    """An ellipsoid along the diagonals: what no variable shows by itself."""
    a, b, c, d = floats(trial, 4, -5.0, 5.0)
    return (a + b - 1) ** 2 + 100 * (a - b - 2) ** 2 + (c + d + 1) ** 2 + 100 * (c - d) ** 2


def branin(trial: Any) -> float:
    x, y = trial.suggest_float("x", -5.0, 10.0), trial.suggest_float("y", 0.0, 15.0)
    bend = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


HARTMANN = (
    (1.0, (10, 3, 17, 3.5, 1.7, 8), (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886)),
    (1.2, (0.05, 10, 17, 0.1, 8, 14), (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991)),
    (3.0, (3, 3.5, 1.7, 10, 17, 8), (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650)),
    (3.2, (17, 8, 0.05, 10, 0.1, 14), (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381)),
)


def hartmann6(trial: Any) -> float:
    x = floats(trial, 6, 0.0, 1.0)
    return -sum(
        weight * math.exp(-sum(a * (one - p) ** 2 for a, one, p in zip(scales, x, middles, strict=True)))
        for weight, scales, middles in HARTMANN
    )


def ackley(trial: Any) -> float:
    x = [one - 3.0 for one in floats(trial, 5, -10.0, 10.0)]
    flat = math.exp(-0.2 * math.sqrt(sum(one * one for one in x) / 5))
    return 20 + math.e - 20 * flat - math.exp(sum(math.cos(2 * math.pi * one) for one in x) / 5)


def mixed(trial: Any) -> float:
    """Numbers on several scales, whole numbers, and categories that shift the optimum."""
    rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
    width, depth = trial.suggest_int("width", 8, 512, log=True), trial.suggest_int("depth", 1, 8)
    kind = trial.suggest_categorical("kind", ["a", "b", "c", "d"])
    best_rate = {"a": -3.0, "b": -2.0, "c": -4.0, "d": -1.0}[kind]
    penalty = {"a": 0.0, "b": 0.3, "c": 0.6, "d": 1.0}[kind]
    return (math.log10(rate) - best_rate) ** 2 + penalty + (math.log2(width / 64)) ** 2 / 4 + abs(depth - 3) / 2


def choices(trial: Any) -> float:
    """Categories only, some of which matter together."""
    picked = [trial.suggest_categorical(f"c{i}", list("abcdef")) for i in range(6)]
    wrong = sum(one != aim for one, aim in zip(picked, "acebdf", strict=True))
    return wrong + 2.0 * (picked[0] != "a" or picked[1] != "c")


def grids(trial: Any) -> float:
    """Whole numbers, some on coarse steps."""
    k = [trial.suggest_int(f"k{i}", -10, 10) for i in range(4)]
    s = [trial.suggest_float(f"s{i}", 0.0, 1.0, step=0.05) for i in range(2)]
    return sum((a - b) ** 2 for a, b in zip(k, (3, -4, 7, 0), strict=True)) + 40 * sum((a - 0.35) ** 2 for a in s)


def branches(trial: Any) -> float:
    """Three branches, each with variables and an optimum of its own; the deepest one is the best."""
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    if kind == "a":
        return 1.0 + sum((trial.suggest_float(f"a.x{i}", 0.0, 1.0) - 0.2) ** 2 for i in range(2))
    if kind == "b":
        return 0.5 + sum((trial.suggest_float(f"b.x{i}", 0.0, 1.0) - 0.7) ** 2 for i in range(3))
    value = 0.3 * (trial.suggest_categorical("c.deep", [False, True]) is False)
    value += sum(4 * (trial.suggest_float(f"c.x{i}", 0.0, 1.0) - 0.4) ** 2 for i in range(3))
    return value


def layers(trial: Any) -> float:
    """As many variables as one of them says."""
    count = trial.suggest_int("layers", 1, 4)
    value = abs(count - 3) * 0.5
    for index in range(count):
        value += (math.log2(trial.suggest_int(f"units{index}", 4, 256, log=True)) - 6 + index) ** 2 / 4
    return value + (trial.suggest_float("dropout", 0.0, 0.8) - 0.25) ** 2 * 4


GROUPS: dict[str, dict[str, Function]] = {
    "numbers": {
        "sphere": Function(sphere, 0.0),
        "Rosenbrock": Function(rosenbrock, 0.0),
        "rotated": Function(rotated, 0.0),
        "Branin": Function(branin, 0.39788735772973816),
        "Hartmann6": Function(hartmann6, -3.32236801141551),
        "Ackley": Function(ackley, 0.0),
    },
    "mixed": {
        "mixed": Function(mixed, 0.0),
        "choices": Function(choices, 0.0),
        "grids": Function(grids, 0.0),
    },
    "conditional": {
        "branches": Function(branches, 0.0),
        "layers": Function(layers, 0.0),
    },
}


def ours(make: Callable[[int], Sampler]) -> Callable[[Function, int], float]:
    def run(function: Function, seed: int) -> float:
        study = create_study(sampler=make(seed))
        study.optimize(function.objective, n_trials=TRIALS)
        return study.best_value

    return run


def theirs(make: Callable[[int], Any]) -> Callable[[Function, int], float]:
    def run(function: Function, seed: int) -> float:
        study = optuna.create_study(sampler=make(seed))
        study.optimize(function.objective, n_trials=TRIALS)
        return float(study.best_value)

    return run


SAMPLERS: dict[str, Callable[[Function, int], float]] = {
    "TPE": ours(lambda seed: TPESampler(seed=seed)),
    "Optuna TPE": theirs(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "Optuna TPE, multivariate, group": theirs(
        lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    ),
    "GP": ours(lambda seed: GPSampler(seed=seed)),
    "Optuna GP": theirs(lambda seed: optuna.samplers.GPSampler(seed=seed)),
    "Auto": ours(lambda seed: AutoSampler(n_trials=TRIALS, seed=seed)),
    "CMA-ES": ours(lambda seed: CmaEsSampler(seed=seed)),
    "Optuna CMA-ES": theirs(lambda seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)),
    "Optuna CMA-ES with margin": theirs(
        lambda seed: optuna.samplers.CmaEsSampler(seed=seed, with_margin=True, warn_independent_sampling=False)
    ),
    "NSGA-II": ours(lambda seed: NSGAIISampler(seed=seed, population_size=20)),
    "Optuna NSGA-II": theirs(lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20)),
    "Sobol": ours(lambda seed: QMCSampler(seed=seed)),
    "random": ours(lambda seed: RandomSampler(seed=seed)),
}
if importlib.util.find_spec("torch") is None:
    del SAMPLERS["Optuna GP"]
ONLY = {
    # Its default does the same where no variable comes and goes.
    "Optuna TPE, multivariate, group": ["conditional"],
    # It is the same without whole numbers, and stops with an error when variables come and go.
    "Optuna CMA-ES with margin": ["mixed"],
}
RIVALS = {
    "TPE": ["Optuna TPE", "Optuna TPE, multivariate, group"],
    "GP": ["TPE", "Optuna TPE", "Optuna GP"],
    "Auto": ["TPE"],
    "CMA-ES": ["Optuna CMA-ES", "Optuna CMA-ES with margin"],
    "NSGA-II": ["Optuna NSGA-II"],
}


def typical(function: Function) -> float:
    study = create_study(sampler=RandomSampler(seed=10**6))
    study.optimize(function.objective, n_trials=1001)
    return statistics.median(trial.value for trial in study.trials if trial.value is not None)


def regrets(
    functions: Mapping[str, Function], samplers: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[str, list[float]]]:
    """Sampler → function → the logarithm of the normalized regret of each seed."""
    scale = {name: typical(function) - function.minimum for name, function in functions.items()}
    found: dict[str, dict[str, list[float]]] = {sampler: {name: [] for name in functions} for sampler in samplers}
    for seed in seeds:
        for name, function in functions.items():
            for sampler in samplers:
                regret = (SAMPLERS[sampler](function, seed) - function.minimum) / scale[name]
                found[sampler][name].append(math.log10(max(regret, SMALLEST)))
    return found


def over_the_group(logs: Mapping[str, Sequence[float]]) -> list[float]:
    """Of each seed the mean over the functions."""
    return [statistics.mean(one) for one in zip(*logs.values(), strict=True)]


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.5; to 1 % from 3 degrees of freedom on)."""
    z = statistics.NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and a 95 % interval by Student's t."""
    middle = statistics.mean(values)
    half = student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return middle - half, middle, middle + half


def one_objective() -> dict[str, bool]:
    claims: dict[str, bool] = {}
    wanted = (
        OPTIONS["functions"].split(",") if "functions" in OPTIONS else [name for one in GROUPS.values() for name in one]
    )
    for group, members in GROUPS.items():
        began = time.monotonic()
        functions = {name: function for name, function in members.items() if name in wanted}
        if not functions:
            continue
        samplers = [one for one in ASKED or SAMPLERS if group in ONLY.get(one, GROUPS)]
        found = regrets(functions, samplers, range(SEEDS))
        rows = [
            [sampler, *(f"{10 ** statistics.mean(logs[name]):.1e}" for name in functions)]
            for sampler, logs in found.items()
        ]
        title = f"{group}: normalized regret after {TRIALS} trials, geometric mean of {SEEDS} seeds"
        table(f"{title} ({time.monotonic() - began:.0f} s)", ["", *functions], rows)
        for mine, rivals in RIVALS.items():
            for rival in (one for one in rivals if one in found and mine in found):
                pairs = zip(over_the_group(found[mine]), over_the_group(found[rival]), strict=True)
                low, middle, high = (10**one for one in interval([one - other for one, other in pairs]))
                ratio = f"regret times {middle:.2f} ({low:.2f} to {high:.2f})"
                claims[f"{group}: {mine} is no worse than {rival}: {ratio}"] = low <= 1
    return claims


def zdt1(first: float, g: float) -> float:
    return g * (1 - math.sqrt(first / g))


def zdt2(first: float, g: float) -> float:
    return g * (1 - (first / g) ** 2)


def zdt3(first: float, g: float) -> float:
    return g * (1 - math.sqrt(first / g) - first / g * math.sin(10 * math.pi * first))


def hypervolume(points: Sequence[Sequence[float]], corner: tuple[float, float] = (1.1, 7.0)) -> float:
    volume, height = 0.0, corner[1]
    for x, y in sorted((x, y) for x, y in points if x < corner[0]):
        if y < height:
            volume += (corner[0] - x) * (height - y)
            height = y
    return volume


def two_objectives() -> dict[str, bool]:
    pairs: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
        "NSGA-II": (
            lambda seed: NSGAIISampler(seed=seed, population_size=20),
            lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
        ),
        "TPE": (lambda seed: TPESampler(seed=seed), lambda seed: optuna.samplers.TPESampler(seed=seed)),
    }
    seeds, trials = (3, 100) if QUICK else (15, 300)
    claims: dict[str, bool] = {}
    rows = []
    for name, makers in pairs.items():
        gaps: list[list[float]] = [[] for _ in range(seeds)]
        cells: dict[int, list[str]] = {0: [], 1: []}
        for zdt in (zdt1, zdt2, zdt3):

            def objective(trial: Any, zdt: Callable[[float, float], float] = zdt) -> tuple[float, float]:
                first, *others = floats(trial, 6, 0.0, 1.0)
                return first, zdt(first, 1 + 9 * sum(others) / 5)

            whole = hypervolume([(i / 10_000, zdt(i / 10_000, 1.0)) for i in range(10_001)])
            volumes: dict[int, list[float]] = {0: [], 1: []}
            for seed in range(seeds if name == "NSGA-II" else min(seeds, 8)):
                for place, create in enumerate((create_study, optuna.create_study)):
                    study: Any = create(sampler=makers[place](seed), directions=["minimize", "minimize"])
                    study.optimize(objective, n_trials=trials)
                    volumes[place].append(hypervolume([trial.values for trial in study.trials]) / whole)
                gaps[seed].append(volumes[0][-1] - volumes[1][-1])
            for place in (0, 1):
                cells[place].append(f"{statistics.mean(volumes[place]):.3f}")
        rows += [[name, *cells[0]], [f"Optuna {name}", *cells[1]]]
        low, middle, high = interval([statistics.mean(one) for one in gaps if one])
        claim = (
            f"two objectives: {name} is no worse than Optuna's: hypervolume {middle:+.3f} ({low:+.3f} to {high:+.3f})"
        )
        claims[claim] = high >= 0
    table(f"hypervolume after {trials} trials, as a part of the front's", ["", "ZDT1", "ZDT2", "ZDT3"], rows)
    return claims


if __name__ == "__main__":
    random.seed(0)
    functions = {name for group in GROUPS.values() for name in group}
    unknown = {*ASKED} - {*SAMPLERS} | {*OPTIONS.get("functions", "").split(",")} - {"", *functions}
    if unknown:
        sys.exit(f"not known: {', '.join(sorted(unknown))}")
    claims = one_objective()
    if not ASKED and "functions" not in OPTIONS:
        claims |= two_objectives()
    sys.exit(verdict(claims))
