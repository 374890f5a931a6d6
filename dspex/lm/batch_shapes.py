"""The two shapes of batch endpoints: OpenAI's (files and batches) and Anthropic's (message batches).

A shape submits requests as one job, finds a job that was submitted, asks how it stands, and gets its results. It
speaks through a `Desk`, which has the address and the credentials that live calls have.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import quote

import attrs

__all__ = ["SHAPES", "Desk", "Missing", "Shape", "State", "result_failed"]

_CLOCKS = 600.0
"""Seconds by which two clocks may differ."""

_LISTED = 100


class Missing(Exception):  # noqa: N818 - says what happened; never leaves this room
    """The provider knows no such job or file."""


class Desk(Protocol):
    """Where a job is handed in."""

    base: str
    """The address of the interface, without a slash at the end."""

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        file: bytes | None = None,
        name: str = "",
        query: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The body of the response; raises an `LMError`, or `Missing` for 404."""
        ...


@attrs.frozen(kw_only=True)
class State:
    """How a job stands: ``"running"``, ``"ended"`` or ``"failed"`` as a whole, with ``note`` saying why.

    ``files`` are where its results are, ``expected`` how many there should be (``None`` when it does not say).
    """

    kind: Literal["running", "ended", "failed"]
    note: str = ""
    files: tuple[str, ...] = ()
    expected: int | None = None


def result_failed(kind: str, message: str) -> dict[str, Any]:
    """A result of a request that has no response: ``"expired"``, ``"canceled"``, ``"lost"`` or ``"errored"``."""
    return {"failed": kind, "message": message}


class Shape(ABC):
    """One kind of batch endpoint."""

    name: ClassVar[str]
    max_requests: ClassVar[int]
    max_bytes: ClassVar[int]

    @abstractmethod
    def entry(self, id: str, endpoint: str, body: bytes) -> bytes:
        """One request, as it stands in a job. ``body`` is the JSON of a live call."""

    @abstractmethod
    async def submit(self, desk: Desk, name: str, endpoint: str, entries: Sequence[bytes]) -> str:
        """Hand in a job; its id."""

    @abstractmethod
    def candidates(self, desk: Desk, name: str, requests: int, since: float) -> AsyncIterator[str]:
        """The ids of jobs that may be the one called ``name``, submitted after ``since``; the surest first."""

    certain: ClassVar[bool]
    """Whether a candidate is the job; otherwise its results tell, by the ids of the requests."""

    @abstractmethod
    async def state(self, desk: Desk, id: str) -> State:
        """How the job stands."""

    async def results(self, desk: Desk, state: State) -> dict[str, dict[str, Any]]:
        """By id of the request: ``{"status", "body"}`` of a response, or `result_failed`.

        Lines that cannot be read are left out.
        """
        found: dict[str, dict[str, Any]] = {}
        for file in state.files:
            for line in (await desk.send("GET", file)).splitlines():
                try:
                    row = json.loads(line)
                    found[row["custom_id"]] = self._result(row)
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
        return found

    @abstractmethod
    def _result(self, row: dict[str, Any]) -> dict[str, Any]:
        """One line of the results."""


