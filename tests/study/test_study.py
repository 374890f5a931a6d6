"""Studies: opening, asking, telling, what is best."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, strategies as st

from dspex.data import Evaluation
from dspex.errors import DefinitionError, StateError, StudyError
from dspex.pruners import NopPruner
from dspex.samplers import RandomSampler, TPESampler
from dspex.storage import InMemoryStorage
from dspex.study import Study, create_study, delete_study, get_all_study_names, load_study
from dspex.study.best import dominates, pareto_front
from dspex.trials import FrozenTrial, StudyDirection, TrialState, create_trial
from dspex.variables import Choice, Condition, Demos, Entry, Float, Int, Prompt, Space, Subset

SPACE = Space(
    [
        Entry("answer", Choice("direct", "stepwise"), "direct"),
        Entry("answer.stepwise.temperature", Float(0.0, 1.0), 0.5, conditions=[Condition("answer", "stepwise")]),
        Entry("answer.instructions", Prompt(), "Be brief."),
        Entry("model", Choice("small", "large"), "small", tunable=False),
        Entry("unset", Float(0.0, 1.0), None),
    ]
)


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return InMemoryStorage() if request.param == "memory" else f"sqlite:///{tmp_path}/study.db"


def test_numpys_numbers_are_numbers(storage: Any) -> None:
    np = pytest.importorskip("numpy")
    study = create_study(storage=storage)
    study.set_user_attr("accuracy", np.mean([1.0, 0.0]))
    study.enqueue_trial({"x": np.float64(0.25), "k": np.int64(2)}, user_attrs={"deep": [{"n": (np.int32(3),)}]})
    trial = study.ask(user_attrs={"flag": np.bool_(True)})
    trial.set_user_attr("loss", np.float32(0.5))
    trial.report(np.float32(0.5), step=np.int64(7))
    assert (trial.suggest_float("x", 0.0, 1.0), trial.suggest_int("k", 1, 3)) == (0.25, 2)
    study.tell(trial, np.float64(1.5))
    (frozen,) = study.trials
    assert study.user_attrs == {"accuracy": 0.5}
    assert frozen.user_attrs == {"deep": [{"n": (3,)}], "flag": True, "loss": 0.5}
    assert frozen.intermediate_values == {7: 0.5}
    assert {type(value) for value in [study.user_attrs["accuracy"], *frozen.params.values()]} == {float, int}
    assert all(type(step) is int for step in frozen.intermediate_values)
    study.optimize(lambda trial: 1.0, n_trials=np.int64(2), n_jobs=np.int64(2), timeout=np.int64(600))
    assert len(study.trials) == 3
    with pytest.raises(StateError, match="array"):
        trial.set_user_attr("scores", np.array([1.0, 2.0]))


class TestOpening:
    def test_by_name_and_by_default(self, storage: Any) -> None:
        create_study(study_name="one", storage=storage, direction="maximize")
        create_study(study_name="two", storage=storage, directions=["minimize", "maximize"])
        assert get_all_study_names(storage) == ["one", "two"]
        assert load_study(study_name="one", storage=storage).direction == "maximize"
        assert load_study(study_name="two", storage=storage).directions == ["minimize", "maximize"]
        delete_study(study_name="one", storage=storage)
        assert load_study(storage=storage).study_name == "two"
        anonymous = create_study()
        assert anonymous.direction is StudyDirection.MINIMIZE
        assert anonymous.study_name.startswith("study-")
        assert isinstance(anonymous.sampler, TPESampler)

    def test_load_if_exists(self, storage: Any) -> None:
        first = create_study(study_name="one", storage=storage, direction="maximize")
        first.tell(first.ask(), 1.0)
        again = create_study(study_name="one", storage=storage, load_if_exists=True)
        assert (len(again.trials), again.direction) == (1, "maximize")
        create_study(study_name="new", storage=storage, load_if_exists=True)
        with pytest.raises(StudyError, match=r"there is a study named 'one' already.*load_if_exists=True"):
            create_study(study_name="one", storage=storage)
        with pytest.raises(StudyError, match=r"'one' exists with the directions maximize, not minimize"):
            create_study(study_name="one", storage=storage, direction="minimize", load_if_exists=True)

    def test_what_is_not_there(self, storage: Any) -> None:
        with pytest.raises(StudyError, match=r"study_name is needed, because .* but: none at all"):
            load_study(storage=storage)
        create_study(study_name="one", storage=storage)
        create_study(study_name="two", storage=storage)
        with pytest.raises(StudyError, match=r"no study named 'three' in this storage; there are: 'one', 'two'"):
            load_study(study_name="three", storage=storage)
        with pytest.raises(StudyError, match=r"there are: 'one', 'two'"):
            delete_study(study_name="three", storage=storage)
        with pytest.raises(StudyError, match=r"study_name is needed.*'one', 'two'"):
            load_study(storage=storage)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"direction": "maximise"}, r"direction must be 'minimize' or 'maximize', got 'maximise' \(str\)"),
            ({"directions": []}, r"directions must be a list of 'minimize' and 'maximize', got \[\]"),
            ({"directions": "maximize"}, r"directions must be a list"),
            ({"directions": 2}, r"directions must be a list .* got 2 \(int\); write directions=\['maximize', "),
            ({"directions": {"maximize"}}, r"directions must be a list .* \(set\)"),
            ({"direction": "maximize", "directions": ["maximize"]}, r"give direction= or directions=, not both"),
            ({"study_name": 3}, r"study_name must be a non-empty text, got 3 \(int\)"),
            ({"study_name": ""}, r"study_name must be a non-empty text"),
            ({"sampler": "tpe"}, r"sampler must be a Sampler, got 'tpe' \(str\); write sampler=TPESampler\(\)"),
            ({"pruner": "median"}, r"pruner must be a Pruner, got 'median' \(str\); write pruner=MedianPruner\(\)"),
            ({"sampler": TPESampler}, r"sampler must be a Sampler, got .*write sampler=TPESampler\(\)"),
            ({"pruner": 1}, r"pruner must be a Pruner, got 1"),
            ({"space": {"x": 1}}, r"space must be a Space, got \{'x': 1\} \(dict\); write space=program\.space\(\)"),
        ],
    )
    def test_arguments_that_make_no_sense_make_no_study(
        self, arguments: dict[str, Any], message: str, storage: Any
    ) -> None:
        with pytest.raises(StudyError, match=message):
            create_study(**{"study_name": "one", "storage": storage, **arguments})
        create_study(study_name="one", storage=storage)
        known = {name: value for name, value in arguments.items() if name in ("sampler", "pruner", "space")}
        if known:
            with pytest.raises(StudyError, match=message):
                load_study(study_name="one", storage=storage, **known)

    def test_another_space_is_refused_with_the_difference(self, storage: Any) -> None:
        create_study(study_name="one", storage=storage, space=SPACE)
        assert load_study(study_name="one", storage=storage).space is not None
        assert load_study(study_name="one", storage=storage, space=SPACE).space is SPACE
        other = SPACE.restrict({"answer.stepwise.temperature": Float(0.0, 0.5)})
        with pytest.raises(StudyError, match=r"was made for another space(.|\n)*answer\.stepwise\.temperature"):
            load_study(study_name="one", storage=storage, space=other)

    def test_a_space_may_be_declared_later(self, storage: Any) -> None:
        create_study(study_name="one", storage=storage)
        assert load_study(study_name="one", storage=storage).space is None
        load_study(study_name="one", storage=storage, space=SPACE)
        found = load_study(study_name="one", storage=storage).space
        assert found is not None
        assert found.hash == SPACE.hash

    def test_a_study_pickles_where_its_storage_is_shared(self, tmp_path: Path) -> None:
        study = create_study(storage=f"sqlite:///{tmp_path}/s.db", space=SPACE, pruner=NopPruner())
        study.tell(study.ask(), 1.0)
        copy = pickle.loads(pickle.dumps(study))
        assert copy.trials == study.trials
        assert repr(copy.pruner) == "NopPruner()"
        with pytest.raises(StudyError, match=r"lives in this process's memory.*storage='sqlite:///study\.db'"):
            pickle.dumps(create_study())

    def test_repr(self) -> None:
        study = create_study(study_name="one", directions=["minimize", "maximize"])
        assert repr(study) == "<Study 'one': 0 trials, minimize, maximize>"
        assert repr(study.ask()) == "<Trial 0: RUNNING, {}>"


class TestDeclaredSpaces:
    def test_all_values_are_there_at_once(self, storage: Any) -> None:
        study = create_study(storage=storage, space=SPACE, sampler=RandomSampler(seed=0))
        study.pool("answer.instructions").add("Think first.")
        for _ in range(10):
            trial = study.ask()
            assert trial.values["answer.instructions"] in ("Be brief.", "Think first.")
            assert trial.params["answer.instructions"] in study.pool("answer.instructions")
            assert trial.state["model"] == "small"
            assert trial.state["answer.instructions"] == trial.values["answer.instructions"]
            assert ("answer.stepwise.temperature" in trial.params) == (trial.params["answer"] == "stepwise")
            assert trial.fingerprint == trial.state.fingerprint
            finished = study.tell(trial, 1.0)
            assert finished.fingerprint == study.state(finished).fingerprint
        assert study.trials == load_study(storage=study.storage).trials

    def test_nothing_more_is_suggested(self) -> None:
        study = create_study(space=SPACE)
        trial = study.ask(fixed={"answer": "direct"})
        assert trial.suggest("answer", Choice("direct", "stepwise")) == "direct"
        for name, why in (("answer.stepwise.temperature", "it is inactive under them"), ("new", "declare it there")):
            with pytest.raises(StudyError, match=rf"'{name}' has no value in trial 0, .*at once; {why}"):
                trial.suggest(name, Float(0.0, 1.0))

    @pytest.mark.parametrize("declared", [True, False])
    @pytest.mark.parametrize("options", [([1, 2], [3]), ({"k": [1]}, {"k": [2]})])
    def test_options_that_are_lists_or_dicts_may_be_fixed_and_queued(self, options: Any, declared: bool) -> None:
        domain = Choice(*options)
        study = create_study(space=Space.of(x=domain) if declared else None)
        study.enqueue_trial({"x": options[1]})
        for trial in (study.ask(), study.ask(fixed={"x": options[1]})):
            value = trial.suggest("x", domain)
            assert value == options[1]
            with pytest.raises(TypeError, match="read-only"):  # the trials after it have the same option
                value.clear()
            assert study.tell(trial, 1.0).params == {"x": options[1]}

    def test_what_is_recorded_is_taken_as_the_option_that_it_was(self) -> None:
        study = create_study()
        study.set_user_attr("found", {"x": {"k": [1]}})
        assert Space.of(x=Choice({"k": [1]}, {"k": [2]})).state(study.user_attrs["found"])["x"] == {"k": [1]}

    def test_every_way_to_name_a_trial_gives_the_same_fingerprint(self) -> None:
        study = create_study(space=SPACE)
        trial = study.ask()
        row = Evaluation(example_id="e", status="ok")
        rows = [study.record(named, attrs.evolve(row, rollout=i)) for i, named in enumerate((trial, trial.frozen, 0))]
        assert {row.fingerprint for row in rows} == {trial.state.fingerprint}
        assert study.tell(0, 1.0).fingerprint == trial.state.fingerprint
        added = create_trial(value=1.0, params=trial.params, distributions=trial.distributions)
        study.add_trial(added)
        assert study.trials[1].fingerprint == trial.state.fingerprint

    def test_a_space_given_with_the_question(self) -> None:
        study = create_study()
        trial = study.ask(Space.of(k=Int(1, 3)))
        assert trial.params["k"] in (1, 2, 3)
        assert study.ask({"k": Int(1, 3), "answer.t": Float(0.0, 1.0)}).state["k"] in (1, 2, 3)
        with pytest.raises(StudyError, match=r"trial 2 has no declared space.*study\.ask\(program\.space\(\)\)"):
            _ = study.ask().state
        with pytest.raises(StudyError, match=r"the study declares no space"):
            study.state(trial)

    def test_fixed_values(self) -> None:
        study = create_study(space=SPACE)
        trial = study.ask(fixed={"answer": "stepwise", "answer.instructions": "New.", "unset": None})
        assert trial.values["answer.instructions"] == "New."
        assert trial.params["unset"] is None
        assert trial.state["unset"] is None
        study.tell(trial, 1.0)
        known = study.pool("answer.instructions").add("New.").id
        assert study.ask(fixed={"answer.instructions": known}).values["answer.instructions"] == "New."
        for _ in range(15):
            study.tell(study.ask(), 0.0)  # an unset number among the trials does not disturb the sampler

    @pytest.mark.parametrize(
        ("fixed", "error", "message"),
        [
            ({"anser": "direct"}, StateError, r"'anser'.*Did you mean 'answer'"),
            ({"answer": "sideways"}, StateError, r"answer = 'sideways' \(str\) does not fit Choice"),
            ({"model": "large"}, StudyError, r"'model' is not searched.*space\.unfreeze\('model'\)"),
            ({"answer.instructions": 3}, StateError, r"answer\.instructions = 3 \(int\) does not fit"),
        ],
    )
    def test_fixed_values_that_do_not_fit(self, fixed: dict[str, Any], error: type[Exception], message: str) -> None:
        study = create_study(space=SPACE)
        with pytest.raises(error, match=message):
            study.ask(fixed=fixed)
        assert study.trials[0].state is TrialState.FAIL
        assert "fail_reason" in study.trials[0].system_attrs


class TestSuggesting:
    def test_every_kind_of_variable(self, storage: Any) -> None:
        study = create_study(storage=storage)
        trial = study.ask()
        suggested = {
            "x": trial.suggest_float("x", 0, 1),
            "stepped": trial.suggest_float("stepped", 0.0, 1.0, step=0.25),
            "rate": trial.suggest_float("rate", 1e-3, 1.0, log=True),
            "k": trial.suggest_int("k", 1, 9, step=2),
            "flag": trial.suggest_bool("flag"),
            "kind": trial.suggest_categorical("kind", ["a", None, ("b", 1)]),
            "tools": trial.suggest_subset("tools", ["web", "mail"], min_size=1),
            "order": trial.suggest_order("order", ["a", "b", "c"]),
            "model": trial.suggest_model("model", ["openai/a", "local/b"]),
            "prompt": trial.suggest_prompt("prompt", ["Be brief.", "Think."], max_chars=20),
            "demos": trial.suggest_demos("demos", [[{"q": "1", "a": "2"}], []], max_demos=4),
            "any": trial.suggest("any", Int(3, 3)),
        }
        chosen = trial.suggest_module("module", direct=min, stepwise=max)
        assert chosen in (min, max)
        assert trial.suggest_module(name="module", alternatives={"direct": min}, stepwise=max) is chosen
        assert suggested == {path: value for path, value in trial.values.items() if path != "module"}
        assert suggested["prompt"] in ("Be brief.", "Think.")
        assert suggested["k"] in (1, 3, 5, 7, 9)
        assert trial.distributions["tools"] == Subset("web", "mail", min_size=1)
        finished = study.tell(trial, 1.0)
        assert study.values(finished) == trial.values
        assert study.best_params["prompt"] == suggested["prompt"]
        assert study.get_trials()[0].params == finished.params

    def test_the_same_name_is_the_same_value(self) -> None:
        trial = create_study().ask()
        assert trial.suggest_float("x", 0, 1) == trial.suggest_float("x", 0, 1)
        assert trial.suggest_prompt("p", ["a", "b", "c"]) == trial.suggest_prompt("p")

    def test_another_domain_for_the_name_in_one_trial(self) -> None:
        trial = create_study().ask()
        trial.suggest_int("k", 1, 5)
        with pytest.raises(StudyError, match=r"'k' is Int\(1, 5\) in trial 0 already and Int\(1, 6\) now.*'k_2'"):
            trial.suggest_int("k", 1, 6)

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (Choice("a", "b"), Choice("a", "c")),
            (Int(1, 5), Float(1.0, 5.0)),
            (Float(1.0, 5.0), Float(1.0, 5.0, log=True)),
            (Subset("a", "b"), Subset("a", "b", max_size=1)),
        ],
    )
    def test_another_domain_for_the_name_in_another_trial(self, storage: Any, first: Any, second: Any) -> None:
        study = create_study(study_name="one", storage=storage)
        trial = study.ask()
        trial.suggest("k", first)
        study.tell(trial, 1.0)
        for opened in (study, load_study(study_name="one", storage=study.storage)):
            with pytest.raises(StudyError, match=r"'k' is .* in trial 0 and .* in trial \d; .*keeps its domain"):
                opened.ask().suggest("k", second)

    def test_a_pool_has_one_domain(self, storage: Any) -> None:
        study = create_study(study_name="one", storage=storage)
        study.ask().suggest_prompt("p", ["a"], max_chars=5)
        for opened in (study, load_study(study_name="one", storage=study.storage)):
            with pytest.raises(StudyError, match=r"'p' is Prompt\(max_chars=5\) in .* and Prompt\(\) in the pool"):
                opened.pool("p", Prompt())

    def test_what_was_recorded_fixes_the_configuration(self, storage: Any) -> None:
        study = create_study(study_name="one", storage=storage)
        trial = study.ask()
        k = trial.suggest_int("k", 1, 5)
        row = trial.record(Evaluation(example_id="e1", status="ok", scores={"score": 1.0}))
        with pytest.raises(StudyError, match=r"'x' comes too late: trial 0 has recorded evaluations .*\(k\)"):
            trial.suggest_float("x", 0.0, 1.0)
        assert trial.suggest_int("k", 1, 5) == k
        assert load_study(study_name="one", storage=study.storage).trials[0].fingerprint == row.fingerprint
        study.requeue(trial)
        assert trial.fingerprint == row.fingerprint
        assert study.ask().fingerprint == row.fingerprint

    def test_bounds_may_differ_between_trials(self) -> None:
        study = create_study()
        for high in (5, 9, 3):
            trial = study.ask()
            assert trial.suggest_int("k", 1, high) <= high
            study.tell(trial, 1.0)

    @pytest.mark.parametrize(
        ("suggest", "message"),
        [
            (lambda trial: trial.suggest_categorical("c", "abc"), r"choices of 'c' must be a list, got 'abc' \(str\)"),
            (lambda trial: trial.suggest_order("c", 3), r"options of 'c' must be a list, got 3 \(int\)"),
            (lambda trial: trial.suggest_prompt("p", "abc"), r"candidates of 'p' must be a list"),
            (lambda trial: trial.suggest_module("m"), r"'m' has no alternatives; write trial\.suggest_module\('m'"),
            (
                lambda trial: trial.suggest_module("m", [min, max]),
                r"the alternatives of 'm' need names, got \[.*\] \(list\); write trial\.suggest_module\('m', direct=",
            ),
            (
                lambda trial: trial.suggest_module(min),
                r"name must be a string, got <built.* write .*\('answer', direct=",
            ),
            (lambda trial: trial.suggest_prompt("p"), r"'p' is open-ended and has no candidates"),
        ],
    )
    def test_arguments_that_make_no_sense(self, suggest: Any, message: str) -> None:
        with pytest.raises(StudyError, match=message):
            suggest(create_study().ask())

    def test_nothing_is_suggested_for_a_finished_trial(self) -> None:
        study = create_study()
        trial = study.ask()
        study.tell(trial, 1.0)
        with pytest.raises(StudyError, match=r"trial 0 has finished already \(COMPLETE\).*study\.ask\(\)"):
            trial.suggest_int("k", 1, 5)


class TestTelling:
    def test_a_value(self, storage: Any) -> None:
        study = create_study(storage=storage)
        finished = study.tell(study.ask(), 2)
        assert (finished.state, finished.value, finished.values) == (TrialState.COMPLETE, 2.0, (2.0,))
        assert finished.duration is not None
        assert study.tell(study.ask().number, [True]).value == 1.0  # a metric may say yes or no
        assert study.tell(study.ask().frozen, -math.inf).value == -math.inf

    def test_twice(self, storage: Any) -> None:
        study = create_study(storage=storage)
        trial = study.ask()
        study.tell(trial, 1.0)
        for again in (trial, 0):
            with pytest.raises(StudyError, match=r"trial 0 has finished already \(COMPLETE\).*final"):
                study.tell(again, 2.0)
            assert study.tell(again, 2.0, skip_if_finished=True).value == 1.0

    def test_nan_is_a_failure(self, caplog: pytest.LogCaptureFixture) -> None:
        study = create_study()
        with caplog.at_level(logging.WARNING, "dspex"):
            finished = study.tell(study.ask(), math.nan)
        assert (finished.state, finished.values) == (TrialState.FAIL, None)
        assert "Trial 0 failed: its value is NaN" in caplog.text

    @pytest.mark.parametrize(
        ("values", "state", "message"),
        [
            ([1.0], None, r"the study has 2 objectives and was told 1 value: \[1\.0\]"),
            (1.0, None, r"was told 1 value: 1\.0\. Give one value for each of minimize, maximize"),
            ([1.0, {}], None, r"value 1 of 2 must be a number, got \{\} \(dict\)"),
            (None, None, r"trial 0 was told nothing; write study\.tell\(trial, value\)"),
            ([1.0, 2.0], TrialState.FAIL, r"a FAIL trial is told without values"),
            ([1.0, 2.0], TrialState.PRUNED, r"a PRUNED trial is told without values.*what it reported"),
            (None, TrialState.COMPLETE, r"trial 0 cannot be COMPLETE with the values None"),
            ([1.0, math.nan], TrialState.COMPLETE, r"cannot be COMPLETE with the values \(1\.0, nan\)"),
            (None, TrialState.WAITING, r"COMPLETE, PRUNED or FAIL, got .*study\.requeue\(trial\)"),
        ],
    )
    def test_values_that_make_no_sense_leave_the_trial_as_it_is(self, values: Any, state: Any, message: str) -> None:
        study = create_study(directions=["minimize", "maximize"])
        trial = study.ask()
        with pytest.raises(StudyError, match=message):
            study.tell(trial, values, state=state)
        assert study.tell(trial, [1.0, 2.0]).state is TrialState.COMPLETE

    def test_a_value_of_the_wrong_type(self) -> None:
        study = create_study()
        with pytest.raises(StudyError, match=r"the value must be a number, got 'high' \(str\)"):
            study.tell(study.ask(), "high")  # type: ignore[arg-type]
        with pytest.raises(StudyError, match=r"the value must be a number, got b'1' \(bytes\)"):
            study.tell(study.ask(), b"1")  # type: ignore[arg-type]

    def test_the_number_may_be_one_of_a_data_frame(self) -> None:
        study = create_study()
        assert study.tell(np.int64(study.ask().number), 1.0).value == 1.0  # type: ignore[arg-type]

    def test_trials_that_are_none(self) -> None:
        study = create_study()
        for wrong, message in (
            (3, r"there is no trial 3; the study has 0 trials"),
            ("0", r"trial must be a trial or its number, got '0' \(str\)"),
            (True, r"trial must be a trial or its number, got True"),
            (create_study(study_name="other").ask(), r"trial 0 belongs to study 'other'"),
        ):
            with pytest.raises(StudyError, match=message):
                study.tell(wrong, 1.0)  # type: ignore[arg-type]
        study.enqueue_trial({})
        with pytest.raises(StudyError, match=r"trial 0 is WAITING; ask for it first"):
            study.tell(0, 1.0)

    def test_a_pruned_trial_has_what_it_reported_last(self) -> None:
        study = create_study()
        for reported, value in (({1: 5.0, 2: 4.0}, 4.0), ({1: math.nan}, None), ({}, None)):
            trial = study.ask()
            for step, number in reported.items():
                trial.report(number, step)
            assert study.tell(trial, state=TrialState.PRUNED).value == value

    def test_reports(self, storage: Any) -> None:
        study = create_study(storage=storage)
        trial = study.ask()
        trial.report(1, 3)
        trial.report(2.0, 3)
        assert study.trials[0].intermediate_values == {3: 2.0}
        for value, step, message in (
            ("x", 1, r"the reported value must be a number, got 'x' \(str\)"),
            (1.0, -1, r"step must be a whole number >= 0, got -1 \(int\)"),
            (1.0, 0.5, r"step must be a whole number >= 0, got 0\.5 \(float\)"),
        ):
            with pytest.raises(StudyError, match=message):
                trial.report(value, step)  # type: ignore[arg-type]
        study.tell(trial, 1.0)
        with pytest.raises(StudyError, match="finished already"):
            trial.report(1.0, 4)

    def test_what_is_handed_out_cannot_be_changed(self, storage: Any) -> None:
        study = create_study(storage=storage)
        study.set_user_attr("note", {"a": [1, 2]})
        study.set_system_attr("mine", {"b": ([1], 2)})
        study.set_metric_names(["loss"])
        trial = study.ask()
        trial.set_user_attr("note", {"a": [1, 2]})
        trial.suggest_float("x", 0, 1)
        trial.params["x"] = 5.0  # a copy
        trial.distributions.clear()
        (study.metric_names or []).append("other")
        study.directions.clear()
        trial.report(1.0, 1)
        trial.set_constraint("cost", 1.0)
        study.tell(trial, 1.0)
        frozen = study.trials[0]
        for change in [
            lambda: study.user_attrs.update(a=1),  # type: ignore[attr-defined]
            lambda: study.user_attrs["note"].clear(),
            lambda: study.user_attrs["note"]["a"].append(3),
            lambda: study.system_attrs["mine"]["b"][0].append(3),
            lambda: trial.user_attrs["note"]["a"].sort(),
            lambda: frozen.user_attrs["note"]["a"].extend([3]),
            lambda: frozen.params.pop("x"),  # type: ignore[attr-defined]
            lambda: frozen.distributions.popitem(),  # type: ignore[attr-defined]
            lambda: frozen.intermediate_values.setdefault(2, 1.0),  # type: ignore[attr-defined]
            lambda: frozen.constraints.clear(),  # type: ignore[attr-defined]
            lambda: frozen.system_attrs.clear(),  # type: ignore[attr-defined]
        ]:
            with pytest.raises(TypeError, match=r"this (dict|list) is read-only.*set_user_attr\(key, value\)"):
                change()
        assert study.user_attrs == {"note": {"a": [1, 2]}}
        assert study.trials[0] == frozen == pickle.loads(pickle.dumps(frozen))
        mine = copy.deepcopy(study.user_attrs["note"])
        mine["a"].append(3)
        study.set_user_attr("note", mine)
        study.set_user_attr("again", study.user_attrs["note"])
        assert study.user_attrs == {"note": {"a": [1, 2, 3]}, "again": {"a": [1, 2, 3]}}
        assert json.loads(json.dumps(study.user_attrs["note"])) == mine

    def test_attributes_and_constraints(self, storage: Any) -> None:
        study = create_study(storage=storage)
        trial = study.ask()
        note = {"a": [1, 2]}
        trial.set_user_attr("note", note)
        note["a"].append(3)
        trial.set_constraint("cost", 1)
        study.set_user_attr("dataset", ("v1", 2))
        finished = study.tell(trial, 1.0)
        assert (dict(finished.user_attrs), dict(finished.constraints)) == ({"note": {"a": [1, 2]}}, {"cost": 1.0})
        assert trial.user_attrs == {"note": {"a": [1, 2]}}
        assert study.user_attrs == {"dataset": ("v1", 2)}
        other = load_study(study_name=study.study_name, storage=study.storage)
        other.set_user_attr("dataset", "v2")
        other.set_user_attr("more", 1)
        assert study.user_attrs == {"dataset": "v2", "more": 1}
        other = study.ask()
        with pytest.raises(StudyError, match=r"the constraint 'cost' must be a number, got NaN"):
            other.set_constraint("cost", math.nan)
        with pytest.raises(StudyError, match=r"the constraint 'cost' must be a number, got 'x' \(str\)"):
            other.set_constraint("cost", "x")  # type: ignore[arg-type]
        with pytest.raises(StateError, match=r"cannot be written as JSON"):
            other.set_user_attr("thing", object())


class TestBest:
    def test_failed_pruned_and_infeasible_trials_are_never_the_best(self) -> None:
        study = create_study(direction="maximize")
        with pytest.raises(StudyError, match=r"no trial has completed yet, so none is the best \(0 trials\)"):
            _ = study.best_trial
        bad = study.ask()
        bad.set_constraint("cost", 0.5)
        study.tell(bad, 99.0)
        with pytest.raises(StudyError, match=r"no trial is feasible: each of the 1 completed ones violates"):
            _ = study.best_trial
        pruned = study.ask()
        pruned.report(50.0, 1)
        study.tell(pruned, state=TrialState.PRUNED)
        study.tell(study.ask(), state=TrialState.FAIL)
        study.tell(study.ask(), math.nan)
        for value in (1.0, 3.0, 3.0, 2.0):
            study.tell(study.ask(), value)
        assert (study.best_trial.number, study.best_value) == (5, 3.0)
        assert [trial.number for trial in study.best_trials] == [5, 6]

    def test_several_objectives_have_a_pareto_set(self) -> None:
        study = create_study(directions=["minimize", "maximize"])
        for values in ([1, 1], [2, 2], [2, 1], [1, 1], [3, 2], [0, 0]):
            study.tell(study.ask(), values)
        assert [trial.number for trial in study.best_trials] == [0, 1, 3, 5]
        for attribute in ("best_trial", "best_value", "best_params", "direction"):
            with pytest.raises(StudyError, match=r"the study has 2 objectives, so it has no .*; write study\."):
                getattr(study, attribute)

    @given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=25))
    def test_the_pareto_set_is_what_none_dominates(self, values: list[tuple[int, ...]]) -> None:
        directions = [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
        trials = [
            FrozenTrial(number=i, state=TrialState.COMPLETE, values=tuple(map(float, value)))
            for i, value in enumerate(values)
        ]
        losses = [(a, -b, c) for a, b, c in values]
        expected = [i for i, loss in enumerate(losses) if not any(dominates(other, loss) for other in losses)]
        assert [trial.number for trial in pareto_front(trials, directions)] == expected


class TestAddingAndQueueing:
    def test_a_trial_from_elsewhere(self, storage: Any) -> None:
        study = create_study(storage=storage)
        study.add_trial(create_trial(value=1.0, params={"k": 2}, distributions={"k": Int(1, 5)}))
        study.add_trial(create_trial(state=TrialState.FAIL))
        assert [(trial.number, trial.state.name) for trial in study.trials] == [(0, "COMPLETE"), (1, "FAIL")]
        assert study.best_params == {"k": 2}
        assert study.trials[0].fingerprint

    def test_a_trial_that_does_not_fit(self) -> None:
        study = create_study()
        study.add_trial(create_trial(value=1.0, params={"k": 2}, distributions={"k": Int(1, 5)}))
        for trial, message in (
            (create_trial(values=[1.0, 2.0]), r"the study has 1 objective and was told 2 values"),
            (create_trial(value=1.0, params={"k": "a"}, distributions={"k": Choice("a")}), r"'k' is Int\(1, 5\)"),
            (
                create_trial(value=1.0, params={"p": "id"}, distributions={"p": Prompt()}),
                r"p='id' is no candidate of the pool; add it first and use its id",
            ),
            ({"value": 1.0}, r"add_trial takes a FrozenTrial.*create_trial"),
        ):
            with pytest.raises(StudyError, match=message):
                study.add_trial(trial)  # type: ignore[arg-type]
        assert len(study.trials) == 1

    def test_queued_values_are_used(self, storage: Any) -> None:
        study = create_study(storage=storage, sampler=RandomSampler(seed=0))
        study.enqueue_trial({"k": 4, "p": "Mine."}, user_attrs={"why": "a guess"})
        study.enqueue_trial({"k": 5})
        assert [trial.state for trial in study.trials] == [TrialState.WAITING] * 2

        def suggest() -> tuple[Any, ...]:
            trial = study.ask()
            found = trial.suggest_int("k", 1, 5), trial.suggest_prompt("p", ["Yours."]), trial.suggest_float("x", 0, 1)
            study.tell(trial, 1.0)
            return found

        assert suggest()[:2] == (4, "Mine.")
        assert suggest()[0] == 5
        assert study.trials[0].user_attrs == {"why": "a guess"}
        suggest()
        assert len(study.trials) == 3

    def test_queued_only_once(self) -> None:
        study = create_study()
        study.enqueue_trial({"k": 4})
        study.enqueue_trial({"k": 4}, skip_if_exists=True)
        study.ask().suggest_int("k", 1, 5)
        study.enqueue_trial({"k": 4}, skip_if_exists=True)
        assert len(study.trials) == 1
        study.enqueue_trial({"k": 4})
        assert len(study.trials) == 2

    def test_a_queued_value_that_does_not_fit(self) -> None:
        study = create_study()
        study.enqueue_trial({"k": 9})
        with pytest.raises(StateError, match=r"k = 9 \(int\) does not fit Int\(1, 5\)"):
            study.ask().suggest_int("k", 1, 5)

    def test_a_value_that_does_not_fit_the_declared_space_is_not_queued(self) -> None:
        study = create_study(space=SPACE.freeze("answer.instructions"))
        open_study = create_study(space=Space.of(k=Int(1, 5), p=Prompt(), shots=Demos(max_demos=1)))
        for wrong, message in (
            ({"k": 9}, r"k = 9 \(int\) does not fit Int\(1, 5\): write a whole number from 1 to 5"),
            ({"q": 1}, r"No variable at path 'q' in this space"),
            ({"p": 3}, r"p = 3 \(int\) does not fit Prompt\(\): write a string"),
            ({"shots": "nope"}, r"shots = 'nope' \(str\) does not fit Demos"),
        ):
            with pytest.raises(StateError, match=message):
                open_study.enqueue_trial(wrong)
        with pytest.raises(
            StudyError, match=r"'answer\.instructions' is not searched.*unfreeze\('answer\.instructions'"
        ):
            study.enqueue_trial({"answer.instructions": "Mine."})
        with pytest.raises(StudyError, match=r"params must be a mapping, got 3 \(int\); write study\.enqueue_trial\("):
            study.enqueue_trial(3)  # type: ignore[arg-type]  # the test
        assert study.trials == open_study.trials == []
        open_study.enqueue_trial({"p": open_study.pool("p").items[0].id, "shots": []})
        assert open_study.ask().values["shots"] == ()


class TestPoolsAndLedger:
    def test_a_pool_is_shared_through_the_storage(self, storage: Any) -> None:
        study = create_study(study_name="one", storage=storage, space=SPACE)
        first = study.pool("answer.instructions").items[0]
        assert (first.value, first.source) == ("Be brief.", "default")
        item = study.pool("answer.instructions").add("Think.", parents=[first.id], source="lm", metadata={"a": (1,)})
        other = load_study(study_name="one", storage=study.storage)
        found = other.pool("answer.instructions")
        assert found[item.id] == item
        assert (found.find("Think."), found.get("x"), item.id in found, len(found)) == (item, None, True, 2)
        assert (found.path, found.domain, found.values) == ("answer.instructions", Prompt(), ("Be brief.", "Think."))
        assert other.pool("answer.instructions").add("Think.") == item
        later = other.pool("answer.instructions").add("Later.")
        study.ask()  # which reads what is new
        assert study.pool("answer.instructions")[later.id].index == 2
        assert repr(found) == "<StudyPool of 'answer.instructions': 3 candidates>"

    def test_pools_that_are_none(self) -> None:
        study = create_study(space=SPACE)
        with pytest.raises(StudyError, match=r"no variable 'promt' is known.*study\.pool\('promt', Prompt\(\)\)"):
            study.pool("promt")
        with pytest.raises(StudyError, match=r"'answer' is Choice\('direct', 'stepwise'\), which has no pool"):
            study.pool("answer")
        with pytest.raises(StateError, match=r"No candidate 'nobody'"):
            study.pool("answer.instructions").add("x", parents="nobody")
        with pytest.raises(StateError, match=r"answer\.instructions = 3"):
            study.pool("answer.instructions").add(3)

    def test_rows_are_written_at_once_under_trial_and_fingerprint(self, storage: Any) -> None:
        study = create_study(study_name="one", storage=storage, space=SPACE)
        trial = study.ask()
        row = trial.record(Evaluation(example_id="e1", status="ok", scores={"score": 0.5}))
        assert (row.trial, row.fingerprint) == (0, trial.state.fingerprint)
        other = load_study(study_name="one", storage=study.storage)
        assert other.ledger.lookup(trial.fingerprint, "e1") == row
        study.record(None, Evaluation(example_id="e1", status="ok", fingerprint="baseline"))
        study.record_many(0, [Evaluation(example_id=f"e{i}", status="failed") for i in (2, 3)])
        assert [(row.trial, row.example_id) for row in other.ledger] == [(0, "e1"), (None, "e1"), (0, "e2"), (0, "e3")]
        with pytest.raises(StudyError, match=r"trial 0 has been measured on example 'e1' \(rollout 0\) already"):
            trial.record(row)
        finished = study.tell(trial, 1.0)
        study.record(finished, Evaluation(example_id="late", status="ok"))
        assert study.ledger.lookup(finished.fingerprint, "late") is not None


def test_a_study_of_a_deleted_study_says_so(storage: Any) -> None:
    study: Study = create_study(study_name="one", storage=storage)
    delete_study(study_name="one", storage=study.storage)
    with pytest.raises(StudyError, match="study 'one' was deleted from this storage; there are: none at all"):
        study.ask()


def test_attributes_that_are_asked_for_are_there_with_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = InMemoryStorage()
    study = create_study(storage=storage, space=SPACE)
    study.enqueue_trial({"answer": "direct"}, user_attrs={"by": "hand"})
    queued = study.ask(user_attrs={"given": True})
    assert dict(queued.user_attrs) == {"by": "hand", "given": True}
    appended = []
    append = storage.append_trials
    monkeypatch.setattr(storage, "append_trials", lambda i, trials: appended.extend(trials) or append(i, trials))
    trial = study.ask(fixed={"answer": "stepwise"}, user_attrs={"given": True})
    assert [one.user_attrs for one in appended] == [{"given": True}]
    assert dict(trial.user_attrs) == dict(study.trials[-1].user_attrs) == {"given": True}


def test_choices_that_are_equal_but_of_another_type_are_held_apart() -> None:
    trial = create_study().ask()
    suggested = [trial.suggest_categorical(f"x{i}", [value]) for i, value in enumerate((1, True, 1.0, (1,), (True,)))]
    assert list(map(repr, suggested)) == ["1", "True", "1.0", "(1,)", "(True,)"]
    with pytest.raises(DefinitionError, match="step"):
        trial.suggest_float("y", 0.0, 1.0, step=[0.1])  # type: ignore[arg-type]
