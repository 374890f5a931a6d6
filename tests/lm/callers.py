"""The ways in which a model is called, each a function of the same arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dspex.execution import Run
from dspex.lm import BaseLM, LMRequest, LMResponse

ASK = LMRequest.of("Capital of France?")

Caller = Callable[..., LMResponse]
"""Gives the whole response."""

Streamer = Callable[..., list[Any]]
"""Gives the deltas, if any, and last the whole response."""


def blocking(lm: BaseLM, request: LMRequest = ASK, run: Run | None = None) -> LMResponse:
    return lm.generate(request, run)


def awaiting(lm: BaseLM, request: LMRequest = ASK, run: Run | None = None) -> LMResponse:
    return asyncio.run(lm.agenerate(request, run))


def streaming(lm: BaseLM, request: LMRequest = ASK, run: Run | None = None) -> list[Any]:
    return list(lm.stream(request, run))


def astreaming(lm: BaseLM, request: LMRequest = ASK, run: Run | None = None) -> list[Any]:
    async def main() -> list[Any]:
        return [event async for event in lm.astream(request, run)]

    return asyncio.run(main())


def whole(lm: BaseLM, request: LMRequest = ASK, run: Run | None = None) -> list[Any]:
    return [blocking(lm, request, run)]


def awhole(lm: BaseLM, request: LMRequest = ASK, run: Run | None = None) -> list[Any]:
    return [awaiting(lm, request, run)]


CALLERS = [blocking, awaiting]
STREAMERS = [streaming, astreaming]
WAYS = [whole, awhole, streaming, astreaming]
