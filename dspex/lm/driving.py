"""The drivers of a call's `flow`: blocking, awaiting, and each of them piece by piece."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

from dspex.errors import LMServerError
from dspex.execution.run import Run
from dspex.lm.flow import Flow
from dspex.lm.streams import Delta, Restart, StreamEvent, deltas_of
from dspex.lm.types import LMRequest, LMResponse

if TYPE_CHECKING:
    from dspex.lm.base import BaseLM

__all__ = ["adrive", "adrive_stream", "drive", "drive_stream"]


def drive(steps: Flow, run: Run | None) -> LMResponse:
    """Do each step on this thread."""
    try:
        step = next(steps)
        while True:
            answer = None
            try:
                if type(step) is tuple:
                    lm, request, timeout = step
                    answer = lm._send(request, timeout)
                else:
                    step.block(run)  # type: ignore[union-attr]  # what is no tuple is a wait
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        response: LMResponse = stop.value
        return response


async def adrive(steps: Flow, run: Run | None) -> LMResponse:
    """Await each step in this task."""
    try:
        step = next(steps)
        while True:
            answer = None
            try:
                if type(step) is tuple:
                    lm, request, timeout = step
                    if timeout is None or lm.keeps_time:
                        answer = await lm._asend(request, timeout)
                    else:
                        answer = await _timed(lm, request, timeout)
                else:
                    await step.wait(run)  # type: ignore[union-attr]  # what is no tuple is a wait
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        response: LMResponse = stop.value
        return response


def drive_stream(steps: Flow, run: Run | None) -> Generator[StreamEvent, None, None]:
    """As `drive`, yielding what comes; closing it ends the call."""
    shown = False  # whether the present attempt has shown anything
    try:
        step = next(steps)
        while True:
            answer = None
            try:
                if type(step) is tuple:
                    lm, request, timeout = step
                    with closing(lm._stream(request, timeout)) as stream:
                        for event in stream:
                            if isinstance(event, LMResponse):
                                answer = event
                            else:
                                shown = True
                                yield event
                    if answer is None:
                        raise _cut_off(lm)
                else:
                    step.block(run)  # type: ignore[union-attr]  # what is no tuple is a wait
            except BaseException as error:
                step = steps.throw(error)
                if shown:
                    yield Restart(str(error))
                    shown = False
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        response: LMResponse = stop.value
    finally:
        steps.close()
    if not shown:
        yield from deltas_of(response)
    yield response


async def adrive_stream(steps: Flow, run: Run | None) -> AsyncGenerator[StreamEvent, None]:
    """As `adrive`, yielding what comes; closing it ends the call."""
    shown = False
    try:
        step = next(steps)
        while True:
            answer = None
            try:
                if type(step) is tuple:
                    lm, request, timeout = step
                    async with aclosing(_timed_stream(lm, request, timeout)) as stream:
                        async for event in stream:
                            if isinstance(event, LMResponse):
                                answer = event
                            else:
                                shown = True
                                yield event
                    if answer is None:
                        raise _cut_off(lm)
                else:
                    await step.wait(run)  # type: ignore[union-attr]  # what is no tuple is a wait
            except BaseException as error:
                step = steps.throw(error)
                if shown:
                    yield Restart(str(error))
                    shown = False
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        response: LMResponse = stop.value
    finally:
        steps.close()
    if not shown:
        for delta in deltas_of(response):
            yield delta
    yield response


async def _timed(lm: BaseLM, request: LMRequest, timeout: float) -> LMResponse:
    import asyncio

    scope = asyncio.timeout(timeout)
    try:
        async with scope:
            return await lm._asend(request, timeout)
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise lm._late(timeout) from error


async def _timed_stream(
    lm: BaseLM, request: LMRequest, timeout: float | None
) -> AsyncGenerator[Delta | LMResponse, None]:
    """What ``lm`` streams; only the time spent waiting for it counts, not what the consumer does in between."""
    import asyncio

    left = timeout
    async with aclosing(lm._astream(request, timeout)) as stream:
        while True:
            began = time.monotonic()
            scope = asyncio.timeout(left)
            try:
                async with scope:
                    event = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                if not scope.expired():
                    raise
                raise lm._late(timeout) from error
            if left is not None:
                left = max(0.0, left - (time.monotonic() - began))
            yield event


def _cut_off(lm: BaseLM) -> LMServerError:
    return LMServerError(f"{lm.model} ended its stream before the answer was complete", model=lm.model, billed=True)
