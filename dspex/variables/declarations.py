"""What a class declares: its variables, derived variables and constraints, and whether they can be meant."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dspex.errors import DefinitionError
from dspex.variables.derived import ConstraintDeclaration, Derived, Input
from dspex.variables.handle import Handle
from dspex.variables.messages import did_you_mean
from dspex.variables.variable import Variable

__all__ = ["check_declarations", "constraints_of", "declared"]

_CACHE = "_dspex_declared"


def declared(cls: type[Any]) -> Mapping[str, Variable[Any] | Derived[Any]]:
    """Return all variables and derived variables of a class by name, those of its bases first.

    A subclass's declaration takes the place of its base's of the same name. Computed once per class.

    >>> from dspex.variables import Int, derived, variable
    >>> class Support:
    ...     depth = variable(Int(1, 5), default=3)
    >>> class Deep(Support):
    ...     tokens = derived(lambda depth: depth * 100)
    >>> list(declared(Deep))
    ['depth', 'tokens']
    """
    return _collected(cls)[0]


def constraints_of(cls: type[Any]) -> Mapping[str, ConstraintDeclaration]:
    """Return all constraints that a class and its bases declare, by name."""
    return _collected(cls)[1]


def _collected(
    cls: type[Any],
) -> tuple[Mapping[str, Variable[Any] | Derived[Any]], Mapping[str, ConstraintDeclaration]]:
    cached: Any = cls.__dict__.get(_CACHE)
    if cached is None:
        handles: dict[str, Variable[Any] | Derived[Any]] = {}
        constraints: dict[str, ConstraintDeclaration] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if isinstance(value, Variable | Derived):
                    handles[name] = value
                elif isinstance(value, ConstraintDeclaration):
                    constraints[name] = value
        cached = (MappingProxyType(handles), MappingProxyType(constraints))
        # On the class and not in a table, which would keep every class alive.
        type.__setattr__(cls, _CACHE, cached)
    found: tuple[Mapping[str, Variable[Any] | Derived[Any]], Mapping[str, ConstraintDeclaration]] = cached
    return found


def check_declarations(cls: type[Any]) -> None:
    """Refuse a class whose declarations cannot be meant; called when the class is made.

    Raises `DefinitionError` for a name that is private or that something else in the class already has, for
    one variable under two names, for inputs that do not exist, and for derived variables that depend on
    themselves.

    >>> from dspex.variables import Int, variable
    >>> class Base:
    ...     def forward(self): ...
    >>> class Wrong(Base):
    ...     forward = variable(Int(1, 5))
    >>> check_declarations(Wrong)
    Traceback (most recent call last):
    dspex.errors.DefinitionError: Wrong.forward = variable(Int(1, 5)): Base has a method of that name. \
Give the variable another name, for example forward_value = variable(Int(1, 5)).
    """
    handles, constraints = _collected(cls)
    for name, handle in handles.items():
        _check_name(cls, name, handle)
        if handle.alias is not None:
            owner, alias = handle.alias
            raise DefinitionError(
                f"{owner.__name__}.{alias}: this variable already is {handle.label}, and one variable has "
                f"one name. Declare {alias} with a variable(...) of its own, or link the two in __init__: "
                f"self.{alias} = {handle.label}."
            )
    for name, rule in constraints.items():
        _check_name(cls, name, rule)
        for argument, source in rule.inputs.items():
            _check_input(cls, "constraint", name, argument, source, handles)
    for name, handle in handles.items():
        if isinstance(handle, Derived):
            for argument, source in handle.inputs.items():
                _check_input(cls, "derived variable", name, argument, source, handles)
    _check_cycles(cls, handles)


def _code(declaration: Handle | ConstraintDeclaration) -> str:
    if isinstance(declaration, Variable):
        return f"variable({declaration.domain!r})"
    return "derived(...)" if isinstance(declaration, Derived) else "constraint(...)"


def _check_name(cls: type[Any], name: str, declaration: Handle | ConstraintDeclaration) -> None:
    code = _code(declaration)
    kind = code.partition("(")[0]
    thing = {"derived": "derived variable"}.get(kind, kind)
    if name.startswith("_"):
        raise DefinitionError(
            f"{cls.__name__}.{name} = {code}: a {thing} is public, so its name cannot start with an "
            f"underscore. Write {name.lstrip('_') or 'value'} = {code}."
        )
    for base in cls.__mro__:
        other = vars(base).get(name)
        if name not in vars(base) or isinstance(other, Handle | ConstraintDeclaration):
            continue
        if base is cls:
            instead = (
                f"{name} = variable({declaration.domain!r}, default={other!r}), or set it on the instance: "
                f"self.{name} = {other!r}"
                if isinstance(declaration, Variable) and declaration.domain.contains(other)
                else f"another name than {name!r}"
            )
            owner = next(
                other_base.__name__
                for other_base in cls.__mro__
                if isinstance(vars(other_base).get(name), Handle | ConstraintDeclaration)
            )
            raise DefinitionError(
                f"{cls.__name__}.{name} = {other!r}: this would hide the {thing} {owner}.{name}. Write {instead}."
            )
        raise DefinitionError(
            f"{cls.__name__}.{name} = {code}: {base.__name__} has "
            f"{'a method' if callable(other) else 'an attribute'} of that name. Give the {thing} another "
            f"name, for example {name}_value = {code}."
        )


def _check_input(
    cls: type[Any],
    kind: str,
    name: str,
    argument: str,
    source: Input,
    handles: Mapping[str, Variable[Any] | Derived[Any]],
) -> None:
    if source == "self" and source not in handles:
        raise DefinitionError(
            f"{cls.__name__}.{name}: the {kind} reads 'self', but it is no method: it is given the values that its "
            f"parameters name. Write {name} = {kind.split()[0]}(lambda depth: ...), where depth is a variable."
        )
    if isinstance(source, str) and source not in handles:
        raise DefinitionError(
            f"{cls.__name__}.{name}: the {kind} reads {argument!r}, but {cls.__name__} declares no variable "
            f"{source!r}.{did_you_mean(source, handles)} Name the parameter like a variable of the class, or "
            f"say what it is: {argument}=Support.depth."
        )


def _check_cycles(cls: type[Any], handles: Mapping[str, Variable[Any] | Derived[Any]]) -> None:
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            cycle = " → ".join((*trail[trail.index(name) :], name))
            raise DefinitionError(
                f"{cls.__name__}.{name}: it is derived from itself: {cycle}. One of them has to be a "
                f"variable(...) with a value of its own."
            )
        handle = handles.get(name)
        if name in done or not isinstance(handle, Derived):
            return
        for source in handle.inputs.values():
            if isinstance(source, str):
                visit(source, (*trail, name))
            elif source.owner is not None and issubclass(cls, source.owner):
                visit(source.name, (*trail, name))
        done.add(name)

    for name in handles:
        visit(name, ())
