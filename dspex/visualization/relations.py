"""Plots of variables: each against the objective, two against each other, all side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from dspex.errors import StudyError
from dspex.importance import Target
from dspex.importance.targets import measured, objective_names
from dspex.study import Study
from dspex.visualization.figure import MUTED, Axis, Colors, Figure, Heat, Layer, Line, Panel, Points, Texts
from dspex.visualization.selecting import (
    Scale,
    Shown,
    chosen_params,
    hover_of,
    lower_is_better,
    scale_of,
    shorten,
    shown,
    titled,
)

__all__ = ["contour", "parallel_coordinate", "rank", "slices"]

_MOST_SLICES = 16
_MOST_PAIRED = 5
_MOST_PARALLEL = 10
_SHADES = 12  # colours that the lines of parallel coordinates are divided among

_Draw = Callable[[Scale, Scale, bool], tuple[Layer, ...]]


def slices(
    study: Study,
    params: Sequence[str] | None = None,
    *,
    target: Target = None,
    target_name: str = "Objective Value",
) -> Figure:
    """The objective against each variable by itself; darker is later, grey is infeasible.

    Args:
        study: What was tried.
        params: The variables; by default all that vary, or the 16 most important of more.
        target: What to plot: the index or name of an objective, or a function of a trial.
        target_name: What to call it.

    Raises:
        StudyError: when no trial has completed, or ``params`` names what none has.

    >>> import dspex
    >>> from dspex.visualization import plot_slice
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("k", 1, 4), n_trials=8)
    >>> plot_slice(study).layout.title.text
    'Slice'
    """
    found = shown(study, target)
    target_name = titled(study, target, target_name)
    paths = chosen_params(study, found, params, target, most=_MOST_SLICES)
    panels = []
    for index, path in enumerate(paths):
        scale = scale_of(study, path, found)
        layers = _dots(study, found, scale, bar=index == len(paths) - 1)
        axis = Axis(title=target_name if index % 4 == 0 else "")
        panels.append(Panel(layers=layers, x=scale.axis, y=axis))
    rows = tuple(tuple(panels[start : start + 4]) for start in range(0, len(panels), 4))
    width = max(480, min(len(panels), 4) * 260 + 100)  # four fit on the page of a report
    return Figure(title="Slice", panels=rows, size=(width, 80 + 340 * len(rows)))


def _dots(study: Study, found: Sequence[Shown], scale: Scale, *, bar: bool) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    last = max(one.trial.number for one in found)
    for feasible in (False, True):
        placed = [
            (one, place)
            for one in found
            if one.trial.feasible is feasible and (place := scale.place(one.trial)) is not None
        ]
        numbers = [float(one.trial.number) for one, _ in placed]
        if placed:
            layers.append(
                Points(
                    x=[place for _, place in placed],
                    y=[one.value for one, _ in placed],
                    color=Colors(values=numbers, title="Trial", low=0.0, high=float(last), bar=bar)
                    if feasible
                    else MUTED,
                    hover=[hover_of(study, one.trial, only=[scale.axis.title]) for one, _ in placed],
                    name="" if feasible else "Infeasible Trial",
                )
            )
    return tuple(layers)


def rank(
    study: Study,
    params: Sequence[str] | None = None,
    *,
    target: Target = None,
    target_name: str = "Objective Value",
) -> Figure:
    """Each two variables against each other, coloured by the rank of the objective (blue is small, red is large).

    Args:
        study: What was tried.
        params: The variables; by default all that vary, or the 5 most important of more.
        target: What to rank: the index or name of an objective, or a function of a trial.
        target_name: What to call it.

    Raises:
        StudyError: when no trial has completed, or ``params`` names what none has.

    >>> import dspex
    >>> from dspex.visualization import plot_rank
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("k", 1, 4), n_trials=8)
    >>> plot_rank(study).layout.title.text
    'Rank'
    """
    found = shown(study, target)
    target_name = titled(study, target, target_name)
    paths = chosen_params(study, found, params, target, most=_MOST_PAIRED)
    values = np.array([one.value for one in found])
    below = np.searchsorted(np.sort(values), values, side="left") + np.searchsorted(
        np.sort(values), values, side="right"
    )
    # Trials that are equal share the mean of their ranks.
    ranks = (below - 1) / 2 / max(1, len(values) - 1) if len(values) > 1 else np.array([0.5])
    quantiles = np.quantile(values, (0.0, 0.25, 0.5, 0.75, 1.0))
    names = ("min.", "25%", "50%", "75%", "max.")
    ticks = tuple(
        (share, f"{name} ({value:.3g})")
        for share, name, value in zip((0.0, 0.25, 0.5, 0.75, 1.0), names, quantiles, strict=True)
    )

    def panel(x: Scale, y: Scale, bar: bool) -> tuple[Layer, ...]:
        layers: list[Layer] = []
        for feasible in (False, True):
            rows = [
                (one, float(share), a, b)
                for one, share in zip(found, ranks, strict=True)
                if one.trial.feasible is feasible
                and (a := x.place(one.trial)) is not None
                and (b := y.place(one.trial)) is not None
            ]
            colors = Colors(
                values=[row[1] for row in rows],
                scale="RdYlBu_r",
                title=target_name,
                low=0.0,
                high=1.0,
                ticks=ticks,
                bar=bar,
            )
            if rows:
                layers.append(
                    Points(
                        x=[row[2] for row in rows],
                        y=[row[3] for row in rows],
                        color=colors if feasible else MUTED,
                        hover=[hover_of(study, row[0].trial, only=(x.axis.title, y.axis.title)) for row in rows],
                    )
                )
        return tuple(layers)

    return _matrix("Rank", study, found, paths, panel)


def contour(
    study: Study,
    params: Sequence[str] | None = None,
    *,
    target: Target = None,
    target_name: str = "Objective Value",
) -> Figure:
    """Each two variables against each other, with contours of the objective through the trials; darker is better.

    Trials that lack one of the two are left out. Where several fall on one spot, the best of them counts.

    Args:
        study: What was tried.
        params: The variables, two at the least; by default all that vary, or the 5 most important of more.
        target: What to plot: the index or name of an objective, or a function of a trial.
        target_name: What to call it.

    Raises:
        StudyError: when no trial has completed, or there are fewer than two variables.

    >>> import dspex
    >>> from dspex.visualization import plot_contour
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("k", 1, 4), n_trials=8)
    >>> plot_contour(study).layout.title.text
    'Contour'
    """
    found = shown(study, target)
    target_name = titled(study, target, target_name)
    paths = chosen_params(study, found, params, target, most=_MOST_PAIRED)
    if len(paths) < 2:
        raise StudyError(
            f"contours need two variables, and there is only {paths[0]!r}; write plot_slice(study, params={paths!r}) "
            "instead"
        )
    lower = lower_is_better(study, target)

    def panel(x: Scale, y: Scale, bar: bool) -> tuple[Layer, ...]:
        rows = [
            (one, a, b)
            for one in found
            if (a := x.place(one.trial)) is not None and (b := y.place(one.trial)) is not None
        ]
        best: dict[tuple[float, float], float] = {}
        for one, a, b in rows:
            known = best.get((a, b), one.value)
            best[a, b] = min(known, one.value) if lower else max(known, one.value)
        xs, ys = sorted({a for a, _ in best}), sorted({b for _, b in best})
        layers: list[Layer] = []
        if len(xs) > 1 and len(ys) > 1:
            z = [[best.get((a, b), math.nan) for a in xs] for b in ys]
            layers.append(Heat(x=xs, y=ys, z=z, title=target_name, reverse=lower, smooth=True, bar=bar))
        for feasible, color in ((False, MUTED), (True, "#222222")):
            part = [row for row in rows if row[0].trial.feasible is feasible]
            if part:
                layers.append(
                    Points(
                        x=[a for _, a, _ in part],
                        y=[b for _, _, b in part],
                        color=color,
                        size=5.0,
                        hover=[hover_of(study, one.trial, only=(x.axis.title, y.axis.title)) for one, _, _ in part],
                    )
                )
        return tuple(layers)

    return _matrix("Contour", study, found, paths, panel)


def _matrix(title: str, study: Study, found: Sequence[Shown], paths: Sequence[str], draw: _Draw) -> Figure:
    """One panel for two variables, a square of panels for more; a variable is not drawn against itself."""
    scales = {path: scale_of(study, path, found) for path in paths}
    if len(paths) == 1:
        only = scales[paths[0]]
        panel = Panel(layers=draw(only, only, True), x=only.axis, y=only.axis)
        return Figure(title=title, panels=((panel,),))
    if len(paths) == 2:
        x, y = scales[paths[0]], scales[paths[1]]
        layers = draw(x, y, True)
        note = "" if layers else "no trial has both"
        return Figure(title=title, panels=((Panel(layers=layers, x=x.axis, y=y.axis, note=note),),), size=(820, 620))
    rows: list[tuple[Panel, ...]] = []
    waiting = True  # for the first panel that can show the colour bar
    for below, path_y in enumerate(paths):
        row = []
        for beside, path_x in enumerate(paths):
            x, y = scales[path_x], scales[path_y]
            layers = () if path_x == path_y else draw(x, y, waiting)
            waiting = waiting and not any(_has_bar(layer) for layer in layers)
            note = "" if layers or path_x == path_y else "never together"
            row.append(
                Panel(
                    layers=layers,
                    x=_inner(x.axis, below == len(paths) - 1),
                    y=_inner(y.axis, beside == 0),
                    note=note,
                )
            )
        rows.append(tuple(row))
    side = 180 * len(paths) + 180
    return Figure(title=title, panels=tuple(rows), size=(side + 60, side))


def _has_bar(layer: Layer) -> bool:
    return (isinstance(layer, Heat) and layer.bar) or (
        isinstance(layer, Points) and isinstance(layer.color, Colors) and layer.color.bar
    )


def _inner(axis: Axis, outer: bool) -> Axis:
    if not outer:
        return Axis(kind=axis.kind, range=axis.range, ticks=())
    return axis if axis.ticks is None or len(axis.ticks) <= 6 else attrs.evolve(axis, ticks=axis.ticks[::3])


def parallel_coordinate(
    study: Study,
    params: Sequence[str] | None = None,
    *,
    target: Target = None,
    target_name: str = "Objective Value",
) -> Figure:
    """Each trial as a line through its values, coloured by the objective; darker is better.

    A line goes through "inactive", below the axis, where its trial does not have the variable. With several
    objectives and no target, all of them are shown, and the colour is the Pareto front that a trial is on.

    Args:
        study: What was tried.
        params: The variables; by default all that vary, or the 10 most important of more.
        target: What to plot: the index or name of an objective, or a function of a trial.
        target_name: What to call it.

    Raises:
        StudyError: when no trial has completed, or ``params`` names what none has.

    >>> import dspex
    >>> from dspex.visualization import plot_parallel_coordinate
    >>> study = dspex.create_study()
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("k", 1, 4), n_trials=8)
    >>> plot_parallel_coordinate(study).layout.title.text
    'Parallel Coordinate'
    """
    several = target is None and len(study.directions) > 1
    found = _by_front(study) if several else shown(study, target)
    target_name = "Pareto Front" if several else titled(study, target, target_name)
    paths = chosen_params(study, found, params, target, most=_MOST_PARALLEL)
    lower = several or lower_is_better(study, target)
    objectives = [
        (name, [(one.trial.values or ())[index] for one in found]) for index, name in enumerate(objective_names(study))
    ]
    if not several:
        objectives = [(target_name, [one.value for one in found])]
    columns = [_column(Axis(title=name), values) for name, values in objectives]
    for path in paths:
        scale = scale_of(study, path, found)
        columns.append(_column(scale.axis, [scale.place(one.trial) for one in found]))
    layers = [*_lines(found, columns, lower), *_axes(columns)]
    feasible = [index for index, one in enumerate(found) if one.trial.feasible]
    if feasible:
        layers.append(
            Points(
                x=[0.0] * len(feasible),
                y=[columns[0].shares[index] for index in feasible],
                color=Colors(values=[found[index].value for index in feasible], title=target_name, reverse=lower),
                hover=[hover_of(study, found[index].trial) for index in feasible],
                size=6.0,
            )
        )
    panel = Panel(
        layers=tuple(layers),
        x=Axis(
            ticks=tuple((float(at), shorten(column.title, 22)) for at, column in enumerate(columns)),
            range=(-0.6, len(columns) - 0.8),
        ),
        y=Axis(range=(-0.16, 1.06), visible=False),
    )
    return Figure(title="Parallel Coordinate", panels=((panel,),), size=(max(700, 150 * len(columns)), 560))


@attrs.frozen
class _Column:
    """One axis of the parallel ones: where each trial crosses it, from 0 to 1, and what is written beside it."""

    title: str
    shares: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


_INACTIVE = -0.12


def _column(axis: Axis, places: Sequence[float | None]) -> _Column:
    known = [place for place in places if place is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    log = axis.kind == "log"

    def share(place: float) -> float:
        a, b, c = (math.log(low), math.log(high), math.log(place)) if log else (low, high, place)
        return (c - a) / (b - a) if b > a else 0.5

    if axis.ticks is not None:
        ticks = [(share(place), label) for place, label in axis.ticks]
    else:
        count = 5 if high > low else 1
        numbers = np.geomspace(low, high, count) if log else np.linspace(low, high, count)
        ticks = [(share(float(number)), f"{number:.3g}") for number in numbers]
    if len(known) < len(places):
        ticks.append((_INACTIVE, "inactive"))
    return _Column(axis.title, tuple(_INACTIVE if place is None else share(place) for place in places), tuple(ticks))


def _by_front(study: Study) -> list[Shown]:
    """With several objectives: the completed trials, each with the number of its front."""
    data = measured(study, None, pareto=True)
    return [Shown(data.trials[index], float(front)) for front, tier in enumerate(data.tiers) for index in tier]


def _lines(found: Sequence[Shown], columns: Sequence[_Column], lower: bool) -> list[Layer]:
    """As few lines as there are shades, each going through many trials."""
    xs = [float(position) for position in range(len(columns))]
    values = np.array([one.value for one in found])
    span = float(values.max() - values.min())
    merit = (values - values.min()) / span if span > 0 else np.full(len(values), 0.5)
    shades = np.rint((1.0 - merit if lower else merit) * (_SHADES - 1)).astype(int)
    layers: list[Layer] = []
    # The better a trial the later it is drawn, so that it lies on top.
    for shade in (-1, *range(_SHADES)):
        x: list[float] = []
        y: list[float] = []
        for index, one in enumerate(found):
            if (int(shades[index]) if one.trial.feasible else -1) == shade:
                x += [*xs, xs[-1]]
                y += [*(column.shares[index] for column in columns), math.nan]
        if x:
            color = MUTED if shade < 0 else _blue(shade / (_SHADES - 1))
            layers.append(Line(x=x, y=y, color=color, width=1.3, dash=shade < 0, opacity=0.8))
    return layers


def _axes(columns: Sequence[_Column]) -> list[Layer]:
    layers: list[Layer] = []
    for position, column in enumerate(columns):
        at, ticks = float(position), column.ticks
        layers.append(Line(x=[at, at], y=[min(-0.02, ticks[-1][0]), 1.02], color="#444444", width=1.0))
        layers.append(
            Texts(x=[at] * len(ticks), y=[y for y, _ in ticks], text=[shorten(label, 16) for _, label in ticks])
        )
    return layers


def _blue(share: float) -> str:
    """From light to dark."""
    light, dark = (198, 219, 239), (8, 48, 107)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(light, dark, strict=True))
