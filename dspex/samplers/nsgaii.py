"""NSGA-II: populations of trials that no other one dominates, spread along the front.

Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on Evolutionary
Computation 2002; constraints as in its section VI.

Different here: within a branch of a conditional space children inherit from parents that entered the branch; a child
that would repeat a trial is bred again; and a generation is whoever completed in the meantime (`generations`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dspex.errors import StudyError
from dspex.samplers.base import seed_or_random
from dspex.samplers.branches import BranchSampler
from dspex.samplers.companions import StudyCompanions
from dspex.samplers.generations import Generations, Genes
from dspex.samplers.random import RandomSampler
from dspex.samplers.ranking import crowding, fronts
from dspex.samplers.variation import BaseCrossover, BaseMutation, PolynomialMutation, UniformCrossover, probability
from dspex.trials import FrozenTrial, PerView, StudyView
from dspex.variables import Domain, Space

__all__ = ["NSGAIISampler"]

Array = NDArray[np.float64]

_LITTERS = 20  # children bred outside their bounds before one of them is put on the nearest bound
_EXPLORE = 0.5  # while candidates of a pool are untried, the probability that one of them is tried


class NSGAIISampler(BranchSampler):
    """Breeds the next trials from the best so far: for several objectives, or one.

    The first population is drawn at random. Parents win a tournament of two (the lower front, then the lonelier one)
    and are crossed; what a child has inherited mutates with ``mutation_prob``. Trials that failed or were pruned are
    nobody's parents. A trial that violates a constraint is dominated by every feasible one.

    Args:
        population_size: Trials in a generation.
        mutation: How a number mutates; by default polynomially, to one nearby. Other variables are drawn anew.
        mutation_prob: How often a variable mutates; by default once per child on average.
        crossover: How numbers are crossed (other variables come from one parent or the other); uniform by default.
        crossover_prob: How often a child has more than one parent.
        swapping_prob: How often a child has a variable from the second parent.
        seed: Makes the draws repeatable.

    Raises:
        StudyError: when an argument makes no sense.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=NSGAIISampler(population_size=20, seed=0), directions=["minimize", "minimize"])
    >>> def objective(trial):
    ...     x = trial.suggest_float("x", -10, 10)
    ...     return x**2, (x - 2) ** 2
    >>> study.optimize(objective, n_trials=100)
    >>> len(study.best_trials) > 20
    True
    """

    def __init__(
        self,
        *,
        population_size: int = 50,
        mutation: BaseMutation | None = None,
        mutation_prob: float | None = None,
        crossover: BaseCrossover | None = None,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        seed: int | None = None,
    ) -> None:
        self.seed = seed_or_random(seed)
        self.mutation = _instance("mutation", mutation, BaseMutation) or PolynomialMutation()
        self.mutation_prob = None if mutation_prob is None else probability("mutation_prob", mutation_prob)
        self.swapping_prob = probability("swapping_prob", swapping_prob)
        self.crossover = _instance("crossover", crossover, BaseCrossover) or UniformCrossover(self.swapping_prob)
        self.crossover_prob = probability("crossover_prob", crossover_prob)
        whole = isinstance(population_size, int) and not isinstance(population_size, bool)
        if not whole or population_size < max(2, self.crossover.n_parents):
            raise StudyError(
                f"population_size must be a whole number >= {max(2, self.crossover.n_parents)} with "
                f"{self.crossover!r}, got {population_size!r} ({type(population_size).__name__})"
            )
        self.population_size = population_size
        self._random = RandomSampler(seed=self.seed)
        self._companions = PerView(StudyCompanions)
        self._generations = PerView(partial(Generations, population_size, self.seed, self._survivors))

    def _survivors(self, losses: Array, violations: Array, rng: np.random.Generator) -> tuple[NDArray[np.intp], Array]:
        """Front after front, and of the last one the lonely; see `dspex.samplers.generations.Select`."""
        places: list[int] = []
        keys: list[tuple[float, float]] = []
        for rank, front in enumerate(fronts(losses, violations)):
            lonely = crowding(losses[:, front])
            for index in np.argsort(-lonely, kind="stable")[: self.population_size - len(places)]:
                places.append(int(front[index]))
                keys.append((float(rank), -float(lonely[index])))
        return np.array(places), np.array(keys)

    def propose(
        self,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        *,
        given: Mapping[str, Any],
        attempt: int,
    ) -> dict[str, Any]:
        kept = self._generations.of(view)
        rng = np.random.default_rng([self.seed, number, attempt, zlib.crc32("\n".join(branch).encode())])
        with kept.lock:
            kept.read(view)
            parents = kept.parents
            fixed = {path: given[path] for path in branch if path in given}
            for path, domain in branch.items():
                if domain.open_ended and path not in fixed:
                    untried = kept.tried.untried(view, path)
                    if untried and rng.random() < _EXPLORE:
                        fixed[path] = untried[int(rng.integers(len(untried)))]
            genes = parents.genes(view, branch) if parents.trials else None
        child: dict[str, Any] = {}
        if genes is not None and genes.place:
            # The same line for every branch of a trial, so that what was good together is inherited together.
            line = parents.line(np.random.default_rng([self.seed, number, attempt]))
            places = [place for place in line if place in genes.place]
            child = self._child([parents.trials[place] for place in places], genes, places, len(view.directions), rng)
            self._mutate(child, genes, rng, certainly=attempt > 0)
        child |= fixed
        drawn = self._random.propose(view, number, branch, given=child, attempt=attempt)
        return {path: drawn[path] for path in branch}

    def _child(
        self,
        line: list[FrozenTrial],
        genes: Genes,
        places: list[int],
        objectives: int,
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        """What a child inherits from the first in line."""
        wanted = self.crossover.n_parents
        if len(line) < wanted or rng.random() >= self.crossover_prob:
            return {path: line[0].params[path] for path in [*genes.numbers, *genes.others]}
        parents = line[:wanted]
        child = {path: parents[-1 if rng.random() < self.swapping_prob else 0].params[path] for path in genes.others}
        if genes.numbers:
            rows = genes.rows[[genes.place[place] for place in places[:wanted]]]
            for _ in range(_LITTERS):
                shares = self.crossover.crossover(rows, rng, objectives=objectives)
                if ((shares >= 0) & (shares <= 1)).all():
                    break
            shares = np.clip(shares, 0.0, 1.0)
            for column, (path, dimension) in enumerate(genes.numbers.items()):
                same = (rows[:, column] == shares[column]).nonzero()[0]
                # A number that is a parent's own is not written anew, which could cost its last digit.
                child[path] = (
                    parents[same[0]].params[path] if len(same) else dimension.decode(shares[column : column + 1])
                )
        return child

    def _mutate(self, child: dict[str, Any], genes: Genes, rng: np.random.Generator, *, certainly: bool) -> None:
        """Changes some variables, ``certainly`` at least one, and takes out those that are to be drawn anew."""
        mutating = 1 / len(child) if self.mutation_prob is None else self.mutation_prob
        certain = int(rng.integers(len(child))) if certainly else -1
        for place, path in enumerate(list(child)):
            if rng.random() < mutating or place == certain:
                dimension = genes.numbers.get(path)
                share = None if dimension is None else dimension.encode(child[path])
                if dimension is None or share is None:
                    del child[path]
                else:
                    child[path] = dimension.decode(np.array([self.mutation.mutation(share[0], rng)]))

    def is_repeat(self, view: StudyView, space: Space, values: Mapping[str, Any]) -> bool:
        kept = self._generations.of(view)
        with kept.lock:
            return kept.configurations.has(view, values)

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        branch = self._companions.of(view).branch(view, path, domain)
        kept = self._generations.of(view)

        def is_had(values: Mapping[str, Any]) -> bool:
            with kept.lock:
                return kept.configurations.has(view, values)

        return self.unlike_others(view, number, branch, params, is_had)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._arguments()}, seed={self.seed})"

    def _arguments(self) -> str:
        return (
            f"population_size={self.population_size}, mutation={self.mutation!r}, mutation_prob={self.mutation_prob}, "
            f"crossover={self.crossover!r}, crossover_prob={self.crossover_prob}, swapping_prob={self.swapping_prob}"
        )


def _instance(argument: str, value: Any, kind: type[Any]) -> Any:
    if value is not None and not isinstance(value, kind):
        raise StudyError(
            f"{argument} must be a {kind.__name__} or None, got {value!r} ({type(value).__name__}); write for example "
            f"{argument}={kind.__subclasses__()[0].__name__}()"
        )
    return value
