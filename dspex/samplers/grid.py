"""Every combination of given values once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dspex.errors import StudyError
from dspex.samplers.brute_force import BruteForceSampler
from dspex.trials import StudyView
from dspex.variables import Domain

__all__ = ["GridSampler"]


class GridSampler(BruteForceSampler):
    """Tries every combination of listed values once, in a random order, and then ends the search.

    A variable that is not listed has all the values of its domain. Variables under conditions are combined where they
    are active; a pool is listed by what is in it. Otherwise as `BruteForceSampler`.

    Args:
        search_space: Path → values; prompts and demos by the ids of their candidates.
        seed: Of the order.

    Raises:
        StudyError: when a list is none or empty; at an ask, when a value is not in the variable's domain, or the values
            of a variable that is not listed are too many.

    >>> from dspex.study import create_study
    >>> study = create_study(sampler=GridSampler({"x": [0.0, 0.5, 1.0]}, seed=0))
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_int("k", 1, 2))
    >>> len(study.trials)
    6
    """

    def __init__(self, search_space: Mapping[str, Iterable[Any]] | None = None, seed: int | None = None) -> None:
        super().__init__(seed=seed)
        self.search_space: dict[str, tuple[Any, ...]] = {}
        for path, values in (search_space or {}).items():
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise StudyError(
                    f"search_space[{path!r}] must be a list, got {values!r} ({type(values).__name__}); "
                    f"write [{values!r}]"
                )
            self.search_space[path] = tuple(values)
            if not self.search_space[path]:
                raise StudyError(
                    f"search_space[{path!r}] is empty, so there is nothing to try; leave it out, or list values"
                )

    def options(self, view: StudyView, path: str, domain: Domain[Any]) -> Sequence[Any]:
        if path not in self.search_space:
            return super().options(view, path, domain)
        if domain.open_ended:
            pool = view.pools.get(path)
            strange = [one for one in self.search_space[path] if pool is None or pool.get(one) is None]
            if strange:
                raise StudyError(
                    f"search_space[{path!r}] has {strange[0]!r}, which is no candidate's id; add it first and write "
                    f"its id: study.pool({path!r}).add(...).id"
                )
            return self.search_space[path]
        return [domain.validate(one, name=f"search_space[{path!r}]") for one in self.search_space[path]]

    def __repr__(self) -> str:
        return (
            f"GridSampler({ ({path: list(values) for path, values in self.search_space.items()})!r}, seed={self.seed})"
        )
