"""`Callback`: what is told when a piece of work starts, ends and fails."""

from __future__ import annotations

import difflib
import inspect
import re
from typing import Any

from dspex.callbacks.span import KINDS, Span
from dspex.errors import DefinitionError

__all__ = ["Callback", "checked_callback"]

_METHOD = re.compile(r"on_(?:(?P<kind>\w+)_)?(?:start|end|error)")


class Callback:
    """Is told of each `Span`: when it starts, and when it ends or fails (one of the two, once).

    Subclass it and write what should be heard: ``on_start``, ``on_end`` and ``on_error`` hear everything,
    ``on_{kind}_start``, ``on_{kind}_end`` and ``on_{kind}_error`` one kind (``optimizer``, ``trial``, ``evaluation``,
    ``example``, ``module``, ``adapter``, ``lm``, ``tool``); who writes one of the first three gets those of its kinds
    only by calling ``super()``. Each takes the span alone. Make an instance known with
    ``dspex.configure(callbacks=[...])`` or, for a block, ``dspex.context(callbacks=[...])``.

    Methods are called right where the work is done: from any thread, several at a time, and on the event loop, so
    they must not take long. What one raises is logged once (logger ``dspex.callbacks``) and changes nothing else.

    Raises `DefinitionError` when a subclass is made with a method of a kind that does not exist, or that takes other
    arguments.

    >>> import dspex
    >>> class Bill(Callback):
    ...     dollars = 0.0
    ...     def on_lm_end(self, span):
    ...         self.dollars += span.attributes["cost"]
    >>> bill = Bill()
    >>> with dspex.context(lm=dspex.MockLM(["Paris"], price=(1e6, 0.0)), callbacks=[bill]):
    ...     _ = dspex.Predict("question -> answer")(question="Capital of France?")
    >>> bill.dollars > 0
    True
    """

    _failed: frozenset[str] = frozenset()  # the methods whose error has been logged

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name, value in cls.__dict__.items():
            match = _METHOD.fullmatch(name)
            if match is not None and callable(value):
                _check_method(cls, name, match["kind"], value)

    def on_start(self, span: Span) -> None:
        """``span`` has been opened."""
        self._hear(span, "start")

    def on_end(self, span: Span) -> None:
        """``span`` has ended well; ``outputs`` and ``ended`` are there."""
        self._hear(span, "end")

    def on_error(self, span: Span) -> None:
        """``span`` has ended in ``span.error``."""
        self._hear(span, "error")

    def _hear(self, span: Span, event: str) -> None:
        method = getattr(self, f"on_{span.kind}_{event}", None)
        if method is not None:
            method(span)


def _check_method(cls: type[Callback], name: str, kind: str | None, method: Any) -> None:
    where = f"{cls.__name__}.{name}"
    if kind is not None and kind not in KINDS:
        close = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"; did you mean {name.replace(kind, close[0])}?" if close else ""
        raise DefinitionError(f"{where} would never be called: the kinds of spans are {', '.join(KINDS)}{hint}")
    if inspect.iscoroutinefunction(method):
        raise DefinitionError(f"{where} is async, and nobody would await it; write def {name}(self, span): ...")
    try:
        inspect.signature(method).bind(*(() if isinstance(method, staticmethod) else (None,)), None)
    except TypeError:
        raise DefinitionError(
            f"{where} takes {inspect.signature(method)}, but is called with a span alone.\n"
            f"  right:  def {name}(self, span): ...  # span.name, span.inputs, span.outputs, span.error"
        ) from None
    except ValueError:
        pass  # written in C; the call will tell


def checked_callback(value: Any) -> Callback:
    """``value``, which has to be a `Callback`; raises `DefinitionError` for anything else."""
    if isinstance(value, Callback):
        return value
    if isinstance(value, type) and issubclass(value, Callback):
        raise DefinitionError(
            f"callbacks must hold instances, not the class {value.__name__} (type); "
            f"write callbacks=[{value.__name__}()]"
        )
    raise DefinitionError(
        f"callbacks must hold instances of dspex.Callback, not {value!r:.200} ({type(value).__name__}).\n"
        "  right:  class Log(dspex.Callback):\n"
        "              def on_lm_end(self, span): ...\n"
        "          dspex.configure(callbacks=[Log()])"
    )
