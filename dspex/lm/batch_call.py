"""A call whose requests go into jobs: what it has sent, where its results came from, and what becomes of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from dspex.errors import DspexError, LMError, LMServerError, LMTimeoutError
from dspex.execution.active import active_run
from dspex.execution.crew import crew_here, waiting
from dspex.execution.run import Run
from dspex.lm.batch_queue import BatchQueue, Ticket
from dspex.lm.batch_store import BatchStore, Place
from dspex.lm.types import LMRequest, LMResponse

if TYPE_CHECKING:
    from dspex.lm.batch_wire import Sent
    from dspex.lm.lm import LM

__all__ = ["BatchSender", "asking"]

_AT_ONCE = 0.0
"""Seconds before a request that failed in its job is asked again: the job took long enough, and what failed together in
it comes back together, into one job."""

_FAILED = {"expired": "expired", "canceled": "was canceled", "lost": "was lost", "errored": "failed"}

_log = logging.getLogger("dspex.lm.batch")


class _Call:
    """One call: the run it belongs to, and where its results came from.

    ``tickets`` are those of the attempt that is going on, once it sends anything.
    """

    __slots__ = ("places", "run", "tickets")

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self.tickets: list[Ticket] | None = None
        self.places: list[tuple[BatchStore, Place]] = []


_call: ContextVar[_Call | None] = ContextVar("dspex_batch_call", default=None)


@contextmanager
def asking(run: Run | None) -> Iterator[None]:
    """A call within ``run``: results that it got are taken once its answer is kept, and left for others when it is not.

    A stream may be left and gone on with in another context, where there is nothing to be put back; the one it was
    asked in then holds an ended call, until the next one.
    """
    call = _Call(run)
    token = _call.set(call)
    answered = False
    try:
        yield
        answered = True
    finally:
        with suppress(ValueError):
            _call.reset(token)
        call.run = None
        for store, place in call.places:
            (store.take if answered else store.release)(place)


class BatchSender:
    """The way of ``lm``'s requests into jobs. Threads and event loops share it."""

    def __init__(self, lm: LM) -> None:
        self._lm = lm
        self._client: Any = None
        self._goes_around = False

    def costs_nothing(self, queue: BatchQueue) -> bool:
        """Whether the present call, which is given up, has left nothing at the provider; it sends nothing any more."""
        call = _call.get()
        if call is None:
            return False
        tickets, call.tickets = call.tickets, None  # none comes any more
        at_home = [queue.withdraw(ticket) for ticket in tickets or ()]
        return tickets is None or (all(at_home) and (bool(at_home) or not self._goes_around))

    async def send(
        self, request: LMRequest, key: str, queue: BatchQueue, price: tuple[float, float] | None
    ) -> LMResponse:
        """The answer to ``request``, once the job is through that ``queue`` puts it into; ``price`` is that of jobs."""
        import asyncio

        from dspex.lm.batch_wire import batched_client, client_of, posting
        from dspex.lm.reading import read

        lm = self._lm
        if self._client is None:
            self._client = client_of(lm)
        call = _call.get()
        run = active_run() if call is None else call.run
        tickets: list[Ticket] = []
        failed: list[DspexError] = []
        if call is not None:
            call.tickets = tickets

        async def post(sent: Sent) -> Mapping[str, Any]:
            ticket = Ticket(lm, key, sent, run, crew_here())
            tickets.append(ticket)
            if call is not None and call.tickets is not tickets:
                raise asyncio.CancelledError  # it was given up in the meantime
            try:
                with waiting():
                    queue.put(ticket)
                    result = await asyncio.wrap_future(ticket.future)
            except DspexError as error:
                failed.append(error)
                raise
            except BaseException:
                queue.withdraw(ticket)
                raise
            if "failed" in result:
                failed.append(_typed(lm.model, result))
                raise failed[0]
            return result

        tokens = posting.set(post), batched_client.set(self._client)
        try:
            raw = await lm._called(request, None, client=self._client)
            if not tickets:
                # litellm found a way around the client that it was given.
                self._goes_around = True
                _log.warning("%s was asked live, at the full price, as its request has no batched form", lm.model)
            price = price if tickets else lm.price
            response = read(raw, model=lm.model, price=price, batched=bool(tickets), secrets=lm._untold(request))
        except BaseException as error:
            for ticket in tickets:
                if ticket.answered and ticket.place is not None:
                    # A failure is told once: whoever asks again asks the model. An answer that nobody heard stays.
                    use = queue.store.take if isinstance(error, Exception) else queue.store.release
                    use(ticket.place)
            if failed and isinstance(error, Exception):
                raise failed[0] from None
            if isinstance(error, LMError) and any(ticket.answered for ticket in tickets):
                error.retry_after = _AT_ONCE
            raise
        finally:
            posting.reset(tokens[0])
            batched_client.reset(tokens[1])
        places = [ticket.place for ticket in tickets if ticket.place is not None]
        if call is not None:
            call.places += [(queue.store, place) for place in places]
        else:
            for place in places:
                queue.store.take(place)
        return response


def _typed(model: str, result: Mapping[str, Any]) -> LMError:
    kind, message = result["failed"], result["message"]
    said = f"a request to {model} {_FAILED[kind]} in its batch: {message}"
    if kind == "expired":
        return LMTimeoutError(said, model=model, billed=False, retry_after=_AT_ONCE)
    if kind == "canceled":
        return LMError(said, model=model, billed=False)
    return LMServerError(said, model=model, billed=kind == "lost", retry_after=_AT_ONCE)
