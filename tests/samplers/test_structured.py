"""The structured surrogate."""

from __future__ import annotations

from dspex.samplers import Sampler, StructuredSampler
from dspex.testing.samplers import SamplerSuite


class TestStructuredSampler(SamplerSuite):
    def make(self, seed: int) -> Sampler:
        return StructuredSampler(seed=seed)


class TestStructuredSamplerFromTheStart(SamplerSuite):
    """Without a random start, so that it has to do with next to nothing."""

    def make(self, seed: int) -> Sampler:
        return StructuredSampler(seed=seed, n_startup_trials=1)
