"""Independent uniform draws: the baseline of every comparison, and how other samplers begin."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from dspex.samplers.base import candidates_of, seed_or_random
from dspex.samplers.branches import BranchSampler
from dspex.trials import StudyView
from dspex.variables import Domain

__all__ = ["RandomSampler"]


class RandomSampler(BranchSampler):
    """Draws every variable uniformly from its domain (log-uniformly where the domain says so).

    ``seed`` makes the draws repeatable. Each variable has random numbers of its own, so that adding one to a
    space does not change what the others get. Of a declared space, a draw that a running trial has is replaced by
    one of the configurations that are left.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=RandomSampler(seed=1))
    >>> trial = study.ask()
    >>> 0.0 <= trial.suggest_float("x", 0.0, 1.0) <= 1.0
    True
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self.seed = seed_or_random(seed)

    def propose(
        self,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        *,
        given: Mapping[str, Any],
        attempt: int,
    ) -> dict[str, Any]:
        return {
            path: given[path] if path in given else self._draw(view, number, path, domain, attempt)
            for path, domain in branch.items()
        }

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {path: self._draw(view, number, path, domain, 0)}

    def _draw(self, view: StudyView, number: int, path: str, domain: Domain[Any], attempt: int) -> Any:
        rng = random.Random(f"{self.seed}/{number}/{attempt}/{path}")
        return rng.choice(candidates_of(view, path)) if domain.open_ended else domain.sample(rng)

    def __repr__(self) -> str:
        return f"RandomSampler(seed={self.seed})"
