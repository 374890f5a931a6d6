"""What a cache keeps of an answer: all of it, shared with nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dspex.data import Usage
from dspex.lm import Completion, LMResponse
from dspex.lm.kept import Kept

counts = st.integers(0, 10**12)
money = st.none() | st.floats(0, 1e6)
usages = st.builds(
    Usage,
    calls=counts,
    failed_calls=counts,
    prompt_tokens=counts,
    completion_tokens=counts,
    cost=money,
    cache_read_tokens=counts,
    cache_write_tokens=counts,
)
plain = st.dictionaries(st.text(), st.text() | counts | st.lists(st.floats(-9, 0)), max_size=2)
completions = st.builds(Completion, st.text(), st.none() | st.text()) | st.builds(
    Completion,
    st.text(),
    st.none() | st.text(),
    st.none() | plain,
    st.none() | st.text(),
    st.lists(plain, max_size=2).map(tuple),
    st.lists(plain, max_size=2).map(tuple),
)
responses = st.builds(
    LMResponse,
    st.lists(completions, min_size=1, max_size=3).map(tuple),
    usages,
    st.text(),
    latency=st.floats(0, 1e6),
)


@given(responses)
def test_all_of_it_is_there_again_wherever_it_was_kept(response: LMResponse) -> None:
    kept = Kept.of(response, 5.0)
    for one in (kept, Kept(json.loads(json.dumps(kept.stored())), 5.0), Kept(response.to_json(), 5.0)):
        assert (one.response(), one.model, one.created) == (response, response.model, 5.0)
        assert one.to_json() == response.to_json()
        hit, paid = one.hit(), response.usage
        assert (hit.completions, hit.model, hit.latency) == (response.completions, response.model, response.latency)
        assert hit.cached
        assert hit.usage == Usage(
            cached_calls=1, saved_cost=paid.cost, saved_tokens=paid.prompt_tokens + paid.completion_tokens
        )


@given(responses)
def test_what_is_done_with_an_answer_does_not_change_it(response: LMResponse) -> None:
    kept = Kept.of(response, 0.0)
    told = json.dumps(response.to_json())
    for made in (response, kept.response(), kept.hit()):
        for completion in made.completions:
            for call in (*completion.tool_calls, *completion.citations):
                call["changed"] = "yes"
            if completion.logprobs is not None:
                completion.logprobs["changed"] = "yes"
            completion.text = "changed"
        made.usage.add(Usage(calls=1))
    assert json.dumps(kept.to_json()) == told


@pytest.mark.parametrize(
    "stored",
    [
        [],
        None,
        "text",
        ["mock/mock", 0.0, {"calls": 1}, None, "stop"],
        ["mock/mock", 0.0, {"calls": 1}, "hi"],
        ["mock/mock", 0.0, None, "hi", "stop"],
        ["mock/mock", 0.0, {"prompt_tokens": "7"}, "hi", "stop"],
        {"model": "mock/mock", "latency": 0.0, "usage": {}, "completions": []},
        {"model": "mock/mock", "latency": 0.0, "usage": {}, "completions": [{"text": 7}]},
        {"model": "mock/mock", "usage": {}, "completions": [{"text": "hi"}]},
    ],
)
def test_what_is_no_answer_raises_a_built_in_error(stored: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        Kept(stored, 0.0)
