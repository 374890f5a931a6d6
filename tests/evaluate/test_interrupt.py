"""Ctrl-C returns what is finished: real processes, real signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Answers `a` at once and hangs on all else; says when it hangs, so that the signal comes at that moment.
PROGRAM = """
import asyncio, json, sys, threading, time
from dspex.data import Usage
from dspex.evaluate import Evaluate
from tests.evaluate.fakes import Fake, examples, right

class Hanging(Fake):
    def execute(self, inputs, *, run):
        self._enter(run)
        run.account(Usage(calls=1))
        if inputs["question"] != "a":
            self.say()
            time.sleep(60)
        return self._answered(inputs, run)

    async def aexecute(self, inputs, *, run):
        self._enter(run)
        run.account(Usage(calls=1))
        if inputs["question"] != "a":
            self.say()
            await asyncio.sleep(60)
        return self._answered(inputs, run)

    def say(self):
        if len(self.seen) == 3:
            print("hanging", flush=True)

program = Hanging(natively_async={natively_async})

def main():
    result = Evaluate(examples(20), right, concurrency=2, progress=False)(program)
    time.sleep(0.2)  # what goes on after it was interrupted would show
    print(json.dumps({{
        "rows": [[row.status, row.score] for row in result.rows],
        "planned": result.planned,
        "stopped": result.stopped,
        "calls": result.usage.calls,
        "started": program.calls,
        "cancelled": sum(run.cancelled for run in program.seen),
    }}), flush=True)

async def loop():
    main()

{start}
"""


@pytest.mark.parametrize("natively_async", [True, False], ids=["tasks", "threads"])
@pytest.mark.parametrize("start", ["main()", "asyncio.run(loop())"], ids=["plain", "inside-a-loop"])
def test_ctrl_c_returns_what_is_finished(natively_async: bool, start: str) -> None:
    if start != "main()":
        # As in a notebook, whose loop does not turn the signal into a cancellation of its own.
        start = "asyncio.new_event_loop().run_until_complete(loop())"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(natively_async=natively_async, start=start)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found == {
        "rows": [["ok", 1.0]],
        "planned": 20,
        "stopped": "interrupted",
        "calls": 3,
        "started": 3,
        "cancelled": 2,
    }
    assert "Traceback" not in err
