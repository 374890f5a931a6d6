"""The run that is going on here: how code without a run of its own joins one.

A run travels on the bound modules, so threads and tasks of any make keep it. What is *not* part of the tree
(a predictor made inside ``forward``, a module kept in a global, a model called by hand) asks here instead,
and so its calls still count against the run's usage, deadline and budget.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from dspex.execution.run import Run

__all__ = ["Activation", "activate", "active_run", "deactivate"]

_active: ContextVar[Run | None] = ContextVar("dspex_active_run", default=None)


activate = _active.set
"""``token = activate(run)`` makes ``run`` the active one until ``deactivate(token)``: what `Activation` does,
for those who count microseconds."""

deactivate = _active.reset


active_run = _active.get
"""The run whose program is executing in this thread or task, or None outside of any."""


class Activation:
    """``with Activation(run):`` makes ``run`` the active one for the block.

    >>> with Activation(Run()) as run:
    ...     active_run() is run
    True
    """

    __slots__ = ("_run", "_token")

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> Run:
        self._token = _active.set(self._run)
        return self._run

    def __exit__(self, *_: Any) -> None:
        _active.reset(self._token)
