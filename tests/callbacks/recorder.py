"""A callback that keeps all it hears, and says whether it could have happened so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Hashable

from dspex.callbacks import Callback, Span


def _here() -> Hashable:
    """This thread, and this task if there is one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), id(task) if task is not None else None


def left_to_itself(events: list[tuple[str, Span, Hashable]]) -> bool:
    """Whether a task was cancelled, and so perhaps a thread left to itself, which outlasts whoever waited for it."""
    return any(isinstance(span.error, asyncio.CancelledError) for _, span, _ in events)


class Recorder(Callback):
    """``events`` are (what, span, thread and task) in the order in which they were heard."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Span, Hashable]] = []

    def on_start(self, span: Span) -> None:
        self.events.append(("start", span, _here()))

    def on_end(self, span: Span) -> None:
        self.events.append(("end", span, _here()))

    def on_error(self, span: Span) -> None:
        self.events.append(("error", span, _here()))

    @property
    def spans(self) -> list[Span]:
        """By their starts."""
        return [span for what, span, _ in self.events if what == "start"]

    def of(self, kind: str) -> list[Span]:
        """Those of one kind."""
        return [span for span in self.spans if span.kind == kind]

    def tree(self) -> list[str]:
        """Kind and name of each, indented by its depth."""
        return [f"{'  ' * len(list(span.ancestors))}{span.kind} {span.name}" for span in self.spans]

    def settled(self) -> list[tuple[str, Span, Hashable]]:
        """The events, when all that has started has ended: a thread whose task was cancelled goes on for a while."""
        until = time.monotonic() + 60
        while True:
            events = list(self.events)
            if 2 * sum(what == "start" for what, _, _ in events) == len(events):
                if not left_to_itself(events):
                    return events
                time.sleep(0.1)  # such a thread may be between two things
                if len(self.events) == len(events):
                    return events
            assert time.monotonic() < until, "something has started and does not end"
            time.sleep(0.005)

    def check(self) -> None:
        """Each start has one end or error, after it; in a thread or task they nest; children are within parents."""
        at: dict[int, list[tuple[str, int]]] = {}
        stacks: dict[Hashable, list[int]] = {}
        events = self.settled()
        for index, (what, span, here) in enumerate(events):
            at.setdefault(span.id, []).append((what, index))
            stack = stacks.setdefault(here, [])
            if what == "start":
                stack.append(span.id)
            else:
                assert stack.pop() == span.id, f"{span} ended out of turn"
                assert (span.error is not None) == (what == "error")
        for span in [span for what, span, _ in events if what == "start"]:
            (start, first), (_, last) = at[span.id]
            assert start == "start"
            assert span.ended is not None
            assert span.started <= span.ended
            if span.parent is not None:
                (_, opened), (_, closed) = at[span.parent.id]
                assert opened < first, f"{span} began before {span.parent}"
                if not left_to_itself(events):
                    assert last < closed, f"{span} is not within {span.parent}"
