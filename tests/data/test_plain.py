from __future__ import annotations

import enum
import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import numpy as np
import pytest
from pydantic import BaseModel

from dspex.data import Example, Prediction, plain_data
from dspex.errors import DataError


class Level(enum.IntEnum):
    LOW = 1


class Model(BaseModel):
    when: date


class Pair(NamedTuple):
    left: int
    right: int


@dataclass
class Data:
    inner: Any


@attrs.define
class Attrs:
    inner: Any


class Own:
    def to_json(self) -> dict[str, Any]:
        return {"level": Level.LOW}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, [2.5, None]), [1, [2.5, None]]),
        (Level.LOW, 1),
        (Model(when=date(2026, 5, 1)), {"when": "2026-05-01"}),
        (Data(Attrs(Pair(1, 2))), {"inner": {"inner": [1, 2]}}),
        (Own(), {"level": 1}),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({3, 1}), [1, 3]),
        (OrderedDict(a=1), {"a": 1}),
        ({Level.LOW: 1, None: 2, False: 3, 1.5: 4}, {"1": 1, "null": 2, "false": 3, "1.5": 4}),
        (datetime(2026, 5, 1, tzinfo=UTC), "2026-05-01T00:00:00+00:00"),
        (timedelta(minutes=1), 60.0),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("a/b"), "a/b"),
        (b"\x00", "AA=="),
        (np.arange(3), [0, 1, 2]),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (float("-inf"), "-inf"),
        (Example(a=(1,)), {"a": [1]}),
        (Prediction(a=1), {"fields": {"a": 1}}),
    ],
)
def test_every_usual_value_has_one_plain_form(value: Any, plain: Any) -> None:
    assert plain_data(value) == plain
    assert type(plain_data(value)) is type(plain)
    assert plain_data(json.loads(json.dumps(plain_data(value), allow_nan=False))) == plain


def test_what_has_none_is_named_by_its_place() -> None:
    with pytest.raises(DataError, match=r"^data\['rows'\]\[1\]\.inner is <object object .* Give object a method"):
        plain_data({"rows": [1, Data(object())]}, name="data")
