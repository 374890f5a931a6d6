"""Pruners: what ends trials that are not worth finishing."""

from dspex.pruners.base import Pruner
from dspex.pruners.median import MedianPruner
from dspex.pruners.nop import NopPruner
from dspex.pruners.successive_halving import SuccessiveHalvingPruner

__all__ = ["MedianPruner", "NopPruner", "Pruner", "SuccessiveHalvingPruner"]
