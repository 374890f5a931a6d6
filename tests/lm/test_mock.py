"""`MockLM`: scripted by list, function and pattern, with latency and failures on demand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import enum
import multiprocessing
import pickle
import threading
from typing import Any

import pydantic
import pytest

from dspex.data import Usage
from dspex.errors import (
    DefinitionError,
    LMAuthError,
    LMRateLimitError,
    LMRequestError,
    LMServerError,
    LMTimeoutError,
    StateError,
)
from dspex.execution import Run, map_threads
from dspex.lm import BaseLM, LMRequest, MessageBlock, MockLM


def shout(messages: list[dict[str, Any]], **params: Any) -> str:
    """A script that pickles."""
    return f"{messages[-1]['content'].upper()} {params.get('temperature', '')}".strip()


def test_a_list_answers_in_order_and_then_says_that_it_is_used_up() -> None:
    lm = MockLM(["a", "b"])
    assert lm("1") + lm("2") == ["a", "b"]
    with pytest.raises(
        LMRequestError, match=r"the MockLM's script has 2 answers, and this asks for number 3: .*repeat=True"
    ):
        lm("3")
    again = MockLM(["a", "b"], repeat=True)
    assert [again("x")[0] for _ in range(5)] == ["a", "b", "a", "b", "a"]


def test_a_function_gets_the_messages_and_the_parameters_it_names() -> None:
    lm = MockLM(
        lambda messages, temperature, rollout_id, schema: f"{temperature} {rollout_id} {schema}", temperature=0.5
    )
    assert lm("x", rollout_id=3, top_p=1.0, schema={}) == ["0.5 3 {}"]
    everything = MockLM(lambda messages, **params: str(sorted(params)))
    assert everything("x", top_p=1.0, temperature=None) == ["['top_p']"]
    assert MockLM(lambda messages: messages[0]["role"])("x", temperature=1.0) == ["user"]


def test_patterns_are_tried_in_order_on_the_last_message() -> None:
    lm = MockLM({r"capital of (\w+)": "city", "(?i)HELLO": lambda messages: "greeting", "": "rest"})
    assert lm("the capital of France") == ["city"]
    assert lm("hello") == ["greeting"]
    assert lm("?") == ["rest"]
    demo = MessageBlock([{"role": "user", "content": "the capital of Italy"}])
    assert lm.generate(LMRequest(demo, ({"role": "user", "content": "?"},))).text == "rest"
    assert lm(messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}]) == ["greeting"]
    with pytest.raises(LMRequestError, match=r"no pattern of the MockLM's script \('a'\) is found in 'zzz'"):
        MockLM({"a": "b"})("zzz")


def test_fields_are_written_the_way_the_adapter_asked() -> None:
    class Point(pydantic.BaseModel):
        x: int

    class Color(enum.Enum):
        RED = "red"

    fields = {"name": "Ö", "sure": True, "points": [Point(x=1)], "color": Color.RED, "tags": {"b", "a"}, "none": None}
    chat = MockLM([fields])("x")[0]
    assert chat.startswith('[[ ## name ## ]]\nÖ\n\n[[ ## sure ## ]]\ntrue\n\n[[ ## points ## ]]\n[{"x": 1}]\n\n')
    assert chat.endswith("[[ ## none ## ]]\nnull\n\n[[ ## completed ## ]]")
    expected = '{"name": "Ö", "sure": true, "points": [{"x": 1}], "color": "red", "tags": ["a", "b"], "none": null}'
    assert MockLM([fields])("x", schema={"type": "object"}) == [expected]
    assert MockLM([fields])("x", response_format={"type": "json_object"}) == [expected]


def test_several_completions() -> None:
    assert MockLM([["a", {"f": "b"}]])("x") == ["a", "[[ ## f ## ]]\nb\n\n[[ ## completed ## ]]"]
    assert MockLM([["a", "b"]])("x", n=3) == ["a", "b", "a"]
    assert MockLM(["a"])("x", n=2) == ["a", "a"]
    assert MockLM([["a", "b"]])("x", n=1) == ["a"]


def test_tokens_are_counted_and_answers_cut_off() -> None:
    run = Run()
    lm = MockLM(["abcdefghij"], price=(1.0, 2.0), max_tokens=2)
    response = lm.generate(LMRequest.of("x" * 10), run)
    assert (response.text, response.completions[0].finish_reason) == ("abcdefgh", "length")
    assert run.usage == Usage(calls=1, prompt_tokens=3, completion_tokens=2, cost=(3 * 1.0 + 2 * 2.0) / 1e6)
    assert MockLM(["a"]).generate(LMRequest.of("x")).usage.cost == 0.0
    assert MockLM(["a"], price=None).generate(LMRequest.of("x")).usage.cost is None


def test_latency_blocking_and_awaiting() -> None:
    lm = MockLM(["x"], repeat=True, latency=0.05)
    assert lm.generate(LMRequest.of("?")).latency >= 0.05
    assert asyncio.run(lm.agenerate(LMRequest.of("?"))).latency >= 0.05
    steps = iter([0.0, 0.02])
    varying = MockLM(["x"], repeat=True, latency=lambda: next(steps))
    varying.generate(LMRequest.of("?"))
    assert varying.generate(LMRequest.of("?")).latency >= 0.02


def test_a_latency_over_the_timeout_is_a_timeout() -> None:
    lm = MockLM(["x"], repeat=True, latency=30, timeout=0.02, retries=1)
    with pytest.raises(LMTimeoutError, match="mock/mock did not answer in time"):
        lm("?")
    with pytest.raises(LMTimeoutError):
        asyncio.run(lm.acall("?"))
    assert len(lm.calls) == 4


def test_failures_by_list_dict_function_and_share() -> None:
    lm = MockLM(["a", "b"], failures=[LMRateLimitError, None, LMServerError("down")], retries=1)
    assert lm("?") + lm("?") == ["a", "b"]  # failures use up no answers
    assert len(lm.calls) == 4
    broken = MockLM(["a"], failures={1: LMAuthError}, repeat=True, model="mock/x")
    assert broken("?") == ["a"]
    with pytest.raises(LMAuthError, match="scripted failure of call 1") as caught:
        broken("?")
    assert caught.value.model == "mock/x"
    with pytest.raises(KeyError, match="odd"):
        MockLM(["a"], failures=lambda number: KeyError("odd"))("?")

    def failed(seed: int) -> list[bool]:
        lm = MockLM(["a"], repeat=True, failures=0.3, seed=seed, retries=0)
        return [_fails(lm) for _ in range(300)]

    assert failed(1) == failed(1)
    assert failed(1) != failed(2)
    assert 60 < sum(failed(1)) < 120
    assert not any(_fails(MockLM(["a"], failures=0)) for _ in range(3))


def _fails(lm: MockLM) -> bool:
    try:
        lm("?")
    except LMServerError:
        return True
    return False


def test_a_failure_instance_may_be_raised_by_many_threads() -> None:
    error = LMAuthError("no key")
    lm = MockLM(["a"], failures=lambda number: error)

    def ask(_: int) -> bool:
        try:
            lm("?")
        except LMAuthError as raised:
            return raised is not error and str(raised) == "no key"
        return False

    assert all(map_threads(ask, range(50), concurrency=8))
    assert error.__traceback__ is None


def test_calls_are_recorded_and_shared_by_copies() -> None:
    lm = MockLM(["a", "b"])
    warm = lm.copy(temperature=1.0)
    assert lm("1") + warm("2") == ["a", "b"]
    assert isinstance(warm, MockLM)
    assert [request.messages[-1]["content"] for request in lm.calls] == ["1", "2"]
    assert warm.calls is lm.calls
    assert (lm.params, warm.params) == ({}, {"temperature": 1.0})


def test_threads_get_each_answer_once() -> None:
    lm = MockLM([str(number) for number in range(500)])
    answers = map_threads(lambda _: lm("?")[0], range(500), concurrency=16)
    assert sorted(map(int, answers)) == list(range(500))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("a text", "script must be a list of answers, a function, or a dict of patterns, not 'a text' (str)"),
        (3, 'right: MockLM(["first answer", {"field": "second answer"}])'),
        ([], "script is an empty list"),
        ({}, "script is an empty dict"),
        ([3], "answer 0 of the script must be a text or a dict of fields"),
        (["a", []], "answer 1 of the script must be"),
        ({"a": 3}, "the answer to 'a' must be a text or a dict of fields"),
        ({"(": "x"}, "script has '(' (str) as a pattern, which is no regular expression"),
        ({3: "x"}, "script has 3 (int) as a pattern"),
    ],
)
def test_scripts_that_cannot_be_meant(script: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        MockLM(script)
    assert message in str(caught.value)


def test_functions_that_cannot_be_meant() -> None:
    async def script(messages: Any) -> str:
        return "x"

    with pytest.raises(DefinitionError, match="script must be an ordinary function, not the async function 'script'"):
        MockLM(script)
    with pytest.raises(DefinitionError, match=r"what the script function 'shout' returned must be .* not 3 \(int\)"):
        MockLM(_named_shout(3))("x")


def _named_shout(value: Any) -> Any:
    def shout(messages: Any) -> Any:
        return value

    return shout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": -1}, "latency must be seconds, 0 or more, or a function that returns them, not -1 (int)"),
        ({"latency": "1"}, "write for example latency=0.02"),
        ({"failures": 2}, "or a share between 0 and 1, not 2 (int)"),
        ({"failures": "all"}, "write for example failures=[dspex.LMRateLimitError, None]"),
        ({"failures": True}, "not True (bool)"),
        ({"model": ""}, "model must be a name"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        MockLM(["x"], **options)
    assert message in str(caught.value)


def test_capabilities() -> None:
    assert {"json_schema", "grammar", "seed", "n", "stop"} == MockLM(["x"]).capabilities
    assert MockLM(["x"], capabilities=["n"]).capabilities == {"n"}


def test_saving_a_script_of_data() -> None:
    lm = MockLM(["a", {"f": "b"}], repeat=True, temperature=0.5, price=(1.0, 2.0))
    twin = BaseLM.from_json(lm.to_json())
    assert isinstance(twin, MockLM)
    assert twin == lm
    assert (twin.script, twin.price) == (["a", {"f": "b"}], (1.0, 2.0))
    assert twin("?") == ["a"]
    patterns = MockLM({"a": "b"})
    assert BaseLM.from_json(patterns.to_json())("a") == ["b"]


def test_a_saved_script_that_was_a_function_is_given_again() -> None:
    data = MockLM(shout).to_json()
    assert data["script"] is None
    with pytest.raises(StateError, match=r"the script of the MockLM 'mock/mock' was a function.*script="):
        BaseLM.from_json(data)
    assert BaseLM.from_json(data, script=shout)("x") == ["X"]
    assert MockLM({"a": shout}).to_json()["script"] is None


@pytest.mark.parametrize("data", [None, {}, {"type": "Elephant"}, {"type": 3}, {"type": "MockLM", "script": ["a"]}])
def test_json_that_is_no_model(data: Any) -> None:
    with pytest.raises(StateError, match="this describes no"):
        BaseLM.from_json(data)


def ask_twice(lm: MockLM) -> list[str]:
    """Runs in the spawned process."""
    return lm("one") + lm("two")


def test_it_survives_into_a_spawned_process() -> None:
    spawn = multiprocessing.get_context("spawn")
    listed = MockLM(["a", "b", "c"], failures=[None, None, LMServerError], latency=0.001)
    assert listed("?") == ["a"]
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(ask_twice, listed).result(120) == ["b", "c"]
        assert pool.submit(ask_twice, MockLM(shout, temperature=0.5)).result(120) == ["ONE 0.5", "TWO 0.5"]
        assert pool.submit(ask_twice, MockLM({"o": "with o"}, cache=True)).result(120) == ["with o"] * 2


def test_scripts_do_not_answer_for_each_other_from_a_cache() -> None:
    assert MockLM(["a"], cache=True)("?") == ["a"]
    assert MockLM(["b"], cache=True)("?") == ["b"]
    assert MockLM(shout, cache=True)("?") == ["?"]
    assert MockLM({"": "p"}, cache=True)("?") == ["p"]
    again = MockLM(["a"], cache=True)
    assert again("?") == ["a"]
    assert again.calls == []
    assert MockLM(["a"]) == MockLM(["a"])
    assert MockLM(["a"]) != MockLM(["b"])


def test_pickling_leaves_records_and_locks_behind() -> None:
    lm = MockLM(shout, cache=True)
    lm("x")
    twin = pickle.loads(pickle.dumps(lm))
    assert twin == lm
    assert twin.calls == []
    assert twin.history == []
    assert twin.cache is lm.cache  # the same file
    assert twin("x") == ["X"]
    assert twin.calls == []  # it was answered from there


def test_a_generator_of_threads_and_tasks_adds_no_threads() -> None:
    lm = MockLM(shout, latency=0.001)
    before = threading.active_count()

    async def main() -> int:
        tasks = [asyncio.create_task(lm.acall("x")) for _ in range(50)]
        await asyncio.sleep(0.0005)
        most = threading.active_count()
        await asyncio.gather(*tasks)
        return most

    assert asyncio.run(main()) <= before
