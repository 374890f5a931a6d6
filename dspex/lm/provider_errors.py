"""What litellm raises, as errors of ours: with a cause, a wait before the next attempt, and no secret in it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from dspex.errors import (
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
)
from dspex.lm import provider
from dspex.lm.secrets import scrub

__all__ = ["headers_of", "no_key", "tells", "typed"]


def typed(
    error: Exception,
    *,
    model: str,
    where: str,
    timeout: float | None,
    has_key: bool,
    secrets: Collection[str],
) -> LMError:
    """litellm's error as one of ours, with the secrets taken out of its message."""
    litellm = provider.load()
    names = [type(link).__name__ for link in _chain(error)]
    # litellm leaves codes of the provider out of its own message.
    everything = " ".join(str(link) for link in _chain(error))
    status = getattr(error, "status_code", None)
    detail = scrub(_detail(error), secrets)[:500]  # in this order: half a secret would not be found
    retry_after = _retry_after(headers_of(error))
    if isinstance(error, litellm.ContextWindowExceededError) or "context_length_exceeded" in everything:
        return LMContextWindowError(f"the prompt is too long for {model}: {detail}", model=model)
    filtered = "content_policy_violation" in everything or (status == 400 and "'content_filter'" in everything)
    if filtered or isinstance(error, litellm.ContentPolicyViolationError):
        return LMContentFilterError(f"the content filter of {model} stopped the call: {detail}", model=model)
    # litellm calls it a failure to connect, too, when a connection is reset that had carried the request.
    unsent = any(name in _NEVER_SENT for name in names) and "ClientOSError" not in names
    if not unsent and (isinstance(error, litellm.Timeout) or any("Timeout" in name for name in names)):
        patience = "" if timeout is None else f" in {timeout:.3g} s"
        return LMTimeoutError(
            f"{model} did not answer{patience}: {detail}; give it more time with dspex.LM(..., timeout=...)",
            model=model,
            retry_after=retry_after,
        )
    if unsent or any(name in _LOST for name in names):
        detail = scrub(_root(error), secrets)[:200]
        return LMConnectionError(
            f"{model} could not be reached at {where} ({detail}); is the server running, the network up and "
            "api_base right?",
            model=model,
            billed=not unsent,
        )
    if "UnicodeEncodeError" in names:
        return LMRequestError(
            f"the request to {model} cannot be sent: {scrub(_root(error), secrets)[:200]}", model=model
        )
    # litellm's own words and status for an answer that came, with a status of success, and could not be read.
    illegible = status == 200 or any(said in everything for said in _NO_ANSWER)
    if illegible or any(name in _ILLEGIBLE for name in names):
        return LMServerError(f"{where} sent what is no answer of {model}: {detail}", model=model, billed=True)
    if status == 402 or any(code in everything for code in _BILLING):
        return LMBillingError(f"the account that pays for {model} has nothing left: {detail}", model=model)
    if status in (401, 403) or (not has_key and "credential" in detail.lower()):
        keys = provider.missing_keys(model)
        if not has_key and keys:
            return LMAuthError(no_key(model, keys), model=model)
        return LMAuthError(
            f"{where} refused the credentials for {model}: {detail}; check api_key, or the variable it is in",
            model=model,
        )
    if status == 429 or isinstance(error, litellm.RateLimitError):
        return LMRateLimitError(f"{model} is over its rate limit: {detail}", model=model, retry_after=retry_after)
    if isinstance(status, int) and 400 <= status < 500:
        if status == 404:
            return LMRequestError(f"{where} does not know the model {model!r}: {detail}", model=model)
        return LMRequestError(f"{where} refused the request to {model} ({status}): {detail}", model=model)
    failure = f"{where} failed while {model} answered"
    return LMServerError(f"{failure} ({status or 'no status'}): {detail}", model=model, retry_after=retry_after)


def tells(error: BaseException, secrets: Collection[str]) -> bool:
    """Whether a secret is in what ``error``, or one that led to it, says."""
    return any(scrub(text, secrets) != text for text in map(str, _chain(error)))


def no_key(model: str, names: list[str]) -> str:
    """What to do when there is no API key."""
    variables = " or ".join(names)
    return (
        f"there is no API key for {model}: set the environment variable {variables}, "
        f"or write dspex.LM({model!r}, api_key=...)"
    )


# By name, so that httpx and aiohttp need not be imported to look.
_NEVER_SENT = {
    "ClientConnectorError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectionRefusedError",
    "ConnectionTimeoutError",
    "gaierror",
}
_ILLEGIBLE = {"APIResponseValidationError", "JSONDecodeError"}
_NO_ANSWER = (
    "Empty or invalid response from LLM endpoint",
    "Invalid response object",
    "LiteLLM: provider returned",
)
_BILLING = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credit balance is too low")
_LOST = {
    "APIConnectionError",
    "BrokenPipeError",
    "ClientOSError",
    "ConnectionAbortedError",
    "ConnectionResetError",
    "NetworkError",
    "ReadError",
    "RemoteProtocolError",
    "ServerDisconnectedError",
    "WriteError",
}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 12:
        yield error
        error = error.__cause__ or error.__context__
        seen += 1


_PREFIX = re.compile(r"^(litellm\.)?(\w*(Error|Exception|Timeout)\w*( Error)?\s*(:|-)\s*)+")


def _detail(error: Exception) -> str:
    text = _PREFIX.sub("", str(error)).strip()
    if text.startswith("{"):  # the body as it came
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            text = str(json.loads(text)["error"]["message"])
    return text or type(error).__name__


def _root(error: Exception) -> str:
    """What the operating system said, at the end of the chain."""
    texts = [str(link) for link in _chain(error) if str(link)]
    return texts[-1] if texts else type(error).__name__


def headers_of(raw: Any) -> dict[str, str]:
    """The headers of a response or an error of litellm's, by name in lower case."""
    hidden = getattr(raw, "_hidden_params", None)
    hidden = hidden if isinstance(hidden, Mapping) else {}
    for holder in (
        getattr(raw, "_response_headers", None),
        hidden.get("headers"),
        hidden.get("additional_headers"),
        getattr(raw, "litellm_response_headers", None),
        getattr(getattr(raw, "response", None), "headers", None),
    ):
        try:
            headers = {
                str(name).lower().removeprefix("llm_provider-"): str(value)
                for name, value in dict(holder or {}).items()
            }
        except (TypeError, ValueError):
            continue
        if headers:
            return headers
    return {}


_LONGEST_WISH = 366 * 86400.0
"""Seconds. A wish for more than that can not be meant, and taken at its word nobody would ever ask again."""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    wishes = (_milliseconds(headers.get("retry-after-ms")), _seconds_or_moment(headers.get("retry-after")))
    return next((max(0.0, wish) for wish in wishes if wish is not None and wish <= _LONGEST_WISH), None)


def _milliseconds(given: str | None) -> float | None:
    try:
        return None if given is None else float(given) / 1000
    except ValueError:
        return None


def _seconds_or_moment(given: str | None) -> float | None:
    if given is None:
        return None
    try:
        return float(given)
    except ValueError:
        from email.utils import mktime_tz, parsedate_tz  # seldom needed, and slow to load

        with suppress(ValueError, OverflowError):  # of no year that there is
            moment = parsedate_tz(given)
            return None if moment is None else mktime_tz(moment) - time.time()
        return None
