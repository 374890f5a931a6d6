"""The study: ask, run, tell; over plain functions and declared spaces, resumable and shared by processes."""

from dspex.study.factory import (
    StudySummary,
    copy_study,
    create_study,
    delete_study,
    get_all_study_names,
    get_all_study_summaries,
    load_study,
)
from dspex.study.pools import StudyPool
from dspex.study.stopping import ExpectedGainCallback, MaxTrialsCallback, StagnationCallback, TargetCallback
from dspex.study.study import Study
from dspex.study.trial import Trial

__all__ = [
    "ExpectedGainCallback",
    "MaxTrialsCallback",
    "StagnationCallback",
    "Study",
    "StudyPool",
    "StudySummary",
    "TargetCallback",
    "Trial",
    "copy_study",
    "create_study",
    "delete_study",
    "get_all_study_names",
    "get_all_study_summaries",
    "load_study",
]
