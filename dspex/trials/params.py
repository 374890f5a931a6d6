"""How the values of a trial are written down.

A value is stored as its domain encodes it, with two exceptions: of an open-ended variable the id of its candidate is
stored, and ``None`` where a variable may be unset stays ``None``, whatever its domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.variables import Domain, Pool, content_id

__all__ = ["decode_param", "encode_param", "fingerprint_of", "resolved"]


def encode_param(domain: Domain[Any], value: Any) -> Any:
    """A parameter as JSON."""
    return value if value is None or domain.open_ended else domain.encode(value)


def decode_param(domain: Domain[Any], value: Any) -> Any:
    """The parameter that `encode_param` wrote."""
    return value if value is None or domain.open_ended else domain.decode(value)


def resolved(
    params: Mapping[str, Any], domains: Mapping[str, Domain[Any]], pools: Mapping[str, Pool]
) -> dict[str, Any]:
    """The values of a trial, with candidates in place of their ids."""
    return {
        path: pools[path][value].value if value is not None and domains[path].open_ended else value
        for path, value in params.items()
    }


def fingerprint_of(params: Mapping[str, Any], domains: Mapping[str, Domain[Any]]) -> str:
    """The id of the values of a trial that has no declared space: the same values give the same one.

    >>> from dspex.variables import Int
    >>> fingerprint_of({"k": 3}, {"k": Int(1, 5)})
    '615b1dfe8431f944'
    """
    return content_id({path: encode_param(domains[path], value) for path, value in params.items()})
