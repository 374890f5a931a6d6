"""What an attempt may take, what it took, and where that counts."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from dspex.data.usage import Usage
from dspex.errors import LMError
from dspex.execution.budget import Budget, Reservation
from dspex.execution.run import Run
from dspex.execution.tracking import UsageLedger
from dspex.lm.types import LMRequest
from dspex.lm.waits import Pause, Wait

if TYPE_CHECKING:
    from dspex.callbacks import Span
    from dspex.lm.base import BaseLM

__all__ = ["account", "close", "hold", "lost"]

_ONE_CALL = Usage(calls=1)


def hold(lm: BaseLM, budget: Budget, request: LMRequest, run: Run | None) -> Generator[Wait, Any, Reservation]:
    """Wait until the most that ``request`` can take fits into ``budget``, and hold that."""
    bound = lm.estimate(request) if budget.bounds_needed else _ONE_CALL
    wait = 0.001
    while (held := budget.try_reserve(bound)) is None:
        # What is in flight holds more than it will take; when it settles there may be room.
        yield Pause(wait)
        wait = min(wait * 2, lm.settles_within)
        if run is not None:
            run.check()
    return held


def lost(lm: BaseLM, error: BaseException) -> tuple[Usage, Usage | None]:
    """What a failed attempt took, and what of it is certain: a call that was refused costs nothing, and one that was
    cut off may be billed, who knows how much."""
    told: Usage | None = error.usage if isinstance(error, LMError) else None
    if told is not None:
        # There was an answer, if not one of any use, and its price is known as any other's.
        usage = told.copy()
        usage.calls, usage.failed_calls = 0, 1
        return usage, usage
    billed = lm.may_be_billed(error)
    usage = Usage(failed_calls=1, cost=None if billed and lm.price != (0.0, 0.0) else 0.0)
    return usage, None if billed else usage


def close(loss: Usage | None, held: Reservation) -> None:
    """End the hold of an attempt that took ``loss``, which may not be known."""
    if loss is None:
        held.forfeit()
    else:
        held.settle(loss)


def account(
    lm: BaseLM, usage: Usage, run: Run | None, ledgers: tuple[UsageLedger, ...], path: str, span: Span | None
) -> None:
    """Count ``usage`` wherever the call counts."""
    if span is not None:
        spent = span.attributes.get("usage")
        if isinstance(spent, Usage):  # somebody's callback may have taken it away
            spent.add(usage)
    if run is not None:
        run.account(usage)
    for ledger in ledgers:
        ledger.add(usage, model=lm.model, path=path, run=run)
