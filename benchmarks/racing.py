"""Racing: how many draws the bets need, how often they are wrong, and what a search by them reaches beside halving.

Bets: two configurations of unequal quality on examples that differ in difficulty; the draws until the worse one is out
at 5 %, by an empirical Bernstein bound (Waudby-Smith & Ramdas 2024, theorem 2), by our bets on paired differences, by
our bets against the known mean of the better one with what is expected of each example, and by those on examples drawn
by how much they can tell. Beside it the share of populations without a difference in which each is wrong.

Search: TPE with successive halving and TPE with races (`JointSearch`), on simulated landscapes (`_landscapes`), as in
`structured.py`. A false claim is a paired test on held-out examples that finds a gain where there is none.

    python benchmarks/racing.py [--quick] [--seeds=6] [--limit=600] [family ...]

Seeds from 3000 on were not looked at while it was made.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small and the processes many

import math
import statistics
import sys
from collections.abc import Callable
from multiprocessing import Pool

import attrs
import numpy as np
from _landscapes import FAMILIES, Landscape
from _measure import QUICK, table, verdict
from _simulated import Course, PoolFiller, simulate

from dspex.optimizers import Allocator, Halving, JointSearch, Racing
from dspex.pruners.betting import wealth

ALPHA = 0.05
SHARES = (0.4, 0.6, 0.8)
FLAT_TIMES = 3
ALLOCATORS: dict[str, Callable[[], Allocator]] = {
    "TPE + halving": Halving,
    "TPE + racing": Racing,
    "TPE + racing, margin 0.05": lambda: Racing(margin=0.05),
}


# The bets


def _solved(rng: np.random.Generator, ease: np.ndarray) -> np.ndarray:
    return (rng.random(len(ease)) < 1 / (1 + np.exp(-ease))) * 1.0


def _needed(path: np.ndarray) -> int:
    """Draws until the evidence suffices; one more than there are when it never does."""
    over = path >= 1 / ALPHA
    return int(over.argmax()) + 1 if over.any() else len(path) + 1


def bernstein(differences: np.ndarray) -> np.ndarray:
    """The evidence of the predictable plug-in empirical Bernstein bound, without replacement, after each draw."""
    x, size = (differences + 1) / 2, len(differences)
    draws = np.arange(1, size + 1)
    means = (0.5 + np.cumsum(x)) / (draws + 1)
    before = np.concatenate([[0.5], means[:-1]])
    variance = np.concatenate([[0.25], ((0.25 + np.cumsum((x - means) ** 2)) / (draws + 1))[:-1]])
    bets = np.minimum(np.sqrt(2 * math.log(1 / ALPHA) / (variance * min(size, 60))), 0.5)
    target = (size / 2 - np.concatenate([[0.0], np.cumsum(x)[:-1]])) / (size - draws + 1)
    path = np.exp(np.cumsum(bets * (target - x) - (x - before) ** 2 * (-np.log1p(-bets) - bets)))
    return np.where(np.cumsum(differences) + size - draws < 0, np.inf, path)  # nothing is left to make it up with


def draws_needed(better: np.ndarray, worse: np.ndarray, usual: np.ndarray, rng: np.random.Generator) -> list[int]:
    """By each way to bet that ``worse`` is no better than ``better``."""
    order = rng.permutation(len(better))
    expected = usual - usual.mean() + better.mean()
    room = np.maximum(1 - expected, 0.01)
    weights = 0.2 + 0.8 * room / room.mean()
    told = np.argsort(rng.exponential(size=len(order)) / weights)
    paths = [
        bernstein((worse - better)[order]),
        wealth((worse - better)[order], rooms=np.ones(len(order))),
        wealth((worse - expected)[order], rooms=(1 - expected)[order]),
        wealth((worse - expected)[told], rooms=(1 - expected)[told], weights=weights[told]),
    ]
    return [_needed(path) for path in paths]


def bets(runs: int) -> None:
    rows, wrong = [], np.zeros(4)
    tried = 0
    for size in (20, 50, 300):
        for spread in (1.5, 4.0):
            for gap in (0.0, 0.7, 1.5, 3.0):
                rng = np.random.default_rng([size, int(10 * spread), int(10 * gap)])
                found, differences = [], []
                for _ in range(runs):
                    ease = rng.normal(0, spread, size)
                    better, worse = _solved(rng, ease + 0.6), _solved(rng, ease + 0.6 - gap)
                    known = [_solved(rng, ease + 0.6 - shift) for shift in rng.uniform(0, 4, 10)]
                    usual = (np.sum(known, axis=0) + 0.5) / 11
                    if (gap > 0) == (worse.sum() < better.sum()):  # without a gap, those that are as good
                        found.append(draws_needed(better, worse, usual, rng))
                        differences.append(float((better - worse).mean()))
                if gap:
                    means = np.mean(found, axis=0)
                    rows.append([f"{size}", f"{spread:g}", f"{np.mean(differences):.2f}", *(f"{m:.1f}" for m in means)])
                else:
                    wrong += (np.array(found) <= size).sum(axis=0)
                    tried += len(found)
    ways = ["empirical Bernstein", "pairs", "against the bar", "and telling examples"]
    table("draws until the worse one is out at 5 %", ["examples", "sd of difficulty", "difference", *ways], rows)
    table(
        f"wrongly out, of {tried} that are at least as good",
        ways,
        [[f"{100 * share:.1f} %" for share in wrong / tried]],
    )


# The search


@attrs.frozen
class Result:
    course: Course
    claims: bool


def run(job: tuple[str, str, int, float]) -> Result:
    family, name, seed, limit = job
    landscape = Landscape(family, seed)
    search = JointSearch(
        trials=10**6, patience=None, proposers=[PoolFiller(landscape)], seed=seed, allocator=ALLOCATORS[name]()
    )
    course, test = simulate(landscape, search, limit=limit)
    return Result(course, test.significant and test.difference > 0)


def main() -> int:
    families = [one for one in sys.argv[1:] if not one.startswith("--")] or ["program", "high-order", "floats", "flat"]
    options = dict(one[2:].split("=") for one in sys.argv[1:] if "=" in one)
    seeds = int(options.get("seeds", 1 if QUICK else 6))
    limit = float(options.get("limit", 150 if QUICK else 600))
    bets(10 if QUICK else 100)
    claims = {}
    with Pool(min(2, os.cpu_count() or 1)) as pool:
        for family in families:
            flat = FAMILIES[family].flat
            count = seeds * FLAT_TIMES if flat else seeds
            rows, means = [], {}
            for name in ALLOCATORS:
                results = pool.map(run, [(family, name, 3000 + seed, limit) for seed in range(count)], chunksize=1)
                rows.append([name, *_row(results, limit)])
                means[name] = statistics.fmean(one.course.mean(limit) for one in results)
                if flat and name == "TPE + racing":
                    false = sum(one.claims for one in results)
                    claims[f"{family}: no more than 5 % false claims"] = false <= 0.05 * count
            table(
                f"{family}: {count} seeds, up to {limit:.0f} evaluations",
                ["search", *(f"to {share:.0%}" for share in SHARES), "1/3", "2/3", "the end", "on average", "claims"],
                rows,
            )
            if not flat:
                ours, theirs = means["TPE + racing"], means["TPE + halving"]
                claims[f"{family}: not behind halving (mean share closed, {ours:.2f} and {theirs:.2f})"] = (
                    ours >= theirs
                )
    status = verdict(claims)
    return 0 if QUICK else status


def _row(results: list[Result], limit: float) -> list[str]:
    cells = []
    for share in SHARES:
        paid = [one.course.reaches(share) for one in results]
        middle = statistics.median(math.inf if one is None else one for one in paid)
        cells.append(f"{'-' if math.isinf(middle) else f'{middle:.0f}'} ({sum(one is not None for one in paid)})")
    closed = [statistics.fmean(one.course.at(limit * part) for one in results) for part in (1 / 3, 2 / 3, 1)]
    mean = statistics.fmean(one.course.mean(limit) for one in results)
    return [*cells, *(f"{share:.2f}" for share in (*closed, mean)), f"{sum(one.claims for one in results)}"]


if __name__ == "__main__":
    raise SystemExit(main())
