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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import Any, TypeVar

from dspex.data import Evaluation, Example, Usage
from dspex.errors import BudgetExceeded, DataError, StateError
from dspex.evaluate import Scorer
from dspex.execution import Budget, Run
from dspex.modules import Module
from dspex.optimizers.account import Account
from dspex.optimizers.configurations import Configurations
from dspex.optimizers.demonstrations import Shown, demonstrate, demonstration
from dspex.optimizers.first_look import check_first
from dspex.optimizers.leaders import Leaders
from dspex.optimizers.paying import Order, Portion, run_portion
from dspex.optimizers.reserve import Reserve
from dspex.optimizers.scores import Scores, objective_of
from dspex.optimizers.watching import Watcher
from dspex.proposers import Demonstration
from dspex.study import Study, StudyPool
from dspex.trials import TrialState
from dspex.variables import Space, VariableState

__all__ = ["MAX_FAILED", "Task"]

MAX_FAILED = 0.1
"""The share of failed examples with which a configuration may still be ranked, by the others."""

_REMEMBERED = "remembered:"

T = TypeVar("T")

_Asked = tuple[VariableState, Sequence[Example]]


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
        self._leaders = Leaders(self.state, self.objectives)
        self._recording = threading.Lock()
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
        return self.evaluate_many([(state, examples)])[0]

    def evaluate_many(
        self, jobs: Sequence[tuple[VariableState | Mapping[str, Any] | None, Sequence[Example] | None]]
    ) -> list[Scores]:
        """Score configurations, each on examples of its own: as `evaluate` of each in this order, but all run at once.

        The search's concurrency is one over all of them, so that many configurations on few examples take no longer
        than few on many. As long as nothing has worked yet, the first one is run by itself.

        Args:
            jobs: what `evaluate` takes, of each; a configuration may be there more than once.

        Raises:
            BudgetExceeded, MetricError, StateError, DataError: as `evaluate`; no state or example that is wrong lets
                anything be paid for. Those before the first one that was not finished are as if they had been evaluated
                by themselves.
        """
        return self._evaluate(
            [
                (self._as_state(state), self.valset if examples is None else self._known_examples(examples))
                for state, examples in jobs
            ]
        )

    def _evaluate(self, asked: Sequence[_Asked]) -> list[Scores]:
        if not self._trusted and len(asked) > 1:
            return [*self._evaluate(asked[:1]), *self._evaluate(asked[1:])]
        orders = self._orders(asked)
        try:
            self._pay(list(orders.values()))
        except (BudgetExceeded, KeyboardInterrupt):
            # There will be a result, and it goes by all that `evaluate` of each by itself would have known.
            for state, examples in asked:
                if (order := orders.get(state.fingerprint)) is not None and order.left:
                    break
                self._judge(state, examples)
            raise
        return [self._judge(state, examples) for state, examples in asked]

    def _judge(self, state: VariableState, examples: Sequence[Example]) -> Scores:
        scores = self._scores(state, examples)
        if not self._trusted:
            check_first(scores.rows, self.program, self.valset[0], list(self.objectives))
            self._trusted = True
        if len(self.objectives) == 1 and scores.known:
            self._configurations.report(state, scores.score, len(scores.rows))
        self._leaders.compare(scores)
        if len(examples) == len(self.valset):
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
            if self._leaders.consider(scores):
                self.watcher.improved(scores.score, self.state.diff(scores.state))
            self._configurations.complete(state, list(scores.values.values()))

    @property
    def best(self) -> Scores | None:
        """The configuration with the best first objective among those scored on the whole valset.

        Of equal ones it is the one that is better in the second objective, and so on.
        """
        return self._leaders.best

    @property
    def best_state(self) -> VariableState:
        """The best configuration so far; at first the program's own values.

        As long as none has been scored on the whole valset, it is the best of those that have got furthest; what the
        search itself says by `prefer` goes before both.
        """
        return self._leaders.state

    def prefer(self, state: VariableState) -> None:
        """Have ``state`` as `best_state` from now on: for a search that knows more than the means."""
        self._leaders.preferred = state

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
        for portion in self._portions(new, again, lambda _: state):
            demonstrate(program, portion, scorer, self._terms, concurrency=self._concurrency, on_result=keep)
        for example in examples:
            shown = self._memory.get(prefix + example.id)
            if shown is not None:
                yield demonstration(example, shown, self._merit)

    def _merit(self, row: Evaluation) -> float:
        return self.sign * objective_of(row, next(iter(self.objectives)))

    def call(self, module: Module, **inputs: Any) -> Any:
        """Call a module with the search's model, counted against its budget."""
        self._reserve.allow([self.state], self.state, self.best_state)
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

    def _orders(self, asked: Sequence[_Asked]) -> dict[str, Order]:
        """What is not known, by the fingerprints of the configurations that it is missing of."""
        wanted: dict[str, tuple[VariableState, dict[str, Example]]] = {}
        for state, examples in asked:
            _, mine = wanted.setdefault(state.fingerprint, (state, {}))
            mine.update({example.id: example for example in examples})
        orders = {}
        ledger = self.study.ledger
        for key, (state, mine) in wanted.items():
            trial = self._configurations.trial_of(state)
            missing = [example for example in mine.values() if ledger.lookup(key, example.id) is None]
            failed = self._failed(state) if missing else {}
            new = [example for example in missing if example.id not in failed]
            # What a closed trial was judged by stands, or the same search run again would not take the same steps.
            again = [] if self._configurations.is_judged(state) else [one for one in missing if one.id in failed]
            if new or again:
                program, study = self.program.bind(state), self.study.study_name
                orders[key] = Order(state, program, trial.number, study, list(mine.values()), new, again)
        return orders

    def _pay(self, orders: Sequence[Order]) -> None:
        new = [(order, example) for order in orders for example in order.new]
        again = [(order, example) for order in orders for example in order.again]
        with ExitStack() as spans:
            for order in orders:
                spans.enter_context(order)
            try:
                for portion in self._portions(new, again, lambda one: one[0].state):
                    self._run(portion)
            finally:
                for order in orders:
                    order.span.outputs = self._scores(order.state, order.examples)

    def _portions(
        self, new: Sequence[T], again: Sequence[T], state_of: Callable[[T], VariableState]
    ) -> Iterator[Sequence[T]]:
        return self._reserve.portions(new, again, state_of, self.state, self.best_state, concurrency=self._concurrency)

    def _run(self, portion: Portion) -> None:
        began = time.perf_counter()
        judged, stopped = run_portion(
            portion,
            Scorer(self.metric, ranked_by=self.objectives),
            self._terms,
            concurrency=self._concurrency,
            on_result=self._record,
            on_usage=self._account.add,
        )
        self._reserve.note_portion(judged, time.perf_counter() - began, len(portion))
        if stopped.startswith(BudgetExceeded.__name__):
            raise BudgetExceeded(stopped.partition(": ")[2])
        if stopped:
            raise KeyboardInterrupt

    def _record(self, order: Order, row: Evaluation) -> None:
        with self._recording:
            self.study.record(order.trial, row)
            order.left -= 1
            self._reserve.note(row)
            self.watcher.evaluated(row)

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
