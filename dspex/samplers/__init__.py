"""Samplers: what chooses the values of the next trial."""

from dspex.samplers.auto import AutoSampler
from dspex.samplers.base import Sampler
from dspex.samplers.beliefs import Beliefs
from dspex.samplers.branches import BranchSampler
from dspex.samplers.brute_force import BruteForceSampler
from dspex.samplers.cmaes import CmaEsSampler
from dspex.samplers.gp import GPSampler
from dspex.samplers.grid import GridSampler
from dspex.samplers.nsgaii import NSGAIISampler
from dspex.samplers.nsgaiii import NSGAIIISampler
from dspex.samplers.optuna_sampler import OptunaSampler
from dspex.samplers.partial_fixed import PartialFixedSampler
from dspex.samplers.qmc import QMCSampler
from dspex.samplers.random import RandomSampler
from dspex.samplers.structured import StructuredSampler
from dspex.samplers.tpe import TPESampler
from dspex.samplers.variation import (
    BaseCrossover,
    BaseMutation,
    BLXAlphaCrossover,
    PolynomialMutation,
    SBXCrossover,
    SPXCrossover,
    UNDXCrossover,
    UniformCrossover,
    UniformMutation,
    VSBXCrossover,
)

__all__ = [
    "AutoSampler",
    "BLXAlphaCrossover",
    "BaseCrossover",
    "BaseMutation",
    "Beliefs",
    "BranchSampler",
    "BruteForceSampler",
    "CmaEsSampler",
    "GPSampler",
    "GridSampler",
    "NSGAIIISampler",
    "NSGAIISampler",
    "OptunaSampler",
    "PartialFixedSampler",
    "PolynomialMutation",
    "QMCSampler",
    "RandomSampler",
    "SBXCrossover",
    "SPXCrossover",
    "Sampler",
    "StructuredSampler",
    "TPESampler",
    "UNDXCrossover",
    "UniformCrossover",
    "UniformMutation",
    "VSBXCrossover",
]
