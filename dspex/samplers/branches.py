"""Walking a conditional space from its root, one branch at a time.

The variables of a space that are active under the same conditions form a *branch*. A branch is entered when the
values that its conditions name have been chosen, so its variables can be modelled jointly on exactly the
trials that entered it too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from dspex.errors import StudyError
from dspex.samplers.base import Sampler
from dspex.trials import StudyView
from dspex.variables import Condition, Domain, Space

__all__ = ["BranchSampler"]

_ATTEMPTS = 200  # draws before a sampler gives up on the space's constraints

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

        ``given`` are the values that the trial has already, some of them perhaps of this branch (then they are
        to be kept). ``attempt`` counts the draws for this trial that violated a constraint.
        """

    def sample(
        self, view: StudyView, number: int, space: Space, *, fixed: Mapping[str, Any]
    ) -> dict[str, Any]:
        violated: list[Any] = []
        for attempt in range(_ATTEMPTS if space.constraints else 1):
            values = self._walk(view, number, space, fixed, attempt)
            violated = list(space.violated(with_candidates(view, space, values)))
            if not violated:
                return values
        raise StudyError(
            f"no values were found in {_ATTEMPTS} draws that satisfy the space's constraints; the last draw violates: "
            f"{'; '.join(constraint.reason for constraint in violated)}. Narrow the domains to where they can hold"
        )

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


def entered(space: Space, values: Mapping[str, Any]) -> Iterator[dict[str, Domain[Any]]]:
    """The branches that ``values`` enter, as the caller fills ``values`` in: an outer one before the inner ones."""
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
    found: dict[tuple[Condition, ...], dict[str, Domain[Any]]] = {}
    for path in space.tunable:
        entry = space[path]
        found.setdefault(tuple(entry.conditions), {})[path] = entry.domain
    return tuple(found.items())


def _entered(space: Space, conditions: tuple[Condition, ...], values: Mapping[str, Any]) -> bool | None:
    """Whether the conditions hold; ``None`` while a value they name has not been chosen."""
    unknown = False
    for condition in conditions:
        entry = space[condition.path]
        if condition.path in values:
            found = values[condition.path]
        elif entry.tunable:
            unknown = True
            continue
        else:
            found = entry.default
        if found != condition.value:
            return False
    return None if unknown else True


def with_candidates(view: StudyView, space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the ids of pool items replaced by the items."""
    return {
        path: view.pools[path][value].value if space[path].domain.open_ended else value
        for path, value in values.items()
    }
