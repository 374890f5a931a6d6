"""What a program answers: named outputs, and what making them took."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, Final, overload

from dspex.data.plain import keywords_text, plain_data
from dspex.data.usage import Usage
from dspex.errors import DataError

__all__ = ["RESERVED_PREDICTION_FIELDS", "Completions", "Prediction"]

RESERVED_PREDICTION_FIELDS: Final = frozenset(
    {"completions", "usage", "latency", "keys", "to_dict", "to_json", "from_fields"}
)
"""Names that no field of a prediction can have."""


class _Cost:
    # Not a property: without __set__ a field called `cost` in the instance's __dict__ goes first.
    @overload
    def __get__(self, prediction: None, owner: type) -> _Cost: ...
    @overload
    def __get__(self, prediction: Prediction, owner: type) -> float | None: ...
    def __get__(self, prediction: Prediction | None, owner: type) -> _Cost | float | None:
        return self if prediction is None else prediction.usage.cost


class _Truncated:
    # As above.
    @overload
    def __get__(self, prediction: None, owner: type) -> _Truncated: ...
    @overload
    def __get__(self, prediction: Prediction, owner: type) -> bool: ...
    def __get__(self, prediction: Prediction | None, owner: type) -> _Truncated | bool:
        return self if prediction is None else prediction._Prediction__truncated


class Prediction(Mapping[str, Any]):
    """The outputs of a program, by attribute and by item.

    Beside its fields it has ``completions`` (all answers when several were asked for), ``usage`` (a `Usage`: what the
    calls of the program or predictor that gave it took), ``cost`` (US dollars, ``None`` when unknown), ``latency``
    (seconds, ``None`` when it was not measured) and ``truncated`` (whether an answer of the model was cut off at
    ``max_tokens``, so that its last field may not be whole). Fields may be set and added. A field wins over a method,
    ``cost`` or ``truncated`` of the same name.

    >>> prediction = Prediction(answer=4, reasoning="Twice two.")
    >>> prediction.answer, prediction["reasoning"]
    (4, 'Twice two.')
    >>> prediction
    Prediction(answer=4, reasoning='Twice two.')
    >>> prediction.usage
    <Usage: 0 calls, 0 tokens, $0>
    """

    __slots__ = ("__completions", "__dict__", "__latency", "__truncated", "__usage", "__weakref__")

    __dict__: dict[str, Any]
    __completions: Sequence[Mapping[str, Any]] | None
    __usage: Usage | None
    __latency: float | None
    __truncated: bool

    def __init__(self, base: Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        if base is not None:
            fields = {**base, **fields}
        if not RESERVED_PREDICTION_FIELDS.isdisjoint(fields):
            raise _reserved(fields)
        self.__dict__ = fields
        self.__completions = None
        self.__usage = None
        self.__latency = None
        self.__truncated = False

    @classmethod
    def from_fields(
        cls,
        fields: dict[str, Any],
        completions: Sequence[Mapping[str, Any]] | None = None,
        usage: Usage | None = None,
        latency: float | None = None,
        truncated: bool = False,
    ) -> Prediction:
        """A prediction that takes ``fields`` over without copying or checking them: the fast way.

        ``completions`` are all answers, the first one included, each a mapping of fields.

        >>> Prediction.from_fields({"answer": 4}, latency=0.25).latency
        0.25
        """
        prediction = cls.__new__(cls)
        prediction.__dict__ = fields
        prediction.__completions = completions
        prediction.__usage = usage
        prediction.__latency = latency
        prediction.__truncated = truncated
        return prediction

    @classmethod
    def from_completions(
        cls,
        completions: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]],
        *,
        usage: Usage | None = None,
        latency: float | None = None,
    ) -> Prediction:
        """A prediction of several answers, given as mappings or as one mapping of lists; the first one leads.

        >>> prediction = Prediction.from_completions({"answer": [4, 5]})
        >>> prediction.answer, prediction.completions.answer
        (4, [4, 5])
        """
        if isinstance(completions, Mapping):
            lengths = {len(values) for values in completions.values()}
            if len(lengths) > 1:
                sizes = ", ".join(f"{name}: {len(values)}" for name, values in completions.items())
                raise DataError(f"completions must have one value per answer in each field, got {sizes}.")
            count = next(iter(lengths), 0)
            completions = [{name: values[index] for name, values in completions.items()} for index in range(count)]
        if not completions:
            raise DataError("completions must hold at least one answer, got none.")
        return cls.from_fields(dict(completions[0]), completions, usage, latency)

    @property
    def completions(self) -> Completions:
        """All answers, the leading one first; ``completions.answer`` is the list of their ``answer``."""
        return Completions((self.__dict__,) if self.__completions is None else self.__completions)

    @property
    def usage(self) -> Usage:
        """What the model calls behind this prediction took."""
        usage = self.__usage
        if usage is None:
            usage = self.__usage = Usage()
        return usage

    @usage.setter
    def usage(self, usage: Usage) -> None:
        self.__usage = usage

    @property
    def latency(self) -> float | None:
        """Seconds from asking to answer, or ``None`` when they were not measured."""
        return self.__latency

    @latency.setter
    def latency(self, seconds: float | None) -> None:
        self.__latency = seconds

    cost = _Cost()
    truncated = _Truncated()

    def to_dict(self) -> dict[str, Any]:
        """The fields, in a dict of one's own."""
        return dict(self.__dict__)

    toDict = to_dict  # noqa: N815 - DSPy's spelling

    def get_lm_usage(self) -> Usage:
        """DSPy's spelling of ``usage``."""
        return self.usage

    def to_json(self) -> dict[str, Any]:
        """The prediction as plain JSON data; `from_json` gives it back with its values in plain form.

        >>> Prediction.from_json(Prediction(answer=4).to_json())
        Prediction(answer=4)
        """
        data: dict[str, Any] = {"fields": _plain_fields(self.__dict__)}
        if self.__completions is not None:
            data["completions"] = [_plain_fields(fields) for fields in self.__completions]
        if self.__usage is not None:
            data["usage"] = self.__usage.to_json()
        if self.__latency is not None:
            data["latency"] = self.__latency
        if self.__truncated:
            data["truncated"] = True
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prediction:
        """The prediction that `to_json` wrote."""
        usage = data.get("usage")
        return cls.from_fields(
            dict(data["fields"]),
            data.get("completions"),
            None if usage is None else Usage.from_json(usage),
            data.get("latency"),
            data.get("truncated", False),
        )

    def __getitem__(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise KeyError(f"no field {name!r}; the fields are {_listed(self.__dict__)}") from None

    def __setitem__(self, name: str, value: Any) -> None:
        if name in RESERVED_PREDICTION_FIELDS:
            raise _reserved([name])
        self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"Prediction has no field {name!r}; its fields are {_listed(self.__dict__)}", name=name, obj=self
        )

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
        if not isinstance(other, Prediction):
            return NotImplemented
        return self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # its fields may change

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.__dict__, self.__completions, self.__usage, self.__latency, self.__truncated)
        return (_rebuild, (type(self), *state))

    def __repr__(self) -> str:
        others = len(self.__completions or ()) - 1
        notes = [f"and {others} more completions"] if others > 0 else []
        notes += ["cut off at max_tokens"] if self.__truncated else []
        return f"Prediction({keywords_text(self.__dict__)})" + (f"  # {', '.join(notes)}" if notes else "")


