"""One result: what a configuration of a program scored on one example. The record both trunks know."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from dspex.data.usage import Usage

__all__ = ["Evaluation"]


@attrs.frozen(kw_only=True)
class Evaluation:
    """One row of the ledger: (trial, example, rollout) and what came of it.

    ``status`` is ``"failed"`` when the world failed (timeout, rate limit, dead worker): such a row has no
    scores and never ranks anything. A program's own wrong answer is ``"ok"`` with a low score, and ``error``
    says what it raised, as ``"ParseError: ..."``. ``latency`` is in seconds, ``started`` in seconds since the
    epoch. ``fingerprint`` names the configuration; ``output`` is the prediction's fields as plain data.

    >>> row = Evaluation(example_id="5f1c", status="ok", scores={"score": 1.0})
    >>> row.score, row.ok
    (1.0, True)
    >>> Evaluation.from_json(row.to_json()) == row
    True
    """

    example_id: str
    status: Literal["ok", "failed"]
    scores: dict[str, float] = attrs.field(factory=dict)
    feedback: str = ""
    error: str = ""
    rollout: int = 0
    latency: float | None = None
    usage: Usage = attrs.field(factory=Usage)
    trial: int | None = None
    fingerprint: str = ""
    output: dict[str, Any] | None = None
    started: float = attrs.field(factory=time.time)

    @property
    def ok(self) -> bool:
        """Whether there is a score to count."""
        return self.status == "ok"

    @property
    def score(self) -> float | None:
        """The main objective, or ``None`` for a failed row."""
        return self.scores.get("score")

    @property
    def measured(self) -> dict[str, float]:
        """The measured objectives, without those that are not known.

        ``cost`` is in US dollars and what the execution costs without a cache, so that a search for cheap programs is
        not led astray by answers that happen to be cached; ``calls`` and ``tokens`` likewise; ``latency`` is in
        seconds, as measured.

        >>> usage = Usage(calls=1, cached_calls=1, prompt_tokens=90, cost=0.25, saved_cost=0.5, saved_tokens=60)
        >>> Evaluation(example_id="5f1c", status="ok", usage=usage, latency=1.5).measured
        {'cost': 0.75, 'tokens': 150.0, 'calls': 2.0, 'latency': 1.5}
        """
        found: dict[str, float] = {}
        usage = self.usage
        cost, saved = usage.cost, usage.saved_cost
        if cost is not None and saved is not None:
            found["cost"] = cost + saved
        found["tokens"] = float(usage.total_tokens + usage.saved_tokens)
        found["calls"] = float(usage.calls + usage.cached_calls)
        if self.latency is not None:
            found["latency"] = self.latency
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "example_id": self.example_id,
            "status": self.status,
            "scores": dict(self.scores),
            "feedback": self.feedback,
            "error": self.error,
            "rollout": self.rollout,
            "latency": self.latency,
            "usage": self.usage.to_json(),
            "trial": self.trial,
            "fingerprint": self.fingerprint,
            "output": self.output,
            "started": self.started,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """The row that `to_json` wrote; whatever a later version added is ignored."""
        known = {name: data[name] for name in _NAMES if name in data}
        if known.get("usage") is not None:
            known["usage"] = Usage.from_json(known["usage"])
        return cls(**known)


_NAMES = tuple(field.name for field in attrs.fields(Evaluation))
