"""What happens around each call of a model: one generator, driven blocking, awaiting or streaming.

In order: the run's deadline, the cache, the gate (circuit breaker, places, pace), the budget's reservation, the
call, its retries, the accounts, the cache again; and when all of that has failed, the next model of the chain.
What is in the cache needs no steps (`begin`). `flow` yields what has to be done outside and is sent the outcome, or has
it thrown in: an `Attempt` asks for a request to be sent to a model with a timeout, a `Wait` asks for a wait.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from dspex.callbacks.observed import Observed
from dspex.data.usage import Usage
from dspex.errors import (
    LMConnectionError,
    LMContentFilterError,
    LMError,
    LMRequestError,
    LMTimeoutError,
    ReplayMissError,
)
from dspex.execution.budget import Budget, Reservation
from dspex.execution.run import Run
from dspex.execution.settings import current
from dspex.execution.tracking import UsageLedger
from dspex.lm.accounts import account, close, hold, lost
from dspex.lm.failures import keep_failure, kept_failure, saved
from dspex.lm.gate import Permit
from dspex.lm.retry import wait_before_retry
from dspex.lm.sampling import check_params
from dspex.lm.secrets import SAMPLING, public_params
from dspex.lm.transcript import RECENT
from dspex.lm.types import LMRequest, LMResponse
from dspex.lm.waits import Pause, Wait

if TYPE_CHECKING:
    from dspex.callbacks import Callback, Span
    from dspex.lm.base import BaseLM
    from dspex.lm.cache import Cache

__all__ = ["Attempt", "Flow", "begin", "flow", "seconds_left", "seeded", "seeded_params"]

Attempt: TypeAlias = "tuple[BaseLM, LMRequest, float | None]"
"""A request to be sent to a model, and the seconds it may take. A tuple, as every call makes one."""

Flow: TypeAlias = "Generator[Attempt | Wait, LMResponse | None, LMResponse]"


def begin(
    lm: BaseLM,
    request: LMRequest,
    run: Run | None,
    path: str = "",
    until: float | None = None,
    span: Span | None = None,
) -> LMResponse | Flow:
    """``lm``'s answer to ``request`` within ``run``, for the module at ``path``, if it is known; or the steps to it.

    ``until`` is when the whole call must have ended, on the monotonic clock, if the model's ``deadline`` does not
    say so. ``span`` is the open one of this call; when somebody listens and there is none, it is opened by the steps.
    """
    if run is None:
        settings = current()
        budget = settings.budget
        observers = settings.callbacks
    else:
        run.check()
        settings = run.settings
        budget = run.budget
        observers = run.observers
    if observers and span is None:
        return _observed(observers, lm, request, run, path, until)
    ledgers = settings.ledgers
    cache = lm.cache
    policy = request.cache or settings.cache or lm.cache_policy
    if policy == "replay":
        return _replay(lm, request, run, path, span, budget, ledgers)
    if cache is None or policy == "off":
        return _ask(lm, request, run, path, until, span, budget, ledgers, None)
    key = lm.key(request)
    if policy == "write" or policy == "refresh":
        return _ask(lm, request, run, path, until, span, budget, ledgers, cache, key, policy == "refresh")
    kept = cache.find(key)
    if kept is None:
        return _ask(lm, request, run, path, until, span, budget, ledgers, None if policy == "read" else cache, key)
    response = kept.hit()
    if run is not None or ledgers or span is not None:
        account(lm, response.usage, run, ledgers, path, span)
    _remember(lm, request, response)
    return response


def flow(
    lm: BaseLM,
    request: LMRequest,
    run: Run | None,
    path: str = "",
    until: float | None = None,
    span: Span | None = None,
) -> Flow:
    """All steps of `begin`, of which there may be none."""
    begun = begin(lm, request, run, path, until, span)
    return begun if isinstance(begun, LMResponse) else (yield from begun)


def _ask(
    lm: BaseLM,
    request: LMRequest,
    run: Run | None,
    path: str,
    until: float | None,
    span: Span | None,
    budget: Budget | None,
    ledgers: tuple[UsageLedger, ...],
    cache: Cache | None,
    key: str = "",
    replace: bool = False,
) -> Flow:
    """The steps of a call that is made, and whose answer is kept in ``cache`` under ``key``."""
    if request.params:
        check_params(request.params)
    if not lm.ready:
        lm.prepare()
    if lm.deadline is not None:
        ends = time.monotonic() + lm.deadline
        until = ends if until is None else min(ends, until)
    gate = lm.gate
    permit: Any = None
    held: Reservation | None = None
    failed: Usage | None = None
    losses: list[Usage | None] = []
    attempt = 0
    try:
        while True:
            try:
                if gate is not None:
                    permit = Permit()
                    yield from gate.enter(permit, lm.model, request, seconds_left(run, until))
                if budget is not None:
                    held = yield from hold(lm, budget, request, run)
                timeout = lm.timeout
                left = seconds_left(run, until)
                cut_short = left is not None and (timeout is None or left < timeout)
                if cut_short:
                    timeout = left
                started = time.perf_counter()
                try:
                    answer = yield lm, request, timeout
                except BaseException as raised:
                    error = _typed(lm, raised)
                    if gate is not None:
                        gate.failed(permit, error, cut_short=cut_short)
                    usage, loss = lost(lm, error)
                    losses.append(loss)
                    if held is not None:
                        close(loss, held)
                    account(lm, usage, run, ledgers, path, span)
                    failed = usage if failed is None else failed + usage
                    if not isinstance(error, LMError):
                        raise
                    if run is not None:
                        # Its time being up is the better reason than the call that was cut short for it.
                        run.check()
                    wait = wait_before_retry(error, attempt, retries=lm.retries, left=seconds_left(run, until))
                    if wait is None:
                        if error is raised:
                            raise
                        raise error from raised
                else:
                    assert answer is not None
                    response = answer
                    response.latency = time.perf_counter() - started
                    usage = response.usage
                    if gate is not None:
                        gate.answered(permit, response)
                    if held is not None:
                        held.settle(usage)
                    account(lm, usage, run, ledgers, path, span)
                    break
            finally:  # for Ctrl-C between two steps: what has ended above stays as it is
                if gate is not None and permit is not None:
                    gate.leave(permit)
                if held is not None:
                    held.forfeit()
            attempt += 1
            if span is not None:
                span.attributes["retries"] = attempt
            yield Pause(wait)
    except LMError as error:
        error.spent = failed
        if cache is not None:
            keep_failure(cache, key, error, losses, lm.model)
        if not lm.fallbacks or not _may_fall_back(error):
            raise
        response = yield from _fallen_back(lm, request, run, path, until, error, span)
        if error.spent is not None:
            response.usage = response.usage + error.spent
        lm.recent.append((request, response))
        return response
    if cache is not None:
        cache.put(key, response, replace=replace)
    if failed is not None:
        response.usage = usage + failed
    _remember(lm, request, response)
    return response


def _observed(
    observers: tuple[Callback, ...],
    lm: BaseLM,
    request: LMRequest,
    run: Run | None,
    path: str,
    until: float | None,
    within: Span | None = None,
) -> Flow:
    """The `flow`, and its span; ``usage`` and ``cost`` are of this model alone, not of a fallback's calls."""
    params = {name: value for name, value in public_params(lm.effective_params(request)).items() if name in SAMPLING}
    usage = Usage()
    attributes: dict[str, Any] = {
        "model": lm.model,
        "interface": getattr(lm, "model_type", "chat"),
        "params": params,
        "rollout": request.rollout_id,
        "retries": 0,
        "cached": False,
        "usage": usage,
    }
    root = None if run is None else run.span
    # Detached, because a stream is left and entered again, in whatever context.
    with Observed(
        observers,
        "lm",
        lm.model,
        path=path,
        inputs=request,
        attributes=attributes,
        root=root,
        within=within,
        detached=True,
    ) as span:
        try:
            span.outputs = response = yield from flow(lm, request, run, path, until, span)
            attributes.update(cached=response.cached, latency=response.latency, answered_by=response.model)
            return response
        finally:
            attributes["cost"] = usage.cost


