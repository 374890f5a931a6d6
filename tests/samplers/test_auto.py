"""The sampler that chooses a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.samplers import AutoSampler, CmaEsSampler, GPSampler, RandomSampler, Sampler, StructuredSampler, TPESampler
from dspex.storage import InMemoryStorage
from dspex.study import Study, create_study
from dspex.testing.samplers import SamplerSuite
from dspex.variables import Choice, Condition, Constraint, Entry, Float, Int, Space

NUMBERS = Space.of(x=Float(0.0, 1.0), k=Int(1, 9))
MIXED = Space.of(x=Float(0.0, 1.0), c=Choice("a", "b"))
BRANCHES = Space([Entry("k", Int(1, 2), 1), Entry("x", Float(0.0, 1.0), 0.0, conditions=[Condition("k", 2)])])
HALF = Space([*NUMBERS.values()], [Constraint("half", {"x": "x"}, "x above a half", lambda x: x > 0.5)])
WIDE = Space.of(**{f"x{index}": Float(0.0, 1.0) for index in range(65)})


class TestAutoSampler(SamplerSuite):
    def make(self, seed: int) -> Sampler:
        sampler = AutoSampler(seed=seed)
        # With a long start, because the processes themselves go through the suite elsewhere.
        sampler._gp = GPSampler(seed=sampler.seed, n_startup_trials=45)
        return sampler


@pytest.mark.parametrize(
    ("space", "objectives", "n_trials", "number", "kind", "why"),
    [
        (MIXED, 1, None, 0, GPSampler, "trials are few"),
        (MIXED, 2, 5000, 999, GPSampler, "trials are few"),
        (MIXED, 1, None, 1000, TPESampler, "after 1,000 trials"),
        (NUMBERS, 1, 100, 50, GPSampler, "trials are few"),
        (NUMBERS, 1, 2000, 50, CmaEsSampler, "all variables are numbers, and 2,000 trials"),
        (NUMBERS, 2, 2000, 50, GPSampler, "trials are few"),
        (BRANCHES, 1, 2000, 50, GPSampler, "trials are few"),
        (HALF, 1, 2000, 50, GPSampler, "trials are few"),
        (WIDE, 1, None, 0, TPESampler, "65 variables"),
    ],
)
def test_the_rule(
    space: Space, objectives: int, n_trials: int | None, number: int, kind: type[Sampler], why: str
) -> None:
    if kind is CmaEsSampler:
        pytest.importorskip("cmaes")
    study = create_study(
        sampler=AutoSampler(n_trials=n_trials, seed=0), space=space, directions=["minimize"] * objectives
    )
    assert isinstance(study.sampler, AutoSampler)
    choice = study.sampler.choice(study.view, number)
    assert type(choice.sampler) is kind
    assert why in choice.why


def _on_the_way(sampler: Sampler, kinds: Sequence[str], *, limited: bool = False) -> Study:
    study = create_study(sampler=RandomSampler(seed=0))
    for index in range(6):
        trial = study.ask()
        if trial.suggest_int("kind", 0, 1) and "branch" in kinds:
            trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_float("y", 0.0, 1.0)
        if limited:
            trial.set_constraint("limit", -1.0)
        study.tell(trial, float(index))
    study.sampler = sampler
    return study


def test_what_trials_declared_decides_where_no_space_was() -> None:
    pytest.importorskip("cmaes")
    for kinds, limited, kind in (([], False, CmaEsSampler), (["branch"], False, GPSampler), ([], True, GPSampler)):
        sampler = AutoSampler(n_trials=2000, seed=0)
        study = _on_the_way(sampler, kinds, limited=limited)
        assert type(sampler.choice(study.view, 6).sampler) is kind


def test_without_cmaes_it_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sampler = AutoSampler(n_trials=2000, seed=0)
    assert type(sampler.choice(create_study(space=NUMBERS).view, 0).sampler) is GPSampler


def test_scores_of_single_examples_are_learned_from() -> None:
    sampler = AutoSampler(seed=0)
    study = create_study(sampler=sampler, space=MIXED)
    trial = study.ask()
    assert type(sampler.choice(study.view, 1).sampler) is GPSampler
    trial.record(Evaluation(example_id="e", status="ok", scores={"words": 1.0}, rollout=1))
    assert type(sampler.choice(study.view, 1).sampler) is GPSampler
    trial.record(Evaluation(example_id="e", status="ok", scores={"score": 1.0}))
    chosen = sampler.choice(study.view, 1)
    assert type(chosen.sampler) is StructuredSampler
    assert str(chosen) == "StructuredSampler, because the ledger has scores of single examples to learn from"


@pytest.mark.parametrize("number", [11, 1000])
def test_it_chooses_what_the_one_it_leaves_it_to_does(number: int) -> None:
    space = Space.of(x=Float(0.0, 1.0), c=Choice("a", "b"))
    study = create_study(sampler=AutoSampler(seed=3), space=space)
    for _ in range(11):
        trial = study.ask()
        study.tell(trial, trial.params["x"])
    alone: Sampler = GPSampler(seed=3) if number < 1000 else TPESampler(seed=3)
    assert study.sampler.sample(study.view, number, space, fixed={}) == alone.sample(
        study.view, number, space, fixed={}
    )
    domain, params = space["x"].domain, {"c": "a"}
    assert domain is not None
    assert study.sampler.suggest(study.view, number, "x", domain, params=params) == alone.suggest(
        study.view, number, "x", domain, params=params
    )


def test_a_resumed_study_goes_on_with_the_same_choices() -> None:
    storage = InMemoryStorage()
    study = create_study(study_name="study", sampler=AutoSampler(n_trials=3000, seed=0), storage=storage)
    for _ in range(5):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0.0, 1.0))
    again = Study(storage.get_study("study"), storage, sampler=AutoSampler(n_trials=3000, seed=0), pruner=study.pruner)
    for number in (5, 999, 1000, 2000):
        one, other = (some.sampler.choice(some.view, number) for some in (study, again))  # type: ignore[attr-defined]
        assert (type(one.sampler), one.why) == (type(other.sampler), other.why)


def test_reports_say_which_and_why(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    study = create_study(sampler=AutoSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=3)
    page = study.report(tmp_path / "report.html")
    assert "now GPSampler, because trials are few" in Path(page).read_text("utf-8")


def test_few_trials_have_a_short_start() -> None:
    starts = [AutoSampler(n_trials=count)._gp.n_startup_trials for count in (1, 12, 24, 100)]
    assert starts == [2, 3, 6, 10]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoSampler(n_trials=0), r"n_trials must be a whole number >= 1, got 0"),
        (lambda: AutoSampler().choice(create_study().view, -1), r"number must be a trial's number, got -1"),
    ],
)
def test_arguments_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        make()


def test_its_repr_makes_it() -> None:
    sampler = AutoSampler(seed=1, n_trials=40)
    assert repr(eval(repr(sampler))) == repr(sampler)
