"""What stands in for the network in a batched call, and the way to the batch endpoint.

litellm makes a live call with a client of ours. Its HTTP request ends at a `Letterbox`, which keeps it until the
job's result is there and gives that back as the HTTP response. So a batched request has the very body of a live one,
its credentials and its address, and its answer, or refusal, is read by what reads live ones.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import attrs
import httpx

from dspex.lm.batch_shapes import Missing
from dspex.lm.lm import LM
from dspex.lm.secrets import scrub, secret_values
from dspex.lm.types import LMRequest

__all__ = ["HTTPDesk", "Letterbox", "Sent", "client_of", "posting"]

_ENDPOINTS = ("/chat/completions", "/completions", "/responses", "/messages")
_LONGEST_UPLOAD = 600.0

# What belongs to one connection or one body, or names the client's build.
_OWN_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}


@attrs.frozen
class Sent:
    """A live call's HTTP request: where to (``base`` and ``endpoint``), with which ``headers``, and its body."""

    base: str = attrs.field(repr=False)  # may hold a password
    endpoint: str
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, request: httpx.Request, body: bytes) -> Sent:
        """``request``, taken apart."""
        url = str(request.url.copy_with(query=None))
        suffix = next(one for one in _ENDPOINTS if url.endswith(one))
        headers = tuple(
            sorted(
                (name, value)
                for name, value in request.headers.items()
                if name not in _OWN_HEADERS and not name.startswith("x-stainless")
            )
        )
        return cls(url.removesuffix(suffix), f"/v1{suffix}", headers, body)

    def untold(self, lm: LM) -> list[str]:
        """The secrets of ``lm``, and those that are in the headers, which a provider may repeat in what it says."""
        return [*lm._untold(), *secret_values({name.replace("-", "_"): value for name, value in self.headers})]


posting: ContextVar[Callable[[Sent], Awaitable[Mapping[str, Any]]]] = ContextVar("dspex_posting")
"""What becomes of a request that this task's call sends: gives ``{"status", "body"}``."""


batched_client: ContextVar[Any] = ContextVar("dspex_batched_client", default=None)
"""The client of the batched call that this task makes."""


def _keep_from_the_network() -> None:
    """Let what litellm asks in the course of a batched call end at the letterbox, also where it forgets the client.

    It decides only as it goes which interface a request needs (for some models the responses interface serves a
    chat request), and then takes a client of its own: the request would go out live, at the full price.
    """
    from litellm.llms.custom_httpx import llm_http_handler

    module: Any = llm_http_handler
    usual = getattr(module, "get_async_httpx_client", None)
    if usual is None:  # another litellm than those we know; what escapes is noticed and billed in full
        return
    if not hasattr(usual, "dspex"):

        def found(*args: Any, **keywords: Any) -> Any:
            return batched_client.get() or usual(*args, **keywords)

        found.dspex = True  # type: ignore[attr-defined]  # marks it as done
        module.get_async_httpx_client = found


class Letterbox(httpx.AsyncBaseTransport):
    """Takes requests where the network would, and gives what `posting` makes of them."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The response, when it is there."""
        result = await posting.get()(Sent.of(request, await request.aread()))
        return httpx.Response(result["status"], json=result["body"], request=request)


def client_of(lm: LM) -> Any:
    """The client that litellm is to use for ``lm``; its requests end at a letterbox. Raises `LMAuthError`."""
    litellm, arguments = lm._prepared(LMRequest.of("-"), None)
    import openai
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    class Client(AsyncHTTPHandler):
        """Of both kinds that litellm takes: one of its own, and OpenAI's."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sdk, name)

    letterbox = httpx.AsyncClient(transport=Letterbox())
    # A client that is given is used as it is, so it must know what litellm would have found out.
    environ = os.environ.get
    sdk = openai.AsyncOpenAI(
        api_key=arguments.get("api_key")
        or litellm.api_key
        or litellm.openai_key
        or environ("OPENAI_API_KEY")
        or "none",
        base_url=arguments.get("api_base")
        or litellm.api_base
        or environ("OPENAI_BASE_URL")
        or environ("OPENAI_API_BASE"),
        http_client=letterbox,
        max_retries=0,
    )
    _keep_from_the_network()
    client = Client()
    client.client = letterbox
    return client


class HTTPDesk:
    """The batch endpoint beside the address that a live call goes to, with its credentials.

    ``async with`` it, on one event loop.
    """

    def __init__(self, lm: LM, sent: Sent) -> None:
        self.base = sent.base
        self._lm = lm
        self._sent = sent
        self._headers = dict(sent.headers)

    async def __aenter__(self) -> HTTPDesk:
        patience = self._lm.timeout
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(patience, write=_LONGEST_UPLOAD, connect=10.0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

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
        more: dict[str, Any] = {"params": query} if query else {}
        headers = self._headers
        if file is not None:
            more.update(files={"file": (name, file, "application/jsonl")}, data={"purpose": "batch"})
        elif isinstance(body, bytes):
            more["content"] = body
            headers = {**headers, "content-type": "application/json"}
        elif body is not None:
            more["json"] = body
        failed: Exception
        try:
            response = await self._http.request(method, self.base + path, headers=headers, **more)
        except httpx.HTTPError as error:
            failed = error
        else:
            if response.is_success:
                return response.content
            if response.status_code == 404:
                raise Missing(scrub(response.text, self._sent.untold(self._lm))[:300])
            failed = _Refused(response)
        raise self._lm._translated(failed, self._lm.timeout)


class _Refused(Exception):  # noqa: N818 - never leaves this room
    """What the endpoint refused, as litellm's errors are read."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.text[:2000])
        self.status_code = response.status_code
        self.response = response
