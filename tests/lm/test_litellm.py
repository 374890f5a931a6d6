"""`LM` through the real litellm, against a real server on this machine."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import pickle
import socket
import subprocess
import sys
import time
import types
from typing import Any

import pytest

from dspex.errors import (
    BudgetExceeded,
    DeadlineExceeded,
    DefinitionError,
    LMAuthError,
    LMBillingError,
    LMConnectionError,
    LMContentFilterError,
    LMContextWindowError,
    LMError,
    LMRateLimitError,
    LMRequestError,
    LMServerError,
    LMTimeoutError,
    StateError,
)
from dspex.execution import Budget, Run, map_async
from dspex.lm import LM, BaseLM, LMRequest, MockLM, provider, provider_errors
from tests.lm.callers import ASK, Caller
from tests.lm.server import Reply, Server, answer, drop, refuse, send, slow

KEY = "sk-secret-0123456789"


def served(server: Server, name: str = "served", **options: Any) -> LM:
    options = {"cache": False, "api_key": KEY, **options}
    return LM(f"openai/{name}", api_base=server.url, **options)


def test_an_answer_with_its_usage(call: Caller) -> None:
    with Server() as server:
        lm = served(server, temperature=0.5, price=(1.0, 10.0))
        run = Run()
        response = call(lm, LMRequest.of("Capital of France?", max_tokens=7, seed=3), run)
    assert response.text == "Paris"
    assert response.completions[0].finish_reason == "stop"
    assert not response.cached
    assert response.latency > 0
    assert (response.usage.calls, response.usage.prompt_tokens, response.usage.completion_tokens) == (1, 12, 3)
    assert response.usage.cost == pytest.approx((12 * 1.0 + 3 * 10.0) / 1e6)
    assert run.usage == response.usage
    (sent,) = server.requests
    assert sent["model"] == "served"
    assert sent["messages"] == [{"role": "user", "content": "Capital of France?"}]
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.5, 7, 3)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_known_price_comes_from_litellm_and_an_unknown_one_stays_unknown(call: Caller) -> None:
    with Server() as server:
        assert call(served(server, "gpt-4o-mini")).usage.cost == pytest.approx(12 * 1.5e-7 + 3 * 6e-7)
        assert call(served(server)).usage.cost is None
        assert call(served(server, price=(0.0, 0.0))).usage.cost == 0.0


def test_nothing_is_given_back_for_counts_below_zero(call: Caller) -> None:
    with Server(otherwise=answer(usage={"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6})) as server:
        usage = call(served(server, price=(1.0, 1.0))).usage
    assert (usage.total_tokens, usage.cost) == (0, None)


def test_usage_that_the_server_does_not_tell_is_unknown(call: Caller) -> None:
    with Server(otherwise=answer(usage=None)) as server:
        usage = call(served(server, price=(1.0, 1.0))).usage
        assert (usage.calls, usage.total_tokens, usage.cost) == (1, 0, None)
        assert usage.unknown_calls == 1


def test_several_completions(call: Caller) -> None:
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
        for n, text in enumerate(["a", "b"])
    ]
    with Server(otherwise=answer(choices=choices)) as server:
        response = call(served(server), LMRequest.of("?", n=2))
    assert [(one.text, one.finish_reason) for one in response.completions] == [("a", "length"), ("b", "length")]
    assert server.requests[0]["n"] == 2


def test_schema_and_grammar_are_sent() -> None:
    open_schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    closed = {**open_schema, "required": ["a"], "additionalProperties": False}
    with Server() as server:
        lm = served(server, capabilities={"json_schema", "grammar"})
        assert lm.capabilities == {"json_schema", "grammar"}
        lm.generate(ASK.replace(schema=open_schema))
        lm.generate(ASK.replace(schema=closed))
        lm.generate(ASK.replace(grammar='root ::= "yes"'))
    first, second, third = server.requests
    assert first["response_format"]["json_schema"]["schema"] == open_schema
    assert "strict" not in first["response_format"]["json_schema"]
    assert second["response_format"]["json_schema"]["strict"] is True
    assert third["grammar"] == 'root ::= "yes"'


def test_the_seed_of_a_run_is_sent_to_models_that_take_one() -> None:
    with Server() as server:
        run = Run(seed=11)
        served(server).generate(ASK, run)
        served(server, capabilities=()).generate(ASK, run)
        served(server, capabilities=(), seed=3).generate(ASK, run)
    assert [sent.get("seed") for sent in server.requests] == [11, None, 3]


def test_capabilities_that_litellm_knows() -> None:
    assert {"json_schema", "seed", "n", "stop", "logprobs"} <= LM("openai/gpt-4o-mini").capabilities
    assert "json_schema" not in LM("openai/served").capabilities


def test_a_rate_limit_is_waited_out_as_long_as_the_provider_wishes(call: Caller) -> None:
    with Server(refuse(429, headers={"Retry-After": "0.4"})) as server:
        run = Run()
        response = call(served(server, price=(1.0, 1.0)), ASK, run)
        assert response.text == "Paris"
        assert server.times[1] - server.times[0] >= 0.4
    assert (response.usage.calls, response.usage.failed_calls) == (1, 1)
    assert response.usage.cost == pytest.approx(15e-6)
    assert run.usage == response.usage


def test_a_wish_of_milliseconds_or_as_a_date() -> None:
    soon = email.utils.formatdate(time.time() + 1, usegmt=True)
    with Server(refuse(429, headers={"Retry-After-Ms": "30"}), refuse(503, headers={"Retry-After": soon})) as server:
        assert served(server).generate(ASK).text == "Paris"
    assert len(server.requests) == 3


def test_a_wish_that_is_too_long_is_reported_instead(call: Caller) -> None:
    with Server(otherwise=refuse(429, "slow down", headers={"Retry-After": "3600"})) as server:
        with pytest.raises(LMRateLimitError, match="openai/served is over its rate limit: slow down") as caught:
            call(served(server))
        assert len(server.requests) == 1
    assert caught.value.retry_after == 3600
    assert caught.value.model == "openai/served"
    assert caught.value.retryable


def test_no_wait_goes_past_the_runs_deadline(call: Caller) -> None:
    with Server(otherwise=refuse(429, headers={"Retry-After": "50"})) as server:
        lm = served(server)
        lm.capabilities  # noqa: B018 - loads litellm, which counts against no deadline then
        with pytest.raises(LMRateLimitError):
            call(lm, ASK, Run(deadline=40))
        assert len(server.requests) == 1


def test_server_errors_are_retried_and_then_raised(call: Caller) -> None:
    with Server(refuse(500), refuse(503), refuse(529)) as server:
        assert call(served(server, retries=3)).text == "Paris"
        assert len(server.requests) == 4
    with Server(otherwise=refuse(500, "boom")) as server:
        run = Run()
        with pytest.raises(LMServerError, match=r"failed while openai/served answered \(500\): boom"):
            call(served(server, retries=2, price=(1.0, 1.0)), ASK, run)
        assert len(server.requests) == 3
        assert (run.usage.calls, run.usage.failed_calls, run.usage.cost) == (0, 3, 0.0)
    with Server(otherwise=refuse(500)) as server:
        with pytest.raises(LMServerError):
            call(served(server, retries=0))
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (
            refuse(401, "no such key"),
            LMAuthError,
            "refused the credentials for openai/served: no such key; check api_key",
        ),
        (refuse(403, "not yours"), LMAuthError, "refused the credentials for openai/served: not yours"),
        (
            refuse(402, "pay first"),
            LMBillingError,
            "the account that pays for openai/served has nothing left: pay first",
        ),
        (
            refuse(429, "You exceeded your current quota", code="insufficient_quota", type="insufficient_quota"),
            LMBillingError,
            "nothing left",
        ),
        (refuse(404, "no such model"), LMRequestError, "does not know the model 'openai/served': no such model"),
        (refuse(400, "bad temperature"), LMRequestError, "refused the request to openai/served (400): bad temperature"),
        (refuse(422, "bad body"), LMRequestError, "bad body"),
        (
            refuse(400, "This model's maximum context length is 10 tokens", code="context_length_exceeded"),
            LMContextWindowError,
            "the prompt is too long for openai/served",
        ),
        (
            refuse(400, "blocked by content_policy_violation", code="content_policy_violation"),
            LMContentFilterError,
            "the content filter of openai/served stopped the call",
        ),
        (
            answer(
                choices=[
                    {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}
                ]
            ),
            LMContentFilterError,
            "the content filter of openai/served stopped the answer",
        ),
        (
            answer(
                choices=[
                    {"index": 0, "message": {"role": "assistant", "content": "Par"}, "finish_reason": "content_filter"}
                ]
            ),
            LMContentFilterError,
            "the content filter of openai/served stopped the answer",
        ),
    ],
)
def test_errors_that_no_retry_can_help(call: Caller, reply: Any, kind: type[LMError], message: str) -> None:
    with Server(otherwise=reply) as server:
        with pytest.raises(kind) as caught:
            call(served(server))
        assert len(server.requests) == 1
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert not caught.value.retryable
    assert caught.value.model == "openai/served"


@pytest.mark.parametrize(
    "body", [b"{not json", b"<html>hello</html>", b"", b'{"id": "x", "object": "chat.completion", "choices": []}']
)
def test_a_body_that_is_no_answer_is_the_servers_failure(call: Caller, body: bytes) -> None:
    with Server(send(200, body)) as server:
        assert call(served(server)).text == "Paris"
        assert len(server.requests) == 2
    with Server(otherwise=send(200, body)) as server, pytest.raises(LMServerError):
        call(served(server, retries=0))


def test_a_body_that_does_not_come_is_a_timeout(call: Caller) -> None:
    with Server(otherwise=slow(30)) as server:
        run = Run()
        with pytest.raises(LMTimeoutError, match=r"openai/served did not answer in 2 s.*") as caught:
            call(served(server, timeout=2.0, retries=1, price=(1.0, 1.0)), ASK, run)
        assert len(server.requests) == 2
    assert caught.value.retryable
    # Somebody may send a bill for these.
    assert (run.usage.failed_calls, run.usage.cost) == (2, None)


def test_the_runs_deadline_shortens_the_timeout(call: Caller) -> None:
    with Server(otherwise=slow(30)) as server:
        lm = served(server)
        lm.capabilities  # noqa: B018 - loads litellm
        with pytest.raises((DeadlineExceeded, LMTimeoutError)):
            call(lm, ASK, Run(deadline=0.4))


def test_nothing_there_is_an_unreachable_model(call: Caller) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    lm = LM("openai/served", api_base=url, api_key=KEY, cache=False, retries=1, price=(1.0, 1.0))
    run = Run()
    with pytest.raises(LMConnectionError) as caught:
        call(lm, ASK, run)
    assert str(caught.value).startswith(f"openai/served could not be reached at {url} (")
    assert "onnect" in str(caught.value)  # what the operating system said
    assert "is the server running, the network up and api_base right?" in str(caught.value)
    assert (run.usage.failed_calls, run.usage.cost) == (2, 0.0)  # nothing was sent, so nothing is billed


def test_a_dropped_connection_is_retried(call: Caller) -> None:
    with Server(drop) as server:
        run = Run()
        assert call(served(server, price=(1.0, 1.0)), ASK, run).text == "Paris"
        assert len(server.requests) == 2
    assert run.usage.failed_calls == 1
    assert run.usage.cost is None  # it had been sent


def test_cancelling_the_task_cancels_the_call() -> None:
    async def main() -> None:
        run = Run()
        task = asyncio.create_task(served(server).agenerate(ASK, run))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (run.usage.failed_calls, run.usage.cost) == (1, None)

    with Server(otherwise=slow(30)) as server:
        asyncio.run(main())


def test_many_calls_at_once_and_event_loops_one_after_the_other() -> None:
    with Server() as server:
        lm = served(server, price=(0.0, 0.0))

        async def ask(number: int) -> str:
            return (await lm.agenerate(LMRequest.of(f"number {number}"))).text

        for _ in range(2):
            assert asyncio.run(map_async(ask, range(20), concurrency=10)) == ["Paris"] * 20
        assert len(server.requests) == 40


# Names, keys and addresses.


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "gpt-4o",
            "model must name provider and model, not 'gpt-4o'.\n  wrong: dspex.LM('gpt-4o')\n"
            '  right: dspex.LM("openai/gpt-4o")',
        ),
        ("/x", "not '/x'"),
        ("openai/", 'right: dspex.LM("openai/openai")'),
        ("", 'right: dspex.LM("openai/gpt-4o-mini")'),
        (" openai/x", "not ' openai/x'"),
        (None, "model must be a name, not None (NoneType)"),
    ],
)
def test_names_that_are_no_model(model: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        LM(model)
    assert message in str(caught.value)


def test_an_unknown_provider(call: Caller) -> None:
    with pytest.raises(LMRequestError) as caught:
        call(LM("opennai/gpt-4o-mini", cache=False))
    assert (
        "there is no provider 'opennai' (of model 'opennai/gpt-4o-mini'); did you mean \"openai/gpt-4o-mini\"?"
        in str(caught.value)
    )


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
        ("anthropic/claude-3-5-haiku-latest", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.0-flash", "GEMINI_API_KEY or GOOGLE_API_KEY"),
    ],
)
def test_a_missing_key_names_its_variable(call: Caller, model: str, variable: str) -> None:
    with pytest.raises(LMAuthError) as caught:
        call(LM(model, cache=False))
    assert str(caught.value) == (
        f"there is no API key for {model}: set the environment variable {variable}, "
        f"or write dspex.LM('{model}', api_key=...)"
    )


def test_a_server_of_ones_own_needs_no_key(call: Caller) -> None:
    with Server() as server:
        assert call(LM("openai/served", api_base=server.url, cache=False)).text == "Paris"


def test_the_key_may_be_in_the_environment(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(answer(), refuse(401, f"wrong key {KEY} given")) as server:
        lm = LM("openai/served", api_base=server.url, cache=False)
        assert call(lm).text == "Paris"
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        with pytest.raises(LMAuthError) as caught:
            call(lm)
    assert KEY not in str(caught.value)
    assert "wrong key *** given" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"api_base": "localhost:8000"}, "api_base must be a URL, not 'localhost:8000' (str)"),
        ({"api_base": 8000}, 'write for example api_base="http://localhost:8000/v1"'),
        (
            {"max_retries": 2},
            "max_retries= is no parameter that goes with a request: it is said when a model is made, ",
        ),
        (
            {"stream": True},
            "stream= is no parameter that goes with a request: stream a call with lm.stream(request) or lm.astr",
        ),
        ({"model_type": "image"}, "model_type must be one of 'chat', 'text', 'responses', not 'image' (str)"),
        ({"messages": []}, "lm(messages=[...])"),
        ({"retries": -1}, "retries must be a whole number, 0 or more, not -1 (int)"),
        ({"timeout": 0}, "timeout must be more than 0 seconds, or None for no limit, not 0 (int)"),
        ({"price": 0.5}, "price must be two numbers, dollars per million tokens read and written"),
        ({"price": (1, -1)}, "write for example price=(0.15, 0.60)"),
        ({"cache": "answers.db"}, 'write cache=dspex.lm.Cache("answers.db")'),
        ({"fallbacks": None}, "fallbacks must be models, not None (NoneType)"),
        ({"api_key": 4711}, "api_key must be a str, and this one is of type int"),
        ({"capabilities": "tools"}, "capabilities must be names, not 'tools' (str)"),
        ({"capabilities": [3]}, "capabilities must be names, not [3] (list)"),
        ({"capabilities": 3}, "capabilities must be names, not 3 (int)"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        LM("openai/gpt-4o-mini", **options)
    assert message in str(caught.value)


def test_a_local_name_gives_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseLM, "_types", dict(BaseLM._types))  # the class below must not be found in its place

    class LocalLM(MockLM):
        def __init__(self, name: str, **options: Any) -> None:
            super().__init__([f"{name} {options}"])

    monkeypatch.setitem(sys.modules, "dspex.lm.local", types.SimpleNamespace(LocalLM=LocalLM))
    lm = LM("local/smollm2-135m", temperature=0.5)
    assert type(lm) is LocalLM
    assert isinstance(lm, LM)
    assert lm("?") == ["smollm2-135m {'temperature': 0.5}"]
    assert isinstance(LM("openai/x"), LM)
    assert not isinstance(MockLM(["x"]), LM)


def test_familiar_spellings() -> None:
    lm = LM("openai/served", num_retries=1, base_url="http://localhost:1/v1")
    assert (lm.retries, lm.api_base) == (1, "http://localhost:1/v1")


# Budget and cache.


def test_a_budget_in_dollars_needs_a_price_and_a_length(call: Caller) -> None:
    with Server() as server:
        run = Run(budget=Budget(usd=1.0))
        with pytest.raises(BudgetExceeded, match=r"openai/served may answer at any length"):
            call(served(server), ASK, run)
        with pytest.raises(BudgetExceeded, match=r"the price of this call is not known.*price="):
            call(served(server, max_tokens=100), ASK, run)
        assert server.requests == []
        call(served(server, max_tokens=100, price=(1.0, 1.0)), ASK, run)
        # The price and the longest answer of this one are in litellm's list.
        call(served(server, "gpt-4o-mini"), ASK, run)
    assert run.budget is not None
    assert run.budget.spent.usd == pytest.approx(15e-6 + 12 * 1.5e-7 + 3 * 6e-7)
    estimate = LM("openai/gpt-4o-mini").estimate(ASK)
    assert estimate.completion_tokens == 16384
    assert estimate.cost is not None
    assert estimate.cost >= 16384 * 6e-7


def test_answers_are_paid_for_once(call: Caller) -> None:
    with Server() as server:
        lm = served(server, cache=True, price=(1.0, 1.0))
        first, run = call(lm), Run()
        second = call(lm, ASK, run)
        assert len(server.requests) == 1
        assert (second.text, second.cached, second.latency) == (first.text, True, first.latency)
        assert (second.usage.calls, second.usage.cached_calls) == (0, 1)
        assert (second.usage.cost, second.usage.saved_cost) == (0.0, first.usage.cost)
        assert run.usage == second.usage
        call(lm, ASK.replace(rollout_id=1))
        call(served(server, cache=True, temperature=1.0))
        assert len(server.requests) == 3
        # Another process, as it were: the file is read again.
        assert lm.cache is not None
        lm.cache._memory.clear()
        assert call(served(server, cache=True, api_key="another-key-entirely")).cached
        assert len(server.requests) == 3


def test_the_address_is_part_of_what_is_cached() -> None:
    with Server() as one, Server(otherwise=answer("Lyon")) as two:
        assert served(one, cache=True)("?") == ["Paris"]
        assert served(two, cache=True)("?") == ["Lyon"]


# Secrets.


def test_secrets_are_nowhere_to_be_seen(call: Caller) -> None:
    headers = {"X-Access": "Bearer header-secret-42"}
    with Server(answer(), refuse(401, f"bad {KEY} and header-secret-42")) as server:
        lm = served(server, extra_headers=headers, cache=True, temperature=0.0)
        call(lm)
        assert server.headers[0]["x-access"] == "Bearer header-secret-42"
        with pytest.raises(LMAuthError) as caught:
            call(lm, LMRequest.of("again", api_key=KEY))
    shown = [repr(lm), json.dumps(lm.to_json()), str(caught.value), repr(lm.history), lm.inspect_history(5)]
    assert lm.cache is not None
    assert lm.cache.path is not None
    stored = b"".join(path.read_bytes() for path in lm.cache.path.parent.iterdir())
    for secret in (KEY, "header-secret-42"):
        assert not [text for text in shown if secret in text]
        assert secret.encode() not in stored
    assert repr(lm) == "LM('openai/served', temperature=0.0)"
    assert lm.key(ASK) == LM("openai/served", api_base=server.url, temperature=0.0).key(ASK)


def test_credentials_in_an_address_are_not_shown_either() -> None:
    lm = LM("openai/served", api_base="https://user:password-77@example.org/v1?key=hush")
    assert lm.api_base == "https://example.org/v1"
    assert "password-77" not in repr(lm) + json.dumps(lm.to_json())
    assert "hush" not in repr(lm) + json.dumps(lm.to_json())


def test_saving_and_the_address_a_file_may_not_decide() -> None:
    lm = LM("openai/served", api_base="http://localhost:1/v1", api_key=KEY, temperature=0.5, price=(1, 2), cache=False)
    data = json.loads(json.dumps(lm.to_json()))
    assert KEY not in json.dumps(data)
    with pytest.raises(StateError, match=r"was saved with api_base='http://localhost:1/v1', and no file may decide"):
        BaseLM.from_json(data)
    twin = BaseLM.from_json(data, api_base="http://localhost:1/v1", api_key=KEY)
    assert twin == lm
    assert hash(twin) == hash(lm)
    assert (twin.price, twin.retries, twin.timeout, twin.cache) == ((1.0, 2.0), 3, 60.0, None)
    plain = LM("openai/gpt-4o-mini", max_tokens=5)
    assert BaseLM.from_json(plain.to_json()) == plain
    assert plain != lm


def test_a_connection_that_is_not_made_in_time_was_not_sent() -> None:
    class ConnectTimeout(Exception):  # noqa: N818 - httpx's name
        pass

    litellm = provider.load()
    error = litellm.Timeout("timed out", model="served", llm_provider="openai")
    error.__cause__ = ConnectTimeout("nobody there")
    typed = provider_errors.typed(error, model="m", where="here", timeout=1.0, has_key=True, secrets=[])
    assert isinstance(typed, LMConnectionError)
    typed.__cause__ = error
    assert not LM("openai/served").may_be_billed(typed)
    error.__cause__ = None
    typed = provider_errors.typed(error, model="m", where="here", timeout=1.0, has_key=True, secrets=[])
    assert isinstance(typed, LMTimeoutError)
    assert LM("openai/served").may_be_billed(typed)


def test_rollouts_are_told_apart_and_not_sent() -> None:
    with Server() as server:
        lm = served(server, cache=True)
        lm("?", rollout_id=1)
        lm("?", rollout_id=2)
        lm.copy(rollout_id=3)("?")
        lm.copy(rollout_id=3)("?")
        assert len(server.requests) == 3
        assert not [sent for sent in server.requests if "rollout_id" in sent]


def test_copies_keep_the_key() -> None:
    with Server() as server:
        lm = served(server, temperature=0.5).copy(temperature=None, top_p=0.9)
        assert lm.params == {"top_p": 0.9}
        lm("?")
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        assert "temperature" not in server.requests[0]


def test_it_pickles_with_its_key_for_a_worker() -> None:
    with Server() as server:
        lm = served(server, cache=True)
        lm("?")
        twin = pickle.loads(pickle.dumps(lm))
        assert twin == lm
        assert isinstance(twin, LM)
        assert twin.generate(LMRequest.of("?")).cached
        assert twin("!") == ["Paris"]
        assert server.headers[1]["authorization"] == f"Bearer {KEY}"


# Loading.


def test_litellm_loads_on_the_first_call_and_asks_the_network_nothing() -> None:
    program = """
