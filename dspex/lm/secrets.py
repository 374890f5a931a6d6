"""What must never be shown, logged, cached or saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["HIDDEN", "is_secret", "public_url", "scrub", "values_of"]

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


def public_url(url: str) -> str:
    """``url`` without the user, password and query in it.

    >>> public_url("https://user:password@host:8000/v1?key=abc")
    'https://host:8000/v1'
    """
    from urllib.parse import urlsplit, urlunsplit  # slow to load, and most models have no address

    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
