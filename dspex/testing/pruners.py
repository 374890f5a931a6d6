"""What every pruner has to do, as tests that one of one's own can be put through too.

They need pytest and hypothesis, which come with the ``test`` extra. In a test module::

    class TestMine(PrunerSuite):
        def make(self) -> Pruner:
            return MyPruner()
"""

from __future__ import annotations

import math
import pickle
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dspex.pruners import Pruner
from dspex.storage import InMemoryStorage, Storage
from dspex.study import Study, Trial, create_study
from dspex.trials import TrialState

__all__ = ["Curve", "PrunerSuite", "curves", "play"]

Curve = list[tuple[int, float]]
"""What one trial reports: steps and values, in the order in which they are reported."""


def curves(*, nan: bool = True, most: int = 12) -> st.SearchStrategy[list[Curve]]:
    """What the trials of a study report, at steps 1, 2, ... of each; with few different values, so that many are equal.

    >>> from hypothesis import find
    >>> found = find(curves(), lambda found: len(found) == 2 and len(found[1]) == 1)
    >>> [[step for step, _ in curve] for curve in found]
    [[], [1]]
    """
    value = st.integers(0, 6).map(float) | st.floats(-4, 4, width=16)
    if nan:
        value |= st.just(math.nan)
    return st.lists(st.lists(value, max_size=10).map(lambda values: list(enumerate(values, start=1))), max_size=most)


def play(study: Study, curve: Curve, *, asked: int = 1) -> list[bool]:
    """Runs one trial that reports ``curve`` until it is ended; what the pruner said, asked so many times each."""
    trial = study.ask()
    said: list[bool] = []
    for step, value in curve:
        trial.report(value, step)
        answers = {trial.should_prune() for _ in range(asked)}
        assert len(answers) == 1, "an answer changed though nothing happened"
        said.append(answers.pop())
        if said[-1]:
            study.tell(trial, state=TrialState.PRUNED)
            return said
    finite = [value for _, value in curve if not math.isnan(value)]
    study.tell(trial, finite[-1] if finite else 0.0)
    return said


def improving(count: int, *, seed: int = 0) -> list[Curve]:
    """Learning curves that fall towards a random end, each with a little noise."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        end = rng.random()
        found.append([(step, end + 1 / step + 0.02 * rng.random()) for step in range(1, 10)])
    return found


class PrunerSuite(ABC):
    """The tests; a subclass whose name starts with ``Test`` says how a pruner is made."""

    startup: int = 0
    """No trial is ended before so many have completed."""

    mirrored: bool = True
    """Whether turning values and direction round changes nothing."""

    prunes: bool = True
    """Whether it ends any trial at all."""

    @abstractmethod
    def make(self) -> Pruner:
        """A new pruner."""

    def study(self, *, direction: str = "minimize", storage: Storage | None = None) -> Study:
        return create_study(study_name="study", pruner=self.make(), direction=direction, storage=storage)

    def run(self, study: Study, reported: Sequence[Curve], *, asked: int = 1) -> list[list[bool]]:
        return [play(study, curve, asked=asked) for curve in reported]

    def test_it_ends_some_and_not_all(self) -> None:
        study = self.study()
        self.run(study, improving(60))
        ended = sum(trial.state is TrialState.PRUNED for trial in study.trials)
        assert 0 < ended < 60 if self.prunes else ended == 0

    def test_a_trial_that_has_reported_nothing_goes_on(self) -> None:
        study = self.study()
        self.run(study, improving(10))
        assert not study.pruner.prune(study.view, study.ask().frozen)

    def test_the_first_trials_are_not_ended(self) -> None:
        if not self.startup:
            pytest.skip("not promised by this pruner")
        study = self.study()
        completed = 0
        for index in range(self.startup + 3):
            said = play(study, [(step, float(index)) for step in range(1, 6)])
            if completed < self.startup:
                assert not any(said)
            completed += not any(said)

    @given(reported=curves())
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def test_only_what_was_reported_decides(self, reported: list[Curve]) -> None:
        assert self.run(self.study(), reported) == self.run(self.study(), reported, asked=3)

    @given(reported=curves())
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def test_maximizing_the_negative_is_the_same(self, reported: list[Curve]) -> None:
        if not self.mirrored:
            pytest.skip("this pruner does not look at the direction")
        negative = [[(step, -value) for step, value in curve] for curve in reported]
        assert self.run(self.study(), reported) == self.run(self.study(direction="maximize"), negative)

    @given(reported=curves(most=8), cut=st.integers(0, 8))
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    def test_a_study_that_was_taken_up_goes_on_as_if_nothing_had_happened(
        self, reported: list[Curve], cut: int
    ) -> None:
        whole, storage = self.run(self.study(), reported), InMemoryStorage()
        first = self.study(storage=storage)
        said = self.run(first, reported[:cut])
        again = Study(storage.get_study("study"), storage, sampler=first.sampler, pruner=self.make())
        assert said + self.run(again, reported[cut:]) == whole

    def test_one_pruner_serves_several_studies(self) -> None:
        pruner, shared = self.make(), []
        studies = [create_study(pruner=pruner), create_study(pruner=pruner, direction="maximize")]
        for curve in improving(30):
            shared.append(play(studies[0], curve))
            play(studies[1], curve)
        assert shared == self.run(self.study(), improving(30))

    def test_nan_and_infinities_are_answered(self) -> None:
        study = self.study()
        self.run(study, improving(8))
        for value in (math.nan, math.inf, -math.inf):
            trial = study.ask()
            trial.report(value, 1)
            trial.report(value, 5)
            assert trial.should_prune() in (True, False)
            study.tell(trial, state=TrialState.PRUNED)
        self.run(study, improving(8, seed=1))

    def test_a_trial_that_was_put_back_begins_anew(self) -> None:
        study = self.study()
        self.run(study, improving(10))
        trial = study.ask()
        trial.report(0.5, 5)
        trial.should_prune()
        study.requeue(trial)
        again = study.ask()
        assert again.number == trial.number
        assert not again.should_prune()
        assert self.make().prune(study.view, again.frozen) is False

    def test_threads_may_ask_at_once(self) -> None:
        study = self.study()

        def work(trials: list[Trial]) -> None:
            for trial in trials:
                for step, value in improving(1, seed=trial.number)[0]:
                    trial.report(value, step)
                    if trial.should_prune():
                        study.tell(trial, state=TrialState.PRUNED)
                        break
                else:
                    study.tell(trial, float(trial.number))

        threads = [threading.Thread(target=work, args=([study.ask() for _ in range(6)],)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(trial.state.is_finished for trial in study.trials)

    def test_it_pickles_and_shows_itself(self) -> None:
        study = self.study()
        self.run(study, improving(5))
        copy = pickle.loads(pickle.dumps(study.pruner))
        assert repr(copy) == repr(self.make())
        trial = study.ask()
        for step, value in improving(1, seed=7)[0]:
            trial.report(value, step)
            assert copy.prune(study.view, trial.frozen) == trial.should_prune()
