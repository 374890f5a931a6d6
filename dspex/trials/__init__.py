"""Trials: their states, their snapshots, the ledger of evaluations, and the view that samplers get."""

from dspex.trials.fixed import FixedTrial
from dspex.trials.frozen import FrozenTrial, create_trial
from dspex.trials.ledger import Ledger, ScoreMatrix
from dspex.trials.log import TrialLog
from dspex.trials.records import AttrRecord, PoolRecord, StudyRecord
from dspex.trials.state import StudyDirection, TrialState
from dspex.trials.view import PerView, StudyView, objective_views

__all__ = [
    "AttrRecord",
    "FixedTrial",
    "FrozenTrial",
    "Ledger",
    "PerView",
    "PoolRecord",
    "ScoreMatrix",
    "StudyDirection",
    "StudyRecord",
    "StudyView",
    "TrialLog",
    "TrialState",
    "create_trial",
    "objective_views",
]
