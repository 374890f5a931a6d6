"""Types of fields beyond text and data: media, documents, earlier turns, code, thoughts, tool calls, citations."""

from __future__ import annotations

from dspex.types.code import Code
from dspex.types.documents import Citation, Citations, Document
from dspex.types.history import History
from dspex.types.media import Audio, File, Image
from dspex.types.part import Part
from dspex.types.reasoning import Reasoning
from dspex.types.tool_calls import ToolCall, ToolCalls

__all__ = [
    "Audio",
    "Citation",
    "Citations",
    "Code",
    "Document",
    "File",
    "History",
    "Image",
    "Part",
    "Reasoning",
    "ToolCall",
    "ToolCalls",
]
