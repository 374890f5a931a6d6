"""No constructor takes a number that cannot be meant: each says which argument it is, and what it was given."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dspex import optimizers, proposers, pruners, samplers, study
from dspex.errors import DspexError

BASES = (
    optimizers.Allocator,
    optimizers.Optimizer,
    proposers.Proposer,
    pruners.Pruner,
    samplers.BaseCrossover,
    samplers.BaseMutation,
    samplers.Sampler,
    study.ExpectedGainCallback,
    study.MaxTrialsCallback,
    study.StagnationCallback,
    study.TargetCallback,
)
GIVEN: dict[str, dict[str, Any]] = {  # what has to be given besides
    "ExpectedGainCallback": {"worth": 1.0, "cost": 1.0},
    "MaxTrialsCallback": {"n_trials": 3},
    "OptunaSampler": {"sampler": None},
    "PartialFixedSampler": {"fixed_params": {}, "base_sampler": samplers.RandomSampler()},
    "PatientPruner": {"wrapped_pruner": None, "patience": 2},
    "PercentilePruner": {"percentile": 25.0},
    "StagnationCallback": {"n_trials": 3},
    "TargetCallback": {"target": 1.0},
    "ThresholdPruner": {"upper": 1.0},
}
NEGATIVE = {"failure_score", "lower", "target", "threshold", "upper"}  # any number may be meant


def _constructors() -> list[type[Any]]:
    public = {
        getattr(room, name) for room in (optimizers, proposers, pruners, samplers, study) for name in room.__all__
    }
    classes = [one for one in public if inspect.isclass(one) and issubclass(one, BASES) and not inspect.isabstract(one)]
    return sorted(classes, key=lambda one: one.__name__)


def _parameters(kind: type[Any]) -> dict[str, str]:
    """Name → annotation of all that it may be given by keyword, those that go on to its bases included."""
    found: dict[str, str] = {}
    for base in kind.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        named = [one for one in parameters if one.kind is not one.VAR_POSITIONAL and one.kind is not one.VAR_KEYWORD]
        found = {one.name: str(one.annotation) for one in named} | found
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found


def _cases() -> Iterator[Any]:
    for kind in _constructors():
        for name, annotation in _parameters(kind).items():
            types = set(re.findall(r"\w+", annotation))
            bad: list[Any] = []
            if types & {"int", "float"}:
                bad = ["x", True, math.nan]
                seeded = name == "seed" and issubclass(kind, optimizers.Optimizer)
                bad += [] if name in NEGATIVE or "Sequence" in types or seeded else [-1]
                bad += [] if "float" in types else [2.5]
            elif "bool" in types:
                bad = [1, "x", math.nan]
            for value in bad:
                yield pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{value}")


@pytest.mark.parametrize(("kind", "name", "value"), list(_cases()))
def test_a_number_that_cannot_be_meant_is_an_error_that_names_it(kind: type[Any], name: str, value: Any) -> None:
    given = dict(GIVEN.get(kind.__name__, {}))
    if kind is samplers.OptunaSampler:
        given["sampler"] = pytest.importorskip("optuna").samplers.RandomSampler()
    if kind is samplers.CmaEsSampler:
        pytest.importorskip("cmaes")
    kind(**given)
    with pytest.raises(DspexError, match=rf"\b{name}\b") as caught:
        kind(**{**given, name: value})
    assert repr(value) in str(caught.value)
    assert type(value).__name__ in str(caught.value)


def test_no_constructor_is_left_out() -> None:
    names = {kind.__name__ for kind in _constructors()}
    assert {"TPESampler", "HyperbandPruner", "JointSearch", "BootstrapFewShot", "Racing", "LabeledDemos"} <= names
    assert set(GIVEN) <= names


def test_whole_numbers_may_be_those_of_numpy() -> None:
    seed = samplers.TPESampler(seed=np.int64(7), n_startup_trials=np.int32(3)).seed
    assert (seed, type(seed)) == (7, int)
    assert pruners.MedianPruner(np.int64(4)).n_startup_trials == 4
    assert study.MaxTrialsCallback(np.int64(9)).n_trials == 9


@pytest.mark.parametrize("kind", [one for one in _constructors() if "proposers" in inspect.signature(one).parameters])
def test_proposers_are_a_list_of_them_or_none_is_given(kind: type[Any]) -> None:
    assert kind().proposers
    assert kind(proposers=None).proposers
    for value in ("demos", proposers.LabeledDemos(), [proposers.LabeledDemos], 3):
        with pytest.raises(DspexError, match=r"proposers must be a list of proposers, got .*proposers=\["):
            kind(proposers=value)
