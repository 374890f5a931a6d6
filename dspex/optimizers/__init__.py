"""Optimizers: strategies over a space, a ledger and a budget."""

from __future__ import annotations

from dspex.optimizers.allocation import Allocator, Halving
from dspex.optimizers.base import DEFAULT_STORAGE, Optimizer
from dspex.optimizers.few_shot import BootstrapFewShot, FewShot, LabeledFewShot
from dspex.optimizers.joint import JointSearch
from dspex.optimizers.optimize import optimize
from dspex.optimizers.racing import Racing
from dspex.optimizers.result import OptimizationResult, ParetoPoint
from dspex.optimizers.scores import Scores
from dspex.optimizers.splitting import Splits, split_for_search
from dspex.optimizers.structured import StructuredSearch
from dspex.optimizers.task import Task
from dspex.optimizers.watching import ConsoleWatcher, Watcher

__all__ = [
    "DEFAULT_STORAGE",
    "Allocator",
    "BootstrapFewShot",
    "ConsoleWatcher",
    "FewShot",
    "Halving",
    "JointSearch",
    "LabeledFewShot",
    "OptimizationResult",
    "Optimizer",
    "ParetoPoint",
    "Racing",
    "Scores",
    "Splits",
    "StructuredSearch",
    "Task",
    "Watcher",
    "optimize",
    "split_for_search",
]
