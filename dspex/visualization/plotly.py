"""Figures drawn by plotly, the default: they can be zoomed, and what a trial was hovers over its point."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from dspex.visualization.figure import PALETTE, Axis, Bars, Colors, Figure, Heat, Layer, Line, Panel, Points, Texts

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["is_available", "plotted", "render"]

P = ParamSpec("P")


def is_available() -> bool:
    """Whether plotly is installed.

    >>> is_available() in (True, False)
    True
    """
    try:
        import plotly.graph_objects  # noqa: F401 - whether it can be is the question
    except ImportError:
        return False
    return True


def plotted(plot: Callable[P, Figure]) -> Callable[P, go.Figure]:
    """The function that draws what ``plot`` says."""

    @wraps(plot)
    def draw(*args: P.args, **kwargs: P.kwargs) -> go.Figure:
        _plotly()  # before the work
        return render(plot(*args, **kwargs))

    return draw


def render(figure: Figure) -> go.Figure:
    """The figure as one of plotly's.

    Raises:
        ImportError: when plotly is not installed.
    """
    go = _plotly()
    from plotly.subplots import make_subplots

    width, height = figure.size
    title = {"text": _escaped(figure.title), "x": 0.02, "xanchor": "left"}
    look = {"title": title, "template": "plotly_white", "showlegend": figure.legend, "height": height}
    look["margin"] = {"l": 60, "r": 30, "t": 60, "b": 60}
    if figure.panels[0][0].z is not None:
        return _solid(go, figure.panels[0][0], look)
    rows, columns = len(figure.panels), max(len(row) for row in figure.panels)
    if rows * columns == 1:
        drawn = go.Figure()
    else:
        many = len(figure.panels[0][0].y.title) > 0 and all(
            panel.y.ticks is None or panel.y.ticks == () for row in figure.panels for panel in row[1:]
        )
        drawn = make_subplots(
            rows=rows,
            cols=columns,
            horizontal_spacing=(0.25 if not many else 0.12) / columns,
            vertical_spacing=min(0.35 / rows, 0.12) if rows > 1 and rows != columns else 0.12 / rows,
        )
    # Panels that say no width take what room there is.
    drawn.update_layout(**look, width=width if rows * columns > 1 else None, barmode="overlay", hovermode="closest")
    for i, row in enumerate(figure.panels):
        for j, panel in enumerate(row):
            place = {} if rows * columns == 1 else {"row": i + 1, "col": j + 1}
            # A panel without any trace would not even show its axes.
            for trace in [trace for layer in panel.layers for trace in _traces(go, layer)] or [go.Scatter(x=[None])]:
                drawn.add_trace(trace, **place)
            drawn.update_xaxes(**_axis(panel.x), **_angle(panel.x), **place)
            drawn.update_yaxes(**_axis(panel.y), **place)
            if panel.note:
                ref = drawn.get_subplot(i + 1, j + 1).xaxis.plotly_name.removeprefix("xaxis") if place else ""
                drawn.add_annotation(
                    text=_escaped(panel.note),
                    xref=f"x{ref} domain",
                    yref=f"y{ref} domain",
                    x=0.5,
                    y=0.5,
                    showarrow=False,
                    font={"color": "#999999"},
                )
    return drawn


def _plotly() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ImportError(
            "plots are drawn by plotly, which is not installed: pip install 'dspex[plot]'; or use matplotlib: "
            "dspex.visualization.matplotlib.plot_...(study)"
        ) from error
    return go


def _escaped(text: str) -> str:
    # Plotly reads some HTML in every text that it shows.
    return html.escape(text).replace("\n", "<br>")


def _axis(axis: Axis) -> dict[str, Any]:
    look: dict[str, Any] = {"title": {"text": _escaped(axis.title)}, "automargin": True, "zeroline": False}
    if not axis.visible:
        look |= {"visible": False}
    if axis.kind == "time":
        look |= {"type": "date"}
    elif axis.kind == "log":
        decades = 0.0 if axis.range is None else math.log10(axis.range[1] / axis.range[0])
        look |= {"type": "log", "exponentformat": "power", **({"dtick": 1} if decades > 1 else {})}
    elif axis.whole:
        look |= {"tickformat": "d"}
    if axis.range is not None:
        look |= {"range": [math.log10(end) for end in axis.range] if axis.kind == "log" else list(axis.range)}
    if axis.ticks is not None:
        look |= {
            "tickmode": "array",
            "tickvals": [at for at, _ in axis.ticks],
            "ticktext": [_escaped(label) for _, label in axis.ticks],
        }
        look |= {"showticklabels": bool(axis.ticks)}
    return look


def _angle(axis: Axis) -> dict[str, Any]:
    """Long labels lean, so that they do not run into each other."""
    long = axis.ticks is not None and sum(len(label) for _, label in axis.ticks) > 26 and len(axis.ticks[0][1]) > 3
    return {"tickangle": -30} if long else {}


def _traces(go: Any, layer: Layer) -> list[Any]:
    if isinstance(layer, Points):
        return [go.Scatter(**_points(layer))]
    if isinstance(layer, Line):
        return _line(go, layer)
    if isinstance(layer, Bars):
        return [_bars(go, layer)]
    if isinstance(layer, Texts):
        side = {"left": "middle left", "above": "top center", "right": "middle right"}[layer.side]
        look = {"mode": "text", "textposition": side, "textfont": {"size": 10, "color": "#222222", "shadow": "auto"}}
        texts = [f"{_escaped(text)}&nbsp;" if layer.side == "left" else _escaped(text) for text in layer.text]
        return [go.Scatter(x=list(layer.x), y=list(layer.y), text=texts, hoverinfo="skip", showlegend=False, **look)]
    return [_heat(go, layer)]


def _points(layer: Points) -> dict[str, Any]:
    marker: dict[str, Any] = {"size": layer.size, "symbol": layer.symbol, "line": {"width": 0.5, "color": "#666666"}}
    if isinstance(layer.color, Colors):
        marker |= _colors(layer.color)
    else:
        marker["color"] = layer.color
    look: dict[str, Any] = {
        "x": list(layer.x),
        "y": list(layer.y),
        "mode": "markers",
        "marker": marker,
        "name": _escaped(layer.name),
        "showlegend": bool(layer.name),
    }
    if layer.z is not None:
        look["z"] = list(layer.z)
        marker["size"] = layer.size / 2  # those in front are drawn larger
    if layer.hover:
        look |= {"hovertext": [_escaped(text) for text in layer.hover], "hoverinfo": "text"}
    if layer.error is not None:
        look["error_y"] = {"type": "data", "array": list(layer.error), "visible": True}
    return look


def _colors(colors: Colors) -> dict[str, Any]:
    bar: dict[str, Any] = {"title": {"text": _escaped(colors.title)}, "thickness": 14}
    if colors.ticks is not None:
        bar |= {"tickvals": [at for at, _ in colors.ticks], "ticktext": [_escaped(text) for _, text in colors.ticks]}
    return {
        "color": list(colors.values),
        "colorscale": colors.scale,
        "reversescale": colors.reverse,
        "cmin": min(colors.values) if colors.low is None else colors.low,
        "cmax": max(colors.values) if colors.high is None else colors.high,
        "showscale": colors.bar,
        "colorbar": bar,
    }


def _line(go: Any, layer: Line) -> list[Any]:
    x, y = list(layer.x), [None if math.isnan(value) else value for value in layer.y]
    look = {"color": layer.color, "width": layer.width, "dash": "dash" if layer.dash else "solid"}
    traces = []
    if layer.band is not None:
        high = [value + half for value, half in zip(layer.y, layer.band, strict=True)]
        low = [value - half for value, half in zip(layer.y, layer.band, strict=True)]
        shade = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        traces.append(
            go.Scatter(x=x + x[::-1], y=high + low[::-1], fill="toself", fillcolor=layer.color, opacity=0.2, **shade)
        )
    traces.append(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={**look, "shape": "hv" if layer.steps else "linear"},
            opacity=layer.opacity,
            name=_escaped(layer.name),
            showlegend=bool(layer.name),
            hoverinfo="skip" if not layer.name else None,
        )
    )
    return traces


def _bars(go: Any, layer: Bars) -> Any:
    lengths, starts = [], []
    for start, end in zip(layer.start, layer.end, strict=True):
        if isinstance(start, datetime) and isinstance(end, datetime):
            starts.append(start.replace(tzinfo=None).isoformat())
            lengths.append((end - start).total_seconds() * 1000)  # plotly counts time in milliseconds
        else:
            starts.append(start)  # type: ignore[arg-type]  # both are numbers then
            lengths.append(end - start)  # type: ignore[operator]
    return go.Bar(
        y=list(layer.at),
        x=lengths,
        base=starts,
        width=layer.thickness,
        orientation="h",
        marker={"color": layer.color},
        name=_escaped(layer.name),
        text=[_escaped(text) for text in layer.text] or None,
        textposition="outside" if layer.text else "none",
        cliponaxis=False,
        hovertext=[_escaped(text) for text in layer.hover] or None,
        hoverinfo="text" if layer.hover else None,
    )


def _heat(go: Any, layer: Heat) -> Any:
    look: dict[str, Any] = {
        "x": list(layer.x),
        "y": list(layer.y),
        "z": [[None if math.isnan(value) else value for value in row] for row in layer.z],
        "colorscale": layer.scale,
        "reversescale": layer.reverse,
        "showscale": layer.bar,
        "colorbar": {"title": {"text": _escaped(layer.title)}, "thickness": 14},
    }
    if layer.hover:
        look |= {"hovertext": [[_escaped(text) for text in row] for row in layer.hover], "hoverinfo": "text"}
    if layer.smooth:
        return go.Contour(**look, connectgaps=True, contours_coloring="heatmap", line_smoothing=1.2, line_width=0)
    return go.Heatmap(**look, hoverongaps=True, xgap=1, ygap=1)


def _solid(go: Any, panel: Panel, look: dict[str, Any]) -> Any:
    drawn = go.Figure([go.Scatter3d(**_points(layer)) for layer in panel.layers if isinstance(layer, Points)])
    axes = {"xaxis": panel.x, "yaxis": panel.y, "zaxis": panel.z or Axis()}
    scene = {name: {"title": {"text": _escaped(axis.title)}} for name, axis in axes.items()}
    drawn.update_layout(**look, scene=scene, colorway=PALETTE)
    return drawn
