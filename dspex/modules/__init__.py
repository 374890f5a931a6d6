"""Programs: the `Module` base, the flow driver, and the built-in modules."""

from __future__ import annotations

from dspex.modules.chain_of_thought import ChainOfThought
from dspex.modules.choice import ModuleChoice
from dspex.modules.events import FieldDelta, Final, Restart, Status, StreamEvent
from dspex.modules.flow import Call, Gather, Generate, Invoke
from dspex.modules.module import Module
from dspex.modules.predict import Predict
from dspex.modules.react import ReAct
from dspex.modules.render import Rendering

__all__ = [
    "Call",
    "ChainOfThought",
    "FieldDelta",
    "Final",
    "Gather",
    "Generate",
    "Invoke",
    "Module",
    "ModuleChoice",
    "Predict",
    "ReAct",
    "Rendering",
    "Restart",
    "Status",
    "StreamEvent",
]