class OpenAIShape(Shape):
    """``/files`` and ``/batches``. The job's name is in its metadata."""

    name = "openai"
    max_requests = 50_000
    max_bytes = 200 * 1024 * 1024
    certain = True

    def entry(self, id: str, endpoint: str, body: bytes) -> bytes:
        head = json.dumps({"custom_id": id, "method": "POST", "url": endpoint})
        return head[:-1].encode() + b', "body": ' + body + b"}\n"

    async def submit(self, desk: Desk, name: str, endpoint: str, entries: Sequence[bytes]) -> str:
        file = json.loads(await desk.send("POST", "/files", file=b"".join(entries), name=f"dspex-{name}.jsonl"))["id"]
        body = {
            "input_file_id": file,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {"dspex": name},
        }
        return str(json.loads(await desk.send("POST", "/batches", body=body))["id"])

    async def candidates(self, desk: Desk, name: str, requests: int, since: float) -> AsyncIterator[str]:
        query: dict[str, Any] = {"limit": _LISTED}
        while True:
            page = json.loads(await desk.send("GET", "/batches", query=query))
            jobs = page.get("data") or []
            for job in jobs:
                if (job.get("metadata") or {}).get("dspex") == name:
                    yield str(job["id"])
            # Newest first.
            if not jobs or not page.get("has_more") or jobs[-1].get("created_at", 0) < since - _CLOCKS:
                return
            query["after"] = jobs[-1]["id"]

    async def state(self, desk: Desk, id: str) -> State:
        job = json.loads(await desk.send("GET", f"/batches/{quote(id, safe='')}"))
        status = job.get("status")
        counts = job.get("request_counts") or {}
        if status == "failed":
            errors = (job.get("errors") or {}).get("data") or []
            said = "; ".join(f"{one.get('code')}: {one.get('message')}" for one in errors[:3])
            return State(kind="failed", note=said or "it does not say why")
        if status not in ("completed", "expired", "cancelled"):
            return State(kind="running")
        files = [job.get("output_file_id"), job.get("error_file_id")]
        done = (counts.get("completed") or 0) + (counts.get("failed") or 0)
        paths = tuple(f"/files/{quote(file, safe='')}/content" for file in files if file)
        return State(kind="ended", note=status, files=paths, expected=done if status == "completed" else None)

    def _result(self, row: dict[str, Any]) -> dict[str, Any]:
        if response := row.get("response"):
            return {"status": int(response["status_code"]), "body": response["body"]}
        error = row["error"]
        code = str(error.get("code"))
        kind = {"batch_expired": "expired", "batch_cancelled": "canceled"}.get(code, "errored")
        return result_failed(kind, f"{code}: {error.get('message')}")


class AnthropicShape(Shape):
    """``/messages/batches``. A job has no name: it is known by its size, its time, and at its end by its requests."""

    name = "anthropic"
    max_requests = 100_000
    max_bytes = 256 * 1024 * 1024
    certain = False

    _STATUS: ClassVar[Mapping[str, int]] = {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "timeout_error": 504,
        "overloaded_error": 529,
    }

    def entry(self, id: str, endpoint: str, body: bytes) -> bytes:
        return b'{"custom_id": ' + json.dumps(id).encode() + b', "params": ' + body + b"}"

    async def submit(self, desk: Desk, name: str, endpoint: str, entries: Sequence[bytes]) -> str:
        body = b'{"requests": [' + b",".join(entries) + b"]}"
        return str(json.loads(await desk.send("POST", "/messages/batches", body=body))["id"])

    async def candidates(self, desk: Desk, name: str, requests: int, since: float) -> AsyncIterator[str]:
        query: dict[str, Any] = {"limit": _LISTED}
        while True:
            page = json.loads(await desk.send("GET", "/messages/batches", query=query))
            jobs = page.get("data") or []
            created = since
            for job in jobs:
                created = datetime.fromisoformat(job["created_at"]).timestamp()
                if created >= since - _CLOCKS and sum((job.get("request_counts") or {}).values()) == requests:
                    yield str(job["id"])
            if not jobs or not page.get("has_more") or created < since - _CLOCKS:
                return
            query["after_id"] = jobs[-1]["id"]

    async def state(self, desk: Desk, id: str) -> State:
        job = json.loads(await desk.send("GET", f"/messages/batches/{quote(id, safe='')}"))
        if job.get("processing_status") != "ended":
            return State(kind="running")
        if job.get("archived_at"):
            return State(kind="failed", note="its results are no longer kept")
        # Not `results_url`: credentials go where they always go, whatever a response says.
        path = f"/messages/batches/{quote(id, safe='')}/results"
        return State(kind="ended", files=(path,), expected=sum((job.get("request_counts") or {}).values()))

    def _result(self, row: dict[str, Any]) -> dict[str, Any]:
        result = row["result"]
        kind = result["type"]
        if kind == "succeeded":
            return {"status": 200, "body": result["message"]}
        if kind in ("expired", "canceled"):
            return result_failed(kind, kind)
        error = result["error"]
        said = (error.get("error") or error).get("type")
        return {"status": self._STATUS.get(said, 500), "body": error if "error" in error else {"error": error}}


SHAPES: Mapping[str, Shape] = {"openai": OpenAIShape(), "anthropic": AnthropicShape()}
"""By litellm's name of the provider."""
