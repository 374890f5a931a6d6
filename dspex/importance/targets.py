"""What importance is measured for: which number of a trial, and which trials have it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from dspex.errors import StudyError
from dspex.study import Study
from dspex.study.best import pareto_front
from dspex.trials import FrozenTrial, TrialState

__all__ = ["Measured", "Target", "checked_params", "index_of", "measured", "objective_names", "value_of"]

Target = Callable[[FrozenTrial], float] | int | str | None
"""``None`` for the only objective, the index or the name of one, or a function of the trial of which less is better."""


@attrs.frozen
class Measured:
    """The completed trials with a finite target, the targets, and the trials from best to worst.

    ``tiers`` are indices into ``trials``: those in one tier are as good as each other. Trials that violate a
    constraint stand in the last one.
    """

    trials: tuple[FrozenTrial, ...]
    values: NDArray[np.float64]
    tiers: tuple[tuple[int, ...], ...]

    def best(self, share: float) -> NDArray[np.bool_]:
        """Which trials are among the best ``share``, with all that are as good as the last of these."""
        chosen = np.zeros(len(self.trials), dtype=np.bool_)
        for tier in self.tiers:
            if chosen.sum() >= math.ceil(share * len(self.trials)):
                break
            chosen[list(tier)] = True
        return chosen


def measured(study: Study, target: Target, *, pareto: bool = False) -> Measured:
    """The trials of ``study`` that ``target`` measures; with ``pareto``, no target means all objectives at once.

    Raises:
        StudyError: when a target is needed and not given, or fewer than two trials have one.
    """
    together = pareto and target is None and len(study.directions) > 1
    read = (lambda trial: math.fsum(trial.values or ())) if together else value_of(study, target)
    trials: list[FrozenTrial] = []
    values: list[float] = []
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        value = read(trial)
        if math.isfinite(value):
            trials.append(trial)
            values.append(value)
    if len(trials) < 2:
        raise StudyError(
            f"importance needs at least two completed trials with a finite value, and study "
            f"{study.study_name!r} has {len(trials)}; run more with study.optimize(...)"
        )
    numbers = np.array(values)
    if together:
        tiers = _fronts(study, trials)
    else:
        sign = 1.0 if callable(target) else study.directions[index_of(study, target)].sign
        tiers = _levels(numbers * sign, trials)
    return Measured(tuple(trials), numbers, tiers)


def value_of(study: Study, target: Target) -> Callable[[FrozenTrial], float]:
    """The function that reads the target off a completed trial.

    Raises:
        StudyError: when the study has several objectives and none is chosen, or there is none of that index.
    """
    if callable(target):
        return lambda trial: _number(target(trial), trial)
    index = index_of(study, target)
    return lambda trial: math.nan if trial.values is None else trial.values[index]


def index_of(study: Study, target: int | str | None) -> int:
    """Which objective is meant.

    Raises:
        StudyError: when the study has several objectives and none is chosen, or there is no such one.
    """
    names, count = objective_names(study), len(study.directions)
    if target is None and count == 1:
        return 0
    if isinstance(target, str) and target in names:
        return names.index(target)
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < count:
        return target
    if target is None:
        raise StudyError(
            f"the study has {count} objectives; say which one is meant: target=0, ..., target={count - 1}, or by its "
            f"name: {', '.join(names)}"
        )
    raise StudyError(
        f"target must be a function of a trial, or the index or name of one of the {count} objectives "
        f"({', '.join(names)}), got {target!r} ({type(target).__name__}); write for example target=0"
    )


def objective_names(study: Study) -> list[str]:
    """What the objectives are called; "Objective 0" and so on where nobody has said."""
    return study.metric_names or [f"Objective {index}" for index in range(len(study.directions))]


def _number(value: object, trial: FrozenTrial) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise StudyError(
            f"target(trial) must return a number, and for trial {trial.number} it returned {value!r} "
            f"({type(value).__name__})"
        ) from None


def checked_params(trials: Sequence[FrozenTrial], params: Sequence[str] | None) -> list[str]:
    """The paths that are asked about, by default all that any trial has, sorted.

    Raises:
        StudyError: when a path is in none of the trials.
    """
    known = sorted({path for trial in trials for path in trial.params})
    if params is None:
        return known
    if isinstance(params, str) or not all(isinstance(path, str) for path in params):
        raise StudyError(f"params must be a list of names, got {params!r}; write params=[{known[0]!r}]")
    for path in params:
        if path not in known:
            raise StudyError(f"params names {path!r}, which no completed trial has; there are: {', '.join(known)}")
    return list(params)


def _levels(losses: NDArray[np.float64], trials: Sequence[FrozenTrial]) -> tuple[tuple[int, ...], ...]:
    ranked = [loss if trial.feasible else math.inf for loss, trial in zip(losses.tolist(), trials, strict=True)]
    tiers: dict[float, list[int]] = {}
    for index in sorted(range(len(ranked)), key=ranked.__getitem__):
        tiers.setdefault(ranked[index], []).append(index)
    return tuple(tuple(tier) for tier in tiers.values())


def _fronts(study: Study, trials: Sequence[FrozenTrial]) -> tuple[tuple[int, ...], ...]:
    position = {trial.number: index for index, trial in enumerate(trials)}
    left, tiers = list(trials), []
    while front := pareto_front(left, study.directions):
        tiers.append(tuple(position[trial.number] for trial in front))
        gone = {trial.number for trial in front}
        left = [trial for trial in left if trial.number not in gone]
    if left:  # infeasible ones, which are on no front
        tiers.append(tuple(position[trial.number] for trial in left))
    return tuple(tiers)
