"""What happens around each call of a model: one generator, driven blocking or awaiting.

In order: the run's deadline, the cache, the budget's reservation, the call, its retries, the accounts, the
cache again. `flow` yields what has to be done outside and is sent the outcome, or has it thrown in: a number
(or ``None``) asks for the request to be sent with that timeout, a `Pause` asks for a wait.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from dspex.data.usage import Usage
from dspex.errors import LMConnectionError, LMError, LMTimeoutError
from dspex.execution.budget import Budget, Reservation
from dspex.execution.run import Run
from dspex.execution.settings import current
from dspex.lm.retry import wait_before_retry
from dspex.lm.transcript import RECENT
from dspex.lm.types import LMRequest, LMResponse

if TYPE_CHECKING:
    from dspex.lm.base import BaseLM

__all__ = ["Flow", "Pause", "flow", "seeded", "seeded_params"]

_ONE_CALL = Usage(calls=1)


class Pause:
    """A step: wait this many ``seconds``, then go on."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


Flow: TypeAlias = Generator["float | Pause | None", "LMResponse | None", LMResponse]


def flow(lm: BaseLM, request: LMRequest, run: Run | None) -> Flow:
    """The steps of ``lm``'s answer to ``request`` within ``run``."""
    if run is None:
        budget = current().budget
    else:
        run.check()
        budget = run.budget
    cache = lm.cache
    key = ""
    if cache is not None:
        key = lm.key(request)
        found = cache.get(key)
        if found is not None:
            usage = Usage(cached_calls=1, saved_cost=found.usage.cost)
            response = LMResponse(found.completions, usage, found.model, True, found.latency)
            if run is not None:
                run.account(usage)
            _remember(lm, request, response)
            return response
    failed: Usage | None = None
    attempt = 0
    while True:
        hold = None if budget is None else (yield from _hold(lm, budget, request, run))
        timeout = lm.timeout
        left = None if run is None else run.remaining()
        if left is not None and (timeout is None or left < timeout):
            timeout = left
        started = time.perf_counter()
        try:
            answer = yield timeout
        except BaseException as raised:
            error = _typed(lm, raised)
            loss = _lost(lm, error, hold, run)
            if not isinstance(error, LMError):
                raise
            if run is not None:
                # Its time being up is the better reason than the call that was cut short for it.
                run.check()
                left = run.remaining()
            wait = wait_before_retry(error, attempt, retries=lm.retries, left=left)
            if wait is None:
                if error is raised:
                    raise
                raise error from raised
            failed = loss if failed is None else failed + loss
        else:
            assert answer is not None
            response = answer
            break
        attempt += 1
        yield Pause(wait)
    response.latency = time.perf_counter() - started
    usage = response.usage
    if hold is not None:
        hold.settle(usage)
    if run is not None:
        run.account(usage)
    if cache is not None:
        cache.put(key, response)
    if failed is not None:
        response.usage = usage + failed
    _remember(lm, request, response)
    return response


def seeded(lm: BaseLM, request: LMRequest, seed: int) -> LMRequest:
    """``request`` with the run's seed, unless it or the model has one."""
    params = seeded_params(lm, request.params, seed)
    if params is request.params:
        return request
    return LMRequest(request.head, request.tail, params, request.schema, request.grammar, request.rollout_id)


def seeded_params(lm: BaseLM, params: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """``params`` with the seed of a run, unless they or the model have one."""
    return params if "seed" in params or "seed" in lm.params else {**params, "seed": seed}


def _hold(
    lm: BaseLM, budget: Budget, request: LMRequest, run: Run | None
) -> Generator[Pause, LMResponse | None, Reservation]:
    bound = lm.estimate(request) if budget.bounds_needed else _ONE_CALL
    wait = 0.001
    while (hold := budget.try_reserve(bound)) is None:
        # What is in flight holds more than it will take; when it settles there may be room.
        yield Pause(wait)
        wait = min(wait * 2, 0.05)
        if run is not None:
            run.check()
    return hold


def _lost(lm: BaseLM, error: BaseException, hold: Reservation | None, run: Run | None) -> Usage:
    # A call that was refused costs nothing. One that was cut off may be billed, who knows how much.
    billed = lm.may_be_billed(error)
    usage = Usage(failed_calls=1, cost=None if billed and lm.price != (0.0, 0.0) else 0.0)
    if hold is not None:
        if billed:
            hold.forfeit()
        else:
            hold.settle(usage)
    if run is not None:
        run.account(usage)
    return usage


def _typed(lm: BaseLM, error: BaseException) -> BaseException:
    # What a backend raises when it leaves the built-in errors of its transport as they are.
    if isinstance(error, TimeoutError):
        return LMTimeoutError(f"{lm.model} did not answer in time: {error}", model=lm.model)
    if isinstance(error, ConnectionError):
        return LMConnectionError(f"{lm.model} could not be reached: {error}", model=lm.model)
    return error


def _remember(lm: BaseLM, request: LMRequest, response: LMResponse) -> None:
    call = (request, response)
    lm.recent.append(call)
    RECENT.append(call)
