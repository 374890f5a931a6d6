"""Which trials and variables a plot shows, and how values and texts are written on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from dspex.errors import StudyError
from dspex.importance import PedAnovaImportanceEvaluator, Target
from dspex.importance.targets import index_of, objective_names, value_of
from dspex.study import Study
from dspex.trials import FrozenTrial, StudyDirection, TrialState
from dspex.trials.params import encode_param
from dspex.variables import Domain, Float, Int, canonical_json
from dspex.visualization.figure import Axis

__all__ = [
    "UNNAMED",
    "Scale",
    "Shown",
    "chosen_params",
    "describe",
    "hover_of",
    "lower_is_better",
    "scale_of",
    "shorten",
    "shown",
    "studies_of",
    "thinned",
    "titled",
]

UNNAMED = "Objective Value"
"""What a target is called when nobody says it."""

_LABEL = 26  # characters of a label on an axis
_TITLE = 40  # characters of a path beside an axis
_TICKS = 12  # labels along an axis of options or texts
_HOVER = 90  # characters of a value in a text that hovers


@attrs.frozen
class Shown:
    """A completed trial and the number that is plotted for it."""

    trial: FrozenTrial
    value: float


def shown(study: Study, target: Target) -> list[Shown]:
    """The completed trials with a finite target.

    Raises:
        StudyError: when there is none, or a target has to be chosen.
    """
    read = value_of(study, target)
    completed = [Shown(trial, read(trial)) for trial in study.get_trials(states=[TrialState.COMPLETE])]
    found = [one for one in completed if math.isfinite(one.value)]
    if not found:
        raise StudyError(
            f"study {study.study_name!r} has no completed trial to plot"
            f"{' whose value is finite' if completed else ''} ({len(study.trials)} trials in all); run some with "
            "study.optimize(objective, n_trials=...)"
        )
    return found


def studies_of(study: Study | Iterable[Study]) -> list[Study]:
    """One study or several, as a list.

    Raises:
        StudyError: when there is none, or something else is given.
    """
    studies = [study] if isinstance(study, Study) else list(study)
    if not studies or not all(isinstance(one, Study) for one in studies):
        raise StudyError(f"study must be a Study or a list of them, got {study!r}; write plot_...(study)")
    return studies


def lower_is_better(study: Study, target: Target) -> bool:
    """Whether the target is to be small."""
    return callable(target) or study.directions[index_of(study, target)] is StudyDirection.MINIMIZE


def titled(study: Study, target: Target, target_name: str) -> str:
    """What to call the target: as the caller says, else as the study calls its objective."""
    if target_name != UNNAMED or callable(target) or (study.metric_names is None and target is None):
        return target_name
    return objective_names(study)[index_of(study, target)]


def chosen_params(
    study: Study, trials: Sequence[Shown], params: Sequence[str] | None, target: Target, *, most: int
) -> list[str]:
    """The variables to plot: those asked for, else all that vary, and of more than ``most`` the most important.

    Raises:
        StudyError: when ``params`` names what no completed trial has, or there is nothing to plot.
    """
    known = list(dict.fromkeys(path for one in trials for path in one.trial.params))
    if params is None:
        varying = [path for path in known if len(_keys(path, trials)) > 1] or known
        if not varying:
            raise StudyError(
                f"the trials of study {study.study_name!r} have no variables to plot; declare some with "
                "trial.suggest_float(...), or create_study(space=...)"
            )
        if len(varying) > most:
            ranked = PedAnovaImportanceEvaluator().evaluate(study, varying, target=target)
            varying = [path for path in varying if path in list(ranked)[:most]]
        return varying
    if isinstance(params, str):
        raise StudyError(f"params must be a list of names, got {params!r}; write params=[{params!r}]")
    for path in params:
        if path not in known:
            raise StudyError(f"params names {path!r}, which no completed trial has; there are: {', '.join(known)}")
    if not params:
        raise StudyError(f"params is empty; leave it out, or name some of: {', '.join(known)}")
    return list(dict.fromkeys(params))


def _keys(path: str, trials: Sequence[Shown]) -> set[str]:
    return {
        canonical_json(encode_param(one.trial.distributions[path], one.trial.params[path]))
        for one in trials
        if path in one.trial.params
    }


@attrs.frozen
class Scale:
    """How a variable stands on an axis: ``place(trial)`` is its position, or ``None`` where the trial lacks it."""

    axis: Axis
    place: Callable[[FrozenTrial], float | None]


def scale_of(study: Study, path: str, trials: Sequence[Shown]) -> Scale:
    """The scale of a variable that at least one of ``trials`` has; options and texts stand side by side."""
    having = [one.trial for one in trials if path in one.trial.params]
    domain = having[0].distributions[path]
    if isinstance(domain, Float | Int):
        return _numbers(path, domain, having)
    labels = _labels(study, path, domain, having)
    places = {key: float(position) for position, key in enumerate(labels)}

    def place(trial: FrozenTrial) -> float | None:
        return places[_key(domain, trial.params[path])] if path in trial.params else None

    ticks = thinned(list(labels.values()), _TICKS)
    return Scale(Axis(title=_titled_by(path), ticks=ticks, range=(-0.5, len(labels) - 0.5)), place)


def _titled_by(path: str) -> str:
    # Of a long path the end says which variable it is.
    return path if len(path) <= _TITLE else f"…{path[1 - _TITLE :]}"


def thinned(labels: Sequence[str], most: int) -> tuple[tuple[float, str], ...]:
    """Ticks for things side by side, with at most ``most`` labels."""
    step = max(1, math.ceil(len(labels) / most))
    return tuple((float(position), label) for position, label in enumerate(labels) if position % step == 0)


def _numbers(path: str, domain: Float | Int, having: Sequence[FrozenTrial]) -> Scale:
    values = [trial.params[path] for trial in having if trial.params[path] is not None]
    low, high = (min(values), max(values)) if values else (domain.low, domain.high)
    if domain.log:
        pad = (math.log10(high) - math.log10(low)) * 0.05 or 0.05
        bounds = (10 ** (math.log10(low) - pad), 10 ** (math.log10(high) + pad))
    else:
        pad = (high - low) * 0.05 or 0.5
        bounds = (low - pad, high + pad)

    def place(trial: FrozenTrial) -> float | None:
        value = trial.params.get(path)
        return None if value is None else float(value)

    return Scale(Axis(title=_titled_by(path), kind="log" if domain.log else "linear", range=bounds), place)


def _key(domain: Domain[Any], value: Any) -> str:
    return canonical_json(encode_param(domain, value))


def _labels(study: Study, path: str, domain: Domain[Any], having: Sequence[FrozenTrial]) -> dict[str, str]:
    """The values that trials have had, by key: in declared order, or in that of the pool."""
    seen = {_key(domain, trial.params[path]): trial.params[path] for trial in having}
    if domain.open_ended:
        pool = study.pool(path, domain)
        ordered = sorted(seen, key=lambda key: -1 if seen[key] is None else pool[seen[key]].index)
        # Of many only the numbers are told apart, and their texts hover.
        limit = _LABEL if len(ordered) <= _TICKS else 4
        return {key: describe(study, path, domain, seen[key], limit=limit) for key in ordered}
    declared = [_key(domain, value) for value in domain.candidates() or ()]
    ordered = [key for key in declared if key in seen] + sorted(seen.keys() - set(declared))
    labels = {key: shorten(seen[key], _LABEL) for key in ordered}
    taken = list(labels.values())
    # Two long options may begin alike.
    return {
        key: label if taken.count(label) == 1 else f"{label} ({position})"
        for position, (key, label) in enumerate(labels.items())
    }


def describe(study: Study, path: str, domain: Domain[Any], value: Any, *, limit: int = _HOVER) -> str:
    """A value of a trial as a short text; of a pool's candidate its number there and how it begins."""
    if not domain.open_ended or value is None:
        return shorten(value, limit)
    item = study.pool(path, domain)[value]
    text = "no demos" if item.value == () else shorten(item.value, limit - 4)
    return f"#{item.index} {text}" if limit > 4 else f"#{item.index}"


