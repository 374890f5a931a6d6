"""What names a search: edited code and other values do, the process and what the work leaves behind do not."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import os
import re
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dspex
from dspex import Budget, JointSearch, Predict
from dspex.errors import DefinitionError, StudyError
from dspex.optimizers.describing import described
from dspex.variables import Choice, content_id
from tests.optimizers.tasks import Capitals, lm, metric, trainset

ROOT = Path(__file__).parents[2]


def name(judge: Any, program: Any = None, storage: Any = None, **options: Any) -> str:
    search = JointSearch(trials=3, width=3)
    given = {"lm": lm(), "storage": storage, "budget": Budget(calls=5), **options}
    return search.optimize(program or Capitals(), trainset(), judge, **given).study.study_name


def of_source(source: str, wanted: str = "metric", **more: Any) -> Any:
    module = types.ModuleType("mine")
    module.__dict__.update(more)
    exec(compile(source, "mine.py", "exec"), module.__dict__)
    return getattr(module, wanted)


SOURCE = """
LIMIT = 0.5
class Table:
    scale = 2
    def __init__(self): self.known = (1, 2)
    def look(self, text): return text.strip()
table = Table()
def norm(text): return text.lower() if LIMIT > 0.4 else text
def again(text, times=3): return again(norm(text), times - 1) if times else text
def metric(example, prediction):
    return [again(text) == table.look(example.capital) for text in [prediction.capital]][0]
class Program(dspex.Module):
    def __init__(self): self.answer, self.tries = dspex.Predict("country -> capital"), 3
    def forward(self, country): return self.answer(country=norm(country))
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 0.5", "LIMIT = 0.6"),
        ("text.lower()", "text.upper()"),
        ("times=3", "times=4"),
        ("text.strip()", "text.rstrip()"),
        ("(1, 2)", "(1, 3)"),
        ("scale = 2", "scale = 3"),
    ],
)
def test_the_globals_that_a_metric_uses_are_part_of_it(old: str, new: str) -> None:
    first, same, other = (of_source(text, dspex=dspex) for text in (SOURCE, SOURCE, SOURCE.replace(old, new)))
    assert described(first, "metric") == described(same, "metric") != described(other, "metric")


@pytest.mark.parametrize(("old", "new"), [("LIMIT = 0.5", "LIMIT = 0.6"), (".lower()", ".upper()"), ("), 3", "), 4")])
def test_the_globals_and_attributes_of_a_program_are_part_of_it(old: str, new: str) -> None:
    sources = (SOURCE, SOURCE, SOURCE.replace(old, new))
    first, same, other = (name(metric, of_source(text, "Program", dspex=dspex)()) for text in sources)
    assert first == same != other


def test_an_option_is_described_as_the_value_that_was_given() -> None:
    given = {"steps": ["read", {"k": 3}]}
    assert described(Choice(given, None).first(), "plan") == described(given, "plan")


def test_a_constant_of_an_own_module_is_followed_and_a_library_stands_by_name() -> None:
    source = "def metric(e, p): return helpers.LIMIT < 1 and re.match('a', p)"
    descriptions = []
    for limit in (1, 2):
        helpers = types.ModuleType("helpers")
        helpers.LIMIT = limit  # type: ignore[attr-defined]
        descriptions.append(described(of_source(source, helpers=helpers, re=re), "metric"))
    assert descriptions[0] != descriptions[1]
    assert "['re', ['module', 're']]" in str(descriptions[0])


def test_which_fields_are_inputs_is_part_of_it(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 's.db'}"
    other = [example.copy(hint="").with_inputs("country") for example in trainset()]
    names = []
    for inputs in (("country",), ("country",), ("country", "hint")):
        examples = [example.with_inputs(*inputs) for example in other]
        search = JointSearch(trials=3, width=3)
        found = search.optimize(Hinted(), examples, metric, lm=lm(), storage=storage, budget=Budget(calls=5))
        names.append(found.study.study_name)
    assert names[0] == names[1] != names[2]


class Hinted(Capitals):
    def forward(self, country: str, hint: str | None = None) -> Any:
        return super().forward(country if hint is None else country.lower())


class Slots:
    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit


class Kind(enum.Enum):
    ONE = 1
    TWO = 2


def around(value: Any) -> Any:
    return lambda example, prediction: value is not None


