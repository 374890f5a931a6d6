"""The promises of the root conftest: tests cannot reach the network, and leave nothing behind."""

from __future__ import annotations

import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]


def test_a_server_on_this_machine_can_be_reached() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with urllib.request.urlopen(f"http://localhost:{server.server_port}/") as response:
            assert response.status == 204
        thread.join()


def test_reaching_out_fails_the_test_even_when_the_error_is_caught(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "conftest.py").read_text("utf-8"))
    pytester.makepyfile(
        """
        import contextlib, socket, pytest

        def test_by_address():
            with contextlib.suppress(Exception):
                socket.create_connection(("192.0.2.1", 80), timeout=1)

        def test_by_name():
            with contextlib.suppress(Exception):
                socket.getaddrinfo("example.org", 443)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*test_by_address reached for the network: '192.0.2.1'*"])
    result.stdout.fnmatch_lines(["*test_by_name reached for the network: 'example.org'*"])


def test_each_test_has_its_own_directory_and_cache(tmp_path: Path) -> None:
    assert Path.cwd() == tmp_path
    assert Path(os.environ["DSPEX_CACHE_DIR"]).parent == tmp_path


def test_no_key_of_the_developer_is_seen() -> None:
    assert not [name for name in os.environ if name.endswith("_API_KEY")]
