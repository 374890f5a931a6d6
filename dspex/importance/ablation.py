"""Ablation: from the defaults to the best configuration, which change carries how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from dspex.errors import StateError, StudyError
from dspex.importance.columns import Column, column_of, gates
from dspex.importance.forest import Leaves, grow
from dspex.importance.targets import Target, checked_params, index_of, measured, value_of
from dspex.study import Study
from dspex.trials import FrozenTrial, TrialState
from dspex.variables import Entry, Space, VariableState

__all__ = ["Ablation", "AblationStep", "ablate"]

Scores = float | Mapping[str, float]


@attrs.frozen(kw_only=True)
class AblationStep:
    """One change on the way.

    ``changed`` maps paths to (old, new); more than one when they only go together. ``gain`` is how much better the
    objective is after it, in the objective's unit (positive is better, whichever its direction). ``measured`` says
    whether both ends were run, rather than predicted; ``examples`` on how many shared examples they were compared
    (0: by their means), and ``error`` is the standard error of the gain over these (NaN without).
    """

    changed: dict[str, tuple[Any, Any]]
    gain: float
    measured: bool
    examples: int
    error: float


@attrs.frozen(kw_only=True)
class Ablation:
    """The way from ``start`` to ``end``: ``steps`` in order, the largest gain first at each point.

    ``total`` compares the two ends directly.
    """

    start: VariableState
    end: VariableState
    steps: tuple[AblationStep, ...]
    total: AblationStep

    @property
    def gains(self) -> dict[str, float]:
        """What was changed, by paths joined with ``+``, and its gain."""
        return {" + ".join(step.changed): step.gain for step in self.steps}


def ablate(
    study: Study,
    *,
    start: FrozenTrial | Mapping[str, Any] | None = None,
    end: FrozenTrial | Mapping[str, Any] | None = None,
    evaluate: Callable[[VariableState], Scores] | None = None,
    target: Target = None,
    objective: str = "score",
    seed: int = 0,
) -> Ablation:
    """The greedy path of Fawcett and Hoos, "Analysing Differences Between Algorithm Configurations Through Ablation",
    Journal of Heuristics 2016: of the variables that differ, the one whose change gains most is changed first, and
    so on.

    What a configuration on the way is worth is read from the ledger where it was run, example by example, so that
    two are compared on the examples that both have. What was never run is measured by ``evaluate``; without it, a
    random forest fitted to the trials predicts it (Biedenkapp et al., "Efficient Parameter Importance Analysis via
    Ablation with Surrogates", AAAI 2017), and the step says so.

    Args:
        study: What was tried.
        start: Where the way begins: the space's defaults, unless a trial or values are given.
        end: Where it ends: the study's best trial, unless given.
        evaluate: Measures a configuration: its value, or its score by example id. With k differences it is called
            up to k (k + 1) / 2 times.
        target: Which objective it is about, when there are several: its index or name.
        objective: Which of the ledger's scores belongs to it.
        seed: Of the forest.

    Raises:
        StudyError: when there is nothing to begin or to end with.
        StateError: when a value does not lie in its domain.

    >>> from dspex.study import create_study
    >>> from dspex.variables import Float, Int, Space
    >>> study = create_study(space=Space.of(x=Float(0.0, 1.0), k=Int(0, 3)), direction="maximize")
    >>> way = ablate(study, end={"x": 0.5, "k": 3}, evaluate=lambda state: state["x"] + state["k"])
    >>> way.gains
    {'k': 3.0, 'x': 0.5}
    """
    first, last = _ends(study, start, end)
    judge = _Judge(study, first.space, evaluate, target, objective, seed)
    steps, here = [], first
    while open_paths := _differences(here, last):
        options = [(path, state) for path in open_paths if (state := _with(here, last, [path])) is not None]
        if not options:  # no change is allowed alone, so the rest goes together
            options = [("", last)]
        compared = [(judge.compare(here, state), state) for _, state in options]
        step, here = max(compared, key=lambda pair: pair[0].gain)
        steps.append(step)
    return Ablation(start=first, end=last, steps=tuple(steps), total=judge.compare(first, last))


def _ends(
    study: Study, start: FrozenTrial | Mapping[str, Any] | None, end: FrozenTrial | Mapping[str, Any] | None
) -> tuple[VariableState, VariableState]:
    best = study.best_trial if end is None else end
    goal = study.values(best) if isinstance(best, FrozenTrial) else dict(best)
    begin = study.values(start) if isinstance(start, FrozenTrial) else dict(start or {})
    if study.space is not None:
        return study.space.state(begin), study.space.state(goal)
    if start is None:
        raise StudyError(
            "the study declares no space, so it has no defaults to begin with; write ablate(study, start=trial), "
            "with one of study.trials"
        )
    domains = {path: domain for trial in study.trials for path, domain in trial.distributions.items()}
    unknown = [path for path in {**begin, **goal} if path not in domains]
    if unknown:
        raise StudyError(f"no trial has a variable {unknown[0]!r}; there are: {', '.join(sorted(domains))}")
    # What only one end has comes and goes with what it hangs on.
    space = Space([Entry(path, domains[path], value) for path, value in {**goal, **begin}.items()])
    return space.state(), space.state(goal)


def _differences(here: VariableState, last: VariableState) -> list[str]:
    if here.fingerprint == last.fingerprint:
        return []
    active = set(here.active())
    return [path for path in here.diff(last).changed if path in active]


def _with(here: VariableState, last: VariableState, paths: list[str]) -> VariableState | None:
    state = here.copy()
    try:
        state.update({path: last[path] for path in paths})
    except StateError:  # a constraint forbids it
        return None
    return state


class _Judge:
    """What configurations are worth: measured, or predicted."""

    def __init__(
        self,
        study: Study,
        space: Space,
        evaluate: Callable[[VariableState], Scores] | None,
        target: Target,
        objective: str,
        seed: int,
    ) -> None:
        self._study = study
        self._space = space
        self._evaluate = evaluate
        self._target = target
        self._objective = objective
        self._seed = seed
        # A gain is what makes a loss smaller.
        self._sign = -1.0 if callable(target) else -study.directions[index_of(study, target)].sign
        read = value_of(study, target)
        self._told: dict[str, float] = {}
        self._fingerprints: dict[str, set[str]] = {}  # under which the ledger has the rows of a configuration
        for trial in study.trials:
            key = self._key(trial)
            if key is not None:
                self._fingerprints.setdefault(key, set()).add(trial.fingerprint)
                if trial.state is TrialState.COMPLETE:
                    self._told[key] = read(trial)
        self._known: dict[str, Scores | None] = {}
        self._model: tuple[list[Column], Leaves] | None = None

    def _key(self, trial: FrozenTrial) -> str | None:
        """The fingerprint that the trial's values have in the space of the ablation, where they have one."""
        if self._study.space is not None:
            return trial.fingerprint
        try:
            return self._space.state(self._study.values(trial)).fingerprint
        except StateError:  # it has other variables
            return None

    def compare(self, old: VariableState, new: VariableState) -> AblationStep:
        before, after = self._measured(old), self._measured(new)
        changed = {path: pair for path, pair in old.diff(new).changed.items() if path in {*old.active(), *new.active()}}
        if isinstance(before, Mapping) and isinstance(after, Mapping) and before.keys() & after.keys():
            gains = np.array([self._sign * (after[key] - before[key]) for key in before if key in after])
            error = float(gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else math.nan
            return AblationStep(
                changed=changed, gain=float(gains.mean()), measured=True, examples=len(gains), error=error
            )
        if before is not None and after is not None:
            gain, run = _mean(after) - _mean(before), True
        else:
            gain, run = self._predict(new) - self._predict(old), False
        return AblationStep(changed=changed, gain=self._sign * gain, measured=run, examples=0, error=math.nan)

    def _measured(self, state: VariableState) -> Scores | None:
        key = state.fingerprint
        if key not in self._known:
            self._known[key] = self._look_up(state)
        return self._known[key]

    def _look_up(self, state: VariableState) -> Scores | None:
        rows: dict[str, list[float]] = {}
        for fingerprint in sorted({state.fingerprint, *self._fingerprints.get(state.fingerprint, ())} - {""}):
            for row in self._study.ledger.rows(fingerprint=fingerprint):
                if row.ok and self._objective in row.scores:
                    rows.setdefault(row.example_id, []).append(row.scores[self._objective])
        if rows:
            return {example: sum(scores) / len(scores) for example, scores in rows.items()}
        if state.fingerprint in self._told:
            return self._told[state.fingerprint]
        if self._evaluate is None:
            return None
        found = self._evaluate(state)
        return dict(found) if isinstance(found, Mapping) else float(found)

    def _predict(self, state: VariableState) -> float:
        if self._model is None:
            data = measured(self._study, self._target)
            columns = [column_of(path, data.trials) for path in checked_params(data.trials, None)]
            self._model = (
                columns,
                grow(
                    columns, gates(columns, self._study.space), data.values, n_trees=64, max_depth=64, seed=self._seed
                ),
            )
        columns, leaves = self._model
        inside = np.ones(len(leaves.value), np.bool_)
        for index, column in enumerate(columns):
            place = self._place(column, state)
            if math.isnan(place):
                continue
            if column.categorical:
                inside &= leaves.members[:, leaves.offsets[index] + int(place)]
            else:
                inside &= (leaves.low[:, index] <= place) & (place <= leaves.high[:, index])
        count = np.bincount(leaves.tree[inside])
        sums = np.bincount(leaves.tree[inside], leaves.value[inside])
        return float((sums / count).mean())

    def _place(self, column: Column, state: VariableState) -> float:
        if column.path not in self._space or column.path not in state.active():
            return math.nan
        domain, value = self._space[column.path].domain, state[column.path]
        assert domain is not None, "a derived variable is in no trial"
        if domain.open_ended and value is not None:
            item = self._study.pool(column.path, domain).find(value)
            value = None if item is None else item.id
        return column.place(domain, value)


def _mean(scores: Scores) -> float:
    return sum(scores.values()) / len(scores) if isinstance(scores, Mapping) else scores
