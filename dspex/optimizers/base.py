"""`Optimizer`: the base of every strategy. Subclass it, write `search`, and the rest is given."""

from __future__ import annotations

import contextlib
import difflib
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.callbacks.observed import Observed
from dspex.data import Example, require_examples
from dspex.errors import BudgetExceeded, DefinitionError, StateError
from dspex.evaluate import Scorer, Terms
from dspex.execution import Budget, context, current
from dspex.lm.named import lm_named
from dspex.modules import Module
from dspex.optimizers.account import Account
from dspex.optimizers.describing import described
from dspex.optimizers.heldout import Heldout
from dspex.optimizers.identity import Identity, check_identity, remember_work, study_identity, study_name
from dspex.optimizers.options import option_names
from dspex.optimizers.reserve import Reserve
from dspex.optimizers.result import COMPLETE, OptimizationResult, ParetoPoint
from dspex.optimizers.splitting import Splits, split_for_search
from dspex.optimizers.task import Task
from dspex.optimizers.watching import ConsoleWatcher, Watcher
from dspex.proposers.checks import check_whole
from dspex.samplers import Sampler
from dspex.storage import Storage
from dspex.study import Study, create_study
from dspex.variables import ModelChoice, Space, VariableState

__all__ = ["DEFAULT_STORAGE", "Optimizer"]

DEFAULT_STORAGE = "sqlite:///.dspex/studies.db"
"""Where studies are kept when no storage is named: in the working directory, so that a search can be resumed."""

_INTERRUPTED = "interrupted"


