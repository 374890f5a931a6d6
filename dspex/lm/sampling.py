"""The parameters that go with a request: what is wrong with them before it is sent, and what they did to its answer.

Only what every provider takes in the same form is checked. A parameter that is not known here is the provider's affair,
unless it looks like one that is, written wrongly.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from dspex.errors import DefinitionError
from dspex.variables.numeric import is_finite

__all__ = ["check_params", "warn_truncated"]

Check = tuple[Callable[[Any], bool], str, str]
"""Whether a value fits, what it must be, and an example."""


def check_params(params: Mapping[str, Any]) -> None:
    """Raise `DefinitionError` for the first of ``params`` that no provider could take; ``None`` is a default.

    >>> check_params({"temperature": 0.7, "stop": ["###"], "top_p": None, "some_provider_knows": "what this is"})
    >>> check_params({"temperature": "hot"})
    Traceback (most recent call last):
        ...
    dspex.errors.DefinitionError: temperature must be a number, 0 or more, ..., not 'hot' (str); write temperature=0.7
    >>> check_params({"temperatur": 0.7})
    Traceback (most recent call last):
        ...
    dspex.errors.DefinitionError: a model has no parameter 'temperatur'; did you mean temperature=0.7? ...
    """
    for name, value in params.items():
        check = _CHECKS.get(name)
        if check is None:
            if name == "callbacks":
                raise DefinitionError(
                    f"callbacks={value!r:.200} of one model or predictor there are not: those of the process or of a "
                    "block are told of all, with span.name and span.path; write dspex.configure(callbacks=[...]) or "
                    "with dspex.context(callbacks=[...]):"
                )
            if name in _NOT_PARAMS:
                raise DefinitionError(f"{name}= is no parameter that goes with a request: {_NOT_PARAMS[name]}")
            meant = _meant(name)
            if meant is not None:
                raise DefinitionError(
                    f"a model has no parameter {name!r}; did you mean {meant}={value!r:.200}? If it is one of the "
                    f"provider's own, write extra_body={{{name!r}: ...}}"
                )
        elif value is not None and not check[0](value):
            _, what, example = check
            raise DefinitionError(
                f"{name} must be {what}, or None for the provider's default, not {value!r:.200} "
                f"({type(value).__name__}); write {name}={example}"
            )


@lru_cache(maxsize=256)
def _meant(name: str) -> str | None:
    """The parameter that a name that is none looks like: one letter too many or too few, or two in the wrong order."""
    return next(iter(difflib.get_close_matches(name, _CHECKS, n=1, cutoff=0.88)), None)


def _number(low: float, high: float, example: str) -> Check:
    def fits(value: Any) -> bool:
        return is_finite(value) and low <= value <= high

    return fits, f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number, {low:g} or more", example


def _whole(low: int, example: str) -> Check:
    def fits(value: Any) -> bool:
        return _is_whole(value) and value >= low

    return fits, f"a whole number, {low} or more", example


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_stop(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value))


_CHECKS: Mapping[str, Check] = {
    "frequency_penalty": (is_finite, "a number", "0.5"),
    "logit_bias": (lambda value: isinstance(value, Mapping), "a dict of numbers by token", "{50256: -100}"),
    "logprobs": (lambda value: isinstance(value, int) and value >= 0, "True, False or how many", "True"),
    "max_completion_tokens": _whole(1, "1000"),
    "max_output_tokens": _whole(1, "1000"),
    "max_tokens": _whole(1, "1000"),
    "min_p": _number(0, 1, "0.05"),
    "n": _whole(1, "3"),
    "presence_penalty": (is_finite, "a number", "0.5"),
    "repeat_penalty": (is_finite, "a number", "1.1"),
    "repetition_penalty": (is_finite, "a number", "1.1"),
    "seed": (_is_whole, "a whole number", "7"),
    "stop": (_is_stop, "a text or a list of texts", '["###"]'),
    "temperature": _number(0, math.inf, "0.7"),  # a server of one's own has no upper limit
    "top_k": _whole(-1, "40"),
    "top_logprobs": _whole(0, "5"),
    "top_p": _number(0, 1, "0.9"),
    "typical_p": _number(0, 1, "0.9"),
}


_MADE_WITH = "it is said when a model is made, dspex.LM(..., {}=...), and several models may be made of one name"
_NOT_PARAMS: Mapping[str, str] = {
    "model": "it is the model that is called, dspex.LM(...)(...)",
    "messages": "messages go into each call, lm(messages=[...])",
    "stream_options": "leave it out; a stream says what it took without being asked",
    "stream": "stream a call with lm.stream(request) or lm.astream(request), a program with program.stream(...)",
    **dict.fromkeys(
        ("cache", "caching"),
        "what is done with the cache is said when a model is made, dspex.LM(..., cache=...), to a call, "
        'lm(..., cache="refresh"), or to a block, with dspex.context(cache=...):',
    ),
    **{
        name: _MADE_WITH.format(right)
        for right, names in {
            "api_base": ("api_base", "base_url"),
            "breaker": ("breaker",),
            "capabilities": ("capabilities",),
            "deadline": ("deadline",),
            "fallbacks": ("context_window_fallback_dict", "fallbacks"),
            "max_concurrency": ("max_concurrency", "max_parallel_requests"),
            "model_type": ("model_type",),
            "price": ("price",),
            "prompt_caching": ("prompt_caching",),
            "retries": ("max_retries", "num_retries", "retries", "retry_policy", "retry_strategy"),
            "timeout": ("force_timeout", "request_timeout", "stream_timeout", "timeout"),
        }.items()
        for name in names
    },
}
"""What is often written among them, and would do nothing or something else there, and what to write instead."""


def warn_truncated(who: str, params: Mapping[str, Any], instead: str) -> None:
    """Say that an answer of ``who`` is not whole. Python shows a warning of the same text once.

    ``params`` are those that held for it.
    """
    longest = params.get("max_completion_tokens") or params.get("max_tokens")
    limit = "the longest that the model answers" if longest is None else f"max_tokens={longest}"
    warnings.warn(
        f"an answer of {who} was cut off at {limit}; give it more with {instead}", RuntimeWarning, stacklevel=2
    )