def seeded(lm: BaseLM, request: LMRequest, seed: int) -> LMRequest:
    """``request`` with the run's seed, unless it or the model has one."""
    params = seeded_params(lm, request.params, seed)
    return request if params is request.params else request.replace(params=params)


def seeded_params(lm: BaseLM, params: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """``params`` with the seed of a run, unless they or the model have one."""
    return params if "seed" in params or "seed" in lm.params else {**params, "seed": seed}


def seconds_left(run: Run | None, until: float | None) -> float | None:
    """Seconds that the call may still take."""
    left = None if run is None else run.remaining()
    if until is not None:
        rest = max(0.0, until - time.monotonic())
        left = rest if left is None else min(left, rest)
    return left


def _typed(lm: BaseLM, error: BaseException) -> BaseException:
    # What a backend raises when it leaves the built-in errors of its transport as they are.
    if isinstance(error, TimeoutError):
        return LMTimeoutError(f"{lm.model} did not answer in time: {error}", model=lm.model)
    if isinstance(error, ConnectionError):
        return LMConnectionError(f"{lm.model} could not be reached: {error}", model=lm.model)
    return error


def _may_fall_back(error: LMError) -> bool:
    # What the provider, the account or the size of the model is to blame for; another model refuses an invalid
    # request too, and one whose content was refused is not hawked around.
    return not isinstance(error, (LMRequestError, LMContentFilterError))


def _fallen_back(
    lm: BaseLM,
    request: LMRequest,
    run: Run | None,
    path: str,
    until: float | None,
    error: LMError,
    span: Span | None,
) -> Flow:
    for other in lm.fallbacks:
        if until is not None and time.monotonic() >= until:
            break
        # As before each retry, a step between the failure and the next attempt: a stream that is left there, when it
        # says that its answer comes anew, has not sent that attempt.
        yield Pause(0.0)
        try:
            return (yield from _next(other, _suited(request, other), run, path, until, span))
        except LMError as second:
            if second.spent is not None:
                error.spent = second.spent if error.spent is None else error.spent + second.spent
            error.add_note(f"fallback {other.model}: {type(second).__name__}: {second}")
    raise error


def _suited(request: LMRequest, lm: BaseLM) -> LMRequest:
    """``request`` without what ``lm`` could not enforce; the prompt says it in words too."""
    changes: dict[str, Any] = {}
    if request.schema is not None and "json_schema" not in lm.capabilities:
        changes["schema"] = None
    if request.grammar is not None and "grammar" not in lm.capabilities:
        changes["grammar"] = None
    return request.replace(**changes) if changes else request


def _next(lm: BaseLM, request: LMRequest, run: Run | None, path: str, until: float | None, span: Span | None) -> Flow:
    """The call of a fallback, within the ``span`` of the model that it stands in for."""
    with lm._asking(run):
        if span is None:
            return (yield from flow(lm, request, run, path, until))
        observers = current().callbacks if run is None else run.observers
        return (yield from _observed(observers, lm, request, run, path, until, within=span))


def _replay(
    lm: BaseLM,
    request: LMRequest,
    run: Run | None,
    path: str,
    span: Span | None,
    budget: Budget | None,
    ledgers: tuple[UsageLedger, ...],
) -> Flow:
    """The answer that is in ``lm``'s cache, or in that of a fallback; or the failure that was kept."""
    cache = lm.cache
    failure: LMError | None = None
    if cache is not None:
        key = lm.key(request)
        found = cache.find(key, strict=True)
        if found is not None:
            if budget is not None and key not in budget.replayed:
                held = yield from hold(lm, budget, request, run)
                budget.replayed.add(key)
                held.settle(found.response().usage)
            response = found.hit()
            account(lm, response.usage, run, ledgers, path, span)
            _remember(lm, request, response)
            return response
        failure, kept = kept_failure(cache, key)
        if budget is not None:
            for loss in kept:
                close(loss, (yield from hold(lm, budget, request, run)))
            if failure is None:  # the budget may have been what kept the first run from making this call
                (yield from hold(lm, budget, request, run)).release()
        if kept:
            account(lm, saved(kept), run, ledgers, path, span)
    # What it has not in its cache may have been answered by a fallback, in whose it is then; or it failed.
    if failure is None or _may_fall_back(failure):
        for other in lm.fallbacks:
            again = _suited(request, other).replace(cache="replay")
            try:
                return (yield from _next(other, again, run, path, None, span))
            except (ReplayMissError, LMError):
                continue
    if failure is not None:
        raise failure
    if cache is None:
        raise ReplayMissError(f"{lm.model} has no cache to replay from: make it with dspex.LM(..., cache=True)")
    raise ReplayMissError(
        f"there is no answer to replay for this call of {lm.model} (key {lm.key(request)[:16]}...): "
        "lm.explain_key(request) says what it was looked up under; leave replay to ask the model"
    )


def _remember(lm: BaseLM, request: LMRequest, response: LMResponse) -> None:
    call = (request, response)
    lm.recent.append(call)
    RECENT.append(call)
