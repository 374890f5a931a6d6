"""Requests that wait for one another: collected, handed in as one job, and answered when it has ended.

A request that is in a job already, one that another run of the same line submitted, is found by its key and waits for
that job. The others wait until nothing more can come: until all examples that run are waiting, and for those who run
outside of an evaluation, until nobody has asked for a while.
"""

from __future__ import annotations

import copy
import os
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from dspex.errors import DspexError, LMError
from dspex.execution.crew import Crew
from dspex.execution.processes import this_process
from dspex.execution.run import Run
from dspex.lm.batch_job import Job, Pacing
from dspex.lm.batch_shapes import Shape
from dspex.lm.batch_store import BatchStore, Place

if TYPE_CHECKING:
    from dspex.lm.batch_wire import Sent
    from dspex.lm.lm import LM

__all__ = ["KEY_LENGTH", "BatchQueue", "Ticket"]

KEY_LENGTH = 54
"""Characters of a request's key that its id in a job begins with; an id has 64 at most."""


class Ticket:
    """One request that waits. ``place`` is where it is, once it is in a job.

    ``withdrawn`` says that its caller has gone, and ``at_home`` that it was never handed in and never will be.
    """

    __slots__ = ("answered", "asked", "at_home", "crew", "future", "key", "lm", "place", "run", "sent", "withdrawn")

    def __init__(self, lm: LM, key: str, sent: Sent, run: Run | None, crew: Crew | None) -> None:
        self.lm = lm
        self.key = key[:KEY_LENGTH]
        self.sent = sent
        self.run = run
        self.crew = crew
        self.place: Place | None = None
        self.answered = False  # with a result of the job
        self.withdrawn = self.at_home = False
        self.future: Future[Mapping[str, Any]] = Future()
        self.asked = time.monotonic()

    def answer(self, result: Mapping[str, Any]) -> None:
        """Give it its result."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.answered = True
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        """It gets no result."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            own: DspexError
            if isinstance(error, LMError):
                own = copy.copy(error)  # each caller adds its traceback
                own.__cause__ = error.__cause__
            elif isinstance(error, DspexError):
                own = error
            else:  # a defect of ours, which no caller is to wait out
                own = LMError(f"the batch of {self.lm.model} broke: {type(error).__name__}: {error}", billed=True)
                own.__cause__ = error
            self.future.set_exception(own)

    def over(self) -> bool:
        """Whether nobody needs its answer any more, as its run was cancelled or its time is up."""
        if self.run is not None:
            try:
                self.run.check()
            except DspexError as error:
                self.fail(error)
        return self.future.done()


