"""Adapters by name, as the variable ``adapter`` of a predictor and saved programs have them."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Mapping
from typing import Any

from dspex.adapters.base import Adapter
from dspex.adapters.chat import ChatAdapter
from dspex.adapters.compact_adapter import CompactAdapter
from dspex.adapters.json_adapter import JSONAdapter
from dspex.adapters.lines_adapter import LinesAdapter
from dspex.adapters.two_step import TwoStepAdapter
from dspex.adapters.xml_adapter import XMLAdapter
from dspex.errors import DefinitionError, StateError

__all__ = ["adapter_from_json", "adapter_named", "register_adapter"]

_classes: dict[str, type[Adapter]] = {}
_shared: dict[str, Adapter] = {}
_lock = threading.Lock()


def register_adapter(cls: type[Adapter]) -> type[Adapter]:
    """Make ``cls`` known by its name; also a class decorator.

    Raises `DefinitionError` when the name belongs to another class.
    """
    with _lock:
        if _classes.setdefault(cls.name, cls) is not cls:
            raise DefinitionError(
                f"the adapter name {cls.name!r} of {cls.__qualname__} belongs to "
                f"{_classes[cls.name].__qualname__}; give the class another `name`."
            )
    return cls


def adapter_named(name: str) -> Adapter:
    """The adapter of that name with its own templates; the same object each time.

    Raises `DefinitionError` for a name that is not known.

    >>> adapter_named("chat")
    ChatAdapter()
    """
    adapter = _shared.get(name)
    if adapter is None:
        cls = _class_named(name)
        with _lock:
            adapter = _shared.get(name) or _shared.setdefault(name, cls())
    return adapter


def adapter_from_json(data: Mapping[str, Any]) -> Adapter:
    """The adapter that `Adapter.to_json` wrote.

    Raises `StateError` for data of another form, `DefinitionError` for an adapter that is not known.

    >>> adapter_from_json(JSONAdapter().to_json()) == JSONAdapter()
    True
    """
    try:
        options = dict(data)
        name, templates = options.pop("name"), dict(options.pop("templates"))
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"a stored adapter is {{'name': ..., 'templates': {{...}}}}, not {data!r}.") from error
    made = {key: adapter_from_json(one) if isinstance(one, Mapping) else one for key, one in options.items()}
    return _class_named(name)(templates, **made)


def _class_named(name: str) -> type[Adapter]:
    cls = _classes.get(name) if isinstance(name, str) else None
    if cls is None:
        close = difflib.get_close_matches(str(name), _classes, n=1)
        known = ", ".join(repr(one) for one in sorted(_classes))
        raise DefinitionError(
            f"there is no adapter {name!r} ({type(name).__name__}); "
            + (f"did you mean {close[0]!r}? " if close else "")
            + f"There are {known}; `register_adapter` makes one of your own known."
        )
    return cls


register_adapter(ChatAdapter)
register_adapter(JSONAdapter)
register_adapter(LinesAdapter)
register_adapter(XMLAdapter)
register_adapter(CompactAdapter)
register_adapter(TwoStepAdapter)
