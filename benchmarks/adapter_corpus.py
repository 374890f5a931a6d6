"""How many malformed answers are read without another call, against DSPy 3.4 on the same corpus.

The corpus is ``tests/adapters/corpus/malformed``. An answer counts as read when every output has the value that a
person reads; a wrong value is worse than none, so it is counted apart. Of the answers that say nothing certain,
those are counted that are read all the same. DSPy's `ChatAdapter` falls back to its `JSONAdapter` with a second
call; here each adapter only parses.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal

import _dspy_peer  # noqa: F401 - sets DSPy up
import dspy
from _measure import table, verdict
from pydantic import BaseModel, TypeAdapter

from dspex.adapters import adapter_named
from dspex.errors import ParseError
from dspex.signatures import Signature

CORPUS = Path(__file__).parents[1] / "tests" / "adapters" / "corpus" / "malformed"


class Address(BaseModel):
    street: str
    zip_code: str
    unit: str | None = None


class Item(BaseModel):
    name: str
    quantity: int
    price: float


TYPES = {"Address": Address, "Item": Item, "date": date, "Literal": Literal}
THEIRS = {"chat": dspy.ChatAdapter(), "json": dspy.JSONAdapter(), "xml": dspy.XMLAdapter()}


def plain(values: dict[str, Any], annotations: dict[str, Any]) -> dict[str, Any]:
    return {name: TypeAdapter(kind).dump_python(values[name], mode="json") for name, kind in annotations.items()}


def outcome(case: dict[str, Any], read: Any, annotations: dict[str, Any], refusals: type[Exception]) -> str:
    try:
        found = plain(read(case["text"]), annotations)
    except refusals:
        return "refused"
    if "expected" not in case:
        return "made up"
    return "right" if found == case["expected"] else "wrong"


def main() -> int:
    rows, claims = [], {}
    for name, peer in THEIRS.items():
        ours, theirs = Counter(), Counter()
        cases = [json.loads(line) for line in (CORPUS / f"{name}.jsonl").read_text("utf-8").splitlines()]
        for case in cases:
            signature = Signature(case["signature"])
            annotations = {key: field.annotation for key, field in signature.output_fields.items()}
            ours[outcome(case, partial(adapter_named(name).parse, signature), annotations, ParseError)] += 1
            peer_signature = dspy.Signature(case["signature"], custom_types=TYPES)
            theirs[outcome(case, partial(peer.parse, peer_signature), annotations, Exception)] += 1
        readable = sum("expected" in case for case in cases)
        for who, found in (("dspex", ours), (f"DSPy {dspy.__version__}", theirs)):
            rows.append(
                [
                    name,
                    who,
                    f"{found['right']} of {readable}",
                    f"{found['right'] / readable:.0%}",
                    str(found["wrong"]),
                    f"{found['made up']} of {len(cases) - readable}",
                ]
            )
        claims[f"{name}: more read than by DSPy, and nothing made up"] = (
            ours["right"] > theirs["right"] and not ours["made up"]
        )
    table(
        "Malformed answers read without another call",
        ["adapter", "parser", "read", "share", "wrong value", "unreadable, read all the same"],
        rows,
    )
    return verdict(claims)


if __name__ == "__main__":
    sys.exit(main())