class Optimizer(ABC):
    """A strategy over a program's space, a study's ledger and a budget.

    To write one, implement `search`; it returns the best state, or None for the best one it has had evaluated on the
    whole valset. Everything around it is the same for all: the splits, the study and its resumption, parallel
    evaluation, the hard budget, and the honest comparison on held-out examples.

    Args:
        concurrency: how many examples run at once.
        deadline: seconds that one example may take.
        retries: further tries of an example after an infrastructure error.
        failure_score: what a program gets that raised; 0 unless given. It has to be given when the first objective is
            minimized, where 0 would be the best there is.
        seed: of everything random; the same seed repeats the search.

    Example:
        >>> import dspex
        >>> class EachInTurn(dspex.Optimizer):
        ...     "Improve one variable after the other."
        ...     def search(self, task):
        ...         best = task.evaluate()
        ...         for path in task.space.tunable:
        ...             for value in task.candidates(path):
        ...                 scores = task.evaluate({**best.state.to_dict(), path: value})
        ...                 if task.is_better(scores.score, best.score):
        ...                     best = scores
        ...         return best.state
    """

    def __init__(
        self,
        *,
        concurrency: int = 8,
        deadline: float | None = None,
        retries: int = 2,
        failure_score: float | None = None,
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        for name, value in unknown.items():
            raise _unknown_option(type(self), name, value)
        check_whole("concurrency", concurrency, 1)
        check_whole("seed", seed, None)
        Terms(deadline=deadline, retries=retries, failure_score=0.0 if failure_score is None else failure_score)
        self.concurrency = concurrency
        self.deadline = deadline
        self.retries = retries
        self.failure_score = failure_score
        self.seed = seed

    @abstractmethod
    def search(self, task: Task) -> VariableState | None:
        """Find a good configuration with ``task.evaluate``.

        May be ended at any call by `BudgetExceeded`; let it pass, and the best so far is the result. Called again on
        the same study it should take the same steps, which then cost nothing.
        """

    def sampler(self) -> Sampler | None:
        """What ``task.ask()`` samples with; None is the study's default (TPE)."""
        return None

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the results: part of the identity of an unnamed study."""
        left_out = ("concurrency", "deadline", "retries", "watcher")
        own = {
            name: described(value, name)
            for name, value in vars(self).items()
            if name not in left_out and not name.startswith("_")
        }
        return {**own, "optimizer": type(self).__name__, "search": described(type(self), "search")}

    def optimize(
        self,
        program: Module,
        trainset: Sequence[Example],
        metric: Any,
        valset: Sequence[Example] | None = None,
        *,
        testset: Sequence[Example] | None = None,
        budget: Budget | None = None,
        objectives: Mapping[str, str] | None = None,
        study: str | Study | None = None,
        storage: str | Storage | None = DEFAULT_STORAGE,
        lm: Any = None,
        progress: bool | None = None,
        watcher: Watcher | None = None,
    ) -> OptimizationResult:
        """Search the program's open variables and compare the winner with the start on held-out examples.

        Running the same line again resumes: what the study has is not paid for twice. Running it twice at once is
        running it once: the second waits for the first, takes over if that is killed, and has the same result.

        Args:
            program: the program; it is not changed.
            trainset: examples to learn from, with their inputs marked. Without ``valset`` or ``testset`` they are
                also split for those: 30 % train, 35 % validation, 35 % held out, by a seeded shuffle.
            metric: ``metric(example, prediction[, trace])`` → float, bool, `Score` or a dict of objectives.
            valset: what configurations are scored on.
            testset: the held-out examples; the search never sees them.
            budget: the hard cap; on reaching it the best so far comes back. It counts over the whole study: what
                earlier runs of the same line have spent, in dollars, tokens, calls and seconds at work, is spent. What
                the held-out comparison needs is kept for it. A search that it has ended goes on under a larger one.
            objectives: name → ``"maximize"`` or ``"minimize"``, the most important first; default
                ``{"score": "maximize"}``. ``cost``, ``tokens``, ``calls`` and ``latency`` are measured.
            study: a study, or the name of one; None derives the name from program, data, metric, settings and
                model.
            storage: where the study is kept; None keeps it in memory.
            lm: the model to use instead of the configured one.
            progress: whether to show what goes on; None shows it on a terminal.
            watcher: hears what goes on, instead of the terminal.

        Raises:
            DataError: an empty or input-less trainset, or splits that share examples.
            DefinitionError: nothing to search, an unknown objective direction, an argument that cannot be meant.
            MetricError: the metric is wrong.
            BindingError: a capture of a module that cannot follow a copy.
        """
        if not isinstance(program, Module):
            raise DefinitionError(
                f"program must be a dspex.Module, got {program!r} ({type(program).__name__}); wrap a function in "
                "a Module's forward, or optimize it with dspex.create_study().optimize(function)"
            )
        directions = _checked_objectives(objectives)
        if self.failure_score is None and next(iter(directions.values())) == "minimize":
            raise DefinitionError(
                f"{next(iter(directions))!r} is minimized, so a program that raises must not score 0, which would "
                f"be the best; write for example {type(self).__name__}(failure_score=1.0)"
            )
        trainset = require_examples(trainset, name="trainset")
        splits = split_for_search(trainset, valset, testset, seed=self.seed)
        if not program.space().tunable:
            raise DefinitionError(
                f"{type(program).__name__} has nothing to search: all its variables are fixed. Open one, for "
                "example program.unfreeze('*.instructions'), or give a Domain: temperature=Float(0, 1)"
            )
        _check_models(program.space())
        if budget is not None and not isinstance(budget, Budget):
            raise DefinitionError(
                f"budget must be a dspex.Budget, got {budget!r} ({type(budget).__name__}); write for example "
                "budget=dspex.Budget(calls=500)"
            )
        with contextlib.ExitStack() as stack:
            if lm is not None:
                stack.enter_context(context(lm=lm))
            if watcher is None:
                watcher = ConsoleWatcher() if _shows(progress) else Watcher()
            stack.callback(watcher.close)
            opened, identity = self._open(program, metric, splits, directions, study, storage)
            watch = watcher
            stack.enter_context(
                opened.lead(on_wait=lambda owner: watch.phase(f"waiting for process {owner}, which is at this search"))
            )
            check_identity(opened, identity)
            stack.callback(remember_work, program, metric, identity)
            inputs = {"program": program, "trainset": splits.train, "valset": splits.validation}
            attributes = {"study": opened.study_name, "objectives": dict(directions)}
            name = type(self).__name__
            with Observed(current().callbacks, "optimizer", name, inputs=inputs, attributes=attributes) as span:
                span.outputs = result = self._optimize(program, metric, splits, budget, directions, opened, watcher)
                return result

    compile = optimize
    """DSPy's spelling of `optimize`."""

    def _open(
        self,
        program: Module,
        metric: Any,
        splits: Splits,
        directions: Mapping[str, str],
        study: str | Study | None,
        storage: str | Storage | None,
    ) -> tuple[Study, Identity]:
        settings = {**self.to_json(), "objectives": dict(directions)}
        identity = study_identity(program, metric, splits, settings, current().lm)
        if isinstance(study, Study):
            if list(study.directions) != list(directions.values()) or study.space is None:
                raise DefinitionError(
                    f"study {study.study_name!r} does not fit: it has the directions {', '.join(study.directions)} and "
                    f"{'no space' if study.space is None else 'a space'}, and the search has {directions!r}; give its "
                    "name instead, study='name', or make it with "
                    f"create_study(space=program.space(), directions={list(directions.values())!r})"
                )
            opened = study
        else:
            if storage == DEFAULT_STORAGE:
                with contextlib.suppress(FileExistsError):
                    _make_default_folder()
            opened = create_study(
                study_name=study or study_name(program, identity),
                storage=storage,
                sampler=self.sampler(),
                directions=list(directions.values()),
                space=program.space(),
                load_if_exists=True,
            )
        return opened, identity

    def _optimize(
        self,
        program: Module,
        metric: Any,
        splits: Splits,
        budget: Budget | None,
        objectives: Mapping[str, str],
        study: Study,
        watcher: Watcher,
    ) -> OptimizationResult:
        began = time.perf_counter()
        resumed_rows = len(study.ledger)
        terms = {
            "concurrency": self.concurrency,
            "deadline": self.deadline,
            "retries": self.retries,
            "failure_score": self.failure_score or 0.0,
            "budget": budget,
            "seed": self.seed,
        }
        heldout = Heldout(splits.heldout, Scorer(metric, ranked_by=objectives), study, terms)
        with Account(study, heldout.study, budget) as account:
            task = Task(
                program=program,
                metric=metric,
                trainset=splits.train,
                valset=splits.validation,
                study=study,
                account=account,
                reserve=(reserve := Reserve(budget, account, study, heldout)),
                objectives=objectives,
                terms=terms,
                watcher=watcher,
            )
            stopped, winner = self._search(task, reserve)
            start = task.state
            baseline = best = None
            if stopped != _INTERRUPTED:
                watcher.phase("comparing on held-out examples")
                baseline, best = heldout.compare(program, (start, winner), account.add)
                stopped = _INTERRUPTED if heldout.interrupted else stopped
            test = None
            kept_baseline = False
            if baseline is not None and best is not None:
                objective = next(iter(objectives))
                with contextlib.suppress(StateError):  # nothing was scored on both sides
                    test = best.compare(baseline, objective=objective, seed=self.seed)
                if test is not None and winner.fingerprint != start.fingerprint:
                    kept_baseline = task.sign * test.difference < 0
            if kept_baseline:
                winner = start
            return OptimizationResult(
                program=program.bind(winner),
                state=winner,
                start=start,
                study=study,
                optimizer=type(self).__name__,
                baseline=baseline,
                best=best,
                test=test,
                kept_baseline=kept_baseline,
                pareto=_front(task, objectives),
                objectives=dict(objectives),
                usage=account.usage(),
                budget=None if budget is None else budget.to_json(),
                seconds=time.perf_counter() - began,
                stopped=stopped,
                resumed_rows=resumed_rows,
            )

    def _search(self, task: Task, reserve: Reserve) -> tuple[str, VariableState]:
        """Why the search has ended, and its winner."""
        stopped = COMPLETE
        state: VariableState | None = None
        try:
            state = self.search(task)
        except BudgetExceeded as error:
            stopped = str(error)
            reserve.end(stopped)
        except KeyboardInterrupt:
            stopped = _INTERRUPTED
        finally:
            task.close()
        if state is not None and not isinstance(state, VariableState):
            raise StateError(
                f"{type(self).__name__}.search must return a VariableState or None, got {state!r} "
                f"({type(state).__name__}); return scores.state of the best task.evaluate(...)"
            )
        return stopped, state or task.best_state


def _front(task: Task, objectives: Mapping[str, str]) -> tuple[ParetoPoint, ...]:
    if len(objectives) < 2:
        return ()
    points = {}
    for trial in task.study.best_trials:
        state = task.study.state(trial)
        points[state.fingerprint] = ParetoPoint(state, dict(zip(objectives, trial.values or (), strict=True)))
    first = next(iter(objectives))
    return tuple(sorted(points.values(), key=lambda p: -task.sign * p.values[first]))


def _check_models(space: Space) -> None:
    # Here, because a name that stands for nothing would be found out only when other models have been paid.
    for path, entry in space.items():
        if isinstance(entry.domain, ModelChoice):
            for model in (*entry.domain.models, entry.default):
                if isinstance(model, str):
                    try:
                        lm_named(model)
                    except DefinitionError as error:
                        raise DefinitionError(f"{path} = {model!r}: {error}") from error


def _unknown_option(optimizer: type[Optimizer], name: str, value: Any) -> DefinitionError:
    made = optimizer.__name__
    if name == "metric":
        right = f"the metric goes to the search: {made}().optimize(program, trainset, metric)"
    else:
        taken = option_names(optimizer)
        close = difflib.get_close_matches(name, taken, n=1)
        right = f"did you mean {close[0]}=?" if close else f"it takes {', '.join(taken)}"
    return DefinitionError(f"{made} takes no {name}={value!r} ({type(value).__name__}); {right}")


def _checked_objectives(objectives: Mapping[str, str] | None) -> dict[str, str]:
    if objectives is None:
        return {"score": "maximize"}
    if not isinstance(objectives, Mapping) or not objectives:
        raise DefinitionError(
            f"objectives must be a dict of directions, got {objectives!r} ({type(objectives).__name__}); write "
            'for example objectives={"score": "maximize", "cost": "minimize"}'
        )
    for name, direction in objectives.items():
        if direction not in ("maximize", "minimize"):
            raise DefinitionError(
                f"objectives[{name!r}] must be 'maximize' or 'minimize', got {direction!r} ({type(direction).__name__})"
            )
    return dict(objectives)


def _shows(progress: bool | None) -> bool:
    if progress is not None:
        return progress
    import sys

    return sys.stderr.isatty()


def _make_default_folder() -> None:
    from pathlib import Path

    Path(".dspex").mkdir()
    Path(".dspex/.gitignore").write_text("*\n")