def shorten(value: Any, limit: int = _HOVER) -> str:
    """A value on one line, in at most ``limit`` characters.

    >>> shorten("Answer the question  in one word.", 20)
    'Answer the question…'
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and value and all(hasattr(item, "keys") for item in value):
        text = f"{len(value)} demos: " + "; ".join(", ".join(map(str, dict(item).values())) for item in value)
    else:
        text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def hover_of(
    study: Study, trial: FrozenTrial, more: Mapping[str, Any] | None = None, *, only: Iterable[str] | None = None
) -> str:
    """The lines that hover over a trial: its number, its values, and its variables, ``only`` some or the first 12.

    A plot of many panels shows each trial in each of them, so there a panel's own variables have to do.
    """
    lines = [f"trial {trial.number}"]
    if trial.values is not None:
        lines.append(f"value: {', '.join(f'{value:.6g}' for value in trial.values)}")
    lines += [f"{name}: {value}" for name, value in (more or {}).items()]
    listed = [path for path in only if path in trial.params] if only is not None else list(trial.params)[:12]
    for path in listed:
        lines.append(f"{path}: {describe(study, path, trial.distributions[path], trial.params[path])}")
    if only is None and len(trial.params) > 12:
        lines.append(f"and {len(trial.params) - 12} more")
    if not trial.feasible:
        lines.append("infeasible")
    return "\n".join(lines)
