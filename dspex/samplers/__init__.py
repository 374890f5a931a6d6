"""Samplers: what chooses the values of the next trial."""

from dspex.samplers.base import Sampler
from dspex.samplers.beliefs import Beliefs
from dspex.samplers.branches import BranchSampler
from dspex.samplers.random import RandomSampler
from dspex.samplers.structured import StructuredSampler
from dspex.samplers.tpe import TPESampler

__all__ = ["Beliefs", "BranchSampler", "RandomSampler", "Sampler", "StructuredSampler", "TPESampler"]
