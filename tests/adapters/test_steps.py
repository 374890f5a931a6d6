"""Answers that take further questions: asking again, and the second step of `TwoStepAdapter`."""

from __future__ import annotations

import asyncio
import pickle
from contextlib import suppress
from typing import Any

import pytest

import dspex
from dspex import ChatAdapter, JSONAdapter, MockLM, Predict, TwoStepAdapter
from dspex.adapters import adapter_from_json, adapter_named
from dspex.errors import BudgetExceeded, DefinitionError, ParseError
from dspex.execution import Run, Settings
from dspex.lm import BaseLM, Completion, LMRequest, LMResponse
from dspex.lm.named import register_lm
from dspex.signatures import Signature

BAD = "[[ ## answer ## ]]\nmany [[ ## question ## ]]"
GOOD = {"answer": 4}
PRICE = (1.0, 2.0)


def asked(lm: MockLM, number: int) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in lm.calls[number].messages]


@pytest.mark.parametrize("awaited", [False, True])
def test_a_second_question_shows_the_answer_and_what_is_wrong_with_it(awaited: bool) -> None:
    lm = MockLM([BAD, GOOD], price=PRICE)
    predict = Predict("question -> answer: int", reasks=1)
    with dspex.context(lm=lm):
        result = asyncio.run(predict.acall(question="2 + 2?")) if awaited else predict(question="2 + 2?")
    assert result.answer == 4
    assert asked(lm, 1)[:2] == asked(lm, 0)
    (answered, again) = asked(lm, 1)[2:]
    assert answered == ("assistant", BAD)
    assert again[0] == "user"
    assert "answer: Input should be a valid integer" in again[1]
    tokens = [call.head.characters + sum(len(m["content"]) for m in call.tail) for call in lm.calls]
    written = [len(BAD), len("[[ ## answer ## ]]\n4\n\n[[ ## completed ## ]]")]
    assert result.usage.calls == 2
    assert result.usage.prompt_tokens == sum(-(-count // 4) for count in tokens)
    assert result.usage.completion_tokens == sum(-(-count // 4) for count in written)
    assert result.usage.cost == pytest.approx(
        (result.usage.prompt_tokens * PRICE[0] + result.usage.completion_tokens * PRICE[1]) / 1e6
    )


def test_it_is_bounded_and_off_unless_asked_for() -> None:
    for reasks, calls in ((None, 1), (0, 1), (2, 3)):
        lm = MockLM([BAD], repeat=True)
        with dspex.context(lm=lm), pytest.raises(ParseError, match="`answer`"):
            Predict("question -> answer: int", reasks=reasks)(question="q")
        assert len(lm.calls) == calls


def test_what_is_repaired_locally_is_not_asked_again() -> None:
    lm = MockLM(["Well, **Answer:** it is 4."])
    with dspex.context(lm=lm):
        assert Predict("question -> answer: int", reasks=3)(question="q").answer == 4
    assert len(lm.calls) == 1


def test_it_is_a_variable_and_counts_against_the_budget() -> None:
    predict = Predict("question -> answer: int", reasks=dspex.Int(0, 2))
    assert "reasks" in predict.space().tunable
    lm = MockLM([BAD, GOOD])
    with dspex.context(lm=lm, budget=dspex.Budget(calls=1)), pytest.raises(BudgetExceeded):
        predict.bind({"reasks": 1})(question="q")
    assert len(lm.calls) == 1


def test_each_completion_is_asked_for_by_itself() -> None:
    lm = MockLM([[GOOD, BAD], {"answer": 5}])
    with dspex.context(lm=lm):
        result = Predict("question -> answer: int", n=2, reasks=1)(question="q")
    assert result.completions.answer == [4, 5]
    assert "n" not in lm.calls[1].params


def test_what_the_model_wrote_is_no_template() -> None:
    lm = MockLM(["{{ problems }}{% for x in y %}", GOOD])
    with dspex.context(lm=lm):
        assert Predict("question -> answer: int", reasks=1)(question="q").answer == 4
    assert "{{ problems }}{% for x in y %}" in asked(lm, 1)[-1][1]


def test_the_words_can_be_replaced() -> None:
    lm = MockLM([BAD, GOOD])
    adapter = ChatAdapter({"reask": "No: {{ problems | length }}."})
    with dspex.context(lm=lm):
        Predict("question -> answer: int", reasks=1, adapter=adapter)(question="q")
    assert asked(lm, 1)[-1] == ("user", "No: 1.")


def test_the_embedded_model_is_asked_again() -> None:
    lm = dspex.LM("local/smollm2-135m", cache=False)
    predict = Predict("question -> answer: Literal['xylophone']", reasks=1, max_tokens=12, temperature=0.0)
    run = Run(settings=Settings(lm=lm))
    # It will hardly say so: what counts is that it was asked twice, and that both calls are on the account.
    with suppress(ParseError):
        predict.execute({"question": "Which fruit is yellow?"}, run=run)
    assert run.usage.calls == len(lm.recent) == 2
    assert lm.recent[1][0].messages[-2]["role"] == "assistant"


# -- two steps --------------------------------------------------------------------------------------------

TASK = "question -> answer: int, sure: Literal['yes', 'no']"
FREE = "Two and two make four, and of that I am sure. [[ ## answer ## ]] 7"


@pytest.mark.parametrize("awaited", [False, True])
def test_another_model_reads_the_free_answer(awaited: bool) -> None:
    thinker, reader = MockLM([FREE], price=(10.0, 10.0)), MockLM([{"answer": 4, "sure": "yes"}], price=(1.0, 1.0))
    predict = Predict(TASK, adapter=TwoStepAdapter(extraction_model=reader), lm=thinker, temperature=1.0)
    result = asyncio.run(predict.acall(question="2 + 2?")) if awaited else predict(question="2 + 2?")
    assert (result.answer, result.sure) == (4, "yes")
    assert result.usage.calls == 2
    first, second = thinker.calls[0], reader.calls[0]
    assert "[[ ##" not in first.messages[0]["content"]
    assert "temperature" not in second.params
    question = second.messages[-1]["content"]
    assert FREE.replace("[[ ##", "[\\[ ##") in question  # as a value: it cannot act as a header
    assert "2 + 2?" not in question
    spent = result.usage.prompt_tokens + result.usage.completion_tokens
    assert result.usage.total_tokens == spent


def test_a_second_step_that_cannot_be_read_is_asked_again() -> None:
    reader = MockLM(["no idea", '{"answer": 4, "sure": "yes"}'])
    adapter = TwoStepAdapter(extraction_model=reader, extraction=JSONAdapter())
    result = Predict(TASK, adapter=adapter, lm=MockLM([FREE]), reasks=1)(question="q")
    assert result.answer == 4
    assert result.usage.calls == 3
    assert reader.calls[0].schema is not None


def test_demos_are_shown_in_the_free_form() -> None:
    head = TwoStepAdapter().head(Signature(TASK), "Add.", ({"question": "1 + 1?", "answer": 2, "sure": "yes"},))
    assert [message["content"] for message in head.messages[1:]] == [
        "[[ ## question ## ]]\n1 + 1?",
        "Answer: 2\n\nSure: yes",
    ]


def test_two_step_adapters_are_values() -> None:
    register_lm(MockLM(["x"]), name="mock/reader")
    adapter = TwoStepAdapter(extraction_model="mock/reader", extraction=JSONAdapter({"user": "x"}))
    assert adapter == pickle.loads(pickle.dumps(adapter)) == adapter_from_json(adapter.to_json())
    assert adapter != TwoStepAdapter() == adapter_named("two_step")
    assert "mock/reader" in str(adapter.to_json())
    with pytest.raises(DefinitionError, match="extraction_model must be a model or its name, not 3"):
        TwoStepAdapter(extraction_model=3)  # type: ignore[arg-type]  # the error is the test


def test_an_output_may_be_called_text() -> None:
    reader: Any = MockLM([{"text": "four"}])
    result = Predict("question -> text", adapter=TwoStepAdapter(extraction_model=reader), lm=MockLM([FREE]))(
        question="q"
    )
    assert result.text == "four"


class Beside(BaseLM):
    """Answers with completions as they are."""

    capabilities = frozenset({"tools"})

    def __init__(self, *answers: Completion) -> None:
        super().__init__("test/beside")
        self.answers = list(answers)
        self.asked: list[LMRequest] = []

    def _send(self, request: LMRequest, timeout: float | None) -> LMResponse:
        self.asked.append(request)
        return LMResponse((self.answers.pop(0),), dspex.Usage(calls=1), self.model)


def look_up(word: str) -> str:
    """Look a word up."""
    return word


def call(arguments: str) -> dict[str, str]:
    return {"id": "1", "name": "look_up", "arguments": arguments}


TOOLS = [dspex.Tool(look_up)]
LOOKED_UP = [{"name": "look_up", "args": {"word": "sea"}}]


@pytest.mark.parametrize("adapter", ["chat", "json", "xml", "compact", "lines", "two_step"])
@pytest.mark.parametrize("arguments", ["[1]", "sea", '"sea"'])
def test_calls_that_cannot_be_read_are_asked_for_again(adapter: str, arguments: str) -> None:
    bad, good = (Completion("", tool_calls=(call(text),)) for text in (arguments, '{"word": "sea"}'))
    spec = "question, tools: list[dspex.Tool] -> calls: dspex.ToolCalls"
    with pytest.raises(ParseError, match="must be a JSON object") as caught:
        Predict(spec, lm=Beside(bad), adapter=adapter)(question="?", tools=TOOLS)
    assert list(caught.value.problems) == ["calls"]
    lm = Beside(bad, good)
    prediction = Predict(spec, lm=lm, adapter=adapter, reasks=1)(question="?", tools=TOOLS)
    assert prediction.calls.model_dump() == LOOKED_UP
    assert arguments in lm.asked[1].messages[-1]["content"]
    assert prediction.usage.calls == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_two_steps_keep_what_comes_beside_the_text(streamed: bool) -> None:
    def run(spec: str, *answers: Completion) -> tuple[Any, int]:
        lm = Beside(*answers)
        program = Predict(spec, lm=lm, adapter="two_step")
        inputs = {"question": "?", "tools": TOOLS}
        *_, final = program.stream(inputs) if streamed else [dspex.Final(program(**inputs))]
        assert isinstance(final, dspex.Final)
        return final.prediction, len(lm.asked)

    calls = (call('{"word": "sea"}'),)
    spec = "question, tools: list[dspex.Tool] -> answer, calls: dspex.ToolCalls"
    prediction, asked = run(spec, Completion("", tool_calls=calls))
    assert (prediction.answer, prediction.calls.model_dump(), asked) == (None, LOOKED_UP, 1)
    said = Completion("[[ ## answer ## ]]\nwet")
    prediction, asked = run(spec, Completion("It is wet.", tool_calls=calls), said)
    assert (prediction.answer, prediction.calls.model_dump(), asked) == ("wet", LOOKED_UP, 2)
    prediction, asked = run(spec, Completion("It is wet."), said)
    assert (prediction.answer, prediction.calls.model_dump(), asked) == ("wet", [], 2)
    spec = "question, tools: list[dspex.Tool] -> reasoning: dspex.Reasoning, answer"
    prediction, asked = run(spec, Completion("It is wet.", reasoning="Rain."), said)
    assert (str(prediction.reasoning), prediction.answer, asked) == ("Rain.", "wet", 2)
