"""Rankings and histories keep up with a brute-force version of themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings, strategies as st

from dspex.samplers.companions import Companions
from dspex.samplers.dimensions import dimension_of
from dspex.samplers.history import BranchHistory
from dspex.samplers.ranking import ranking_for
from dspex.study.best import pareto_front
from dspex.trials import FrozenTrial, StudyDirection, TrialState
from dspex.variables import Float

MINIMIZE, MAXIMIZE = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE


def _trial(number: int, *values: float, **more: Any) -> FrozenTrial:
    known: dict[str, Any] = {"state": TrialState.COMPLETE, "values": values}
    return FrozenTrial(number=number, **{**known, **more})


def test_completed_trials_come_before_pruned_and_infeasible_ones() -> None:
    trials = [
        _trial(0, 5.0),
        _trial(1, -9.0, constraints={"c": 2.0}),
        _trial(2, -9.0, constraints={"c": 1.0, "d": -5.0}),
        _trial(3, state=TrialState.PRUNED, values=None, intermediate_values={3: 1.0}),
        _trial(4, state=TrialState.PRUNED, values=None, intermediate_values={1: 0.0, 7: 9.0}),
        _trial(5, state=TrialState.PRUNED, values=None),
        _trial(6, state=TrialState.PRUNED, values=None, intermediate_values={3: math.nan}),
        _trial(7, 4.0),
        _trial(8, 5.0),
    ]
    ranking = ranking_for([MINIMIZE], most=25)
    for trial in reversed(trials):
        ranking.add(trial)
    assert ranking.best(9) == [7, 0, 8, 4, 3, 6, 5, 2, 1]
    assert ranking.best(2) == [7, 0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_several_objectives_front_by_front(values: list[tuple[int, int, int]]) -> None:
    directions = [MINIMIZE, MAXIMIZE, MINIMIZE]
    trials = [_trial(number, *map(float, value)) for number, value in enumerate(values)]
    ranking = ranking_for(directions, most=8)
    for trial in trials:
        ranking.add(trial)
    best = ranking.best(min(8, len(trials)))
    assert len(set(best)) == min(8, len(trials))
    left = list(trials)
    while best:
        front = {trial.number for trial in pareto_front(left, directions)}
        first, best = set(best[: len(front)]), best[len(front) :]
        assert first <= front
        left = [trial for trial in left if trial.number not in front]


@given(st.permutations(range(20)), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_the_order_of_arrival_does_not_matter(order: list[int], most: int) -> None:
    dimension = dimension_of(Float(0.0, 1.0), None)
    assert dimension is not None
    trials = [_trial(i, float(i * 7 % 20), params={"x": i / 20}) for i in range(20)]
    history = BranchHistory({"x": dimension}, [MAXIMIZE], most=25)
    for number in order:
        history.finish(trials[number])
    good, others = history.split(3, most, asking=99)
    best = sorted(trials, key=lambda trial: -(trial.value or 0))[:3]
    assert sorted(good[:, 0]) == sorted(trial.params["x"] for trial in best)
    assert list(good[:, 0]) == sorted(good[:, 0])  # by number
    assert len(others) == most
    assert list(others[:, 0]) == sorted(others[:, 0])


def test_a_history_grows_past_what_it_had_room_for_and_knows_who_runs() -> None:
    dimension = dimension_of(Float(0.0, 1.0), None)
    assert dimension is not None
    history = BranchHistory({"x": dimension}, [MINIMIZE], most=25)
    for i in range(200):
        history.finish(_trial(i, float(i), params={"x": i / 200}))
    history.finish(_trial(200, 0.0, params={"y": 1.0}))  # of another branch
    for i in (300, 301):
        history.start(i, {"x": 0.5})
    assert history.count == 200
    good, others = history.split(20, 100, asking=301)
    assert len(good) == 20
    assert len(others) == 101  # and the other running one
    history.drop(300)
    assert np.isfinite(history.split(20, 100, asking=301)[1]).all()


def test_variables_that_always_come_together_are_companions() -> None:
    companions = Companions()
    x, y, z = Float(0.0, 1.0), Float(0.0, 2.0), Float(0.0, 3.0)
    assert companions.of("x") == {}
    companions.add(_trial(0, 0.0, distributions={"x": x, "y": y, "z": z}))
    assert companions.of("y") == {"x": x, "y": y, "z": z}
    companions.add(_trial(1, 0.0, distributions={"x": x, "y": y}))
    assert companions.of("x") == {"x": x, "y": y}
    assert companions.of("z") == {"z": z}
    companions.add(_trial(2, 0.0, distributions={"z": z, "new": x, "also": y}))
    assert companions.of("new") == {"new": x, "also": y}
    companions.add(_trial(3, 0.0, distributions={"x": z}))
    assert companions.of("x") == {"x": z}
    assert companions.of("y") == {"y": y}
