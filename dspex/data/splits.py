"""Seeded, disjoint parts of a dataset.

The place of an example in the shuffled order follows from the seed and its own content, so the parts do not
depend on the order of the file, and an example that is there twice is never in two parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dspex.data.example import Example
from dspex.data.loading import require_examples
from dspex.errors import DataError
from dspex.variables.codec import content_id

__all__ = ["Split", "sample", "split"]


class Split(NamedTuple):
    """Three disjoint parts: to learn from, to choose by, and to report on once."""

    train: list[Example]
    val: list[Example]
    test: list[Example]

    def __repr__(self) -> str:
        return f"<Split: {len(self.train)} train, {len(self.val)} val, {len(self.test)} test>"


def split(
    examples: Iterable[Example],
    *,
    seed: int = 0,
    train: float | int = 0.5,
    val: float | int = 0.25,
    test: float | int = 0.25,
) -> Split:
    """``examples`` in three parts that share no content.

    A size is a fraction of the whole (a float, ``1.0`` is all of it) or a count (an int). What the sizes
    leave over is in no part. Examples of the same content stay together, so with duplicates a part can be
    larger or smaller than asked for by up to their number.

    Raises `DataError` for an empty dataset and for sizes that are negative or ask for more than there is.

    >>> numbers = [Example(n=n) for n in range(100)]
    >>> split(numbers, seed=7)
    <Split: 50 train, 25 val, 25 test>
    >>> split(numbers, seed=7, train=20, val=0.1, test=0).train == split(numbers[::-1], seed=7).train[:20]
    True
    """
    rows = require_examples(examples, name="examples", inputs=False)
    counts = [_count(name, size, len(rows)) for name, size in (("train", train), ("val", val), ("test", test))]
    if sum(counts) > len(rows) + 1e-9:
        raise DataError(
            f"split: train={train!r}, val={val!r} and test={test!r} ask for more than the {len(rows)} "
            f"examples there are; write fractions that add up to 1.0 at most, or smaller counts."
        )
    ends = [round(sum(counts[: index + 1])) for index in range(3)]
    parts = Split([], [], [])
    place = 0
    for group in _shuffled(rows, seed):
        index = next((index for index, end in enumerate(ends) if place < end), None)
        if index is None:
            break
        parts[index].extend(group)
        place += len(group)
    return parts


def sample(examples: Iterable[Example], count: int, *, seed: int = 0) -> list[Example]:
    """``count`` of the examples, the same ones for the same seed, in an order of their own.

    >>> letters = [Example(letter=letter) for letter in "abcdef"]
    >>> sample(letters, 2, seed=1) == sample(letters, 4, seed=1)[:2]
    True
    """
    rows = require_examples(examples, name="examples", inputs=False)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= len(rows):
        raise DataError(
            f"sample: count={count!r} ({type(count).__name__}) must be a whole number from 0 to {len(rows)}, "
            f"the number of examples."
        )
    return [example for group in _shuffled(rows, seed) for example in group][:count]


def _shuffled(rows: Sequence[Example], seed: int) -> list[list[Example]]:
    groups: dict[str, list[Example]] = {}
    for example in rows:
        groups.setdefault(example.id, []).append(example)
    return [groups[found] for found in sorted(groups, key=lambda found: content_id([seed, found]))]


def _count(name: str, size: float | int, total: int) -> float:
    if isinstance(size, bool) or not isinstance(size, int | float) or not math.isfinite(size) or size < 0:
        raise DataError(
            f"split: {name}={size!r} ({type(size).__name__}) must be a fraction such as 0.25 or a count such as 100."
        )
    if isinstance(size, float):
        if size > 1:
            raise DataError(f"split: {name}={size!r} is more than the whole; for a count write {round(size)}.")
        return size * total
    return size
