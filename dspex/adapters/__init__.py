"""Adapters: how a signature becomes a prompt, and a model's answer the signature's outputs."""

from __future__ import annotations

from dspex.adapters.base import Adapter
from dspex.adapters.chat import ChatAdapter
from dspex.adapters.json_adapter import JSONAdapter
from dspex.adapters.layout import Layout, Output
from dspex.adapters.lines_adapter import LinesAdapter
from dspex.adapters.registry import adapter_from_json, adapter_named, register_adapter

__all__ = [
    "Adapter",
    "ChatAdapter",
    "JSONAdapter",
    "Layout",
    "LinesAdapter",
    "Output",
    "adapter_from_json",
    "adapter_named",
    "register_adapter",
]
