"""A server on this machine that speaks OpenAI's chat protocol, and misbehaves when told to."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[["Handler"], None]


def answer(text: str = "Paris", *, read: int = 12, written: int = 3, **changes: Any) -> Reply:
    """A good answer."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
        **changes,
    }
    return send(200, {name: value for name, value in body.items() if value is not None})


def refuse(status: int, message: str = "refused", *, headers: Mapping[str, str] | None = None, **error: Any) -> Reply:
    """An error in OpenAI's format."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": None, **error}}
    return send(status, body, headers)


def send(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """A body as it is, or as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def reply(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return reply


def slow(seconds: float, then: Reply | None = None) -> Reply:
    """A pause in the middle of the response."""

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"id": ')
        handler.wfile.flush()
        handler.server.stopping.wait(seconds)  # type: ignore[attr-defined]  # set below
        handler.close_connection = True

    return reply


def trickle(handler: Handler) -> None:
    """A body that never ends, a byte now and then, so that no single read takes long."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.stopping.wait(0.05):  # type: ignore[attr-defined]  # set below
        handler.wfile.write(b" ")
        handler.wfile.flush()


def sse(events: Iterable[Mapping[str, Any]], *, ends: bool = True, drops: bool = False) -> Reply:
    """A stream of server-sent events; one that does not end breaks off, politely or not."""

    def reply(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            piece = f"{name}data: {json.dumps(event)}\n\n".encode()
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            handler.wfile.flush()
        if drops:
            drop(handler)
            return
        if ends:
            handler.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    return reply


def chunk(delta: Mapping[str, Any] | None = None, finish_reason: str | None = None, **changes: Any) -> dict[str, Any]:
    """One event of a streamed chat answer."""
    choice = {"index": 0, "delta": dict(delta or {}), "finish_reason": finish_reason}
    start = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    return {**start, "choices": [choice], **changes}


def drop(handler: Handler) -> None:
    """The connection closed without a response."""
    handler.close_connection = True
    handler.connection.close()


def reset(handler: Handler) -> None:
    """The connection reset without a response."""
    linger = struct.pack("ii", 1, 0)  # for no time: then closing is resetting
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    drop(handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        owner: Server = self.server.owner  # type: ignore[attr-defined]  # set below
        with owner.lock:
            owner.requests.append(body)
            owner.paths.append(self.path)
            owner.headers.append({name.lower(): value for name, value in self.headers.items()})
            owner.times.append(time.monotonic())
            reply = owner.replies.popleft() if owner.replies else owner.otherwise
        try:
            reply(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # connections are dropped on purpose


class Server:
    """``with Server(reply, ...) as server:`` gives these replies in order, and then ``otherwise``."""

    def __init__(self, *replies: Reply, otherwise: Reply | None = None) -> None:
        self.replies = deque(replies)
        self.otherwise = otherwise or answer()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.lock = threading.Lock()

    def __enter__(self) -> Server:
        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.owner = self  # type: ignore[attr-defined]  # for the handler
        self._server.stopping = threading.Event()  # type: ignore[attr-defined]  # likewise
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stopping.set()  # type: ignore[attr-defined]  # as above
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"
