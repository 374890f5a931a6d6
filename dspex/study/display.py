"""A study as a notebook shows it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dspex.trials import FrozenTrial, TrialState
from dspex.variables.notebook import table, written

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["best_rows", "study_html"]

_ROWS = 10


def study_html(study: Study) -> str:
    """What the study is, and its best trials."""
    trials = study.trials
    states = Counter(trial.state.name.lower() for trial in trials)
    title = f"Study {study.study_name!r}: {', '.join(study.directions)}"
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no trials yet"
    ledger = study.ledger
    note = f"{len(trials)} trials ({counted})" + (
        f"; {len(ledger)} evaluations, {ledger.usage()}" if len(ledger) else ""
    )
    columns, rows = best_rows(study, _ROWS)
    return table(title, columns, rows, note=note)


def best_rows(study: Study, most: int) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The best trials, at most ``most``, as rows of a table: number, values, and what they were run with."""
    names = study.metric_names or (
        ["value"] if len(study.directions) == 1 else [f"objective {index}" for index in range(len(study.directions))]
    )
    return ("trial", *names, "values of the variables"), [
        (trial.number, *(trial.values or ()), _params(study, trial)) for trial in _best(study)[:most]
    ]


def _best(study: Study) -> list[FrozenTrial]:
    if len(study.directions) > 1:
        return study.best_trials
    sign = study.direction.sign
    ranked = [trial for trial in study.get_trials(states=[TrialState.COMPLETE]) if trial.feasible]
    return sorted(ranked, key=lambda trial: sign * (trial.values or (0.0,))[0])


def _params(study: Study, trial: FrozenTrial) -> str:
    return ", ".join(f"{path} = {written(value, 60)}" for path, value in study.values(trial).items())
