"""What the benchmarks share: interleaved measurements, medians, a table, a verdict.

Contenders take turns within each repetition, in an order that changes, so that a machine that is slower for a
while is slower for all of them. What is compared is the median over the repetitions; where one contender waits
and the other computes, so that a slow while does not hit both alike, the best of each is shown as well.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

QUICK = "--quick" in sys.argv
"""Fewer repetitions: to see that a script runs, not to quote what it prints."""

REPETITIONS = 3 if QUICK else 15

Name = TypeVar("Name", bound=Hashable)


class Samples(list[float]):
    """The measurements of one contender, in one unit."""

    @property
    def median(self) -> float:
        return statistics.median(self)

    @property
    def best(self) -> float:
        """The highest: of a rate, what the least disturbed repetition showed."""
        return max(self)


def interleaved(contenders: Mapping[Name, Callable[[], float]], *, repetitions: int) -> dict[Name, Samples]:
    """Each contender measures itself once per repetition and returns the number."""
    found = {name: Samples() for name in contenders}
    gc.collect()
    gc.freeze()  # what the peers' imports left is not gone through again and again in everybody's time
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    for _ in range(repetitions):
        shuffle(order)
        for name in order:
            gc.collect()
            found[name].append(contenders[name]())
    return found


def faster(mine: Samples, peer: Samples) -> float:
    """How many times as long ``peer`` takes, in the median repetition: its own slow whiles are in both."""
    return statistics.median(other / one for one, other in zip(mine, peer, strict=True))


def per_call(function: Callable[[], object], *, calls: int) -> Callable[[], float]:
    """A contender: microseconds of processor time that one call of ``function`` takes.

    Processor time and not wall time, which on a machine with other work to do measures that work too; where
    there is none, the two are the same for code that never waits.
    """
    function()  # what happens once is not what is measured

    def measure() -> float:
        began = time.process_time()
        for _ in range(calls):
            function()
        return (time.process_time() - began) / calls * 1e6

    return measure


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns; the first column to the left, the numbers to the right."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    print(f"\n{title}\n")
    for row in [columns, ["-" * width for width in widths], *rows]:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  " + "  ".join([row[0].ljust(widths[0]), *numbers]))
    print(flush=True)


def verdict(claims: Mapping[str, bool]) -> int:
    """Print whether each claim holds; the exit status of the script."""
    for claim, holds in claims.items():
        print(f"  {'holds ' if holds else 'MISSED'}  {claim}")
    return 0 if all(claims.values()) else 1
