"""What must never be shown, logged, cached or saved."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

__all__ = [
    "HIDDEN",
    "SAMPLING",
    "is_function",
    "is_secret",
    "public_params",
    "public_url",
    "scrub",
    "scrubbed",
    "secret_values",
    "unsafe_params",
    "url_secrets",
]

HIDDEN = "***"

# `max_tokens` is no secret, `aws_session_token` is one; headers carry authorization.
_NAME = re.compile(
    r"(^|_)(api_?key|key|key_id|token|secret|password|passwd|credentials?|headers?|auth|authorization|client"
    r"|connection_string)(_|$)",
    re.IGNORECASE,
)
_HEADERS = re.compile(r"(^|_)headers?$", re.IGNORECASE)
_NEW_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_IN_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def is_secret(name: str) -> bool:
    """Whether a parameter of this name holds a secret.

    >>> [is_secret(name) for name in ("api_key", "extra_headers", "aws_session_token", "max_tokens")]
    [True, True, True, False]
    >>> [is_secret(name) for name in ("X-Api-Key", "accessToken")]
    [True, True]
    """
    return _NAME.search(_words(name)) is not None


def _words(name: str) -> str:
    return _NEW_WORD.sub("_", name).replace("-", "_")


# JSON schemas, in which a property may well be named "token".
_SCHEMAS = ("functions", "response_format")


def public_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` without those that are secret, and without the secrets inside of others: what a service behind the
    provider wants, such as a search or a server of tools.

    >>> public_params({"api_key": "sk-1", "extra_body": {"top_k": 5, "search": [{"key": "sk-2"}]}})
    {'extra_body': {'top_k': 5, 'search': [{'key': '***'}]}}
    >>> public_params({"tools": [{"type": "mcp", "headers": {"x-user": "sk-3"}}]})
    {'tools': [{'type': 'mcp', 'headers': {'x-user': '***'}}]}
    """
    unheard: list[str] = []
    return {
        name: value if name in _SCHEMAS else _hidden(value, unheard)
        for name, value in params.items()
        if not is_secret(name)
    }


def _hidden(value: Any, found: list[str]) -> Any:
    """``value`` with ``***`` for each secret in it, which goes to ``found``; the object itself when there is none."""
    if isinstance(value, str):
        if "://" not in value or "@" not in value:
            return value
        told = _IN_URL.findall(value)
        for one in told:
            found += [one, *one.split(":")]
        return _IN_URL.sub(HIDDEN, value) if told else value
    if isinstance(value, Mapping):
        if is_function(value):
            return value
        shown = {name: _hidden_under(name, one, found) for name, one in value.items()}
        return value if all(shown[name] is one for name, one in value.items()) else shown
    if isinstance(value, (list, tuple)):
        parts = [_hidden(one, found) for one in value]
        return value if all(one is part for one, part in zip(value, parts, strict=True)) else parts
    return value


def _hidden_under(name: Any, value: Any, found: list[str]) -> Any:
    if not isinstance(name, str) or not is_secret(name):
        return _hidden(value, found)
    if isinstance(value, str):
        found.extend(_texts(value))
        return HIDDEN
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        for one in value:
            found.extend(_texts(one))
        return [HIDDEN] * len(value)
    # Any header may be one. What has a type is the schema of something that has this name.
    if isinstance(value, Mapping) and "type" not in value and _HEADERS.search(_words(name)):
        return {key: _hidden_under("header", one, found) for key, one in value.items()}
    return _hidden(value, found)


def is_function(tool: Any) -> bool:
    """Whether ``tool`` is a function of the caller's, and not a service that the provider turns to by itself.

    >>> is_function({"type": "function", "function": {"name": "add"}}), is_function({"type": "mcp"})
    (True, False)
    """
    return isinstance(tool, Mapping) and tool.get("type") == "function" and ("function" in tool or "parameters" in tool)


def secret_values(params: Mapping[str, Any]) -> Iterable[str]:
    """The strings that `public_params` leaves out.

    >>> list(secret_values({"api_key": "sk-1", "top_k": 5, "extra_body": {"user": "me", "search": [{"key": "sk-2"}]}}))
    ['sk-1', 'sk-2']
    """
    found: list[str] = []
    for name, value in params.items():
        if is_secret(name):
            found.extend(_texts(value))
        elif name not in _SCHEMAS:
            _hidden(value, found)
    return found


def _texts(secret: Any) -> Iterable[str]:
    """The strings in a secret, which may be a mapping of headers."""
    if isinstance(secret, str):
        yield secret
        if " " in secret:
            yield from secret.split()
    elif isinstance(secret, Mapping):
        for value in secret.values():
            yield from _texts(value)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """``text`` without the secrets in it.

    >>> scrub("refused: sk-123456789", ["sk-123456789"])
    'refused: ***'
    """
    # Short ones are words of the language ("none", "Bearer") or placeholders rather than secrets.
    for secret in sorted({secret for secret in secrets if len(secret) >= 8}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def scrubbed(value: Any, secrets: Collection[str]) -> Any:
    """Plain data without the secrets in its texts.

    >>> scrubbed({"error": ["refused: sk-123456789"]}, ["sk-123456789"])
    {'error': ['refused: ***']}
    """
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        return {name: scrubbed(one, secrets) for name, one in value.items()}
    if isinstance(value, list):
        return [scrubbed(one, secrets) for one in value]
    return value


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
    >>> unsafe_params({"tools": [{"type": "mcp", "server_url": "https://elsewhere.example"}]})
    ['tools']
    """
    # A tool that the provider runs may send the prompt to anywhere; a function comes back to the caller.
    tools = params.get("tools") or ()
    own = isinstance(tools, (list, tuple)) and all(is_function(tool) for tool in tools)
    return sorted((set(params) - SAMPLING) | (set() if own else {"tools"}))


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
