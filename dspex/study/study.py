"""A study: what is asked for, what was told, and what is best so far."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from dspex.data import Evaluation
from dspex.errors import StudyError
from dspex.execution import Budget, in_thread
from dspex.pruners import Pruner
from dspex.samplers import Sampler
from dspex.samplers.branches import domain_of
from dspex.storage import Storage
from dspex.study import asking, loop, queue, telling
from dspex.study.best import best_of, pareto_front
from dspex.study.display import study_html
from dspex.study.frame import ATTRIBUTES, trials_dataframe
from dspex.study.lead import lead
from dspex.study.mirror import Mirror
from dspex.study.owners import Heartbeat
from dspex.study.pools import StudyPool
from dspex.study.trial import Trial
from dspex.trials import FrozenTrial, Ledger, StudyDirection, StudyRecord, StudyView, TrialState
from dspex.trials.checks import as_plain
from dspex.trials.params import resolved
from dspex.variables import Domain, Space, VariableState
from dspex.variables.messages import counted
from dspex.variables.readonly import ReadOnlyDict

if TYPE_CHECKING:
    import pandas

__all__ = ["Study"]


class Study:
    """A search: trials that were asked for, their evaluations, and the sampler that chooses the next ones.

    ``stopped`` says what ended the last `optimize` of this process, such as ``"n_trials=20 were run"``.

    Made by `create_study` and `load_study`. Thread-safe; several processes may work on one study through a
    shared storage, each with its own `Study`.

    >>> from dspex.study import create_study
    >>> study = create_study(direction="maximize")
    >>> study.optimize(lambda trial: -((trial.suggest_float("x", -5, 5) - 2) ** 2), n_trials=20)
    >>> -5 <= study.best_params["x"] <= 5, len(study.trials)
    (True, 20)
    """

    def __init__(
        self,
        record: StudyRecord,
        storage: Storage,
        *,
        sampler: Sampler,
        pruner: Pruner,
        space: Space | None = None,
    ) -> None:
        self.storage = storage
        self.sampler = sampler
        self.pruner = pruner
        self.space = space
        self._mirror = Mirror(storage, record, space)
        self._heartbeat = Heartbeat(storage)
        self._stop = threading.Event()
        self.stopped = ""
        self._mirror.sync()
        self._seed_pools()

    def _seed_pools(self) -> None:
        # A program's own prompts and demos are its first candidates.
        if self.space is not None:
            for path in self.space.open_ended:
                pool = self.pool(path)
                default = self.space[path].default
                if default is not None and not len(pool):
                    pool.add(default, source="default")

    # What it is

    @property
    def study_name(self) -> str:
        """The name it is found by in its storage."""
        return self._mirror.record.name

    @property
    def directions(self) -> list[StudyDirection]:
        """Which way each objective is to go."""
        return list(self._mirror.record.directions)

    @property
    def direction(self) -> StudyDirection:
        """Which way the only objective is to go.

        Raises:
            StudyError: when there are several.
        """
        self._only_objective("direction", "directions")
        return self._mirror.record.directions[0]

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """What `set_user_attr` has set, by whichever process."""
        self._mirror.sync_attrs()
        return ReadOnlyDict(self._mirror.user_attrs)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Notes something of one's own about the study; the value has to be plain data."""
        self.storage.set_study_attr(self._mirror.record.id, "user", key, as_plain(value))

    @property
    def system_attrs(self) -> Mapping[str, Any]:
        """What dspex itself has noted about the study, in whichever process."""
        self._mirror.sync_attrs()
        return ReadOnlyDict(self._mirror.system_attrs)

    def set_system_attr(self, key: str, value: Any) -> None:
        """Notes something for a search that uses the study, and not for the user; it has to be plain data.

        >>> from dspex.study import create_study
        >>> study = create_study()
        >>> study.set_system_attr("round", 3)
        >>> study.system_attrs["round"], "round" in study.user_attrs
        (3, False)
        """
        self.storage.set_study_attr(self._mirror.record.id, "system", key, as_plain(value))

    @property
    def metric_names(self) -> list[str] | None:
        """What the objectives are called, in the order of the directions, or ``None`` when nobody has said."""
        names = self.system_attrs.get("metric_names")
        return None if names is None else list(names)

    def set_metric_names(self, metric_names: Sequence[str]) -> None:
        """Says what the objectives are called, in tables and plots.

        Raises:
            StudyError: when there is not one name for each direction.
        """
        given = isinstance(metric_names, Iterable) and not isinstance(metric_names, str)
        names = list(metric_names) if given else []
        if not all(isinstance(name, str) for name in names) or not len(names) == len(set(names)) == len(
            self.directions
        ):
            raise StudyError(
                f"metric_names must be a list of {len(self.directions)} different names, one for each of "
                f"{', '.join(self.directions)}, got {metric_names!r}"
            )
        self.storage.set_study_attr(self._mirror.record.id, "system", "metric_names", names)

    # What came of it

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials by number."""
        return self.get_trials()

    def get_trials(self, *, states: Iterable[TrialState] | None = None) -> list[FrozenTrial]:
        """All trials by number, or those in ``states``."""
        self._mirror.sync()
        trials = self._mirror.log.snapshot()
        if states is None:
            return trials
        wanted = set(states)
        return [trial for trial in trials if trial.state in wanted]

    @property
    def ledger(self) -> Ledger:
        """All evaluations."""
        self._mirror.sync_ledger()
        return self._mirror.ledger

    @property
    def view(self) -> StudyView:
        """What samplers and pruners see of the study, as it is now; always the same object."""
        self._mirror.sync()
        return self._mirror.view

    @property
    def best_trial(self) -> FrozenTrial:
        """The completed, feasible trial with the best value.

        Raises:
            StudyError: when there is none, or the study has several objectives.
        """
        self._only_objective("best_trial", "best_trials")
        return best_of(self.trials, self.direction)

    @property
    def best_trials(self) -> list[FrozenTrial]:
        """The Pareto set: the completed, feasible trials that no other one dominates."""
        return pareto_front(self.trials, self.directions)

    @property
    def best_value(self) -> float:
        """The value of `best_trial`."""
        value = self.best_trial.value
        assert value is not None
        return value

    @property
    def best_params(self) -> dict[str, Any]:
        """The values of `best_trial`, prompts and demos themselves included."""
        return self.values(self.best_trial)

    def values(self, trial: FrozenTrial | Trial) -> dict[str, Any]:
        """The values of a trial by path, with the items of pools in place of their ids."""
        frozen = trial.frozen if isinstance(trial, Trial) else trial
        return resolved(frozen.params, frozen.distributions, self._mirror.pools)

    def state(self, trial: FrozenTrial | Trial) -> VariableState:
        """The values of a trial as a state of the study's space, to bind a program to.

        Raises:
            StudyError: when the study declares no space.
        """
        if self.space is None:
            raise StudyError(
                "the study declares no space, so a trial has no state; read study.values(trial), or "
                "declare one: create_study(space=program.space())"
            )
        return self.space.state(self.values(trial))

    def trials_dataframe(self, attrs: Sequence[str] = ATTRIBUTES, multi_index: bool = False) -> pandas.DataFrame:
        """One row a trial, as a pandas table (the ``pandas`` extra).

        Columns are named ``value`` (``values_0``, ... of several objectives, ``values_NAME`` where objectives have
        names), ``params_NAME``, ``user_attrs_NAME`` and so on, or with ``multi_index`` by pairs such as
        ``("params", NAME)``. Prompts and demos are themselves in it, not their ids.

        Raises:
            StudyError: when ``attrs`` names what a trial does not have.
        """
        return trials_dataframe(self, attrs, multi_index)

    # Ask and tell

    def ask(
        self,
        space: Space | Mapping[str, Domain[Any]] | None = None,
        *,
        fixed: Mapping[str, Any] | None = None,
        user_attrs: Mapping[str, Any] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> Trial:
        """The next trial: one that was queued, or one whose values the sampler chooses.

        With a space (default: the study's own) all values are chosen now; without one they are chosen as the
        trial suggests them. ``fixed`` gives values that are not to be chosen. ``user_attrs`` are set on the trial,
        and ``system_attrs``, which are for searches that use the study; a new one never is in the storage without them.

        Raises:
            StudyError: when no values can be chosen; the trial is told as failed then.
            StateError: when a fixed value does not lie in its domain.
        """
        if space is not None and not isinstance(space, Space):
            space = Space.of(**space)
        return asking.ask(
            self, self.space if space is None else space, fixed or {}, user_attrs or {}, system_attrs or {}
        )

    def tell(
        self,
        trial: Trial | FrozenTrial | int,
        values: float | Sequence[float] | None = None,
        state: TrialState | None = None,
        skip_if_finished: bool = False,
        *,
        infrastructure: bool = False,
    ) -> FrozenTrial:
        """Finishes a trial with its value, or its values in the order of the directions.

        A NaN finishes it as failed, as does ``state=TrialState.FAIL``. ``state=TrialState.PRUNED`` takes the
        last reported value.

        Samplers learn from a failure: what is like the trial may fail too. ``infrastructure=True`` says that the
        world (network, provider, machine) failed and not what was tried, so they leave it out of account. `optimize`
        tells by the exception (`DspexError.infrastructure`, `ConnectionError`, `TimeoutError`).

        Raises:
            StudyError: when the trial has finished already (unless ``skip_if_finished``), or the values are no
                numbers or not as many as there are directions; the trial is left as it is then.
        """
        return telling.tell(
            self, trial, values, state=state, skip_if_finished=skip_if_finished, infrastructure=infrastructure
        )

    async def aask(
        self,
        space: Space | Mapping[str, Domain[Any]] | None = None,
        *,
        fixed: Mapping[str, Any] | None = None,
        user_attrs: Mapping[str, Any] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> Trial:
        """`ask`, without blocking the event loop; a trial that nobody waits for any more is put in the queue."""
        ask = partial(self.ask, space, fixed=fixed, user_attrs=user_attrs, system_attrs=system_attrs)
        return await loop.aask(self, ask)

    async def atell(
        self,
        trial: Trial | FrozenTrial | int,
        values: float | Sequence[float] | None = None,
        state: TrialState | None = None,
        skip_if_finished: bool = False,
        *,
        infrastructure: bool = False,
    ) -> FrozenTrial:
        """`tell`, without blocking the event loop; when it is cancelled, it waits until the trial is written down."""
        return await in_thread(
            partial(
                self.tell,
                trial,
                values,
                state=state,
                skip_if_finished=skip_if_finished,
                infrastructure=infrastructure,
            ),
            stop=loop.ends_by_itself,
        )

    def record(self, trial: Trial | FrozenTrial | int | None, evaluation: Evaluation) -> Evaluation:
        """Writes one row of the ledger and gives it back with its trial and fingerprint filled in.

        The row is in the storage when the call returns. ``None`` stands for no trial.

        Raises:
            StudyError: when the trial has been measured on this example and rollout already.
        """
        return self.record_many(trial, [evaluation])[0]

    def record_many(
        self, trial: Trial | FrozenTrial | int | None, evaluations: Sequence[Evaluation]
    ) -> list[Evaluation]:
        """Writes rows of the ledger, all of them or none; see `record`."""
        number, fingerprint = self._identify(trial, named=all(row.fingerprint for row in evaluations))
        rows = [attrs.evolve(row, trial=number, fingerprint=row.fingerprint or fingerprint) for row in evaluations]
        self.storage.append_evaluations(self._mirror.record.id, rows)
        return rows

    def _identify(self, trial: Trial | FrozenTrial | int | None, *, named: bool) -> tuple[int | None, str]:
        """The number of a trial, and unless the rows have been ``named`` its fingerprint."""
        if trial is None:
            return None, ""
        if isinstance(trial, Trial):
            telling.find(self, trial)
            return trial.number, "" if named else trial.fingerprint
        frozen = telling.find(self, trial, fresh=not named)
        return frozen.number, "" if named else telling.fingerprint_in(self, frozen)

    # The search

    def optimize(
        self,
        objective: Callable[[Trial], float | Sequence[float]],
        n_trials: int | None = None,
        timeout: float | None = None,
        n_jobs: int = 1,
        catch: type[Exception] | Iterable[type[Exception]] = (),
        callbacks: Iterable[Callable[[Study, FrozenTrial], None]] | None = None,
        *,
        budget: Budget | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        """Asks, runs ``objective`` and tells, until ``n_trials`` more trials, ``timeout`` seconds, or
        ``budget``; up to ``n_jobs`` at once, on threads, or as tasks when ``objective`` is async.

        What ended it is in `stopped` then. Trials that a killed process has left behind are run again first, with
        the same values. An exception of the objective fails its trial and ends the search, unless its type is in
        ``catch``. Every model call that the objective makes counts against ``budget``; the trial that runs into it
        is put back in the queue, to be finished by a later call, and Ctrl-C puts back all that run. `stop` ends the
        search after the trials that are running, as do the callbacks in `dspex.study.stopping`.

        Raises:
            StudyError: when an argument makes no sense, or the objective returns what is no number.
        """
        loop.optimize(
            self,
            objective,
            n_trials=n_trials,
            timeout=timeout,
            n_jobs=n_jobs,
            catch=catch,
            callbacks=callbacks,
            budget=budget,
            show_progress_bar=show_progress_bar,
        )

    async def aoptimize(
        self,
        objective: Callable[[Trial], Any],
        n_trials: int | None = None,
        timeout: float | None = None,
        n_jobs: int = 1,
        catch: type[Exception] | Iterable[type[Exception]] = (),
        callbacks: Iterable[Callable[[Study, FrozenTrial], None]] | None = None,
        *,
        budget: Budget | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        """`optimize`, awaiting; an objective that is not async runs on the event loop.

        Cancelling it puts the trials that are running back in the queue.
        """
        await loop.aoptimize(
            self,
            objective,
            n_trials=n_trials,
            timeout=timeout,
            n_jobs=n_jobs,
            catch=catch,
            callbacks=callbacks,
            budget=budget,
            show_progress_bar=show_progress_bar,
        )

    def stop(self, reason: str = "stop() was called") -> None:
        """Ends the running `optimize` after the trials that are running now; ``reason`` is in `stopped` then."""
        self.stopped = self.stopped or reason
        self._stop.set()

    def enqueue_trial(
        self,
        params: Mapping[str, Any],
        user_attrs: Mapping[str, Any] | None = None,
        skip_if_exists: bool = False,
    ) -> None:
        """Queues a trial with some or all of its values given; the next `ask` takes it.

        ``skip_if_exists`` leaves it out when a trial with these values is queued or has been run.

        Raises:
            StateError: when the study declares a space, and it has no such path or the value does not fit it.
            StudyError: when the variable is not searched.
        """
        queue.enqueue(self, params, user_attrs=user_attrs or {}, skip_if_exists=skip_if_exists)

    def add_trial(self, trial: FrozenTrial) -> None:
        """Adds a trial that was run elsewhere; see `dspex.trials.create_trial`.

        Raises:
            StudyError: when it does not have a value for every direction, or a domain differs from the
            study's.
        """
        telling.add(self, [trial])

    def add_trials(self, trials: Iterable[FrozenTrial]) -> None:
        """Adds trials that were run elsewhere, all of them or none; see `add_trial`."""
        telling.add(self, list(trials))

    def interrupted(self) -> list[FrozenTrial]:
        """The running trials whose process is no longer there."""
        return queue.interrupted(self)

    def requeue(self, trial: FrozenTrial | Trial) -> None:
        """Puts a running trial back in the queue: the next `ask` runs it again, with its number and its
        values.

        The rows of the ledger that it has paid for stay its own, so that `study.ledger.lookup` finds them.
        """
        queue.requeue(self, trial.frozen if isinstance(trial, Trial) else trial)

    def requeue_interrupted(self) -> list[FrozenTrial]:
        """Puts the `interrupted` trials back in the queue and gives them back."""
        return queue.requeue_interrupted(self)

    def lead(self, *, on_wait: Callable[[str], object] | None = None) -> AbstractContextManager[None]:
        """Be the only one, of all threads and processes, that is in such a block of this study.

        Whoever comes second waits until the first has left, or until its process is no longer there. For searches
        whose next step depends on all steps before it; `ask` and `optimize` do not need it. ``on_wait`` is told once
        for which process it waits.

        Two things it cannot know. A leader on another machine counts as gone when its heartbeat has stopped for two
        minutes; if it was only suspended, it wakes up inside its block and goes on writing beside its successor. And
        a thread that the leader has started and waits for must not lead the same study: both would wait for ever.

        Raises:
            StudyError: when this thread is in such a block already, and would wait for itself.
        """
        return lead(self, on_wait=on_wait)

    def pool(self, path: str, domain: Domain[Any] | None = None) -> StudyPool:
        """The candidates of an open-ended variable.

        Raises:
            StudyError: when nothing says what the variable's domain is, or it is not open-ended.
        """
        if domain is None:
            domain = self._known_domain(path)
        if not domain.open_ended:
            raise StudyError(f"{path!r} is {domain!r}, which has no pool; pools are for Prompt and Demos")
        return StudyPool(self._mirror, self._mirror.open_pool(path, domain))

    def _known_domain(self, path: str) -> Domain[Any]:
        if path in self._mirror.pools:
            return self._mirror.pools[path].domain
        if self.space is not None and path in self.space:
            return domain_of(self.space, path)
        if path in self._mirror.domains:
            return self._mirror.domains[path][0]
        raise StudyError(
            f"no variable {path!r} is known to this study; write study.pool({path!r}, Prompt()) to say what it is"
        )

    def _only_objective(self, attribute: str, instead: str) -> None:
        count = len(self._mirror.record.directions)
        if count > 1:
            raise StudyError(f"the study has {count} objectives, so it has no {attribute}; write study.{instead}")

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Writes one self-contained HTML page about the study; see `dspex.visualization.report`."""
        # By its name, because visualization stands to the right of the study: it reads studies.
        written: Path = importlib.import_module("dspex.visualization").report(self, path)
        return written

    def _repr_html_(self) -> str:
        return study_html(self)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.storage.shared:
            raise StudyError(
                f"study {self.study_name!r} lives in this process's memory and cannot go to another process; "
                "create it with storage='sqlite:///study.db'"
            )
        return (_reopen, (self.study_name, self.storage, self.sampler, self.pruner, self.space))

    def __repr__(self) -> str:
        directions = ", ".join(self._mirror.record.directions)
        return f"<Study {self.study_name!r}: {counted(len(self._mirror.log), 'trial')}, {directions}>"


def _reopen(name: str, storage: Storage, sampler: Sampler, pruner: Pruner, space: Space | None) -> Study:
    return Study(storage.get_study(name), storage, sampler=sampler, pruner=pruner, space=space)
