"""`variable(...)`: a declared, tunable attribute of a class. A value fixes it, a domain tunes it.

Read on the class it is the handle (`Variable`), read on an instance it is the value. On an instance,
assigning a value sets it, assigning a `Domain` opens it for the search, and assigning another variable links
the two: they are then one variable with two readers.

Current values live in the instance's ``__dict__`` under the variable's name; everything else that an instance
says about its variables is an immutable `Slot` in ``__dict__["_slots"]``, which is replaced and never
mutated, so a structural copy of the instance may share it.
"""

from __future__ import annotations

from typing import Any, Generic, TypeAlias, TypeVar, overload

import attrs

from dspex.errors import DefinitionError, StateError
from dspex.variables.domain import Domain
from dspex.variables.handle import Handle
from dspex.variables.messages import shown

__all__ = [
    "Slot",
    "Tunable",
    "Variable",
    "current_value",
    "effective_domain",
    "is_tunable",
    "link_of",
    "set_tunable",
    "slot_of",
    "variable",
]

T = TypeVar("T")

_SLOTS = "_slots"


@attrs.frozen
class Slot:
    """What one instance says about one of its variables, beside the value; None where it says nothing."""

    domain: Domain[Any] | None = None
    link: Handle | None = None
    tunable: bool | None = None


_EMPTY = Slot()


class _Missing:
    def __repr__(self) -> str:
        return "<the domain's first value>"


_MISSING: Any = _Missing()


