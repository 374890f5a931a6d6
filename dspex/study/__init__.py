"""The study: ask, run, tell; over plain functions and declared spaces, resumable and shared by processes."""

from dspex.study.factory import create_study, delete_study, get_all_study_names, load_study
from dspex.study.pools import StudyPool
from dspex.study.study import Study
from dspex.study.trial import Trial

__all__ = [
    "Study",
    "StudyPool",
    "Trial",
    "create_study",
    "delete_study",
    "get_all_study_names",
    "load_study",
]
