"""Each way of calling a model as a fixture; and retries that do not wait long."""

from __future__ import annotations

import pytest

from tests.lm.callers import CALLERS, STREAMERS, WAYS, Caller, Streamer


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.lm.retry.FIRST_WAIT", 0.001)


@pytest.fixture(params=CALLERS)
def call(request: pytest.FixtureRequest) -> Caller:
    """Blocking and awaiting, the response in one piece."""
    caller: Caller = request.param
    return caller


@pytest.fixture(params=STREAMERS)
def stream(request: pytest.FixtureRequest) -> Streamer:
    """Blocking and awaiting, piece by piece."""
    streamer: Streamer = request.param
    return streamer


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Streamer:
    """All four; what comes in one piece is that piece alone."""
    streamer: Streamer = request.param
    return streamer
