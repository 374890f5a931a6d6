"""`BatchLM`: a provider's model through its batch endpoint, at half the price."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import attrs

from dspex.errors import DefinitionError
from dspex.execution.active import active_run
from dspex.execution.crew import waiting
from dspex.execution.run import Run
from dspex.execution.settings import current
from dspex.lm import provider
from dspex.lm.base import BaseLM
from dspex.lm.batch_call import BatchSender, asking
from dspex.lm.batch_job import Pacing
from dspex.lm.batch_queue import BatchQueue
from dspex.lm.batch_shapes import SHAPES
from dspex.lm.batch_store import BatchJob, BatchStore
from dspex.lm.cache import default_cache
from dspex.lm.driving import adrive, drive
from dspex.lm.flow import flow, seconds_left, seeded
from dspex.lm.lm import LM
from dspex.lm.options import checked_limit, checked_period, checked_seconds
from dspex.lm.streams import StreamEvent, deltas_of
from dspex.lm.types import LMRequest, LMResponse
from dspex.lm.waits import Turn

__all__ = ["BatchLM"]


class BatchLM(BaseLM):
    """``lm`` through its provider's batch endpoint: half the price, answers within a day.

    Programs run unchanged. Their requests wait for one another and go out as one job; a program of several steps
    makes a job for each. ``Evaluate(devset, metric)(program, lm=BatchLM(lm))`` runs all examples at once for that, and
    hands in a job as soon as all of them wait::

        lm = dspex.BatchLM(dspex.LM("openai/gpt-4o-mini"))
        result = dspex.Evaluate(devset, metric)(program, lm=lm)

    A job belongs to who paid for it, not to the process that waits: it is written down, in a file beside the cache,
    before it is submitted. After Ctrl-C, a deadline or ``kill -9``, the same line finds its requests in the jobs that
    are under way or done, waits for those, and pays for nothing twice. Each request has the body of a live one and
    each answer is read as a live one; answers are cached as ``lm``'s own, so that a later live run is free.

    ``lm``
        an `LM` of OpenAI's or Anthropic's, or its name. With ``api_base=`` it may be any server that has their batch
        endpoints. Fallbacks of ``lm`` that have such an endpoint are asked through it too.
    ``quiet``
        seconds without a new request after which what waits goes out, when not all that runs is waiting or it is not
        known what runs (outside of `Evaluate`).
    ``settle``
        seconds without a new request after which it goes out when all examples wait.
    ``max_wait``
        seconds that a request waits at most before it goes out, though others keep coming.
    ``max_requests``, ``max_bytes``
        of one job; more makes several. The provider's limits (OpenAI: 50,000 and 200 MB, Anthropic: 100,000 and 256
        MB) when not given.
    ``poll``
        seconds between two questions how a job stands.
    ``resume``
        ids of jobs that were submitted elsewhere, on another machine for example: their results are waited for first,
        and answer the requests that they hold.
    ``folder``
        where jobs are written down (``batches.db``): by default where the cache is. Neither keys nor prompts are in it,
        and answers only until they are taken.
    ``retries``
        how often a request that failed in a job is asked again in another; by default as often as ``lm`` does.
    ``deadline``
        seconds for a whole call, its waiting for the job included; ``None`` for no limit. What was submitted by then
        goes on, is paid for, and is found by the same call again.

    Errors are those of live calls. A request that expired in its job is an `LMTimeoutError`, one that was canceled in
    it an `LMError`; a job that failed as a whole is an `LMRequestError`, `LMBillingError` or `LMRateLimitError`, one
    that the provider no longer knows an `LMError`. `LMError.billed` says what may be on the bill. Calls of one process
    that ask the same, with the cache on, are asked once.

    Raises `DefinitionError` for a model without a batch endpoint.

    >>> BatchLM("openai/gpt-4o-mini", temperature=0.0)
    BatchLM('openai/gpt-4o-mini', temperature=0.0)
    >>> BatchLM("local/smollm2-135m")
    Traceback (most recent call last):
        ...
    dspex.errors.DefinitionError: BatchLM asks through the batch endpoint of openai or anthropic, ...
    """

    at_once = math.inf
    ends_with_run = True
    settles_within = 2.0

    def __init__(
        self,
        lm: LM | str,
        *,
        quiet: float = 10.0,
        settle: float = 0.25,
        max_wait: float = 600.0,
        max_requests: int | None = None,
        max_bytes: int | None = None,
        poll: float = 30.0,
        resume: Iterable[str] = (),
        folder: str | os.PathLike[str] | None = None,
        retries: int | None = None,
        deadline: float | None = None,
        **params: Any,
    ) -> None:
        self.lm = lm = _with_batches(lm, params)
        shape = SHAPES[lm.model.partition("/")[0]]
        pacing = Pacing(
            settle=checked_period("settle", settle),
            quiet=checked_seconds("quiet", quiet),
            max_wait=checked_seconds("max_wait", max_wait),
            poll=checked_period("poll", poll),
            max_requests=min(checked_limit("max_requests", max_requests) or shape.max_requests, shape.max_requests),
            max_bytes=min(checked_limit("max_bytes", max_bytes) or shape.max_bytes, shape.max_bytes),
        )
        ids = [resume] if isinstance(resume, str) else list(resume) if isinstance(resume, Iterable) else [resume]
        if not all(isinstance(id, str) for id in ids):
            raise DefinitionError(
                f'resume must be ids of jobs, not {resume!r} ({type(resume).__name__}); write resume=["batch_abc123"]'
            )
        if folder is not None and not isinstance(folder, (str, os.PathLike)):
            raise DefinitionError(
                f'folder must be a path or None, not {folder!r} ({type(folder).__name__}); write folder="batches"'
            )
        options: dict[str, Any] = {
            "quiet": quiet,
            "settle": settle,
            "max_wait": max_wait,
            "poll": poll,
            "folder": folder,
        }
        options |= {"max_requests": max_requests, "max_bytes": max_bytes, "retries": retries}
        super().__init__(
            lm.model,
            retries=lm.retries if retries is None else retries,
            timeout=None,
            deadline=deadline,
            params={**lm._params, **lm._secrets},
            price=None if lm.price is None else (lm.price[0] / 2, lm.price[1] / 2),
            fallbacks=[BatchLM(cast(LM, one), **options) if _has_batches(one) else one for one in lm.fallbacks],
        )
        self._cache_choice, self.cache_policy = lm._cache_choice, lm.cache_policy
        self._queue = BatchQueue(shape, BatchStore(self._place(folder)), pacing, ids)

    def _place(self, folder: str | os.PathLike[str] | None) -> Path:
        if folder is None:
            path = None if self.lm.cache is None else self.lm.cache.path
            path = default_cache().path if path is None else path
            assert path is not None
            folder = path.parent
        return Path(folder) / "batches.db"

    # What it has of the model it asks.

    def _fresh(self) -> None:
        super()._fresh()
        self._sender = BatchSender(self.lm)
        self.ready = False

    def prepare(self) -> None:
        self.lm.prepare()
        self.ready = True

    @property
    def capabilities(self) -> frozenset[str]:
        """What the model can do; asking loads litellm."""
        return self.lm.capabilities

    def _identify(self) -> dict[str, Any]:
        return self.lm._identify()  # its answers are the model's own

    def _output_bound(self) -> int | None:
        return self.lm._output_bound()

    def _price_bound(self) -> tuple[float, float] | None:
        return self.price if self.price is not None else provider.batch_price_bound(self.model)

    def copy(self, **params: Any) -> BaseLM:
        """As of every model; its requests go into the same jobs."""
        twin = super().copy(**params)
        assert isinstance(twin, BatchLM)
        twin.lm = cast(LM, self.lm.copy(**params))
        twin._fresh()
        return twin

    def to_json(self) -> dict[str, Any]:
        """As of every model: ``lm`` is the one that is asked. ``folder`` and ``resume`` belong to a machine, and are
        given again."""
        own = {"retries": self.retries, "deadline": self.deadline, **attrs.asdict(self._queue.pacing)}
        return {"type": "BatchLM", "lm": self.lm.to_json(), **own}

    @classmethod
    def _from_json(cls, data: Mapping[str, Any], **given: Any) -> BaseLM:
        saved = {name: data[name] for name in _OWN if name in data}
        own = {name: given.pop(name) for name in ("folder", "resume", *_OWN) if name in given}
        lm = BaseLM.from_json(data["lm"], **given)
        return cls(lm, **{**saved, **own})  # type: ignore[arg-type]  # checked there

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        queue = state.pop("_queue")
        state["_made_of"] = (queue.shape.name, queue.store.path, queue.pacing, queue._resume)
        state.pop("_sender", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        name, path, pacing, resume = state.pop("_made_of")
        super().__setstate__(state)
        self._queue = BatchQueue(SHAPES[name], BatchStore(path), pacing, resume)

    # Jobs.

    def jobs(self) -> list[BatchJob]:
        """The jobs that are remembered in its folder, oldest first, of all models."""
        return self._queue.store.jobs()

    # Calls.

    def generate(self, request: LMRequest, run: Run | None = None, path: str = "") -> LMResponse:
        """As of every model; blocks until the job has ended."""
        run = active_run() if run is None else run
        request = request if run is None or run.seed is None else seeded(self, request, run.seed)
        until = self._until()
        with self._asking(run):
            key = self._shared_key(request, run)
            if key is None:
                return drive(flow(self, request, run, path, until), run)
            while (turn := self._queue.follow(key)) is not None:
                with waiting(), self._in_time():
                    Turn(turn, seconds_left(run, until)).block(run)
            try:
                return drive(flow(self, request, run, path, until), run)
            finally:
                self._queue.led(key)

    async def agenerate(self, request: LMRequest, run: Run | None = None, path: str = "") -> LMResponse:
        """`generate`, awaiting; cancelling the task ends the waiting, and not a job that was submitted."""
        run = active_run() if run is None else run
        request = request if run is None or run.seed is None else seeded(self, request, run.seed)
        until = self._until()
        with self._asking(run):
            key = self._shared_key(request, run)
            if key is None:
                return await adrive(flow(self, request, run, path, until), run)
            while (turn := self._queue.follow(key)) is not None:
                with waiting(), self._in_time():
                    await Turn(turn, seconds_left(run, until)).wait(run)
            try:
                return await adrive(flow(self, request, run, path, until), run)
            finally:
                self._queue.led(key)

    def stream(self, request: LMRequest, run: Run | None = None, path: str = "") -> Generator[StreamEvent, None, None]:
        """As of every model, in one piece."""
        response = self.generate(request, run, path)
        yield from deltas_of(response)
        yield response

    async def astream(
        self, request: LMRequest, run: Run | None = None, path: str = ""
    ) -> AsyncGenerator[StreamEvent, None]:
        """As of every model, in one piece."""
        response = await self.agenerate(request, run, path)
        for delta in deltas_of(response):
            yield delta
        yield response

    def may_be_billed(self, error: BaseException) -> bool:
        """As of every model; what was not handed in when its call ended is taken back, and is not."""
        if self._sender.costs_nothing(self._queue):
            return False
        return super().may_be_billed(error)

    def _shared_key(self, request: LMRequest, run: Run | None) -> str | None:
        """What is asked once by all who ask it, since the answer would be in the cache for whoever comes later."""
        settings = current() if run is None else run.settings
        policy = request.cache or settings.cache or self.cache_policy
        return self.key(request) if policy == "on" and self.cache is not None else None

    def _until(self) -> float | None:
        """When a call that begins now has to end, with all its waiting for others that ask the same."""
        return None if self.deadline is None else time.monotonic() + self.deadline

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise self._late(self.deadline) from error

    def _asking(self, run: Run | None) -> AbstractContextManager[None]:
        return asking(run)

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        from dspex.execution.background import await_in_background

        try:
            return await_in_background(self._asend(request, timeout), timeout)
        except TimeoutError as error:
            raise self._late(timeout) from error

    async def _asend(self, request: LMRequest, timeout: float | None) -> LMResponse:
        return await self._sender.send(request, self.key(request), self._queue, self.price)


_OWN = ("retries", "deadline", "settle", "quiet", "max_wait", "poll", "max_requests", "max_bytes")
"""What it has beside its model, and is saved."""


def _with_batches(lm: Any, params: dict[str, Any]) -> LM:
    if isinstance(lm, str) and lm.partition("/")[0] in SHAPES:
        return LM(lm, **params)
    if not _has_batches(lm):
        name = lm.model if isinstance(lm, BaseLM) else lm
        raise DefinitionError(
            f"BatchLM asks through the batch endpoint of {' or '.join(SHAPES)}, which {name!r} "
            f"({type(lm).__name__}) has not.\n"
            '  right:  dspex.BatchLM(dspex.LM("openai/gpt-4o-mini"))\n'
            '  right:  dspex.BatchLM("anthropic/claude-haiku-4-5")'
        )
    if params:
        raise DefinitionError(f"BatchLM takes no {next(iter(params))}= beside a model; write it into dspex.LM(...)")
    return cast(LM, lm)


def _has_batches(lm: Any) -> bool:
    # The embedded model calls itself an `LM`, which it is not by inheritance.
    return LM in type(lm).__mro__ and lm.model.partition("/")[0] in SHAPES
