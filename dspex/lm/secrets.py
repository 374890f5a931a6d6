"""What must never be shown, logged, cached or saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["HIDDEN", "SAMPLING", "is_secret", "public_url", "scrub", "unsafe_params", "url_secrets", "values_of"]

HIDDEN = "***"

# `max_tokens` is no secret, `aws_session_token` is one; headers carry authorization.
_NAME = re.compile(
    r"(^|_)(api_?key|key|key_id|token|secret|password|passwd|credentials?|headers?|auth|authorization|client)(_|$)",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether a parameter of this name holds a secret.

    >>> [is_secret(name) for name in ("api_key", "extra_headers", "aws_session_token", "max_tokens")]
    [True, True, True, False]
    """
    return _NAME.search(name) is not None


def values_of(secret: Any) -> Iterable[str]:
    """The strings in a secret, which may be a mapping of headers."""
    if isinstance(secret, str):
        yield secret
        if " " in secret:
            yield from secret.split()
    elif isinstance(secret, Mapping):
        for value in secret.values():
            yield from values_of(value)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """``text`` without the secrets in it.

    >>> scrub("refused: sk-123456789", ["sk-123456789"])
    'refused: ***'
    """
    # Short ones are words of the language ("none", "Bearer") or placeholders rather than secrets.
    for secret in sorted({secret for secret in secrets if len(secret) >= 8}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


SAMPLING = frozenset(
    {
        "frequency_penalty",
        "ignore_eos",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "repeat_last_n",
        "repeat_penalty",
        "repetition_penalty",
        "response_format",
        "rollout_id",
        "seed",
        "service_tier",
        "stop",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "typical_p",
        "verbosity",
    }
)
"""Parameters that a file may set: they say how a model answers, and not where it is or who pays."""


def unsafe_params(params: Mapping[str, Any]) -> list[str]:
    """The names in ``params`` that no file may decide.

    >>> unsafe_params({"temperature": 0.5, "base_url": "https://elsewhere.example"})
    ['base_url']
    """
    return sorted(set(params) - SAMPLING)


def url_secrets(url: str) -> list[str]:
    """The password and the values of the query in ``url``.

    >>> url_secrets("https://user:password@host/v1?key=abc")
    ['password', 'abc']
    """
    from urllib.parse import parse_qsl, urlsplit  # as below

    parts = urlsplit(url)
    return [*filter(None, [parts.password]), *(value for _, value in parse_qsl(parts.query))]


def public_url(url: str) -> str:
    """``url`` without the user, password and query in it.

    >>> public_url("https://user:password@host:8000/v1?key=abc")
    'https://host:8000/v1'
    """
    from urllib.parse import urlsplit, urlunsplit  # slow to load, and most models have no address

    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
