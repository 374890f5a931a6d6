"""What a plot shows, before anything draws it: panels with axes, and layers of points, lines, bars, heat and texts.

Each plot is written once, as a function from a study to a `Figure`; plotly and matplotlib each draw any figure.
Texts are plain here: whoever draws them escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import attrs

__all__ = ["MUTED", "PALETTE", "Axis", "Bars", "Colors", "Figure", "Heat", "Layer", "Line", "Panel", "Points", "Texts"]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")
"""Okabe and Ito's colours, which people with any kind of colour vision tell apart."""

MUTED = "#c4c4c4"
"""Of what does not count: infeasible trials, candidates that were not tried."""

Numbers = Sequence[float]


@attrs.frozen(kw_only=True)
class Axis:
    """``ticks`` are positions and their labels, where numbers would say nothing; ``range`` is in the axis's unit.

    ``whole`` says that only whole numbers stand there.
    """

    title: str = ""
    kind: Literal["linear", "log", "time"] = "linear"
    ticks: tuple[tuple[float, str], ...] | None = None
    range: tuple[float, float] | None = None
    visible: bool = True
    whole: bool = False


@attrs.frozen(kw_only=True)
class Colors:
    """A colour for each point, from ``values`` on a ``scale``; with ``bar``, the scale is shown beside the plot."""

    values: Numbers
    scale: Literal["Blues", "Reds", "RdYlBu_r", "Viridis"] = "Blues"
    title: str = ""
    low: float | None = None
    high: float | None = None
    ticks: tuple[tuple[float, str], ...] | None = None
    reverse: bool = False
    bar: bool = True


@attrs.frozen(kw_only=True)
class Points:
    """``hover`` has a text for each point, its lines divided by newlines; ``error`` is half the length of a bar."""

    x: Numbers
    y: Numbers
    z: Numbers | None = None
    color: str | Colors = PALETTE[0]
    hover: Sequence[str] = ()
    name: str = ""
    symbol: Literal["circle", "x"] = "circle"
    size: float = 7.0
    error: Numbers | None = None


@attrs.frozen(kw_only=True)
class Line:
    """NaN in ``y`` breaks it. ``band`` is how far the shade around it reaches."""

    x: Numbers
    y: Numbers
    color: str = PALETTE[0]
    name: str = ""
    dash: bool = False
    width: float = 2.0
    steps: bool = False
    band: Numbers | None = None
    opacity: float = 1.0


@attrs.frozen(kw_only=True)
class Bars:
    """Horizontal bars at heights ``at``, each from ``start`` to ``end`` (moments, on an axis of time)."""

    at: Numbers
    start: Sequence[float] | Sequence[datetime]
    end: Sequence[float] | Sequence[datetime]
    color: str = PALETTE[0]
    name: str = ""
    text: Sequence[str] = ()
    hover: Sequence[str] = ()
    thickness: float = 0.8


@attrs.frozen(kw_only=True)
class Heat:
    """``z`` has a row for each of ``y`` and a column for each of ``x``; NaN where there is nothing.

    ``smooth`` draws contours through what is there instead of cells.
    """

    x: Numbers
    y: Numbers
    z: Sequence[Numbers]
    title: str = ""
    scale: Literal["Blues", "RdYlBu_r", "Viridis"] = "Blues"
    reverse: bool = False
    smooth: bool = False
    bar: bool = True
    hover: Sequence[Sequence[str]] = ()


@attrs.frozen(kw_only=True)
class Texts:
    """Short texts at positions, each to the left of its position, above it, or to the right."""

    x: Numbers
    y: Numbers
    text: Sequence[str]
    side: Literal["left", "above", "right"] = "left"


Layer = Points | Line | Bars | Heat | Texts


@attrs.frozen(kw_only=True)
class Panel:
    """One coordinate system; with ``z`` in three dimensions. ``note`` stands in an empty one."""

    layers: tuple[Layer, ...]
    x: Axis
    y: Axis
    z: Axis | None = None
    note: str = ""


@attrs.frozen(kw_only=True)
class Figure:
    """``panels`` are rows of panels; a row may be shorter than the others. ``size`` is in pixels."""

    title: str
    panels: tuple[tuple[Panel, ...], ...]
    legend: bool = False
    size: tuple[int, int] = (900, 520)
