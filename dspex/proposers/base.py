"""What a proposer is: it makes new candidates for open-ended variables and puts them in their pools.

A sampler can only choose among what is there. For an instruction or a set of demos nothing is there at first but
the value the program came with; proposers extend the pools, at the start of a search and again while it learns.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs

from dspex.data import Evaluation, Example
from dspex.modules import Module, Predict
from dspex.study import StudyPool
from dspex.variables import Demos, Prompt, Space, VariableState

__all__ = ["Demonstration", "Proposer", "Workbench", "predictor_variables"]


@attrs.frozen
class Demonstration:
    """One example as the program really ran it: the row it scored, and a demo for each predictor it used."""

    example: Example
    row: Evaluation
    demos: Mapping[str, Example]
    """Predictor path → its inputs and outputs in that run, marked ``augmented``."""
    merit: float
    """The first objective, negated when it is minimized: more is better."""


class Workbench(Protocol):
    """What a proposer may use of a search: never the held-out examples."""

    @property
    def program(self) -> Module: ...
    @property
    def space(self) -> Space: ...
    @property
    def best_state(self) -> VariableState:
        """The best configuration so far; at first the program's own values."""
        ...

    @property
    def trainset(self) -> Sequence[Example]:
        """Examples to learn from; the search is scored on others."""
        ...

    def random(self, *key: str | int) -> random.Random:
        """A generator that depends on the search's seed and ``key`` alone, so that a resumed search repeats."""
        ...

    def pool(self, path: str) -> StudyPool: ...

    def demonstrate(self, state: VariableState, examples: Sequence[Example]) -> Iterator[Demonstration]:
        """Run the program on ``examples``; what was run before, also in an earlier process, is not run again."""
        ...

    def remember(self, key: str, make: Callable[[], Any]) -> Any:
        """What ``make()`` gave when it was first called under this key, in this process or an earlier one."""
        ...

    def call(self, module: Module, **inputs: Any) -> Any:
        """Call a module with the search's model, counted against its budget."""
        ...


class Proposer(ABC):
    """Makes candidates. Subclass it and write `propose`; add what you make with ``bench.pool(path).add(...)``.

    A proposer must repeat itself: called again with the same ``round`` on the same search, it makes the same
    candidates without paying for them twice. Items are content-addressed, so adding one again does nothing.
    """

    @abstractmethod
    def propose(self, bench: Workbench, *, round: int = 0) -> None:
        """Extend the pools. ``round`` counts from 0, which comes before anything is known."""

    def to_json(self) -> dict[str, Any]:
        """The configuration, which is part of a search's identity."""
        return {
            "proposer": type(self).__name__,
            **{k: v for k, v in vars(self).items() if not k.startswith("_")},
        }


def predictor_variables(bench: Workbench, kind: type[Prompt] | type[Demos]) -> Iterator[tuple[str, str, Predict]]:
    """The searched open-ended variables of ``kind`` that a predictor owns: (path, predictor path, predictor)."""
    predictors = dict(bench.program.named_predictors())
    attribute = "instructions" if kind is Prompt else "demos"
    for path in bench.space.tunable:
        owner = path.rpartition(".")[0] if path != attribute else ""
        if isinstance(bench.space[path].domain, kind) and owner in predictors and path.endswith(attribute):
            yield path, owner, predictors[owner]
