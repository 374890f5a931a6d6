"""What a domain is: the set of values that a variable may take.

A domain is an immutable value. It knows how to tell whether something belongs to it, what its first value is,
how many there are, how to draw one, and how a value travels as JSON. The concrete ones stand in `numeric`
(`Float`, `Int`), `categorical` (`Bool`, `Choice`, `ModelChoice`), `arrangements` (`Subset`, `Order`) and
`open_ended` (`Prompt`, `Demos`).
"""

from __future__ import annotations

import inspect
import random
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

from dspex.errors import DefinitionError, StateError
from dspex.variables.codec import Json, canonical_json
from dspex.variables.messages import did_you_mean, shown

__all__ = ["MAX_CANDIDATES", "Domain"]

T = TypeVar("T")

MAX_CANDIDATES = 1024
"""Up to how many values `Domain.candidates` lists them."""

_registry: dict[str, type[Domain[Any]]] = {}


class _DomainType(ABCMeta):
    """Words the error for arguments that no domain of the class takes; Python's own says nothing of what to write."""

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        try:
            return super().__call__(*arguments, **keywords)
        except TypeError as error:
            own: Any = cls.__init__  # type: ignore[misc]  # of the class itself, to read its parameters
            takes = inspect.Signature() if own is object.__init__ else _without_self(inspect.signature(own))
            try:
                takes.bind(*arguments, **keywords)
            except TypeError as wrong:
                given = [repr(one) for one in arguments] + [f"{key}={value!r}" for key, value in keywords.items()]
                right = vars(cls).get("_example", f"{cls.__name__}{takes}")
                raise DefinitionError(f"{cls.__name__}({', '.join(given)}): {wrong}. Write {right}.") from error
            raise


def _without_self(signature: inspect.Signature) -> inspect.Signature:
    return inspect.Signature(list(signature.parameters.values())[1:])


class Domain(Generic[T], metaclass=_DomainType):
    """The values that a variable may take; immutable, hashable, equal by content.

    To write one's own, subclass it, keep its arguments in attributes set with `_set`, and implement the
    abstract methods. Its class name is how `Domain.from_json` finds it again, so it has to be unique.

    >>> from dspex.variables import Int
    >>> Domain.from_json(Int(1, 5).to_json()) == Int(1, 5)
    True
    """

    __slots__ = ("_text",)

    open_ended: ClassVar[bool] = False
    """Whether the values cannot be listed or drawn, and are searched through a `Pool` instead."""

    _text: str

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.__name__.startswith("_"):
            return
        known = _registry.get(cls.__name__)
        if known is not None and known.__module__.startswith("dspex.variables.") and known.__module__ != cls.__module__:
            raise DefinitionError(
                f"class {cls.__name__}(Domain): dspex has a domain of that name, and saved files find a "
                f"domain by its name. Call it something else, for example class My{cls.__name__}(Domain)."
            )
        _registry[cls.__name__] = cls

    @abstractmethod
    def validate(self, value: Any, *, name: str = "value") -> T:
        """Return the value in its normal form (a list as tuple, an int as float where the domain says so).

        Raises `StateError` that names ``name``, the value, its type and what fits.
        """

    @abstractmethod
    def first(self) -> T:
        """Return the domain's first value, which is the default where none is given."""

    @abstractmethod
    def size(self) -> int | float:
        """Return how many values there are; `math.inf` for continuous and open-ended domains."""

    @abstractmethod
    def sample(self, rng: random.Random) -> T:
        """Draw a value uniformly (on a log scale where the domain says so).

        Raises `StateError` for an open-ended domain, which is searched through a `Pool`.
        """

    @abstractmethod
    def encode(self, value: T) -> Json:
        """Return a value of this domain as JSON."""

    @abstractmethod
    def decode(self, json: Json) -> T:
        """Return the value that was encoded; raises `StateError` when it is not in this domain."""

    @abstractmethod
    def candidates(self) -> tuple[T, ...] | None:
        """Return all values when they are finite and few (at most `MAX_CANDIDATES`), else None."""

    @abstractmethod
    def covers(self, other: Domain[Any]) -> bool:
        """Whether every value of ``other`` is a value of this domain too."""

    @abstractmethod
    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and the (not default) keyword arguments that make an equal domain."""

    @abstractmethod
    def _json(self) -> dict[str, Json]:
        """Return what `_from_json` needs, without the type."""

    @classmethod
    @abstractmethod
    def _from_json(cls, json: Mapping[str, Any]) -> Domain[Any]:
        """Return the domain that `_json` described."""

    def contains(self, value: Any) -> bool:
        """Whether `validate` accepts the value.

        >>> from dspex.variables import Int
        >>> Int(1, 5).contains(3), Int(1, 5).contains(9), Int(1, 5).contains(True)
        (True, False, False)
        """
        try:
            self.validate(value)
        except StateError:
            return False
        return True

    def to_json(self) -> dict[str, Json]:
        """Return the domain as JSON, for `from_json`.

        >>> from dspex.variables import Choice
        >>> Choice("plain", "warm").to_json()
        {'type': 'Choice', 'options': ['plain', 'warm']}
        """
        return {"type": type(self).__name__, **self._json()}

    @staticmethod
    def from_json(json: Mapping[str, Any]) -> Domain[Any]:
        """Return the domain that `to_json` was called on.

        Raises `StateError` for a type of domain that is not known, or damaged JSON.
        """
        kind = json.get("type") if isinstance(json, Mapping) else None
        cls = _registry.get(kind) if isinstance(kind, str) else None
        if cls is None:
            raise StateError(
                f"No domain of type {kind!r} is known.{did_you_mean(str(kind), _registry)} A domain of one's "
                f"own has to be imported before what uses it is loaded."
            )
        try:
            return cls._from_json(json)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"The JSON of a {kind} domain is damaged: {shown(dict(json))} ({error}).") from error

    def _set(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def _refuse(self, name: str, value: Any, fits: str, *, hint: str = "") -> NoReturn:
        if isinstance(value, type) and issubclass(value, Domain):
            fits = f"{fits}, or to search over it, an instance such as {value.__name__}(...)"
        elif value is None:
            fits = f"{fits}, or declare the variable with default=None"
        shape = repr(self)
        if len(shape) > 200:
            shape = f"{shape[:199]}…"
        raise StateError(f"{name} = {shown(value)} does not fit {shape}: write {fits}.{hint}")

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{self!r} is immutable; make another {type(self).__name__} instead.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} is immutable.")

    def __repr__(self) -> str:
        positional, keywords = self._arguments()
        parts = [repr(one) for one in positional] + [f"{key}={value!r}" for key, value in keywords.items()]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        return isinstance(other, Domain) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> str:
        # JSON tells 1, 1.0 and True apart, which == does not.
        try:
            return self._text
        except AttributeError:
            self._set(_text=canonical_json(self._json()))
            return self._text

    def __reduce__(self) -> tuple[Any, ...]:
        positional, keywords = self._arguments()
        return (_make, (type(self), positional, keywords))


def _make(cls: type[Domain[Any]], positional: tuple[Any, ...], keywords: dict[str, Any]) -> Domain[Any]:
    return cls(*positional, **keywords)


def plain_number(value: Any) -> Any:
    """Return numpy's scalars as Python's, and anything else as it is, without importing numpy."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    return value
