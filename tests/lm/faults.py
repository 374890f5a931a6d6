"""A provider that fails at random and keeps books: what it did with each request, and what it would bill.

It speaks OpenAI's chat protocol over real HTTP, one event loop in a thread of its own, or in a process
(``python -m tests.lm.faults``). What happens to a request is decided by the seed, the request's text and how often that
text was asked, so that a run can be repeated. Texts are the ids of calls: each call has to have one of its own. The
header ``X-Attempt`` tells the attempts apart that a client makes at a call.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
import threading
from collections import Counter
from typing import Any

SLOW = 300.0
"""Seconds of a slow body: longer than anybody waits."""

# Share of each fault among all requests, and whether the model had worked for it (so that it may be billed).
MIX = {
    "limit": (0.03, False),
    "limit with Retry-After": (0.03, False),
    "error 500": (0.04, False),
    "error 503": (0.02, False),
    "reset": (0.015, True),
    "drop": (0.015, True),
    "malformed": (0.02, True),
    "truncated": (0.02, True),
    "slow": (0.002, True),
}
# And of all texts, those that are refused each time.
FINAL = {"content filter": 0.01, "context window": 0.01}


def expected(text: str) -> tuple[str, int, int]:
    """The right answer to ``text``, and the tokens it reads and writes."""
    return f"answer to {text}", 10 + len(text), 5 + len(text) % 7


class Books:
    """What was done: of each request in order, the text, the attempt's number (None without) and the outcome."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.requests: list[tuple[str, int | None, str]] = []

    def enter(self, text: str, attempt: str | None, outcome: str) -> None:
        self.asked[text] += 1
        self.requests.append((text, None if attempt is None else int(attempt), outcome))


class FaultServer:
    """``with FaultServer(seed=0, share=1.0) as server:``; ``share`` scales how often it fails, never ``without``."""

    def __init__(
        self, *, seed: int = 0, share: float = 1.0, without: str = "", latency: float = 0.002, port: int = 0
    ) -> None:
        self.mix = {name: part for name, (part, _) in MIX.items() if name != without}
        self.seed = seed
        self.share = share
        self.latency = latency
        self.port = port
        self.books = Books()

    # One request.

    def fate(self, text: str) -> str:
        """What happens to this request for ``text``."""
        chance = random.Random(f"{self.seed} {text}").random()
        for name, part in FINAL.items():
            if (chance := chance - part * self.share) < 0:
                return name
        chance = random.Random(f"{self.seed} {text} {self.books.asked[text]}").random()
        for name, part in self.mix.items():
            if (chance := chance - part * self.share) < 0:
                return name
        return "answered"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or the server ends
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if lines[0].startswith("GET"):
            self._send(writer, 200, json.dumps(self.books.requests).encode())
            await writer.drain()
            return True
        request = json.loads(body)
        text = request["messages"][-1]["content"]
        fate = self.fate(text)
        self.books.enter(text, headers.get("x-attempt"), fate)
        await asyncio.sleep(self.latency)
        stay = await getattr(self, f"_do_{fate.partition(' ')[0]}")(writer, request, fate, text)
        await writer.drain()
        return bool(stay)

    def _send(self, writer: Any, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        writer.write(head.encode() + body)

    def _refuse(self, writer: Any, status: int, message: str, code: str, headers: Any = None) -> bool:
        error = {"message": message, "type": "error", "param": None, "code": code}
        self._send(writer, status, json.dumps({"error": error}).encode(), headers)
        return True

    async def _do_limit(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        wish = {"Retry-After": "0.02"} if "Retry-After" in fate else None
        return self._refuse(writer, 429, "slow down", "rate_limit_exceeded", wish)

    async def _do_error(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        return self._refuse(writer, int(fate.split()[1]), "out of order", "server_error")

    async def _do_content(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        return self._refuse(writer, 400, "blocked by content_policy_violation", "content_policy_violation")

    async def _do_context(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        return self._refuse(writer, 400, "maximum context length is 10 tokens", "context_length_exceeded")

    async def _do_reset(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        # To linger for no time is to reset; else it would be a polite end.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False

    async def _do_drop(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        return False

    async def _do_malformed(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        self._send(writer, 200, b'{"id": "x", "choices": [{"message": {"content": "ans')
        return True

    async def _do_truncated(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        if request.get("stream"):
            self._begin_stream(writer)
            for chunk in self._chunks(text)[:-2]:
                self._piece(writer, chunk)
            writer.write(b"0\r\n\r\n")
            return True
        body = json.dumps(self._answer(text)).encode()
        writer.write(
            b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body[: len(body) // 2]
        )
        return False

    async def _do_slow(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        writer.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(SLOW)
        return False

    async def _do_answered(self, writer: Any, request: Any, fate: str, text: str) -> bool:
        if not request.get("stream"):
            self._send(writer, 200, json.dumps(self._answer(text)).encode())
            return True
        self._begin_stream(writer)
        for chunk in self._chunks(text):
            self._piece(writer, chunk)
            await writer.drain()
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        return True

    def _begin_stream(self, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    def _piece(self, writer: Any, chunk: dict[str, Any]) -> None:
        data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _usage(self, text: str) -> dict[str, int]:
        _, read, written = expected(text)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _answer(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": expected(text)[0]}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "served",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": self._usage(text),
        }

    def _chunks(self, text: str) -> list[dict[str, Any]]:
        start = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "served"}
        pieces = expected(text)[0].split(" ")
        deltas = [{"content": piece if not index else f" {piece}"} for index, piece in enumerate(pieces)]
        chunks = [{**start, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks.append({**start, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        chunks.append({**start, "choices": [], "usage": self._usage(text)})
        return chunks

    # Its life.

    async def run(self, started: Any = None) -> None:
        server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if started is not None:
            started()
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def __enter__(self) -> FaultServer:
        ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self.run(ready.set),), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


if __name__ == "__main__":
    server = FaultServer(seed=int(sys.argv[1]), share=float(sys.argv[2]))
    asyncio.run(server.run(lambda: print(server.url, flush=True)))  # noqa: T201 - how the parent learns the address
