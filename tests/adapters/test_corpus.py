"""Answers as models write them, kept as data: what has to be read, and what has to be refused."""

from __future__ import annotations

import json
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from dspex.adapters import adapter_named
from dspex.errors import ParseError
from dspex.signatures import Signature

CORPUS = Path(__file__).with_name("corpus")


class Address(BaseModel):
    street: str
    zip_code: str
    unit: str | None = None


class Color(Enum):
    RED = "red"
    DARK_GREEN = "dark green"


TYPES = {"Address": Address, "Color": Color, "date": date, "datetime": datetime, "Literal": Literal, "Any": Any}


def cases(*names: str, outcome: str) -> list[Any]:
    """``smollm2`` holds what SmolLM2-135M-Instruct wrote without demos, judged by hand; the rest is by kind."""
    found = []
    for name in names:
        for line in (CORPUS / f"{name}.jsonl").read_text("utf-8").splitlines():
            case = json.loads(line)
            if outcome not in case:
                continue
            found.append(pytest.param(case, id=f"{name}-{case['id']}"))
    return found


def signature_of(case: dict[str, Any]) -> type[Signature]:
    # The types of the corpus are names of this module, which string signatures resolve.
    return Signature(case["signature"])


def plain(signature: type[Signature], values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: field.adapter.dump_python(values[name], mode="json") for name, field in signature.output_fields.items()
    }


@pytest.mark.parametrize("case", cases("headers", "values", "json_answers", "smollm2", outcome="expected"))
def test_is_read(case: dict[str, Any]) -> None:
    signature = signature_of(case)
    values = adapter_named(case["adapter"]).parse(signature, case["text"])
    assert list(values) == list(signature.output_fields)
    assert plain(signature, values) == case["expected"]


@pytest.mark.parametrize("case", cases("refused", "smollm2", outcome="error"))
def test_is_refused(case: dict[str, Any]) -> None:
    signature = signature_of(case)
    with pytest.raises(ParseError) as caught:
        adapter_named(case["adapter"]).parse(signature, case["text"])
    error = caught.value
    message = str(error)
    for name, field in signature.output_fields.items():
        assert (f"`{name}` ({field.type_name}): " in message) == (name in case["error"])
        assert (name in error.partial) == (name not in case["error"])
    assert error.text == case["text"]
    assert error.adapter == case["adapter"]


@pytest.mark.parametrize("case", cases("headers", "values", "json_answers", "smollm2", outcome="expected"))
def test_every_adapter_reads_it(case: dict[str, Any]) -> None:
    # A model may answer in the format it knows best instead of the one it was asked for.
    signature = signature_of(case)
    for name in ("chat", "compact", "json", "lines", "xml"):
        if name != case["adapter"] and not (name == "xml" and "[\\[" in case["text"]):  # each has its own escape
            assert plain(signature, adapter_named(name).parse(signature, case["text"])) == case["expected"], name
