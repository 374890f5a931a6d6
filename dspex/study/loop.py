"""Ask, run, tell, and again: the search over an objective that is a plain function."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dspex.errors import BudgetExceeded, StudyError, TrialPruned
from dspex.execution import Budget, context, map_threads
from dspex.study import telling
from dspex.study.trial import Trial
from dspex.trials import FrozenTrial, TrialState

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["optimize"]

_logger = logging.getLogger("dspex.study")

Objective = Callable[[Trial], "float | Sequence[float]"]
Callback = Callable[["Study", FrozenTrial], None]


def optimize(
    study: Study,
    objective: Objective,
    *,
    n_trials: int | None,
    timeout: float | None,
    n_jobs: int,
    catch: type[Exception] | Iterable[type[Exception]],
    callbacks: Iterable[Callback] | None,
    budget: Budget | None,
) -> None:
    """See `Study.optimize`."""
    _check(objective, n_trials, timeout, n_jobs, budget)
    search = _Search(study, objective, n_trials, timeout, _exceptions(catch), _functions(callbacks), budget)
    study.requeue_interrupted()
    if n_jobs == 1:
        for _ in search.tickets():
            search.run_one()
        return
    # After an error the trials that have begun are finished, and it is raised then.
    map_threads(lambda _: search.run_one(), search.tickets(), concurrency=n_jobs)


class _Search:
    """One call of `optimize`, shared by its workers."""

    def __init__(
        self,
        study: Study,
        objective: Objective,
        n_trials: int | None,
        timeout: float | None,
        catch: tuple[type[Exception], ...],
        callbacks: tuple[Callback, ...],
        budget: Budget | None,
    ) -> None:
        self.study = study
        self.objective = objective
        self.catch = catch
        self.callbacks = callbacks
        self.budget = budget
        self._ended = False
        self._left: Iterator[Any] = itertools.repeat(None) if n_trials is None else iter(range(n_trials))
        self._until = math.inf if timeout is None else time.monotonic() + timeout
        study._stop.clear()
        if budget is not None:
            budget.start()

    def tickets(self) -> Iterator[None]:
        """One for each trial that may be begun."""
        while self._goes_on():
            yield

    def end(self) -> None:
        """Lets no further trial begin."""
        self._ended = True

    def _goes_on(self) -> bool:
        if self._ended or self.study._stop.is_set() or time.monotonic() >= self._until:
            return False
        if self.budget is not None and self.budget.exhausted:
            return False
        return next(self._left, self) is not self

    def run_one(self) -> None:
        """Asks for a trial, runs the objective and tells what came of it."""
        try:
            self._run_one()
        except BaseException:
            self.end()
            raise

    def _run_one(self) -> None:
        trial = self.study.ask()
        try:
            value: Any = self._call(trial)
        except TrialPruned:
            finished = self.study.tell(trial, state=TrialState.PRUNED)
        except BudgetExceeded as error:
            # Not the trial's fault: it goes on, with what it has paid for, when there is budget again.
            _logger.info("Trial %d is put back: %s", trial.number, error)
            self.study.requeue(trial)
            self.end()
            return
        except Exception as error:
            finished = telling.fail(trial, reason=f"{type(error).__name__}: {error}")
            if not isinstance(error, self.catch):
                raise
        except BaseException:
            self.study.requeue(trial)  # Ctrl-C, or the interpreter is going down: nobody has judged the trial
            raise
        else:
            finished = self._tell(trial, value)
        for callback in self.callbacks:
            callback(self.study, finished)

    def _call(self, trial: Trial) -> Any:
        if self.budget is None:
            return self.objective(trial)
        with context(budget=self.budget):
            return self.objective(trial)

    def _tell(self, trial: Trial, value: Any) -> FrozenTrial:
        try:
            return self.study.tell(trial, value)
        except StudyError as error:
            if trial.frozen.state.is_finished:
                return trial.frozen  # the objective told it itself
            finished = telling.fail(trial, reason=f"the objective returned {value!r} ({type(value).__name__})")
            if isinstance(error, self.catch):
                return finished
            raise StudyError(
                f"the objective returned {value!r} ({type(value).__name__}) in trial {trial.number}: "
                f"{error}. Return one number for each of the {len(self.study.directions)} objective(s), or "
                "raise TrialPruned"
            ) from error


def _check(objective: object, n_trials: object, timeout: object, n_jobs: object, budget: object) -> None:
    if not callable(objective):
        raise StudyError(
            f"objective must be a function of a trial, got {objective!r} ({type(objective).__name__}); "
            "write study.optimize(lambda trial: ..., n_trials=100)"
        )
    _whole("n_trials", n_trials, "None for no limit", none=True)
    _whole("n_jobs", n_jobs, "1", none=False)
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0):
        raise StudyError(f"timeout must be a number of seconds > 0 or None, got {timeout!r} ({type(timeout).__name__})")
    if budget is not None and not isinstance(budget, Budget):
        raise StudyError(
            f"budget must be a Budget or None, got {budget!r} ({type(budget).__name__}); write budget=Budget(usd=2.0)"
        )


def _whole(name: str, value: object, otherwise: str, *, none: bool) -> None:
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise StudyError(
            f"{name} must be a whole number >= 1, got {value!r} ({type(value).__name__}); write {name}=... "
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
    found: tuple[Callback, ...] = listed
    return found
