"""One execution of a program: what it did, what it took, and how long it may go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dspex.data.usage import Usage
from dspex.errors import BudgetExceeded, DeadlineExceeded
from dspex.execution.budget import Budget
from dspex.execution.deadline import Deadline
from dspex.execution.settings import Settings, current

if TYPE_CHECKING:
    from dspex.callbacks import Callback, Span

__all__ = ["Run", "TraceEntry"]


class TraceEntry:
    """One call of one predictor, under the predictor's path in the program.

    >>> TraceEntry("answer", {"question": "1 + 1?"}, prediction="2")
    <TraceEntry answer: question -> ok>
    """

    __slots__ = ("error", "inputs", "path", "prediction", "signature", "usage")

    path: str
    inputs: dict[str, Any]
    prediction: Any
    signature: Any
    usage: Usage | None
    error: str | None

    def __init__(
        self,
        path: str,
        inputs: dict[str, Any],
        *,
        prediction: Any = None,
        signature: Any = None,
        usage: Usage | None = None,
        error: str | None = None,
    ) -> None:
        self.path = path
        self.inputs = inputs
        self.prediction = prediction
        self.signature = signature
        self.usage = usage
        self.error = error

    def __repr__(self) -> str:
        return f"<TraceEntry {self.path or '(root)'}: {', '.join(self.inputs)} -> {self.error or 'ok'}>"


class Run:
    """One execution of a program, shared by all its modules, threads and tasks.

    ``usage`` and ``trace`` fill while it goes on, also when it ends in an error. ``deadline`` (seconds, or a
    `Deadline`), ``budget`` and `cancel` end it: at its next boundary (`check`) it raises. ``settings`` are
    those that held where the run was made, and ``budget`` is theirs unless one is given. ``rollout_id`` tells
    repeated executions of the same inputs apart; ``seed`` goes to models that take one. ``trial`` (its number) and
    ``example`` are what it belongs to, if anything, for the ledgers of `dspex.track_usage`. ``observers`` are told what
    goes on: the callbacks of its settings, and perhaps others. ``span`` is its outermost, once there is one.
    ``sink`` is where predictors show their answers while these are written, or ``None`` (see `dspex.Module.stream`).

    Threads may share a run. It lives in one process: pickle a program without its run.

    >>> run = Run(deadline=5.0)
    >>> run.account(Usage(calls=1, prompt_tokens=10))
    >>> run.usage.calls
    1
    >>> run.cancel("the user pressed Ctrl-C")
    >>> run.check()
    Traceback (most recent call last):
        ...
    dspex.errors.DeadlineExceeded: the run was cancelled: the user pressed Ctrl-C
    """

    __slots__ = (
        "_lock",
        "_reason",
        "_waking",
        "budget",
        "cancelled",
        "deadline",
        "example",
        "observers",
        "rollout_id",
        "seed",
        "settings",
        "sink",
        "span",
        "started",
        "trace",
        "trial",
        "usage",
    )

    usage: Usage
    trace: list[TraceEntry]
    deadline: Deadline | None
    budget: Budget | None
    rollout_id: int
    seed: int | None
    settings: Settings
    started: float
    cancelled: bool
    trial: int | None
    example: Any
    observers: tuple[Callback, ...]
    span: Span | None
    sink: Any

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        deadline: Deadline | float | None = None,
        budget: Budget | None = None,
        rollout_id: int = 0,
        seed: int | None = None,
    ) -> None:
        self.settings = settings = current() if settings is None else settings
        self.deadline = None if deadline is None else deadline if isinstance(deadline, Deadline) else Deadline(deadline)
        self.budget = settings.budget if budget is None else budget
        self.rollout_id = rollout_id
        self.seed = seed
        self.usage = Usage()
        self.trace = []
        self.started = time.perf_counter()
        self.cancelled = False
        self.trial = None
        self.example = None
        self.observers = settings.callbacks
        self.span = None
        self.sink = None
        self._reason = ""
        self._waking: set[Callable[[], object]] | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise `DeadlineExceeded` when the run is cancelled or its time is up.

        Raises `BudgetExceeded` when it is the budget's seconds that are up.
        """
        if self.cancelled:
            raise DeadlineExceeded(f"the run was cancelled: {self._reason}")
        deadline = self.deadline
        if deadline is not None:
            deadline.check()
        budget = self.budget
        if budget is not None and (left := budget.seconds_left()) is not None and left <= 0:
            raise BudgetExceeded(f"{budget!r}: its {budget.limits.seconds:g} seconds are over")

    def remaining(self) -> float | None:
        """Seconds that are left by deadline and budget, never below zero; ``None`` when there is no limit."""
        left = None if self.deadline is None else self.deadline.remaining()
        if self.budget is not None:
            seconds = self.budget.seconds_left()
            if seconds is not None and (left is None or seconds < left):
                left = seconds
        return None if left is None else max(0.0, left)

    def limit(self, seconds: float) -> None:
        """Let it take at most ``seconds`` from now on; an earlier deadline stays."""
        deadline = Deadline(seconds)
        if self.deadline is None or deadline.at < self.deadline.at:
            self.deadline = deadline

    def cancel(self, reason: str = "cancelled by its caller") -> None:
        """End it, from any thread: a call of a model and a pause that it waits in end at once, all else at its next
        boundary."""
        with self._lock:
            if self.cancelled:
                return
            self._reason = reason
            self.cancelled = True
            waking, self._waking = self._waking, None
        for wake in waking or ():
            wake()

    def on_cancel(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the run is cancelled (by the thread that does, or now if it was): for what waits.

        >>> run, woken = Run(), threading.Event()
        >>> run.on_cancel(woken.set)
        >>> run.cancel()
        >>> woken.is_set()
        True
        """
        with self._lock:
            if not self.cancelled:
                if self._waking is None:
                    self._waking = set()
                self._waking.add(wake)
                return
        wake()

    def off_cancel(self, wake: Callable[[], object]) -> None:
        """Forget ``wake``, which waits no longer."""
        with self._lock:
            if self._waking is not None:
                self._waking.discard(wake)

    @contextmanager
    def branch(self) -> Iterator[Run]:
        """A part of it that can be cancelled by itself and has an account of its own: it counts into this one's usage
        and trace too, has its limits, and is cancelled with it.

        >>> run = Run()
        >>> run.account(Usage(calls=1))
        >>> with run.branch() as part:
        ...     part.account(Usage(calls=1))
        ...     part.cancel()
        >>> part.usage.calls, run.usage.calls, run.cancelled
        (1, 2, False)
        """
        part = _Part(self)
        for name in ("_lock", "example", "observers", "sink", "span", "trace", "trial"):
            setattr(part, name, getattr(self, name))

        def wake() -> None:
            part.cancel(self._reason)

        self.on_cancel(wake)
        try:
            yield part
        finally:
            self.off_cancel(wake)

    def pause(self, seconds: float) -> None:
        """Sleep, but not past a `cancel`; then `check`."""
        cancelled = threading.Event()
        left = self.remaining()
        self.on_cancel(cancelled.set)
        try:
            cancelled.wait(seconds if left is None else min(seconds, left))
        finally:
            self.off_cancel(cancelled.set)
        self.check()

    def account(self, usage: Usage) -> None:
        """Count ``usage`` in."""
        with self._lock:
            self.usage.add(usage)

    def record(self, entry: TraceEntry) -> None:
        """Add ``entry`` to the trace."""
        self.trace.append(entry)

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self.started

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a Run lives in one process and cannot be pickled: send the program without its run "
            "(program.bind(...)), and let the worker make a Run of its own"
        )

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled else f"{self.elapsed:.3g} s"
        return f"<Run {self.rollout_id}: {state}, {len(self.trace)} calls traced, {self.usage}>"


class _Part(Run):
    """A part of the run ``whole``, which may be given less time later on."""

    __slots__ = ("_limit", "_whole")

    def __init__(self, whole: Run) -> None:
        self._whole = whole
        super().__init__(settings=whole.settings, budget=whole.budget, rollout_id=whole.rollout_id, seed=whole.seed)

    def account(self, usage: Usage) -> None:
        super().account(usage)
        self._whole.account(usage)

    @property
    def deadline(self) -> Deadline | None:  # an attribute elsewhere, for its speed
        limit, whole = self._limit, self._whole.deadline
        return whole if limit is None or (whole is not None and whole.at < limit.at) else limit

    @deadline.setter
    def deadline(self, deadline: Deadline | None) -> None:
        self._limit = deadline
