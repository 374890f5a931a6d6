"""What a program uses when it is not told: the process-wide configuration and its overlays.

Two layers. `configure` sets the process's defaults and may be called from any thread; every thread sees
them at once. `context` lays values over them for one ``with`` block, in this thread or async task and what
it starts through dspex's executors; nobody else sees them. `current` is what holds here and now.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from dspex.callbacks.callback import Callback, checked_callback
from dspex.errors import DefinitionError
from dspex.execution.budget import Budget

__all__ = ["CACHE_POLICIES", "Settings", "checked_policy", "configure", "context", "current", "settings"]


def _lm(value: Any) -> Any:
    # The room of models imports this one, so a model is known by what it can do.
    if value is None or (hasattr(value, "generate") and not isinstance(value, type)):
        return value
    if isinstance(value, str):
        raise DefinitionError(
            f"lm must be a model, not its name {value!r} (str).\n"
            f"  wrong: dspex.configure(lm={value!r})\n"
            f"  right: dspex.configure(lm=dspex.LM({value!r}))"
        )
    raise DefinitionError(
        f"lm must be a dspex.LM (or another BaseLM) or None, not {value!r} ({type(value).__name__}); "
        'write dspex.configure(lm=dspex.LM("provider/model"))'
    )


def _adapter(value: Any) -> Any:
    if value is None or (hasattr(value, "parse") and not isinstance(value, type)):
        return value
    hint = f"{value.__name__}()" if isinstance(value, type) else "dspex.ChatAdapter()"
    raise DefinitionError(
        f"adapter must be an adapter or None, not {value!r} ({type(value).__name__}); "
        f"write dspex.configure(adapter={hint})"
    )


def _budget(value: Any) -> Budget | None:
    if value is None or isinstance(value, Budget):
        return value
    raise DefinitionError(
        f"budget must be a dspex.Budget or None, not {value!r} ({type(value).__name__}); "
        "write for example dspex.configure(budget=dspex.Budget(usd=2.0))"
    )


def _callbacks(value: Any) -> tuple[Callback, ...]:
    if value is None:
        return ()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise DefinitionError(
            f"callbacks must be a list of callbacks, not {value!r} ({type(value).__name__}); "
            "write dspex.configure(callbacks=[...])"
        )
    return tuple(checked_callback(one) for one in value)


CACHE_POLICIES = ("on", "read", "write", "refresh", "off", "replay")


def checked_policy(value: Any) -> str:
    """One of the things that a call may do with a cache; `Settings` says what they are."""
    if value is True or value is False:
        return "on" if value else "off"
    if isinstance(value, str) and value in CACHE_POLICIES:
        return value
    raise DefinitionError(
        f"cache must be one of {', '.join(map(repr, CACHE_POLICIES))}, not {value!r} ({type(value).__name__}); "
        'write for example dspex.context(cache="refresh")'
    )


class Settings:
    """One immutable set of defaults; a `Run` keeps the one it started with.

    ``lm``, ``adapter``
        what predictors use that have none of their own.
    ``budget``
        the `Budget` that every model call counts against.
    ``callbacks``
        a tuple of `dspex.Callback`. They stay in their process: settings that are pickled have none.
    ``cache``
        what calls do with the caches of their models: ``"on"`` (look, and keep), ``"read"`` (look only), ``"write"``
        (ask, and keep what is new), ``"refresh"`` (ask, and replace), ``"off"``, or ``"replay"``, where a call that
        is not in the cache is a `ReplayMissError`; ``None`` leaves it to the model. What is replayed costs
        nothing and yet counts against a budget of calls, tokens or dollars, each answer once, as what it took when it
        was paid for: a search that began with an empty cache ends in a replay where it ended then. A call that failed
        for good, and was never answered, raises the same error (``error.replayed``); what a deadline cut off is not
        kept.
    ``track_usage``
        whether each prediction carries the usage of its own calls (the run's totals are always kept).
    ``ledgers``
        those of the `track_usage` blocks around.

    >>> Settings().lm is None
    True
    """

    __slots__ = ("adapter", "budget", "cache", "callbacks", "ledgers", "lm", "track_usage")

    lm: Any
    adapter: Any
    budget: Budget | None
    callbacks: tuple[Callback, ...]
    cache: str | None
    track_usage: bool
    ledgers: tuple[Any, ...]

    def __init__(
        self,
        *,
        lm: Any = None,
        adapter: Any = None,
        budget: Budget | None = None,
        callbacks: Iterable[Callback] = (),
        cache: str | None = None,
        track_usage: bool = True,
        ledgers: Iterable[Any] = (),
    ) -> None:
        setter = object.__setattr__
        setter(self, "lm", _lm(lm))
        setter(self, "adapter", _adapter(adapter))
        setter(self, "budget", _budget(budget))
        setter(self, "callbacks", _callbacks(callbacks))
        setter(self, "cache", None if cache is None else checked_policy(cache))
        setter(self, "track_usage", bool(track_usage))
        setter(self, "ledgers", tuple(ledgers))

    def replace(self, **changes: Any) -> Settings:
        """Settings with some values changed; a name that does not exist raises `DefinitionError`."""
        for name in changes:
            if name not in Settings.__slots__:
                close = get_close_matches(name, Settings.__slots__, n=1)
                hint = f"; did you mean {close[0]}=?" if close else ""
                raise DefinitionError(
                    f"there is no setting {name!r}: the settings are {', '.join(Settings.__slots__)}{hint}"
                )
        return Settings(**{**self.as_dict(), **changes})

    def as_dict(self) -> dict[str, Any]:
        """Name and value of each setting."""
        return {name: getattr(self, name) for name in Settings.__slots__}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings are immutable: write dspex.configure({name}=...) or dspex.context(...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"settings are immutable: write dspex.configure({name}=None)")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # callbacks and models need not be hashable

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, ({**self.as_dict(), "ledgers": (), "callbacks": ()},))  # both are of one process

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.as_dict().items())})"


def _rebuild(values: Mapping[str, Any]) -> Settings:
    return Settings(**values)


class _Overlay:
    """The changes of the enclosing `context` blocks, and their result over the base last seen."""

    __slots__ = ("changes", "merged")

    def __init__(self, changes: Mapping[str, Any]) -> None:
        self.changes = MappingProxyType(dict(changes))
        self.merged: tuple[Settings, Settings] | None = None


_lock = threading.Lock()
_base = Settings()
_overlay: ContextVar[_Overlay | None] = ContextVar("dspex_settings", default=None)


def current() -> Settings:
    """The settings that hold in this thread or task.

    >>> current().track_usage
    True
    """
    overlay = _overlay.get()
    base = _base
    if overlay is None:
        return base
    merged = overlay.merged
    if merged is None or merged[0] is not base:
        overlay.merged = merged = (base, base.replace(**overlay.changes))
    return merged[1]


def configure(**changes: Any) -> None:
    """Set process-wide defaults: those of `Settings`, such as ``lm=`` and ``budget=``.

    May be called from any thread, at any time; runs that have started keep what they started with. ``None``
    takes a default away. Raises `DefinitionError` for an unknown name or a value of the wrong kind.

    >>> configure(track_usage=True)
    """
    global _base
    with _lock:
        _base = _base.replace(**changes)


@contextmanager
def context(**changes: Any) -> Iterator[Settings]:
    """Lay values over the defaults inside a ``with`` block, for this thread or async task only.

    >>> with context(track_usage=False) as here:
    ...     (here.track_usage, current().track_usage)
    (False, False)
    >>> current().track_usage
    True
    """
    outer = _overlay.get()
    inner = _Overlay({**outer.changes, **changes} if outer is not None else changes)
    _base.replace(**changes)  # a wrong name or value is an error here, not at some later read
    token = _overlay.set(inner)
    try:
        yield current()
    finally:
        _overlay.reset(token)


class _Door:
    """``settings.lm`` and so on: reads of what `current` says, in DSPy's spelling.

    >>> settings.track_usage
    True
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(current(), name)

    def configure(self, **changes: Any) -> None:
        """The same as `configure`."""
        configure(**changes)

    def context(self, **changes: Any) -> Any:
        """The same as `context`."""
        return context(**changes)

    def __repr__(self) -> str:
        return repr(current())


settings = _Door()