class Variable(Handle, Generic[T]):
    """The handle of a declared variable; made by `variable`.

    >>> from dspex.variables import Int, variable
    >>> class Support:
    ...     depth = variable(Int(1, 5), default=3)
    >>> Support.depth
    <Variable Support.depth: Int(1, 5), default 3>
    >>> support = Support()
    >>> support.depth
    3
    >>> support.depth = 4
    >>> support.depth
    4
    """

    __slots__ = ("default", "domain", "tunable")

    domain: Domain[T]
    default: T
    tunable: bool

    def __init__(self, domain: Domain[T], default: T, doc: str, tunable: bool) -> None:
        super().__init__(doc)
        self.domain = domain
        self.default = default
        self.tunable = tunable

    @property
    def optional(self) -> bool:
        """Whether None is a value too, meaning "unset: inherit", because it is the default."""
        return self.default is None

    def default_value(self) -> T:
        """Return the default."""
        return self.default

    def declared_domain(self, obj: Any) -> Domain[T]:
        """Return the widest domain that it may have on ``obj``: the declared one.

        A built-in module whose values are known only to the instance says so here.
        """
        return self.domain

    @overload
    def __get__(self, obj: None, owner: type[Any]) -> Variable[T]: ...
    @overload
    def __get__(self, obj: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, obj: object | None, owner: type[Any] | None = None) -> Variable[T] | T:
        if obj is None:
            return self
        values, name = obj.__dict__, self.name
        if name in values:  # faster than get() and, for defaults, than catching a KeyError
            value: T = values[name]
            return value
        return self._resolve(obj)

    def _resolve(self, obj: Any) -> T:
        slots = obj.__dict__.get(_SLOTS)
        if slots is not None:
            slot = slots.get(self.name)
            if slot is not None and slot.link is not None:
                value: T = read_link(obj, slot.link)
                return value
        return self.default

    def __set__(self, obj: object, value: T | Domain[Any] | Handle) -> None:
        if isinstance(value, Domain):
            self._open(obj, value)
        elif isinstance(value, Handle):
            self._link(obj, value)
        else:
            name = self.name
            slots = obj.__dict__.get(_SLOTS)
            slot = slots.get(name, _EMPTY) if slots is not None else _EMPTY
            if value is None and self.default is None:
                obj.__dict__[name] = None
            else:
                domain = self.declared_domain(obj) if slot.domain is None else slot.domain
                obj.__dict__[name] = domain.validate(value, name=f"{type(obj).__name__}.{name}")
            if slot.link is not None:
                _put(obj, name, attrs.evolve(slot, link=None))

    def __delete__(self, obj: object) -> None:
        obj.__dict__.pop(self.name, None)
        slots = obj.__dict__.get(_SLOTS, {})
        if self.name in slots:
            obj.__dict__[_SLOTS] = {name: slot for name, slot in slots.items() if name != self.name}

    def _open(self, obj: Any, domain: Domain[Any]) -> None:
        where = f"{type(obj).__name__}.{self.name}"
        declared = self.declared_domain(obj)
        if not self._covers(declared, domain):
            raise DefinitionError(
                f"{where} = {domain!r}: this has values that do not fit the declared domain {declared!r}. "
                f"Write a domain inside it, or declare a wider one: {self.name} = variable({domain!r}, "
                f"default={domain.first()!r})."
            )
        current = current_value(obj, self)
        obj.__dict__[self.name] = domain.validate(current) if domain.contains(current) else domain.first()
        _put(obj, self.name, Slot(domain=domain, link=None, tunable=True))

    def _covers(self, declared: Domain[Any], domain: Domain[Any]) -> bool:
        if declared.covers(domain):
            return True
        if not self.optional or not domain.contains(None):
            return False
        values = domain.candidates()  # Choice(None, 0.5) opens an optional Float
        return values is not None and all(value is None or declared.contains(value) for value in values)

    def _link(self, obj: Any, source: Handle) -> None:
        self.check_link(obj, source, f"{type(obj).__name__}.{self.name} = {source.label}")
        obj.__dict__.pop(self.name, None)
        _put(obj, self.name, attrs.evolve(slot_of(obj, self.name), link=source))

    def check_link(self, obj: Any, source: Handle, where: str) -> None:
        """Refuse a source with values that this variable may not have on ``obj``; ``where`` begins the message.

        Raises `DefinitionError`.
        """
        if isinstance(source, Variable):
            declared = self.declared_domain(obj)
            inherits = source.default is None and self.optional
            if not inherits and not declared.contains(source.default):
                raise DefinitionError(
                    f"{where}: the two cannot be one variable, because the default "
                    f"{shown(source.default)} of {source.label} does not fit {declared!r}. Declare "
                    f"{source.label} with a default and a domain inside {declared!r}, or link another "
                    f"variable."
                )
            if not self._covers(declared, source.domain):
                raise DefinitionError(
                    f"{where}: the two cannot be one variable, because {source.domain!r} of "
                    f"{source.label} has values that do not fit {declared!r}. Declare {source.label} with "
                    f"a domain inside {declared!r}."
                )

    def __repr__(self) -> str:
        return f"<Variable {self.label}: {self.domain!r}, default {self.default!r}>"

    def _rebuild(self) -> tuple[Any, ...]:
        return (Variable, (self.domain, self.default, self.doc, self.tunable))


Tunable: TypeAlias = T | Domain[T] | Variable[T]
"""How an argument is typed that takes a value, a domain or another variable: ``k: Tunable[int] = 3``."""


