"""The drivers of a call's `flow`: blocking, awaiting, and each of them piece by piece."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import aclosing, closing, suppress
from typing import TYPE_CHECKING, TypeVar

from dspex.errors import LMServerError
from dspex.execution.active import activate, deactivate
from dspex.execution.giving_up import end_on_cancel, give_up_on_cancel
from dspex.execution.run import Run
from dspex.lm.flow import Flow
from dspex.lm.streams import Delta, Restart, StreamEvent, deltas_of
from dspex.lm.types import LMRequest, LMResponse

if TYPE_CHECKING:
    from dspex.lm.base import BaseLM

__all__ = ["adrive", "adrive_stream", "drive", "drive_stream"]

R = TypeVar("R")


def drive(steps: Flow, run: Run | None) -> LMResponse:
    """Do each step on this thread."""
    try:
        step = next(steps)
        while True:
            answer = None
            try:
                if type(step) is tuple:
                    lm, request, timeout = step
                    answer = lm._send(request, timeout) if run is None else _sent(run, lm, request, timeout)
                else:
                    step.block(run)  # type: ignore[union-attr]  # what is no tuple is a wait
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        response: LMResponse = stop.value
        return response
    except BaseException:
        steps.close()  # Ctrl-C may have come between two of them
        raise


async def adrive(steps: Flow, run: Run | None) -> LMResponse:
    """Await each step in this task."""
    try:
        step = next(steps)
        while True:
            answer = None
            try:
                if type(step) is tuple:
                    lm, request, timeout = step
                    sending = lm._asend(request, timeout)
                    if timeout is not None and not lm.keeps_time:
                        sending = _timed(lm, sending, timeout)
                    answer = await (sending if run is None else end_on_cancel(run, sending))
                else:
                    await step.wait(run)  # type: ignore[union-attr]  # what is no tuple is a wait
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        response: LMResponse = stop.value
        return response
    except BaseException:
        steps.close()
        raise


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
                    with closing(_events(run, lm, request, timeout)) as stream:
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
                    async with aclosing(_timed_stream(run, lm, request, timeout)) as stream:
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


def _sent(run: Run, lm: BaseLM, request: LMRequest, timeout: float | None) -> LMResponse:
    """``lm``'s answer, not waited for when ``run`` is cancelled."""
    if not lm.ends_with_run:
        return give_up_on_cancel(run, lm._send, request, timeout)
    token = activate(run)
    try:
        return lm._send(request, timeout)
    finally:
        deactivate(token)


def _events(
    run: Run | None, lm: BaseLM, request: LMRequest, timeout: float | None
) -> Generator[Delta | LMResponse, None, None]:
    """What ``lm`` streams, not waited for when ``run`` is cancelled."""
    stream = lm._stream(request, timeout)
    try:
        while True:
            if run is None:
                event = next(stream, None)
            elif lm.ends_with_run:
                token = activate(run)
                try:
                    event = next(stream, None)
                finally:
                    deactivate(token)
            else:
                event = give_up_on_cancel(run, next, stream, None)
            if event is None:
                return
            yield event
    finally:
        with suppress(ValueError):  # it was given up in the middle of what it does, and ends with that
            stream.close()


async def _timed(lm: BaseLM, sending: Awaitable[R], timeout: float | None) -> R:
    import asyncio

    scope = asyncio.timeout(timeout)
    try:
        async with scope:
            return await sending
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise lm._late(timeout) from error


async def _timed_stream(
    run: Run | None, lm: BaseLM, request: LMRequest, timeout: float | None
) -> AsyncGenerator[Delta | LMResponse, None]:
    """What ``lm`` streams; only the time spent waiting for it counts, not what the consumer does in between."""
    left = timeout
    async with aclosing(lm._astream(request, timeout)) as stream:
        while True:
            began = time.monotonic()
            coming = _timed(lm, anext(stream), left)
            try:
                event = await end_on_cancel(run, coming)
            except StopAsyncIteration:
                return
            if left is not None:
                left = max(0.0, left - (time.monotonic() - began))
            yield event


def _cut_off(lm: BaseLM) -> LMServerError:
    return LMServerError(f"{lm.model} ended its stream before the answer was complete", model=lm.model, billed=True)
