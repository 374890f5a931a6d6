"""Some variables held at given values, the others left to another sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.errors import StudyError
from dspex.samplers.base import Sampler
from dspex.samplers.branches import domain_of
from dspex.trials import StudyView
from dspex.variables import Domain, Space

__all__ = ["PartialFixedSampler"]


class PartialFixedSampler(Sampler):
    """Gives some variables fixed values and lets another sampler choose the rest beside them.

    Args:
        fixed_params: Path → value; of an open-ended variable the id of a candidate, or the candidate itself.
        base_sampler: Who chooses the others.

    Raises:
        StudyError: when an argument is none, or, at an ask, a prompt or demos are no candidate of the pool.
        StateError: at an ask, when a value is not in the variable's domain.

    >>> from dspex.samplers import RandomSampler
    >>> from dspex.study import create_study
    >>> study = create_study(sampler=PartialFixedSampler({"x": 0.5}, RandomSampler(seed=0)))
    >>> trial = study.ask()
    >>> trial.suggest_float("x", 0.0, 1.0), 1 <= trial.suggest_int("k", 1, 5) <= 5
    (0.5, True)
    """

    def __init__(self, fixed_params: Mapping[str, Any], base_sampler: Sampler) -> None:
        if not isinstance(fixed_params, Mapping):
            raise StudyError(
                f"fixed_params must be a mapping of paths to values, got {fixed_params!r} "
                f"({type(fixed_params).__name__}); write PartialFixedSampler({{'x': 0.5}}, TPESampler())"
            )
        if not isinstance(base_sampler, Sampler):
            raise StudyError(
                f"base_sampler must be a Sampler, got {base_sampler!r} ({type(base_sampler).__name__}); write "
                "PartialFixedSampler({'x': 0.5}, TPESampler())"
            )
        self.fixed_params = dict(fixed_params)
        self.base_sampler = base_sampler
        self.avoid_premature_stop = base_sampler.avoid_premature_stop

    def sample(self, view: StudyView, number: int, space: Space, *, fixed: Mapping[str, Any]) -> dict[str, Any]:
        mine = {
            path: self._param(view, path, domain_of(space, path)) for path in space.tunable if path in self.fixed_params
        }
        return self.base_sampler.sample(view, number, space, fixed={**mine, **fixed})

    def suggest(
        self, view: StudyView, number: int, path: str, domain: Domain[Any], *, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        if path in self.fixed_params:
            return {path: self._param(view, path, domain)}
        values = self.base_sampler.suggest(view, number, path, domain, params=params)
        return {other: value for other, value in values.items() if other not in self.fixed_params}

    def exhausted(self, view: StudyView, *, fixed: Mapping[str, Any] | None = None) -> bool:
        mine = dict(self.fixed_params)
        for path in mine:
            domain = view.space[path].domain if view.space is not None and path in view.space else None
            if domain is None and path in view.pools:
                domain = view.pools[path].domain
            if domain is not None:
                mine[path] = self._param(view, path, domain)
        return self.base_sampler.exhausted(view, fixed={**mine, **(fixed or {})})

    def _param(self, view: StudyView, path: str, domain: Domain[Any]) -> Any:
        value = self.fixed_params[path]
        if not domain.open_ended:
            return domain.validate(value, name=path)
        pool = view.pools.get(path)
        item = None if pool is None else (pool.get(value) if isinstance(value, str) else None) or pool.find(value)
        if item is None:
            raise StudyError(
                f"{path} = {value!r} is no candidate of the pool; add it before you ask: study.pool({path!r}).add(...)"
            )
        return item.id

    def __repr__(self) -> str:
        return f"PartialFixedSampler({self.fixed_params!r}, {self.base_sampler!r})"