import sys
import dspex.lm
from dspex.lm import LM, MockLM
lm = LM("openai/served", api_base=sys.argv[1], cache=False)
MockLM(["x"])("hi"), repr(lm), lm.to_json()
loaded = {"litellm", "openai", "httpx", "sqlite3", "asyncio"} & set(sys.modules)
assert not loaded, loaded
import socket
connect, reached = socket.socket.connect, []
def watched(self, address):
    reached.append(address)
    return connect(self, address)
socket.socket.connect = watched
print(lm("hi"))
assert {address[0] for address in reached} == {"127.0.0.1"}, reached
"""
    assert _printed(program) == ["['Paris']"]


def test_blocking_and_awaited_calls_take_turns_and_leave_nothing_behind() -> None:
    program = """
import asyncio, sys
from dspex.lm import LM
lm = LM("openai/served", api_base=sys.argv[1], cache=False)
print(lm("hi"))
print(asyncio.run(lm.acall("hi")))
print(lm("hi"))
"""
    assert _printed(program) == ["['Paris']"] * 3


def test_completions_of_texts_leave_no_connections_behind() -> None:
    program = """
import asyncio, gc, sys
from dspex.lm import LM
lm = LM("openai/served", api_base=sys.argv[1], model_type="text", cache=False)
for number in range(3):
    print(lm("hi"), lm("there"))
    print(asyncio.run(lm.acall("hi")))
    gc.collect()
"""
    text = {"index": 0, "text": "Paris", "finish_reason": "stop"}
    reply = answer(object="text_completion", choices=[text])
    assert _printed(program, reply) == ["['Paris'] ['Paris']", "['Paris']"] * 3


def test_event_loops_that_run_at_once_do_not_disturb_each_other() -> None:
    program = """
import asyncio, gc, sys, threading
from dspex.lm import LM
lm = LM("openai/served", api_base=sys.argv[1], cache=False)
async def some():
    return [await lm.acall("hi") for _ in range(10)]
def work():
    for _ in range(3):
        asyncio.run(some())
        lm("hi")
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
gc.collect()
from litellm.litellm_core_utils.logging_worker import LoggingWorker
print(sum(isinstance(one, LoggingWorker) for one in gc.get_objects()) <= 5)
"""
    assert _printed(program, answer("Paris")) == ["True"]


def _printed(program: str, reply: Reply | None = None) -> list[str]:
    """The lines that ``program`` prints in a process of its own, which has nothing to complain of."""
    with Server(otherwise=reply) as server:
        done = subprocess.run(
            [sys.executable, "-c", program, server.url],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
