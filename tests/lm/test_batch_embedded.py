"""A batch endpoint whose answers come from the embedded model: the program says what it says when asked directly."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex import LM, Evaluate, Example, Predict
from dspex.lm import LMRequest
from tests.lm.batch_server import BatchServer, good
from tests.lm.test_batch import CREW, batched

pytestmark = pytest.mark.local_model

DEVSET = [Example(word=word, length=len(word)).with_inputs("word") for word in ("tea", "milk", "water", "coffee")]


def test_an_evaluation_in_one_job_is_the_evaluation_of_the_model_itself() -> None:
    direct = LM("local/smollm2-135m", cache=False, max_tokens=24, temperature=0.0)

    def answer(body: dict[str, Any]) -> Any:
        body = {name: value for name, value in body.items() if name not in ("model", "response_format", "seed")}
        response = direct.generate(LMRequest.of(**body))
        usage = response.usage
        counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        return 200, {**good(response.text), "usage": {**counts, "total_tokens": usage.total_tokens}}

    def metric(example: Any, prediction: Any) -> float:
        return float(len(prediction.sound))

    program = Predict("word -> sound")
    with BatchServer(answer=answer) as server, dspex.context(adapter=dspex.LinesAdapter()):
        lm = batched(server, fast=CREW, max_tokens=24, temperature=0.0)
        through = Evaluate(DEVSET, metric, seed=None)(program, lm=lm)
        itself = Evaluate(DEVSET, metric, seed=None)(program, lm=direct)
    assert len(server.jobs) == 1
    assert [row.output for row in through.rows] == [row.output for row in itself.rows]
    assert [row.error[:20] for row in through.rows] == [row.error[:20] for row in itself.rows]
    assert through.usage.total_tokens == itself.usage.total_tokens
