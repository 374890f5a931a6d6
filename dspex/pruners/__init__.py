"""Pruners: what ends trials that are not worth finishing."""

from dspex.pruners.base import Pruner
from dspex.pruners.hyperband import HyperbandPruner
from dspex.pruners.median import MedianPruner
from dspex.pruners.nop import NopPruner
from dspex.pruners.patient import PatientPruner
from dspex.pruners.percentile import PercentilePruner
from dspex.pruners.racing import RacingPruner
from dspex.pruners.successive_halving import SuccessiveHalvingPruner
from dspex.pruners.threshold import ThresholdPruner
from dspex.pruners.wilcoxon import WilcoxonPruner

__all__ = [
    "HyperbandPruner",
    "MedianPruner",
    "NopPruner",
    "PatientPruner",
    "PercentilePruner",
    "Pruner",
    "RacingPruner",
    "SuccessiveHalvingPruner",
    "ThresholdPruner",
    "WilcoxonPruner",
]
