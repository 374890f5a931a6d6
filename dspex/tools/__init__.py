"""Tools: plain functions that a model may call."""

from __future__ import annotations

from dspex.tools.tool import Tool

__all__ = ["Tool"]
