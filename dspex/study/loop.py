"""Ask, run, tell, and again: the search over an objective that is a plain function."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dspex.callbacks.observed import Observed
from dspex.errors import BudgetExceeded, StudyError, TrialPruned, is_infrastructure
from dspex.execution import Budget, context, current, in_thread, map_async, map_threads, run_blocking
from dspex.execution.processes import this_process
from dspex.study import queue, telling
from dspex.study.progress import Progress
from dspex.study.stopping import MaxTrialsCallback
from dspex.trials import FrozenTrial, TrialState
from dspex.variables.domain import plain_number

if TYPE_CHECKING:
    from dspex.callbacks import Span
    from dspex.study.study import Study
    from dspex.study.trial import Trial

__all__ = ["aask", "aoptimize", "optimize"]

_logger = logging.getLogger("dspex.study")

_LOOK_AGAIN = 1.0
"""Seconds between two looks at what other processes have come to."""

AskedT = TypeVar("AskedT", bound="Trial | None")
Objective = Callable[["Trial"], Any]
Callback = Callable[["Study", FrozenTrial], None]


def optimize(study: Study, objective: Objective, *, n_jobs: int, **options: Any) -> None:
    """See `Study.optimize`."""
    if inspect.iscoroutinefunction(objective):
        run_blocking(aoptimize(study, objective, n_jobs=n_jobs, **options))
        return
    with _Search(study, objective, n_jobs, **options) as search:
        if search.n_jobs == 1:
            for _ in search.tickets():
                search.run_one()
        else:
            # After an error the trials that have begun are finished, and it is raised then.
            try:
                map_threads(lambda _: search.run_one(), search.tickets(), concurrency=search.n_jobs)
            except BaseException:
                search.leave()  # after Ctrl-C the threads go on
                raise


async def aoptimize(study: Study, objective: Objective, *, n_jobs: int, **options: Any) -> None:
    """See `Study.aoptimize`."""
    with _Search(study, objective, n_jobs, **options) as search:
        await map_async(lambda _: search.arun_one(), search.tickets(), concurrency=search.n_jobs)


def ends_by_itself() -> None:
    """What makes a thread end that is telling of a trial: nothing. A task that is cancelled waits for it, because what
    the trial has cost would be lost if the process ended before it is written down."""


async def aask(study: Study, ask: Callable[[], AskedT]) -> AskedT:
    """What ``ask`` gives, asked for on a thread; a trial that nobody waits for any more is put in the queue."""
    lock = threading.Lock()
    asked: list[AskedT] = []
    abandoned = False

    def on_thread() -> AskedT:
        trial = ask()
        with lock:
            asked.append(trial)
            if abandoned:
                put_back()
        return trial

    def put_back() -> None:
        for trial in asked:
            if trial is not None:
                study.requeue(trial)

    try:
        return await in_thread(on_thread)
    except asyncio.CancelledError:
        with lock:
            abandoned = True  # the thread goes on, and the trial that it asks for would be nobody's
            put_back()
        raise


class _Search:
    """One call of `optimize`, shared by its workers."""

    def __init__(
        self,
        study: Study,
        objective: Objective,
        n_jobs: int,
        *,
        n_trials: int | None,
        timeout: float | None,
        catch: type[Exception] | Iterable[type[Exception]],
        callbacks: Iterable[Callback] | None,
        budget: Budget | None,
        show_progress_bar: bool,
    ) -> None:
        n_trials, n_jobs, timeout = map(plain_number, (n_trials, n_jobs, timeout))
        _check(objective, n_trials, timeout, n_jobs, budget)
        self.study = study
        self.objective = objective
        self.catch = _exceptions(catch)
        self.callbacks = _functions(callbacks)
        self.budget = budget
        self.timeout = timeout
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self._progress = Progress(n_trials, timeout) if show_progress_bar else None
        self._ended = False
        self._turn = threading.Lock()
        self._choosing = study._mirror.choosing
        self._progress_made = study._mirror.chosen
        self._running: set[Trial] = set()
        self._was_put_back: set[Trial] = set()
        self._left: Iterator[Any] = itertools.repeat(None) if n_trials is None else iter(range(n_trials))
        self._until = math.inf

    def __enter__(self) -> Self:
        study = self.study
        study._stop.clear()
        study.stopped = ""
        self._until = math.inf if self.timeout is None else time.monotonic() + self.timeout
        if self.budget is not None:
            self.budget.start()
        study.requeue_interrupted()
        for callback in self.callbacks:
            if isinstance(callback, MaxTrialsCallback):
                callback.look(study)  # there may be enough already
        if self._progress is not None:
            self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.__exit__(kind, error, trace)
        if error is not None:
            self.study.stopped = f"{type(error).__name__}: {error}"
        elif not self.study.stopped:
            self.study.stopped = f"n_trials={self.n_trials} were run"

    def tickets(self) -> Iterator[None]:
        """One for each trial that may be begun."""
        while not self._over():
            yield

    def end(self, reason: str) -> None:
        """Lets no further trial begin."""
        self.study.stopped = self.study.stopped or reason
        with self._choosing:
            self._ended = True
            self._progress_made.notify_all()

    def _over(self) -> bool:
        # The last ones that were allowed may still wait for their turn, so this is no end.
        return self._halted() or next(self._left, self) is self

    def _halted(self) -> bool:
        if self._ended or self.study._stop.is_set():
            return True
        if time.monotonic() >= self._until:
            self.end(f"the timeout of {self.timeout:g} s was over")
        elif self.budget is not None and self.budget.exhausted:
            self.end(f"the budget was used up: {self.budget!r}")
        return self._ended

    def run_one(self) -> None:
        """Asks for a trial, runs the objective and tells what came of it."""
        with self._ending_all(), self._holding() as held:
            trial = self._ask(held)
            if trial is None:
                return
            with self._observed(trial) as span:
                with self._judging() as judge:
                    judge.value = self.objective(trial)
                self._finish(trial, judge, span)

    async def arun_one(self) -> None:
        """`run_one`, awaiting the objective."""
        with self._ending_all(), self._holding() as held:
            trial = await aask(self.study, lambda: self._ask([]))
            if trial is None:
                return
            held.append(trial)  # here: one that nobody waited for has been put back
            with self._observed(trial) as span:
                with self._judging() as judge:
                    judge.value = self.objective(trial)
                    if inspect.isawaitable(judge.value):
                        judge.value = await judge.value
                await in_thread(self._finish, trial, judge, span, stop=ends_by_itself)

    @contextmanager
    def _ending_all(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.end(f"{type(error).__name__}: {error}")
            raise

    def _ask(self, held: list[Trial]) -> Trial | None:
        # One after the other, so that nobody asks between another one's look and ask.
        study = self.study
        with self._turn:
            with self._choosing:
                while not self._halted() and self._nothing_to_try():
                    if self._running:
                        self._progress_made.wait()  # what runs may come to variables that nobody knew
                    elif study.sampler.avoid_premature_stop and self._others_run():
                        self._progress_made.wait(_LOOK_AGAIN)
                    else:
                        self.end(f"{type(study.sampler).__name__} has nothing new left to try")
                if self._halted():
                    return None
            held.append(study.ask())
            with self._choosing:
                self._running.update(held)
            return held[0]

    def _nothing_to_try(self) -> bool:
        study = self.study
        if not study.sampler.exhausted(study.view):
            return False
        study._mirror.sync()  # what other processes have come to since
        return not study._mirror.waiting and study.sampler.exhausted(study.view)

    def _others_run(self) -> bool:
        """Whether trials of other processes are running, or have just been put back, as their process is gone."""
        mirror = self.study._mirror
        if self.study.requeue_interrupted():
            mirror.sync()
        here = this_process()
        return bool(mirror.waiting) or any(mirror.log[number].owner != here for number in mirror.running)

    @contextmanager
    def _holding(self) -> Iterator[list[Trial]]:
        """The trial that one worker runs, from its asking on."""
        held: list[Trial] = []
        try:
            yield held
        except BaseException as error:
            if not isinstance(error, Exception):
                self.study._mirror.forget()
            # Ctrl-C, a storage that cannot be written, or a callback's error: a trial that is not finished is nobody's.
            for trial in held:
                self._put_back(trial)
            raise
        finally:
            with self._choosing:
                self._running.difference_update(held)
                self._progress_made.notify_all()

    def leave(self) -> None:
        """Puts the trials that are still running back in the queue; what their threads come to is dropped."""
        self.end("it was left")
        with self._turn:  # so that none is being asked for
            with self._choosing:
                left = sorted(self._running, key=lambda trial: trial.number)
                self._running.clear()
            for trial in left:
                self._put_back(trial)

    def _observed(self, trial: Trial) -> Observed:
        attributes = {"trial": trial.number, "study": self.study.study_name}
        name = f"trial {trial.number}"
        return Observed(current().callbacks, "trial", name, inputs=trial.params, attributes=attributes)

    @contextmanager
    def _judging(self) -> Iterator[_Outcome]:
        outcome = _Outcome()
        try:
            with nullcontext() if self.budget is None else context(budget=self.budget):
                yield outcome
        except Exception as error:
            outcome.error = error

    def _finish(self, trial: Trial, outcome: _Outcome, span: Span) -> None:
        if trial not in self._running:
            return  # it was put back, and may be running again
        error = outcome.error
        if not isinstance(error, TrialPruned):
            span.error = error
        if error is None:
            finished = self._tell(trial, outcome.value)
        elif isinstance(error, TrialPruned):
            told = telling.find(self.study, trial.number)
            finished = told if told.state.is_finished else self.study.tell(trial, state=TrialState.PRUNED)
        elif isinstance(error, BudgetExceeded):
            # Not the trial's fault: it goes on, with what it has paid for, when there is budget again.
            _logger.info("Trial %d is put back: %s", trial.number, error)
            self._put_back(trial)
            self.end(f"BudgetExceeded: {error}")
            return
        else:
            reason = f"{type(error).__name__}: {error}"
            fatal = not isinstance(error, self.catch)
            if fatal:
                self.end(reason)  # before the trial is told, as others might begin meanwhile
            finished = telling.fail(trial, reason=reason, infrastructure=is_infrastructure(error))
            if fatal:
                raise error
        span.outputs = finished
        for callback in self.callbacks:
            callback(self.study, finished)
        if self._progress is not None:
            self._progress.advance(finished, self.study.directions)

    def _put_back(self, trial: Trial) -> None:
        if trial not in self._was_put_back:  # it may be another's by now
            self._was_put_back.add(trial)
            queue.give_back(self.study, trial.frozen)

    def _tell(self, trial: Trial, value: Any) -> FrozenTrial:
        try:
            return self.study.tell(trial, value)
        except StudyError as error:
            told = telling.find(self.study, trial.number)
            if told.state.is_finished or trial not in self._running:
                return told  # the objective told it itself, or it was put back
            finished = telling.fail(trial, reason=f"the objective returned {value!r} ({type(value).__name__})")
            if isinstance(error, self.catch):
                return finished
            count = len(self.study.directions)
            wanted = "a number" if count == 1 else f"{count} numbers, one for each objective,"
            raise StudyError(
                f"the objective returned {value!r} ({type(value).__name__}) in trial {trial.number}: "
                f"{error}. Return {wanted} or raise TrialPruned"
            ) from error


class _Outcome:
    """What an objective returned or raised."""

    value: Any = None
    error: Exception | None = None


def _check(objective: object, n_trials: object, timeout: object, n_jobs: object, budget: object) -> None:
    if not callable(objective):
        raise StudyError(
            f"objective must be a function of a trial, got {objective!r} ({type(objective).__name__}); "
            "write study.optimize(lambda trial: ..., n_trials=100)"
        )
    if n_trials is not None:
        _whole("n_trials", n_trials, 0, "None for no limit")
    _whole("n_jobs", n_jobs, 1, "1")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0):
        raise StudyError(f"timeout must be a number of seconds > 0 or None, got {timeout!r} ({type(timeout).__name__})")
    if budget is not None and not isinstance(budget, Budget):
        raise StudyError(
            f"budget must be a Budget or None, got {budget!r} ({type(budget).__name__}); write budget=Budget(usd=2.0)"
        )


def _whole(name: str, value: object, least: int, otherwise: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise StudyError(
            f"{name} must be a whole number >= {least}, got {value!r} ({type(value).__name__}); write {name}=... "
            f"or {otherwise}"
        )


def _exceptions(catch: object) -> tuple[type[Exception], ...]:
    listed: Any = (catch,) if isinstance(catch, type) or not isinstance(catch, Iterable) else tuple(catch)
    if not all(isinstance(one, type) and issubclass(one, Exception) for one in listed):
        raise StudyError(
            f"catch must be an exception type or several, got {catch!r} ({type(catch).__name__}); write "
            "catch=(ValueError, KeyError)"
        )
    found: tuple[type[Exception], ...] = listed
    return found


def _functions(callbacks: object) -> tuple[Callback, ...]:
    listed: Any = () if callbacks is None else tuple(callbacks) if isinstance(callbacks, Iterable) else (None,)
    if not all(callable(one) for one in listed):
        raise StudyError(
            f"callbacks must be a list of functions, got {callbacks!r} ({type(callbacks).__name__}); write "
            "callbacks=[lambda study, trial: ...]"
        )
    for one in listed:
        if inspect.iscoroutinefunction(one) or inspect.iscoroutinefunction(one.__call__):
            raise StudyError(
                f"callbacks must be ordinary functions, and {one!r} is async; what it awaits belongs in the objective"
            )
    found: tuple[Callback, ...] = listed
    return found
