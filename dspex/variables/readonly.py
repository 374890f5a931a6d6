"""Lists and dicts that nobody can change, for what others read too: a variable's options, what a study recorded."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

__all__ = ["ReadOnlyDict", "ReadOnlyList", "plain_type", "read_only"]

K = TypeVar("K")
V = TypeVar("V")


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    kind = plain_type(self).__name__
    raise TypeError(
        f"this {kind} is read-only, since others read it too (a variable's option, or what a study recorded): write "
        f"{kind}(x) for one of your own, or copy.deepcopy(x) to change lists and dicts in it as well; another value is "
        "set by an assignment, and recorded by set_user_attr(key, value)"
    )


class ReadOnlyDict(dict[K, V]):
    """A dict that refuses to be changed; `copy.deepcopy` gives a plain one.

    >>> found = ReadOnlyDict({"k": 3})
    >>> found == {"k": 3}, {**found, "j": 4}
    (True, {'k': 3, 'j': 4})
    >>> found["k"] = 4  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    TypeError: this dict is read-only, since others read it too ...
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
    TypeError: this list is read-only, since others read it too ...
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
    TypeError: this list is read-only, since others read it too ...
    """
    kind = type(value)
    if kind is dict:
        return ReadOnlyDict({key: read_only(item) for key, item in value.items()})
    if kind is list:
        return ReadOnlyList([read_only(item) for item in value])
    if kind is tuple:
        return tuple([read_only(item) for item in value])
    return value


def plain_type(value: Any) -> type:
    """The type of ``value``; of a read-only dict or list, dict or list.

    >>> plain_type(read_only([1])), plain_type(1)
    (<class 'list'>, <class 'int'>)
    """
    kind = type(value)
    if kind is ReadOnlyDict:
        return dict
    return list if kind is ReadOnlyList else kind
