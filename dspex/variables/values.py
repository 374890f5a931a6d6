"""When two values are one."""

from __future__ import annotations

from typing import Any

from dspex.variables.readonly import plain_type

__all__ = ["same"]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types all through: 1, 1.0 and True are three values.

    >>> same((1, "a"), (1, "a")), same((1,), (True,)), same(1, 1.0)
    (True, False, False)
    """
    if one is other:
        return True
    kind = plain_type(one)
    if kind is not plain_type(other):
        return False
    if kind is tuple or kind is list:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)
