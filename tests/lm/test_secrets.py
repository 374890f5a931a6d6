"""A canary key is looked for in everything that is shown, logged, kept or sent, and a file decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.cli import main
from dspex.errors import DefinitionError, LMError, StateError
from dspex.execution import track_usage
from dspex.lm import LM, BaseLM, Cache, LMRequest, MockLM, inspect_history
from tests.lm.server import Server, answer, refuse, send, sse

KEY = "sk-canary-4711-abcdefghij"
PASSWORD = "canary-password-4712"
HEADER = "Bearer canary-header-4713"
CANARIES = (KEY, PASSWORD, "canary-header-4713")
ASK = LMRequest.of("Capital of France?")


def assert_clean(what: str, where: str) -> None:
    for canary in CANARIES:
        assert canary not in what, f"{canary} in {where}"


def served(server: Server, **options: Any) -> LM:
    options = {"retries": 0, "price": (1.0, 1.0), **options}
    secrets: dict[str, Any] = {"api_key": KEY, "extra_headers": {"x-auth": HEADER}, "aws_secret_access_key": PASSWORD}
    return LM("openai/served", api_base=server.url, **secrets, **options)


def echo(handler: Any) -> None:
    """Refuses, and tells all that it was told."""
    told = f"no: {handler.headers.get('Authorization')} {handler.headers.get('x-auth')} {PASSWORD}"
    refuse(400, told)(handler)


def test_nothing_that_is_shown_has_it(tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    caplog.set_level(logging.INFO)  # what clients say when they are debugged is theirs
    reply = json.dumps({"answer": "Paris"})
    with Server(otherwise=answer(f"[[ ## answer ## ]]\n{reply}\n\n[[ ## completed ## ]]")) as server:
        lm = served(server, cache=Cache(tmp_path / "answers.db"))
        program = dspex.Predict("question -> answer", lm=lm, top_p=0.5)
        with track_usage() as usage:
            prediction = program(question="Capital of France?")
        lm.generate(ASK)
        asyncio.run(lm.agenerate(LMRequest.of("another")))
        assert server.headers[0]["x-auth"] == HEADER
        shown = [repr(lm), repr(program), repr(prediction), repr(usage), json.dumps(usage.to_json()), repr(lm.history)]
        shown += [str(inspect_history(9)), repr(lm.explain_key(ASK)), lm.key(ASK), json.dumps(lm.to_json())]
        shown += [repr(LMRequest.of("?", api_key=KEY)), repr(vars(dspex.lm.gate)), repr(lm.copy(temperature=1.0))]
        program.save(tmp_path / "program.json")
        main(["cache", "export", "--path", str(tmp_path / "answers.db"), "--output", str(tmp_path / "answers.jsonl")])
        main(["cache", "stats", "--path", str(tmp_path / "answers.db")])
        lm.cache.close()  # type: ignore[union-attr]
    for number, text in enumerate(shown):
        assert_clean(text, f"text {number}")
    assert_clean(caplog.text, "the log")
    assert_clean("".join(capsys.readouterr()), "the output")


def test_no_study_and_no_result_has_it(tmp_path: Path) -> None:
    examples = [dspex.Example(question=str(n), answer="Paris").with_inputs("question") for n in range(24)]
    with Server(otherwise=answer("[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]")) as server:
        lm = served(server, cache=False)
        program = dspex.Predict("question -> answer", lm=lm, temperature=dspex.Float(0.0, 1.0))
        metric = lambda example, prediction: float(example.answer == prediction.answer)  # noqa: E731 - one line says it
        storage = f"sqlite:///{tmp_path / 'study.db'}"
        result = dspex.LabeledFewShot(seed=0).optimize(program, examples, metric, storage=storage)
        result.program.save(tmp_path / "program.json")
        (tmp_path / "result.json").write_text(json.dumps(result.to_json()))
        assert_clean(repr(result) + str(result.report()), "the report")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"study.db", "program.json"} <= {path.name for path in files}
    for path in files:
        assert_clean(path.read_bytes().decode("latin-1"), path.name)


REPLIES = {
    "refused": echo,
    "illegible": send(200, b'{"id": "' + KEY.encode()),
    "broken stream": sse([{"error": {"message": f"no {KEY} {PASSWORD}", "code": 400}}]),
}


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("way", ["generate", "agenerate", "stream"])
def test_no_error_and_nothing_that_led_to_it_has_it(name: str, way: str) -> None:
    with Server(otherwise=REPLIES[name]) as server:
        lm = served(server, cache=False)
        call: Any = {
            "generate": lambda: lm.generate(ASK),
            "agenerate": lambda: asyncio.run(lm.agenerate(ASK)),
            "stream": lambda: list(lm.stream(ASK)),
        }[way]
        with pytest.raises(LMError) as caught:
            call()
    error: BaseException | None = caught.value
    assert_clean("".join(traceback.format_exception(caught.value)), "the traceback")
    while error is not None:  # also what a traceback does not show
        assert_clean(f"{error} {error.args}", type(error).__name__)
        error = error.__cause__ or error.__context__
    assert_clean(repr(pickle.dumps(caught.value)), "the pickled error")


@pytest.mark.parametrize("streamed", [False, True])
def test_no_error_has_the_secrets_of_its_own_call(streamed: bool) -> None:
    request = LMRequest.of("?", api_key=KEY, extra_headers={"x-auth": HEADER}, extra_body={"search": {"key": PASSWORD}})
    with Server(otherwise=echo) as server:
        lm = LM("openai/served", api_base=server.url, retries=0, cache=False)
        with pytest.raises(LMError) as caught:
            list(lm.stream(request)) if streamed else lm.generate(request)
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert_clean("".join(traceback.format_exception(caught.value)), "an error")
    assert_clean(repr(request), "a request")


def test_secrets_in_what_is_sent_along_are_sent_and_nothing_else(tmp_path: Path) -> None:
    def body(key: str, **more: Any) -> dict[str, Any]:
        source = {"type": "azure_search", "parameters": {"authentication": {"type": "api_key", "key": key}}}
        return {"extra_body": {"data_sources": [source], **more}}

    with Server() as server:
        lm = served(server, cache=Cache(tmp_path / "answers.db"), **body(PASSWORD))
        copies = [lm, lm.copy(temperature=0.5), pickle.loads(pickle.dumps(lm))]
        for number, one in enumerate(copies):
            one(f"Capital of France? {number}")
        one = lm.copy(extra_body=None)
        one("Capital of France?")
        sent = [request.get("data_sources") for request in server.requests]
        assert sent == [*[body(PASSWORD)["extra_body"]["data_sources"]] * 3, None]
        assert lm.key(ASK) == served(server, **body("another")).key(ASK)
        assert lm.key(ASK) != served(server, **body(PASSWORD, top_k=5)).key(ASK)
        shown = [repr(lm), repr(lm.params), json.dumps(lm.to_json()), repr(lm.history), repr(lm.explain_key(ASK))]
        assert_clean("\n".join(shown), "what is shown")
        server.otherwise = echo
        with pytest.raises(LMError) as caught:
            lm("another")
        assert_clean("".join(traceback.format_exception(caught.value)), "an error")


@pytest.mark.parametrize(
    "params",
    [
        {"tools": [{"type": "mcp", "server_url": "https://mcp.example", "headers": {"Authorization": HEADER}}]},
        {"tools": [{"type": "mcp", "server_url": "https://mcp.example", "headers": {"x-user": PASSWORD}}]},
        {"tools": [{"type": "mcp", "server_url": "https://mcp.example", "authorization": PASSWORD}]},
        {"tools": [{"type": "mcp", "server_url": f"https://me:{PASSWORD}@mcp.example/sse"}]},
        {"mcp_servers": [{"type": "url", "authorization_token": PASSWORD}]},
        {"web_search_options": {"api_key": PASSWORD}},
        {"extra_body": {"api-key": PASSWORD}},
        {"extra_body": {"search": {"accessToken": PASSWORD}}},
        {"extra_body": {"search": {"connection_string": PASSWORD}}},
        {"extra_body": {"search": {"token": [PASSWORD]}}},
        {"extra_query": {"subscription-key": PASSWORD}},
        {"proxy": f"http://me:{PASSWORD}@proxy.example"},
    ],
    ids=str,
)
def test_secrets_of_services_behind_a_model_are_not_shown_wherever_they_are(params: dict[str, Any]) -> None:
    lm = LM("openai/served", api_key=KEY, **params)
    request = LMRequest.of("?", **params)
    shown = [repr(lm), repr(lm.params), json.dumps(lm.to_json()), repr(lm.explain_key(ASK)), repr(request)]
    assert_clean("\n".join([*shown, repr(lm.explain_key(request))]), "what is shown")
    name, value = next(iter(params.items()))
    assert lm._secrets[name] == value  # and so it is sent
    assert any(secret in PASSWORD or secret in HEADER for secret in lm._untold(request) if len(secret) > 8)
    heard: list[Any] = []

    class Heard(dspex.Callback):
        def on_lm_start(self, span: Any) -> None:
            heard.append(dict(span.attributes["params"]))

    with dspex.context(callbacks=[Heard()]):
        MockLM(["x"]).generate(request)
    assert heard
    assert_clean(repr(heard), "a span")


def test_a_function_may_have_an_argument_of_a_secrets_name() -> None:
    def tools(kind: str) -> list[dict[str, Any]]:
        properties = {"key": {"type": kind, "default": "x"}, "headers": {"type": "object"}}
        parameters = {"type": "object", "properties": properties, "examples": [{"key": kind}]}
        return [{"type": "function", "function": {"name": "look_up", "parameters": parameters}}]

    lm = LM("openai/served", tools=tools("string"))
    assert lm.params["tools"] == tools("string")
    assert lm.key(ASK) != LM("openai/served", tools=tools("integer")).key(ASK)


def test_a_worker_gets_the_key_and_nobody_elses_state(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = LM("openai/served", api_key=KEY, cache=Cache())
    twin = pickle.loads(pickle.dumps(lm))
    assert twin._secrets == {"api_key": KEY}
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert_clean(repr(pickle.dumps(LM("openai/served"))), "a model whose key is in the environment")


# What a file may decide.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_base", "https://elsewhere.example"),
        ("base_url", "https://elsewhere.example"),
        ("api_key", "sk-theirs"),
        ("extra_headers", {"x": "y"}),
        ("headers", {"x": "y"}),
        ("organization", "theirs"),
        ("aws_bedrock_runtime_endpoint", "https://elsewhere.example"),
        ("custom_llm_provider", "openai"),
        ("model_list", [{"litellm_params": {"api_base": "https://elsewhere.example"}}]),
        ("fallbacks", [{"model": "x", "api_base": "https://elsewhere.example"}]),
        ("extra_body", {"x": "y"}),
        ("client", "x"),
        ("mock_response", "x"),
        ("metadata", {"x": "y"}),
        ("tools", [{"type": "mcp", "server_url": "https://elsewhere.example"}]),
        ("tools", {"type": "mcp"}),
        ("mcp_servers", [{"type": "url", "url": "https://elsewhere.example"}]),
    ],
)
def test_a_saved_model_cannot_redirect_anything(name: str, value: Any) -> None:
    data = LM("openai/gpt-4o-mini", temperature=0.5).to_json()
    data["params"][name] = value
    with pytest.raises(StateError, match=f"was saved with {name}: no file may decide where"):
        BaseLM.from_json(data)
    if name not in ("fallbacks", "base_url"):
        plain = BaseLM.from_json(data, **{name: None})
        assert plain.params == {"temperature": 0.5}


@pytest.mark.parametrize("provider", ["oobabooga", "huggingface", "openai"])
def test_a_name_is_no_address_in_a_file_either(provider: str, tmp_path: Path) -> None:
    program = dspex.Predict("question -> answer")
    path = tmp_path / "program.json"
    program.save(path)
    document = json.loads(path.read_text())
    with Server() as server:
        elsewhere = f"{provider}/{server.url}"
        document["state"]["values"]["model"] = elsewhere
        path.write_text(json.dumps(document))
        with contextlib.suppress(StateError):
            program.load(path)
            with pytest.raises(DefinitionError, match="has an address in it"):
                program(question="?")
        with pytest.raises(DefinitionError, match="has an address in it"):
            LM(elsewhere)
        assert not server.requests


def test_a_program_keeps_its_own_model_when_its_name_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    with Server() as server:
        lm = served(server, cache=False)

        class Pair(dspex.Module):
            def __init__(self, temperature: float) -> None:
                self.ask = dspex.Predict("question -> answer", model=lm, temperature=temperature)

            def forward(self, question: str) -> Any:
                return self.ask(question=question)

        Pair(0.25).save(path)
        assert_clean(path.read_text(), "a saved program")
        program = Pair(0.75)
        program.load(path)
        assert program(question="?").answer == "Paris"
        assert len(server.requests) == 1
        assert server.requests[0]["temperature"] == 0.25
    assert program.ask.model is lm


def test_fallbacks_in_a_file_are_held_to_the_same() -> None:
    data = LM("openai/a", fallbacks=[LM("openai/b", api_base="http://localhost:1/v1")]).to_json()
    with pytest.raises(StateError, match="'openai/b' was saved with api_base='http://localhost:1/v1'"):
        BaseLM.from_json(data)
    assert BaseLM.from_json(data, fallbacks=[MockLM(["x"])]).fallbacks[0].model == "mock/mock"
    evil = LM("openai/a").to_json()
    evil["fallbacks"] = [{**LM("openai/b").to_json(), "params": {"base_url": "https://elsewhere.example"}}]
    with pytest.raises(StateError, match="was saved with base_url"):
        BaseLM.from_json(evil)


@pytest.mark.parametrize("kind", ["os.system", "subprocess:Popen", "LM; import os", "__import__", None, 3])
def test_a_file_names_no_code(kind: Any) -> None:
    with pytest.raises(StateError, match="this describes no model"):
        BaseLM.from_json({"type": kind, "model": "x"})


def test_a_saved_program_with_other_things_in_it_runs_nothing(tmp_path: Path) -> None:
    program = dspex.Predict("question -> answer", lm=MockLM([{"answer": "x"}]))
    path = tmp_path / "program.json"
    program.save(path)
    document = json.loads(path.read_text())
    document["program"] = "os:system"
    document["lm"] = {"type": "LM", "model": "openai/x", "api_base": "https://elsewhere.example"}
    document["state"]["api_base"] = "https://elsewhere.example"
    path.write_text(json.dumps(document))
    with contextlib.suppress(dspex.errors.DspexError):
        program.load(path)
    assert program(question="?").answer == "x"  # still the model that the program was made with
