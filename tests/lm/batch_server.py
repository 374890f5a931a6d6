"""A provider's batch endpoints on this machine, in OpenAI's and Anthropic's shape, with faults on demand.

It keeps files and jobs, answers each request of a job as the live endpoint would, and counts what it would bill.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.lm.server import Quiet

Body = dict[str, Any]
Reply = tuple[int, Any]
Fault = Callable[["Handler"], bool]
"""Spoils one response; ``True`` when the work is to be done all the same (and only the response is lost)."""


def refuse(status: int, message: str = "refused", **headers: str) -> Fault:
    """An error in place of the work."""

    def fault(handler: Handler) -> bool:
        body = {"error": {"message": message, "type": "error", "code": None}}
        handler.reply(status, json.dumps(body).encode(), headers)
        return False

    return fault


def reset(handler: Handler) -> bool:
    """The connection breaks before anything is done."""
    handler.drop()
    return False


def reset_after(handler: Handler) -> bool:
    """The connection breaks when everything is done."""
    handler.lost = True
    return True


def cut_off(handler: Handler) -> bool:
    """The body ends in the middle, and the connection with it."""
    handler.cut = "connection"
    return True


def cut_short(handler: Handler) -> bool:
    """The body ends in the middle, and says that it is whole."""
    handler.cut = "silently"
    return True


class Hold:
    """Holds a request up, before anything is done for it or after all is, until it is let go; then it proceeds."""

    def __init__(self, *, after: bool) -> None:
        self.after = after
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, handler: Handler) -> bool:
        if self.after:
            handler.held = self
        else:
            self.wait()
        return True

    def wait(self) -> None:
        self.reached.set()
        self.let_go.wait()


class Job:
    def __init__(self, id: str, rows: list[Body], metadata: Body, endpoint: str) -> None:
        self.id = id
        self.rows = rows
        self.metadata = metadata
        self.endpoint = endpoint
        self.created = datetime.now(UTC)
        self.status = "in_progress"
        self.errors: list[Body] = []
        self.results: list[Body] = []
        self.failures: list[Body] = []
        self.polls = 0


class BatchServer:
    """``with BatchServer() as server:``; jobs end when they are asked for the ``polls``-th time, or by `end`.

    ``answer(body)`` gives the status and the body of one request, or a word for what became of it instead
    (``"expired"``, ``"canceled"``, ``"errored"``, ``"missing"``).
    """

    def __init__(self, *, polls: float = 2, answer: Callable[[Body], Reply | str] | None = None, port: int = 0) -> None:
        self.polls = polls
        self.answer = answer
        self.port = port
        self.lock = threading.RLock()
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}
        self.faults: dict[str, deque[Fault]] = {}
        self.seen: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.billed: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.submitted = threading.Event()
        self.fails: list[Body] = []
        self.shuffles = False
        self.live = 0

    def fault(self, operation: str, *faults: Fault) -> None:
        """Spoil the next requests of this kind: ``upload submit list poll results``."""
        self.faults.setdefault(operation, deque()).extend(faults)

    def __enter__(self) -> BatchServer:
        self._server = Quiet(("127.0.0.1", self.port), Handler)
        self._server.owner = self  # type: ignore[attr-defined]  # for the handler
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    # Work.

    def make(self, rows: list[Body], metadata: Body, endpoint: str) -> Job:
        with self.lock:
            job = Job(f"batch_{len(self.jobs) + 1}", rows, metadata, endpoint)
            self.jobs[job.id] = job
            self.submitted.set()
            if self.fails:
                job.status, job.errors = "failed", self.fails
                self.fails = []
            return job

    def look(self, job: Job) -> None:
        with self.lock:
            job.polls += 1
            if job.status == "in_progress" and job.polls >= self.polls:
                self.end(job)

    def end(self, job: Job) -> None:
        """Answer all its requests."""
        with self.lock:
            for row in job.rows:
                self._do(job, row)
            if self.shuffles:
                random.Random(0).shuffle(job.results)
                random.Random(0).shuffle(job.failures)
            job.status = "completed"

    def _do(self, job: Job, row: Body) -> None:
        body = row.get("params") or row["body"]
        text = text_of(body)
        self.asked[text] += 1
        made = self.answer(body) if self.answer is not None else (200, None)
        if made == "missing":
            return
        if not isinstance(made, str):
            status, answered = made
            if status == 200:
                self.billed[text] += 1
            if status == 200 and answered is None:
                answered = good(f"answer to {text}", job.endpoint)
            made = (status, answered)
        if job.endpoint == "/v1/messages":
            job.results.append({"custom_id": row["custom_id"], "result": _anthropic(made)})
            return
        if isinstance(made, str):
            code = {"expired": "batch_expired", "canceled": "batch_cancelled", "errored": "internal"}[made]
            job.failures.append(
                {"custom_id": row["custom_id"], "response": None, "error": {"code": code, "message": f"it {made}"}}
            )
            return
        status, answered = made
        done = {"custom_id": row["custom_id"], "response": {"status_code": status, "body": answered}, "error": None}
        (job.results if status == 200 else job.failures).append(done)


def text_of(body: Body) -> str:
    """What the last message says."""
    said = body.get("messages") or body.get("input") or [{"content": body.get("prompt")}]
    content = said[-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def good(text: str, endpoint: str = "/v1/chat/completions") -> Body:
    """A good answer of an endpoint: 12 tokens read, 3 written."""
    if endpoint == "/v1/messages":
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 12, "output_tokens": 3},
        }
    if endpoint == "/v1/responses":
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "1", "role": "assistant", "status": "completed", "content": [part]}
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": "served",
            "output": [item],
            "parallel_tool_calls": True,
            "tools": [],
            "tool_choice": "auto",
            "usage": {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15},
        }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
    }


def _anthropic(made: Reply | str) -> Body:
    if isinstance(made, str):
        if made == "errored":
            return {"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "broke"}}}
        return {"type": made}
    status, body = made
    if status == 200:
        return {"type": "succeeded", "message": body}
    return {"type": "errored", "error": body}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    lost = False
    cut = ""
    held: Hold | None = None

    @property
    def owner(self) -> BatchServer:
        return self.server.owner  # type: ignore[attr-defined, no-any-return]  # set by the server

    def do_POST(self) -> None:
        self._serve("POST")

    def do_GET(self) -> None:
        self._serve("GET")

    def _serve(self, method: str) -> None:
        self.lost, self.cut, self.held = False, "", None
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        operation, work = self._route(method, url.path, data, query)
        owner = self.owner
        with owner.lock:
            owner.seen.append(operation)
            owner.headers.append({name.lower(): value for name, value in self.headers.items()})
            waiting = owner.faults.get(operation)
            fault = waiting.popleft() if waiting else None
        if fault is not None and not fault(self):
            return
        status, body = work()
        if self.held is not None:
            self.held.wait()
        if self.lost:
            self.drop()
            return
        with suppress(ConnectionError):  # whoever asked may have been killed
            self.reply(status, body if isinstance(body, bytes) else json.dumps(body).encode())

    def _route(self, method: str, path: str, data: bytes, query: Body) -> tuple[str, Callable[[], tuple[int, Any]]]:
        owner = self.owner
        parts = path.strip("/").split("/")
        if method == "POST" and parts == ["v1", "files"]:
            return "upload", lambda: self._upload(data)
        if method == "POST" and parts == ["v1", "batches"]:
            return "submit", lambda: self._submit(json.loads(data))
        if method == "POST" and parts == ["v1", "messages", "batches"]:
            return "submit", lambda: self._submit_messages(json.loads(data))
        if method == "GET" and parts[-1] == "batches":
            return "list", lambda: self._list(parts[1] == "messages", query)
        if method == "GET" and parts[-1] in ("content", "results"):
            return "results", lambda: self._results(parts)
        if method == "GET" and "batches" in parts:
            return "poll", lambda: self._poll(parts)
        if method == "POST" and path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
            owner.live += 1
            return "live", lambda: (200, good(f"answer to {text_of(json.loads(data))}", path))
        return "other", lambda: (404, {"error": {"message": "no such thing"}})

    def _upload(self, data: bytes) -> tuple[int, Any]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form: Any = BytesParser(policy=HTTP).parsebytes(head + data)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        assert parts["purpose"].get_payload() == "batch"
        owner = self.owner
        with owner.lock:
            id = f"file_{len(owner.files) + 1}"
            owner.files[id] = parts["file"].get_payload(decode=True)
        return 200, {"id": id, "object": "file", "purpose": "batch"}

    def _submit(self, body: Body) -> tuple[int, Any]:
        rows = [json.loads(line) for line in self.owner.files[body["input_file_id"]].splitlines()]
        assert body["completion_window"] == "24h"
        assert {row["url"] for row in rows} == {body["endpoint"]}
        assert len({row["custom_id"] for row in rows}) == len(rows)
        assert len({row["body"]["model"] for row in rows}) == 1
        return 200, self._job(self.owner.make(rows, body.get("metadata") or {}, body["endpoint"]))

    def _submit_messages(self, body: Body) -> tuple[int, Any]:
        rows = body["requests"]
        assert all(len(row["custom_id"]) <= 64 for row in rows)
        assert len({row["custom_id"] for row in rows}) == len(rows)
        return 200, self._message_job(self.owner.make(rows, {}, "/v1/messages"))

    def _list(self, messages: bool, query: Body) -> tuple[int, Any]:
        owner = self.owner
        jobs = [job for job in reversed(list(owner.jobs.values())) if (job.endpoint == "/v1/messages") is messages]
        after = query.get("after_id") or query.get("after")
        if after:
            jobs = jobs[[job.id for job in jobs].index(after) + 1 :]
        page, more = jobs[:2], len(jobs) > 2
        shown = [self._message_job(job) if messages else self._job(job) for job in page]
        return 200, {"data": shown, "has_more": more}

    def _poll(self, parts: list[str]) -> tuple[int, Any]:
        job = self.owner.jobs.get(parts[-1])
        if job is None:
            return 404, {"error": {"message": f"No batch found with id '{parts[-1]}'."}}
        self.owner.look(job)
        return 200, self._message_job(job) if "messages" in parts else self._job(job)

    def _results(self, parts: list[str]) -> tuple[int, Any]:
        # ".../batches/ID/results", or "/files/results_ID/content" and "/files/failures_ID/content".
        kind, _, id = parts[-2].partition("_") if parts[-1] == "content" else ("results", "", parts[-2])
        job = self.owner.jobs[id]
        rows = job.results if kind == "results" else job.failures
        return 200, "".join(json.dumps(row) + "\n" for row in rows).encode()

    def _job(self, job: Job) -> Body:
        ended = job.status in ("completed", "expired", "cancelled")
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.endpoint,
            "status": job.status,
            "errors": {"data": job.errors} if job.errors else None,
            "output_file_id": f"results_{job.id}" if ended and job.results else None,
            "error_file_id": f"failures_{job.id}" if ended and job.failures else None,
            "created_at": int(job.created.timestamp()),
            "metadata": job.metadata,
            "request_counts": {
                "total": len(job.rows),
                "completed": len(job.results) if ended else 0,
                "failed": len(job.failures) if ended else 0,
            },
        }

    def _message_job(self, job: Job) -> Body:
        ended = job.status == "completed"
        kinds = Counter(row["result"]["type"] for row in job.results)
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "created_at": job.created.isoformat().replace("+00:00", "Z"),
            "request_counts": {
                "processing": 0 if ended else len(job.rows),
                "succeeded": kinds["succeeded"],
                "errored": kinds["errored"],
                "canceled": kinds["canceled"],
                "expired": kinds["expired"],
            },
            "results_url": "https://example.invalid/elsewhere",
        }

    def reply(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name.replace("_", "-"), value)
        shown = data[: len(data) // 2] if self.cut else data
        self.send_header("Content-Length", str(len(shown if self.cut == "silently" else data)))
        self.end_headers()
        self.wfile.write(shown)
        if self.cut == "connection":
            self.drop()

    def drop(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


def rows_of(server: BatchServer) -> Iterator[Body]:
    """Every request in every job."""
    for job in server.jobs.values():
        yield from job.rows
