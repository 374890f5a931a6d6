"""Plain values that nobody can change, for what is handed out and stays somebody else's."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

__all__ = ["ReadOnlyDict", "ReadOnlyList", "read_only"]

K = TypeVar("K")
V = TypeVar("V")


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    raise TypeError(
        "this is what is recorded, and changing it would change nothing: set_user_attr(key, value) records another "
        f"value, and copy.deepcopy(...) gives a {type(self).__mro__[1].__name__} to change"
    )


class ReadOnlyDict(dict[K, V]):
    """A dict that refuses to be changed; `copy.deepcopy` gives a plain one.

    >>> found = ReadOnlyDict({"k": 3})
    >>> found == {"k": 3}, {**found, "j": 4}
    (True, {'k': 3, 'j': 4})
    >>> found["k"] = 4  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: this is what is recorded, and changing it would change nothing: ...
    """

    __slots__ = ()

    if not TYPE_CHECKING:
        __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[K, V]:
        return {key: deepcopy(value, memo) for key, value in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return (ReadOnlyDict, (dict(self),))


class ReadOnlyList(list[V]):
    """A list that refuses to be changed; `copy.deepcopy` gives a plain one.

    >>> found = ReadOnlyList(["a", "b"])
    >>> found == ["a", "b"], deepcopy(found) + ["c"]
    (True, ['a', 'b', 'c'])
    >>> found.append("c")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: this is what is recorded, and changing it would change nothing: ...
    """

    __slots__ = ()

    if not TYPE_CHECKING:
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
        append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[V]:
        return [deepcopy(value, memo) for value in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return (ReadOnlyList, (list(self),))


def read_only(value: Any) -> Any:
    """``value`` with all dicts and lists in it read-only, through dicts, lists and tuples.

    >>> read_only({"path": ["a", "b"]})["path"].append("c")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: this is what is recorded, and changing it would change nothing: ...
    """
    kind = type(value)
    if kind is dict:
        return ReadOnlyDict({key: read_only(item) for key, item in value.items()})
    if kind is list:
        return ReadOnlyList([read_only(item) for item in value])
    if kind is tuple:
        return tuple([read_only(item) for item in value])
    return value
