"""The values of trials as columns of numbers, and when a variable is there at all.

A number stands on the unit interval, on a log scale where its domain says so; anything else (an option, a subset, the
candidate of a pool) is one of some categories, and stands there as its position. NaN stands where a trial does not
have the variable, because it was inactive, or has it unset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.samplers.dimensions import NumberDimension
from dspex.trials import FrozenTrial
from dspex.trials.params import encode_param
from dspex.variables import Condition, Domain, Float, Int, Space, canonical_json

__all__ = ["CELLS", "Column", "column_of", "gates"]

CELLS = 64
"""Into how many cells the range of a continuous variable is divided."""


@attrs.frozen(eq=False)
class Column:
    """One variable over some trials.

    ``values`` has an entry for each trial; ``cells`` is how many cells the variable's range has, all of the same
    right: those of a category are the categories themselves. ``seen`` says which cells count: a category that no
    trial has had is none. ``discrete`` says that a cell is one value.
    """

    path: str
    values: NDArray[np.float64]
    categorical: bool
    cells: int
    discrete: bool
    seen: NDArray[np.bool_]
    dimension: NumberDimension | None
    categories: Mapping[str, int]

    @property
    def active(self) -> NDArray[np.bool_]:
        """Which trials have the variable."""
        return ~np.isnan(self.values)

    @property
    def places(self) -> NDArray[np.int64]:
        """The cell of each trial's value; -1 where there is none."""
        scaled = self.values if self.categorical else np.minimum(self.values * self.cells, self.cells - 1)
        return np.where(self.active, np.nan_to_num(scaled), -1).astype(np.int64)

    def place(self, domain: Domain[Any], value: Any) -> float:
        """What stands in the column for ``value``; NaN for none and for what no trial has had."""
        if value is None and self.dimension is not None:
            return math.nan
        if self.dimension is None:
            return float(self.categories.get(canonical_json(encode_param(domain, value)), math.nan))
        found = self.dimension.encode(value)
        return math.nan if found is None else float(found[0])


def column_of(path: str, trials: Sequence[FrozenTrial]) -> Column:
    """The column of a variable that at least one of ``trials`` has."""
    domains = [trial.distributions[path] for trial in trials if path in trial.params]
    domain = _hull(domains)
    if isinstance(domain, Float | Int):
        dimension = NumberDimension(domain)
        cells = dimension.cells if 0 < dimension.cells <= CELLS and not domain.log else CELLS
        column = Column(
            path, np.empty(0), False, cells, cells == dimension.cells, np.ones(cells, np.bool_), dimension, {}
        )
    else:
        options = [] if domain.open_ended else list(domain.candidates() or ())
        keys = [canonical_json(encode_param(domain, option)) for option in options]
        keys += [canonical_json(encode_param(domain, trial.params[path])) for trial in trials if path in trial.params]
        categories = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        empty = np.zeros(len(categories), np.bool_)
        column = Column(path, np.empty(0), True, len(categories), True, empty, None, categories)
    values = [column.place(domain, trial.params[path]) if path in trial.params else math.nan for trial in trials]
    column = attrs.evolve(column, values=np.array(values))
    if column.categorical:
        column = attrs.evolve(column, seen=np.bincount(column.places[column.active], minlength=column.cells) > 0)
    return column


def _hull(domains: Sequence[Domain[Any]]) -> Domain[Any]:
    """One domain for all trials; the bounds of a number may differ from trial to trial."""
    first = domains[0]
    if isinstance(first, Float | Int) and any(domain != first for domain in domains):
        numbers: Any = domains
        low, high = min(domain.low for domain in numbers), max(domain.high for domain in numbers)
        return type(first)(low, high, log=first.log)
    return first


def gates(columns: Sequence[Column], space: Space | None) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """For each variable that not all trials have: the variables it hangs on, and with which of their cells it is there.

    A declared space says it by its conditions. Where an objective declares variables while it runs, the fewest
    variables are taken by which the trials without it can be told from those with it.
    """
    known = {column.path: column for column in columns}
    found: dict[str, dict[str, NDArray[np.bool_]]] = {}
    for column in columns:
        if column.active.all():
            found[column.path] = {}
        elif space is not None and column.path in space:
            found[column.path] = _declared(column.path, space, known)
        else:
            found[column.path] = _observed(column, [other for other in columns if other is not column])
    return found


def _declared(path: str, space: Space, known: Mapping[str, Column]) -> dict[str, NDArray[np.bool_]]:
    found: dict[str, NDArray[np.bool_]] = {}
    pending: list[Condition] = list(space[path].conditions)
    while pending:
        condition = pending.pop()
        column, domain = known.get(condition.path), space[condition.path].domain
        pending += space[condition.path].conditions
        if column is not None and domain is not None:
            mask = np.zeros(column.cells, np.bool_)
            place = column.place(domain, condition.value)
            if not math.isnan(place):
                mask[int(place) if column.categorical else min(int(place * column.cells), column.cells - 1)] = True
            found[condition.path] = mask
    return found


def _observed(column: Column, others: Sequence[Column]) -> dict[str, NDArray[np.bool_]]:
    active = column.active
    missing, found = ~active, dict[str, NDArray[np.bool_]]()
    candidates = []
    for other in others:
        if other.discrete and other.active[active].all():
            mask = np.bincount(other.places[active], minlength=other.cells) > 0
            apart = other.active & ~mask[other.places]
            candidates.append((other.path, mask, apart))
    while missing.any() and candidates:
        path, mask, apart = max(candidates, key=lambda candidate: int((candidate[2] & missing).sum()))
        if not (apart & missing).any():
            break
        found[path] = mask
        missing = missing & ~apart
    return found
