"""Ctrl-C anywhere in a search, in a process that goes on: run again, it ends as if nothing had been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.optimizers.configurations import Configurations
from dspex.trials import TrialState
from tests.interrupts import interrupted
from tests.optimizers.tasks import Travels, metric, trainset, travel_model

ROOMS = ("optimizers", "evaluate", "study", "storage", "trials", "execution", "modules", "samplers")


class Search:
    """A search in a file, and how many calls it has paid for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.url = f"sqlite:///{folder / 'study.db'}"
        self.paid = 0

    def run(self) -> Any:
        def charged(messages: Any, **params: Any) -> Any:
            self.paid += 1
            return travel_model(messages, **params)

        search = dspex.JointSearch(trials=5, width=4, concurrency=1)
        return search.optimize(Travels(), trainset(), metric, lm=dspex.MockLM(charged), storage=self.url)

    def outcome(self) -> Any:
        result = self.run()
        trials = [(trial.state, trial.fingerprint, trial.values) for trial in result.study.trials]
        return result.state.fingerprint, result.verdict(), trials, len(result.study.ledger)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_search_that_is_interrupted_and_run_again_ends_where_it_would_have(tmp_path: Path) -> None:
    calm = Search(tmp_path / "calm")
    expected = calm.outcome()
    line, interrupts = 300, 0
    while True:
        search = Search(tmp_path / str(line))
        if not interrupted(line, search.run, ROOMS):
            break
        assert search.outcome() == expected
        assert search.paid - calm.paid in (0, 1), "the call that was interrupted"
        interrupts += 1
        line += line // 8 + 2000
    assert interrupts > 10


def test_a_duplicate_that_was_not_told_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Search(tmp_path / "calm").outcome()
    assert any(trial[0] is TrialState.FAIL for trial in expected[2]), "this search comes to no duplicate"
    search = Search(tmp_path / "search")

    def interrupt(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Configurations, "_tell_duplicate", interrupt)
        study = search.run().study
    assert not study.get_trials(states=[TrialState.RUNNING])
    assert search.outcome() == expected
