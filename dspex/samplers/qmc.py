"""Quasi-random draws: as even as a grid and as open-ended as chance."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dspex.errors import StudyError
from dspex.samplers.base import candidates_of, seed_or_random
from dspex.samplers.branches import BranchSampler
from dspex.samplers.dimensions import NumberDimension
from dspex.samplers.random import RandomSampler
from dspex.samplers.sequences import SOBOL_DIMENSIONS, halton, sobol
from dspex.trials import PerView, StudyView, TrialState
from dspex.trials.checks import true_or_false
from dspex.variables import Domain, Float, Int

__all__ = ["QMCSampler"]


class _Coordinates:
    """Which coordinate of the sequence each variable of a study has."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._finished: set[int] = set()
        self._cursor = 0
        self._lock = threading.Lock()

    def of(self, view: StudyView, path: str, before: Iterable[str]) -> int:
        """The place of a variable: in the declared space, or in the order in which finished trials came to it.

        ``before`` are the variables that the trial came to earlier.
        """
        with self._lock:
            changed, self._cursor = view.changes(self._cursor)
            if not self._places and view.space is not None:
                self._add(view.space.tunable)
            for trial in changed:
                done = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
                if done and trial.number not in self._finished:
                    self._finished.add(trial.number)
                    self._add(trial.distributions)
            if path in self._places:
                return self._places[path]
            return len(self._places) + sum(other not in self._places for other in before)

    def _add(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._places.setdefault(path, len(self._places))


class QMCSampler(BranchSampler):
    """Draws from a low-discrepancy sequence: trial n has its n-th point, so any number of trials are spread evenly.

    Each variable has a coordinate of its own; those beyond the 128th of Sobol's sequence, and those whose values cannot
    be listed or laid on a line, are drawn independently. A pool that has grown is dealt out anew.

    Args:
        qmc_type: ``"sobol"`` or ``"halton"``.
        scramble: Randomize the sequence by ``seed``, which keeps it even and takes its points off the corners and
            diagonals. (Optuna's default is not to.)
        seed: Makes the scrambling, and what is drawn independently, repeatable. Processes that work on one study need
            the same one.

    Raises:
        StudyError: when an argument makes no sense.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=QMCSampler(seed=0))
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=8)
    >>> sorted(int(trial.params["x"] * 8) for trial in study.trials)  # one in each eighth
    [0, 1, 2, 3, 4, 5, 6, 7]
    """

    def __init__(self, *, qmc_type: str = "sobol", scramble: bool = True, seed: int | None = None) -> None:
        if qmc_type not in ("sobol", "halton"):
            raise StudyError(f"qmc_type must be 'sobol' or 'halton', got {qmc_type!r} ({type(qmc_type).__name__})")
        self.qmc_type, self.scramble = qmc_type, true_or_false("scramble", scramble)
        self.seed = seed_or_random(seed)
        self._random = RandomSampler(seed=self.seed)
        self._coordinates = PerView(_Coordinates)

    def propose(
        self,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        *,
        given: Mapping[str, Any],
        attempt: int,
    ) -> dict[str, Any]:
        values = dict(given)
        for path, domain in branch.items():
            if path not in values:
                values[path] = self._draw(view, number, path, domain, list(values), attempt)
        return {path: values[path] for path in branch}

    def _draw(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], before: list[str], attempt: int
    ) -> Any:
        place = self._coordinates.of(view).of(view, path, before)
        if self.qmc_type == "halton" or place < SOBOL_DIMENSIONS:
            point = halton if self.qmc_type == "halton" else sobol
            share = point(number, place, scramble=self.seed if self.scramble else None)
            if attempt:
                # The whole sequence turned by a random amount (Cranley and Patterson 1976), because constraints refused
                # this point of the one before.
                share = (share + random.Random(f"{self.seed}/{attempt}/{place}").random()) % 1.0
            if isinstance(domain, Float | Int):
                return NumberDimension(domain).decode(np.array([share]))
            options = candidates_of(view, path) if domain.open_ended else domain.candidates()
            if options:
                return options[int(share * len(options))]
        return self._random.propose(view, number, {path: domain}, given={}, attempt=attempt)[path]

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {path: self._draw(view, number, path, domain, list(params), 0)}

    def __repr__(self) -> str:
        return f"QMCSampler(qmc_type={self.qmc_type!r}, scramble={self.scramble}, seed={self.seed})"
