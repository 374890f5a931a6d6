"""Demos: labelled examples as they are, and bootstrapped ones from runs that went well."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from dspex.data import Example
from dspex.proposers.base import Proposer, Workbench, predictor_variables
from dspex.proposers.checks import check_number, check_sizes, check_whole
from dspex.signatures.inputs import input_checks
from dspex.variables import Demos
from dspex.variables.messages import counted

__all__ = ["BootstrappedDemos", "LabeledDemos"]


class LabeledDemos(Proposer):
    """Sets of training examples, drawn at random, for every predictor whose fields they have.

    An example with a value that does not fit its field, such as a label that is missing, is no demo.

    Args:
        sizes: how many demos a set has; ``None`` tries 1/4, 1/2 and all of what the variable allows.
        sets: how many sets of each size.

    Source: Khattab et al. 2023, "DSPy", section 4.1 (LabeledFewShot).

    >>> from dspex.optimizers import JointSearch
    >>> JointSearch(proposers=[LabeledDemos(sizes=(2, 4), sets=5)]).proposers[0].sizes
    (2, 4)
    """

    def __init__(self, *, sizes: Sequence[int] | None = None, sets: int = 3) -> None:
        check_sizes(sizes)
        check_whole("sets", sets, 1)
        self.sizes = None if sizes is None else tuple(sizes)
        self.sets = sets

    def propose(self, bench: Workbench, *, round: int = 0) -> None:
        """Add the sets; later rounds draw further ones."""
        for path, owner, predictor in predictor_variables(bench, Demos):
            fields = predictor.signature.fields
            required = {
                name for name in fields if not (name == "reasoning" and name in predictor.signature.output_fields)
            }
            checks = input_checks(fields)
            usable = [
                example
                for example in bench.trainset
                if required <= example.keys()
                and not any(name in example and check(example[name]) is not None for name, check in checks)
            ]
            if not usable:
                continue
            inputs = tuple(predictor.signature.input_fields)
            add_sets(
                bench,
                path,
                [_only(example, fields).with_inputs(*inputs) for example in usable],
                self.sizes,
                self.sets,
                bench.random("labeled", owner, round),
                "labeled",
            )


class BootstrappedDemos(Proposer):
    """Demos from the program's own runs on training examples that the metric found good.

    They show each predictor intermediate values that no label has (reasoning, queries). The best configuration
    so far is the teacher, so each round can teach from a better one.

    Args:
        threshold: the lowest score of a run that may teach (of an objective that is minimized: the highest, negated).
        examples: how many training examples to run per round.
        sizes, sets: as for `LabeledDemos`.

    Source: Khattab et al. 2023, "DSPy", section 4.2 (BootstrapFewShot).

    >>> from dspex.optimizers import JointSearch
    >>> JointSearch(proposers=[LabeledDemos(), BootstrappedDemos(threshold=0.8)]).proposers[1].threshold
    0.8
    """

    def __init__(
        self,
        *,
        threshold: float = 1.0,
        examples: int = 24,
        sizes: Sequence[int] | None = None,
        sets: int = 3,
    ) -> None:
        check_number("threshold", threshold, example=1.0)
        check_whole("examples", examples, 1)
        check_sizes(sizes)
        check_whole("sets", sets, 1)
        self.threshold = threshold
        self.examples = examples
        self.sizes = None if sizes is None else tuple(sizes)
        self.sets = sets

    def propose(self, bench: Workbench, *, round: int = 0) -> None:
        """Run some training examples and add sets of the demos they gave."""
        paths = list(predictor_variables(bench, Demos))
        if not paths:
            return
        order = list(bench.trainset)
        bench.random("bootstrap", round).shuffle(order)
        found: dict[str, list[Example]] = {}
        for shown in bench.demonstrate(bench.best_state, order[: self.examples]):
            if shown.merit >= self.threshold:
                for owner, demo in shown.demos.items():
                    found.setdefault(owner, []).append(demo)
        for path, owner, _ in paths:
            if owner in found:
                rng = bench.random("bootstrap-sets", owner, round)
                add_sets(bench, path, found[owner], self.sizes, self.sets, rng, "bootstrapped")


def _only(example: Example, names: Any) -> Example:
    return Example({name: example[name] for name in names if name in example})


def add_sets(
    bench: Workbench,
    path: str,
    demos: Sequence[Example],
    sizes: Sequence[int] | None,
    sets: int,
    rng: random.Random,
    source: str,
) -> None:
    """Add ``sets`` random sets of each size to the pool at ``path``, or of as many demos as there are."""
    domain = bench.space[path].domain
    limit: int = getattr(domain, "max_demos", 16)
    if sizes is None:
        sizes = (max(1, limit // 4), max(1, limit // 2), limit)
    for size in sorted({min(size, limit, len(demos)) for size in sizes}):
        if size:
            for _ in range(sets):
                bench.pool(path).add(tuple(rng.sample(list(demos), size)), source=source, note=counted(size, "demo"))
