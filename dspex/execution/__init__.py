"""Runs, budgets, settings and executors: how programs are executed, and what may stop them."""

from __future__ import annotations

from dspex.execution.active import Activation, active_run
from dspex.execution.budget import Amounts, Budget, Reservation
from dspex.execution.crew import Crew
from dspex.execution.deadline import Deadline
from dspex.execution.executor import (
    in_thread,
    map_async,
    map_threads,
    produce_in_task,
    produce_on_thread,
    run_blocking,
    run_many,
    stream_async,
    stream_threads,
)
from dspex.execution.outcome import Outcome, Outcomes
from dspex.execution.run import Run, TraceEntry
from dspex.execution.settings import Settings, configure, context, current, settings
from dspex.execution.tracking import UsageLedger, track_usage

__all__ = [
    "Activation",
    "Amounts",
    "Budget",
    "Crew",
    "Deadline",
    "Outcome",
    "Outcomes",
    "Reservation",
    "Run",
    "Settings",
    "TraceEntry",
    "UsageLedger",
    "active_run",
    "configure",
    "context",
    "current",
    "in_thread",
    "map_async",
    "map_threads",
    "produce_in_task",
    "produce_on_thread",
    "run_blocking",
    "run_many",
    "settings",
    "stream_async",
    "stream_threads",
    "track_usage",
]
