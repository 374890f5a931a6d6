"""One self-contained HTML page about a study: it opens without a network, and nothing on it can call one."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from dspex.errors import StudyError
from dspex.importance.targets import objective_names
from dspex.study import Study
from dspex.study.display import best_rows
from dspex.trials import TrialState
from dspex.variables.notebook import space_html, table
from dspex.visualization import examples, fronts, histories, importances, matplotlib, plotly, relations
from dspex.visualization.figure import Figure

__all__ = ["report"]

_BEST = 20

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; font-size: 13px; margin: .6em 0; }
th, td { text-align: left; vertical-align: top; padding: 3px 12px 3px 0; border-bottom: 1px solid #eee; }
td { overflow-wrap: anywhere; } td:first-child { overflow-wrap: normal; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .7em; border-radius: 4px; font-size: 13px; }
.plot { overflow-x: auto; } .plot svg { max-width: 100%; height: auto; } .none { color: #777; }
summary { cursor: pointer; }
"""

# The page brings everything along; were something in it to ask for more, the browser would refuse.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:"


def report(study: Study, path: str | os.PathLike[str]) -> Path:
    """Writes a page with what was tried, what came of it, what it cost, and the main plots; returns where it is.

    The plots are plotly's where it is installed (its code, 5 MB, is part of the page), else drawings by matplotlib. One
    that cannot be drawn for this study says why. All texts of candidates are on the page in full.

    Raises:
        ImportError: when neither plotly nor matplotlib is installed.
        OSError: when the page cannot be written.

    >>> import tempfile
    >>> from dspex.study import create_study
    >>> study = create_study(study_name="small")
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report(study, f"{folder}/report.html").name
    'report.html'
    """
    if not plotly.is_available() and not matplotlib.is_available():
        raise ImportError("a report needs plotly or matplotlib: pip install 'dspex[plot]' or 'dspex[matplotlib]'")
    target = Path(path)
    # Half a surrogate pair, which a model's text may hold, has no UTF-8.
    target.write_text("".join(_page(study)), encoding="utf-8", errors="backslashreplace")
    return target


def _page(study: Study) -> Iterator[str]:
    name = html.escape(study.study_name)
    yield (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style>'
    )
    if plotly.is_available():
        from plotly.offline import get_plotlyjs

        yield f"<script>{get_plotlyjs()}</script>"
    yield f"</head><body><h1>Study {name}</h1>{_summary(study)}"
    columns, rows = best_rows(study, _BEST)
    title = "Best trials"
    if len(study.directions) > 1:
        count = len(study.best_trials)
        title = "Pareto set" if count <= _BEST else f"Pareto set: {_BEST} of {count} trials"
    yield f"<h2>{title}</h2>" + (table("", columns, rows) if rows else '<p class="none">No trial has completed.</p>')
    yield from _plots(study)
    yield f"<h2>Variables</h2>{_variables(study)}"
    yield from _candidates(study)
    yield "</body></html>\n"


