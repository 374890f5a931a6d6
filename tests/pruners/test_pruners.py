"""Pruners, each against what its rule says."""

from __future__ import annotations

import math
import pickle
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from dspex.errors import StudyError
from dspex.pruners import MedianPruner, NopPruner, Pruner, SuccessiveHalvingPruner
from dspex.study import Study, create_study
from dspex.trials import TrialState


def _run(study: Study, values: Sequence[float], *, state: TrialState | None = None) -> list[bool]:
    """Reports values at steps 0, 1, ... and finishes the trial; what the pruner said after each."""
    trial = study.ask()
    said = []
    for step, value in enumerate(values):
        trial.report(value, step)
        said.append(trial.should_prune())
    study.tell(trial, values[-1] if state is None else None, state=state)
    return said


def test_nothing_is_pruned_before_it_has_reported() -> None:
    for pruner in (NopPruner(), MedianPruner(n_startup_trials=0), SuccessiveHalvingPruner()):
        study = create_study(pruner=pruner)
        _run(study, [1.0])
        assert not study.ask().should_prune()


class TestMedian:
    def test_it_waits_for_enough_completed_trials(self) -> None:
        study = create_study(pruner=MedianPruner(n_startup_trials=2))
        assert _run(study, [1.0]) == [False]
        _run(study, [1.0], state=TrialState.PRUNED)
        _run(study, [1.0], state=TrialState.FAIL)
        assert _run(study, [9.0]) == [False]
        assert _run(study, [9.0]) == [True]

    def test_it_compares_with_the_median_at_the_same_step(self) -> None:
        study = create_study(pruner=MedianPruner(n_startup_trials=1))
        for values in ([1.0, 10.0], [2.0, 20.0], [3.0, 30.0]):
            _run(study, values)
        assert _run(study, [2.0, 2.5]) == [False, False]
        assert _run(study, [2.6, 40.0]) == [True, False]  # its best so far counts, not its last
        assert _run(study, [1.5]) == [False]

    def test_maximizing_turns_it_round(self) -> None:
        study = create_study(pruner=MedianPruner(n_startup_trials=1), direction="maximize")
        _run(study, [5.0])
        assert _run(study, [4.0]) == [True]
        assert _run(study, [6.0]) == [False]

    def test_a_warm_up_and_an_interval(self) -> None:
        study = create_study(pruner=MedianPruner(n_startup_trials=1, n_warmup_steps=2, interval_steps=3))
        _run(study, [0.0] * 9)
        assert _run(study, [1.0] * 9) == [False, False, True, False, False, True, False, False, True]

    def test_a_step_that_few_have_reached_decides_nothing(self) -> None:
        study = create_study(pruner=MedianPruner(n_startup_trials=1, n_min_trials=2))
        _run(study, [0.0, 0.0])
        _run(study, [0.0])
        assert _run(study, [1.0, 1.0]) == [True, False]

    def test_nan_is_worse_than_anything(self) -> None:
        study = create_study(pruner=MedianPruner(n_startup_trials=1))
        _run(study, [1.0, math.nan, 1.0])
        assert _run(study, [math.nan, 0.5]) == [True, False]

    @given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=12), st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_it_is_the_rule(self, reported: list[list[int]], maximize: bool) -> None:
        study = create_study(pruner=MedianPruner(n_startup_trials=1), direction="maximize" if maximize else "minimize")
        better = max if maximize else min
        before: list[list[int]] = []
        for values in reported:
            said = _run(study, [float(value) for value in values])
            for step, pruned in enumerate(said):
                if not before:
                    assert not pruned
                    continue
                median = statistics.median(other[step] for other in before)
                best = better(values[: step + 1])
                assert pruned == (best < median if maximize else best > median)
            before.append(values)


class TestSuccessiveHalving:
    def test_the_first_of_a_rung_goes_on(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(reduction_factor=3))
        assert _run(study, [0.0, 5.0, 5.0, 5.0]) == [False] * 4

    def test_only_the_best_share_goes_on(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(reduction_factor=2), direction="maximize")
        trials = [study.ask() for _ in range(8)]
        for score, trial in enumerate(trials):
            trial.report(float(score), 1)
        assert [trial.should_prune() for trial in trials] == [True] * 4 + [False] * 4

    def test_the_rungs_are_where_it_says(self) -> None:
        study = create_study(
            pruner=SuccessiveHalvingPruner(min_resource=2, reduction_factor=3, min_early_stopping_rate=1)
        )
        for _ in range(3):
            _run(study, [0.0] * 20)
        worse = _run(study, [1.0] * 20)
        assert [step for step, pruned in enumerate(worse) if pruned] == [6, 18]

    def test_between_the_rungs_nothing_happens(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=4))
        late = study.ask()
        late.report(9.0, 1)
        assert not late.should_prune()  # nobody else was there
        for _ in range(8):
            _run(study, [0.0] * 5)
        late.report(9.0, 2)
        assert not late.should_prune()  # it has passed its rung
        late.report(9.0, 4)
        assert late.should_prune()

    def test_a_rung_that_was_jumped_over_counts(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(reduction_factor=2))
        for _ in range(4):
            _run(study, [0.0] * 3)
        trial = study.ask()
        trial.report(1.0, 3)
        assert trial.should_prune()

    def test_nan_does_not_go_on(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(reduction_factor=2), direction="maximize")
        _run(study, [0.0, 0.0])
        _run(study, [0.0, 0.0])
        assert _run(study, [0.0, math.nan])[1]

    def test_a_trial_that_was_put_back_is_forgotten(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(reduction_factor=2))
        best = study.ask()
        best.report(0.0, 1)
        other = study.ask()
        other.report(1.0, 1)
        assert other.should_prune()
        study.requeue(best)
        assert not other.should_prune()


@pytest.mark.parametrize("pruner", [NopPruner(), MedianPruner(n_warmup_steps=3), SuccessiveHalvingPruner()])
def test_a_pruner_pickles_and_shows_itself(pruner: Pruner) -> None:
    _run(create_study(pruner=pruner), [1.0])
    assert repr(pickle.loads(pickle.dumps(pruner))) == repr(pruner) == repr(eval(repr(pruner)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MedianPruner(n_startup_trials=-1), r"n_startup_trials must be a whole number >= 0, got -1 \(int\)"),
        (lambda: MedianPruner(interval_steps=0), r"interval_steps must be a whole number >= 1, got 0 \(int\)"),
        (lambda: SuccessiveHalvingPruner(reduction_factor=1), r"reduction_factor must be a whole number >= 2, got 1"),
        (lambda: SuccessiveHalvingPruner(min_resource=True), r"min_resource must be a whole number >= 1, got True"),
    ],
)
def test_arguments_that_make_no_sense(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(StudyError, match=message):
        make()
