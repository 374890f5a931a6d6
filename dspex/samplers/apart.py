"""Trials that run at once do not try the same: where configurations are few, a draw may well be one that is running."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from dspex.samplers.base import candidates_of
from dspex.samplers.enumeration import Enumeration
from dspex.samplers.seen import configuration
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.trials.params import resolved
from dspex.variables import Domain, Space

__all__ = ["apart"]

_MOST = 1000  # configurations that are looked at for one that is free and satisfies the constraints


def apart(
    view: StudyView, number: int, space: Space, fixed: Mapping[str, Any], values: dict[str, Any]
) -> dict[str, Any]:
    """``values``, or when a running trial has the same, a configuration at random that none has; if there is one.

    What has been tried and is over may come again: whether that is of use is the sampler's to know.
    """
    domains = _countable(space)
    if domains is None:
        return values
    running = _RUNNING.of(view).configurations(view)
    if not running or configuration(values) not in running:
        return values
    options: dict[str, Sequence[Any]] = {}
    for path, domain in domains.items():
        listed = candidates_of(view, path) if domain.open_ended else domain.candidates()
        if listed is None:
            return values  # there are so many that it hardly ever comes to this
        options[path] = [fixed[path]] if path in fixed else listed
    others = Enumeration(space, options, seed=number)
    for index in range(min(others.size, _MOST)):
        other = others[index]
        if configuration(other) not in running and not space.violated(
            resolved(other, {path: domains[path] for path in other}, view.pools)
        ):
            return other
    return values


@lru_cache(maxsize=64)
def _countable(space: Space) -> dict[str, Domain[Any]] | None:
    """The domains of what is tunable, or ``None`` when one of them has values without number."""
    domains = {path: domain for path in space.tunable if (domain := space[path].domain) is not None}
    countable = all(domain.open_ended or math.isfinite(domain.size()) for domain in domains.values())
    return domains if countable else None


class _Running:
    """The configurations of the running trials of one study."""

    def __init__(self) -> None:
        self._unread: dict[int, FrozenTrial] = {}  # those that were over before anybody asked cost nothing
        self._by_number: dict[int, str] = {}
        self._cursor = 0
        self._lock = threading.Lock()

    def configurations(self, view: StudyView) -> Collection[str]:
        with self._lock:
            changed, self._cursor = view.changes(self._cursor)
            for trial in changed:
                self._by_number.pop(trial.number, None)
                if trial.state is TrialState.RUNNING and trial.params:
                    self._unread[trial.number] = trial
                else:
                    self._unread.pop(trial.number, None)
            self._by_number.update({number: configuration(trial.params) for number, trial in self._unread.items()})
            self._unread.clear()
            return set(self._by_number.values())


_RUNNING = PerView(_Running)
