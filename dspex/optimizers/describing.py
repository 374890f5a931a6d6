"""Code and values as plain data that is the same in every process: what is edited is described otherwise.

A function is its code, what it closes over, its defaults, and the globals its code names: functions and classes of the
user's own modules are followed, those of libraries stand by name. A value is what ``copy`` and ``pickle`` see of it.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from typing import Any

from dspex.errors import DefinitionError
from dspex.modules import Module
from dspex.modules.layout import INTERNAL
from dspex.signatures import Signature
from dspex.variables.messages import shown
from dspex.variables.readonly import plain_type

__all__ = ["described"]

_DEEPEST = 60
_LIBRARIES = tuple(
    os.path.join(path, "")
    for path in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def described(value: Any, place: str) -> Any:
    """``value`` as plain data; ``place`` is its name in errors, such as ``metric``.

    A global and an attribute of a program that cannot be described, such as a client or a lock, stands by its type:
    it is data behind a tool, which is the caller's to know. Anything else is part of what was given.

    Raises:
        DefinitionError: when something given cannot be told from another of its type, such as an open file.

    Example:
        >>> import re
        >>> described(re.compile("a"), "metric") == described(re.compile("b"), "metric")
        False
        >>> described({"b", "a"}, "metric")
        ['set', 'a', 'b']
    """
    return _Description().of(value, place)


class _Description:
    """One description in the making. What comes again, also within itself, stands by the place it was first met at."""

    def __init__(self, met: Mapping[int, tuple[str, Any]] = types.MappingProxyType({})) -> None:
        self.met = dict(met)  # by id: the place, and the thing itself, so that its id stays its own

    def of(self, value: Any, place: str, depth: int = 0) -> Any:
        if value is None or isinstance(value, type(...)):
            return None if value is None else "..."
        if type(value) in (str, int, bool):
            return value
        if isinstance(value, bytes | bytearray):
            return [type(value).__name__, hashlib.sha256(value).hexdigest()]
        if type(value) in (float, complex, range):
            return [type(value).__name__, repr(value)]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if depth > _DEEPEST:
            raise _refusal(value, place)
        if type(value) is tuple:
            return ["tuple", *self._items(value, place, depth)]
        if isinstance(value, set | frozenset):
            # In an order of their own: that of iteration is another in each process.
            items = [_Description(self.met).of(item, f"{place}{{}}", depth + 1) for item in value]
            return [type(value).__name__, *sorted(items, key=repr)]
        if id(value) in self.met:
            return ["again", self.met[id(value)][0]]
        self.met[id(value)] = (place, value)
        if plain_type(value) is list:
            return ["list", *self._items(value, place, depth)]
        if isinstance(value, dict | types.MappingProxyType):
            pairs = [
                [self.of(key, place, depth + 1), self.of(item, f"{place}.{key}", depth + 1)]
                for key, item in value.items()
            ]
            return [plain_type(value).__qualname__, *pairs]
        return self._thing(value, place, depth + 1)

    def _items(self, values: Any, place: str, depth: int) -> list[Any]:
        return [self.of(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(values)]

    def _thing(self, value: Any, place: str, depth: int) -> Any:
        if isinstance(value, types.FunctionType):
            return self._function(value, place, depth)
        if isinstance(value, types.MethodType):
            return [self.of(value.__func__, place, depth), self.of(value.__self__, f"{place}.__self__", depth)]
        if isinstance(value, type):
            return self._class(value, place, depth)
        if isinstance(value, types.CodeType):
            return self._code(value, place, depth)
        if isinstance(value, staticmethod | classmethod):
            return [type(value).__name__, self.of(value.__func__, place, depth)]
        if isinstance(value, property):
            return ["property", *self._items((value.fget, value.fset), place, depth)]
        if isinstance(value, Module):
            return [[path, self._module(module, f"{place}.{path}", depth)] for path, module in value.named_modules()]
        if hasattr(value, "to_json"):
            return [self.of(type(value), place, depth), self.of(value.to_json(), place, depth)]
        if callable(value) and hasattr(value, "__wrapped__"):  # such as what functools.cache makes
            return [type(value).__qualname__, self.of(value.__wrapped__, place, depth)]
        if isinstance(value, functools.partial):
            return ["partial", *self._items((value.func, value.args, value.keywords), place, depth)]
        return self._reduced(value, place, depth)

    def _reduced(self, value: Any, place: str, depth: int) -> Any:
        """An object as ``copy`` takes it apart: what makes it, from what, and its state, attribute by attribute."""
        registered = copyreg.dispatch_table.get(type(value))
        try:
            reduced = registered(value) if registered else value.__reduce_ex__(4)
        except Exception as error:
            raise _refusal(value, place) from error
        if isinstance(reduced, str):  # the name of a global
            return [value.__module__ if hasattr(value, "__module__") else type(value).__module__, reduced]
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        parts: list[Any] = [self.of(make, place, depth), *self._items(arguments, place, depth)]
        parts.append(self.of(type(value), place, depth))
        for part in (attributes, slots):
            if isinstance(part, dict):
                named = {str(n): self.of(item, f"{place}.{n}", depth) for n, item in part.items()}
                parts.append(named)
            else:
                parts.append(self.of(part, place, depth))
        parts.append([] if items is None else self._items(items, place, depth))
        parts.append([] if pairs is None else self.of(dict(pairs), place, depth))
        return parts

    def _function(self, function: types.FunctionType, place: str, depth: int) -> Any:
        code = function.__code__
        closed = [
            self.of(_content(cell), f"{place}.{name}", depth)
            for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
        ]
        defaults = [self.of(given, place, depth) for given in (function.__defaults__, function.__kwdefaults__)]
        if not _is_own(function.__globals__.get("__name__"), code.co_filename):
            return [function.__module__, function.__qualname__, closed, defaults]
        used = [[name, self._loosely(item, name, depth)] for name, item in _globals_of(code, function.__globals__)]
        return [function.__qualname__, self._code(code, place, depth), closed, defaults, used]

    def _code(self, code: types.CodeType, place: str, depth: int) -> Any:
        constants = [self.of(constant, place, depth) for constant in code.co_consts]
        return [code.co_code.hex(), code.co_exceptiontable.hex(), constants, list(code.co_names)]

    def _class(self, kind: type, place: str, depth: int) -> Any:
        name = [kind.__module__, kind.__qualname__]
        if isinstance(kind, type(Signature)):
            name.append(kind.key)
        if not _is_own(kind.__module__):
            return name
        bases = [self.of(base, place, depth) for base in kind.__bases__]
        own = {
            attribute: self._loosely(value, f"{kind.__qualname__}.{attribute}", depth)
            for attribute, value in vars(kind).items()
            if isinstance(value, types.FunctionType | staticmethod | classmethod | property)
            or not (attribute.startswith("_") or hasattr(type(value), "__get__"))
        }
        return [*name, bases, own]

    def _module(self, module: Module, place: str, depth: int) -> Any:
        """One module of a program without those below it: its class, its signature, its tools, its attributes."""
        attributes = {
            name: self._loosely(value, f"{place}.{name}", depth)
            for name, value in module.__dict__.items()
            if name not in INTERNAL and not isinstance(value, Module)
        }
        return [self.of(type(module), place, depth), attributes]

    def _loosely(self, value: Any, place: str, depth: int) -> Any:
        before = dict(self.met)
        try:
            return self.of(value, place, depth)
        except DefinitionError:
            self.met = before
            return ["a", type(value).__module__, type(value).__qualname__]


def _refusal(value: Any, place: str) -> DefinitionError:
    last = place.rpartition(".")[2].partition("[")[0]
    return DefinitionError(
        f"{place} = {shown(value)} cannot be described, so a search with another one would be taken for the same "
        "and resumed. Give the class that keeps it a to_json(self) that returns what decides its results as plain "
        f"data, or, if it is a setting that decides nothing, call the attribute _{last}"
    )


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _globals_of(code: types.CodeType, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The globals that the code and the functions in it read, through the user's modules: ``helpers.LIMIT``."""
    dotted, value = "", None
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            if dotted:
                yield dotted, value
            dotted, value = (step.argval, names[step.argval]) if step.argval in names else ("", None)
        elif dotted and step.opname in ("LOAD_ATTR", "LOAD_METHOD") and _is_own_module(value):
            dotted, value = f"{dotted}.{step.argval}", getattr(value, step.argval, None)
        elif dotted and step.opname not in ("CACHE", "EXTENDED_ARG", "PRECALL"):
            yield dotted, value
            dotted = ""
    if dotted:
        yield dotted, value
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _globals_of(inner, names)


def _is_own_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and _is_own(value.__name__)


@functools.lru_cache(maxsize=4096)
def _is_own(name: str | None, file: str | None = None) -> bool:
    """Whether a module is the user's: neither Python's, nor installed, nor dspex itself."""
    top = (name or "").partition(".")[0]
    if top in ("dspex", "builtins") or (top != "__main__" and top in sys.stdlib_module_names):
        return False
    file = file or getattr(sys.modules.get(name or ""), "__file__", None) or ""
    return not file.startswith(_LIBRARIES) and not file.startswith("<frozen")
