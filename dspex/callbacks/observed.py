"""`Observed`: a piece of work that callbacks are told about. Whoever does some uses it, when somebody listens."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from dspex.callbacks.callback import Callback
from dspex.callbacks.span import Span

__all__ = ["Observed", "current_span"]

_logger = logging.getLogger("dspex.callbacks")

_open: ContextVar[Span | None] = ContextVar("dspex_span", default=None)

# Held for the few instructions in which it is decided who closes a span, or logs an error.
_deciding = threading.Lock()


def current_span() -> Span | None:
    """The innermost span that is open in this thread or task, as far as anybody listens.

    >>> current_span() is None
    True
    """
    return _open.get()


class Observed:
    """``with Observed(observers, kind, name) as span:`` opens a span, and closes it by how the block ends.

    The block may fill ``span.outputs``, ``span.attributes``, and ``span.error`` with an error that it does not raise.
    Its parent is the span that is open here or, where there is none (a thread that a program made itself), ``root``;
    ``within`` names another one. ``path`` is the parent's unless it is given. A span that is ``detached`` is nobody's
    parent here: for generators, whose consumers would find themselves inside of it.

    Without ``observers`` it does nothing. Where nanoseconds count, ask first: ``if run.observers:``.

    >>> class Names(Callback):
    ...     def on_start(self, span):
    ...         print(span.name, "in", span.parent and span.parent.name)
    >>> with Observed((Names(),), "tool", "search"), Observed((Names(),), "lm", "mock/mock"):
    ...     pass
    search in None
    mock/mock in search
    """

    __slots__ = ("_observers", "_token", "span")

    def __init__(
        self,
        observers: tuple[Callback, ...],
        kind: str,
        name: str,
        *,
        path: str | None = None,
        inputs: Any = None,
        attributes: dict[str, Any] | None = None,
        root: Span | None = None,
        within: Span | None = None,
        detached: bool = False,
    ) -> None:
        parent = within or _open.get() or root
        if path is None:
            path = "" if parent is None else parent.path
        self.span = Span(kind, name, path=path, parent=parent, inputs=inputs, attributes=attributes)
        self._observers = observers
        self._token: Token[Span | None] | bool = not detached

    def __enter__(self) -> Span:
        span = self.span
        if self._observers:
            if self._token:
                self._token = _open.set(span)
            try:
                _tell(self._observers, "on_start", span)
            except BaseException as error:  # Ctrl-C, within a callback
                self.__exit__(type(error), error, None)
                raise
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close(error)
        finally:
            if isinstance(self._token, Token):
                # A coroutine that was thrown away is closed wherever the garbage is collected.
                with suppress(ValueError):
                    _open.reset(self._token)

    def close(self, error: BaseException | None = None) -> None:
        """End the span unless it has ended, from any thread: for work that is given up while its thread hangs."""
        span = self.span
        with _deciding:
            if span.ended is not None:
                return
            span.ended = time.time()
        if error is not None:
            span.error = error
        # In reverse, since what one opens at a start is inside of what those before it have opened.
        _tell(self._observers[::-1], "on_end" if span.error is None else "on_error", span)


def _tell(observers: tuple[Callback, ...], method: str, span: Span) -> None:
    for callback in observers:
        try:
            getattr(callback, method)(span)
        except Exception as error:  # whatever somebody's callback raises
            _complain(callback, method, span, error)


def _complain(callback: Callback, method: str, span: Span, error: Exception) -> None:
    with _deciding:
        if method in callback._failed:
            return
        object.__setattr__(callback, "_failed", callback._failed | {method})  # it may be a frozen dataclass
    _logger.error(
        "%s.%s raised %s on %r; the run goes on, and what it raises from now on is not logged",
        type(callback).__name__,
        method,
        type(error).__name__,
        span,
        exc_info=error,
    )