@overload
def variable(domain: Domain[T], *, doc: str = "", tunable: bool = True) -> Variable[T]: ...
@overload
def variable(domain: Domain[T], *, default: None, doc: str = "", tunable: bool = True) -> Variable[T | None]: ...
@overload
def variable(domain: Domain[T], *, default: T, doc: str = "", tunable: bool = True) -> Variable[T]: ...
def variable(domain: Any = _MISSING, *, default: Any = _MISSING, doc: str = "", tunable: bool = True) -> Variable[Any]:
    """Declare a variable: an attribute that has a value and a domain to search.

    ``default`` has to lie in the domain and is the domain's first value when it is left out. ``default=None``
    is always accepted and means "unset: inherit"; the variable is then typed ``T | None``. With
    ``tunable=False`` it has a value and is part of the space, but is not searched until it is opened.

    Raises `DefinitionError`, at once, for what is no domain, for a default outside the domain, and for a ``doc`` or a
    ``tunable`` of another type.

    >>> from dspex.variables import Choice, Float
    >>> class Writer:
    ...     tone = variable(Choice("plain", "warm"), default="warm", doc="how the answer sounds")
    ...     temperature = variable(Float(0.0, 2.0), default=None, tunable=False)
    >>> Writer().tone, Writer().temperature
    ('warm', None)
    >>> variable(Float(0.0, 1.0), default=1.5)
    Traceback (most recent call last):
    dspex.errors.DefinitionError: variable(Float(0.0, 1.0), default=1.5): default = 1.5 (float) does not fit \
Float(0.0, 1.0): write a number from 0.0 to 1.0. Or start from its first value: variable(Float(0.0, 1.0), \
default=0.0).
    """
    if not isinstance(domain, Domain):
        if isinstance(domain, type) and issubclass(domain, Domain):
            right = f"variable({domain.__name__}(...))"
        else:
            right = "variable(Int(1, 10), default=3), with a domain first"
        given = "" if domain is _MISSING else repr(domain)
        wrong = "there is no domain" if domain is _MISSING else f"{shown(domain)} is no domain"
        raise DefinitionError(f"variable({given}): {wrong}. Write {right}.")
    if default is _MISSING:
        try:
            default = domain.first()
        except StateError as error:
            raise DefinitionError(f"variable({domain!r}): {error}") from error
    elif default is not None:
        try:
            default = domain.validate(default, name="default")
        except StateError as error:
            raise DefinitionError(
                f"variable({domain!r}, default={default!r}): {error} Or start from its first value: "
                f"variable({domain!r}, default={_first(domain)!r})."
            ) from error
    if not isinstance(doc, str):
        raise DefinitionError(f"variable({domain!r}, doc={doc!r}): doc has to be text, not {shown(doc)}.")
    if not isinstance(tunable, bool):
        raise DefinitionError(
            f"variable({domain!r}, tunable={tunable!r}): tunable has to be True or False, not {shown(tunable)}. "
            f"Write tunable=False to leave it out of the search."
        )
    return Variable(domain, default, doc, tunable)


def _first(domain: Domain[Any]) -> Any:
    try:
        return domain.first()
    except StateError:
        return None


def read_link(obj: Any, source: Handle) -> Any:
    """Return the value that ``source`` has where ``obj`` stands.

    A module finds the nearest enclosing module of the source's class; anything else gets the source's
    default.
    """
    resolve = getattr(obj, "_resolve_link", None)
    if resolve is not None:
        return resolve(source)
    return source.default_value()


def _put(obj: Any, name: str, slot: Slot) -> None:
    obj.__dict__[_SLOTS] = {**obj.__dict__.get(_SLOTS, {}), name: slot}


def slot_of(obj: Any, name: str) -> Slot:
    """Return what ``obj`` says about its variable ``name``."""
    slots = obj.__dict__.get(_SLOTS)
    slot: Slot = slots.get(name, _EMPTY) if slots is not None else _EMPTY
    return slot


def effective_domain(obj: Any, var: Variable[Any]) -> Domain[Any]:
    """Return the domain that ``var`` has on ``obj``: the one it was opened with, or the declared one."""
    opened = slot_of(obj, var.name).domain
    return var.declared_domain(obj) if opened is None else opened


def is_tunable(obj: Any, var: Variable[Any]) -> bool:
    """Return whether ``var`` is searched on ``obj``, when it is not a link."""
    tunable = slot_of(obj, var.name).tunable
    return var.tunable if tunable is None else tunable


def set_tunable(obj: Any, var: Variable[Any], tunable: bool) -> None:
    """Take ``var`` on ``obj`` into the search or out of it."""
    _put(obj, var.name, attrs.evolve(slot_of(obj, var.name), tunable=tunable))


def link_of(obj: Any, var: Variable[Any]) -> Handle | None:
    """Return what ``var`` is linked to on ``obj``, or None."""
    return slot_of(obj, var.name).link


def current_value(obj: Any, var: Variable[Any]) -> Any:
    """Return the value of ``var`` on ``obj`` without following links: the instance's own, or the default."""
    return obj.__dict__.get(var.name, var.default)
