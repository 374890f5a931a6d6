"""Plots that only a ledger and pools allow: examples by trials, and the descent of prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dspex.errors import StudyError
from dspex.importance import Target
from dspex.study import Study
from dspex.visualization.figure import MUTED, PALETTE, Axis, Figure, Heat, Layer, Line, Panel, Points
from dspex.visualization.selecting import lower_is_better, shorten, shown, thinned, titled

__all__ = ["example_heatmap", "prompt_lineage"]

_MOST_LABELS = 40


def example_heatmap(
    study: Study,
    *,
    objective: str = "score",
    trials: Sequence[int] | None = None,
    examples: Sequence[str] | None = None,
) -> Figure:
    """The score of each trial (a column) on each example (a row), the hardest examples at the top.

    Rows that never change tell nothing about the trials; rows that change together are the same difficulty. What was
    not run is left white.

    Args:
        study: A study whose ledger has evaluations.
        objective: Which of the scores.
        trials: The numbers of the trials; all that have any score by default.
        examples: The ids of the examples; all that have any score by default.

    Raises:
        StudyError: when the ledger has no such score.
    """
    matrix = study.ledger.matrix(objective=objective, trials=trials, examples=examples)
    scores = np.array(matrix.scores, dtype=np.float64).reshape(len(matrix.trials), len(matrix.examples))
    if not np.isfinite(scores).any():
        names = sorted({name for row in study.ledger for name in row.scores})
        known = f"there are: {', '.join(names)}" if names else "it is empty; write trial.record(Evaluation(...))"
        raise StudyError(f"the ledger of study {study.study_name!r} has no score {objective!r} to show; {known}")
    have = np.isfinite(scores)
    means = np.where(have, scores, 0.0).sum(axis=0) / np.maximum(have.sum(axis=0), 1)
    order = np.argsort(-means, kind="stable")  # rows are drawn from the bottom
    scores = scores[:, order]
    names = [matrix.examples[index] for index in order]
    hover = [
        [
            f"trial {trial}\nexample {shorten(name)}\n{objective}: {'not run' if math.isnan(value) else f'{value:.4g}'}"
            for trial, value in zip(matrix.trials, row, strict=True)
        ]
        for name, row in zip(names, scores.T.tolist(), strict=True)
    ]
    columns = [float(position) for position in range(len(matrix.trials))]
    rows = [float(position) for position in range(len(names))]
    heat = Heat(x=columns, y=rows, z=scores.T.tolist(), title=objective, scale="Viridis", hover=hover)
    return Figure(
        title="Scores by Example and Trial",
        panels=(
            (
                Panel(
                    layers=(heat,),
                    x=Axis(title="Trial", ticks=thinned([str(number) for number in matrix.trials], 30)),
                    y=Axis(title="Example", ticks=thinned([shorten(name, 16) for name in names], _MOST_LABELS)),
                ),
            ),
        ),
        size=(max(640, min(1400, 220 + 14 * len(columns))), max(420, min(1100, 160 + 16 * len(rows)))),
    )


def prompt_lineage(
    study: Study,
    path: str | None = None,
    *,
    target: Target = None,
    target_name: str = "Objective Value",
) -> Figure:
    """The candidates of a prompt (or of demos) in the order they were added, with lines from those they were made from.

    A candidate stands at the mean value of the completed trials that used it, and its size says how many did; those
    that none used stand at the lower edge, in grey. The text hovers over it.

    Args:
        study: A study with a pool.
        path: The variable; may be left out when only one has candidates.
        target: The index or name of the objective, when there are several, or a function of a trial.
        target_name: What to call it.

    Raises:
        StudyError: when there is no such pool, or ``path`` is needed.
    """
    path = _pool_path(study, path)
    target_name = titled(study, target, target_name)
    pool = study.pool(path)
    used: dict[str, list[float]] = {}
    for one in shown(study, target):
        item = one.trial.params.get(path)
        if item is not None:
            used.setdefault(item, []).append(one.value)
    means = {item: sum(values) / len(values) for item, values in used.items()}
    low, high = min(means.values(), default=0.0), max(means.values(), default=1.0)
    edge = low - 0.15 * ((high - low) or 1.0)
    height = {item.id: means.get(item.id, edge) for item in pool}
    layers: list[Layer] = []
    for item in pool:
        for parent in item.parents:
            layers.append(
                Line(
                    x=[pool[parent].index, item.index],
                    y=[height[parent], height[item.id]],
                    color="#9a9a9a",
                    width=1.2,
                    opacity=0.8,
                )
            )
    best = (min if lower_is_better(study, target) else max)(means, key=means.__getitem__, default="")
    sources = list(dict.fromkeys(item.source or "unknown" for item in pool))
    groups: list[tuple[str, str, list[str]]] = [
        (
            source,
            PALETTE[index % len(PALETTE)],
            [i.id for i in pool if (i.source or "unknown") == source and i.id in means],
        )
        for index, source in enumerate(sources)
    ]
    groups.append(("not tried", MUTED, [item.id for item in pool if item.id not in means]))
    for name, color, ids in groups:
        for size, part in _by_use(ids, used).items():
            layers.append(
                Points(
                    x=[pool[item].index for item in part],
                    y=[height[item] for item in part],
                    color=color,
                    size=size,
                    name=name if size == max(_by_use(ids, used)) else "",
                    hover=[_told(study, path, item, used, best) for item in part],
                )
            )
    panel = Panel(layers=tuple(layers), x=Axis(title="Candidate", whole=True), y=Axis(title=f"Mean {target_name}"))
    return Figure(title=f"Lineage of {path}", panels=((panel,),), legend=True)


def _pool_path(study: Study, path: str | None) -> str:
    pools = sorted(name for name, pool in study.view.pools.items() if len(pool))
    if path is not None:
        if path not in pools:
            raise StudyError(f"{path!r} has no candidates in this study; those with candidates are: {pools}")
        return path
    if len(pools) != 1:
        raise StudyError(f"path is needed, because not one variable has candidates but these: {pools}")
    return pools[0]


def _by_use(ids: Sequence[str], used: dict[str, list[float]]) -> dict[float, list[str]]:
    """The candidates by the size of their mark."""
    sizes: dict[float, list[str]] = {}
    for item in ids:
        sizes.setdefault(8.0 + 3.0 * min(4, math.isqrt(max(0, len(used.get(item, ())) - 1))), []).append(item)
    return sizes


def _told(study: Study, path: str, id: str, used: dict[str, list[float]], best: str) -> str:
    item = study.pool(path)[id]
    values = used.get(id, [])
    lines = [f"candidate {item.index}{' (best)' if id == best else ''}", f"source: {item.source or 'unknown'}"]
    if item.parents:
        lines.append(f"from: {', '.join(str(study.pool(path)[parent].index) for parent in item.parents)}")
    if item.note:
        lines.append(f"note: {shorten(item.note)}")
    lines.append(f"mean {sum(values) / len(values):.4g} over {len(values)} trials" if values else "not tried")
    text = shorten(item.value, 480)
    lines += [text[start : start + 80] for start in range(0, len(text), 80)]
    return "\n".join(lines)
