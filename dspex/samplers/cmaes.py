"""Covariance matrix adaptation: for numbers that depend on each other.

Hansen, "The CMA Evolution Strategy: A Tutorial", 2016, by the library cmaes (Nomura and Shibata, 2024); numbers in
steps with a margin (Hamano et al., "CMA-ES with Margin: Lower-Bounding Marginal Probability for Mixed-Integer Black-Box
Optimization", GECCO 2022); restarts with larger populations (Auger and Hansen, "A Restart CMA Evolution Strategy With
Increasing Population Size", CEC 2005).

Different here: the numbers of each branch of a conditional space have a strategy of their own, and where a strategy
stands is worked out again from the trials, so that nothing has to be noted about them.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.errors import StudyError
from dspex.samplers.base import Sampler, seed_or_random
from dspex.samplers.branches import BranchSampler
from dspex.samplers.companions import StudyCompanions
from dspex.samplers.dimensions import NumberDimension
from dspex.samplers.random import RandomSampler
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.trials.checks import at_least, true_or_false
from dspex.variables import Domain, Float, Int

__all__ = ["CmaEsSampler"]

Array = NDArray[np.float64]
Numbers = tuple[tuple[str, Float | Int], ...]

_MOST_BRANCHES = 128
_COUNTABLE = 2**20  # cells up to which a number is treated as one in steps
_ATTEMPTS = 20  # draws that constraints refused, after which the values are drawn independently


class CmaEsSampler(BranchSampler):
    """Draws numbers from a normal distribution that follows the good trials; other variables independently.

    For one objective, and best where most variables are numbers and a few hundred trials can be had. After every
    ``popsize`` trials the distribution is moved and reshaped; trials with values of other origin, and those that finish
    after it was, do not take part. When it has converged, it starts anew elsewhere with twice the population.

    Needs the library cmaes: ``pip install 'dspex[cmaes]'``.

    Args:
        x0: Where to start: values by path; in the middle of the domains by default.
        sigma0: The first standard deviation, in parts of each domain's width (on its scale); a sixth by default.
        n_startup_trials: So many trials are drawn independently first.
        independent_sampler: Who chooses what is no number; `RandomSampler` by default.
        popsize: Trials between two steps; ``4 + floor(3 ln n)`` for n numbers by default.
        use_separable_cma: Adapt the variances only, for many numbers that do not depend on each other.
        with_margin: Keep neighbouring steps of whole and stepped numbers within reach; by default where there are any.
        lr_adapt: Adapt the learning rate, for noisy and multimodal objectives (Nomura et al., GECCO 2023).
        seed: Makes the draws repeatable.

    Raises:
        StudyError: when an argument makes no sense, or cmaes is not installed; at an ask, when the study has several
            objectives.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=CmaEsSampler(seed=0))  # doctest: +SKIP
    >>> study.optimize(lambda trial: (trial.suggest_float("x", -5.0, 5.0) - 2) ** 2, n_trials=100)  # doctest: +SKIP
    >>> study.best_value < 1e-6  # doctest: +SKIP
    True
    """

    def __init__(
        self,
        *,
        x0: Mapping[str, Any] | None = None,
        sigma0: float | None = None,
        n_startup_trials: int = 1,
        independent_sampler: Sampler | None = None,
        popsize: int | None = None,
        use_separable_cma: bool = False,
        with_margin: bool | None = None,
        lr_adapt: bool = False,
        seed: int | None = None,
    ) -> None:
        self.seed = seed_or_random(seed)
        self.x0 = dict(x0 or {})
        positive = sigma0 is None or (
            isinstance(sigma0, int | float) and not isinstance(sigma0, bool) and 0 < sigma0 <= 1
        )
        if not positive:
            raise StudyError(f"sigma0 must be a number above 0 and at most 1, got {sigma0!r} ({type(sigma0).__name__})")
        self.sigma0 = sigma0
        self.n_startup_trials = at_least("n_startup_trials", n_startup_trials, 0)
        self.popsize = None if popsize is None else at_least("popsize", popsize, 2)
        true_or_false("use_separable_cma", use_separable_cma)
        true_or_false("lr_adapt", lr_adapt)
        if with_margin is not None:
            true_or_false("with_margin", with_margin)
        if use_separable_cma and with_margin:
            raise StudyError("use_separable_cma and with_margin exclude each other; leave one of them out")
        if lr_adapt and (use_separable_cma or with_margin):
            raise StudyError("lr_adapt goes neither with use_separable_cma nor with with_margin; leave one of them out")
        self.use_separable_cma, self.with_margin, self.lr_adapt = use_separable_cma, with_margin, lr_adapt
        self.independent_sampler = RandomSampler(seed=self.seed) if independent_sampler is None else independent_sampler
        if not isinstance(self.independent_sampler, Sampler):
            raise StudyError(
                f"independent_sampler must be a Sampler, got {independent_sampler!r} "
                f"({type(independent_sampler).__name__}); write independent_sampler=TPESampler()"
            )
        _library()
        self._companions = PerView(StudyCompanions)
        self._strategies = PerView(_Strategies)

    def propose(
        self,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        *,
        given: Mapping[str, Any],
        attempt: int,
    ) -> dict[str, Any]:
        if len(view.directions) > 1:
            raise StudyError(
                f"CmaEsSampler works for one objective and the study has {len(view.directions)}; use NSGAIISampler() "
                "or TPESampler()"
            )
        values = {path: given[path] for path in branch if path in given}
        numbers = tuple(
            (path, domain) for path, domain in branch.items() if isinstance(domain, Float | Int) and domain.size() > 1
        )
        if numbers and attempt < _ATTEMPTS:
            strategies = self._strategies.of(view)
            with strategies.lock:
                drawn = strategies.of(self, numbers).read(view).propose(number, attempt)
            values = {**drawn, **values}
        for path, domain in branch.items():
            if path not in values:
                # Each by itself; what the other sampler chose beside it would be about variables that are decided here.
                chosen = self._independent(view, number, path, domain, {**given, **values}, attempt)
                values[path] = chosen[path]
        return values

    def _independent(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], params: Mapping[str, Any], attempt: int
    ) -> dict[str, Any]:
        if isinstance(self.independent_sampler, BranchSampler):
            return self.independent_sampler.propose(view, number, {path: domain}, given=params, attempt=attempt)
        return self.independent_sampler.suggest(view, number, path, domain, params=params)

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        branch = self._companions.of(view).branch(view, path, domain)
        values = self.propose(view, number, branch, given=params, attempt=0)
        # What is no number is chosen when the trial comes to it, with all that is decided by then.
        return {one: value for one, value in values.items() if one == path or isinstance(branch[one], Float | Int)}

    def __repr__(self) -> str:
        return (
            f"CmaEsSampler(x0={self.x0}, sigma0={self.sigma0}, n_startup_trials={self.n_startup_trials}, "
            f"independent_sampler={self.independent_sampler!r}, popsize={self.popsize}, "
            f"use_separable_cma={self.use_separable_cma}, with_margin={self.with_margin}, lr_adapt={self.lr_adapt}, "
            f"seed={self.seed})"
        )


class _Strategies:
    """The strategies of one study, by the numbers they are about."""

    def __init__(self) -> None:
        self._by_numbers: OrderedDict[Numbers, _Strategy] = OrderedDict()
        self.lock = threading.Lock()

    def of(self, sampler: CmaEsSampler, numbers: Numbers) -> _Strategy:
        found = self._by_numbers.get(numbers)
        if found is None:
            found = self._by_numbers[numbers] = _Strategy(sampler, numbers)
            if len(self._by_numbers) > _MOST_BRANCHES:
                self._by_numbers.popitem(last=False)
        self._by_numbers.move_to_end(numbers)
        return found


class _Strategy:
    """Where the search of some numbers stands: a function of the completed trials, in the order in which they did.

    A trial takes part when its values are what would be proposed for its number now: then they come from the present
    distribution, and the draw behind them (with a margin, before it was put on a step) is known again.
    """

    def __init__(self, sampler: CmaEsSampler, numbers: Numbers) -> None:
        self._sampler = sampler
        self._dimensions = {path: NumberDimension(domain) for path, domain in numbers}
        self._name = zlib.crc32("\n".join(self._dimensions).encode())
        self._cells = np.array([one.cells if one.cells <= _COUNTABLE else 0 for one in self._dimensions.values()])
        self._cursor = 0
        self._counted: set[int] = set()
        self._told: list[tuple[Array, float]] = []
        self._restarts = 0
        self._optimizer = self._start()

    def _start(self) -> Any:
        library, sampler, size = _library(), self._sampler, len(self._dimensions)
        cells = self._cells
        margin = sampler.with_margin
        if margin is None:
            margin = bool(cells.any()) and not sampler.use_separable_cma and not sampler.lr_adapt
        # A number in steps lies in the middles of its cells.
        edge = np.where(margin & (cells > 0), 0.5 / np.maximum(cells, 1), 0.0)
        common: dict[str, Any] = {
            "mean": np.clip(self._mean(), edge, 1 - edge),
            "sigma": 1 / 6 if sampler.sigma0 is None else float(sampler.sigma0),
            "bounds": np.stack([edge, 1 - edge], axis=1),
            "n_max_resampling": 10 * size,
            "population_size": None if sampler.popsize is None and not self._restarts else self._popsize(),
        }
        if margin:
            return library.CMAwM(steps=np.where(cells > 0, 1 / np.maximum(cells, 1), 0.0), **common)
        if sampler.use_separable_cma and size > 1:
            return library.SepCMA(**common)
        return library.CMA(lr_adapt=sampler.lr_adapt, **common)

    def _popsize(self) -> int:
        usual = 4 + int(3 * np.log(len(self._dimensions)))
        size = usual if self._sampler.popsize is None else self._sampler.popsize
        return int(size * 2**self._restarts)

    def _mean(self) -> Array:
        if self._restarts:
            return np.random.default_rng([self._sampler.seed, self._name, self._restarts]).random(len(self._dimensions))
        mean = np.full(len(self._dimensions), 0.5)
        for column, (path, dimension) in enumerate(self._dimensions.items()):
            if path in self._sampler.x0:
                share = dimension.encode(self._sampler.x0[path])
                if share is None:
                    raise StudyError(f"x0 has {path}={self._sampler.x0[path]!r}, which is not in the variable's domain")
                mean[column] = share[0]
        return mean

    def read(self, view: StudyView) -> _Strategy:
        """Takes in what has completed since the last time."""
        changed, self._cursor = view.changes(self._cursor)
        # Only where constraints may refuse a draw is there a second one.
        attempts = _ATTEMPTS if view.space is not None and view.space.constraints else 1
        for trial in changed:
            complete = trial.state is TrialState.COMPLETE and trial.number not in self._counted
            if complete and all(path in trial.params for path in self._dimensions):
                drawn = self._drawn(trial, attempts) if len(self._counted) >= self._sampler.n_startup_trials else None
                self._counted.add(trial.number)
                if drawn is not None:
                    self._tell(drawn, view.directions[0].sign * float(trial.value or 0.0))
        return self

    def _tell(self, drawn: Array, loss: float) -> None:
        self._told.append((drawn, loss))
        if len(self._told) == self._optimizer.population_size:
            self._optimizer.tell(self._told)
            self._told = []
            if self._optimizer.should_stop():
                self._restarts += 1
                self._optimizer = self._start()

    def _drawn(self, trial: FrozenTrial, attempts: int) -> Array | None:
        """The draw behind a trial's values, when it is one of the present distribution."""
        for attempt in range(attempts):
            shares, drawn = self._draw(trial.number, attempt)
            if self._decoded(shares) == {path: trial.params[path] for path in self._dimensions}:
                return drawn
        return None

    def propose(self, number: int, attempt: int) -> dict[str, Any]:
        """Values for a trial; none while trials are drawn independently."""
        if len(self._counted) < self._sampler.n_startup_trials:
            return {}
        return self._decoded(self._draw(number, attempt)[0])

    def _draw(self, number: int, attempt: int) -> tuple[Array, Array]:
        """A point, and what the optimizer is told of it."""
        key = np.random.SeedSequence([self._sampler.seed, self._name, number, attempt])
        self._optimizer.reseed_rng(int(key.generate_state(1)[0]))
        asked = self._optimizer.ask()
        return asked if isinstance(asked, tuple) else (asked, asked)

    def _decoded(self, shares: Array) -> dict[str, Any]:
        return {
            path: dimension.decode(shares[column : column + 1])
            for column, (path, dimension) in enumerate(self._dimensions.items())
        }


def _library() -> Any:
    try:
        import cmaes
    except ImportError:
        raise StudyError("CmaEsSampler needs the library cmaes; write pip install 'dspex[cmaes]'") from None
    return cmaes
