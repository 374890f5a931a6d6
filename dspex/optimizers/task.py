"""The task of a search: what an optimizer's `search` works with.

A task ties a program's space to a study's ledger. Its one verb that costs anything is `evaluate`: a configuration on
some examples. What the ledger has is never paid for again, each result is in storage before the next example is
started, and so a search that is written against a task can be killed anywhere and called again: it takes the
same steps, finds them paid, and goes on where it was.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from dspex.callbacks.observed import Observed
from dspex.data import Evaluation, Example, Usage
from dspex.errors import BudgetExceeded, DataError, DefinitionError, MetricError, StateError, StudyError
from dspex.evaluate import Evaluate, Scorer
from dspex.execution import Budget, Run, current
from dspex.modules import Module
from dspex.optimizers.account import Account
from dspex.optimizers.configurations import Configurations
from dspex.optimizers.demonstrations import Shown, demonstrate, demonstration
from dspex.optimizers.reserve import Reserve
from dspex.optimizers.scores import Scores, is_ahead, objective_of
from dspex.optimizers.watching import Watcher
from dspex.proposers import Demonstration
from dspex.study import Study, StudyPool, Trial
from dspex.trials import FrozenTrial, TrialState
from dspex.variables import Space, VariableState

__all__ = ["MAX_FAILED", "Task"]

MAX_FAILED = 0.1
"""The share of failed examples with which a configuration may still be ranked, by the others."""

_REMEMBERED = "remembered:"
_ANSWERS = ("ParseError", "ToolError")  # what another prompt may mend, unlike a bug in the program


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
        study: Study,
        account: Account,
        reserve: Reserve,
        objectives: Mapping[str, str],
        terms: Mapping[str, Any],
        watcher: Watcher,
    ) -> None:
        self.program = program
        self.space: Space = program.space()
        self.state: VariableState = program.state()
        self.metric = metric
        self.trainset = tuple(trainset)
        self.valset = tuple(valset)
        self.study = study
        self.budget: Budget | None = terms["budget"]
        self.objectives = dict(objectives)
        self.seed: int = terms["seed"]
        self.rng = random.Random(self.seed)
        self.watcher = watcher
        self._terms = dict(terms)
        self._concurrency: int = self._terms.pop("concurrency")
        self._account = account
        self._reserve = reserve
        self._best: Scores | None = None
        self._preferred: VariableState | None = None
        self._furthest: Scores | None = None
        self._trusted = False  # whether anything has worked yet
        self._memory: dict[str, Any] = {
            key.removeprefix(_REMEMBERED): deepcopy(value)
            for key, value in study.system_attrs.items()
            if key.startswith(_REMEMBERED)
        }
        self._configurations = Configurations(study, self.space, self.state, watcher.finished)

    # -- configurations ----------------------------------------------------------------------------------

    def ask(self) -> VariableState:
        """The next configuration that the study's sampler wants to know about."""
        return self._configurations.ask()

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
        trial = self._configurations.trial_of(state)
        if missing := self._missing(state, asked):
            attributes = {"trial": trial.number, "study": self.study.study_name}
            inputs = state.to_dict()
            with Observed(
                current().callbacks, "trial", f"trial {trial.number}", inputs=inputs, attributes=attributes
            ) as span:
                self._pay(state, trial, missing)
                span.outputs = scores = self._scores(state, asked)
        else:
            scores = self._scores(state, asked)
        if not self._trusted:
            self._check_first(scores)
        if len(self.objectives) == 1 and scores.known:
            self._configurations.report(state, scores.score, len(scores.rows))
        self._compare(scores)
        if len(asked) == len(self.valset):
            self.finish(state, scores)
        return scores

    def finish(self, state: VariableState, scores: Scores) -> None:
        """Close the trial of a configuration: it has been scored as much as it is going to be."""
        whole = len(scores.rows) >= len(self.valset)
        # What the world has left over of it is no measure of a configuration.
        if not scores.known or (whole and scores.failed > MAX_FAILED * len(scores.rows)):
            self._configurations.give_up(state, TrialState.FAIL)
        elif not whole:
            self._configurations.give_up(state, TrialState.PRUNED)
        else:
            self._consider(scores)
            self._configurations.complete(state, list(scores.values.values()))

    @property
    def best(self) -> Scores | None:
        """The configuration with the best first objective among those scored on the whole valset.

        Of equal ones it is the one that is better in the second objective, and so on.
        """
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
        return self.state if self._furthest is None else self._furthest.state

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

    # -- proposals ---------------------------------------------------------------------------------------

    def demonstrate(self, state: VariableState, examples: Sequence[Example]) -> Iterator[Demonstration]:
        """Run a configuration on training examples and keep what each predictor did, for `BootstrappedDemos`."""
        prefix = f"demos:{state.fingerprint}:"

        def keep(usage: Usage, row: Evaluation | None, shown: Shown | None) -> None:
            self._account.add(usage)
            if row is not None:
                self._memorize(prefix + row.example_id, shown)
                self.watcher.evaluated(row)

        new = [example for example in examples if prefix + example.id not in self._memory]
        again = [example for example in examples if self._memory.get(prefix + example.id, ...) is None]
        program = self.program.bind(state)
        scorer = Scorer(self.metric, with_trace=True, ranked_by=self.objectives)
        for portion in self._portions(state, new, again):
            demonstrate(program, portion, scorer, self._terms, concurrency=self._concurrency, on_result=keep)
        for example in examples:
            shown = self._memory.get(prefix + example.id)
            if shown is not None:
                yield demonstration(example, shown, self._merit)

    def _merit(self, row: Evaluation) -> float:
        return self.sign * objective_of(row, next(iter(self.objectives)))

    def call(self, module: Module, **inputs: Any) -> Any:
        """Call a module with the search's model, counted against its budget."""
        self._reserve.allow(1, self.state, self.state, self.best_state)
        run = Run(budget=self.budget)
        try:
            return module.execute(inputs, run=run)
        finally:
            self._account.add(run.usage)

    def remember(self, key: str, make: Callable[[], Any]) -> Any:
        """What ``make()`` gave when it was first called under this key, in this run or an earlier one.

        For whatever costs something and is no evaluation. The value must be plain data.
        """
        if key not in self._memory:
            self._memorize(key, make())
        return self._memory[key]

    def usage(self) -> Usage:
        """What the search has consumed so far: the ledger, proposals and the metric; earlier runs included."""
        return self._account.search_usage()

    def close(self) -> None:
        """Put back in the queue what was not finished, for a later run to continue."""
        self._configurations.close()

    def _memorize(self, key: str, value: Any) -> None:
        self.study.set_system_attr(_REMEMBERED + key, value)
        self._memory[key] = value

    # -- paying --------------------------------------------------------------------------------------------

    def _missing(self, state: VariableState, asked: Sequence[Example]) -> list[Example]:
        ledger = self.study.ledger
        return [example for example in asked if ledger.lookup(state.fingerprint, example.id) is None]

    def _pay(self, state: VariableState, trial: Trial | FrozenTrial, missing: Sequence[Example]) -> None:
        failed = self._failed(state)
        new = [e for e in missing if e.id not in failed]
        # What a closed trial was judged by stands, or the same search run again would not take the same steps.
        again = [] if self._configurations.is_judged(state) else [e for e in missing if e.id in failed]
        program = self.program.bind(state)
        for portion in self._portions(state, new, again):
            self._run(program, state, trial, portion)

    def _portions(
        self, state: VariableState, new: Sequence[Example], again: Sequence[Example]
    ) -> Iterator[Sequence[Example]]:
        """The examples in portions, so that between them it can be seen what the budget still allows.

        Those to be tried ``again`` have failed before and come last. A search can do without them, so where the
        budget does not allow them, they stay failed.
        """
        examples = [*new, *again]
        done = 0
        while done < len(examples):
            wanted = min(2 * self._concurrency, len(examples) - done)
            try:
                count = self._reserve.allow(wanted, state, self.state, self.best_state)
            except BudgetExceeded:
                if done < len(new):
                    raise
                return
            yield examples[done : done + count]
            done += count

    def _run(
        self, program: Module, state: VariableState, trial: Trial | FrozenTrial, examples: Sequence[Example]
    ) -> None:
        def record(row: Evaluation) -> None:
            self.study.record(trial.number, row)
            self._reserve.note(row)
            self.watcher.evaluated(row)

        began = time.perf_counter()
        scorer = Scorer(self.metric, ranked_by=self.objectives)
        evaluate = Evaluate(examples, scorer, concurrency=self._concurrency, progress=False, **self._terms)
        result = evaluate(
            program,
            on_result=record,
            on_usage=self._account.add,
            fingerprint=state.fingerprint,
            trial=trial.number,
        )
        self._reserve.note_portion(result.metric_usage, time.perf_counter() - began, len(examples))
        if result.stopped.startswith(BudgetExceeded.__name__):
            raise BudgetExceeded(result.stopped.partition(": ")[2])
        if result.stopped:
            raise KeyboardInterrupt

    # -- scores ----------------------------------------------------------------------------------------------

    def _as_state(self, state: VariableState | Mapping[str, Any] | None) -> VariableState:
        if state is None:
            return self.state
        if isinstance(state, VariableState):
            return state
        return self.space.state(state)

    def _known_examples(self, examples: Sequence[Example]) -> tuple[Example, ...]:
        known = {example.id for example in self.valset}
        for example in examples:
            if example.id not in known:
                raise DataError(
                    f"task.evaluate was given {example!r}, which is not in the valset; scores of other examples would "
                    "be mixed with those that the search ranks by. Give some of task.valset"
                )
        return tuple({example.id: example for example in examples}.values())

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
        for row in rows:
            if row.ok and not row.error:
                self._check_objectives(row)
        self._trusted = True

    def _check_objectives(self, row: Evaluation) -> None:
        for name in self.objectives:
            if math.isnan(objective_of(row, name)):
                had = ", ".join(map(repr, {**row.scores, **row.measured}))
                raise MetricError(
                    f"there is no value for the objective {name!r}; the metric and the run gave {had}. Return it from "
                    f'the metric, {{"score": ..., {name!r}: ...}}, or take it out of objectives='
                )

    def _scores(self, state: VariableState, asked: Sequence[Example]) -> Scores:
        ledger = self.study.ledger
        found = {example.id: ledger.lookup(state.fingerprint, example.id) for example in asked}
        if None in found.values():
            failed = self._failed(state)
            found = {example_id: row or failed.get(example_id) for example_id, row in found.items()}
        rows = [row for row in found.values() if row is not None]
        return Scores(state, tuple(rows), tuple(self.objectives))

    def _failed(self, state: VariableState) -> dict[str, Evaluation]:
        """The rows that the world failed, by example, whichever trial of the configuration they are of."""
        return {row.example_id: row for row in self.study.ledger.rows(fingerprint=state.fingerprint) if not row.ok}

    def _compare(self, scores: Scores) -> None:
        """Keep the best of the configurations that have been run on the most examples, until one has been on all."""
        if self._best is not None:
            return
        old = self._furthest
        count = sum(row.ok for row in scores.rows)
        most = 0 if old is None else sum(row.ok for row in old.rows)
        if count > most or (old is not None and count == most and is_ahead(scores, old, self.objectives)):
            self._furthest = scores

    def _consider(self, scores: Scores) -> None:
        if self._best is None or is_ahead(scores, self._best, self.objectives):
            self._best = scores
            self.watcher.improved(scores.score, self.state.diff(scores.state))
