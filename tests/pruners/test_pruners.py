"""Pruners, each against what its rule says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dspex.errors import StudyError
from dspex.pruners import (
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    PercentilePruner,
    Pruner,
    RacingPruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
    WilcoxonPruner,
)
from dspex.pruners.percentile import _percentile
from dspex.pruners.wilcoxon import signed_rank_p
from dspex.study import Study, create_study
from dspex.testing.pruners import PrunerSuite
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
    for pruner in (NopPruner(), MedianPruner(n_startup_trials=0), SuccessiveHalvingPruner(1)):
        study = create_study(pruner=pruner)
        _run(study, [1.0])
        assert not study.ask().should_prune()


class TestMedianSuite(PrunerSuite):
    startup = 5

    def make(self) -> Pruner:
        return MedianPruner()


class TestPercentileSuite(PrunerSuite):
    startup = 3

    def make(self) -> Pruner:
        return PercentilePruner(25.0, 3, n_warmup_steps=2, interval_steps=2)


class TestNopSuite(PrunerSuite):
    prunes = False

    def make(self) -> Pruner:
        return NopPruner()


class TestSuccessiveHalvingSuite(PrunerSuite):
    def make(self) -> Pruner:
        return SuccessiveHalvingPruner(1, 2)


class TestSuccessiveHalvingAutoSuite(PrunerSuite):
    startup = 1

    def make(self) -> Pruner:
        return SuccessiveHalvingPruner()


class TestHyperbandSuite(PrunerSuite):
    def make(self) -> Pruner:
        return HyperbandPruner(1, 9)


class TestHyperbandAutoSuite(PrunerSuite):
    startup = 1

    def make(self) -> Pruner:
        return HyperbandPruner()


class TestThresholdSuite(PrunerSuite):
    mirrored = False

    def make(self) -> Pruner:
        return ThresholdPruner(upper=1.0, n_warmup_steps=3)


class TestPatientSuite(PrunerSuite):
    startup = 2

    def make(self) -> Pruner:
        return PatientPruner(PercentilePruner(30.0, 2), patience=0)

    def test_it_ends_some_and_not_all(self) -> None:
        study = create_study(pruner=self.make())
        for values in ([3.0, 2.0, 1.0], [4.0, 3.0, 2.0]):
            _run(study, values)
        assert _run(study, [5.0, 4.0, 3.0]) == [False, False, False]  # worse than the others, but it improves
        assert _run(study, [5.0, 4.0, 4.5]) == [False, False, True]
        assert _run(study, [0.3, 0.2, 0.1]) == [False, False, False]


class TestWilcoxonSuite(PrunerSuite):
    startup = 1

    def make(self) -> Pruner:
        return WilcoxonPruner()


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
        study = create_study(pruner=SuccessiveHalvingPruner(1, reduction_factor=3))
        assert _run(study, [0.0, 5.0, 5.0, 5.0]) == [False] * 4

    def test_only_the_best_share_goes_on(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(1, reduction_factor=2), direction="maximize")
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
        study = create_study(pruner=SuccessiveHalvingPruner(1, reduction_factor=2))
        for _ in range(4):
            _run(study, [0.0] * 3)
        trial = study.ask()
        trial.report(1.0, 3)
        assert trial.should_prune()

    def test_nan_does_not_go_on(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(1, reduction_factor=2), direction="maximize")
        _run(study, [0.0, 0.0])
        _run(study, [0.0, 0.0])
        assert _run(study, [0.0, math.nan])[1]

    def test_a_trial_that_was_put_back_is_forgotten(self) -> None:
        study = create_study(pruner=SuccessiveHalvingPruner(1, reduction_factor=2))
        best = study.ask()
        best.report(0.0, 1)
        other = study.ask()
        other.report(1.0, 1)
        assert other.should_prune()
        study.requeue(best)
        assert not other.should_prune()


@pytest.mark.parametrize(
    "pruner",
    [
        HyperbandPruner(2, 30, 4),
        MedianPruner(n_warmup_steps=3),
        NopPruner(),
        PatientPruner(MedianPruner(), patience=2, min_delta=0.1),
        PercentilePruner(20.0, n_min_trials=2),
        RacingPruner(alpha=0.1, bounds=[(0, 1), (0, 5)], margin=0.02, scores=("score", "words")),
        SuccessiveHalvingPruner(),
        ThresholdPruner(upper=2),
        WilcoxonPruner(p_threshold=0.05),
    ],
    ids=lambda pruner: type(pruner).__name__,
)
def test_what_a_pruner_shows_makes_it_again(pruner: Pruner) -> None:
    assert repr(eval(repr(pruner))) == repr(pruner)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MedianPruner(n_startup_trials=-1), r"n_startup_trials must be a whole number >= 0, got -1 \(int\)"),
        (lambda: MedianPruner(interval_steps=0), r"interval_steps must be a whole number >= 1, got 0 \(int\)"),
        (lambda: SuccessiveHalvingPruner(reduction_factor=1), r"reduction_factor must be a whole number >= 2, got 1"),
        (lambda: SuccessiveHalvingPruner(min_resource=True), r"min_resource must be a whole number >= 1, got True"),
        (lambda: SuccessiveHalvingPruner("much"), r"min_resource must be a whole number >= 1 or 'auto', got 'much'"),
        (lambda: SuccessiveHalvingPruner(bootstrap_count=2), r"bootstrap_count=2 needs a known min_resource"),
        (lambda: HyperbandPruner(bootstrap_count=2), r"bootstrap_count=2 needs a known max_resource"),
        (lambda: HyperbandPruner(9, 3), r"max_resource must not be below min_resource, got max_resource=3"),
        (lambda: PercentilePruner(101), r"percentile must be a number from 0 to 100, got 101 \(int\)"),
        (lambda: PatientPruner("median", 3), r"wrapped_pruner must be a Pruner or None, got 'median' \(str\)"),
        (lambda: PatientPruner(None, 1, -0.5), r"min_delta must be a number >= 0, got -0.5 \(float\)"),
        (lambda: ThresholdPruner(), r"needs a bound; write ThresholdPruner\(upper=1.0\)"),
        (lambda: ThresholdPruner(2, 1), r"lower must not be above upper, got lower=2 and upper=1"),
        (lambda: ThresholdPruner(lower="1"), r"lower must be a number, got '1' \(str\)"),
        (lambda: WilcoxonPruner(p_threshold=1.5), r"p_threshold must be a number from 0 to 1, got 1.5"),
    ],
)
def test_arguments_that_make_no_sense(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(StudyError, match=message):
        make()


class TestPatient:
    def test_by_itself_it_waits_and_ends(self) -> None:
        study = create_study(pruner=PatientPruner(None, patience=2, min_delta=0.5), direction="maximize")
        assert _run(study, [1.0, 0.4, 0.4, 0.4]) == [False, False, False, True]
        assert _run(study, [1.0, 0.4, 0.4, 0.5]) == [False] * 4

    def test_nan_is_no_improvement(self) -> None:
        study = create_study(pruner=PatientPruner(None, patience=1))
        assert _run(study, [1.0, math.nan, math.nan, 1.0])[:3] == [False, False, True]


class TestHyperband:
    def test_the_brackets_are_those_of_the_paper(self) -> None:
        pruner = HyperbandPruner(1, 81, 3)
        counts = [0] * 5
        for number in range(20_000):
            counts[pruner._bracket_of(number, 5)] += 1
        # Table 1 of the paper has 81, 34, 15, 8, 5 trials in the brackets of R = 81.
        for count, trials in zip(counts, (81, 34, 15, 8, 5), strict=True):
            assert abs(count / 20_000 - trials / 143) < 0.01

    def test_brackets_do_not_compete(self) -> None:
        pruner = HyperbandPruner(1, 3, 3)
        study = create_study(pruner=pruner)
        first = [trial for trial in (study.ask() for _ in range(40)) if pruner._bracket_of(trial.number, 2) == 0]
        for trial in first:
            trial.report(float(trial.number), 1)
        said = [trial.should_prune() for trial in first]
        assert said.count(False) == len(first) // 3
        last = next(trial for trial in (study.ask() for _ in range(40)) if pruner._bracket_of(trial.number, 2) == 1)
        last.report(1e9, 1)
        assert not last.should_prune()
        last.report(1e9, 3)
        assert not last.should_prune()  # nobody else is there

    def test_no_bracket_is_lost_to_rounding(self) -> None:
        study = create_study(pruner=HyperbandPruner(1, 243, 3))
        assert len(HyperbandPruner(1, 243, 3)._brackets(study.view)) == 6  # math.log(243, 3) is below 5


class TestWilcoxon:
    @pytest.mark.parametrize(
        ("differences", "p"),
        [
            ([1.0, 2.0], 0.25),
            ([1.0, -2.0, 3.0], 3 / 8),
            ([0.0, 0.0, 1.0, 2.0], 0.25),
            ([1.0, 1.0, 1.0, -1.0], 5 / 16),
            ([-1.0, -2.0, -3.0], 1.0),
            ([0.0] * 60, 1.0),
        ],
    )
    def test_the_probability_is_counted(self, differences: list[float], p: float) -> None:
        assert signed_rank_p(np.array(differences)) == pytest.approx(p)

    def test_many_pairs_are_approximated(self) -> None:
        rng = np.random.default_rng(0)
        for shift in (-0.1, 0.0, 0.15, 0.3):
            counted = rng.normal(shift, 1.0, 50)
            approximated = np.concatenate([counted, [1e-9]])  # one pair more that hardly counts
            assert signed_rank_p(counted) == pytest.approx(signed_rank_p(approximated), abs=0.01)

    def test_a_better_mean_is_not_ended(self) -> None:
        study = create_study(pruner=WilcoxonPruner(p_threshold=0.3))
        _run(study, [0.0, 0.0, 0.0, 10.0])
        assert _run(study, [0.1, 0.1, 0.1, 0.1])[-1] is False

    def test_an_infeasible_trial_is_no_opponent(self) -> None:
        study = create_study(pruner=WilcoxonPruner())
        trial = study.ask()
        for step in range(5):
            trial.report(0.0, step)
        trial.set_constraint("cost", 1.0)
        study.tell(trial, 0.0)
        assert not any(_run(study, [1.0] * 5))


@given(
    values=st.lists(st.integers(0, 10).map(lambda tenths: tenths / 10), min_size=1, max_size=9),
    percentile=st.sampled_from([10.0, 25.0, 100 / 3, 50.0, 75.0]),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_a_percentile_is_numpys_to_the_last_bit(values: list[float], percentile: float, sign: float) -> None:
    losses = sorted(sign * value for value in values)
    wanted = np.percentile(values, percentile if sign > 0 else 100 - percentile)
    assert sign * _percentile(losses, percentile, sign) == wanted
