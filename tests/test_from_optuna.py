"""docs/from-optuna.md has a row for every public name of Optuna's modules, and what it promises is there."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex

PAGE = Path(__file__).parents[1] / "docs" / "from-optuna.md"

# What Optuna 5 exports; held equal to it below where it is installed.
NAMES = {
    "optuna.study": (
        "MaxTrialsCallback",
        "Study",
        "StudyDirection",
        "StudySummary",
        "copy_study",
        "create_study",
        "delete_study",
        "get_all_study_names",
        "get_all_study_summaries",
        "load_study",
    ),
    "optuna.trial": ("BaseTrial", "FixedTrial", "FrozenTrial", "Trial", "TrialState", "create_trial"),
    "optuna.samplers": (
        "BaseGASampler",
        "BaseSampler",
        "BruteForceSampler",
        "CmaEsSampler",
        "GPSampler",
        "GridSampler",
        "NSGAIIISampler",
        "NSGAIISampler",
        "PartialFixedSampler",
        "QMCSampler",
        "RandomSampler",
        "TPESampler",
        "nsgaii",
    ),
    "optuna.pruners": (
        "BasePruner",
        "HyperbandPruner",
        "MedianPruner",
        "NopPruner",
        "PatientPruner",
        "PercentilePruner",
        "SuccessiveHalvingPruner",
        "ThresholdPruner",
        "WilcoxonPruner",
    ),
    "optuna.importance": (
        "BaseImportanceEvaluator",
        "FanovaImportanceEvaluator",
        "MeanDecreaseImpurityImportanceEvaluator",
        "PedAnovaImportanceEvaluator",
        "get_param_importances",
    ),
    "optuna.visualization": (
        "is_available",
        "matplotlib",
        "plot_contour",
        "plot_edf",
        "plot_hypervolume_history",
        "plot_intermediate_values",
        "plot_optimization_history",
        "plot_parallel_coordinate",
        "plot_param_importances",
        "plot_pareto_front",
        "plot_rank",
        "plot_slice",
        "plot_terminator_improvement",
        "plot_timeline",
    ),
}


def _rows(module: str) -> dict[str, str]:
    """Optuna's name → what stands beside it, from the table that begins with the module's name."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| `{module}` |"))
    rows: dict[str, str] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, here, _ = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = here
    return rows


@pytest.mark.parametrize("module", NAMES)
def test_every_name_has_a_row(module: str) -> None:
    assert sorted(_rows(module)) == sorted(NAMES[module])


@pytest.mark.parametrize("module", NAMES)
def test_what_a_row_names_is_there(module: str) -> None:
    for name, here in _rows(module).items():
        if here == "not here":
            continue
        found = re.fullmatch(r"`(dspex(?:\.\w+)*)\.(\w+)`", here)
        assert found, f"{name}: {here}"
        assert hasattr(importlib.import_module(found[1]), found[2]), here


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_optunas(module: str) -> None:
    pytest.importorskip("optuna")
    assert sorted(importlib.import_module(module).__all__) == sorted(NAMES[module])


def test_the_same_arguments() -> None:
    optuna = pytest.importorskip("optuna")

    for name, here in _rows("optuna.visualization").items():
        if not name.startswith("plot_") or here == "not here":
            continue
        theirs = inspect.signature(getattr(optuna.visualization, name)).parameters
        for room in (dspex.visualization, dspex.visualization.matplotlib):
            ours = inspect.signature(getattr(room, name)).parameters
            assert list(ours) == [one for one in theirs if one != "constraints_func"]
            assert [one.kind for one in ours.values()] == [theirs[one].kind for one in ours]
            assert [one.default for one in ours.values()] == [theirs[one].default for one in ours]


MADE_BY_THE_LIBRARY = {"Study", "Trial", "FrozenTrial", "StudySummary"}
# How Optuna's samplers and trials are built inside; the rows of BaseSampler and BasePruner say what is here.
INSIDE = {
    "after_trial",
    "before_trial",
    "infer_relative_search_space",
    "prune",
    "reseed_rng",
    "sample_independent",
    "sample_relative",
    "get_parent_population",
    "get_population",
    "get_trial_generation",
    "population_size",
    "select_parent",
}


def _missing(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    """What Optuna's has and ours has not: arguments, methods and attributes."""
    if not inspect.isclass(theirs):
        yield from _arguments(theirs) - _arguments(ours)
        return
    if name not in MADE_BY_THE_LIBRARY and not issubclass(theirs, enum.Enum):
        yield from _arguments(theirs.__init__) - _arguments(ours.__init__)
    # Of an enumeration its members; attributes that are set when an object is made are there on both sides.
    names = [one.name for one in theirs] if issubclass(theirs, enum.Enum) else vars(theirs)
    for method in names:
        if method.startswith("_") or method in INSIDE:
            continue
        if not hasattr(ours, method):
            if not (inspect.isdatadescriptor(vars(theirs)[method]) and name in ("FixedTrial", "StudySummary")):
                yield method
        elif inspect.isfunction(getattr(theirs, method)) and inspect.isfunction(getattr(ours, method)):
            yield from _arguments(getattr(theirs, method)) - _arguments(getattr(ours, method))


def _arguments(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self"}


@pytest.mark.parametrize("module", NAMES)
def test_what_is_not_here_is_said(module: str) -> None:
    theirs = pytest.importorskip(module)
    section = PAGE.read_text("utf-8").split(f"| `{module}` |")[1].split("\n## ")[0]
    silent = {}
    for name, here in _rows(module).items():
        if here == "not here" or name.startswith("Base") or name in ("matplotlib", "nsgaii"):
            continue
        room, _, ours = here.strip("`").rpartition(".")
        missing = _missing(name, getattr(theirs, name), getattr(importlib.import_module(room), ours))
        if unsaid := [one for one in missing if f"`{one}`" not in section]:
            silent[name] = unsaid
    assert not silent
