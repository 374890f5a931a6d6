"""Which examples a search may learn from, score on, and must not see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dspex.data import Example, require_examples, split
from dspex.errors import DataError
from dspex.variables.messages import counted

__all__ = ["Splits", "split_for_search"]


class Splits(NamedTuple):
    """Disjoint by content: the same example never stands on two sides, nor twice on one."""

    train: list[Example]
    validation: list[Example]
    heldout: list[Example]


def split_for_search(
    trainset: Sequence[Example],
    valset: Sequence[Example] | None,
    testset: Sequence[Example] | None,
    *,
    seed: int,
) -> Splits:
    """The three sides; what is not given is taken from ``trainset`` by a seeded shuffle.

    Raises:
        DataError: too few examples to split, or a given side shares an example with another.
    """
    valset = None if valset is None else require_examples(valset, name="valset")
    testset = None if testset is None else require_examples(testset, name="testset")
    if valset is not None and testset is not None:
        sides = Splits(list(trainset), list(valset), list(testset))
    else:
        shares = {"train": 0.30, "val": 0.35, "test": 0.35}
        if valset is not None:
            shares = {"train": 0.65, "val": 0.0, "test": 0.35}
        elif testset is not None:
            shares = {"train": 0.40, "val": 0.60, "test": 0.0}
        distinct = len({example.id for example in trainset})
        if distinct < 6:
            raise DataError(
                f"trainset has {counted(distinct, 'different example')}, too few to split for validation and a "
                "held-out comparison; give at least 6 (better 60), or give valset= and testset= of their own"
            )
        parts = split(trainset, seed=seed, **shares)
        sides = Splits(
            list(parts.train),
            list(parts.val) if valset is None else list(valset),
            list(parts.test) if testset is None else list(testset),
        )
    sides = Splits(*(list({example.id: example for example in side}.values()) for side in sides))
    _check_disjoint(sides)
    return sides


def _check_disjoint(sides: Splits) -> None:
    ids = [{example.id for example in side} for side in sides]
    names = ("trainset", "valset", "testset")
    for one, other in ((0, 1), (0, 2), (1, 2)):
        shared = ids[one] & ids[other]
        if shared:
            raise DataError(
                f"{names[one]} and {names[other]} share {counted(len(shared), 'example')}, for instance the one with "
                f"id {min(shared)!r}; scores on them would be too good. Take them out of one side"
            )
