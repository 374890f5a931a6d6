"""`derived(...)` and `constraint(...)`: what is computed from variables, and what has to hold for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeVar, overload

from dspex.errors import DefinitionError, StateError
from dspex.variables.handle import Handle
from dspex.variables.messages import shown
from dspex.variables.variable import read_link

__all__ = ["ConstraintDeclaration", "Derived", "Input", "constraint", "derived"]

T = TypeVar("T")

Input: TypeAlias = str | Handle
"""What an argument stands for: the name of a variable of the same class, or a handle of any class."""


class FunctionOf(Generic[T]):
    """The function of a declaration as a callable that pickles by where it was declared, as lambdas do not."""

    __slots__ = ("_declaration", "_function")

    def __init__(self, declaration: Derived[T] | ConstraintDeclaration, function: Callable[..., T]) -> None:
        self._declaration = declaration
        self._function = function

    def __call__(self, **values: Any) -> T:
        return self._function(**values)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._declaration.owner is None:
            return (_itself, (self._function,))
        return (getattr, (self._declaration, "fn"))


def _itself(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


class Derived(Handle, Generic[T]):
    """A read-only variable computed from others; made by `derived`.

    ``inputs`` maps the arguments of ``fn`` to names of the same class, or to handles of other classes.
    """

    __slots__ = ("_function", "fn", "inputs")

    fn: Callable[..., T]
    inputs: Mapping[str, Input]

    def __init__(self, fn: Callable[..., T], inputs: Mapping[str, Input], doc: str) -> None:
        super().__init__(doc)
        self._function = fn
        self.fn = FunctionOf(self, fn)
        self.inputs = MappingProxyType(dict(inputs))

    def default_value(self) -> T:
        """Return what it is when everything it is derived from has its default."""
        values: dict[str, Any] = {}
        for argument, source in self.inputs.items():
            handle: Any = getattr(self.owner, source) if isinstance(source, str) else source
            values[argument] = handle.default_value()
        return self._function(**values)

    @overload
    def __get__(self, obj: None, owner: type[Any]) -> Derived[T]: ...
    @overload
    def __get__(self, obj: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, obj: object | None, owner: type[Any] | None = None) -> Derived[T] | T:
        if obj is None:
            return self
        return self._function(**{argument: read_input(obj, source) for argument, source in self.inputs.items()})

    def __set__(self, obj: object, value: Any) -> None:
        raise StateError(
            f"{type(obj).__name__}.{self.name} = {shown(value)}: it is derived from {self._sources()} and "
            f"cannot be set. Set what it is derived from instead."
        )

    def __delete__(self, obj: object) -> None:
        raise StateError(
            f"{type(obj).__name__}.{self.name}: it is derived from {self._sources()} and has nothing to delete."
        )

    def _sources(self) -> str:
        return ", ".join(source if isinstance(source, str) else source.label for source in self.inputs.values())

    def __repr__(self) -> str:
        return f"<Derived {self.label} from {self._sources()}>"

    def _rebuild(self) -> tuple[Any, ...]:
        return (Derived, (self._function, dict(self.inputs), self.doc))


class ConstraintDeclaration:
    """A condition between variables of a class, as declared; made by `constraint`."""

    __slots__ = ("_function", "fn", "inputs", "name", "owner", "reason")

    fn: Callable[..., bool]
    inputs: Mapping[str, Input]
    reason: str
    name: str
    owner: type[Any] | None

    def __init__(self, fn: Callable[..., bool], inputs: Mapping[str, Input], reason: str) -> None:
        self._function = fn
        self.fn = FunctionOf(self, fn)
        self.inputs = MappingProxyType(dict(inputs))
        self.reason = reason
        self.name = ""
        self.owner = None

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.owner, self.name = owner, name

    def __reduce__(self) -> tuple[Any, ...]:
        if self.owner is not None:
            return (getattr, (self.owner, self.name))
        return (ConstraintDeclaration, (self._function, dict(self.inputs), self.reason))

    def __repr__(self) -> str:
        return f"<constraint {self.name or '(free)'}: {self.reason}>"


def derived(fn: Callable[..., T], *, doc: str = "", **inputs: Input) -> Derived[T]:
    """Declare a read-only variable that is computed from others whenever it is read.

    ``fn``'s parameter names are the names of variables of the same class; ``inputs`` says otherwise for
    single arguments, by name or by handle (``depth=Support.depth``, which is found like a link). Parameters
    with defaults that are not named in ``inputs`` keep their defaults.

    Raises `DefinitionError` for a function without usable parameters. Cycles are refused when the class is
    made.

    >>> from dspex.variables import Int, variable
    >>> class Support:
    ...     depth = variable(Int(1, 5), default=3)
    ...     max_tokens = derived(lambda depth: 100 * depth)
    >>> support = Support()
    >>> support.max_tokens
    300
    >>> support.depth = 5
    >>> support.max_tokens
    500
    """
    return Derived(fn, _inputs_of("derived", fn, inputs), doc)


def constraint(fn: Callable[..., bool], *, reason: str = "", **inputs: Input) -> ConstraintDeclaration:
    """Declare what has to hold between variables; ``reason`` says why, and is what the error says.

    Arguments are found as in `derived`. A constraint with an inactive variable does not apply. Raises
    `DefinitionError` without a reason, and for a function without usable parameters.

    >>> from dspex.variables import Int, variable
    >>> class Search:
    ...     low = variable(Int(0, 9), default=2)
    ...     high = variable(Int(0, 9), default=5)
    ...     ordered = constraint(lambda low, high: low <= high, reason="low may not be above high")
    """
    if not isinstance(reason, str) or not reason.strip():
        raise DefinitionError(
            f"constraint(..., reason={reason!r}): say why it has to hold. Write ordered = constraint(lambda low, high: "
            f"low <= high, reason='low may not be above high'); it is no decorator of a method."
        )
    return ConstraintDeclaration(fn, _inputs_of("constraint", fn, inputs), reason)


def read_input(obj: Any, source: Input) -> Any:
    """Return the value that one input of a derived variable or constraint has on ``obj``."""
    if isinstance(source, str):
        return getattr(obj, source)
    if source.owner is not None and isinstance(obj, source.owner):
        return getattr(obj, source.name)
    return read_link(obj, source)


def _inputs_of(kind: str, fn: Callable[..., Any], given: Mapping[str, Input]) -> dict[str, Input]:
    if not callable(fn):
        raise DefinitionError(f"{kind}({fn!r}): {shown(fn)} is no function. Write {kind}(lambda depth: ...).")
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"{kind}({fn!r}): its parameters cannot be read ({error}). Wrap it: {kind}(lambda depth: ...)."
        ) from error
    for name, source in given.items():
        if name not in parameters:
            raise DefinitionError(
                f"{kind}(..., {name}=...): the function has no parameter {name!r}, but "
                f"{', '.join(parameters) or 'none'}."
            )
        if not isinstance(source, str | Handle):
            raise DefinitionError(
                f"{kind}(..., {name}={source!r}): {shown(source)} is neither the name of a variable nor a "
                f"variable. Write {name}='depth' or {name}=Support.depth."
            )
    inputs: dict[str, Input] = {}
    for name, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DefinitionError(
                f"{kind}(...): the parameter {parameter} cannot be given by name. Write plain parameters "
                f"named like variables: {kind}(lambda depth: ...)."
            )
        if name in given:
            inputs[name] = given[name]
        elif parameter.default is parameter.empty:
            inputs[name] = name
    if not inputs:
        raise DefinitionError(
            f"{kind}(...): the function reads no variable. Name its parameters like variables of the class: "
            f"{kind}(lambda depth: ...)."
        )
    return inputs
