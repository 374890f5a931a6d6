"""How the embedded model's requests are handed out and ended, without a model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from dspex.errors import LMConnectionError
from dspex.lm.local import engine
from dspex.lm.local.answer import Answer
from dspex.lm.local.engine import Engine, Job, Setup
from dspex.lm.local.weights import Weights
from dspex.lm.types import MessageBlock


def job() -> Job:
    return Job({"messages": [{"role": "user", "content": "Hi."}]}, MessageBlock([]))


@pytest.fixture
def one_lane(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(engine, "_started", lambda setup, folder: object())
    made = Engine(Setup(Weights("none.gguf", None), lanes=1, threads=1, context=64))
    monkeypatch.setattr(made, "answer", lambda job, port: Answer())
    yield made
    made.stop()


def test_a_request_that_comes_while_the_model_is_unloaded_is_answered_or_refused(
    one_lane: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopper = threading.Thread(target=one_lane.stop)
    take = engine._Lane.take

    def interrupted(lane: Any, taken: Job | None) -> None:
        if taken is not None:
            stopper.start()
            stopper.join(0.2)  # the lane is chosen, and the lock keeps the end from coming in between
        take(lane, taken)

    monkeypatch.setattr(engine._Lane, "take", interrupted)
    last = job()
    one_lane.submit(last)
    assert last.result(10) is not None
    stopper.join(30)
    with pytest.raises(LMConnectionError, match="unloaded before it had answered"):
        one_lane.submit(job())


FORKED = """
import os
from dspex.lm.local import engine
from dspex.lm.local.answer import Answer
from dspex.lm.types import MessageBlock

class Port:
    server = None

kept = []
engine._started = lambda setup, folder: Port()
engine._keep = lambda server: kept.append(server)
engine.Engine.answer = lambda self, job, port: Answer()

def use():
    made = engine.engine_of(engine.Setup(engine.Weights("none.gguf", None), lanes=1, threads=1, context=64))
    job = engine.Job({"messages": []}, MessageBlock([]))
    made.submit(job)
    job.result(30)
    return made

parents = use()
child = os.fork()
if child == 0:
    wrong = 1 * (len(kept) != 1)  # the parent's, whose threads are not here, is never unloaded
    wrong += 2 * (use() is parents)
    engine.stop_engines()
    wrong += 4 * (len(kept) != 1)  # its own is
    os._exit(wrong)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
engine.stop_engines()
assert kept == []
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_unloads_its_own_models_and_leaves_the_parents_alone() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
