"""One job, from its submission to its results; it survives the process that submitted it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from dspex.errors import LMBillingError, LMError, LMRateLimitError, LMRequestError, LMServerError
from dspex.execution.processes import is_here, this_process
from dspex.lm.batch_shapes import Desk, Missing, State, result_failed
from dspex.lm.batch_store import BatchJob
from dspex.lm.retry import wait_before_retry
from dspex.lm.secrets import scrub, scrubbed

if TYPE_CHECKING:
    from dspex.lm.batch_queue import BatchQueue, Ticket
    from dspex.lm.batch_wire import Sent
    from dspex.lm.lm import LM

__all__ = ["Job", "Pacing"]

_TRIES = 5
"""How often a file of results that lacks some is fetched, and a job that is not there is looked for."""

_LONGEST_PAUSE = 600.0
_SUBMITTING = 3600.0
"""Seconds after which whoever was submitting on another machine is taken to have been killed."""

_log = logging.getLogger("dspex.lm.batch")


@attrs.frozen(kw_only=True)
class Pacing:
    """How long to wait for what, in seconds, and how much a job holds; `BatchLM` says more."""

    settle: float
    quiet: float
    max_wait: float
    poll: float
    max_requests: int
    max_bytes: int


class Job:
    """A job that somebody waits for: ``tickets`` by their ids in it, and ``entries``, what is to be submitted of it.

    ``entries`` is ``None`` for one that was submitted, or intended, before. ``is_out`` says whether it may have reached
    the provider.
    """

    def __init__(self, queue: BatchQueue, name: str, lm: LM, sent: Sent) -> None:
        self.queue = queue
        self.name = name
        self.lm = lm
        self.sent = sent
        self.tickets: dict[str, Ticket] = {}
        self.entries: dict[str, bytes] | None = None
        self.is_out = False
        self._store = queue.store
        self._shape = queue.shape
        self._poll = queue.pacing.poll

    async def run(self) -> None:
        """Do it all; whatever happens, each ticket gets a result or an error."""
        try:
            async with self._desk() as desk:
                id = await self._handed_in(desk)
                if id is None:
                    self.queue.finish(self, self._give_up)
                    return
                ended = await self._ended(desk, id)
            self.queue.finish(self, lambda: self._deliver(*ended))
        except _Left:
            self.queue.finish(self, self._hand_on)
        except Exception as error:
            self._fail(error)

    async def adopt(self, id: str) -> None:
        """Keep the results of the job ``id``, which was submitted elsewhere. Raises an `LMError`."""
        async with self._desk() as desk:
            _, results = await self._ended(desk, id, self.queue.is_waited_for)
        self._store.adopted(self.name, results, {place: place.rpartition("-")[0] for place in results})

    def _desk(self) -> Any:
        from dspex.lm.batch_wire import HTTPDesk

        return HTTPDesk(self.lm, self.sent)

    # Submission.

    async def _handed_in(self, desk: Desk) -> str | None:
        """The provider's id; ``None`` when the job was never submitted."""
        if self.entries is not None:
            return await self._submitted(desk, self.entries)
        while True:
            found = self._store.jobs(name=self.name)
            if not found:
                return None  # another process saw that it was never submitted
            job = found[0]
            if job.id is not None:
                return job.id
            if not self._is_submitting(job) and self._store.take_over(job, this_process()):
                id = await self._found(desk, job.created)
                if id is None:
                    return None
                self._store.submitted(self.name, id)
                return id
            await _sleep(self._poll)

    def _is_submitting(self, job: BatchJob) -> bool:
        if job.owner == this_process():
            return self.name in self._store.submitting
        here = is_here(job.owner)
        return time.time() - job.created < _SUBMITTING if here is None else here

    async def _submitted(self, desk: Desk, entries: dict[str, bytes]) -> str:
        began = time.time()
        attempt = 0
        unsure = False  # whether it may have got there
        while True:
            if not self.queue.hand_in(self):
                if not unsure:
                    self._store.forget(self.name)
                raise _Left
            try:
                id = await self._found(desk, began) if unsure else None
                if id is None:
                    id = await self._shape.submit(desk, self.name, self.sent.endpoint, list(entries.values()))
                self._store.submitted(self.name, id)
                entries.clear()  # they may be large
                _log.info("batch %s of %s: %d requests submitted", id, self.lm.model, len(self.tickets))
                return id
            except Missing as error:
                failed: LMError = LMRequestError(
                    f"there is no batch endpoint at {self._where}: {error}", model=self.lm.model
                )
            except LMError as error:
                failed = error
                unsure = unsure or error.billed or isinstance(error, LMServerError)
            except (ValueError, KeyError, TypeError) as error:
                failed = self._illegible(error)
                unsure = True
            pause = wait_before_retry(failed, attempt, retries=max(self.lm.retries, 1), left=None)
            if pause is None:
                if unsure:
                    raise LMError(
                        f"whether the batch of {len(self.tickets)} requests has reached the provider is not known ("
                        f"{failed}); the same calls will look for it there before they are asked again",
                        model=self.lm.model,
                        billed=True,
                    ) from failed
                self._store.forget(self.name)
                raise failed
            attempt += 1
            self.is_out = unsure  # what was refused is here again, and may be taken back
            await _sleep(pause)

    async def _found(self, desk: Desk, since: float) -> str | None:
        """The id of this job at the provider, if it has got there."""
        requests = set(self._store.places(self.name))
        known = {job.id for job in self._store.jobs()}
        for look in range(2):
            if look:
                await _sleep(self._poll)  # what was submitted a moment ago may not be listed yet
            attempt = 0
            while True:
                try:
                    async for id in self._shape.candidates(desk, self.name, len(requests), since):
                        if id not in known and (self._shape.certain or await self._is_ours(desk, id, requests)):
                            return id
                    break
                except Missing:
                    break
                except LMError as error:
                    failed = error
                except (ValueError, KeyError, TypeError) as error:
                    failed = self._illegible(error)
                pause = wait_before_retry(failed, attempt, retries=max(self.lm.retries, 1), left=None)
                if pause is None:
                    raise failed
                attempt += 1
                await _sleep(pause)
        return None

    async def _is_ours(self, desk: Desk, id: str, requests: set[str]) -> bool:
        # It may be paid for, so its end is waited for: that is when its requests can be seen.
        state = await self._shape.state(desk, id)
        if state.kind == "failed":
            return False
        _, results = await self._ended(desk, id)
        return set(results) == requests

    # Its end.

    async def _ended(
        self, desk: Desk, id: str, is_waited_for: Callable[[], bool] | None = None
    ) -> tuple[State, dict[str, dict[str, Any]]]:
        """How it ended, and its results.

        The provider's failures on the way are waited out: the job is paid for. Raises an `LMError` when it failed as
        a whole, is not there, or its results are refused.
        """
        missing = incomplete = failures = 0
        while True:
            pause = self._poll
            whole: LMError | None = None
            try:
                state = await self._shape.state(desk, id)
                if state.kind == "failed":
                    whole = self._failed(id, scrub(state.note, self._untold()))
                elif state.kind == "ended":
                    results = self._without_secrets(await self._shape.results(desk, state))
                    if state.expected is None or len(results) >= state.expected or incomplete >= _TRIES:
                        _log.info("batch %s of %s: ended, %d results", id, self.lm.model, len(results))
                        return state, results
                    incomplete += 1
                missing = failures = 0
            except Missing as error:
                missing += 1
                if missing >= _TRIES:
                    whole = self._vanished(id, error)
            except LMError as error:
                if not error.retryable:
                    raise
                failures += 1
                pause = min(_LONGEST_PAUSE, max(error.retry_after or 0.0, self._poll * (1 + failures)))
                _log.warning("batch %s: %s", id, error)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                _log.warning("batch %s: %s", id, self._illegible(error))
            if whole is not None:
                raise whole
            await _sleep(pause)
            if not (self.tickets if is_waited_for is None else is_waited_for()):
                raise _Left

    def _failed(self, id: str, note: str) -> LMError:
        self._store.over(self.name, "failed", note)
        said = f"the batch {id} of {self.lm.model} failed as a whole: {note}"
        if any(code in note for code in ("insufficient_quota", "billing")):
            return LMBillingError(said, model=self.lm.model)
        if "token_limit" in note or "rate_limit" in note:
            return LMRateLimitError(
                f"{said}; submit less at once with dspex.BatchLM(lm, max_requests=...)", model=self.lm.model
            )
        return LMRequestError(said, model=self.lm.model)

    def _vanished(self, id: str, error: Missing) -> LMError:
        note = f"{self._where} knows no such job: {error}"
        self._store.over(self.name, "vanished", note)
        return LMError(
            f"the batch {id} of {self.lm.model} has vanished: {note}. It may have been paid for, with other "
            "credentials perhaps; the same calls will be asked anew",
            model=self.lm.model,
            billed=True,
        )

    def _deliver(self, state: State, results: Mapping[str, dict[str, Any]]) -> None:
        self._store.ended(self.name, results)
        for id, ticket in self.tickets.items():
            ticket.answer(results.get(id) or _without_result(state))

    def _give_up(self) -> None:
        """It was never submitted: ask anew."""
        self._store.forget(self.name)
        self._hand_on()

    def _hand_on(self) -> None:
        """Whoever came while it was being left takes it up anew."""
        self.queue.put_back(list(self.tickets.values()))

    def _fail(self, error: Exception) -> None:
        def tell() -> None:
            for ticket in self.tickets.values():
                if ticket.place is not None:
                    self._store.release(ticket.place)
                ticket.fail(error)

        self.queue.finish(self, tell)

    def _untold(self) -> list[str]:
        return self.sent.untold(self.lm)

    def _without_secrets(self, results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What the provider says of failures, before it is written down; answers stay as they are."""
        untold = self._untold()
        return {
            place: result if result.get("status") == 200 else scrubbed(result, untold)
            for place, result in results.items()
        }

    @property
    def _where(self) -> str:
        return self.lm.api_base or self.lm.model.partition("/")[0]

    def _illegible(self, error: Exception) -> LMServerError:
        return LMServerError(
            f"{self._where} sent what is no answer of a batch endpoint: {type(error).__name__}: "
            f"{scrub(str(error), self._untold())}",
            model=self.lm.model,
            billed=True,
        )


class _Left(Exception):  # noqa: N818 - says what happened
    """Nobody waits for the job any more. It goes on at the provider, and is found by who asks again."""


async def _sleep(seconds: float) -> None:
    import asyncio  # slow to load

    await asyncio.sleep(seconds)


def _without_result(state: State) -> dict[str, Any]:
    if state.note == "expired":
        return result_failed("expired", "the job expired before it was its turn")
    if state.note == "cancelled":
        return result_failed("canceled", "the job was cancelled before it was its turn")
    return result_failed("lost", "the job's files hold no result of it")
