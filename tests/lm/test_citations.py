"""Documents and what answers cite of them, over real HTTP in the shapes of Anthropic and OpenAI."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex.adapters import JSONAdapter
from dspex.data import Usage
from dspex.errors import ParseError
from dspex.lm import LM, Cache, Completion, LMRequest, LMResponse
from dspex.types import Citations, Document, File
from tests.lm.callers import Streamer
from tests.lm.server import Server, answer, send, sse

TIDES = Document(title="Tides", data="The moon pulls the sea.", context="a school book")
PAPER = File(url="data:application/pdf;base64,JVBERi0=", filename="paper.pdf")
SPEC = "sources: list[Document], question -> answer, found: Citations"

CITED = {
    "type": "char_location",
    "cited_text": "The moon pulls the sea.",
    "document_index": 0,
    "document_title": "Tides",
    "start_char_index": 0,
    "end_char_index": 23,
}
BLOCKS = [
    {"type": "text", "text": "[[ ## answer ## ]]\n"},
    {"type": "text", "text": "The moon", "citations": [CITED]},
    {"type": "text", "text": " does."},
]
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": BLOCKS,
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 4, "output_tokens": 3},
}


def events() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}
    ]
    for index, block in enumerate(BLOCKS):
        piece = {"type": "content_block_delta", "index": index}
        found.append({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}})
        found.append({**piece, "delta": {"type": "text_delta", "text": block["text"]}})
        for citation in block.get("citations", ()):
            found.append({**piece, "delta": {"type": "citations_delta", "citation": citation}})
        found.append({"type": "content_block_stop", "index": index})
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    return [*found, {**end, "usage": {"output_tokens": 3}}, {"type": "message_stop"}]


def claude(server: Server, **options: Any) -> LM:
    base = server.url.removesuffix("/v1")
    options = {"cache": False, **options}
    return LM("anthropic/claude-sonnet-4-5", api_base=base, api_key="sk-x", retries=0, **options)


def blocks(server: Server) -> list[dict[str, Any]]:
    """The content of the last message that came."""
    content: list[dict[str, Any]] = server.requests[-1]["messages"][-1]["content"]
    return content


def test_a_model_that_cites_is_given_documents_and_its_citations_are_read() -> None:
    with Server(otherwise=send(200, MESSAGE)) as server:
        found = dspex.Predict(SPEC, lm=claude(server))(sources=[TIDES], question="What pulls the sea?")
    (document,) = [block for block in blocks(server) if block["type"] == "document"]
    assert document == {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": TIDES.data},
        "title": "Tides",
        "context": "a school book",
        "citations": {"enabled": True},
    }
    assert "found" not in str(server.requests[-1]["system"])  # it is not asked to write them
    assert found.answer == "The moon does."
    assert isinstance(found.found, Citations)
    (citation,) = found.found
    assert (citation.cited_text, citation.document_title, citation.document_index) == (TIDES.data, "Tides", 0)


def test_citations_of_a_stream_are_those_of_the_whole(way: Streamer) -> None:
    request = LMRequest.of(messages=[{"role": "user", "content": [TIDES.cited()]}])
    streamed = way.__name__.endswith("streaming")
    with Server(otherwise=sse(events(), ends=False) if streamed else send(200, MESSAGE)) as server:
        response = way(claude(server), request)[-1]
    (completion,) = response.completions
    wanted = {name: CITED[name] for name in ("cited_text", "document_index", "document_title")}
    assert completion.citations == (wanted,)
    assert completion.text == "[[ ## answer ## ]]\nThe moon does."


def test_citations_are_cached() -> None:
    with Server(otherwise=send(200, MESSAGE)) as server:
        predict = dspex.Predict(SPEC, lm=claude(server, cache=Cache()))
        first, second = (predict(sources=[TIDES], question="?") for _ in range(2))
    assert len(server.requests) == 1
    assert first.found == second.found
    response = LMResponse((Completion("x", citations=({"cited_text": "t"},)),), Usage(calls=1))
    assert LMResponse.from_json(response.to_json()) == response


def test_citations_and_a_schema_exclude_each_other() -> None:
    cited = {**MESSAGE, "content": [{"type": "text", "text": '{"answer": "The moon"}', "citations": [CITED]}]}
    with Server(otherwise=send(200, cited)) as server:
        predict = dspex.Predict(SPEC, lm=claude(server), adapter=JSONAdapter())
        found = predict(sources=[TIDES], question="?")
        assert (found.answer, len(found.found)) == ("The moon", 1)
        assert not {"output_format", "output_config", "tools"} & server.requests[-1].keys()


def test_a_model_cites_no_document_that_it_is_not_given() -> None:
    text = "[[ ## answer ## ]]\nNobody\n\n[[ ## found ## ]]\n[]\n\n[[ ## completed ## ]]"
    with Server(otherwise=send(200, {**MESSAGE, "content": [{"type": "text", "text": text}]})) as server:
        found = dspex.Predict(SPEC, lm=claude(server))(sources=[], question="?")
        assert "found" in str(server.requests[-1]["system"])
    assert (found.answer, len(found.found)) == ("Nobody", 0)


def test_nothing_is_cited_that_nobody_asked_for() -> None:
    with Server(otherwise=send(200, MESSAGE)) as server:
        dspex.Predict("source: Document -> answer", lm=claude(server))(source=TIDES)
    (document,) = [block for block in blocks(server) if block["type"] == "document"]
    assert "citations" not in document


def test_pdfs_are_cited_as_documents_and_read_as_files() -> None:
    with Server(otherwise=send(200, MESSAGE)) as server:
        both = dspex.Predict("paper: File, note: Document -> answer, c: Citations", lm=claude(server))
        both(paper=PAPER, note=TIDES)
        cited = [block for block in blocks(server) if block["type"] == "document"]
        dspex.Predict("paper: File -> answer", lm=claude(server))(paper=PAPER)
        (read,) = [block for block in blocks(server) if block["type"] == "document"]
    # All documents of a request, or none.
    assert [block["citations"] for block in cited] == [{"enabled": True}] * 2
    assert (cited[0]["title"], cited[0]["source"]["data"]) == ("paper.pdf", "JVBERi0=")
    assert "citations" not in read


@pytest.mark.parametrize("written", ['[{"cited_text": "The moon pulls the sea.", "document_index": 0}]', "nothing"])
def test_a_model_that_does_not_cite_is_asked_in_words(written: str) -> None:
    text = f"[[ ## answer ## ]]\nThe moon\n\n[[ ## found ## ]]\n{written}\n\n[[ ## completed ## ]]"
    with Server(otherwise=answer(text)) as server:
        lm = LM("openai/gpt-4o", api_base=server.url, api_key="none", cache=False, retries=0)
        predict = dspex.Predict("sources: list[Document], paper: File -> answer, found: Citations", lm=lm)
        if written == "nothing":
            with pytest.raises(ParseError, match="found"):
                predict(sources=[TIDES], paper=PAPER)
        else:
            found = predict(sources=[TIDES], paper=PAPER)
            assert found.found[0].cited_text == TIDES.data
    texts = [block["text"] for block in blocks(server) if block["type"] == "text"]
    assert any('Document "Tides" (a school book):\nThe moon pulls the sea.' in text for text in texts)
    (part,) = [block for block in blocks(server) if block["type"] == "file"]
    assert part["file"] == {"file_data": PAPER.url, "filename": "paper.pdf"}
    assert "found" in str(server.requests[-1]["messages"][0])
