"""Looking for a module inside an object of a foreign class, where a copy of the program cannot reach it."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["captured_module"]

_VISITED_LIMIT = 2000
"""Objects looked at per capture: an index or a client of any size is never walked whole."""

_CLOSED = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
)


def captured_module(value: Any, modules: Mapping[int, str], module_type: type) -> tuple[str, str] | None:
    """Where ``value`` keeps one of ``modules`` (path by id): (the attribute's spelling, the module's path).

    Looks breadth first through attributes, slots, containers, bound methods, partials and closures, at no
    more than 2,000 objects; what lies deeper is taken to be data.
    """
    seen = {id(value)}
    queue: deque[tuple[str, Any]] = deque([("", value)])
    while queue and len(seen) < _VISITED_LIMIT:
        place, holder = queue.popleft()
        for name, content in _contents(holder):
            if isinstance(content, _CLOSED) or id(content) in seen:
                continue
            seen.add(id(content))
            here = f"{place}{name}"
            if isinstance(content, module_type):
                if id(content) in modules:
                    return here.lstrip("."), modules[id(content)]
                continue
            queue.append((here, content))
    return None


def _contents(holder: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(holder, dict):
        for key, content in list(holder.items())[:_VISITED_LIMIT]:
            yield f"[{key!r}]", content
    elif isinstance(holder, list | tuple | set | frozenset | deque):
        for position, content in enumerate(list(holder)):
            if position >= _VISITED_LIMIT:
                break
            yield f"[{position}]", content
    elif isinstance(holder, types.MethodType):
        yield ".__self__", holder.__self__
    elif isinstance(holder, functools.partial):
        yield ".func", holder.func
        yield ".args", holder.args
        yield ".keywords", holder.keywords
    elif isinstance(holder, types.FunctionType):
        for name, cell in zip(holder.__code__.co_freevars, holder.__closure__ or (), strict=True):
            try:
                yield f".{name}", cell.cell_contents
            except ValueError:  # not assigned yet
                continue
    else:
        for name, content in list(getattr(holder, "__dict__", {}).items()):
            yield f".{name}", content
        for kind in type(holder).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                content = getattr(holder, name, None) if name != "__weakref__" else None
                yield f".{name}", content
