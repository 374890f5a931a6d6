"""Plots of several objectives: the Pareto front, and the volume it dominates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from dspex.errors import StudyError
from dspex.importance.targets import objective_names
from dspex.study import Study
from dspex.study.best import dominates, pareto_front as front_of
from dspex.trials import FrozenTrial, TrialState
from dspex.variables.domain import plain_number
from dspex.visualization.figure import MUTED, PALETTE, Axis, Figure, Layer, Line, Panel, Points
from dspex.visualization.selecting import hover_of

__all__ = ["hypervolume", "hypervolume_history", "pareto_front"]


def pareto_front(
    study: Study,
    *,
    target_names: Sequence[str] | None = None,
    include_dominated_trials: bool = True,
    targets: Callable[[FrozenTrial], Sequence[float]] | None = None,
) -> Figure:
    """The completed trials by two or three objectives, those that no other one beats in all of them in front.

    Args:
        study: A study with several objectives.
        target_names: What to call them; by default as the study does (`Study.set_metric_names`).
        include_dominated_trials: Whether to show the others too.
        targets: What to show instead: two or three numbers of a trial. Which trials are in front is still said by the
            objectives.

    Raises:
        StudyError: when no trial has completed, or there are not two or three things to show.

    >>> import dspex
    >>> from dspex.visualization import plot_pareto_front
    >>> study = dspex.create_study(directions=["minimize", "maximize"])
    >>> study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)), n_trials=8)
    >>> plot_pareto_front(study).layout.title.text
    'Pareto Front'
    """
    completed = study.get_trials(states=[TrialState.COMPLETE])
    if not completed:
        raise StudyError(
            f"study {study.study_name!r} has no completed trial to plot; run some with study.optimize(...)"
        )
    if targets is None and len(study.directions) not in (2, 3):
        raise StudyError(
            f"a Pareto front of 2 or 3 objectives can be drawn, and the study has {len(study.directions)}; say what to "
            "show: targets=lambda trial: (trial.values[0], trial.values[1])"
        )
    points = {trial.number: _targets_of(trial, targets) for trial in completed}
    count = len(next(iter(points.values())))
    if count not in (2, 3) or any(len(point) != count for point in points.values()):
        raise StudyError(f"targets(trial) must return 2 numbers, or 3, for every trial; got {count}")
    named = objective_names(study) if targets is None else [f"Objective {index}" for index in range(count)]
    names = named if target_names is None else list(target_names)
    if len(names) != count:
        raise StudyError(f"target_names must name the {count} objectives, got {names!r}")
    best = {trial.number for trial in front_of(completed, study.directions)}
    groups: list[tuple[str, str, float, list[FrozenTrial]]] = [
        ("Infeasible Trial", MUTED, 6.0, [trial for trial in completed if not trial.feasible]),
        ("Trial", PALETTE[5], 6.0, [trial for trial in completed if trial.feasible and trial.number not in best]),
        ("Best Trial", PALETTE[1], 9.0, [trial for trial in completed if trial.number in best]),
    ]
    layers: list[Layer] = []
    for name, color, size, trials in groups:
        if not trials or (name == "Trial" and not include_dominated_trials):
            continue
        columns = list(zip(*(points[trial.number] for trial in trials), strict=True))
        layers.append(
            Points(
                x=columns[0],
                y=columns[1],
                z=columns[2] if count == 3 else None,
                color=color,
                size=size,
                name=name,
                hover=[hover_of(study, trial) for trial in trials],
            )
        )
    axes = [Axis(title=name) for name in names]
    panel = Panel(layers=tuple(layers), x=axes[0], y=axes[1], z=axes[2] if count == 3 else None)
    return Figure(title="Pareto Front", panels=((panel,),), legend=True, size=(820, 600))


def _targets_of(trial: FrozenTrial, targets: Callable[[FrozenTrial], Sequence[float]] | None) -> tuple[float, ...]:
    found: Any = trial.values if targets is None else targets(trial)
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise StudyError(
            f"targets(trial) must return a sequence of numbers, and for trial {trial.number} it returned {found!r} "
            f"({type(found).__name__})"
        )
    return tuple(float(value) for value in found)


def hypervolume_history(study: Study, reference_point: Sequence[float]) -> Figure:
    """The volume between the Pareto front and ``reference_point`` after each completed trial.

    Args:
        study: A study with several objectives.
        reference_point: A finite number for each objective, worse than what is to count.

    Raises:
        StudyError: when the study has one objective or no completed trial, or the point does not fit.

    >>> import dspex
    >>> from dspex.visualization import plot_hypervolume_history
    >>> study = dspex.create_study(directions=["minimize", "maximize"])
    >>> study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)), n_trials=8)
    >>> plot_hypervolume_history(study, reference_point=[1, 0]).layout.title.text
    'Hypervolume History'
    """
    if len(study.directions) < 2:
        raise StudyError(
            "a hypervolume needs several objectives, and the study has one; write plot_optimization_history"
        )
    signs = [direction.sign for direction in study.directions]
    point = [plain_number(value) for value in reference_point]
    if len(point) != len(signs) or not all(isinstance(one, int | float) and math.isfinite(one) for one in point):
        raise StudyError(
            f"reference_point must have a finite number for each of the {len(signs)} objectives, got "
            f"{reference_point!r}"
        )
    completed = study.get_trials(states=[TrialState.COMPLETE])
    if not completed:
        raise StudyError(
            f"study {study.study_name!r} has no completed trial to plot; run some with study.optimize(...)"
        )
    bound = tuple(sign * float(value) for sign, value in zip(signs, point, strict=True))
    front: list[tuple[float, ...]] = []
    volume, volumes = 0.0, []
    for trial in completed:
        loss = tuple(sign * value for sign, value in zip(signs, trial.values or (), strict=True))
        counts = trial.feasible and all(a < b for a, b in zip(loss, bound, strict=True))
        if counts and not any(other == loss or dominates(other, loss) for other in front):
            front = [other for other in front if not dominates(loss, other)] + [loss]
            volume = hypervolume(front, bound)
        volumes.append(volume)
    numbers = [trial.number for trial in completed]
    layers: tuple[Layer, ...] = (
        Line(x=numbers, y=volumes, steps=True),
        Points(x=numbers, y=volumes, size=4.0, hover=[hover_of(study, trial) for trial in completed]),
    )
    panel = Panel(layers=layers, x=Axis(title="Trial", whole=True), y=Axis(title="Hypervolume"))
    return Figure(title="Hypervolume History", panels=((panel,),))


def hypervolume(losses: Sequence[tuple[float, ...]], bound: tuple[float, ...]) -> float:
    """The volume of what is no better than some of ``losses`` and better than ``bound``, all of them below it.

    By slices along the last objective (While et al., "A Faster Algorithm for Calculating Hypervolume", IEEE
    Transactions on Evolutionary Computation 2006).

    >>> hypervolume([(0.0, 1.0), (1.0, 0.0)], (2.0, 2.0))
    3.0
    """
    if len(bound) == 1:
        return bound[0] - min(loss[0] for loss in losses)
    ordered = sorted(losses, key=lambda loss: loss[-1])
    total = 0.0
    for index, loss in enumerate(ordered):
        end = ordered[index + 1][-1] if index + 1 < len(ordered) else bound[-1]
        if end > loss[-1]:
            slab = [other[:-1] for other in ordered[: index + 1]]
            total += (end - loss[-1]) * hypervolume(slab, bound[:-1])
    return total if math.isfinite(total) else math.inf
