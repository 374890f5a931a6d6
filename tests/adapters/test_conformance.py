"""Every adapter that comes with dspex keeps the contract that one of one's own is held to."""

from __future__ import annotations

from dspex.adapters import (
    Adapter,
    ChatAdapter,
    CompactAdapter,
    JSONAdapter,
    LinesAdapter,
    TwoStepAdapter,
    XMLAdapter,
)
from dspex.testing.adapters import AdapterSuite


class TestChat(AdapterSuite):
    def make(self) -> Adapter:
        return ChatAdapter()


class TestJSON(AdapterSuite):
    def make(self) -> Adapter:
        return JSONAdapter()


class TestXML(AdapterSuite):
    def make(self) -> Adapter:
        return XMLAdapter()


class TestCompact(AdapterSuite):
    def make(self) -> Adapter:
        return CompactAdapter()


class TestLines(AdapterSuite):
    def make(self) -> Adapter:
        return LinesAdapter()


class TestTwoStep(AdapterSuite):
    def make(self) -> Adapter:
        return TwoStepAdapter(extraction=JSONAdapter())