def _summary(study: Study) -> str:
    states = Counter(trial.state.name.lower() for trial in study.trials)
    starts = [trial.datetime_start for trial in study.trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in study.trials if trial.datetime_complete]
    rows: list[tuple[str, object]] = [
        ("objectives", _objectives(study)),
        ("trials", ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"),
        ("sampler", study.sampler.describe(study.view)),
        ("pruner", repr(study.pruner)),
    ]
    if starts and ends:
        rows.append(("ran", f"{min(starts):%Y-%m-%d %H:%M:%S} to {max(ends):%Y-%m-%d %H:%M:%S} UTC"))
    if study.stopped:
        rows.append(("stopped", study.stopped))
    ledger = study.ledger
    if len(ledger):
        failed = sum(not row.ok for row in ledger)
        rows.append(
            ("evaluations", f"{len(ledger)} of {len({row.example_id for row in ledger})} examples, {failed} failed")
        )
        rows.append(("cost", str(ledger.usage()).strip("<>")))
    rows += [(f"user_attrs[{key!r}]", value) for key, value in study.user_attrs.items()]
    rows.append(("written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"))
    return table("", ("", ""), rows)


def _objectives(study: Study) -> str:
    if len(study.directions) == 1 and study.metric_names is None:
        return str(study.direction)
    return ", ".join(map(" ".join, zip(study.directions, objective_names(study), strict=True)))


def _cost_gain(study: Study, **target: Any) -> Figure:
    """In dollars, or in tokens where nothing has cost any."""
    free = study.ledger.usage().known_cost == 0 and study.ledger.usage().total_tokens > 0
    return histories.cost_gain(study, cost="tokens" if free else "usd", **target)


def _plots(study: Study) -> Iterator[str]:
    several = len(study.directions) > 1
    first: dict[str, Any] = {"target": 0} if several else {}
    wanted: list[tuple[str, Callable[[], Figure]]] = []
    if several:
        wanted.append(("Pareto front", partial(fronts.pareto_front, study)))
        for index, name in enumerate(objective_names(study)):
            wanted.append((f"History of {name}", partial(histories.optimization_history, study, target=index)))
    else:
        wanted.append(("History", partial(histories.optimization_history, study)))
    wanted += [
        ("Cost and gain", partial(_cost_gain, study, **first)),
        ("Importance", partial(importances.param_importances, study)),
        ("Slices", partial(relations.slices, study, **first)),
        ("Pairs", partial(relations.contour, study, **first)),
        ("Parallel coordinates", partial(relations.parallel_coordinate, study)),
        ("Examples", partial(examples.example_heatmap, study)),
        ("Intermediate values", partial(histories.intermediate_values, study)),
        ("What is left to gain", partial(histories.terminator_improvement, study)),
        ("Timeline", partial(histories.timeline, study)),
    ]
    for path in sorted(path for path, pool in study.view.pools.items() if len(pool) > 1):
        wanted.append((f"Lineage of {path}", partial(examples.prompt_lineage, study, path, **first)))
    for title, plot in wanted:
        yield f"<h2>{html.escape(title)}</h2>"
        try:
            yield f'<div class="plot">{_drawn(plot())}</div>'
        except StudyError as error:
            yield f'<p class="none">Not drawn: {html.escape(str(error))}</p>'


def _drawn(figure: Figure) -> str:
    if plotly.is_available():
        page: str = plotly.render(figure).to_html(full_html=False, include_plotlyjs=False)
        return page
    from matplotlib import pyplot

    drawn = matplotlib.figure_of(matplotlib.render(figure))
    out = StringIO()
    drawn.savefig(out, format="svg")
    pyplot.close(drawn)
    # Without the head of a file of its own.
    return out.getvalue()[out.getvalue().index("<svg") :]


def _variables(study: Study) -> str:
    if study.space is not None:
        return space_html(study.space)
    domains: dict[str, tuple[str, int]] = {}
    for trial in study.trials:
        for path, domain in trial.distributions.items():
            domains[path] = (repr(domain), domains.get(path, ("", 0))[1] + 1)
    return table("", ("variable", "domain", "trials"), [(path, *rest) for path, rest in domains.items()])


def _candidates(study: Study) -> Iterator[str]:
    completed = study.get_trials(states=[TrialState.COMPLETE])
    for path, pool in sorted(study.view.pools.items()):
        if not len(pool):
            continue
        yield f"<h2>Candidates of {html.escape(path)}</h2>"
        for item in pool:
            used = [trial for trial in completed if trial.params.get(path) == item.id]
            means = [sum(values) / len(used) for values in zip(*(trial.values or () for trial in used), strict=True)]
            told = f"mean {', '.join(f'{mean:.4g}' for mean in means)} over {len(used)} trials" if used else "not tried"
            parents = ", ".join(f"#{pool[parent].index}" for parent in item.parents)
            line = f"#{item.index} · {told} · source: {item.source or 'unknown'}"
            line += f" · from {parents}" if parents else ""
            line += f" · {item.note}" if item.note else ""
            text = item.value if isinstance(item.value, str) else "\n\n".join(map(str, item.value)) or "no demos"
            opened = " open" if len(pool) <= 3 else ""
            yield f"<details{opened}><summary>{html.escape(line)}</summary><pre>{html.escape(text)}</pre></details>"
