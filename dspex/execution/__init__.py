"""Runs, budgets, settings and executors: how programs are executed, and what may stop them."""

from __future__ import annotations

from dspex.execution.budget import Amounts, Budget, Reservation
from dspex.execution.deadline import Deadline
from dspex.execution.run import Run, TraceEntry
from dspex.execution.settings import Settings, configure, context, current

__all__ = [
    "Amounts",
    "Budget",
    "Deadline",
    "Reservation",
    "Run",
    "Settings",
    "TraceEntry",
    "configure",
    "context",
    "current",
]
