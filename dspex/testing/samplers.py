"""What every sampler has to do, as tests that one of one's own can be put through too.

They need pytest and hypothesis, which come with the ``test`` extra. In a test module::

    class TestMine(SamplerSuite):
        def make(self, seed: int) -> Sampler:
            return MySampler(seed=seed)
"""

from __future__ import annotations

import pickle
import random
import threading
from abc import ABC, abstractmethod
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dspex.errors import StudyError, TrialPruned
from dspex.samplers import Sampler
from dspex.storage import InMemoryStorage, Storage
from dspex.study import Study, Trial, create_study
from dspex.testing.strategies import spaces, values_of
from dspex.trials import TrialState
from dspex.variables import (
    Bool,
    Choice,
    Condition,
    Constraint,
    Demos,
    Domain,
    Entry,
    Float,
    Int,
    ModelChoice,
    Order,
    Prompt,
    Space,
    Subset,
)

__all__ = ["SamplerSuite"]

CONDITIONAL = Space(
    [
        Entry("model", ModelChoice("small", "large"), "small"),
        Entry("answer", Choice("direct", "stepwise"), "direct"),
        Entry("answer.stepwise.temperature", Float(0.0, 1.0), 0.5, conditions=[Condition("answer", "stepwise")]),
        Entry("answer.stepwise.deep", Bool(), False, conditions=[Condition("answer", "stepwise")]),
        Entry(
            "answer.stepwise.deep.depth",
            Int(1, 9),
            1,
            conditions=[Condition("answer", "stepwise"), Condition("answer.stepwise.deep", True)],
        ),
        Entry("answer.direct.instructions", Prompt(), "Be brief.", conditions=[Condition("answer", "direct")]),
        Entry("tools", Subset("web", "mail", "code", min_size=1, max_size=2), ("web",)),
        Entry("order", Order("a", "b", "c"), ("a", "b", "c")),
        Entry("rate", Float(1e-5, 1.0, log=True), 0.1),
        Entry("fixed", Int(1, 3), 2, tunable=False),
    ]
)
FLAT = Space.of(x=Float(-5.0, 5.0), k=Int(1, 100, log=True), c=Choice("a", None, 3))


def loss(values: dict[str, Any]) -> float:
    """A value that depends on every value, and on nothing else."""
    return random.Random(repr(sorted(values.items()))).random()


