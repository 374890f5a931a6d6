"""Jobs outlive whoever submitted them: nothing is lost and nothing is paid for twice, whenever a process ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import LM, BatchLM, Budget, Evaluate, Predict
from dspex.errors import DeadlineExceeded, LMError, LMServerError, LMTimeoutError, StorageError
from dspex.execution import Crew, Run
from dspex.lm import LMRequest, MockLM, batch_queue
from dspex.lm.batch_store import BatchStore
from dspex.lm.batch_wire import HTTPDesk
from tests.lm.batch_server import BatchServer, Hold, good, refuse, reset_after
from tests.lm.test_batch import CREW, DEVSET, FAST, LONG, ask_all, batched, exact, hurry, live, say, server

__all__ = ["hurry", "server"]

both = pytest.mark.parametrize("shape", ["openai", "anthropic"])

CLIENT = """
import sys
from dspex import LM, BatchLM
model, address, *texts = sys.argv[1:]
lm = BatchLM(LM(model, api_base=address, api_key="sk-very-secret", max_tokens=50), settle=0.01, quiet=0.05, poll=0.01)
print([lm(text) for text in texts])
"""


class Client:
    """The same line in a process of its own."""

    def __init__(self, server: BatchServer, shape: str, *texts: str) -> None:
        lm = live(server, shape=shape)
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, lm.model, str(lm.api_base), *texts],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(dspex.__file__).parents[1],
        )

    def reaches(self, hold: Hold) -> None:
        """Wait until its request is held up there."""
        while not hold.reached.wait(0.05):
            assert self.process.poll() is None, "the client has ended"

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        out, _ = self.process.communicate()
        assert self.process.returncode == 0
        return out.strip()


@pytest.fixture
def held(server: BatchServer) -> Iterator[Any]:
    """Holds up the next requests of a kind, and lets all go in the end."""
    holds: list[Hold] = []

    def hold(operation: str, *, after: bool = False) -> Hold:
        holds.append(Hold(after=after))
        server.fault(operation, holds[-1])
        return holds[-1]

    yield hold
    for one in holds:
        one.let_go.set()


def paused_once(begun: threading.Event, over: threading.Event) -> Any:
    """In place of the pauses of a job: the first one lasts until it is ``over``, the others do not last."""
    usual = asyncio.sleep

    async def sleep(seconds: float) -> None:
        first = not begun.is_set()
        begun.set()
        await usual(0)
        while first and not over.is_set():
            await usual(0.01)

    return sleep


def leave_submitted(lm: BatchLM, *texts: str) -> None:
    """Ask, and go away when all of it is under way."""

    async def main() -> None:
        tasks = [asyncio.create_task(lm.acall(text)) for text in texts]
        while sum(job.requests for job in lm.jobs() if job.status == "submitted") < len(texts):
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


class TestKilled:
    def test_while_the_job_is_under_way(self, server: BatchServer, held: Any) -> None:
        server.polls = LONG
        polled = held("poll")
        client = Client(server, "openai", "a")
        client.reaches(polled)
        client.kill()
        polled.let_go.set()
        lm = batched(server)
        assert [(job.status, job.open) for job in lm.jobs()] == [("submitted", 1)]
        server.polls = 1
        assert lm("a") == ["answer to a"]
        assert server.billed == {"a": 1}
        assert [(job.status, job.open) for job in lm.jobs()] == [("ended", 0)]

    @both
    def test_between_the_submission_and_its_record(self, server: BatchServer, held: Any, shape: str) -> None:
        ask_all(batched(server, shape=shape), "older")
        submitted = held("submit", after=True)
        client = Client(server, shape, "a")
        client.reaches(submitted)
        client.kill()
        submitted.let_go.set()
        lm = batched(server, shape=shape)
        assert lm.jobs()[-1].status == "intended"
        assert lm("a") == ["answer to a"]
        assert server.billed == {"older": 1, "a": 1}
        assert len(server.jobs) == 2

    @both
    def test_before_the_submission_got_there(self, server: BatchServer, held: Any, shape: str) -> None:
        upload = held("upload" if shape == "openai" else "submit")
        client = Client(server, shape, "a")
        client.reaches(upload)
        client.kill()
        lm = batched(server, shape=shape)
        assert lm("a") == ["answer to a"]
        assert server.billed == {"a": 1}
        assert [job.status for job in lm.jobs()] == ["ended"]

    def test_another_process_waits_for_the_one_that_is_submitting(self, server: BatchServer, held: Any) -> None:
        submitting = held("submit")
        client = Client(server, "openai", "a")
        client.reaches(submitting)
        answers: list[Any] = []
        lm = batched(server)
        other = threading.Thread(target=lambda: answers.append(lm("a")))
        other.start()
        while not lm._queue._jobs:  # it has found the intention
            threading.Event().wait(0.01)
        submitting.let_go.set()
        other.join()
        assert answers == [["answer to a"]]
        assert client.said() == "[['answer to a']]"
        assert server.billed == {"a": 1}


class TestCancelled:
    def test_what_was_not_submitted_is_not_submitted_any_more(self, server: BatchServer) -> None:
        lm = batched(server, fast=CREW)

        async def main() -> None:
            task = asyncio.create_task(lm.acall("a"))
            while not lm._queue._waiting:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert not lm._queue._waiting
        assert batched(server)("b") == ["answer to b"]
        assert server.asked == {"b": 1}

    def test_the_requests_of_a_cancelled_run_stay_at_home(self, server: BatchServer) -> None:
        lm = batched(server, fast=CREW)
        run = Run()
        failed: list[BaseException] = []

        def ask() -> None:
            try:
                lm("a", run=run)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not lm._queue._waiting:
            threading.Event().wait(0.01)
        run.cancel("no longer wanted")
        thread.join()
        assert isinstance(failed[0], DeadlineExceeded)
        assert not server.jobs
        assert (run.usage.failed_calls, run.usage.cost) == (1, 0.0)

    @pytest.mark.parametrize("how", ["task", "run", "deadline", "stream", "unready"])
    @pytest.mark.parametrize("stands_in", [False, True], ids=["itself", "fallback"])
    def test_what_stays_at_home_costs_nothing_and_frees_its_budget(
        self, server: BatchServer, how: str, stands_in: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lm = BatchLM(live(server), **CREW, deadline=0.05 if how == "deadline" else None)
        refused = LMServerError("down", model="mock/mock", billed=False)
        first = MockLM(["x"], failures=[refused], retries=0, fallbacks=[lm]) if stands_in else lm
        called = threading.Event()
        if how == "unready":  # the request has not even been made

            async def call(*_: Any, **__: Any) -> Any:
                called.set()
                await asyncio.sleep(600)

            monkeypatch.setattr(LM, "_called", call)
        budget = Budget(usd=1.0, calls=10)

        async def main() -> None:
            run = Run(budget=budget)
            request = LMRequest.of("a")
            asked = anext(first.astream(request, run)) if how == "stream" else first.agenerate(request, run)
            task = asyncio.ensure_future(asked)
            while not lm._queue._waiting and not called.is_set() and not task.done():
                await asyncio.sleep(0.01)
            if how == "run":
                run.cancel("no longer wanted")
            elif how != "deadline":
                task.cancel()
            ended = (asyncio.CancelledError, DeadlineExceeded, LMServerError if stands_in else LMTimeoutError)
            with pytest.raises(ended):
                await task

        with dspex.track_usage() as usage:
            asyncio.run(main())
        assert (usage.total.calls, usage.total.failed_calls, usage.total.cost) == (0, 1 + stands_in, 0.0)
        assert (budget.in_flight.calls, budget.in_flight.usd) == (0, 0.0)
        assert budget.spent.usd == 0.0
        assert not server.seen

    def test_what_waits_in_a_job_that_is_refused_is_taken_out_of_it(
        self, server: BatchServer, held: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused, again = threading.Event(), threading.Event()
        server.fault("submit", refuse(429))
        monkeypatch.setattr("dspex.lm.batch_job._sleep", paused_once(refused, again))
        lm, crew = batched(server, fast=CREW), Crew(3, 3)

        async def ask(text: str) -> Any:
            with crew.member():
                return await lm.agenerate(LMRequest.of(text))

        async def main() -> list[Any]:
            with dspex.track_usage() as usage:
                tasks = [asyncio.create_task(ask(text)) for text in "abc"]
                while not refused.is_set():
                    await asyncio.sleep(0.01)
                tasks[1].cancel()
                await asyncio.wait(tasks[1:2])
                cancelled = usage.total
                again.set()
                return [cancelled, *await asyncio.gather(*tasks, return_exceptions=True)]

        cancelled, a, b, c = asyncio.run(main())
        assert (cancelled.failed_calls, cancelled.cost) == (1, 0.0)
        assert (a.text, type(b), c.text) == ("answer to a", asyncio.CancelledError, "answer to c")
        assert server.asked == {"a": 1, "c": 1}
        assert [(job.status, job.requests, job.open) for job in lm.jobs()] == [("ended", 2, 0)]

    def test_a_job_that_is_taken_back_whole_before_it_begins_is_forgotten(
        self, server: BatchServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual, begun = batch_queue._start, []

        def start(main: Any) -> None:
            (begun.append if main.__qualname__ == "Job.run" else usual)(main)

        monkeypatch.setattr(batch_queue, "_start", start)
        lm = batched(server)

        async def main() -> None:
            task = asyncio.create_task(lm.agenerate(LMRequest.of("a")))
            while not begun:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        with dspex.track_usage() as usage:
            asyncio.run(main())
        usual(begun[0])
        while lm._queue._jobs:
            threading.Event().wait(0.01)
        assert (usage.total.failed_calls, usage.total.cost) == (1, 0.0)
        assert (lm.jobs(), server.seen) == ([], [])

    def test_what_was_handed_in_may_be_billed(self, server: BatchServer, held: Any) -> None:
        submitting = held("submit")
        lm = batched(server)
        budget = Budget(usd=1.0)

        async def main() -> None:
            task = asyncio.create_task(lm.agenerate(LMRequest.of("a"), Run(budget=budget)))
            while not submitting.reached.is_set():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        with dspex.track_usage() as usage:
            asyncio.run(main())
        assert (usage.total.failed_calls, usage.total.cost) == (1, None)
        assert budget.spent.usd > 0

    @both
    def test_what_was_submitted_goes_on_and_is_found(self, server: BatchServer, shape: str) -> None:
        server.polls = LONG
        lm = batched(server, shape=shape)
        leave_submitted(lm, "a", "b")
        jobs = len(server.jobs)
        server.polls = 1
        assert ask_all(lm, "a", "b")[0].text == "answer to a"
        assert server.billed == {"a": 1, "b": 1}
        assert len(server.jobs) == jobs

    @both
    def test_who_asks_again_while_a_job_is_being_left(
        self, server: BatchServer, shape: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.polls = LONG
        lm = batched(server, shape=shape, fast={**FAST, "poll": 0.05})
        leaving, left = threading.Event(), threading.Event()
        usual = HTTPDesk.__aexit__

        async def leave(desk: HTTPDesk, *args: object) -> None:
            leaving.set()
            while not left.is_set():
                await asyncio.sleep(0.01)
            await usual(desk, *args)

        async def first() -> None:
            task = asyncio.create_task(lm.acall("a"))
            while not any(job.status == "submitted" for job in lm.jobs()):
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async def second() -> list[str]:
            task = asyncio.create_task(lm.acall("a"))
            while not any(job.tickets for job in lm._queue._jobs.values()):
                await asyncio.sleep(0.01)
            left.set()
            return await asyncio.wait_for(task, 60)

        monkeypatch.setattr(HTTPDesk, "__aexit__", leave)
        asyncio.run(first())
        assert leaving.wait(60)
        server.polls = 1
        assert asyncio.run(second()) == ["answer to a"]
        assert server.billed == {"a": 1}

    def test_a_deadline_of_the_call(self, server: BatchServer) -> None:
        server.polls = LONG
        lm = BatchLM(live(server, retries=0), **FAST, deadline=0.2)
        with pytest.raises(LMTimeoutError):
            lm("a")
        server.polls = 1
        assert batched(server)("a") == ["answer to a"]
        assert server.billed == {"a": 1}

    def test_ctrl_c_in_an_evaluation_and_the_same_line_again(self, server: BatchServer) -> None:
        server.polls = LONG
        server.answer = say
        main = threading.main_thread().ident
        assert main is not None

        def interrupt(handler: Any) -> bool:
            signal.pthread_kill(main, signal.SIGINT)
            return True

        server.fault("poll", interrupt)
        result = Evaluate(DEVSET, exact)(Predict("question -> answer"), lm=batched(server, fast=CREW))
        assert (result.stopped, result.rows) == ("interrupted", ())
        server.polls = 1
        result = Evaluate(DEVSET, exact)(Predict("question -> answer"), lm=batched(server, fast=CREW))
        assert (result.score, result.usage.calls) == (1.0, 24)
        assert set(server.billed.values()) == {1}
        assert len(server.jobs) == 1


class TestFound:
    def test_a_part_of_a_job_now_and_the_rest_later(self, server: BatchServer) -> None:
        server.polls = LONG
        lm = batched(server, cache=False, fast=CREW)

        async def main() -> None:
            tasks = asyncio.gather(*(lm.acall(text) for text in "abc"), return_exceptions=True)
            while len(lm._queue._waiting) < 3:
                await asyncio.sleep(0.01)
            for ticket in lm._queue._waiting:
                ticket.asked -= 2 * LONG  # they have waited for long
            while not any(job.status == "submitted" for job in lm.jobs()):
                await asyncio.sleep(0.01)
            tasks.cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks

        asyncio.run(main())
        server.polls = 1
        again = batched(server, cache=False)
        assert again("a") == ["answer to a"]
        assert [job.open for job in again.jobs()] == [2]
        assert ask_all(again, "b", "c")[1].text == "answer to c"
        assert len(server.jobs) == 1
        # Each result is given once: without a cache, what is asked again is asked again.
        assert again("a") == ["answer to a"]
        assert server.billed == {"a": 2, "b": 1, "c": 1}

    @both
    def test_by_its_id_from_another_machine(self, server: BatchServer, tmp_path: Path, shape: str) -> None:
        for text in "ab":
            batched(server, shape=shape, cache=False, fast={**FAST, "folder": tmp_path / "there"})(text)
        here = {**FAST, "folder": tmp_path / "here", "resume": ["batch_1", "batch_2"]}
        lm = batched(server, shape=shape, cache=False, fast=here)
        assert [lm(text) for text in "abc"] == [["answer to a"], ["answer to b"], ["answer to c"]]
        assert server.billed == {"a": 1, "b": 1, "c": 1}
        assert [job.id for job in lm.jobs()] == ["batch_1", "batch_2", "batch_3"]

    def test_an_id_that_is_not_there(self, server: BatchServer) -> None:
        lm = batched(server, fast={**FAST, "resume": "batch_77"})
        with pytest.raises(LMError, match="batch_77 of openai/gpt-4o-mini has vanished"):
            lm("a")
        assert not server.jobs

    def test_credentials_that_do_not_hold_any_more_leave_the_job_alone(self, server: BatchServer) -> None:
        server.polls = LONG
        lm = batched(server, retries=0)
        leave_submitted(lm, "a")
        server.fault("poll", *[refuse(401)] * 3)
        with pytest.raises(LMError):
            batched(server, retries=0)("a")
        server.faults.clear()
        server.polls = 1
        assert batched(server)("a") == ["answer to a"]
        assert server.billed == {"a": 1}

    def test_when_it_is_not_known_whether_a_job_got_there_it_is_looked_for_by_the_next_call(
        self, server: BatchServer
    ) -> None:
        server.fault("submit", reset_after)
        server.fault("list", *[refuse(500)] * 50)
        lm = batched(server, retries=0)
        with pytest.raises(LMError, match="is not known") as caught:
            lm("a")
        assert caught.value.billed
        server.faults.clear()
        assert lm("a") == ["answer to a"]
        assert server.billed == {"a": 1}


class TestTheRecord:
    def test_a_file_of_another_program_is_refused_before_anything_is_submitted(
        self, server: BatchServer, tmp_path: Path
    ) -> None:
        (tmp_path / "batches.db").write_bytes(b"no database" * 100)
        lm = batched(server, fast={**FAST, "folder": tmp_path})
        with pytest.raises(StorageError, match="Name another folder"):
            lm("a")
        assert not server.seen

    def test_only_one_finds_out_what_became_of_a_job(self, tmp_path: Path) -> None:
        store = BatchStore(tmp_path / "batches.db")
        store.intend("one", shape="openai", model="m", owner="host/1/1/x", requests=[("k-0", "k")])
        (job,) = store.jobs()
        assert store.take_over(job, "me")
        assert not store.take_over(job, "another")

    def test_a_request_is_claimed_once_until_it_is_released(self, tmp_path: Path) -> None:
        store = BatchStore(tmp_path / "batches.db")
        store.intend("one", shape="openai", model="m", owner="me", requests=[("k-0", "k"), ("k-1", "k")])
        assert store.claim("k") is None  # both are waited for
        store.release(("one", "k-0"))
        assert store.claim("k") == (("one", "k-0"), None)
        assert store.claim("k") is None
        store.release(("one", "k-1"))
        store.ended("one", {"k-1": {"status": 200, "body": good("a")}})
        place, result = store.claim("k") or (None, None)
        assert (place, result) == (("one", "k-1"), {"status": 200, "body": good("a")})
        store.take(("one", "k-1"))
        assert store.claim("k") is None
        assert [job.open for job in store.jobs()] == [1]
