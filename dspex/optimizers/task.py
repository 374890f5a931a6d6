"""The task of a search: what an optimizer's `search` works with.

A task ties a program's space to a study's ledger. Its one verb that costs anything is `evaluate`: a configuration on
some examples. What the ledger has is never paid for again, each result is in storage before the next example is
started, and so a search that is written against a task can be killed anywhere and called again: it takes the
same steps, finds them paid, and goes on where it was.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from dspex.data import Evaluation, Example, Usage
from dspex.errors import BudgetExceeded, DataError, DefinitionError, MetricError, StateError, StudyError
from dspex.evaluate import Evaluate, EvaluationResult, measured
from dspex.evaluate.one import ExampleResult, ExampleRun
from dspex.evaluate.scoring import Scorer
from dspex.evaluate.terms import Terms
from dspex.execution import Budget, Outcome, Run, current, run_many
from dspex.modules import Module
from dspex.optimizers.watching import Watcher
from dspex.proposers import Demonstration
from dspex.study import Study, StudyPool, Trial
from dspex.trials import FrozenTrial, TrialState
from dspex.variables import Space, VariableState

__all__ = ["HELDOUT_SHARE", "MAX_FAILED", "Scores", "Task", "unrecorded_usage"]

HELDOUT_SHARE = 0.4
"""The most of a budget that is kept for the held-out comparison."""

MAX_FAILED = 0.1
"""The share of failed examples with which a configuration may still be ranked, by the others."""

_ANSWERS = ("ParseError", "ToolError")  # what another prompt may mend, unlike a bug in the program
_OVERHEAD = "dspex:overhead"
_GIVEN = "dspex:given"  # marks a trial whose values the optimizer chose, not the sampler


@attrs.frozen
class Scores:
    """What one configuration scored on some examples: one row each, in their order; failed rows count nowhere."""

    state: VariableState
    rows: tuple[Evaluation, ...]
    objectives: tuple[str, ...]

    @property
    def score(self) -> float:
        """The mean of the first objective; NaN when no row was scored."""
        return self.mean(self.objectives[0])

    @property
    def values(self) -> dict[str, float]:
        """The mean of every objective."""
        return {name: self.mean(name) for name in self.objectives}

    @property
    def failed(self) -> int:
        """How many rows the world failed."""
        return sum(not row.ok for row in self.rows)

    def mean(self, objective: str) -> float:
        """The mean of one objective over the scored rows; NaN when there is none."""
        numbers = [_objective(row, objective) for row in self.rows if row.ok]
        return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _objective(row: Evaluation, name: str) -> float:
    if name in row.scores:
        return row.scores[name]
    found = measured(row.usage, row.latency)
    if name not in found and row.error:  # a program that raised has the failure score in all the metric's objectives
        return row.scores.get("score", math.nan)
    return found.get(name, math.nan)


def unrecorded_usage(result: EvaluationResult) -> Usage:
    """What an evaluation took that no row tells: the metric's own calls, and examples that were not finished."""
    rest = result.usage.copy()
    for row in result.rows:
        for name in Usage.__slots__:
            setattr(rest, name, getattr(rest, name) - getattr(row.usage, name))
    return rest + result.metric_usage


def trial_state(trial: Trial | FrozenTrial) -> TrialState:
    """Where a trial stands, live or not."""
    return trial.frozen.state if isinstance(trial, Trial) else trial.state


