"""`Span`: one piece of work, from its start to its end or error."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["KINDS", "Span"]

KINDS = ("optimizer", "trial", "evaluation", "example", "module", "adapter", "lm", "tool")

_ids = itertools.count(1)


class Span:
    """One piece of work of a program or a search: what it is, within which other, when, with what, to what end.

    ``kind``
        one of ``"optimizer"``, ``"trial"``, ``"evaluation"``, ``"example"``, ``"module"``, ``"adapter"``, ``"lm"`` and
        ``"tool"``; they are nested in this order, a module in a module and a model's call in an adapter's reading
        included.
    ``name``
        the class of a module, the model of a call, the function of a tool, ``"ChatAdapter.request"``, ``"trial 7"``.
    ``path``
        the path of the module in its program, ``""`` for the root; of a model's or a tool's call, the calling module's.
    ``id``, ``parent``
        a number that is unique in the process, and the span around this one, or ``None``.
    ``started``, ``ended``
        seconds since the epoch; ``ended`` is ``None`` as long as it goes on.
    ``inputs``, ``outputs``
        of a module, tool or example the inputs by name, and what came of them; of a model's call the `LMRequest` and
        the `LMResponse`. The objects themselves: look at them, change nothing.
    ``error``
        what ended it, or ``None``.
    ``attributes``
        small things about it, such as ``model``, ``usage``, ``cached``, ``trial``, ``example``. No secrets.

    >>> program = Span("module", "ChainOfThought")
    >>> call = Span("lm", "openai/gpt-4o-mini", path="predict", parent=program)
    >>> [span.name for span in call.ancestors], call.ended is None
    (['ChainOfThought'], True)
    """

    __slots__ = (
        "_attributes",
        "ended",
        "error",
        "id",
        "inputs",
        "kind",
        "name",
        "outputs",
        "parent",
        "path",
        "started",
    )

    kind: str
    name: str
    path: str
    id: int
    parent: Span | None
    started: float
    ended: float | None
    inputs: Any
    outputs: Any
    error: BaseException | None

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        path: str = "",
        parent: Span | None = None,
        inputs: Any = None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.path = path
        self.id = next(_ids)
        self.parent = parent
        self.started = time.time()
        self.ended = None
        self.inputs = inputs
        self.outputs = None
        self.error = None
        self._attributes = {} if attributes is None else attributes

    @property
    def attributes(self) -> dict[str, Any]:
        """Small things about it by name; whoever does the work goes on filling them, so they cannot be replaced."""
        return self._attributes

    @property
    def ancestors(self) -> Iterator[Span]:
        """The spans around it, from the nearest to the root."""
        span = self.parent
        while span is not None:
            yield span
            span = span.parent

    def __repr__(self) -> str:
        # Without inputs and outputs, which may be long and nobody's business.
        where = f" at {self.path}" if self.path else ""
        state = "open" if self.ended is None else f"{self.ended - self.started:.3g} s"
        if self.error is not None:
            state += f", {type(self.error).__name__}"
        return f"<Span {self.id}: {self.kind} {self.name}{where}, {state}>"
