"""Racing: what it ends is worse, what it does not compare, and how often it is wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.pruners import Pruner, RacingPruner
from dspex.study import Study, Trial, create_study
from dspex.testing.pruners import PrunerSuite
from dspex.trials import TrialState


class TestRacingSuite(PrunerSuite):
    startup = 1

    def make(self) -> Pruner:
        return RacingPruner(alpha=0.2, bounds=(-10.0, 10.0))

    def test_it_ends_some_and_not_all(self) -> None:
        study = create_study(pruner=RacingPruner(alpha=0.2), direction="maximize")
        said = [_reports(study, [rate] * 10) for rate in (0.5, 0.6, 0.4, 0.55, 0.0, 0.7)]
        assert [any(answers) for answers in said] == [False, False, True, True, True, False]


def _reports(study: Study, scores: Sequence[float], *, first: int = 0) -> list[bool]:
    trial = study.ask()
    said = []
    for step, score in enumerate(scores, start=first):
        trial.report(score, step)
        said.append(trial.should_prune())
        if said[-1]:
            study.tell(trial, state=TrialState.PRUNED)
            return said
    study.tell(trial, sum(scores) / len(scores))
    return said


def _row(example: int, score: float | None, *, rollout: int = 0, name: str = "score") -> Evaluation:
    scores = {} if score is None else {name: score}
    status = "failed" if score is None else "ok"
    return Evaluation(example_id=f"e{example}", status=status, scores=scores, rollout=rollout)  # type: ignore[arg-type]


def _rows(study: Study, scores: Sequence[float | None]) -> tuple[Trial, list[bool]]:
    trial, said = study.ask(), []
    trial.suggest_float("x", 0, 1)
    for example, score in enumerate(scores):
        trial.record(_row(example, score))
        said.append(trial.should_prune())
    return trial, said


def _raced(**options: object) -> Study:
    return create_study(pruner=RacingPruner(**options), direction="maximize")  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_a_trial_that_is_as_good_is_ended_no_oftener_than_stated(alpha: float) -> None:
    study = _raced(alpha=alpha)
    count, runs, wrong = 24, 150, 0
    best = [float(example % 2) for example in range(count)]
    _reports(study, best)
    for seed in range(runs):
        rng = random.Random(seed)
        scores = rng.sample(best, count)  # the same mean, right on other examples
        trial = study.ask()
        for example in rng.sample(range(count), count):
            trial.report(scores[example], example)
            if trial.should_prune():
                wrong += 1
                break
        study.tell(trial, state=TrialState.PRUNED)
    assert 0 < wrong <= runs * alpha + 4 * math.sqrt(runs * alpha)


def test_rows_of_the_ledger_are_read_without_any_report() -> None:
    study = _raced()
    trial, said = _rows(study, [0.9] * 40)
    assert not any(said)
    study.tell(trial, 0.9)
    _, said = _rows(study, [0.2] * 40)
    assert said.index(True) == 1, "0.7 is lost twice, and no more than 0.1 can be won"
    _, said = _rows(study, [0.9] * 39 + [0.8])
    assert said.index(True) == 39, "nothing is left by which it could make up for it"
    assert not any(_rows(study, [0.9] * 40)[1])


def test_what_failed_is_not_zero() -> None:
    study = _raced()
    trial, _ = _rows(study, [0.9] * 40)
    study.tell(trial, 0.9)
    assert not any(_rows(study, [None] * 40)[1])
    _, without = _rows(study, [0.2] * 40)
    _, said = _rows(study, [None, None, *[0.2] * 38])
    assert said.index(True) >= without.index(True) + 2

    for margin in (0.0, 0.2):
        study = _raced(margin=margin)
        assert not any(_reports(study, [1.0] * 20))
        assert not any(_reports(study, [math.nan] * 20))

    study = _raced(margin=0.2)
    _reports(study, [0.7] * 30)
    assert not any(_reports(study, [math.nan, math.nan, 0.95] * 10)), "it is better by the margin wherever it ran"


def test_rollouts_of_an_example_are_averaged() -> None:
    study = _raced()
    trial, _ = _rows(study, [0.5] * 20)
    study.tell(trial, 0.5)
    trial = study.ask()
    for example in range(20):
        trial.record(_row(example, 0.0))
        trial.record(_row(example, 1.0, rollout=1))
        assert not trial.should_prune()


def test_examples_that_only_one_side_has_are_not_compared() -> None:
    study = _raced()
    _reports(study, [1.0] * 20)
    assert not any(_reports(study, [0.0] * 20, first=100))
    assert any(_reports(study, [0.0] * 20, first=10))


def test_the_opponent_is_the_best_there_was_when_the_trial_began() -> None:
    study = _raced()
    early = study.ask()
    _reports(study, [1.0] * 20)
    for step in range(20):
        early.report(0.0, step)
        assert not early.should_prune(), "nobody had completed when it began"
    trial = study.ask()
    trial.set_constraint("cost", 1.0)
    study.tell(trial, 2.0)
    assert study.best_value == 1.0
    assert any(_reports(study, [0.0] * 20)), "an infeasible trial is no opponent"


def test_a_margin_ends_those_that_are_no_better() -> None:
    for margin, ends in ((0.0, False), (0.2, True)):
        study = _raced(margin=margin)
        _reports(study, [0.7] * 30)
        assert any(_reports(study, [0.7] * 30)) == ends
    study = _raced(margin=0.2)
    _reports(study, [0.7] * 30)
    assert not any(_reports(study, [0.95] * 30))


def test_minimizing_within_other_bounds() -> None:
    study = create_study(pruner=RacingPruner(bounds=(0.0, 50.0)))
    _reports(study, [5.0] * 20)
    assert any(_reports(study, [45.0] * 20))
    assert not any(_reports(study, [0.0] * 20))


def test_a_trial_has_to_be_worse_in_every_objective() -> None:
    study = create_study(
        pruner=RacingPruner(scores=["score", "words"], bounds=[(0.0, 1.0), (0.0, 100.0)]),
        directions=["maximize", "minimize"],
    )

    def run(score: float, words: float) -> bool:
        trial = study.ask()
        for example in range(20):
            row = Evaluation(example_id=f"e{example}", status="ok", scores={"score": score, "words": words})
            trial.record(row)
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                return True
        study.tell(trial, [score, words])
        return False

    assert not run(0.9, 10.0)
    assert run(0.1, 90.0)
    assert not run(0.1, 5.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RacingPruner(alpha=0), r"alpha must lie between 0 and 1, got 0; write RacingPruner\(alpha=0.05\)"),
        (lambda: RacingPruner(alpha=2.0), r"alpha must be a number from 0 to 1, got 2.0"),
        (lambda: RacingPruner(margin=-0.1), r"margin must be a number from 0 to 1, got -0.1"),
        (lambda: RacingPruner(bounds=(0.0, math.inf)), r"two finite numbers.*without bounds has no rate.*min\(score"),
        (lambda: RacingPruner(bounds=(1.0, 0.0)), r"the lower one first, got \(1.0, 0.0\)"),
        (lambda: RacingPruner(bounds=1.0), r"bounds must be the lowest and the highest score, got 1.0 \(float\)"),
        (lambda: RacingPruner(bounds=("a", "b")), r"bounds must be the lowest and the highest score, got 'a' \(str\)"),
        (lambda: RacingPruner(scores=3), r"scores must be a name.*got 3"),
    ],
)
def test_arguments_that_make_no_sense(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(StudyError, match=message):
        make()


def test_a_score_outside_the_bounds_says_what_to_write() -> None:
    study = _raced()
    _reports(study, [1.0] * 3)
    trial = study.ask()
    trial.report(3.5, 0)
    with pytest.raises(StudyError, match=r"trial 1 has the score 3\.5 on example 0.*RacingPruner\(bounds=\(lowest"):
        trial.should_prune()


def test_more_objectives_than_it_was_told_of() -> None:
    pruner = RacingPruner(scores=["a", "b"])
    study = create_study(pruner=pruner, directions=["maximize"] * 3)
    for value in (1.0, 0.0):
        trial = study.ask()
        for step in range(20):
            trial.report([value] * 3, step)
        if value == 0.0:
            with pytest.raises(StudyError, match="more objectives than the 2"):
                trial.should_prune()
        study.tell(trial, [value] * 3)
