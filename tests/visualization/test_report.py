"""The page about a study, and what notebooks show: self-contained, and safe whatever the prompts say."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dspex.data import Evaluation, Usage
from dspex.study import Study, create_study
from dspex.trials import create_trial
from dspex.variables import Choice, Entry, Prompt, Space
from dspex.visualization import report
from dspex.visualization.matplotlib import is_available

pytest.importorskip("plotly")

ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(2)><a href="javascript:alert(3)">'


class _Tags(HTMLParser):
    """All tags with their attributes, and the text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("script", "style"):
            self.text += data


def _read(page: str) -> _Tags:
    found = _Tags()
    found.feed(page)
    return found


def _harmless(page: str) -> _Tags:
    found = _read(page)
    for tag, attributes in found.tags:
        assert tag not in ("a", "iframe", "img", "link", "object", "embed", "base", "form"), tag
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert "src" not in attributes, attributes
        assert not re.search(r"https?:", str(attributes.get("href", ""))), attributes
    return found


def test_the_page_has_everything(program: Study, tmp_path: Path) -> None:
    path = report(program, tmp_path / "report.html")
    page = path.read_text("utf-8")
    tags = _harmless(page)
    assert "default-src 'none'" in page
    assert page.count('class="plotly-graph-div"') == 11
    assert len([tag for tag, _ in tags.tags if tag == "details"]) == 6
    for text in ("Study program", "30 complete", "answer.stepwise.temperature", "Cost and gain", "never tried"):
        assert text in tags.text
    assert "Think step by step. " * 12 in tags.text
    assert "Answer in $one$ word & <b>no</b> more: <script>alert(1)</script>" in tags.text
    assert "No trial has" not in tags.text
    assert "Not drawn: no trial of study 'program' has reported a value" in tags.text
    best = program.best_trial
    assert str(best.number) in tags.text


def test_half_a_surrogate_pair_is_written(tmp_path: Path) -> None:
    study = create_study(study_name="half")
    study.optimize(lambda trial: len(trial.suggest_categorical("kind", ["\ud83d x", "y"])), n_trials=4)
    assert "\\ud83d x" in study.report(tmp_path / "half.html").read_text("utf-8")


def test_the_study_has_a_door_to_it(flat: Study, several: Study, tmp_path: Path) -> None:
    assert flat.report(tmp_path / "flat.html") == tmp_path / "flat.html"
    page = several.report(tmp_path / "several.html").read_text("utf-8")
    text = _harmless(page).text
    assert "Pareto front" in text
    assert "History of Objective 1" in text
    assert page.count('class="plotly-graph-div"') >= 8


