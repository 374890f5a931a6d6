"""Trials and evaluations for the tests of storages."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import attrs

from dspex.data import Evaluation
from dspex.trials import FrozenTrial, TrialState
from dspex.variables import Choice, Float, Int, Prompt, Subset

__all__ = ["NOW", "everything", "row", "running"]

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def running(**changes: Any) -> FrozenTrial:
    """A trial that has been started."""
    return attrs.evolve(FrozenTrial(number=-1, state=TrialState.RUNNING, owner="me"), **changes)


def row(example: str = "e1", **changes: Any) -> Evaluation:
    """A measured row."""
    known: dict[str, Any] = {"status": "ok", "scores": {"score": 1.0}, "trial": 0, "fingerprint": "ab"}
    return Evaluation(example_id=example, **{**known, **changes})


def everything() -> FrozenTrial:
    """A trial that has something in each of its fields."""
    return FrozenTrial(
        number=-1,
        state=TrialState.COMPLETE,
        params={"x": 0.1, "k": 3, "c": ("a", 1), "s": ("p", "q"), "prompt": "64fb0968bd4b1c29", "unset": None},
        distributions={
            "x": Float(0.0, 1.0),
            "k": Int(1, 9),
            "c": Choice(("a", 1), None, True),
            "s": Subset("p", "q", "r"),
            "prompt": Prompt(max_chars=10),
            "unset": Float(0.0, 2.0),
        },
        values=(1.5, math.inf),
        intermediate_values={1: 0.5, 10: math.nan},
        constraints={"cost": -1.0},
        user_attrs={"note": "schön", "pair": (1, 2), "nested": {"a": [1, None]}},
        system_attrs={"fixed_params": {"x": 0.1}},
        datetime_start=NOW,
        datetime_complete=datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
        fingerprint="0123456789abcdef",
        owner="host/1/2/3",
    )
