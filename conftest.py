"""Isolation for every test and every example in a docstring: no network, no keys, no files left behind."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Type checkers read them; they are never run.
collect_ignore_glob = ["tests/typing_examples/*"]

_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
_LOCAL_NAMES = {"localhost", "", None}


class NetworkBlockedError(RuntimeError):
    """A test reached for the real network."""


def _is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        return False


def pytest_configure() -> None:
    # What a shell starts in the background ignores Ctrl-C, and so would all that the tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes is a matter of the machine.
    hypothesis.settings.register_profile("dspex", deadline=None)
    hypothesis.settings.load_profile("dspex")


@pytest.fixture(autouse=True)
def isolated(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test runs in a directory and with a cache of its own, and fails if it reaches past this machine.

    Loopback works, so a test may start a server of its own. The attempt is recorded too, because the code
    under test may well catch the error.
    """
    attempts: list[str] = []

    def refuse(host: object) -> None:
        if not _is_local(host):
            attempts.append(repr(host))
            raise NetworkBlockedError(f"tests cannot reach {host!r}; use dspex.MockLM, or a server on 127.0.0.1")

    def guarded(method: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(address[0])
            return method(self, address)

        return connect

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        refuse(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for name in os.environ:
        if name.endswith("_API_KEY") or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("DSPEX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield
    if attempts:
        pytest.fail(f"{request.node.name} reached for the network: {', '.join(attempts)}", pytrace=False)