class Completions(Sequence[Prediction]):
    """All answers of one prediction: a sequence of predictions, whose fields read as lists.

    >>> completions = Completions([{"answer": 4}, {"answer": 5}])
    >>> completions.answer, completions[1].answer, len(completions)
    ([4, 5], 5, 2)
    """

    __slots__ = ("_rows",)

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    def __getitem__(self, index: int | slice | str) -> Prediction | list[Prediction] | list[Any]:
        if isinstance(index, str):
            return [row[index] for row in self._rows]
        if isinstance(index, slice):
            return [Prediction.from_fields(dict(row)) for row in self._rows[index]]
        return Prediction.from_fields(dict(self._rows[index]))

    def __getattr__(self, name: str) -> list[Any]:
        if name.startswith("_") or not self._rows or name not in self._rows[0]:
            fields = _listed(self._rows[0]) if not name.startswith("_") and self._rows else "none"
            raise AttributeError(
                f"the completions have no field {name!r}; their fields are {fields}", name=name, obj=self
            )
        return [row[name] for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Completions):
            return NotImplemented
        return [dict(row) for row in self._rows] == [dict(row) for row in other._rows]

    __hash__ = None  # type: ignore[assignment]  # its rows may change

    def __repr__(self) -> str:
        return f"Completions({[dict(row) for row in self._rows]!r})"


def _plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain_data(value, name=f"field {name!r}") for name, value in fields.items()}


def _reserved(fields: Mapping[str, Any] | list[str]) -> DataError:
    taken = [name for name in fields if name in RESERVED_PREDICTION_FIELDS]
    name = taken[0]
    return DataError(
        f"a Prediction cannot have a field named {', '.join(map(repr, taken))}: prediction.{name} is part of "
        f"Prediction itself. Rename it, as in Prediction(answer_{name}=...)."
    )


def _listed(fields: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, fields)) or "none"


def _rebuild(
    cls: type[Prediction],
    fields: dict[str, Any],
    completions: Sequence[Mapping[str, Any]] | None,
    usage: Usage | None,
    latency: float | None,
    truncated: bool,
) -> Prediction:
    return cls.from_fields(fields, completions, usage, latency, truncated)
