"""Asynchronous successive halving; see `dspex.pruners.rungs` for where it comes from."""

from __future__ import annotations

import threading
from typing import Any

from dspex.errors import StudyError
from dspex.pruners.base import Pruner
from dspex.pruners.rungs import Rungs
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.trials.checks import at_least

__all__ = ["SuccessiveHalvingPruner"]


class _Kept:
    """What is kept of one study."""

    def __init__(self) -> None:
        self.cursor = 0
        self.rungs: Rungs | None = None
        self.lock = threading.Lock()


class SuccessiveHalvingPruner(Pruner):
    """Lets only the best ``1 / reduction_factor`` of the trials that reach a rung go on to the next one.

    The rungs are at ``min_resource * reduction_factor ** (k + min_early_stopping_rate)`` steps for k = 0, 1,
    ...; a step counts as that much resource. A trial passes a rung with the first value it reports there or
    later, and is compared with all trials that have passed it so far, so nobody waits for anybody. A NaN does not
    pass.

    Args:
        min_resource: The steps every trial gets at least; ``"auto"`` takes a hundredth of the last step that the first
            completed trial reported, and ends nobody before.
        reduction_factor: One of so many goes on.
        min_early_stopping_rate: Moves the first rung up by so many powers of the factor.
        bootstrap_count: Nobody goes on from a rung that no more trials than this have reached.

    Raises:
        StudyError: when ``min_resource`` is below 1, ``reduction_factor`` below 2, another number below 0, or a
            ``bootstrap_count`` comes with ``"auto"``.

    >>> from dspex.study import create_study
    >>> study = create_study(pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=2))
    >>> asked = [study.ask() for _ in range(4)]
    >>> for loss, trial in enumerate(asked):
    ...     trial.report(float(loss), step=1)
    >>> [trial.should_prune() for trial in asked]
    [False, False, True, True]
    """

    def __init__(
        self,
        min_resource: int | str = "auto",
        reduction_factor: int = 4,
        min_early_stopping_rate: int = 0,
        bootstrap_count: int = 0,
    ) -> None:
        self.min_resource = auto_or_whole("min_resource", min_resource)
        self.reduction_factor = at_least("reduction_factor", reduction_factor, 2)
        self.min_early_stopping_rate = at_least("min_early_stopping_rate", min_early_stopping_rate, 0)
        self.bootstrap_count = bootstrap(bootstrap_count, "min_resource", min_resource)
        self._studies = PerView(_Kept)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        kept = self._studies.of(view)
        with kept.lock:
            if kept.rungs is None:
                kept.rungs = self._rungs(view)
            if kept.rungs is None:
                return False
            changed, kept.cursor = view.changes(kept.cursor)
            for other in changed:
                kept.rungs.take(other)
            return kept.rungs.ends(trial)

    def _rungs(self, view: StudyView) -> Rungs | None:
        smallest = self.min_resource
        if isinstance(smallest, str):
            longest = first_completed_step(view)
            if longest is None:
                return None
            smallest = max(longest // 100, 1)
        smallest *= self.reduction_factor**self.min_early_stopping_rate
        return Rungs(smallest, self.reduction_factor, self.bootstrap_count, sign=view.directions[0].sign)

    def __repr__(self) -> str:
        return (
            f"SuccessiveHalvingPruner(min_resource={self.min_resource!r}, reduction_factor={self.reduction_factor}, "
            f"min_early_stopping_rate={self.min_early_stopping_rate}, bootstrap_count={self.bootstrap_count})"
        )


def first_completed_step(view: StudyView) -> int | None:
    """The last step that the first completed trial with reports has; ``None`` while there is none.

    Costs as much as there are trials, so it is to be asked only until there is an answer.
    """
    for trial in view.changes(0)[0]:  # those that have finished, in the order in which they did
        if trial.state is TrialState.COMPLETE and trial.last_step is not None:
            return trial.last_step
    return None


def auto_or_whole(name: str, value: Any) -> int | str:
    """``value``, when it is ``"auto"`` or a whole number above 0.

    Raises:
        StudyError: when it is neither.
    """
    if isinstance(value, str):
        if value != "auto":
            raise StudyError(f"{name} must be a whole number >= 1 or 'auto', got {value!r} (str)")
        return value
    return at_least(name, value, 1)


def bootstrap(count: Any, name: str, resource: int | str) -> int:
    """``count``, when it is a whole number and goes with the resource.

    Raises:
        StudyError: when it does not.
    """
    if at_least("bootstrap_count", count, 0) and resource == "auto":
        raise StudyError(f"bootstrap_count={count} needs a known {name}; write {name}=1, or another number of steps")
    return int(count)