PAIRS = [
    (re.compile("a"), re.compile("b")),
    (re.compile("a"), re.compile("a", re.IGNORECASE)),
    (np.arange(3), np.arange(4)),
    (np.array(["a", 1], dtype=object), np.array(["a", 2], dtype=object)),
    (np.float32(1), np.float32(2)),
    (decimal.Decimal("0.1"), decimal.Decimal("0.9")),
    (datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)),
    (b"a", b"b"),
    (Slots(1), Slots(2)),
    (Kind.ONE, Kind.TWO),
    (frozenset({1}), frozenset({2})),
    ({1: "a"}, {"1": "a"}),
    ((1,), [1]),
    (1, 1.0),
    (1, True),
    (float("nan"), None),
    (functools.partial(int, base=2), functools.partial(int, base=3)),
    (functools.cache(lambda text: text.upper()), functools.cache(lambda text: text.lower())),
    ("a".startswith, "b".startswith),
    (str.upper, str.lower),
    (Path("a"), Path("b")),
    (Predict("a -> b"), Predict("a -> c")),
    ([[[[[[[[[1]]]]]]]]], [[[[[[[[[2]]]]]]]]]),
]


@pytest.mark.parametrize(("one", "two"), PAIRS, ids=lambda value: type(value).__name__)
def test_what_is_closed_over_is_told_apart_by_its_content(one: Any, two: Any) -> None:
    first, same, other = (content_id(described(around(value), "metric")) for value in (one, one, two))
    assert first == same != other


class Judge:
    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def __call__(self, example: Any, prediction: Any) -> bool:
        return metric(example, prediction)


@pytest.mark.parametrize(
    ("judge", "place"),
    [(Judge([threading.Lock()]), r"metric\.kept\[0\]"), (around(threading.Lock()), r"metric\.value")],
)
def test_what_cannot_be_described_needs_a_name(judge: Any, place: str) -> None:
    with pytest.raises(DefinitionError, match=place + r' = .* \(lock\) cannot be described.*study="name"'):
        name(judge)
    storage = dspex.storage.InMemoryStorage()
    assert name(judge, study="mine", storage=storage) == name(judge, study="mine", storage=storage) == "mine"
    with pytest.raises(StudyError, match="another metric"):
        name(metric, study="mine", storage=storage)


def test_an_opaque_global_stands_by_its_type() -> None:
    source = "def metric(example, prediction):\n    with LOCK: return True"
    one, two = (described(of_source(source, LOCK=threading.Lock()), "metric") for _ in range(2))
    assert one == two


SETS = """
import dspex
from tests.optimizers.tasks import lm, trainset

NAMES = {"one", "two", ("a", frozenset({"three", "four", "five"}))}

def metric(e, p, more=frozenset({"six", "seven", "eight"})):
    inner = lambda t: t in {"yes", "yep", "sure", "fine"} or t in NAMES or t in ("a", {"x", "y", "z"})
    return inner(p.capital) or p.capital in {"a", "b", "c", "d"}

class Program(dspex.Module):
    def __init__(self):
        self.answer = dspex.Predict("country -> capital")
        self.kept = {"Rome", "Paris", "Oslo", len, max, min}
    def forward(self, country):
        return self.answer(country=country) if country in {"a", "b", "c", "d"} else self.answer(country=country)

search = dspex.JointSearch(trials=3, width=3)
options = {"lm": lm(), "storage": None, "budget": dspex.Budget(calls=5), "progress": False}
print(search.optimize(Program(), trainset(), metric, **options).study.study_name)
"""


def test_a_set_names_the_same_search_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "sets.py"
    script.write_text(SETS)
    names = {
        subprocess.run(
            [sys.executable, script],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(names) == 1


class Counting:
    def __init__(self, limit: float = 0.5) -> None:
        self.calls, self.memo, self.limit = 0, {}, limit  # type: ignore[var-annotated]

    def __call__(self, example: Any, prediction: Any) -> bool:
        self.calls += 1
        return bool(self.memo.setdefault((example.id, prediction.capital), metric(example, prediction)))


def test_a_metric_that_changes_while_it_works_resumes() -> None:
    storage, counting = dspex.storage.InMemoryStorage(), Counting()
    first = name(counting, storage=storage)
    assert counting.calls
    assert counting.memo
    assert name(counting, storage=storage) == first
    assert first == name(Counting())
    bound = Counting()
    assert name(bound.__call__) == name(bound.__call__) == name(Counting().__call__)
    counting.limit = 0.9  # the caller's change is a change
    assert name(counting, storage=storage) != first
    assert name(Counting(0.9)) != name(Counting())


def test_a_counter_among_the_globals_resumes() -> None:
    source = "calls = 0\ndef metric(e, p):\n    global calls\n    calls += 1\n    return True"
    counting = of_source(source)
    assert name(counting) == name(counting) == name(of_source(source))
    assert counting.__globals__["calls"] > 0
