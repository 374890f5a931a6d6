"""Walking a conditional space from its root, one branch at a time.

The variables of a space that are active under the same conditions form a *branch*. A branch is entered when
the values that its conditions name have been chosen, so its variables can be modelled jointly on exactly the
trials that entered it too.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from dspex.errors import StudyError
from dspex.samplers.apart import apart
from dspex.samplers.base import Sampler, candidates_of
from dspex.trials import StudyView
from dspex.trials.params import resolved
from dspex.variables import Condition, Constraint, Domain, Space
from dspex.variables.values import same

__all__ = ["BranchSampler"]

_ATTEMPTS = 1000  # draws before a sampler gives up on the space's constraints
_REPEATS = 5  # draws that were had already before one of them is taken after all
_FEW = 64  # configurations that are looked at one by one whether any is left, before it is drawn again

Branch = tuple[tuple[Condition, ...], dict[str, Domain[Any]]]


class BranchSampler(Sampler):
    """A sampler that chooses the values of one branch after the other; subclasses say how, by `propose`."""

    @abstractmethod
    def propose(
        self,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        *,
        given: Mapping[str, Any],
        attempt: int,
    ) -> dict[str, Any]:
        """Values for all variables of ``branch``.

        ``given`` are the values that the trial has already, some of them perhaps of this branch (then they
        are to be kept). ``attempt`` counts the draws for this trial that were not taken.
        """

    def is_repeat(self, view: StudyView, space: Space, values: Mapping[str, Any]) -> bool:
        """Whether to draw again because a trial has had these values already.

        That no *running* trial has them, while others are left, is seen to in any case.
        """
        return False

    def sample(self, view: StudyView, number: int, space: Space, *, fixed: Mapping[str, Any]) -> dict[str, Any]:
        violated: list[Constraint] = []
        repeats = 0
        for attempt in range(_ATTEMPTS):
            values = self._walk(view, number, space, fixed, attempt)
            if space.constraints:
                violated = space.violated(
                    resolved(values, {path: domain_of(space, path) for path in values}, view.pools)
                )
            if violated:
                continue
            if repeats == _REPEATS or not self.is_repeat(view, space, values):
                return apart(view, number, space, fixed, values)
            repeats += 1
        raise StudyError(
            f"no values were found in {_ATTEMPTS} draws that satisfy the space's constraints; the last draw "
            f"violates: {'; '.join(constraint.reason for constraint in violated)}. Narrow the domains to "
            "where they can hold"
        )

    def unlike_others(
        self,
        view: StudyView,
        number: int,
        branch: Mapping[str, Domain[Any]],
        params: Mapping[str, Any],
        is_had: Callable[[Mapping[str, Any]], bool],
    ) -> dict[str, Any]:
        """`propose`, for a trial that declares its variables on the way, until it is none of those that others had."""
        first = self.propose(view, number, branch, given=params, attempt=0)
        if not is_listed(branch.values()) or not is_had({**params, **first}):
            return first
        few = _few(view, branch, params)
        if few is None or not all(is_had({**params, **values}) for values in few):
            for attempt in range(1, _REPEATS + 1):
                values = self.propose(view, number, branch, given=params, attempt=attempt)
                if not is_had({**params, **values}):
                    return values
        return first

    def _walk(
        self, view: StudyView, number: int, space: Space, fixed: Mapping[str, Any], attempt: int
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for branch in entered(space, values):
            here = {path: fixed[path] for path in branch if path in fixed}
            if len(here) < len(branch):
                here = self.propose(view, number, branch, given={**values, **here}, attempt=attempt)
            values.update({path: here[path] for path in branch})
        return values


def is_listed(domains: Iterable[Domain[Any]]) -> bool:
    """Whether each variable has a list of values, so that a configuration may well come up twice."""
    return all(domain.open_ended or math.isfinite(domain.size()) for domain in domains)


def _few(view: StudyView, branch: Mapping[str, Domain[Any]], params: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """All values that ``branch`` may have beside ``params``; ``None`` when they are more than `_FEW`."""
    options: list[Sequence[Any]] = []
    for path, domain in branch.items():
        if path in params:
            listed: Sequence[Any] | None = (params[path],)
        elif domain.open_ended:
            listed = candidates_of(view, path)
        else:
            listed = domain.candidates() if domain.size() <= _FEW else None
        if listed is None:
            return None
        options.append(listed)
    if math.prod(map(len, options)) > _FEW:
        return None
    return [dict(zip(branch, values, strict=True)) for values in itertools.product(*options)]


def entered(space: Space, values: Mapping[str, Any]) -> Iterator[dict[str, Domain[Any]]]:
    """The branches that ``values`` enter, while the caller fills it in: outer ones before inner ones."""
    pending = branches(space)
    while pending:
        waiting: list[Branch] = []
        progress = False
        for conditions, domains in pending:
            verdict = _entered(space, conditions, values)
            if verdict is None:
                waiting.append((conditions, domains))
            else:
                progress = True
                if verdict:
                    yield domains
        if not progress:
            return  # what is left hangs on variables of branches that were not entered
        pending = tuple(waiting)


@lru_cache(maxsize=64)
def branches(space: Space) -> tuple[Branch, ...]:
    """The tunable variables of ``space`` by the conditions they are active under, in the space's order."""
    found: dict[str, Branch] = {}
    for path in space.tunable:
        conditions = space[path].conditions
        # By their text, because values need not be hashable, and 1 and True are two.
        found.setdefault(repr(conditions), (conditions, {}))[1][path] = domain_of(space, path)
    return tuple(found.values())


def _entered(space: Space, conditions: tuple[Condition, ...], values: Mapping[str, Any]) -> bool | None:
    """Whether the conditions hold; ``None`` while a value they name has not been chosen."""
    verdict: bool | None = True
    for condition in conditions:
        entry = space[condition.path]
        if condition.path in values:
            holds: bool | None = same(values[condition.path], condition.value)
        elif entry.tunable:
            holds = None
        else:
            # It has its default, where it is active itself.
            holds = same(entry.default, condition.value) and _entered(space, entry.conditions, values)
        if holds is False:
            return False
        if holds is None:
            verdict = None
    return verdict


def domain_of(space: Space, path: str) -> Domain[Any]:
    """The domain of a variable that is not derived.

    Raises:
        StudyError: when it is derived.
    """
    domain = space[path].domain
    if domain is None:
        raise StudyError(f"{path!r} is derived from other variables, so it cannot be given a value")
    return domain
