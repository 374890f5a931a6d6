"""A study as a pandas table."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from dspex.errors import StudyError
from dspex.study import create_study
from dspex.trials import TrialState

pandas = pytest.importorskip("pandas")


def objective(trial: Any) -> float:
    kind = trial.suggest_categorical("kind", ["a", "b"]) if trial.number else "a"
    trial.set_user_attr("note", kind)
    trial.suggest_prompt("text", ["Be brief."])
    return float(trial.suggest_float("x", 0.0, 1.0))


def test_one_row_a_trial() -> None:
    study = create_study()
    study.optimize(objective, n_trials=3)
    study.tell(study.ask(), state=TrialState.FAIL)
    table = study.trials_dataframe()
    assert list(table.columns) == [
        "number",
        "value",
        "datetime_start",
        "datetime_complete",
        "duration",
        "params_text",
        "params_x",
        "params_kind",
        "user_attrs_note",
        "state",
    ]
    assert table["number"].tolist() == [0, 1, 2, 3]
    assert table["state"].tolist() == ["COMPLETE"] * 3 + ["FAIL"]
    assert table["params_text"].tolist()[:3] == ["Be brief."] * 3
    assert table["value"].tolist()[:3] == [trial.value for trial in study.trials[:3]]
    assert pandas.isna(table["value"][3])
    assert pandas.isna(table["params_kind"][0])


def test_several_objectives_have_a_column_each() -> None:
    study = create_study(directions=["minimize", "maximize"])
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 2.0), n_trials=2)
    assert list(study.trials_dataframe(attrs=("number", "values")).columns) == ["number", "values_0", "values_1"]
    study.set_metric_names(["cost", "accuracy"])
    assert list(study.trials_dataframe(attrs=("value",)).columns) == ["values_cost", "values_accuracy"]
    pairs = study.trials_dataframe(attrs=("value", "params"), multi_index=True)
    assert list(pairs.columns) == [("values", "cost"), ("values", "accuracy"), ("params", "x")]
    assert pairs["values", "accuracy"].tolist() == [2.0, 2.0]


def test_no_trials_is_an_empty_table() -> None:
    assert len(create_study().trials_dataframe()) == 0
    assert len(create_study().trials_dataframe(multi_index=True)) == 0


def test_what_cannot_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    study = create_study()
    with pytest.raises(StudyError, match=r"attrs must be a list of .*values.*; got \('colour',\)"):
        study.trials_dataframe(attrs=("colour",))
    for names in (["one", "two"], "x", [], None, 3, [3], [[]]):
        with pytest.raises(StudyError, match="metric_names must be a list of 1 different names"):
            study.set_metric_names(names)  # type: ignore[arg-type]  # the test
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'dspex\[pandas\]'"):
        study.trials_dataframe()