def search(study: Study, count: int, *, space: Space | None = None) -> None:
    """Asks and tells; of ten trials one fails and one is pruned."""
    for _ in range(count):
        trial = study.ask(space)
        if trial.number % 10 == 7:
            study.tell(trial, state=TrialState.FAIL)
        elif trial.number % 10 == 3 and len(study.directions) == 1:
            trial.report(loss(trial.values), 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            values = [loss(trial.values) + index for index in range(len(study.directions))]
            study.tell(trial, values)


def assert_fits(trial: Trial, space: Space) -> None:
    """A trial has a value for each active tunable variable and no other, and the values fit."""
    values = trial.values
    active = set(space.active(values))
    assert set(values) == {path for path in space.tunable if path in active}
    space.validate(values)


def params_of(study: Study) -> list[dict[str, Any]]:
    return [dict(trial.params) for trial in study.trials]


class SamplerSuite(ABC):
    """The tests; a subclass whose name starts with ``Test`` says how a sampler is made."""

    several_objectives: bool = True
    """Whether the sampler works with several objectives."""

    continuous: bool = True
    """Whether it takes variables whose values cannot be listed; otherwise the suite gives numbers steps."""

    remembers: bool = True
    """Whether it avoids the values of the trials that are running, where a variable's values are few."""

    leaves_failures: bool = True
    """Whether it learns where trials fail, or at least does not go there more and more."""

    @abstractmethod
    def make(self, seed: int) -> Sampler:
        """A new sampler."""

    def domain(self, domain: Domain[Any]) -> Domain[Any]:
        """``domain``, or one like it that the sampler takes."""
        if self.continuous or domain.open_ended or domain.candidates() is not None:
            return domain
        if isinstance(domain, Float):
            return Float(domain.low, domain.high, step=domain.high / 8 - domain.low / 8)
        if isinstance(domain, Int):
            return Int(domain.low, domain.high, step=(domain.high - domain.low) // 8)
        return domain

    def space(self, space: Space) -> Space:
        """``space`` with the domains that the sampler takes."""
        entries = []
        for entry in space.values():
            domain = None if entry.domain is None else self.domain(entry.domain)
            if domain is not None and domain != entry.domain:
                fits = entry.default is None or domain.contains(entry.default)
                entry = attrs.evolve(entry, domain=domain, default=entry.default if fits else domain.first())
            entries.append(entry)
        return Space(entries, space.constraints)

    def study(self, space: Space | None = None, *, seed: int = 0, storage: Storage | None = None) -> Study:
        space = None if space is None else self.space(space)
        return create_study(study_name="study", sampler=self.make(seed), space=space, storage=storage)

    def test_values_of_a_conditional_space_are_the_active_ones(self) -> None:
        study = self.study(CONDITIONAL)
        study.pool("answer.direct.instructions").add("Think.")
        entered: set[str] = set()
        for _ in range(60):
            trial = study.ask()
            assert_fits(trial, self.space(CONDITIONAL))
            entered.update(trial.params)
            study.tell(trial, loss(trial.values))
        assert entered == set(CONDITIONAL.tunable)

    @given(
        space=spaces(max_size=6),
        extra=st.data(),
        steps=st.lists(st.sampled_from(["tell", "fail", "prune", "leave", "grow", "put back"]), max_size=25),
    )
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def test_any_space_and_any_course_of_events(self, space: Space, extra: st.DataObject, steps: list[str]) -> None:
        space = self.space(space)
        study = self.study(space)
        for path in space.open_ended:
            domain = space[path].domain
            assert domain is not None
            study.pool(path).add(extra.draw(values_of(domain)))
        for step in steps:
            if step == "grow":
                for path in space.open_ended:
                    domain = space[path].domain
                    assert domain is not None
                    study.pool(path).add(extra.draw(values_of(domain)))
                continue
            trial = study.ask()
            assert_fits(trial, space)
            if step == "tell":
                study.tell(trial, extra.draw(st.floats(allow_nan=False)))
            elif step == "fail":
                study.tell(trial, state=TrialState.FAIL)
            elif step == "prune":
                trial.report(extra.draw(st.floats()), 1)
                study.tell(trial, state=TrialState.PRUNED)
            elif step == "put back":
                study.requeue(trial)

    def test_the_seed_the_number_and_the_history_decide(self) -> None:
        first, second, other = (self.study(CONDITIONAL, seed=seed) for seed in (1, 1, 2))
        for study in (first, second, other):
            search(study, 40)
        assert params_of(first) == params_of(second)
        assert params_of(first) != params_of(other)

    def test_a_study_that_was_taken_up_goes_on_as_if_nothing_had_happened(self) -> None:
        whole, storage = self.study(CONDITIONAL), InMemoryStorage()
        search(whole, 45)
        search(self.study(CONDITIONAL, storage=storage), 30)
        record = storage.get_study("study")
        again = Study(record, storage, sampler=self.make(0), pruner=whole.pruner, space=whole.space)
        search(again, 15)
        assert params_of(again) == params_of(whole)

    def test_variables_declared_on_the_way(self) -> None:
        def objective(trial: Trial) -> float:
            x: float = trial.suggest("x", self.domain(Float(-5.0, 5.0)))
            if trial.suggest_categorical("kind", ["plain", "deep"]) == "deep":
                x += trial.suggest_int("depth", 1, 8) * trial.suggest("scale", self.domain(Float(0.1, 10.0, log=True)))
            if trial.suggest_bool("extra"):
                x += len(trial.suggest_subset("tools", ["a", "b"])) + len(trial.suggest_prompt("p", ["eins", "zwei"]))
            if trial.number % 9 == 5:
                raise TrialPruned
            return x * x

        first, second = self.study(), self.study()
        first.optimize(objective, n_trials=50)
        second.optimize(objective, n_trials=50)
        assert params_of(first) == params_of(second)
        for trial in first.trials:
            for path, domain in trial.distributions.items():
                assert domain.open_ended or domain.contains(trial.params[path])

    def test_bounds_that_change_from_trial_to_trial(self) -> None:
        study = self.study()
        for index in range(40):
            trial = study.ask()
            high = 10 + index % 5
            assert 1 <= trial.suggest_int("k", 1, high) <= high
            assert -high <= trial.suggest("x", self.domain(Float(-high, 0.0))) <= 0.0
            study.tell(trial, float(index))

    def test_a_pool_that_grows(self) -> None:
        space = Space.of(prompt=Prompt(), demos=Demos(), t=Float(0.0, 1.0))
        study = self.study(space)
        for round_ in range(4):
            for index in range(3):
                study.pool("prompt").add(f"Prompt {round_}.{index}")
                study.pool("demos").add([{"q": str(round_), "a": str(index)}])
            search(study, 20)
        used = {trial.params["prompt"] for trial in study.trials}
        assert used <= {item.id for item in study.pool("prompt")}
        late = {trial.params["prompt"] for trial in study.trials[60:]}
        newest = {item.id for item in study.pool("prompt").items[-3:]}
        assert newest & late  # what has been added is tried

    def test_an_empty_pool_is_an_error_that_says_what_to_write(self) -> None:
        space = Space([Entry("prompt", Prompt(), None)])
        study = self.study(space)
        with pytest.raises(StudyError, match=r"'prompt' is open-ended and has no candidates.*study\.pool\('prompt'\)"):
            study.ask()
        assert study.trials[0].state is TrialState.FAIL

    def test_fixed_values_stay_and_the_rest_fits(self) -> None:
        study = self.study(CONDITIONAL)
        search(study, 15)
        for _ in range(10):
            trial = study.ask(fixed={"answer": "stepwise", "answer.stepwise.temperature": 0.25, "rate": 1})
            assert trial.params["answer"] == "stepwise"
            assert (trial.params["answer.stepwise.temperature"], trial.params["rate"]) == (0.25, 1.0)
            assert_fits(trial, self.space(CONDITIONAL))
            study.tell(trial, loss(trial.values))
        study.enqueue_trial({"answer": "direct", "answer.direct.instructions": "A new one."})
        trial = study.ask()
        assert trial.values["answer.direct.instructions"] == "A new one."
        assert_fits(trial, self.space(CONDITIONAL))

    def test_constraints_hold(self) -> None:
        rule = Constraint("sum", {"a": "a", "b": "b"}, "a and b may not both be large", lambda a, b: a + b <= 10)
        space = Space([Entry("a", Int(0, 10), 0), Entry("b", Int(0, 10), 0)], [rule])
        study = self.study(space)
        for _ in range(40):
            trial = study.ask()
            assert trial.params["a"] + trial.params["b"] <= 10
            study.tell(trial, -float(trial.params["a"] + trial.params["b"]))

    def test_constraints_that_cannot_hold_are_an_error(self) -> None:
        rule = Constraint("never", {"a": "a"}, "a may not be anything", lambda a: False)
        study = self.study(Space([Entry("a", Int(0, 10), 0)], [rule]))
        with pytest.raises(StudyError, match=r"no values were found.*a may not be anything"):
            study.ask()

    def test_several_objectives(self) -> None:
        if not self.several_objectives:
            pytest.skip("not supported by this sampler")
        study = create_study(
            sampler=self.make(0), directions=["minimize", "maximize", "minimize"], space=self.space(FLAT)
        )
        search(study, 40)
        for trial in study.trials:
            FLAT.validate(trial.params)

    def test_values_that_make_a_trial_fail_are_not_tried_again_and_again(self) -> None:
        if not self.leaves_failures:
            pytest.skip("not promised by this sampler")

        def objective(trial: Trial) -> float:
            x: float = trial.suggest("x", self.domain(Float(0.0, 1.0)))
            kind = trial.suggest_categorical("kind", ["a", "b", "c", "d"])
            if kind == "b" or x > 0.75:
                raise ValueError("the best of all, if only it worked")
            return {"a": 2.0, "c": 1.0, "d": 3.0}[kind] - x

        study = self.study()
        study.optimize(objective, n_trials=60, catch=ValueError)
        late = study.trials[30:]
        assert sum(trial.state is TrialState.COMPLETE for trial in late) >= len(late) / 3

    def test_trials_asked_for_at_once_differ(self) -> None:
        study = self.study(FLAT)
        search(study, 20)
        asked = [study.ask() for _ in range(10)]
        assert len({repr(trial.params) for trial in asked}) == 10

    @pytest.mark.parametrize("told", [0, 3, 14])
    def test_trials_asked_for_at_once_share_out_what_is_few(self, told: int) -> None:
        """However many configurations have been tried before."""
        rule = Constraint("rule", {"c": "c", "b": "b"}, "not both", lambda c, b: not (c == "z" and b))
        space = Space(
            [
                Entry("c", Choice("x", "y", "z"), "x"),
                Entry("b", Bool(), False),
                Entry("p", Prompt(), "Be brief.", conditions=[Condition("c", "x")]),
            ],
            [rule],
        )
        study = self.study(space)
        study.pool("p").add("Think.")
        search(study, told)
        asked = [study.ask() for _ in range(7) if not study.sampler.exhausted(study.view)]
        assert len({repr(sorted(trial.params.items())) for trial in asked}) == len(asked)
        for trial in asked:
            assert_fits(trial, space)
        assert_fits(study.ask(), space)  # all are running, or have been tried, so one of them comes again

    def test_variables_declared_by_several_trials_at_once_differ(self) -> None:
        """However far each of them has come when another one chooses."""
        if not self.remembers:
            pytest.skip("not promised by this sampler")
        domains: dict[str, Domain[Any]] = {"a": Choice(*"uvwxyz"), "b": Int(1, 5), "c": Bool()}
        study, rng = self.study(), random.Random(0)
        study.optimize(
            lambda trial: loss({path: trial.suggest(path, one) for path, one in domains.items()}), n_trials=8
        )
        for _ in range(8):
            trials = [study.ask() for _ in range(4)]
            turns = [trial for trial in trials for _ in domains]
            rng.shuffle(turns)
            for trial in turns:
                path = list(domains)[len(trial.params)]
                trial.suggest(path, domains[path])
            assert len({repr(trial.params) for trial in trials}) == 4
            for trial in trials:
                study.tell(trial, loss(trial.params))

    def test_threads_may_ask_at_once(self) -> None:
        study = self.study(CONDITIONAL)
        study.pool("answer.direct.instructions").add("Think.")

        def work() -> None:
            search(study, 8)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [trial.number for trial in study.trials] == list(range(32))
        assert all(trial.state.is_finished for trial in study.trials)

    def test_one_sampler_serves_several_studies(self) -> None:
        sampler = self.make(0)
        alone = self.study(FLAT)
        shared = [create_study(sampler=sampler, space=self.space(space)) for space in (FLAT, CONDITIONAL)]
        search(alone, 25)
        for _ in range(25):
            for study in shared:
                search(study, 1)
        assert params_of(shared[0]) == params_of(alone)

    def test_a_pickled_sampler_chooses_the_same(self) -> None:
        study = self.study(FLAT)
        search(study, 25)
        copy = pickle.loads(pickle.dumps(study.sampler))
        view, number = study.view, len(study.trials)
        space = self.space(FLAT)
        assert copy.sample(view, number, space, fixed={}) == study.sampler.sample(view, number, space, fixed={})

    @pytest.mark.parametrize(
        "domain",
        [
            Float(2.0, 2.0),
            Int(5, 5),
            Choice("only"),
            Float(0.0, 1.0, step=0.25),
            Float(-1e308, 1e308),
            Float(1e-300, 1e300, log=True),
            Int(0, 10**30),
            Int(1, 10**15, log=True),
            Int(-7, 8, step=5),
            Subset("a", min_size=1),
            Order("a", "b", "c", "d", "e", "f"),
            Choice([1], {"a": 2}, 1, True, 1.0),
        ],
        ids=repr,
    )
    def test_a_domain_by_itself(self, domain: Domain[Any]) -> None:
        space = Space.of(value=domain, other=self.domain(Float(0.0, 1.0)))
        study = create_study(sampler=self.make(0), space=space)
        if not self.continuous and domain.candidates() is None:
            with pytest.raises(StudyError, match=r"'value' is .*, whose values are too many"):
                study.ask()
            return
        for _ in range(30):
            trial = study.ask()
            value = trial.params["value"]
            assert domain.contains(value)
            assert type(domain.validate(value)) is type(value)
            study.tell(trial, loss(trial.values))

    @pytest.mark.parametrize("seed", [-1, 1.5, True, "x"])
    def test_a_seed_that_is_none(self, seed: Any) -> None:
        with pytest.raises(StudyError, match="seed must be a whole number >= 0 or None, got"):
            self.make(seed)
