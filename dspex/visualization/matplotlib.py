"""The plots of `dspex.visualization`, drawn by matplotlib: for papers, terminals and machines without a browser.

Same names and arguments. Each gives back the `matplotlib.axes.Axes` it was drawn on, or an array of them when there are
several; ``axes.figure.savefig("plot.png")`` saves it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from dspex.visualization import examples, fronts, histories, importances, relations
from dspex.visualization.figure import Axis, Bars, Colors, Figure, Heat, Layer, Line, Panel, Points, Texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = [
    "is_available",
    "plot_contour",
    "plot_cost_gain",
    "plot_edf",
    "plot_example_heatmap",
    "plot_hypervolume_history",
    "plot_intermediate_values",
    "plot_optimization_history",
    "plot_parallel_coordinate",
    "plot_param_importances",
    "plot_pareto_front",
    "plot_prompt_lineage",
    "plot_rank",
    "plot_slice",
    "plot_terminator_improvement",
    "plot_timeline",
    "render",
]

P = ParamSpec("P")

_DPI = 100
_SCALES = {"Blues": "Blues", "Reds": "Reds", "RdYlBu_r": "RdYlBu_r", "Viridis": "viridis"}


def is_available() -> bool:
    """Whether matplotlib is installed.

    >>> is_available() in (True, False)
    True
    """
    try:
        import matplotlib.pyplot  # noqa: F401 - whether it can be is the question
    except ImportError:
        return False
    return True


def render(figure: Figure) -> Axes | NDArray[Any]:
    """The axes that the figure was drawn on: one, or as many as there are panels, row by row.

    Raises:
        ImportError: when matplotlib is not installed.
    """
    pyplot = _pyplot()
    rows, columns = len(figure.panels), max(len(row) for row in figure.panels)
    solid = figure.panels[0][0].z is not None
    drawn, grid = pyplot.subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(figure.size[0] / _DPI, figure.size[1] / _DPI),
        dpi=_DPI,
        layout="constrained",
        subplot_kw={"projection": "3d"} if solid else None,
    )
    drawn.suptitle(_plain(figure.title))
    bars: list[Any] = []
    for i in range(rows):
        for j in range(columns):
            if j < len(figure.panels[i]):
                bars += _panel(grid[i, j], figure.panels[i][j], figure.legend)
            else:
                grid[i, j].set_axis_off()
    for mappable, title, ticks in bars:
        bar = drawn.colorbar(mappable, ax=grid, label=_plain(title), shrink=0.9, pad=0.02)
        if ticks is not None:
            bar.set_ticks([at for at, _ in ticks], labels=[_plain(text) for _, text in ticks])
    found: Axes = grid[0, 0]
    return found if rows * columns == 1 else grid


def figure_of(axes: Axes | NDArray[Any]) -> Any:
    """The figure that axes are on."""
    return np.asarray(axes, dtype=object).flat[0].figure


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "dspex.visualization.matplotlib needs matplotlib, which is not installed: pip install 'dspex[matplotlib]'"
        ) from error
    return pyplot


def _plain(text: str) -> str:
    # A pair of dollars would be read as mathematics.
    return text.replace("$", r"\$")


def _panel(axes: Any, panel: Panel, legend: bool) -> list[tuple[Any, str, Any]]:
    sides = [("x", panel.x), ("y", panel.y)] + ([("z", panel.z)] if panel.z is not None else [])
    for side, axis in sides:
        _axis(axes, side, axis)
    bars = [bar for layer in panel.layers if (bar := _draw(axes, layer)) is not None]
    if panel.note:
        axes.text(0.5, 0.5, _plain(panel.note), transform=axes.transAxes, ha="center", va="center", color="#999999")
    if panel.z is None:
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    if not panel.y.visible:
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", framealpha=0.8)
    return bars


def _axis(axes: Any, side: str, axis: Axis) -> None:
    getattr(axes, f"set_{side}label")(_plain(axis.title))
    if axis.kind == "log":
        getattr(axes, f"set_{side}scale")("log")
    if axis.kind == "time":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        line = getattr(axes, f"{side}axis")
        locator = AutoDateLocator()
        line.set_major_locator(locator)
        line.set_major_formatter(ConciseDateFormatter(locator))
    if axis.whole:
        getattr(axes, f"{side}axis").get_major_locator().set_params(integer=True)
    if axis.range is not None:
        getattr(axes, f"set_{side}lim")(*axis.range)
    if axis.ticks is not None:
        labels = [_plain(text) for _, text in axis.ticks]
        long = side == "x" and sum(map(len, labels)) > 26 and max(map(len, labels)) > 3
        look = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
        getattr(axes, f"set_{side}ticks")([at for at, _ in axis.ticks], labels=labels, fontsize="small", **look)
        if not axis.ticks:
            getattr(axes, f"set_{side}ticks")([], minor=True)
    if not axis.visible:
        getattr(axes, f"{side}axis").set_visible(False)


def _draw(axes: Any, layer: Layer) -> tuple[Any, str, Any] | None:
    """Draws a layer; gives back the colour bar it wants, with its title and ticks."""
    if isinstance(layer, Points):
        return _points(axes, layer)
    if isinstance(layer, Line):
        look = {"color": layer.color, "linewidth": layer.width * 0.75, "linestyle": "--" if layer.dash else "-"}
        style = {"drawstyle": "steps-post"} if layer.steps else {}
        axes.plot(list(layer.x), list(layer.y), alpha=layer.opacity, label=_plain(layer.name) or None, **look, **style)
        if layer.band is not None:
            low = np.subtract(layer.y, layer.band)
            axes.fill_between(
                list(layer.x), low, np.add(layer.y, layer.band), color=layer.color, alpha=0.2, linewidth=0
            )
    elif isinstance(layer, Bars):
        _bars(axes, layer)
    elif isinstance(layer, Texts):
        from matplotlib.patheffects import withStroke

        side = {"left": "right", "above": "center", "right": "left"}[layer.side]
        for x, y, text in zip(layer.x, layer.y, layer.text, strict=True):
            drawn = axes.text(x, y, f"{_plain(text)} ", ha=side, va="center", fontsize=7, color="#222222", zorder=4)
            drawn.set_path_effects([withStroke(linewidth=2.5, foreground="white")])  # to be read over lines
    else:
        return _heat(axes, layer)
    return None


def _points(axes: Any, layer: Points) -> tuple[Any, str, Any] | None:
    places = [list(layer.x), list(layer.y)] + ([list(layer.z)] if layer.z is not None else [])
    look: dict[str, Any] = {"s": layer.size**2 * 0.6, "label": _plain(layer.name) or None, "zorder": 3}
    look["marker"] = {"circle": "o", "x": "x"}[layer.symbol]
    if layer.symbol == "circle":
        look |= {"edgecolors": "#666666", "linewidths": 0.4}
    if layer.error is not None:
        axes.errorbar(*places, yerr=list(layer.error), fmt="none", ecolor="#888888", elinewidth=0.8, capsize=2)
    if not isinstance(layer.color, Colors):
        axes.scatter(*places, c=layer.color, **look)
        return None
    colors = layer.color
    name = _SCALES[colors.scale] + ("_r" if colors.reverse else "")
    drawn = axes.scatter(*places, c=list(colors.values), cmap=name, vmin=colors.low, vmax=colors.high, **look)
    return (drawn, colors.title, colors.ticks) if colors.bar else None


def _bars(axes: Any, layer: Bars) -> None:
    if layer.start and isinstance(layer.start[0], datetime):
        from matplotlib.dates import date2num

        starts, ends = np.asarray(date2num(layer.start)), np.asarray(date2num(layer.end))
    else:
        starts, ends = np.array(layer.start), np.array(layer.end)
    drawn = axes.barh(
        list(layer.at), ends - starts, left=starts, height=layer.thickness, color=layer.color, label=_plain(layer.name)
    )
    if layer.text:
        axes.bar_label(drawn, labels=[_plain(text) for text in layer.text], padding=3, fontsize="small")


def _heat(axes: Any, layer: Heat) -> tuple[Any, str, Any] | None:
    z = np.ma.masked_invalid(np.array(layer.z, dtype=np.float64))
    name = _SCALES[layer.scale] + ("_r" if layer.reverse else "")
    if layer.smooth:
        drawn = _contours(axes, layer, z, name)
    else:
        drawn = axes.pcolormesh(list(layer.x), list(layer.y), z, cmap=name, shading="nearest")
    return (drawn, layer.title, None) if layer.bar else None


def _contours(axes: Any, layer: Heat, z: Any, name: str) -> Any:
    """Contours through what is there, by triangles; on the axes' own scale and as wide as what is there."""
    from matplotlib.tri import Triangulation

    rows, columns = np.nonzero(~np.ma.getmaskarray(z))
    x, y, values = np.array(layer.x)[columns], np.array(layer.y)[rows], z.compressed()
    # On a unit square, so that the triangles are not slivers.
    scaled = [
        np.log(part) if scale == "log" else part for part, scale in ((x, axes.get_xscale()), (y, axes.get_yscale()))
    ]
    unit = [(part - part.min()) / (np.ptp(part) or 1.0) for part in scaled]
    flat = len(values) < 3 or np.linalg.matrix_rank(np.stack(unit, axis=1) - [unit[0][0], unit[1][0]], tol=1e-9) < 2
    if flat or math.isclose(values.min(), values.max()):
        return axes.scatter(x, y, c=values, cmap=name, s=120, marker="s", edgecolors="none")
    triangles = Triangulation(*unit).triangles
    return axes.tricontourf(x, y, triangles, values, levels=16, cmap=name)


def _plotted(plot: Callable[P, Figure]) -> Callable[P, Any]:
    @wraps(plot)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Any:
        _pyplot()  # before the work
        return render(plot(*args, **kwargs))

    return draw


plot_contour = _plotted(relations.contour)
plot_cost_gain = _plotted(histories.cost_gain)
plot_edf = _plotted(histories.edf)
plot_example_heatmap = _plotted(examples.example_heatmap)
plot_hypervolume_history = _plotted(fronts.hypervolume_history)
plot_intermediate_values = _plotted(histories.intermediate_values)
plot_optimization_history = _plotted(histories.optimization_history)
plot_parallel_coordinate = _plotted(relations.parallel_coordinate)
plot_param_importances = _plotted(importances.param_importances)
plot_pareto_front = _plotted(fronts.pareto_front)
plot_prompt_lineage = _plotted(examples.prompt_lineage)
plot_rank = _plotted(relations.rank)
plot_slice = _plotted(relations.slices)
plot_terminator_improvement = _plotted(histories.terminator_improvement)
plot_timeline = _plotted(histories.timeline)
