"""The rows of a space: a variable at a path, when it is active, and what has to hold between paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from dspex.errors import DefinitionError, StateError
from dspex.variables.codec import Json, encode
from dspex.variables.domain import Domain
from dspex.variables.messages import shown

__all__ = ["Condition", "Constraint", "Entry"]


@attrs.frozen
class Condition:
    """An entry is active only while the variable at ``path`` is active and has this ``value``."""

    path: str
    value: Any

    def __str__(self) -> str:
        return f"{self.path} = {self.value!r}"


def _conditions(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    return tuple(conditions)


def _readers(readers: Iterable[str]) -> tuple[str, ...]:
    return tuple(readers)


@attrs.frozen
class Entry:
    """One variable of a space.

    ``conditions`` all have to hold for it to be active. ``readers`` are the other paths that read it (links).
    ``optional`` says that None is a value too, "unset: inherit"; a default of None implies it. A derived
    variable has no domain but ``inputs`` (argument → path) and ``compute``, which is None in a space that was
    read from JSON.

    Raises `DefinitionError` for a default outside the domain.

    >>> from dspex.variables import Int
    >>> Entry("depth", Int(1, 5), 9)
    Traceback (most recent call last):
    dspex.errors.DefinitionError: Entry('depth', Int(1, 5), 9): the default of depth = 9 (int) does not fit \
Int(1, 5): write a whole number from 1 to 5.
    """

    path: str
    domain: Domain[Any] | None
    default: Any = None
    tunable: bool = True
    conditions: tuple[Condition, ...] = attrs.field(default=(), converter=_conditions)
    readers: tuple[str, ...] = attrs.field(default=(), converter=_readers)
    doc: str = ""
    inputs: Mapping[str, str] | None = attrs.field(default=None, hash=False)
    compute: Callable[..., Any] | None = attrs.field(default=None, eq=False, repr=False)
    optional: bool = False

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise DefinitionError(f"Entry({self.path!r}, ...): a path is a string such as 'answer.temperature'.")
        for condition in self.conditions:
            if not isinstance(condition, Condition):
                raise DefinitionError(
                    f"Entry({self.path!r}, ...): {shown(condition)} is no condition. Write "
                    f"conditions=[Condition('answer', 'direct')]."
                )
        if self.domain is None:
            if self.inputs is None:
                raise DefinitionError(
                    f"Entry({self.path!r}, None): a variable has a domain, and a derived one has inputs. "
                    f"Write Entry({self.path!r}, Int(1, 5)), or Entry({self.path!r}, None, "
                    f"inputs={{'depth': 'depth'}}, compute=...)."
                )
            object.__setattr__(self, "tunable", False)
        elif self.inputs is not None:
            raise DefinitionError(f"Entry({self.path!r}, ...): a derived variable has inputs but no domain of its own.")
        elif not isinstance(self.domain, Domain):
            raise DefinitionError(
                f"Entry({self.path!r}, {shown(self.domain)}): this is no domain. Write Entry({self.path!r}, Int(1, 5))."
            )
        elif self.default is None and not self.domain.contains(None):
            object.__setattr__(self, "optional", True)
        elif self.default is not None:
            try:
                default = self.domain.validate(self.default, name=f"the default of {self.path}")
            except StateError as error:
                raise DefinitionError(f"Entry({self.path!r}, {self.domain!r}, {self.default!r}): {error}") from error
            object.__setattr__(self, "default", default)

    @property
    def is_derived(self) -> bool:
        """Whether it is computed from others and cannot be set."""
        return self.domain is None

    def validate(self, value: Any) -> Any:
        """Return the value in its normal form; raises `StateError` when it does not fit."""
        if value is None and self.optional:
            return None
        if self.domain is None:
            sources = ", ".join((self.inputs or {}).values())
            raise StateError(
                f"{self.path} = {shown(value)}: it is derived from {sources} and cannot be set. Set what it "
                f"is derived from instead."
            )
        return self.domain.validate(value, name=self.path)

    def encode(self, value: Any) -> Json:
        """Return a value of this entry as JSON."""
        if value is None or self.domain is None:
            return encode(value)
        return self.domain.encode(value)

    def decode(self, json: Json) -> Any:
        """Return the value that was encoded; raises `StateError` when it does not fit."""
        if json is None and self.optional:
            return None
        if self.domain is None:
            return self.validate(json)
        try:
            return self.domain.decode(json)
        except StateError as error:
            raise StateError(f"{self.path}: {error}") from error


@attrs.frozen
class Constraint:
    """What has to hold between the variables at some paths, and why.

    ``inputs`` maps the arguments of ``check`` to paths. It does not apply while one of them is inactive, and
    is not checked when ``check`` is None (in a space that was read from JSON).
    """

    name: str
    inputs: Mapping[str, str] = attrs.field(hash=False)
    reason: str
    check: Callable[..., bool] | None = attrs.field(default=None, eq=False, repr=False)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds for these values; raises `StateError` when the check itself fails."""
        if self.check is None:
            return True
        given = {argument: values[path] for argument, path in self.inputs.items()}
        try:
            return bool(self.check(**given))
        except Exception as error:
            listed = ", ".join(f"{self.inputs[argument]} = {shown(value)}" for argument, value in given.items())
            raise StateError(
                f"The constraint {self.name!r} raised {type(error).__name__}: {error}, for {listed}. It has "
                f"to return True or False for every value of its variables."
            ) from error

    def violation(self, values: Mapping[str, Any]) -> str:
        """Return the sentence that says what is violated, by which values, and why."""
        listed = ", ".join(f"{path} = {values[path]!r}" for path in self.inputs.values())
        return f"{self.reason} ({listed}; constraint {self.name!r})"
