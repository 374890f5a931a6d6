"""One row of data: named fields, some of them inputs, identified by its content.

Fields live in the instance's ``__dict__``, which makes reading one as fast as Python can and lets a field
called ``items`` or ``values`` win over the method of that name (``example["items"]`` works for every field).
The few names that the library itself must be able to read on any example are refused.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final

from dspex.data.plain import keywords_text, plain_data
from dspex.errors import DataError, StateError
from dspex.variables.codec import content_id, encode, register

__all__ = ["RESERVED_EXAMPLE_FIELDS", "Example"]

RESERVED_EXAMPLE_FIELDS: Final = frozenset({"id", "inputs", "input_keys", "keys", "with_inputs", "to_dict", "to_json"})
"""Names that no field of an example can have."""

_set = object.__setattr__


class Example(Mapping[str, Any]):
    """An immutable row of data with attribute and item access.

    ``Example(question=..., answer=...)`` or ``Example(mapping, extra=...)``. `with_inputs` says which fields
    a program is given; the others are labels. ``id`` is the content id of the fields: the same in each
    process, not changed by `with_inputs`, by the order of fields or by a trip through JSON. Values are kept
    as they are and not to be changed in place.

    Raises `DataError` for a field name that is taken or is no text, and for `inputs` of an example whose
    inputs were never named.

    >>> example = Example(question="What is 2 + 2?", answer=4).with_inputs("question")
    >>> example.answer, example["question"]
    (4, 'What is 2 + 2?')
    >>> example.inputs()
    Example(question='What is 2 + 2?').with_inputs('question')
    >>> example.labels()
    Example(answer=4)
    >>> example.id == Example(answer=4, question="What is 2 + 2?").id
    True
    """

    __slots__ = ("__dict__", "__hash", "__id", "__inputs", "__weakref__")

    __dict__: dict[str, Any]
    __inputs: frozenset[str] | None
    __id: str | None
    __hash: int | None

    def __init__(self, base: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        inputs = None
        if base is not None:
            if isinstance(base, Example):
                inputs = base.input_keys
            fields = {**_named(base), **fields}
        if not RESERVED_EXAMPLE_FIELDS.isdisjoint(fields):
            raise _reserved(fields)
        _set(self, "__dict__", fields)
        _set(self, "_Example__inputs", inputs)
        _set(self, "_Example__id", None)
        _set(self, "_Example__hash", None)

    @property
    def id(self) -> str:
        """The content id: 16 hexadecimal digits that are the same wherever the fields are the same.

        Raises `DataError` naming the field that holds something without a plain JSON form.
        """
        found = self.__id
        if found is None:
            found = content_id(
                {
                    name: value if type(value) is str else plain_data(value, name=f"field {name!r}")
                    for name, value in self.__dict__.items()
                }
            )
            _set(self, "_Example__id", found)
        return found

    @property
    def input_keys(self) -> frozenset[str] | None:
        """The names given to `with_inputs`, or ``None`` when it was not called."""
        return self.__inputs

    def with_inputs(self, *keys: str) -> Example:
        """The same example whose inputs are ``keys``; the other fields are its labels."""
        missing = [key for key in keys if not isinstance(key, str) or key not in self.__dict__]
        if missing:
            hint = "" if isinstance(missing[0], str) else " Write with_inputs('question', 'context')."
            raise DataError(
                f"with_inputs({', '.join(map(repr, keys))}): the example has no field "
                f"{', '.join(map(repr, missing))}; its fields are {_listed(self.__dict__)}.{hint}"
            )
        return self._over(self.__dict__, frozenset(keys), self.__id, self.__hash)

    def inputs(self) -> Example:
        """The fields that a program is given, as an example; ``program(**example.inputs())``."""
        keys = self.__inputs
        if keys is None:
            some = next(iter(self.__dict__), "question")
            raise DataError(
                f"this example does not say which of its fields are inputs: {_shortened(self)}. "
                f"Write example.with_inputs({some!r}, ...); its fields are {_listed(self.__dict__)}."
            )
        return self._over({name: value for name, value in self.__dict__.items() if name in keys}, keys)

    def labels(self) -> Example:
        """The fields that are not inputs; ``Example.labels(example)`` where a field is called ``labels``."""
        keys = self.__inputs
        if keys is None:
            raise DataError(
                f"this example does not say which of its fields are inputs, so its labels are unknown: "
                f"{_shortened(self)}. Write example.with_inputs(...) first."
            )
        return self._over({name: value for name, value in self.__dict__.items() if name not in keys}, None)

    def copy(self, **changes: Any) -> Example:
        """The same example with some fields changed or added.

        >>> Example(question="2 + 2?", answer=5).copy(answer=4)
        Example(question='2 + 2?', answer=4)
        """
        return Example(self, **changes)

    def without(self, *keys: str) -> Example:
        """The same example without some fields."""
        fields = {name: value for name, value in self.__dict__.items() if name not in keys}
        return self._over(fields, None if self.__inputs is None else self.__inputs.difference(keys))

    def to_dict(self) -> dict[str, Any]:
        """The fields, in a dict of one's own."""
        return dict(self.__dict__)

    toDict = to_dict  # noqa: N815 - DSPy's spelling

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON data."""
        return {name: plain_data(value, name=f"field {name!r}") for name, value in self.__dict__.items()}

    @classmethod
    def _over(
        cls,
        fields: dict[str, Any],
        inputs: Iterable[str] | None,
        content: str | None = None,
        hashed: int | None = None,
    ) -> Example:
        # Shares `fields`: they are checked already, and never change.
        example = cls.__new__(cls)
        _set(example, "__dict__", fields)
        _set(example, "_Example__inputs", inputs)
        _set(example, "_Example__id", content)
        _set(example, "_Example__hash", hashed)
        return example

    def __getitem__(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise KeyError(f"no field {name!r}; the fields are {_listed(self.__dict__)}") from None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"Example has no field {name!r}; its fields are {_listed(self.__dict__)}", name=name, obj=self
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"an Example is immutable: instead of example.{name} = ..., write example = example.copy({name}=...)"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an Example is immutable: instead of del example.{name}, write example.without({name!r})")

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def keys(self) -> KeysView[str]:
        return self.__dict__.keys()

    def values(self) -> ValuesView[Any]:
        return self.__dict__.values()

    def items(self) -> ItemsView[str, Any]:
        return self.__dict__.items()

    def get(self, name: str, default: Any = None) -> Any:
        return self.__dict__.get(name, default)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Example):
            return NotImplemented
        return self is other or self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        found = self.__hash
        if found is None:
            found = hash(frozenset((name, _hashed(value)) for name, value in self.__dict__.items()))
            _set(self, "_Example__hash", found)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.__dict__, self.__inputs))

    def __copy__(self) -> Example:
        return self

    def __repr__(self) -> str:
        made = f"Example({keywords_text(self.__dict__)})"
        keys = self.__inputs
        if keys is None:
            return made
        return f"{made}.with_inputs({', '.join(repr(name) for name in self.__dict__ if name in keys)})"


def _named(base: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(base, Mapping):
        raise DataError(
            f"Example takes a mapping of fields, got {base!r} ({type(base).__name__}); "
            f"write Example(question=..., answer=...) or Example({{'question': ..., 'answer': ...}})."
        )
    fields = dict(base)
    for name in fields:
        if not isinstance(name, str):
            raise DataError(f"field names are text, got {name!r} ({type(name).__name__}); write {str(name)!r} instead.")
    return fields


def _reserved(fields: Iterable[str]) -> DataError:
    taken = [name for name in fields if name in RESERVED_EXAMPLE_FIELDS]
    names = ", ".join(map(repr, taken))
    name = taken[0]
    return DataError(
        f"an Example cannot have a field named {names}: example.{name} is part of Example itself. Rename it, "
        f"as in Example(record_{name}=...), or while loading, "
        f"as in load_jsonl(path, rename={{{name!r}: 'record_{name}'}})."
    )


def _listed(fields: Iterable[str]) -> str:
    return ", ".join(map(repr, fields)) or "none"


def _shortened(example: Example) -> str:
    text = repr(example)
    return text if len(text) <= 160 else text[:157] + "..."


def _hashed(value: Any) -> Any:
    # Agrees with ==: equal values hash equal. Whatever cannot be hashed counts by its kind alone.
    try:
        return hash(value)
    except TypeError:
        if isinstance(value, list | tuple):
            return hash(tuple(map(_hashed, value)))
        if isinstance(value, Mapping):
            return hash(frozenset((key, _hashed(item)) for key, item in value.items()))
        return 0


def _rebuild(fields: dict[str, Any], inputs: frozenset[str] | None) -> Example:
    return Example._over(fields, inputs)


def _encode(example: Example) -> dict[str, Any]:
    # Exact where the codec knows the type; a rich value (a pydantic model, a date) travels in its plain form.
    fields = {}
    for name, value in example.__dict__.items():
        try:
            encode(value)
            fields[name] = value
        except StateError:
            fields[name] = plain_data(value, name=f"field {name!r}")
    inputs = example.input_keys
    return {"fields": fields, "inputs": None if inputs is None else sorted(inputs)}


def _decode(data: Any) -> Example:
    inputs = data["inputs"]
    return Example._over(data["fields"], None if inputs is None else frozenset(inputs))


register("example", Example, _encode, _decode)
