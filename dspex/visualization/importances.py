"""The plot of importances."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.errors import StudyError
from dspex.importance import ImportanceEvaluator, Target, get_param_importances
from dspex.importance.targets import objective_names
from dspex.study import Study
from dspex.trials import TrialState
from dspex.visualization.figure import PALETTE, Axis, Bars, Figure, Panel
from dspex.visualization.selecting import shorten, titled

__all__ = ["param_importances"]

_MOST = 25


def param_importances(
    study: Study,
    evaluator: ImportanceEvaluator | None = None,
    params: Sequence[str] | None = None,
    *,
    target: Target = None,
    target_name: str = "Objective Value",
) -> Figure:
    """How much each variable matters; with several objectives and no target, for each of them.

    Args:
        study: What was tried.
        evaluator: `PedAnovaImportanceEvaluator` by default.
        params: The variables; all by default, of which the 25 most important are drawn.
        target: What they matter for: the index or name of an objective, or a function of a trial.
        target_name: What to call it.

    Raises:
        StudyError: when fewer than two trials have completed, or ``params`` names what none has.

    >>> import dspex
    >>> from dspex.visualization import plot_param_importances
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("k", 1, 4), n_trials=8)
    >>> plot_param_importances(study).layout.title.text
    'Hyperparameter Importances'
    """
    targets: list[tuple[str, Target]]
    if target is None and len(study.directions) > 1:
        targets = [(name, index) for index, name in enumerate(objective_names(study))]
    else:
        targets = [(titled(study, target, target_name), target)]
    found = [
        (name, get_param_importances(study, evaluator=evaluator, params=params, target=one)) for name, one in targets
    ]
    if not found[0][1]:
        raise StudyError(f"the trials of study {study.study_name!r} have no variables whose importance could be drawn")
    order = list(found[0][1])[:_MOST][::-1]  # the most important on top
    domains = {
        path: trial.distributions[path]
        for trial in study.get_trials(states=[TrialState.COMPLETE])
        for path in trial.params
    }
    thickness = 0.8 / len(found)
    bars = []
    for index, (name, shares) in enumerate(found):
        offset = (len(found) - 1) / 2 * thickness - index * thickness
        values = [shares[path] for path in order]
        bars.append(
            Bars(
                at=[position + offset for position in range(len(order))],
                start=[0.0] * len(order),
                end=values,
                color=PALETTE[index % len(PALETTE)],
                name=name,
                text=["< 0.01" if 0 < value < 0.01 else f"{value:.2f}" for value in values],
                hover=[f"{path} ({type(domains[path]).__name__}): {shares[path]:.4f}" for path in order],
                thickness=thickness,
            )
        )
    panel = Panel(
        layers=tuple(bars),
        x=Axis(title="Importance", range=(0.0, 1.12 * max(max(shares.values()) for _, shares in found))),
        y=Axis(
            ticks=tuple((float(position), shorten(path, 40)) for position, path in enumerate(order)),
            range=(-0.6, len(order) - 0.4),
        ),
    )
    return Figure(
        title="Hyperparameter Importances",
        panels=((panel,),),
        legend=len(found) > 1,
        size=(820, 160 + 32 * max(4, len(order)) * (1 if len(found) == 1 else 2)),
    )
