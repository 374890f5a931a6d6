"""Calls that failed for good, kept beside the answers so that a replay of what happened has them too.

A failure is never given in place of an answer but in a replay, and there only when no other call of the same request
was answered. It has a key of its own in the cache, so that an answer which comes later is kept as any other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dspex.data.usage import Usage
from dspex.errors import LMError
from dspex.lm.types import Completion, LMResponse, digest

if TYPE_CHECKING:
    from dspex.lm.cache import Cache

__all__ = ["Losses", "keep_failure", "kept_failure", "saved"]

Losses = Sequence[Usage | None]
"""What each attempt took; ``None`` where nobody knows, which counts at its bound in a budget."""


def keep_failure(cache: Cache, key: str, error: LMError, losses: Losses, model: str) -> None:
    """Keep that the call under ``key`` came to ``error``, after attempts that took ``losses``."""
    plain = {
        "error": type(error).__name__,
        "message": str(error),
        "attempts": [None if loss is None else loss.to_json(zeros=False) for loss in losses],
    }
    cache.put(_key(key), LMResponse((Completion(json.dumps(plain), "failed"),), Usage(), model))


def kept_failure(cache: Cache, key: str) -> tuple[LMError | None, Losses]:
    """What the call under ``key`` came to, if that was kept, and what its attempts took."""
    kept = cache.get(_key(key), strict=True)
    if kept is None:
        return None, ()
    plain = json.loads(kept.text)
    kinds = {kind.__name__: kind for kind in LMError.__subclasses__()}
    error = kinds.get(plain["error"], LMError)(plain["message"], model=kept.model)
    error.replayed = True
    return error, [None if loss is None else Usage.from_json(loss) for loss in plain["attempts"]]


def saved(losses: Losses) -> Usage:
    """What a replay of attempts that took ``losses`` takes: nothing, and so much is saved."""
    usage = Usage(cached_calls=len(losses))
    usage.saved_cost = sum(loss.known_cost for loss in losses if loss is not None)
    usage.saved_tokens = sum(loss.total_tokens for loss in losses if loss is not None)
    return usage


def _key(key: str) -> str:
    return digest(f"{key} failed")
