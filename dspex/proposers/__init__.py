"""Proposers: what makes new candidates for instructions and demos."""

from __future__ import annotations

from dspex.proposers.base import Demonstration, Proposer, Workbench, predictor_variables
from dspex.proposers.demos import BootstrappedDemos, LabeledDemos
from dspex.proposers.instructions import GroundedInstructions

__all__ = [
    "BootstrappedDemos",
    "Demonstration",
    "GroundedInstructions",
    "LabeledDemos",
    "Proposer",
    "Workbench",
    "predictor_variables",
]
