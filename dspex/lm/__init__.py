"""Language models: LM (through litellm), MockLM, and what they have in common."""

from __future__ import annotations

from dspex.lm.base import BaseLM
from dspex.lm.batch import BatchLM
from dspex.lm.batch_store import BatchJob
from dspex.lm.cache import Cache
from dspex.lm.lm import LM
from dspex.lm.mock import MockLM
from dspex.lm.named import lm_named, register_lm
from dspex.lm.streams import Delta, Restart, StreamEvent
from dspex.lm.transcript import Transcript, inspect_history
from dspex.lm.types import Completion, LMRequest, LMResponse, Message, MessageBlock

__all__ = [
    "LM",
    "BaseLM",
    "BatchJob",
    "BatchLM",
    "Cache",
    "Completion",
    "Delta",
    "LMRequest",
    "LMResponse",
    "Message",
    "MessageBlock",
    "MockLM",
    "Restart",
    "StreamEvent",
    "Transcript",
    "inspect_history",
    "lm_named",
    "register_lm",
]
