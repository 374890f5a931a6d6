"""Plots along the trials: objective values, their distribution, reports, times, costs."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from dspex.data import Usage
from dspex.errors import StudyError
from dspex.importance import Target
from dspex.importance.targets import objective_names, value_of
from dspex.study import Study
from dspex.study.stopping import expected_gain
from dspex.trials import FrozenTrial, TrialState
from dspex.visualization.figure import MUTED, PALETTE, Axis, Bars, Figure, Layer, Line, Panel, Points
from dspex.visualization.selecting import Shown, hover_of, lower_is_better, shown, studies_of, titled

__all__ = ["cost_gain", "edf", "intermediate_values", "optimization_history", "terminator_improvement", "timeline"]

_STATE_COLORS = {
    TrialState.COMPLETE: PALETTE[0],
    TrialState.FAIL: PALETTE[1],
    TrialState.PRUNED: PALETTE[4],
    TrialState.RUNNING: PALETTE[2],
    TrialState.WAITING: PALETTE[6],
}


def optimization_history(
    study: Study | Iterable[Study],
    *,
    target: Target = None,
    target_name: str = "Objective Value",
    error_bar: bool = False,
) -> Figure:
    """The value of each completed trial, and the best so far; infeasible trials are grey and never the best.

    Args:
        study: A study, or several to compare.
        target: What to plot: the index or name of an objective, or a function of a trial. With a function, no best
            is drawn.
        target_name: What to call it.
        error_bar: Whether to draw the mean and the standard deviation over several studies, trial by trial.

    Raises:
        StudyError: when no trial has completed, or a study has several objectives and none is chosen.

    >>> import dspex
    >>> from dspex.visualization import plot_optimization_history
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=8)
    >>> plot_optimization_history(study).layout.title.text
    'Optimization History'
    """
    studies = studies_of(study)
    target_name = titled(studies[0], target, target_name)
    layers = _over_studies(studies, target, target_name) if error_bar else _each_study(studies, target, target_name)
    panel = Panel(layers=tuple(layers), x=Axis(title="Trial", whole=True), y=Axis(title=target_name))
    return Figure(title="Optimization History", panels=((panel,),), legend=True)


def _each_study(studies: Sequence[Study], target: Target, target_name: str) -> Iterable[Layer]:
    for index, study in enumerate(studies):
        found = shown(study, target)
        suffix = f" of {study.study_name}" if len(studies) > 1 else ""
        color = PALETTE[2 * index % len(PALETTE)]
        for feasible, name in ((False, "Infeasible Trial"), (True, target_name)):
            part = [one for one in found if one.trial.feasible is feasible]
            if part:
                yield Points(
                    x=[one.trial.number for one in part],
                    y=[one.value for one in part],
                    color=color if feasible else MUTED,
                    hover=[hover_of(study, one.trial) for one in part],
                    name=name + suffix,
                )
        if not callable(target):
            yield Line(
                x=[one.trial.number for one in found],
                y=best_so_far(study, found, target),
                color=PALETTE[(2 * index + 1) % len(PALETTE)],
                name="Best Value" + suffix,
                steps=True,
            )


def best_so_far(study: Study, found: Sequence[Shown], target: Target) -> list[float]:
    """After each trial the best value of a feasible one; NaN before the first."""
    sign = 1.0 if lower_is_better(study, target) else -1.0
    losses = [sign * one.value if one.trial.feasible else math.inf for one in found]
    return [sign * loss if math.isfinite(loss) else math.nan for loss in itertools.accumulate(losses, min)]


def _over_studies(studies: Sequence[Study], target: Target, target_name: str) -> Iterable[Layer]:
    values: dict[int, list[float]] = {}
    best: dict[int, list[float]] = {}
    for study in studies:
        found = shown(study, target)
        for one, so_far in zip(found, best_so_far(study, found, target), strict=True):
            if one.trial.feasible:
                values.setdefault(one.trial.number, []).append(one.value)
            if not math.isnan(so_far):
                best.setdefault(one.trial.number, []).append(so_far)
    numbers = sorted(values)
    yield Points(
        x=numbers,
        y=[float(np.mean(values[number])) for number in numbers],
        error=[float(np.std(values[number])) for number in numbers],
        name=target_name,
    )
    if not callable(target):
        numbers = sorted(best)
        yield Line(
            x=numbers,
            y=[float(np.mean(best[number])) for number in numbers],
            band=[float(np.std(best[number])) for number in numbers],
            color=PALETTE[1],
            name="Best Value",
        )


def edf(study: Study | Iterable[Study], *, target: Target = None, target_name: str = "Objective Value") -> Figure:
    """The empirical distribution of the values: which share of the completed trials has at most that value.

    Args:
        study: A study, or several to compare.
        target: What to plot: the index or name of an objective, or a function of a trial.
        target_name: What to call it.

    Raises:
        StudyError: when no trial has completed, or a study has several objectives and none is chosen.

    >>> import dspex
    >>> from dspex.visualization import plot_edf
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=8)
    >>> plot_edf(study).layout.title.text
    'Empirical Distribution Function'
    """
    studies = studies_of(study)
    target_name = titled(studies[0], target, target_name)
    values = [np.sort([one.value for one in shown(one_study, target)]) for one_study in studies]
    xs = np.linspace(min(part[0] for part in values), max(part[-1] for part in values), 200)
    lines = tuple(
        Line(
            x=xs.tolist(),
            y=(np.searchsorted(part, xs, side="right") / len(part)).tolist(),
            name=one_study.study_name,
            color=PALETTE[index % len(PALETTE)],
        )
        for index, (one_study, part) in enumerate(zip(studies, values, strict=True))
    )
    panel = Panel(layers=lines, x=Axis(title=target_name), y=Axis(title="Cumulative Probability", range=(0.0, 1.02)))
    return Figure(title="Empirical Distribution Function", panels=((panel,),), legend=True)


def intermediate_values(study: Study) -> Figure:
    """What the trials have reported, step by step; pruned ones are dashed and infeasible ones grey.

    Raises:
        StudyError: when no trial has reported anything.

    >>> import dspex
    >>> from dspex.visualization import plot_intermediate_values
    >>> study = dspex.create_study()
    >>> trial = study.ask()
    >>> for step in range(3):
    ...     trial.report(1.0 / (step + 1), step)
    >>> plot_intermediate_values(study).layout.title.text
    'Intermediate Values'
    """
    wanted = (TrialState.PRUNED, TrialState.COMPLETE, TrialState.RUNNING)
    trials = [trial for trial in study.get_trials(states=wanted) if trial.intermediate_values]
    if not trials:
        raise StudyError(
            f"no trial of study {study.study_name!r} has reported a value; write trial.report(value, step) in the "
            "objective"
        )
    several = len(study.directions) > 1
    panels = []
    for objective, name in enumerate(objective_names(study) if several else ["Intermediate Value"]):
        lines = [
            _reports(trial.of_objective(objective) if several else trial, PALETTE[index % len(PALETTE)])
            for index, trial in enumerate(trials)
        ]
        panels.append(Panel(layers=tuple(lines), x=Axis(title="Step", whole=True), y=Axis(title=name)))
    size = (900, 520) if not several else (480 * len(panels), 480)
    return Figure(title="Intermediate Values", panels=(tuple(panels),), legend=len(trials) <= 12, size=size)


def _reports(trial: FrozenTrial, color: str) -> Line:
    steps = sorted(trial.intermediate_values)
    return Line(
        x=steps,
        y=[float(trial.intermediate_values[step]) for step in steps],
        color=color if trial.feasible else MUTED,
        name=f"Trial {trial.number}",
        dash=trial.state is TrialState.PRUNED,
        width=1.5,
        opacity=0.8,
    )


def terminator_improvement(
    study: Study,
    plot_error: bool = False,
    improvement_evaluator: Callable[[Sequence[float]], float] | None = None,
    error_evaluator: Callable[[Study, FrozenTrial], float] | None = None,
    min_n_trials: int = 20,
) -> Figure:
    """After each completed trial, how much the next one is expected to gain: what `ExpectedGainCallback` decides by.

    Grey before there are ``min_n_trials``. Where it is far below the error, what could still be gained could not be
    told from chance.

    Args:
        study: A study with one objective.
        plot_error: Whether to draw the error of the best value so far too.
        improvement_evaluator: The expected gain, from the feasible trials' losses in ascending order; by default
            that of `ExpectedGainCallback` (Weissman 1978), from the 10 best.
        error_evaluator: The error of a trial's value; by default the standard error of its mean over the examples of
            the ledger, by their variance pooled over all trials.
        min_n_trials: How many completed trials it takes until the estimate means something.

    Raises:
        StudyError: when the study has several objectives, fewer than two feasible trials have completed, or the
            ledger does not tell the error.

    >>> import dspex
    >>> from dspex.visualization import plot_terminator_improvement
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=25)
    >>> plot_terminator_improvement(study).layout.title.text
    'Terminator Improvement'
    """
    if len(study.directions) > 1:
        raise StudyError(f"an expected gain is of one objective, and the study has {len(study.directions)}")
    estimate = improvement_evaluator or (lambda losses: expected_gain(losses, 10))
    found = [one for one in shown(study, None) if one.trial.feasible]
    if len(found) < 2:
        raise StudyError(
            f"an expected gain needs two feasible trials, and study {study.study_name!r} has {len(found)}; run more "
            "with study.optimize(...)"
        )
    error = error_evaluator or _standard_error(study)
    sign = study.direction.sign
    losses: list[float] = []
    numbers, gains, errors = [], [], []
    best = found[0]
    for one in found:
        bisect.insort(losses, sign * one.value)
        best = one if sign * one.value < sign * best.value else best
        if len(losses) > 1:
            numbers.append(one.trial.number)
            gains.append(float(estimate(losses)))
            if plot_error:
                errors.append(float(error(study, best.trial)))
    start = min(max(0, min_n_trials - 2), len(numbers))
    layers: list[Layer] = []
    for part, color, name in (
        (slice(0, start + 1), MUTED, f"Expected gain, below {min_n_trials} trials"),
        (slice(start, None), PALETTE[0], "Expected gain"),
    ):
        if numbers[part] and (start or color != MUTED):
            layers.append(Line(x=numbers[part], y=gains[part], color=color, name=name))
    if plot_error:
        layers.append(Line(x=numbers, y=errors, color=PALETTE[1], name="Error"))
    panel = Panel(layers=tuple(layers), x=Axis(title="Trial", whole=True), y=Axis(title="Gain of the next trial"))
    return Figure(title="Terminator Improvement", panels=((panel,),), legend=True)


def _standard_error(study: Study) -> Callable[[Study, FrozenTrial], float]:
    """Of a trial's mean over its examples; how much these differ is pooled over all trials.

    By itself a trial with a full score on a few examples would seem to have no error.
    """
    scores = {trial.number: list(study.ledger.scores(trial.number).values()) for trial in study.trials}
    variances = [float(np.var(part, ddof=1)) for part in scores.values() if len(part) > 1]

    def error(_: Study, trial: FrozenTrial) -> float:
        if not scores[trial.number] or not variances:
            raise StudyError(
                f"trial {trial.number} has no scores on several examples in the ledger, so its error is not known; "
                "leave plot_error out, or say it: error_evaluator=lambda study, trial: ..."
            )
        return math.sqrt(float(np.mean(variances)) / len(scores[trial.number]))

    return error


def timeline(study: Study, n_recent_trials: int | None = None) -> Figure:
    """When each trial ran, coloured by how it ended.

    Args:
        study: What was run.
        n_recent_trials: How many of the last trials to show; all by default.

    Raises:
        StudyError: when there are no trials that have begun, or ``n_recent_trials`` is no number above 0.

    >>> import dspex
    >>> from dspex.visualization import plot_timeline
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=8)
    >>> plot_timeline(study).layout.title.text
    'Timeline'
    """
    if n_recent_trials is not None and (isinstance(n_recent_trials, bool) or n_recent_trials < 1):
        raise StudyError(f"n_recent_trials must be a whole number above 0, got {n_recent_trials!r}")
    trials = [trial for trial in study.trials if trial.datetime_start is not None]
    if not trials:
        raise StudyError(f"no trial of study {study.study_name!r} has begun; run some with study.optimize(...)")
    trials = trials[-(n_recent_trials or len(trials)) :]
    now = datetime.now(UTC)
    running = any(trial.state is TrialState.RUNNING for trial in trials)
    last = now if running else max(trial.datetime_complete or now for trial in trials)
    whole = last - min(trial.datetime_start for trial in trials if trial.datetime_start is not None)
    # A bar of no length could not be seen.
    shortest = max(whole / 200, timedelta(milliseconds=1))
    groups: dict[tuple[str, str], list[tuple[FrozenTrial, datetime, datetime]]] = {}
    for trial in trials:
        assert trial.datetime_start is not None
        end = max(trial.datetime_complete or last, trial.datetime_start + shortest)
        infeasible = trial.state is TrialState.COMPLETE and not trial.feasible
        key = ("INFEASIBLE", MUTED) if infeasible else (trial.state.name, _STATE_COLORS[trial.state])
        groups.setdefault(key, []).append((trial, trial.datetime_start, end))
    bars = tuple(
        Bars(
            at=[trial.number for trial, _, _ in group],
            start=[start for _, start, _ in group],
            end=[end for _, _, end in group],
            color=color,
            name=name,
            hover=[hover_of(study, trial, {"took": trial.duration or "not finished"}) for trial, _, _ in group],
        )
        for (name, color), group in sorted(groups.items())
    )
    panel = Panel(layers=bars, x=Axis(title="Time (UTC)", kind="time"), y=Axis(title="Trial", whole=True))
    return Figure(title="Timeline", panels=((panel,),), legend=True)


def cost_gain(
    study: Study,
    *,
    cost: Literal["usd", "tokens", "calls", "evaluations", "seconds"] = "usd",
    target: Target = None,
    target_name: str = "Objective Value",
) -> Figure:
    """What the search has cost so far, against the best value it had then: where paying on stopped to pay.

    Args:
        study: A study whose ledger has what was spent (every search over programs keeps it).
        cost: In what it is counted; ``seconds`` are those that the examples took, one after the other.
        target: The index or name of the objective, when there are several.
        target_name: What to call it.

    Raises:
        StudyError: when the ledger is empty, or nothing in it has a known price.
    """
    target_name = titled(study, target, target_name)
    if cost not in ("usd", "tokens", "calls", "evaluations", "seconds"):
        raise StudyError(f"cost must be 'usd', 'tokens', 'calls', 'evaluations' or 'seconds', got {cost!r}")
    if not len(study.ledger):
        raise StudyError(
            f"the ledger of study {study.study_name!r} is empty, so what its trials cost is not known; write "
            "trial.record(Evaluation(...)) in the objective"
        )
    spent: dict[int, float] = {}
    unknown = 0
    for row in study.ledger:
        if row.trial is not None:
            seconds = row.latency or 0.0
            one = {"evaluations": 1.0, "seconds": seconds}.get(cost)
            spent[row.trial] = spent.get(row.trial, 0.0) + (_count(row.usage, cost) if one is None else one)
            unknown += row.usage.unknown_calls
    if cost == "usd" and unknown and not any(spent.values()):
        raise StudyError(f'the price of all {unknown} calls is unknown; write plot_cost_gain(study, cost="tokens")')
    values = {one.trial.number: one for one in shown(study, target)}
    read = value_of(study, target)
    # A trial's money is spent whether or not it completes.
    order = [trial for trial in study.trials if trial.number in spent or trial.number in values]
    order.sort(key=lambda trial: (trial.datetime_complete or datetime.max.replace(tzinfo=UTC), trial.number))
    total = dict(
        zip(
            [trial.number for trial in order],
            itertools.accumulate(spent.get(trial.number, 0.0) for trial in order),
            strict=True,
        )
    )
    done = [Shown(trial, read(trial)) for trial in order if trial.number in values]
    xs = [total[one.trial.number] for one in done]
    title = {"usd": "Cost (US dollars)", "seconds": "Time of all evaluations (s)"}.get(cost, cost.capitalize())
    if cost == "usd" and unknown:
        title += f", without {unknown} calls of unknown price"
    best = best_so_far(study, done, target)
    layers: tuple[Layer, ...] = (
        Points(
            x=xs, y=[one.value for one in done], hover=[hover_of(study, one.trial) for one in done], name=target_name
        ),
        Line(x=[*xs, max(total.values())], y=[*best, best[-1]], color=PALETTE[1], name="Best Value", steps=True),
    )
    panel = Panel(layers=layers, x=Axis(title=title), y=Axis(title=target_name))
    return Figure(title="Cost and Gain", panels=((panel,),), legend=True)


def _count(usage: Usage, cost: str) -> float:
    return {"usd": usage.known_cost, "tokens": float(usage.total_tokens), "calls": float(usage.calls)}[cost]
