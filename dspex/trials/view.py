"""What samplers and pruners see of a study: enough to choose by, and nothing they could change."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from dspex.trials.frozen import FrozenTrial
from dspex.trials.ledger import Ledger
from dspex.trials.log import TrialLog
from dspex.trials.state import StudyDirection
from dspex.variables import Pool, Space

__all__ = ["PerView", "StudyView", "objective_views"]

T = TypeVar("T")


@attrs.frozen(eq=False, weakref_slot=True)
class StudyView:
    """A narrow, read-only window on one study.

    One object stands for one study as long as the process has it open, so whoever keeps something per study
    may key a `weakref.WeakKeyDictionary` by it (after Ctrl-C another one does: what is kept may be half done, and is
    read anew). ``pools`` maps the paths of open-ended variables to their
    candidates, which may have grown since one last looked. ``planned`` maps the numbers of running trials to values
    that were chosen for them, of variables that they have not come to yet; only of trials that this process runs.
    ``objective`` is which of the study's objectives the first of ``directions`` is: 0, unless it is one of the
    `objective_views`.
    """

    directions: tuple[StudyDirection, ...]
    space: Space | None
    ledger: Ledger
    pools: Mapping[str, Pool]
    _log: TrialLog
    planned: Mapping[int, Mapping[str, Any]] = attrs.field(factory=dict)
    objective: int = 0

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, by number. Costs as much as there are; `changes` does not."""
        return self._log.snapshot()

    def changes(self, cursor: int) -> tuple[list[FrozenTrial], int]:
        """The trials that changed after ``cursor`` (0: all of them), and the next cursor."""
        return self._log.changes(cursor)

    def params(self, trial: FrozenTrial) -> Mapping[str, Any]:
        """The values of a trial, those included that it is going to have as far as that is known."""
        planned = self.planned.get(trial.number)
        return {**planned, **trial.params} if planned else trial.params


class _ObjectiveLog:
    """The trials of a log, each as one of its objectives has it."""

    def __init__(self, log: TrialLog, index: int) -> None:
        self._log = log
        self._index = index

    def snapshot(self) -> list[FrozenTrial]:
        return [trial.of_objective(self._index) for trial in self._log.snapshot()]

    def changes(self, cursor: int) -> tuple[list[FrozenTrial], int]:
        changed, cursor = self._log.changes(cursor)
        return [trial.of_objective(self._index) for trial in changed], cursor


def objective_views(view: StudyView) -> tuple[StudyView, ...]:
    """A view for each objective, on the same study as if it had that one alone. The caller keeps them."""
    return tuple(
        attrs.evolve(
            view,
            directions=(direction,),
            log=_ObjectiveLog(view._log, index),  # type: ignore[arg-type]
            objective=index,
        )
        for index, direction in enumerate(view.directions)
    )


class PerView(Generic[T]):
    """What a sampler or pruner keeps for each study it works for: made when first needed, gone with the
    study.

    Thread-safe. It pickles as an empty one, because a view does not travel and what is kept can be read
    again.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._kept: weakref.WeakKeyDictionary[StudyView, T] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, view: StudyView) -> T:
        """What is kept for ``view``."""
        with self._lock:
            kept = self._kept.get(view)
            if kept is None:
                kept = self._kept[view] = self._make()
            return kept

    def __reduce__(self) -> tuple[Any, ...]:
        return (PerView, (self._make,))