class BatchQueue:
    """The requests of one `BatchLM` and its copies. Threads and event loops share it."""

    def __init__(self, shape: Shape, store: BatchStore, pacing: Pacing, resume: Iterable[str]) -> None:
        self.shape = shape
        self.store = store
        self.pacing = pacing
        self._resume = tuple(resume)
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._waiting: list[Ticket] = []
        self._adopting = list(self._resume)
        self._arrivals = 0
        self._arrived = 0.0
        self._collecting = False
        self._jobs: dict[str, Job] = {}
        self._leaders: dict[str, list[Future[None]]] = {}

    # One asks for all who ask the same.

    def follow(self, key: str) -> Future[None] | None:
        """What ends when the one who asks under ``key`` is through; ``None`` makes the caller the one."""
        with self._lock:
            if self._process != os.getpid():  # a forked child has none of its parent's requests
                self._reset()
            followers = self._leaders.get(key)
            if followers is None:
                self._leaders[key] = []
                return None
            turn: Future[None] = Future()
            followers.append(turn)
            return turn

    def led(self, key: str) -> None:
        """The one who asked under ``key`` is through."""
        with self._lock:
            followers = self._leaders.pop(key)
        for turn in followers:
            if turn.set_running_or_notify_cancel():
                turn.set_result(None)

    # Requests come and go.

    def put(self, ticket: Ticket) -> None:
        """Let ``ticket`` wait for its answer."""
        with self._lock:
            if self._process != os.getpid():
                self._reset()
            if not ticket.withdrawn and not self._find(ticket):
                self._waiting.append(ticket)
                self._arrivals += 1
                self._arrived = time.monotonic()
                if not self._collecting:
                    self._collecting = True
                    _start(self._collect())

    def withdraw(self, ticket: Ticket) -> bool:
        """Its caller has gone; whether it stays at home.

        What is in a job that may have reached the provider stays there, for whoever asks the same again.
        """
        with self._lock:
            if ticket.withdrawn:
                return ticket.at_home
            ticket.withdrawn = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            if ticket.place is None:
                ticket.at_home = True
                return True
            if ticket.future.done() and not ticket.future.cancelled():
                return False  # it has got its result, or its error, and has left its place
            name, place = ticket.place
            job = self._jobs.get(name)
            if job is not None:
                job.tickets.pop(place, None)
                if job.entries is not None and not job.is_out:
                    del job.entries[place]
                    self.store.drop(ticket.place)
                    ticket.at_home = True
                    return True
            self.store.release(ticket.place)
            return False

    def hand_in(self, job: Job) -> bool:
        """Whether anybody waits for ``job``, which is out then: nothing is taken back from it any more."""
        with self._lock:
            job.is_out = job.is_out or bool(job.tickets)
            return bool(job.tickets)

    def _find(self, ticket: Ticket) -> bool:
        """Whether it is in a job already, for which it waits then."""
        found = self.store.claim(ticket.key)
        if found is None:
            return False
        ticket.place, result = found
        if result is not None:
            ticket.answer(result)
            return True
        name, place = ticket.place
        job = self._jobs.get(name)
        if job is None:
            job = Job(self, name, ticket.lm, ticket.sent)
            job.tickets[place] = ticket
            self._start(job)
        else:
            job.tickets[place] = ticket
        return True

    # On the background loop.

    async def _collect(self) -> None:
        """Look every now and then whether what waits should go out; ends when nothing waits."""
        import asyncio

        seen = -1
        while True:
            await asyncio.sleep(self.pacing.settle)
            try:
                await self._adopt()
            except Exception as error:
                self._fail_all(error)
            with self._lock:
                self._waiting = [ticket for ticket in self._waiting if not ticket.over()]
                if not self._waiting:
                    self._collecting = False
                    return
                everything = self._arrivals == seen and self._nothing_more_comes()
                seen = self._arrivals
                try:
                    for chunk in self._chunks(everything):
                        self._hand_in(chunk)
                except Exception as error:
                    self._fail_all(error)

    def _nothing_more_comes(self) -> bool:
        now = time.monotonic()
        pacing = self.pacing
        if now - self._arrived >= pacing.quiet or now - self._waiting[0].asked >= pacing.max_wait:
            return True
        crews = {ticket.crew for ticket in self._waiting}
        return all(crew is not None and crew.working <= 0 for crew in crews)

    def _chunks(self, everything: bool) -> Iterator[list[Ticket]]:
        """What goes out now, job by job: all that waits, or only what fills a job."""
        groups: dict[Any, list[Ticket]] = {}
        for ticket in self._waiting:
            sent = ticket.sent
            groups.setdefault((ticket.lm.model, sent.base, sent.endpoint, sent.headers), []).append(ticket)
        for tickets in groups.values():
            chunk: list[Ticket] = []
            size = 0
            for ticket in tickets:
                bytes_ = len(ticket.sent.body) + 200  # what stands around it
                if chunk and (len(chunk) >= self.pacing.max_requests or size + bytes_ > self.pacing.max_bytes):
                    yield chunk
                    chunk, size = [], 0
                chunk.append(ticket)
                size += bytes_
            if everything or len(chunk) >= self.pacing.max_requests:
                yield chunk

    def _hand_in(self, tickets: list[Ticket]) -> None:
        name = uuid.uuid4().hex
        job = Job(self, name, tickets[0].lm, tickets[0].sent)
        job.entries = {}
        counts: dict[str, int] = {}
        for ticket in tickets:
            number = counts[ticket.key] = counts.get(ticket.key, -1) + 1
            place = f"{ticket.key}-{number}"
            job.tickets[place] = ticket
            job.entries[place] = self.shape.entry(place, ticket.sent.endpoint, ticket.sent.body)
        self.store.submitting.add(name)
        self.store.intend(
            name,
            shape=self.shape.name,
            model=job.lm.model,
            owner=this_process(),
            requests=[(place, ticket.key) for place, ticket in job.tickets.items()],
        )
        for place, ticket in job.tickets.items():
            ticket.place = (name, place)
        out = {id(ticket) for ticket in tickets}
        self._waiting = [ticket for ticket in self._waiting if id(ticket) not in out]
        self._start(job)

    def _start(self, job: Job) -> Job:
        self._jobs[job.name] = job
        _start(job.run())
        return job

    def finish(self, job: Job, act: Callable[[], None]) -> None:
        """``job`` is through: ``act`` is done before anybody else can come to wait for it."""
        with self._lock:
            self._jobs.pop(job.name, None)
            self.store.submitting.discard(job.name)
            act()

    def is_waited_for(self) -> bool:
        """Whether anybody waits who is in no job."""
        with self._lock:
            self._waiting = [ticket for ticket in self._waiting if not ticket.over()]
            return bool(self._waiting)

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Nobody waits for their job any more, if there is one."""
        for ticket in tickets:
            if ticket.place is not None:
                self.store.release(ticket.place)
                ticket.place = None
            self.put(ticket)

    async def _adopt(self) -> None:
        """Get the results of the jobs that are to be taken up by their ids, before anything is handed in."""
        while self._adopting:
            with self._lock:
                waiting = self._waiting[:1]
            if not waiting:
                return
            id = self._adopting[0]
            known = self.store.jobs(id=id)
            if not known or not known[0].requests:
                name = known[0].name if known else uuid.uuid4().hex
                job = Job(self, name, waiting[0].lm, waiting[0].sent)
                if not known:
                    self.store.intend(
                        name, shape=self.shape.name, model=job.lm.model, owner=this_process(), requests=(), id=id
                    )
                await job.adopt(id)
            self._adopting.pop(0)
            with self._lock:
                waiting, self._waiting = self._waiting, []
                for ticket in waiting:
                    if not self._find(ticket):
                        self._waiting.append(ticket)

    def _fail_all(self, error: Exception) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for ticket in waiting:
            ticket.fail(error)


def _start(main: Coroutine[Any, Any, None]) -> None:
    from dspex.execution.background import start_in_background  # loads asyncio

    start_in_background(main)
