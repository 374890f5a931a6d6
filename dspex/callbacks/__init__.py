"""Callbacks: what programs and searches do, as spans with a start and an end, told to whoever wants to know."""

from __future__ import annotations

from dspex.callbacks.callback import Callback
from dspex.callbacks.observed import current_span
from dspex.callbacks.otel import OpenTelemetry
from dspex.callbacks.span import Span

__all__ = ["Callback", "OpenTelemetry", "Span", "current_span"]