class Task:
    """A search to be done. Made by `Optimizer.optimize`; an optimizer's `search` receives it.

    ``program`` is the program as it was given, ``state`` its values, ``space`` its variables. ``trainset`` may be
    learned from (demos, proposals), ``valset`` is what configurations are scored on; the held-out examples are not
    here. ``study`` keeps the trials and the ledger; ``budget`` is the hard cap, or None; ``objectives`` maps names to
    ``"maximize"`` or ``"minimize"``, the most important first. ``rng`` is seeded.
    """

    def __init__(
        self,
        *,
        program: Module,
        metric: Any,
        trainset: Sequence[Example],
        valset: Sequence[Example],
        heldout_size: int,
        study: Study,
        budget: Budget | None,
        objectives: Mapping[str, str],
        concurrency: int,
        deadline: float | None,
        retries: int,
        failure_score: float,
        seed: int,
        watcher: Watcher,
    ) -> None:
        self.program = program
        self.space: Space = program.space()
        self.state: VariableState = program.state()
        self.metric = metric
        self.trainset = tuple(trainset)
        self.valset = tuple(valset)
        self.study = study
        self.budget = budget
        self.objectives = dict(objectives)
        self.seed = seed
        self.rng = random.Random(seed)
        self.watcher = watcher
        self._heldout_size = heldout_size
        self._concurrency = concurrency
        self._terms: dict[str, Any] = {
            "deadline": deadline,
            "retries": retries,
            "failure_score": failure_score,
            "budget": budget,
            "seed": seed,
        }
        self._trials: dict[str, Trial | FrozenTrial] = {}  # by fingerprint
        self._sampled: deque[Trial | FrozenTrial] = deque()  # of an earlier run, to be asked for again
        self._best: Scores | None = None
        self._preferred: VariableState | None = None
        self._furthest: list[Scores] = []
        self._trusted = False  # whether anything has worked yet
        self._clocked: tuple[float, int] | None = None  # seconds and examples, without the first portion
        self._memory = dict(study.user_attrs)
        self._overhead = Usage.from_json(self._memory.get(_OVERHEAD, Usage().to_json()))
        self._overhead_lock = threading.Lock()
        self._take_over()

    def _take_over(self) -> None:
        """Take up the trials of an earlier run: finished ones as they are, interrupted ones to be continued."""
        self.study.requeue_interrupted()
        queued = self.study.get_trials(states=[TrialState.WAITING])
        claimed = {trial.number: trial for trial in (self.study.ask() for _ in queued)}
        for frozen in self.study.trials:
            trial: Trial | FrozenTrial = claimed.get(frozen.number, frozen)
            if frozen.state is TrialState.RUNNING and trial is frozen:
                continue  # another process is at it
            if frozen.state is TrialState.FAIL and not frozen.params:
                continue
            self._trials.setdefault(self._state_of(trial).fingerprint, trial)
            if _GIVEN not in frozen.user_attrs:
                self._sampled.append(trial)

    # -- configurations ----------------------------------------------------------------------------------

    def ask(self) -> VariableState:
        """The next configuration that the study's sampler wants to know about."""
        trial = self._sampled.popleft() if self._sampled else self.study.ask()
        state = self._state_of(trial)
        self._trials.setdefault(state.fingerprint, trial)
        if self._trials[state.fingerprint] is not trial and isinstance(trial, Trial):
            self._tell_duplicate(trial, state)
        return state

    def pool(self, path: str) -> StudyPool:
        """The candidates of an open-ended variable; ``add`` to it what the search should be able to choose."""
        return self.study.pool(path)

    def candidates(self, path: str) -> tuple[Any, ...]:
        """Every value to try for a variable: its pool's, or its domain's when that can be listed, else nine."""
        domain = self.space[path].domain
        if domain is None:
            raise StateError(f"{path!r} is derived, so it has no candidates; choose what it is derived from")
        if domain.open_ended:
            return self.pool(path).values
        listed = domain.candidates()
        if listed is not None and len(listed) <= 64:
            return listed
        rng = self.random("candidates", path)
        return tuple(domain.sample(rng) for _ in range(9))

    def random(self, *key: str | int) -> random.Random:
        """A generator that depends on the seed and ``key`` alone."""
        return random.Random(":".join(map(str, (self.seed, *key))))

    # -- results -----------------------------------------------------------------------------------------

    def evaluate(
        self,
        state: VariableState | Mapping[str, Any] | None = None,
        examples: Sequence[Example] | None = None,
    ) -> Scores:
        """Score a configuration on examples of the valset (default: all), paying only for what is not known.

        Args:
            state: a state, or values by path that differ from the program's own; None: the program's own.
            examples: some of ``valset``, in any order.

        Raises:
            BudgetExceeded: the search's share of the budget is used up; what was paid for is kept.
            MetricError: the metric is wrong, or gives no value for an objective.
            StateError: a value is outside its domain, or differs where the variable is not searched.
            DataError: an example is not of the valset.
        """
        state = self._as_state(state)
        asked = self.valset if examples is None else self._known_examples(examples)
        trial = self._trial_of(state)
        self._pay(state, trial, asked)
        scores = self._scores(state, asked)
        if not self._trusted:
            self._check_first(scores)
        self._report(trial, scores)
        self._compare(scores)
        if len(asked) == len(self.valset):
            self.finish(state, scores)
        return scores

    def finish(self, state: VariableState, scores: Scores) -> None:
        """Close the trial of a configuration: it has been scored as much as it is going to be."""
        trial = self._trials[state.fingerprint]
        if len(scores.rows) < len(self.valset):
            self._tell(trial, None, TrialState.FAIL if math.isnan(scores.score) else TrialState.PRUNED)
        elif math.isnan(scores.score) or scores.failed > MAX_FAILED * len(scores.rows):
            self._tell(trial, None, TrialState.FAIL)  # what the world has left over is no measure of it
        else:
            self._consider(scores)
            if trial_state(trial) in (TrialState.PRUNED, TrialState.FAIL):  # given up before, and now scored whole
                trial = self._new_trial(state)
            self._tell(trial, list(scores.values.values()), None)

    @property
    def best(self) -> Scores | None:
        """The configuration with the best first objective among those scored on the whole valset."""
        return self._best

    @property
    def best_state(self) -> VariableState:
        """The best configuration so far; at first the program's own values.

        As long as none has been scored on the whole valset, it is the best of those that have got furthest; what the
        search itself says by `prefer` goes before both.
        """
        if self._preferred is not None:
            return self._preferred
        if self._best is not None:
            return self._best.state
        best: Scores | None = None
        for scores in self._furthest:
            if best is None or self.is_better(scores.score, best.score):
                best = scores
        return self.state if best is None else best.state

    def prefer(self, state: VariableState) -> None:
        """Have ``state`` as `best_state` from now on: for a search that knows more than the means."""
        self._preferred = state

    def is_better(self, one: float, other: float) -> bool:
        """Whether a value of the first objective is better than another; NaN is never better."""
        sign = self.sign
        return not math.isnan(one) and (math.isnan(other) or sign * one > sign * other)

    @property
    def sign(self) -> float:
        """1 when the first objective is maximized, -1 when it is minimized."""
        return 1.0 if next(iter(self.objectives.values())) == "maximize" else -1.0

    def demonstrate(self, state: VariableState, examples: Sequence[Example]) -> Iterator[Demonstration]:
        """Run a configuration on training examples and keep what each predictor did, for `BootstrappedDemos`."""
        prefix = f"demos:{state.fingerprint}:"
        missing = [example for example in examples if prefix + example.id not in self._memory]
        if missing:
            self._within_share(len(missing))
            self._demonstrate(state, missing, prefix)
        for example in examples:
            found = self._memory.get(prefix + example.id)
            if found is not None:
                row = Evaluation.from_json(found["row"])
                yield Demonstration(
                    example, row, found["demos"], self.sign * _objective(row, next(iter(self.objectives)))
                )

    def _demonstrate(self, state: VariableState, examples: Sequence[Example], prefix: str) -> None:
        program = self.program.bind(state)
        terms = Terms(settings=current(), **self._terms)
        scorer = Scorer(self.metric, with_trace=True)
        jobs = [ExampleRun(program, example, scorer, terms) for example in examples]

        def keep(outcome: Outcome[ExampleRun, ExampleResult]) -> None:
            job = outcome.item
            self._add_overhead(job.usage + job.judge.usage)
            if outcome.error is not None or not outcome.result().evaluation.ok:
                return  # not memorized: it may go well another time
            result = outcome.result()
            demos = {
                entry.path: Example({**entry.inputs, **entry.prediction.to_dict(), "augmented": True}).with_inputs(
                    *entry.inputs
                )
                for entry in result.trace
                if entry.prediction is not None
            }
            key = prefix + result.evaluation.example_id
            self._memorize(key, {"row": result.evaluation.to_json(), "demos": demos})
            self.watcher.evaluated(result.evaluation)

        async def await_one(job: ExampleRun) -> ExampleResult:
            return await job.aperform()

        def perform_one(job: ExampleRun) -> ExampleResult:
            return job.perform()

        outcomes = run_many(
            await_one if program.natively_async else perform_one,
            jobs,
            concurrency=self._concurrency,
            deadline=self._terms["deadline"],
            cancel=ExampleRun.cancel,
            on_result=keep,
        )
        if outcomes.interrupted:
            raise KeyboardInterrupt
        for outcome in outcomes:
            if isinstance(outcome.error, BudgetExceeded | MetricError):
                raise outcome.error

    def call(self, module: Module, **inputs: Any) -> Any:
        """Call a module with the search's model, counted against its budget."""
        self._within_share()
        run = Run(budget=self.budget)
        try:
            return module.execute(inputs, run=run)
        finally:
            self._add_overhead(run.usage)

    def remember(self, key: str, make: Callable[[], Any]) -> Any:
        """What ``make()`` gave when it was first called under this key, in this run or an earlier one.

        For whatever costs something and is no evaluation. The value must be plain data.
        """
        if key not in self._memory:
            self._memorize(key, make())
        return self._memory[key]

    def usage(self) -> Usage:
        """What the study has consumed so far: its ledger, and what proposers took; earlier runs included."""
        return self.study.ledger.usage() + self._overhead

    def _memorize(self, key: str, value: Any) -> None:
        self.study.set_user_attr(key, value)
        self._memory[key] = value

    def _add_overhead(self, usage: Usage) -> None:
        with self._overhead_lock:
            self._overhead.add(usage)
            self.study.set_user_attr(_OVERHEAD, self._overhead.to_json())

    # -- paying --------------------------------------------------------------------------------------------

    def _pay(self, state: VariableState, trial: Trial | FrozenTrial, asked: Sequence[Example]) -> None:
        ledger = self.study.ledger
        missing = [e for e in asked if ledger.lookup(state.fingerprint, e.id) is None]
        done = 0
        while done < len(missing):  # in portions, so that the held-out share is looked at in between
            portion = missing[done : done + 2 * self._concurrency]
            self._within_share(len(portion))
            began = time.perf_counter()
            self._run(state, trial, portion)
            self._clock(time.perf_counter() - began, len(portion))
            done += len(portion)

    def _clock(self, seconds: float, examples: int) -> None:
        # The first portion also loads what is loaded on the first call, so it says nothing of the others.
        self._clocked = (0.0, 0) if self._clocked is None else (self._clocked[0] + seconds, self._clocked[1] + examples)

    def _run(self, state: VariableState, trial: Trial | FrozenTrial, examples: Sequence[Example]) -> None:
        def record(row: Evaluation) -> None:
            self.study.record(trial.number, row)
            self.watcher.evaluated(row)

        evaluate = Evaluate(examples, self.metric, concurrency=self._concurrency, progress=False, **self._terms)
        result = evaluate(self.program.bind(state), on_result=record, fingerprint=state.fingerprint, trial=trial.number)
        if result.stopped.startswith(BudgetExceeded.__name__):
            raise BudgetExceeded(result.stopped.partition(": ")[2])
        if result.stopped:
            raise KeyboardInterrupt

    def _within_share(self, more: int = 1) -> None:
        """Raise when ``more`` runs would leave too little of the budget for the held-out comparison.

        Two programs are still to be run on every held-out example; what that takes is judged by what examples
        have taken so far. Where it would be more than `HELDOUT_SHARE` of a limit, that share has to do.
        """
        budget = self.budget
        if budget is None or not self._heldout_size:
            return
        budget.check()
        rows = len(self.study.ledger)
        if not rows:
            return
        usage = self.study.ledger.usage()
        seconds, clocked = self._clocked or (0.0, 0)
        one_run = {
            "calls": (usage.calls + usage.cached_calls) / rows,
            "tokens": usage.total_tokens / rows,
            "usd": ((usage.cost or 0.0) + (usage.saved_cost or 0.0)) / rows,
            "seconds": seconds / clocked if clocked else 0.0,
        }
        limits, left = budget.limits, budget.remaining()
        for name, each in one_run.items():
            limit, remaining = getattr(limits, name), getattr(left, name)
            if limit is None:
                continue
            kept = min(2.2 * self._heldout_size * each, HELDOUT_SHARE * limit)
            if remaining < kept + more * each:
                raise BudgetExceeded(
                    f"the search's share of {budget!r} is used: the {name} that are left are kept for the "
                    "held-out comparison"
                )

    # -- trials ----------------------------------------------------------------------------------------------

    def _as_state(self, state: VariableState | Mapping[str, Any] | None) -> VariableState:
        if state is None:
            return self.state
        if isinstance(state, VariableState):
            return state
        return self.space.state(state)

    def _state_of(self, trial: Trial | FrozenTrial) -> VariableState:
        return self.space.state(self.study.values(trial))

    def _check_first(self, scores: Scores) -> None:
        """Raise when nothing of the first evaluation worked, for a reason that no configuration would mend."""
        rows = scores.rows
        if rows and all(not row.ok for row in rows):
            raise StudyError(
                f"all of the first {len(rows)} examples failed, so nothing can be searched; the last with "
                f"{rows[-1].error}"
            )
        if rows and all(row.error and not row.error.startswith(_ANSWERS) for row in rows):
            raise DefinitionError(
                f"{type(self.program).__name__} raised on all of the first {len(rows)} examples, the last time "
                f"{rows[-1].error}. Its inputs are {sorted(self.valset[0].inputs().to_dict())}; try it by hand first: "
                "program(**trainset[0].inputs())"
            )
        self._trusted = True

    def _known_examples(self, examples: Sequence[Example]) -> tuple[Example, ...]:
        known = {example.id for example in self.valset}
        for example in examples:
            if example.id not in known:
                raise DataError(
                    f"task.evaluate was given {example!r}, which is not in the valset; scores of other examples would "
                    "be mixed with those that the search ranks by. Give some of task.valset"
                )
        return tuple({example.id: example for example in examples}.values())

    def _check_objectives(self, row: Evaluation) -> None:
        for name in self.objectives:
            if math.isnan(_objective(row, name)):
                had = ", ".join(map(repr, {**row.scores, **measured(row.usage, row.latency)}))
                raise MetricError(
                    f"there is no value for the objective {name!r}; the metric and the run gave {had}. Return it from "
                    f'the metric, {{"score": ..., {name!r}: ...}}, or take it out of objectives='
                )

    def _trial_of(self, state: VariableState) -> Trial | FrozenTrial:
        trial = self._trials.get(state.fingerprint)
        return self._new_trial(state) if trial is None else trial

    def _new_trial(self, state: VariableState) -> Trial:
        active = set(state.active())
        for path, value in state.items():
            if path in active and not self.space[path].tunable and value != self.state[path]:
                raise StateError(
                    f"{path} = {value!r}: this variable is not searched, so a trial cannot have another value than the "
                    f"program's own, {self.state[path]!r}. Open it: program.unfreeze({path!r})"
                )
        fixed = {path: state[path] for path in self.space.tunable if path in active}
        for path in fixed:
            if self.space[path].domain.open_ended:  # type: ignore[union-attr]  # tunable, so not derived
                fixed[path] = self.pool(path).add(fixed[path], source="user").id
        trial = self.study.ask(fixed=fixed)
        trial.set_user_attr(_GIVEN, True)
        self._trials[state.fingerprint] = trial
        return trial

    def _scores(self, state: VariableState, asked: Sequence[Example]) -> Scores:
        ledger = self.study.ledger
        found = {example.id: ledger.lookup(state.fingerprint, example.id) for example in asked}
        if None in found.values():
            number = self._trials[state.fingerprint].number
            found |= {
                row.example_id: row for row in ledger.rows(trial=number) if found.get(row.example_id, row) is None
            }
        rows = [row for row in found.values() if row is not None]
        return Scores(state, tuple(rows), tuple(self.objectives))

    def _report(self, trial: Trial | FrozenTrial, scores: Scores) -> None:
        live = isinstance(trial, Trial) and trial.frozen.state is TrialState.RUNNING
        if live and len(self.objectives) == 1 and not math.isnan(scores.score):
            trial.report(scores.score, len(scores.rows))  # type: ignore[union-attr]  # live: it is a Trial

    def _compare(self, scores: Scores) -> None:
        """Keep the scores of the configurations that have been run on the most examples."""
        count = sum(row.ok for row in scores.rows)
        furthest = sum(row.ok for row in self._furthest[0].rows) if self._furthest else 1
        if count > furthest:
            self._furthest = []
        if count >= furthest:
            self._furthest = [s for s in self._furthest if s.state.fingerprint != scores.state.fingerprint]
            self._furthest.append(scores)

    def _consider(self, scores: Scores) -> None:
        if self._best is None or self.is_better(scores.score, self._best.score):
            self._best = scores
            self.watcher.improved(scores.score, self.state.diff(scores.state))

    def _tell(self, trial: Trial | FrozenTrial, values: Any, state: TrialState | None) -> None:
        if isinstance(trial, Trial) and trial.frozen.state is TrialState.RUNNING:
            if values is not None and any(map(math.isnan, values)):
                values, state = None, TrialState.FAIL
            self.study.tell(trial, values, state=state)
            self.watcher.finished(trial.number)

    def _tell_duplicate(self, trial: Trial, state: VariableState) -> None:
        """The sampler chose what was chosen before: tell it what is known instead of paying again."""
        first = self._trials[state.fingerprint]
        known = first.frozen if isinstance(first, Trial) else first
        if known.state is TrialState.COMPLETE:
            self._tell(trial, list(known.values or ()), None)
        elif len(self.objectives) == 1 and known.intermediate_values:
            step = max(known.intermediate_values)
            trial.report(known.intermediate_values[step], step)
            self._tell(trial, None, TrialState.PRUNED)
        else:
            self._tell(trial, None, TrialState.FAIL)

    def close(self) -> None:
        """Put back in the queue what was not finished, for a later run to continue."""
        for trial in self._trials.values():
            if isinstance(trial, Trial) and trial.frozen.state is TrialState.RUNNING:
                try:
                    self.study.requeue(trial)
                except StudyError:
                    continue  # another process has it by now