def test_without_plotly_the_plots_are_drawings(program: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_available():
        pytest.skip("needs matplotlib")
    pytest.importorskip("matplotlib").use("Agg")
    for name in [name for name in sys.modules if name.split(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    page = report(program, tmp_path / "report.html").read_text("utf-8")
    assert page.count("<svg") == 11
    assert "<script" not in page
    assert not re.findall(r'(?:src|xlink:href)="(?!#|data:image)', page)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"a report needs plotly or matplotlib: pip install 'dspex\[plot\]'"):
        report(program, tmp_path / "none.html")


def test_objectives_have_their_names(tmp_path: Path) -> None:
    study = create_study(directions=["maximize", "minimize"])
    study.set_metric_names(["accuracy", "price"])
    for values in [(0.1, 1.0), (0.2, 2.0)]:
        study.add_trial(create_trial(values=values))
    text = _harmless(study.report(tmp_path / "report.html").read_text("utf-8")).text
    assert "maximize accuracy, minimize price" in text
    assert "Pareto set" in text
    for price in range(3, 25):
        study.add_trial(create_trial(values=(price / 10, float(price))))
    assert "Pareto set: 20 of 24 trials" in report(study, tmp_path / "more.html").read_text("utf-8")
    assert "History of price" in text
    assert "accuracy" in study._repr_html_()


def test_what_a_reader_looked_at_and_found_wrong_is_mended(tmp_path: Path) -> None:
    study = create_study()
    for value in (1.0, 2.0):
        trial = study.ask()
        usage = Usage(calls=1, prompt_tokens=70, completion_tokens=7, cost=0.0)
        trial.record(Evaluation(example_id="a", status="ok", scores={"score": value}, usage=usage))
        study.tell(trial, value)
    text = study.report(tmp_path / "report.html").read_text("utf-8")
    shown = _harmless(text).text
    assert "minimize" in shown
    assert "Objective 0" not in shown  # a name that nobody has given
    assert "Tokens" in text  # where all was free, dollars would be one vertical line
    assert "US dollars" not in text
    assert "overflow-wrap: anywhere" in text  # long attributes made the page wider than the window


def test_an_empty_study(tmp_path: Path) -> None:
    text = _harmless(report(create_study(study_name="empty"), tmp_path / "empty.html").read_text("utf-8")).text
    assert "No trial has completed." in text
    assert "Not drawn: study 'empty' has no completed trial to plot" in text


@pytest.fixture
def attacked() -> Study:
    """A study with hostile text wherever text can be."""
    space = Space(
        [
            Entry("instructions", Prompt(), ATTACK, doc=ATTACK),
            Entry("tone", Choice(ATTACK, "b"), "b"),
            Entry(ATTACK, Prompt(), ""),
        ]
    )
    study = create_study(study_name=ATTACK, space=space)
    study.set_user_attr(ATTACK, ATTACK)
    pool = study.pool("instructions")
    pool.add(f"{ATTACK} again", parents=[pool.items[0].id], source=ATTACK, note=ATTACK)
    for value in (1.0, 2.0, 3.0, 4.0):
        trial = study.ask()
        trial.set_user_attr(ATTACK, ATTACK)
        trial.set_constraint(ATTACK, -1.0)
        study.tell(trial, value)
    return study


def test_no_text_becomes_code(attacked: Study, tmp_path: Path) -> None:
    page = report(attacked, tmp_path / "report.html").read_text("utf-8")
    _harmless(page)
    # Not in what the scripts hold either: plotly reads HTML in the texts of a figure.
    scripts = re.findall(r'Plotly\.newPlot\(\s*"[^"]+",\s*(\[.*?\]),\s*\{', page, re.DOTALL)
    assert scripts
    for data in scripts:
        assert "<script" not in data
        assert "<img" not in json.dumps(json.loads(data))


def test_notebooks_escape_everything(attacked: Study) -> None:
    assert attacked.space is not None
    for shown in (attacked, attacked.trials[0], attacked.space):
        page = shown._repr_html_()
        tags = _harmless(page)
        assert "script" not in {tag for tag, _ in tags.tags}
        assert "alert(1)" in tags.text


def test_notebooks_show_what_matters(flat: Study, program: Study, several: Study) -> None:
    text = _read(flat._repr_html_()).text
    assert "Study 'flat': minimize" in text
    assert "70 trials" in text
    assert f"{flat.best_value:.6g}" in text
    assert "evaluations" in _read(program._repr_html_()).text
    rows = several._repr_html_().count("<tr>") - 1
    assert rows == min(10, len(several.best_trials))
    assert "no trials yet" in create_study()._repr_html_()
    trial = create_trial(
        value=0.25, params={"tone": "b"}, distributions={"tone": Choice("a", "b")}, constraints={"c": 1.0}
    )
    text = _read(trial._repr_html_()).text
    assert "COMPLETE, 0.25, infeasible" in text
    assert "Choice('a', 'b')" in text
    assert program.space is not None
    text = _read(program.space._repr_html_()).text
    assert "4 variables, 4 tunable" in text
    assert "answer = 'stepwise'" in text


def test_results_show_their_report(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.text import Text

    from dspex.optimizers import OptimizationResult

    monkeypatch.setattr(OptimizationResult, "__rich__", lambda self: Text(ATTACK))
    result: Any = object.__new__(OptimizationResult)
    page = OptimizationResult._repr_html_(result)
    assert "alert(1)" in _harmless(page).text
    assert page.startswith("<pre")
