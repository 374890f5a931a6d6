"""The best trial, and with several objectives the trials that none is better than."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.errors import StudyError
from dspex.trials import FrozenTrial, StudyDirection, TrialState
from dspex.variables.messages import counted

__all__ = ["best_of", "dominates", "pareto_front"]


def best_of(trials: Sequence[FrozenTrial], direction: StudyDirection) -> FrozenTrial:
    """The completed, feasible trial with the best value; of equal ones the first.

    Raises:
        StudyError: when there is none.
    """
    completed = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    feasible = [trial for trial in completed if trial.feasible]
    if not feasible:
        raise StudyError(
            f"no trial is feasible: each of the {len(completed)} completed ones violates a constraint"
            if completed
            else f"no trial has completed yet, so none is the best ({counted(len(trials), 'trial')})"
        )
    return min(feasible, key=lambda trial: direction.sign * _value(trial))


def pareto_front(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The completed, feasible trials that no other one dominates, by number."""
    candidates = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.feasible]
    signs = [direction.sign for direction in directions]
    losses = {
        trial.number: tuple(sign * value for sign, value in zip(signs, trial.values or (), strict=True))
        for trial in candidates
    }
    # In the order of their losses no trial is dominated by a later one, so the front only ever grows.
    front: list[tuple[float, ...]] = []
    for loss in sorted(set(losses.values())):
        if not any(dominates(other, loss) for other in front):
            front.append(loss)
    on_front = set(front)
    return [trial for trial in candidates if losses[trial.number] in on_front]


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether losses ``first`` are nowhere larger than ``second``, and somewhere smaller."""
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


def _value(trial: FrozenTrial) -> float:
    value = trial.value
    assert value is not None
    return value
