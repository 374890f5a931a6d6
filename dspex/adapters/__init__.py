"""Adapters: how a signature becomes a prompt, and a model's answer the signature's outputs."""

from __future__ import annotations

from dspex.adapters.base import Adapter
from dspex.adapters.chat import ChatAdapter
from dspex.adapters.compact_adapter import CompactAdapter
from dspex.adapters.json_adapter import JSONAdapter
from dspex.adapters.layout import Layout, Output
from dspex.adapters.lines_adapter import LinesAdapter
from dspex.adapters.registry import adapter_from_json, adapter_named, register_adapter
from dspex.adapters.steps import FollowUp, Reading
from dspex.adapters.streaming import AnswerStream, FieldDelta
from dspex.adapters.two_step import TwoStepAdapter
from dspex.adapters.xml_adapter import XMLAdapter

__all__ = [
    "Adapter",
    "AnswerStream",
    "ChatAdapter",
    "CompactAdapter",
    "FieldDelta",
    "FollowUp",
    "JSONAdapter",
    "Layout",
    "LinesAdapter",
    "Output",
    "Reading",
    "TwoStepAdapter",
    "XMLAdapter",
    "adapter_from_json",
    "adapter_named",
    "register_adapter",
]
