"""Whether anything works at all: seen on the first results, before more is paid for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dspex.data import Evaluation, Example
from dspex.errors import DefinitionError, MetricError, StudyError
from dspex.modules import Module
from dspex.optimizers.scores import objective_of

__all__ = ["check_first"]

_ANSWERS = ("ParseError", "ToolError")  # what another prompt may mend, unlike a bug in the program


def check_first(rows: Sequence[Evaluation], program: Module, example: Example, objectives: Sequence[str]) -> None:
    """Raise when nothing of the first evaluation worked, for a reason that no configuration would mend.

    ``rows`` are what it gave, ``example`` is any of the valset.
    """
    if rows and all(not row.ok for row in rows):
        raise StudyError(
            f"all of the first {len(rows)} examples failed, so nothing can be searched; the last with {rows[-1].error}"
        )
    if rows and all(row.error and not row.error.startswith(_ANSWERS) for row in rows):
        raise DefinitionError(
            f"{type(program).__name__} raised on all of the first {len(rows)} examples, the last time "
            f"{rows[-1].error}. Its inputs are {sorted(example.inputs().to_dict())}; try it by hand first: "
            "program(**trainset[0].inputs())"
        )
    for row in rows:
        if row.ok and not row.error:
            _check_objectives(row, objectives)


def _check_objectives(row: Evaluation, objectives: Sequence[str]) -> None:
    for name in objectives:
        if math.isnan(objective_of(row, name)):
            had = ", ".join(map(repr, {**row.scores, **row.measured}))
            raise MetricError(
                f"there is no value for the objective {name!r}; the metric and the run gave {had}. Return it from "
                f'the metric, {{"score": ..., {name!r}: ...}}, or take it out of objectives='
            )
