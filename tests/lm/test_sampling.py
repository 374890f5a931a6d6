"""Parameters of sampling: those that are refused, and what becomes of an answer that they cut off."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import warnings
from typing import Any

import pytest

import dspex
from dspex import LM, Budget, MockLM, Predict, Prediction
from dspex.errors import DefinitionError, ParseError
from dspex.evaluate import Terms
from dspex.lm import Cache, LMRequest

WRONG: list[tuple[str, Any, str]] = [
    ("n", 0, "a whole number, 1 or more, .*not 0 \\(int\\); write n=3"),
    ("n", "x", "a whole number, 1 or more, .*not 'x' \\(str\\); write n=3"),
    ("n", True, "a whole number"),
    ("n", 1.5, "a whole number"),
    ("max_tokens", "x", "a whole number, 1 or more, .*write max_tokens=1000"),
    ("max_tokens", 0, "a whole number, 1 or more"),
    ("max_tokens", 1e3, "a whole number, 1 or more"),
    ("max_completion_tokens", -1, "a whole number, 1 or more"),
    ("temperature", "hot", "a number, 0 or more, or None for the provider's default, not 'hot' \\(str\\); write"),
    ("temperature", -1, "a number, 0 or more"),
    ("temperature", math.nan, "a number, 0 or more"),
    ("temperature", False, "a number, 0 or more"),
    ("top_p", 2, "a number from 0 to 1"),
    ("top_p", -0.1, "a number from 0 to 1"),
    ("top_k", "x", "a whole number"),
    ("stop", 3, 'a text or a list of texts, .*not 3 \\(int\\); write stop=\\["###"\\]'),
    ("stop", ["a", 3], "a text or a list of texts"),
    ("seed", "x", "a whole number, .*write seed=7"),
    ("seed", 0.5, "a whole number"),
    ("logprobs", "yes", "True, False or how many"),
    ("top_logprobs", -1, "a whole number, 0 or more"),
    ("presence_penalty", "much", "a number, .*write presence_penalty=0.5"),
    ("frequency_penalty", math.inf, "a number"),
    ("logit_bias", [1], "a dict"),
]
MISSPELT = {"temperatur": "temperature", "max_token": "max_tokens", "topp": "top_p", "stops": "stop"}
FINE: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 2.5, "min_p": 0.1},  # as with vLLM and llama.cpp
    {"temperature": 2.0, "top_p": 1, "n": 1, "max_tokens": 1, "seed": -1, "stop": "x"},
    {"temperature": None, "max_tokens": None, "n": None, "stop": None},
    {"stop": ("a", "b"), "logprobs": True, "top_logprobs": 0, "presence_penalty": -2, "top_k": -1},
    {"top_a": 0.2, "min_tokens": 3, "prompt_logprobs": 1, "length_penalty": 1.0, "extra_body": {"temperatur": 1}},
    {"beam_width": "what only this provider knows", "best_of": 0, "reasoning_effort": {"effort": "low"}},
]


def test_callbacks_are_not_of_one_model_or_predictor() -> None:
    for given in (
        lambda: LM("openai/gpt-4o-mini", callbacks=[]),
        lambda: MockLM(["x"], callbacks=[]),
        lambda: MockLM(["x"])("q", callbacks=[]),
        lambda: Predict("q -> a", callbacks=[]),
    ):
        with pytest.raises(DefinitionError, match=r"callbacks=\[\] of one model .*write dspex\.configure\(callbacks="):
            given()


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("timeout", 0.3, "timeout"),
        ("num_retries", 1, "retries"),
        ("max_retries", 1, "retries"),
        ("api_base", "http://elsewhere.example", "api_base"),
        ("base_url", "http://elsewhere.example", "api_base"),
        ("deadline", 3, "deadline"),
        ("fallbacks", ["openai/b"], "fallbacks"),
        ("capabilities", ["json_schema"], "capabilities"),
        ("model_type", "text", "model_type"),
        ("prompt_caching", False, "prompt_caching"),
        # As litellm calls them.
        ("request_timeout", 3, "timeout"),
        ("stream_timeout", 3, "timeout"),
        ("retry_strategy", "constant_retry", "retries"),
        ("max_parallel_requests", 3, "max_concurrency"),
    ],
)
def test_what_a_model_is_made_with_goes_with_no_request(name: str, value: Any, instead: str) -> None:
    lm = MockLM(["a"], repeat=True)
    for given in (
        lambda: lm("q", **{name: value}),
        lambda: lm.copy(**{name: value}),
        lambda: lm.generate(LMRequest.of("q", **{name: value})),
        lambda: Predict("q -> a", **{name: value}),
        lambda: Predict("q -> a", lm=lm)(q="?", config={name: value}),
    ):
        with pytest.raises(DefinitionError, match=rf"{name}= is no parameter .* dspex\.LM\(\.\.\., {instead}=\.\.\.\)"):
            given()
    with pytest.raises(DefinitionError, match=r'cache= is no parameter .* lm\(\.\.\., cache="refresh"\)'):
        lm.copy(cache=False)
    with pytest.raises(DefinitionError, match="model= is no parameter that goes with a request: it is the model that"):
        lm.generate(LMRequest.of("q", model="openai/other"))
    assert not lm.calls


@pytest.mark.parametrize(("name", "value", "said"), WRONG, ids=repr)
def test_a_parameter_that_no_provider_takes_is_refused_before_anything_is_sent(
    name: str, value: Any, said: str
) -> None:
    said = f"^{name} must be {said}"
    with pytest.raises(DefinitionError, match=said):
        LM("openai/gpt-4o-mini", **{name: value})
    with pytest.raises(DefinitionError, match=said):
        LM("openai/gpt-4o-mini").copy(**{name: value})
    lm = MockLM(["x"], cache=Cache(), max_concurrency=1)
    budget = Budget(calls=1, tokens=100_000)
    with dspex.context(budget=budget):
        with pytest.raises(DefinitionError, match=said):
            lm("?", **{name: value})
        with pytest.raises(DefinitionError, match=said):
            asyncio.run(lm.acall("?", **{name: value}))
        with pytest.raises(DefinitionError, match=said):
            list(lm.stream(LMRequest.of("?", **{name: value})))
    assert (lm.calls, budget.in_flight.calls, budget.spent.calls) == ([], 0, 0)
    if name not in ("temperature", "max_tokens", "n"):  # its own variables and argument
        with pytest.raises(DefinitionError, match=said):
            Predict("question -> answer", **{name: value})


@pytest.mark.parametrize(("name", "meant"), MISSPELT.items())
def test_a_misspelt_parameter_is_not_sent(name: str, meant: str) -> None:
    with pytest.raises(DefinitionError, match=rf"no parameter '{name}'; did you mean {meant}=1\? .* extra_body="):
        LM("openai/gpt-4o-mini", **{name: 1})
    lm = MockLM(["x"])
    with pytest.raises(DefinitionError, match=f"did you mean {meant}="):
        lm("?", **{name: 1})
    assert lm.calls == []


@pytest.mark.parametrize("params", FINE, ids=repr)
def test_what_a_provider_may_take_goes_to_it(params: dict[str, Any]) -> None:
    LM("openai/gpt-4o-mini", **params)
    assert MockLM(["x"])("?", **params) == ["x"]


def test_an_answer_that_was_cut_off_says_so() -> None:
    lm = MockLM(["one two three four five six seven eight"], repeat=True, cache=Cache())
    with pytest.warns(
        RuntimeWarning, match=r"an answer of mock/mock was cut off at max_tokens=2; .* lm\(\.\.\., max_t"
    ):
        (text,) = lm("?", max_tokens=2)
    with pytest.warns(RuntimeWarning, match="cut off at max_tokens=2"):  # the cached one too
        assert asyncio.run(lm.acall("?", max_tokens=2)) == [text]
    response = lm.generate(LMRequest.of("?", max_tokens=2))
    assert (response.cached, response.truncated, response.completions[0].finish_reason) == (True, True, "length")
    assert (
        f"[cached answer of mock/mock, cut off at max_tokens: 1 call (1 cached), 0 tokens, $0, saved 3 tokens]\n{text}"
        in lm.inspect_history()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lm("?")[0].startswith(text)
    assert not lm.generate(LMRequest.of("?")).truncated
    assert "cut off" not in lm.inspect_history()


def test_a_prediction_of_an_answer_that_was_cut_off_says_so() -> None:
    lm = MockLM(["[[ ## answer ## ]]\nParis, the capital of France, which is a country of Europe"], repeat=True)
    qa = Predict("question -> answer", lm=lm, max_tokens=8)
    with pytest.warns(
        RuntimeWarning, match=r"^an answer of mock/mock to the predictor at the root was cut off at max_tokens=8; give "
    ):
        prediction = qa(question="?")
    assert prediction.answer.startswith("Paris")
    assert prediction.truncated
    assert repr(prediction).endswith("# cut off at max_tokens")
    assert Prediction.from_json(json.loads(json.dumps(prediction.to_json()))).truncated
    assert pickle.loads(pickle.dumps(prediction)).truncated
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = Predict("question -> answer", lm=lm)(question="?")
    assert not whole.truncated
    assert "cut off" not in repr(whole)
    assert Prediction(truncated="a field goes first").truncated == "a field goes first"
    with pytest.raises(ParseError) as caught:
        Predict("question -> answer, why", lm=lm, max_tokens=8)(question="?")
    assert "cut off where max_tokens ended it" in str(caught.value.__notes__)


def test_a_number_beyond_all_floats_is_refused_as_any_other() -> None:
    with pytest.raises(DefinitionError, match=r"^temperature must be a number, 0 or more"):
        LM("openai/gpt-4o-mini", temperature=10**400)
    with pytest.raises(DefinitionError, match=r"^failure_score must be a finite number"):
        Terms(failure_score=10**400)
