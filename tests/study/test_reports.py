"""What a trial reports on its way, and what ends it for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspex.errors import StudyError, TrialPruned
from dspex.pruners import MedianPruner
from dspex.study import Trial, create_study, load_study
from dspex.trials import TrialState


def test_with_several_objectives_a_trial_ends_that_is_hopeless_in_all_of_them(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = create_study(
        study_name="two", storage=storage, directions=["minimize", "maximize"], pruner=MedianPruner(n_startup_trials=3)
    )
    for value in (1.0, 2.0, 3.0):
        trial = study.ask()
        trial.report([value, value], step=1)
        assert not trial.should_prune()
        study.tell(trial, [value, value])

    def pruned(*reported: float) -> bool:
        trial = study.ask()
        trial.report(reported, step=1)
        assert trial.frozen.intermediate_values == {1: reported}
        return trial.should_prune()

    assert pruned(9.0, 0.0)
    assert not pruned(9.0, 9.0)
    assert not pruned(0.0, 0.0)
    study.optimize(lambda trial: _pruned(trial, [9.0, 0.0]), n_trials=1)
    assert study.trials[-1].state is TrialState.PRUNED
    assert study.trials[-1].values is None
    assert load_study(study_name="two", storage=storage).trials == study.trials


def _pruned(trial: Trial, reported: list[float]) -> tuple[float, float]:
    trial.report(reported, step=1)
    if trial.should_prune():
        raise TrialPruned
    return 0.0, 0.0


def test_a_report_has_a_number_for_each_objective() -> None:
    trial = create_study(directions=["minimize", "minimize"]).ask()
    for value in (1.0, [1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(StudyError, match=r"has 2 objectives, so trial\.report takes 2 numbers, got"):
            trial.report(value, step=1)
    with pytest.raises(StudyError, match="reported value 0 must be a number, got 'a'"):
        trial.report("ab", step=1)  # type: ignore[arg-type]
