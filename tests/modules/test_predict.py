"""Predict and ChainOfThought: what is asked, what comes back, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pydantic
import pytest

import dspex
from dspex import ChainOfThought, Example, InputField, JSONAdapter, MockLM, Module, OutputField, Predict, Signature
from dspex.errors import DataError, DefinitionError, LMRequestError, ParseError, StateError
from dspex.execution import Run, Settings
from dspex.lm import Cache


def test_typed_outputs_arrive_typed_with_usage_and_latency() -> None:
    predict = Predict("question -> answer: int, sure: bool, tags: list[str]")
    with dspex.context(lm=MockLM([{"answer": 4, "sure": True, "tags": ["a", "b"]}])):
        result = predict(question="2+2?")
    assert (result.answer, result.sure, result.tags) == (4, True, ["a", "b"])
    assert result.usage.calls == 1
    assert result.latency is not None
    assert result.latency >= 0


def test_values_reach_the_request() -> None:
    lm = MockLM(lambda messages, **params: {"answer": "x"})
    predict = Predict("question -> answer", temperature=0.3, top_p=0.9)
    bound = predict.bind(
        {"instructions": "Be brief.", "demos": (Example(question="1+1", answer="2").with_inputs("question"),)}
    )
    with dspex.context(lm=lm):
        bound(question="2+2?")
    request = lm.calls[0]
    text = "\n".join(m["content"] for m in request.messages)
    assert "Be brief." in text
    assert "1+1" in text
    assert text.index("1+1") < text.index("2+2?")
    assert request.params["temperature"] == 0.3
    assert request.params["top_p"] == 0.9


def test_demos_are_rendered_once() -> None:
    lm = MockLM(lambda messages, **params: {"answer": "x"})
    predict = Predict("question -> answer", demos=[Example(question=str(i), answer=str(i)) for i in range(16)])
    with dspex.context(lm=lm):
        predict(question="a")
        predict(question="b")
    assert lm.calls[0].head is lm.calls[1].head


def test_the_json_adapter_can_be_configured_named_or_given() -> None:
    lm = MockLM(lambda messages, **params: '{"answer": 4}')
    with dspex.context(lm=lm, adapter=JSONAdapter()):
        assert Predict("question -> answer: int")(question="q").answer == 4
    with dspex.context(lm=lm):
        assert Predict("question -> answer: int", adapter="json")(question="q").answer == 4
        assert Predict("question -> answer: int", adapter=JSONAdapter())(question="q").answer == 4


def test_several_completions() -> None:
    predict = Predict("question -> answer", n=2)
    lm = MockLM([{"answer": "a"}, {"answer": "b"}])
    with dspex.context(lm=lm):
        result = predict(question="q")
    assert result.answer == "a"
    assert len(result.completions) >= 1


def test_chain_of_thought_reasons_first_and_is_a_predictor_at_its_own_path() -> None:
    solve = ChainOfThought("question -> answer: int")
    assert list(solve.signature.output_fields) == ["reasoning", "answer"]
    assert list(solve.space())[:2] == ["instructions", "demos"]
    with dspex.context(lm=MockLM([{"reasoning": "twice two", "answer": 4}])):
        result = solve(question="2*2")
    assert (result.reasoning, result.answer) == ("twice two", 4)


def test_the_trace_is_keyed_by_path_and_kept_when_parsing_fails() -> None:
    class Program(dspex.Module):
        def __init__(self) -> None:
            self.one = Predict("x -> y")
            self.two = Predict("y -> z: int")

        def forward(self, x: str) -> Any:
            return self.two(y=self.one(x=x).y)

    run = Run(settings=Settings(lm=MockLM([{"y": "why"}, "no number here"])))
    with pytest.raises(ParseError) as caught:
        Program().execute({"x": "1"}, run=run)
    assert [entry.path for entry in run.trace] == ["one", "two"]
    assert run.trace[0].prediction.y == "why"
    assert run.trace[1].error is not None
    assert run.usage.calls == 2
    assert "in the predictor at `two`" in caught.value.__notes__[0]


def test_a_call_has_parameters_of_its_own_by_config() -> None:
    heard: list[dict[str, Any]] = []

    def model(messages: Any, **params: Any) -> dict[str, str]:
        heard.append(params)
        return {"answer": str(len(heard))}

    predict = Predict("question -> answer", temperature=0.5, top_p=0.9)
    run = Run(settings=Settings(lm=MockLM(model, cache=Cache())))

    def ask(**inputs: Any) -> str:
        return predict.execute({"question": "q", **inputs}, run=run).answer

    assert [ask(), ask(), ask(config={}), ask(config={"temperature": 0.5})] == ["1"] * 4
    other = {"rollout_id": 1, "temperature": 1.0}
    assert [ask(config=other), ask(config=other), ask(config=other | {"rollout_id": 2}), ask()] == ["2", "2", "3", "1"]
    assert heard[0] == {"temperature": 0.5, "top_p": 0.9}
    assert heard[1] == {"temperature": 1.0, "top_p": 0.9, "rollout_id": 1}
    assert run.trace[-2].inputs == {"question": "q"}
    with pytest.raises(DefinitionError, match="temperature must be a number"):
        ask(config={"temperature": "hot"})


def test_config_may_be_an_input() -> None:
    lm = MockLM([{"answer": "x"}])
    Predict("config, question -> answer", lm=lm)(config="debug=1", question="q")
    assert "debug=1" in lm.calls[0].messages[-1]["content"]


@pytest.mark.parametrize(
    ("args", "inputs", "message"),
    [
        ((), {}, "needs the input `question`, which was not given"),
        ((), {"question": "q", "nope": 1}, "was given `nope=1`, which is no input of"),
        ((), {"question": "q", "lm": None}, r"right:  predict\.bind\(\{\"model\": \.\.\.\}\)\(question=\.\.\.\)"),
        ((), {"question": "q", "cache": "off"}, r"right:  with dspex\.context\(cache=\.\.\.\): predict\(question"),
        ((), {"question": "q", "temperature": 1}, r"right:  predict\.bind\(\{\"temperature\": \.\.\.\}\)\(question"),
        (
            (),
            {"question": "q", "config": 3},
            r"config .* must be a dict .* got 3 \(int\)\.\n  right:  .*config=\{\"temperature\": 1\.0",
        ),
        ((), {"question": "q", "config": {"lm": None}}, r"config .* has 'lm'.*\n  right:  predict\.bind\(\{\"model\""),
        ((), {"question": "q", "config": {"cache": "off"}}, r"has 'cache'.*\n  right:  with dspex\.context\(cache="),
        ((), {"question": "q", "demos": []}, r"right:  predict\.bind\(\{\"demos\": \.\.\.\}\)\(question"),
        (("q",), {}, "called with the positional value 'q'; its inputs have names"),
    ],
)
def test_wrong_inputs_are_named_before_any_call(args: Any, inputs: Any, message: str) -> None:
    lm = MockLM(["never"])
    with dspex.context(lm=lm), pytest.raises(DataError, match=message):
        Predict("question -> answer")(*args, **inputs)
    assert len(lm.calls) == 0


def test_no_model_says_how_to_configure_one() -> None:
    with dspex.context(lm=None), pytest.raises(LMRequestError, match=r"dspex\.configure\(lm=dspex\.LM"):
        Predict("question -> answer")(question="q")


def test_a_predictor_made_inside_forward_counts_in_the_run() -> None:
    class Program(dspex.Module):
        def forward(self, x: str) -> Any:
            return Predict("x -> y")(x=x)

    run = Run(settings=Settings(lm=MockLM([{"y": "1"}])))
    Program().execute({"x": "1"}, run=run)
    assert run.usage.calls == 1


def test_async_and_blocking_give_the_same() -> None:
    predict = Predict("x -> y: int")
    with dspex.context(lm=MockLM(lambda messages, **params: {"y": 5})):
        assert predict(x="a").y == asyncio.run(predict.acall(x="a")).y == 5


def test_an_async_forward_can_be_called_blocking_even_inside_a_loop() -> None:
    class Program(dspex.Module):
        def __init__(self) -> None:
            self.predict = Predict("x -> y: int")

        async def forward(self, x: str) -> int:
            return (await self.predict.acall(x=x)).y

    program = Program()

    async def main() -> int:
        return program(x="b")

    with dspex.context(lm=MockLM(lambda messages, **params: {"y": 5})):
        assert program(x="a") == 5
        assert asyncio.run(main()) == 5
    assert program.natively_async


def test_render_shows_the_exact_messages_of_every_predictor() -> None:
    class Program(dspex.Module):
        def __init__(self) -> None:
            self.draft = Predict("topic -> text")
            self.judge = Predict("text -> grade: int")

        def forward(self, topic: str) -> Any:
            return self.judge(text=self.draft(topic=topic).text)

    rendering = Program().render(topic="owls")
    assert list(rendering) == ["draft", "judge"]
    assert "owls" in rendering["draft"][-1]["content"]
    assert "<text>" in rendering["judge"][-1]["content"]
    lm = MockLM([{"text": "t"}])
    with dspex.context(lm=lm):
        Predict("topic -> text")(topic="owls")
    assert lm.calls[0].messages == Predict("topic -> text").render(topic="owls").messages
    assert "━━ draft" in str(rendering)


def test_a_misspelt_argument_does_not_go_to_the_model() -> None:
    with pytest.raises(DefinitionError, match=r"did you mean temperature="):
        Predict("question -> answer", tempature=0.3)


class Place(pydantic.BaseModel):
    name: str
    people: int


class Limited(Signature):
    """Answer."""

    question: str = InputField(max_length=5)
    k: int = InputField(default=3, ge=1)
    answer: str = OutputField()


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("q -> a", {"q": 3}),
        ("q -> a", {"q": ["x", 1]}),
        ("q -> a", {"q": None}),
        ("q: int -> a", {"q": "3"}),
        ("q: int -> a", {"q": np.int64(3)}),
        ("q: float -> a", {"q": 3}),
        ("q: int | None -> a", {"q": None}),
        ("q: list[str] -> a", {"q": ("x", 1)}),
        ("q: list[float] -> a", {"q": np.array([1.0, 2.0])}),
        ("q: str | list[str] -> a", {"q": 3}),
        ("q: Place -> a", {"q": {"name": "Oslo", "people": "709037"}}),
        ("q: Place -> a", {"q": Place(name="Oslo", people=709_037)}),
        (Limited, {"question": "short"}),
        (Limited, {"question": 123456, "k": 1}),
    ],
)
def test_an_input_is_taken_in_any_form_of_its_type(signature: Any, inputs: dict[str, Any]) -> None:
    with dspex.context(lm=MockLM(lambda messages, **params: {"a": "x", "answer": "x"})):
        Predict(signature)(**inputs)


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        (
            "q: int -> a",
            {"q": "hi"},
            r"^the predictor at the root was given `q='hi' \(str\)`, which does not fit `q: int`: Input should be a "
            r"valid integer, .*\.\n  right:  predict\(q=\.\.\.\)  # int\n  right:  q: str  # takes whatever has",
        ),
        (
            "q: int -> a",
            {"q": None},
            r"`q=None`, which does not fit .*\n.*\n  right:  q: int \| None  # where it may",
        ),
        ("q: list[str] -> a", {"q": "text"}, r"`q='text' \(str\)`, which does not fit `q: list\[str\]`: .*valid list"),
        ("q: list[str] -> a", {"q": ["x", None]}, r"does not fit `q: list\[str\]`: 1: Input should be a valid string"),
        ("q: Literal['a', 'b'] -> a", {"q": "c"}, r"Input should be 'a' or 'b'"),
        (
            "q: Place -> a",
            {"q": {"name": "Oslo", "people": "many"}},
            r"does not fit `q: Place`: people: Input should be",
        ),
        (
            Limited,
            {"question": "long text"},
            r"at most 5 char.*\n.*# str, at most 5 long\n.*str = InputField\(\)  # without",
        ),
        (Limited, {"question": "q", "k": 0}, r"`k=0 \(int\)`, which does not fit `k: int`: .*\n.*# int, at least 1"),
    ],
)
def test_an_input_of_another_type_is_refused_before_the_call(signature: Any, inputs: Any, message: str) -> None:
    lm = MockLM([{"a": "x"}])
    with dspex.context(lm=lm), pytest.raises(DataError, match=message):
        Predict(signature)(**inputs)
    assert not lm.calls


def test_a_dry_run_refuses_the_inputs_that_a_call_refuses() -> None:
    with pytest.raises(DataError, match=r"was given `q='hi' \(str\)`, which does not fit `q: int`"):
        Predict("q: int -> a").render(q="hi")


def test_a_dry_run_takes_placeholders_of_any_type() -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.first = Predict("q: int -> place: Place")
            self.second = Predict("place: Place -> k: int")

        def forward(self, q: int) -> Any:
            return self.second(place=self.first(q=q).place)

    assert list(Program().render(q="3")) == ["first", "second"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"lm": "openai/x"},
            DefinitionError,
            r"got 'openai/x' .*\n.*lm=dspex.LM\('openai/x'\)\)\n.*model='openai/x'",
        ),
        ({"n": 0}, DefinitionError, r"n of Predict must be a whole number from 1 on, got 0 \(int\); write Predict"),
        ({"n": "3"}, DefinitionError, r"got '3' \(str\)"),
        ({"demos": 3}, StateError, r"demos = 3 \(int\) does not fit Demos\(\): write a tuple of at most 16 Examples"),
        ({"demos": {"q": "1"}}, StateError, r"Predict\.demos = \{'q': '1'\} \(dict\) does not fit Demos"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Predict("q -> a", **arguments)


def test_the_cache_of_its_calls() -> None:
    lm = dspex.MockLM([{"answer": "x"}], repeat=True, cache=dspex.Cache())
    for policy in (None, None, False, "refresh", "read"):
        dspex.Predict("question -> answer", lm=lm, cache=policy)(question="?")
    assert len(lm.calls) == 3
    with pytest.raises(DefinitionError, match="cache must be one of"):
        dspex.Predict("question -> answer", cache="sometimes")
