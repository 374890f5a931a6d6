"""How many example evaluations a search needs to close a share of the gap between the default and the optimum.

On simulated landscapes (`_landscapes`), each search as users run it (`_simulated`): random configurations and TPE on
all examples of the valset, TPE with successive halving over examples (`JointSearch`), and `StructuredSearch`. What is
looked at after each evaluation is the true accuracy of the configuration that would be returned then. Where models
differ in price, thousandths of a dollar stand for evaluations. A false claim is a paired test on held-out examples
that finds a gain where there is none.

    python benchmarks/structured.py [--quick] [--seeds=5] [--limit=600] [--first=4000] [--development] [family ...]

Seeds below 4000 were looked at while the sampler was made (--development runs some of them); the others were not looked
at before a result was told.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small and the processes many

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pool

import attrs
from _landscapes import FAMILIES, Landscape
from _measure import QUICK, table, verdict
from _simulated import Course, PoolFiller, simulate

from dspex.optimizers import Halving, JointSearch, Optimizer, StructuredSearch
from dspex.samplers import RandomSampler

SHARES = (0.4, 0.6, 0.8)
FLAT_TIMES = 4  # as many seeds for the flat family, because a share of them is what is counted
ENDLESS = 10**6


def _random(landscape: Landscape, seed: int) -> Optimizer:
    return _joint(landscape, seed, sampler=RandomSampler(seed=seed), width=4, allocator=_all(landscape))


def _tpe(landscape: Landscape, seed: int) -> Optimizer:
    return _joint(landscape, seed, width=4, allocator=_all(landscape))


def _all(landscape: Landscape) -> Halving:
    return Halving(min_examples=landscape.recipe.examples)


def _joint(landscape: Landscape, seed: int, **options: object) -> Optimizer:
    return JointSearch(trials=ENDLESS, patience=None, proposers=[PoolFiller(landscape)], seed=seed, **options)


def _structured(landscape: Landscape, seed: int) -> Optimizer:
    return StructuredSearch(evaluations=ENDLESS, proposers=[PoolFiller(landscape)], seed=seed)


SEARCHES: dict[str, Callable[[Landscape, int], Optimizer]] = {
    "random": _random,
    "TPE": _tpe,
    "TPE + halving": _joint,
    "structured": _structured,
}


@attrs.frozen
class Result:
    course: Course
    claims: bool
    seconds: float


def run(job: tuple[str, str, int, float]) -> Result:
    family, search, seed, limit = job
    landscape = Landscape(family, seed)
    began = time.process_time()
    course, test = simulate(landscape, SEARCHES[search](landscape, seed), limit=limit)
    return Result(course, test.significant and test.difference > 0, time.process_time() - began)


def median(numbers: Sequence[float | None]) -> float:
    return statistics.median(math.inf if number is None else number for number in numbers)


def highest(family: str, limit: float) -> float:
    """What a search of this family may pay: most calls of ``models`` cost a quarter."""
    return limit / 4 if family == "models" else limit


def lateness(results: Sequence[Result], share: float) -> tuple[float, int]:
    """The median to close this share of the gap; if most seeds do not, also how many."""
    paid = [one.course.reaches(share) for one in results]
    middle = median(paid)
    return middle, paid.count(None) if math.isinf(middle) else 0


def main() -> int:
    families = [name for name in sys.argv[1:] if not name.startswith("--")] or list(FAMILIES)
    options = dict(one[2:].split("=") for one in sys.argv[1:] if "=" in one)
    seeds = int(options.get("seeds", 1 if QUICK else 5))
    limit = float(options.get("limit", 150 if QUICK else 600))
    first = 0 if QUICK or "--development" in sys.argv else int(options.get("first", 4000))
    if QUICK:
        families = families[:2]
    found: dict[tuple[str, str], list[Result]] = {}
    with Pool(min(2, os.cpu_count() or 1)) as pool:
        for family in families:
            count = seeds * FLAT_TIMES if FAMILIES[family].flat else seeds
            most = highest(family, limit)
            rows = []
            for name in SEARCHES:
                jobs = [(family, name, first + seed, most) for seed in range(count)]
                results = found[family, name] = pool.map(run, jobs, chunksize=1)
                rows.append([name, *_row(results, most)])
            paid = "thousandths of a dollar" if family == "models" else "evaluations"
            table(
                f"{family}: {count} seeds from {first}, up to {most:.0f} {paid}",
                [
                    "search",
                    *(f"to {share:.0%}" for share in SHARES),
                    "closed at 1/3",
                    "2/3",
                    "the end",
                    "claims",
                    "cpu s",
                ],
                rows,
            )
    status = verdict(_claims(found, families, limit))
    return 0 if QUICK else status


def _row(results: Sequence[Result], limit: float) -> list[str]:
    reached = [[one.course.reaches(share) for one in results] for share in SHARES]
    cells = []
    for paid in reached:
        middle = median(paid)
        number = "-" if math.isinf(middle) else f"{middle:.0f}"
        cells.append(f"{number} ({sum(one is not None for one in paid)})")
    closed = [statistics.fmean(one.course.at(limit * part) for one in results) for part in (1 / 3, 2 / 3, 1)]
    claims = sum(one.claims for one in results)
    return [
        *cells,
        *(f"{share:.2f}" for share in closed),
        f"{claims} of {len(results)}",
        f"{statistics.fmean(one.seconds for one in results):.1f}",
    ]


def _claims(found: dict[tuple[str, str], list[Result]], families: Sequence[str], limit: float) -> dict[str, bool]:
    claims = {}
    for family in (name for name in ("study", "program") if name in families):
        ours = found[family, "structured"]
        for share, most in ((0.6, 200), (0.8, 550)):
            paid = [one.course.reaches(share) for one in ours]
            claims[f"{family}: {share:.0%} of the gap in {most} evaluations or less (median)"] = median(paid) <= most
            claims[f"{family}: every seed closes {share:.0%} within {limit:.0f}"] = None not in paid
    for family in families:
        if FAMILIES[family].flat:
            share = statistics.fmean(one.claims for one in found[family, "structured"])
            claims[f"{family}: no more than 5 % false claims"] = share <= 0.05
        else:
            ours, theirs = found[family, "structured"], found[family, "TPE + halving"]
            for share in SHARES:
                late = f"{family}: {share:.0%} of the gap no later than TPE + halving (median, or else seeds that do)"
                claims[late] = lateness(ours, share) <= lateness(theirs, share)
            most = highest(family, limit)
            mean, other = (
                statistics.fmean(one.course.at(most * part / 10) for one in results for part in range(2, 11))
                for results in (ours, theirs)
            )
            claims[f"{family}: not behind TPE + halving (mean share closed, {mean:.2f} and {other:.2f})"] = (
                mean >= other
            )
    return claims


if __name__ == "__main__":
    raise SystemExit(main())
