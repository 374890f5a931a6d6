"""What a model thinks of the configurations that were measured."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np

from dspex.samplers.factors import Array

__all__ = ["Beliefs"]


@attrs.frozen(eq=False)
class Beliefs:
    """What the model thinks of the configurations that were measured, best first.

    Each is named by the first trial that had it. ``mean``, ``deviation`` and ``covariance`` are of the first objective,
    more is better, on the scale of the model: log odds for scores in [0, 1]. ``counts`` says how often each was
    measured, ``examples`` maps ids of examples to how much easier than others they are, on the same scale.
    """

    trials: tuple[int, ...]
    mean: Array
    covariance: Array
    counts: Array
    examples: Mapping[str, float]
    advantage: float
    """By how many nats configurations that are left out are predicted better than without any variable."""

    @property
    def deviation(self) -> Array:
        """Standard deviations."""
        found: Array = np.sqrt(np.diag(self.covariance))
        return found

    def draw(self, rng: np.random.Generator) -> Array:
        """One draw for all configurations."""
        values, vectors = np.linalg.eigh(self.covariance)
        found: Array = self.mean + vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.standard_normal(len(values)))
        return found
