"""Trying everything once: brute force and grids."""

from __future__ import annotations

import gc
import itertools
import socket
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dspex.errors import StateError, StudyError
from dspex.execution import processes
from dspex.samplers import BruteForceSampler, GridSampler, PartialFixedSampler, Sampler
from dspex.samplers.enumeration import Enumeration
from dspex.study import Trial, create_study, loop
from dspex.testing.samplers import SamplerSuite
from dspex.testing.strategies import domains
from dspex.trials import FrozenTrial, TrialState
from dspex.variables import Bool, Choice, Condition, Constraint, Entry, Float, Int, Prompt, Space


class TestBruteForceSampler(SamplerSuite):
    continuous = False

    def make(self, seed: int) -> Sampler:
        return BruteForceSampler(seed=seed)


class TestGridSampler(SamplerSuite):
    """With a list for some variables of the suite's spaces."""

    continuous = False

    def make(self, seed: int) -> Sampler:
        return GridSampler({"k": [3, 1, 2], "depth": [1, 8], "rate": [1e-5, 0.25000750000000004]}, seed=seed)


@st.composite
def _trees(draw: st.DrawFn) -> Space:
    """Spaces in which any variable may depend on any earlier ones, so not only trees."""
    entries: list[Entry] = []
    for index in range(draw(st.integers(1, 6))):
        conditions = [
            Condition(parent.path, draw(st.sampled_from(parent.domain.candidates() or ())))
            for parent in draw(st.lists(st.sampled_from(entries), max_size=2, unique_by=id) if entries else st.just([]))
            if parent.domain is not None
        ]
        domain = draw(st.sampled_from([Bool(), Int(1, 3), Choice("a", "b", None)]))
        tunable = draw(st.integers(0, 5)) > 0
        entries.append(Entry(f"v{index}", domain, domain.first(), tunable=tunable, conditions=conditions))
    return Space(entries)


@given(_trees(), st.integers(0, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_configurations_are_counted_and_each_comes_once(space: Space, seed: int) -> None:
    options: dict[str, Any] = {path: space[path].domain.candidates() for path in space.tunable}  # type: ignore[union-attr]
    listed = Enumeration(space, options, seed=seed)
    found = list(itertools.islice(listed, listed.size + 1))  # type: ignore[call-overload]
    everything = (dict(zip(options, values, strict=True)) for values in itertools.product(*options.values()))
    expected = {repr({path: one[path] for path in one if path in space.active(one)}) for one in everything}
    assert sorted(map(repr, found)) == sorted(expected)
    assert listed.size == space.size()


def test_more_configurations_than_could_be_listed() -> None:
    space = Space.of(**{f"x{i}": Int(0, 999) for i in range(20)})
    listed = Enumeration(space, {path: range(1000) for path in space}, seed=1)
    assert listed.size == 10**60
    assert listed[listed.size - 1].keys() == set(space)
    study = create_study(sampler=BruteForceSampler(seed=0), space=space)
    assert len({repr(study.ask().params) for _ in range(20)}) == 20


SPACE = Space(
    [
        Entry("kind", Choice("plain", "deep"), "plain"),
        Entry("deep.depth", Int(1, 3), 1, conditions=[Condition("kind", "deep")]),
        Entry("flag", Bool(), False),
    ]
)


def _objective(trial: Trial) -> float:
    value = 0
    if trial.suggest_categorical("kind", ["plain", "deep"]) == "deep":
        value = trial.suggest_int("deep.depth", 1, 3)
    return value + trial.suggest_bool("flag")


@pytest.mark.parametrize("space", [SPACE, None], ids=["declared", "on the way"])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_every_configuration_is_tried_once_and_then_it_ends(space: Space | None, n_jobs: int) -> None:
    study = create_study(sampler=BruteForceSampler(seed=n_jobs), space=space)
    study.optimize(_objective if space is None else lambda trial: 0.0, n_trials=50, n_jobs=n_jobs)
    tried = Counter(repr(sorted(trial.params.items())) for trial in study.trials)
    assert len(tried) == 8
    assert set(tried.values()) == {1}


def test_a_worker_with_nothing_to_do_goes_on_as_soon_as_another_one_shows_more() -> None:
    together = threading.Barrier(2)

    def objective(trial: Trial) -> float:
        trial.suggest_categorical("kind", ["deep"])
        trial.suggest_int("depth", 1, 4)
        together.wait(60.0)  # the second one has come to it before the first one was told
        return 0.0

    study = create_study(sampler=BruteForceSampler(seed=0))
    study.optimize(objective, n_jobs=2)
    assert sorted(trial.params["depth"] for trial in study.trials) == [1, 2, 3, 4]
    assert study.stopped == "BruteForceSampler has nothing new left to try"


def test_a_worker_with_nothing_to_do_ends_with_the_search() -> None:
    """It waits for what the other one may show, which ends by an error."""
    study = create_study(sampler=BruteForceSampler(seed=0))

    def objective(trial: Trial) -> float:
        trial.suggest_int("k", 1, 1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        study.optimize(objective, n_jobs=2)
    assert len(study.trials) == 1


@pytest.mark.parametrize("space", [None, Space([])], ids=["on the way", "declared"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_without_variables_there_is_one_configuration(space: Space | None, n_jobs: int) -> None:
    def objective(trial: Trial) -> float:
        if trial.number == 0:
            raise ConnectionError("not the objective's fault")
        return 1.0

    study = create_study(sampler=BruteForceSampler(seed=0), space=space)
    study.optimize(objective, n_trials=20, n_jobs=n_jobs, catch=ConnectionError)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    study.optimize(objective, n_trials=20, n_jobs=n_jobs)
    assert len(study.trials) == 2


def test_it_goes_on_where_another_left_off() -> None:
    study = create_study(sampler=BruteForceSampler(seed=0))
    study.optimize(_objective, n_trials=3)
    study.sampler = BruteForceSampler(seed=5)
    study.optimize(_objective)
    assert len(study.trials) == len({repr(trial.params) for trial in study.trials}) == 8


def test_what_was_queued_is_run_though_everything_has_been_tried() -> None:
    study = create_study(sampler=BruteForceSampler(seed=0), space=SPACE)
    study.optimize(lambda trial: 0.0)
    study.enqueue_trial({"kind": "plain", "flag": True})
    study.optimize(lambda trial: 1.0)
    assert len(study.trials) == 9
    assert study.ask().params  # and who asks gets an answer


def test_a_trial_that_failed_is_not_tried_again() -> None:
    study = create_study(sampler=BruteForceSampler(seed=0))

    def fails(trial: Trial) -> float:
        if trial.suggest_int("k", 1, 4) == 2:
            raise ValueError
        return 0.0

    study.optimize(fails, catch=ValueError)
    assert sorted(trial.params["k"] for trial in study.trials) == [1, 2, 3, 4]
    assert sum(trial.state is TrialState.FAIL for trial in study.trials) == 1


@pytest.mark.parametrize("declared", [True, False])
def test_a_pool_that_grows_adds_configurations(declared: bool) -> None:
    space = Space([Entry("p", Prompt(), None), Entry("k", Int(1, 2), 1)]) if declared else None
    study = create_study(sampler=BruteForceSampler(seed=0), space=space)

    def objective(trial: Trial) -> float:
        if not declared:
            trial.suggest_prompt("p")
            trial.suggest_int("k", 1, 2)
        return 0.0

    for expected, text in ((2, "one"), (4, "two"), (6, "three")):
        study.pool("p", Prompt()).add(text)
        study.optimize(objective)
        assert len(study.trials) == expected
    assert len({repr(sorted(trial.params.items())) for trial in study.trials}) == 6


def test_running_trials_are_passed_by() -> None:
    study = create_study(sampler=BruteForceSampler(seed=0))
    asked = [study.ask() for _ in range(4)]
    assert sorted(trial.suggest_int("k", 1, 4) for trial in asked) == [1, 2, 3, 4]
    assert study.sampler.exhausted(study.view)
    assert asked[0].suggest_bool("flag") in (True, False)  # which nobody could know
    assert not study.sampler.exhausted(study.view)
    asked.append(study.ask())
    assert asked[-1].suggest_int("k", 1, 4) == asked[0].params["k"]
    assert asked[-1].suggest_bool("flag") is not asked[0].params["flag"]
    for trial in asked:
        study.tell(trial, 0.0)
    assert study.sampler.exhausted(study.view)


def test_constraints_leave_configurations_out() -> None:
    rule = Constraint("sum", {"a": "a", "b": "b"}, "a may not be above b", lambda a, b: a <= b)
    space = Space([Entry("a", Int(1, 4), 1), Entry("b", Int(1, 4), 1)], [rule])
    study = create_study(sampler=BruteForceSampler(seed=0), space=space)
    study.optimize(lambda trial: 0.0)
    assert len(study.trials) == 10


def test_values_that_are_fixed_are_not_enumerated() -> None:
    study = create_study(sampler=BruteForceSampler(seed=0), space=SPACE)
    tried = {repr(study.ask(fixed={"kind": "deep"}).params) for _ in range(6)}
    assert len(tried) == 6
    assert study.sampler.exhausted(study.view, fixed={"kind": "deep"})
    assert not study.sampler.exhausted(study.view)


def test_an_objective_that_asks_for_something_else_each_time_is_survived() -> None:
    study = create_study(sampler=BruteForceSampler(seed=0))
    for number in range(12):
        trial = study.ask()
        trial.suggest_int("ab"[number % 2], 1, 2)
        trial.suggest_bool("flag")
        study.tell(trial, 0.0)


def test_a_grid_is_combined_where_it_is_active() -> None:
    sampler = GridSampler({"deep.depth": [1, 3]}, seed=0)
    for space, objective in ((SPACE, lambda trial: 0.0), (None, _objective)):
        study = create_study(sampler=sampler, space=space)
        study.optimize(objective)
        assert len(study.trials) == 6
        assert {trial.params.get("deep.depth", 0) for trial in study.trials} == {0, 1, 3}


def test_a_grid_lists_continuous_variables() -> None:
    study = create_study(sampler=GridSampler({"x": [0, 0.5]}, seed=0), space=Space.of(x=Float(0.0, 1.0)))
    study.optimize(lambda trial: 0.0)
    assert sorted(trial.params["x"] for trial in study.trials) == [0.0, 0.5]


def test_a_grid_that_does_not_fit() -> None:
    study = create_study(sampler=GridSampler({"x": [2.0], "p": ["no id"]}, seed=0))
    with pytest.raises(StateError, match=r"search_space\['x'\] = 2.0"):
        study.ask().suggest_float("x", 0.0, 1.0)
    with pytest.raises(StudyError, match="'no id', which is no candidate's id; add it first"):
        study.ask().suggest_prompt("p", ["some text"])
    with pytest.raises(StudyError, match=r"'y' is Float\(0.0, 1.0\), whose values are too many to try each"):
        study.ask().suggest_float("y", 0.0, 1.0)
    with pytest.raises(StudyError, match=r"search_space\['x'\] must be a list, got 'ab' \(str\)"):
        GridSampler({"x": "ab"})
    with pytest.raises(StudyError, match=r"search_space\['x'\] is empty"):
        GridSampler({"x": []})


def test_what_is_kept_of_a_study_goes_with_it() -> None:
    sampler = BruteForceSampler(seed=0)
    study = create_study(sampler=sampler)
    study.optimize(_objective, n_trials=4)
    view = weakref.ref(study.view)
    del study
    gc.collect()
    assert view() is None


def test_samplers_show_themselves() -> None:
    for sampler in (BruteForceSampler(seed=1), GridSampler({"x": [1, 2]}, seed=3)):
        assert repr(eval(repr(sampler))) == repr(sampler)


def test_threads_share_the_work() -> None:
    study = create_study(sampler=BruteForceSampler(seed=0), space=Space.of(k=Int(1, 40)))

    def work() -> None:
        for _ in range(10):
            study.tell(study.ask(), 0.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(trial.params["k"] for trial in study.trials) == list(range(1, 41))


@given(domains(finite=True))
@settings(max_examples=30, deadline=None)
def test_every_value_of_a_domain(domain: Any) -> None:
    study = create_study(sampler=BruteForceSampler(seed=0), space=Space.of(v=domain))
    study.optimize(lambda trial: 0.0)
    assert len(study.trials) == domain.size()


def test_a_variable_that_is_never_active_is_passed_over() -> None:
    fixed = Entry("kind", Choice("a", "b"), "a", tunable=False)
    space = Space([fixed, Entry("k", Choice(1, 2), 1, conditions=[Condition("kind", "b")])])
    assert create_study(sampler=BruteForceSampler(), space=space).ask().params == {}


@pytest.mark.parametrize(("options", "count"), [({"n_trials": 2}, 2), ({"n_trials": 5}, 5), ({}, 1)])
def test_workers_that_wait_for_new_ways_begin_those_trials_that_are_wanted(options: Any, count: int) -> None:
    """All that are allowed, although no further one is; and none after a `stop`."""
    someone_waits = threading.Event()

    class Watched(BruteForceSampler):
        def exhausted(self, view: Any, **known: Any) -> bool:
            found = super().exhausted(view, **known)
            if found:
                someone_waits.set()
            return found

    def objective(trial: Trial) -> float:
        trial.suggest_int("a", 0, 0)
        if trial.number == 0:
            someone_waits.wait()
            if not options:
                study.stop()
        return trial.suggest_int("b", 0, 7)

    study = create_study(sampler=Watched(seed=0))
    study.optimize(objective, n_jobs=4, **options)
    assert len(study.trials) == count


@pytest.fixture
def elsewhere() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Another process, and the name that its trials bear."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process, f"{socket.gethostname()}/{process.pid}/{processes._started(process.pid)}/1"
        process.kill()


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("fate", ["told", "killed", "left"])
def test_a_search_may_wait_for_what_another_process_is_running(
    fate: str, wrapped: bool, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trial comes to a variable that nobody knew, or its process dies; by default that is left to it."""
    monkeypatch.setattr(loop, "_LOOK_AGAIN", 0.01)
    process, owner = elsewhere
    domain = Choice("a", "b")
    running = FrozenTrial(
        number=-1, state=TrialState.RUNNING, params={"kind": "b"}, distributions={"kind": domain}, owner=owner
    )

    class Watched(BruteForceSampler):
        def exhausted(self, view: Any, **known: Any) -> bool:
            found = super().exhausted(view, **known)
            if found and fate == "told" and len(study.get_trials(states=[TrialState.COMPLETE])) == 1:
                told = attrs.evolve(
                    theirs,
                    state=TrialState.COMPLETE,
                    values=(0.0,),
                    params={"kind": "b", "k": 1},
                    distributions={"kind": domain, "k": Int(1, 3)},
                )
                study.storage.update_trial(study._mirror.record.id, told, expected=TrialState.RUNNING)
            elif found and fate == "killed":
                process.kill()
                process.wait()
            return found

    def objective(trial: Trial) -> float:
        return 0.0 if trial.suggest("kind", domain) == "a" else float(trial.suggest_int("k", 1, 3))

    sampler: Sampler = Watched(seed=0, avoid_premature_stop=fate != "left")
    sampler = PartialFixedSampler({}, sampler) if wrapped else sampler
    study = create_study(sampler=sampler, storage=f"sqlite:///{tmp_path}/study.db")
    (theirs,) = study.storage.append_trials(study._mirror.record.id, [running])
    study.optimize(objective)
    tried = sorted(str(trial.params) for trial in study.get_trials(states=[TrialState.COMPLETE]))
    ways = ["{'kind': 'a'}", *(f"{{'kind': 'b', 'k': {k}}}" for k in (1, 2, 3))]
    assert tried == sorted(ways[:1] if fate == "left" else ways)
