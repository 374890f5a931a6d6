"""Importances: against Optuna's, against analysis, over conditional spaces, texts and several objectives."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dspex.errors import StudyError
from dspex.importance import (
    FanovaImportanceEvaluator,
    ImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
    get_param_interactions,
)
from dspex.study import Study, create_study
from dspex.trials import FrozenTrial, TrialState, create_trial
from dspex.variables import Bool, Choice, Condition, Domain, Entry, Float, Int, Order, Prompt, Space, Subset

FANOVA = FanovaImportanceEvaluator(seed=0)
FLAT: dict[str, Domain[Any]] = {
    "x": Float(0.0, 1.0),
    "y": Float(1e-3, 10.0, log=True),
    "k": Int(0, 9),
    "c": Choice("a", "b", "d"),
    "n": Float(-1.0, 1.0),
    "step": Float(0.0, 1.0, step=0.25),
    "layers": Int(1, 100, log=True),
    "z": Float(0.0, 1.0),  # only under c = "a"
}


def _drawn(domains: Mapping[str, Domain[Any]], count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    points = [{path: domain.sample(rng) for path, domain in domains.items()} for _ in range(count)]
    for point in points:
        if point.get("c") != "a":
            point.pop("z", None)
    return points


def _study(
    domains: Mapping[str, Domain[Any]],
    objective: Callable[[dict[str, Any]], float],
    *,
    count: int,
    seed: int = 0,
    direction: str = "minimize",
) -> Study:
    study = create_study(direction=direction)
    for point in _drawn(domains, count, seed):
        here = {path: domains[path] for path in point}
        study.add_trial(create_trial(value=objective(point), params=point, distributions=here))
    return study


def _several(point: dict[str, Any]) -> float:
    """Of the variances x has 0.75, k 0.33, c 0.222, n 0.333, and x with n 0.111."""
    return 3 * point["x"] + 0.2 * point["k"] + (point["c"] == "a") + 2 * point["x"] * point["n"]


class TestAgainstOptuna:
    def _pair(self, domains: Mapping[str, Domain[Any]], count: int, direction: str = "minimize") -> tuple[Study, Any]:
        optuna = pytest.importorskip("optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        kinds = optuna.distributions

        def convert(domain: Domain[Any]) -> Any:
            if isinstance(domain, Float):
                return kinds.FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
            if isinstance(domain, Int):
                return kinds.IntDistribution(domain.low, domain.high, log=domain.log)
            return kinds.CategoricalDistribution(domain.candidates())

        def objective(point: dict[str, Any]) -> float:
            return _several(point) + point.get("z", 0.0) - 0.01 * point.get("layers", 0) - math.log(point.get("y", 1.0))

        study = _study(domains, objective, count=count, seed=count, direction=direction)
        other = optuna.create_study(direction=direction)
        for trial in study.trials:
            here = {path: convert(domain) for path, domain in trial.distributions.items()}
            other.add_trial(optuna.trial.create_trial(value=trial.value, params=dict(trial.params), distributions=here))
        return study, other

    @pytest.mark.parametrize("local", [True, False])
    @pytest.mark.parametrize(("count", "direction"), [(12, "minimize"), (200, "maximize"), (700, "minimize")])
    def test_ped_anova_is_the_same(self, count: int, direction: str, local: bool) -> None:
        study, other = self._pair(FLAT, count, direction)
        optuna = pytest.importorskip("optuna")
        theirs = optuna.importance.get_param_importances(
            other, evaluator=optuna.importance.PedAnovaImportanceEvaluator(evaluate_on_local=local)
        )
        ours = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(evaluate_on_local=local))
        assert ours == pytest.approx(theirs, rel=1e-9)

    def test_fanova_is_near(self) -> None:
        pytest.importorskip("sklearn")
        optuna = pytest.importorskip("optuna")
        # Theirs leaves conditional variables out, and weighs numbers on a log scale as if they were on a plain one.
        study, other = self._pair({path: FLAT[path] for path in ("x", "k", "c", "n", "step")}, 120)
        theirs = optuna.importance.get_param_importances(
            other, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
        assert get_param_importances(study, evaluator=FANOVA) == pytest.approx(theirs, abs=0.06)


class TestAgainstAnalysis:
    def test_fanova_gives_the_shares_of_the_variance(self) -> None:
        study = _study({path: FLAT[path] for path in ("x", "k", "c", "n")}, _several, count=800)
        found = get_param_importances(study, evaluator=FANOVA, normalize=False)
        whole = 0.75 + 0.33 + 2 / 9 + 1 / 3 + 1 / 9
        expected = {"x": 0.75 / whole, "n": 1 / 3 / whole, "k": 0.33 / whole, "c": 2 / 9 / whole}
        assert found == pytest.approx(expected, abs=0.04)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        together = get_param_interactions(study, evaluator=FANOVA)
        assert next(iter(together)) == ("n", "x")
        assert together["n", "x"] == pytest.approx(1 / 9 / whole, abs=0.03)
        assert sum(found.values()) + sum(together.values()) <= 1.0 + 1e-9

    def test_an_interaction_alone(self) -> None:
        study = _study({"x": Bool(), "y": Bool()}, lambda p: float(p["x"] != p["y"]), count=100)
        alone = get_param_importances(study, evaluator=FANOVA, normalize=False)
        assert alone == pytest.approx({"x": 0.0, "y": 0.0}, abs=0.05)
        assert get_param_interactions(study, evaluator=FANOVA)["x", "y"] == pytest.approx(1.0, abs=0.05)

    def test_a_log_scale_is_judged_on_its_own(self) -> None:
        domains: dict[str, Domain[Any]] = {"rate": Float(1e-5, 1.0, log=True), "x": Float(0.0, 1.0)}
        study = _study(domains, lambda p: math.log10(p["rate"]) / 5 + p["x"], count=300)
        found = get_param_importances(study, evaluator=FANOVA, normalize=False)
        assert found == pytest.approx({"rate": 0.5, "x": 0.5}, abs=0.06)

    def test_subsets_and_orders_are_categories(self) -> None:
        domains: dict[str, Domain[Any]] = {"tools": Subset("a", "b"), "order": Order("a", "b"), "x": Float(0.0, 1.0)}
        study = _study(domains, lambda p: float("b" in p["tools"]) + 0.1 * p["x"], count=150)
        assert get_param_importances(study, evaluator=FANOVA)["tools"] > 0.9
        assert get_param_importances(study)["tools"] > get_param_importances(study)["order"]

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**31), st.integers(2, 40))
    def test_shares_are_shares(self, seed: int, count: int) -> None:
        rng = random.Random(seed)
        study = _study(FLAT, lambda p: rng.choice([0.0, 1.0, rng.random()]), count=count, seed=seed)
        evaluator = FanovaImportanceEvaluator(n_trees=8, seed=seed)
        alone = evaluator.evaluate(study)
        together = evaluator.interactions(study)
        assert all(share >= -1e-12 for share in [*alone.values(), *together.values()])
        # A conditional variable with its condition is what main effects count to it, so the sum stays below 1.
        assert sum(alone.values()) <= 1.0 + 1e-9
        assert alone == evaluator.evaluate(study)


class TestConditions:
    """f = x under a (half of the time), 0.5 elsewhere but for z under b: no value where inactive is ever made up."""

    SPACE = Space(
        [
            Entry("c", Choice("a", "b"), "a"),
            Entry("c.a.x", Float(0.0, 1.0), 0.0, conditions=[Condition("c", "a")]),
            Entry("c.b.z", Float(0.0, 1.0), 0.0, conditions=[Condition("c", "b")]),
            Entry("noise", Float(0.0, 1.0), 0.0),
        ]
    )

    def _ask(self, *, declared: bool, count: int = 300) -> Study:
        from dspex.samplers import RandomSampler

        study = create_study(sampler=RandomSampler(seed=1), space=self.SPACE if declared else None)

        def objective(trial: Any) -> float:
            if declared:
                values = trial.values
            else:
                values = {"c": trial.suggest_categorical("c", ["a", "b"]), "noise": trial.suggest_float("noise", 0, 1)}
                values |= (
                    {"c.a.x": trial.suggest_float("c.a.x", 0, 1)}
                    if values["c"] == "a"
                    else {"c.b.z": trial.suggest_float("c.b.z", 0, 1)}
                )
            return 2 * values["c.a.x"] if values["c"] == "a" else 0.5 + values["c.b.z"]

        study.optimize(objective, n_trials=count)
        return study

    @pytest.mark.parametrize("declared", [True, False])
    def test_fanova_judges_them_where_they_are_active(self, declared: bool) -> None:
        study = self._ask(declared=declared)
        found = get_param_importances(study, evaluator=FANOVA, normalize=False)
        # Both branches have the mean 1; half of the time x has the variance 4/12, and z 1/12.
        expected = {"c.a.x": 0.8, "c.b.z": 0.2, "c": 0.0, "noise": 0.0}
        assert found == pytest.approx(expected, abs=0.05)
        assert get_param_interactions(study, evaluator=FANOVA)["c.a.x", "c.b.z"] == 0.0

    def test_ped_anova_counts_them_as_often_as_they_are_active(self) -> None:
        found = get_param_importances(self._ask(declared=False), evaluator=PedAnovaImportanceEvaluator())
        assert next(iter(found)) == "c.a.x"
        assert found["noise"] < 0.2

    def test_a_number_may_be_the_condition(self) -> None:
        study = create_study()
        rng = random.Random(0)
        for _ in range(200):
            layers = rng.randint(1, 4)
            widths = [rng.random() for _ in range(layers)]
            params = {"layers": layers, **{f"w{i}": width for i, width in enumerate(widths)}}
            domains = {"layers": Int(1, 4), **{f"w{i}": Float(0.0, 1.0) for i in range(layers)}}
            study.add_trial(create_trial(value=sum(widths[3:]), params=params, distributions=domains))
        found = get_param_importances(study, evaluator=FANOVA, normalize=False)
        # w3 is there in a quarter of the trials: 1/4 of 1/12, against 1/4 · 3/4 · 1/4 for the number of layers.
        assert found["w3"] == pytest.approx(0.0208 / 0.0677, abs=0.08)
        assert found["layers"] == pytest.approx(0.0469 / 0.0677, abs=0.08)


class TestTexts:
    def test_a_prompt_is_one_of_its_candidates(self) -> None:
        study = create_study(direction="maximize")
        pool = study.pool("instructions", Prompt())
        items = [pool.add(text).id for text in ("Answer.", "Think step by step.", "Answer in one word.")]
        domains: dict[str, Domain[Any]] = {"instructions": Prompt(), "y": Choice(*range(8)), "x": Float(0.0, 1.0)}
        rng = random.Random(0)
        for _ in range(150):
            params = {"instructions": rng.choice(items), "y": rng.randrange(8), "x": rng.random()}
            value = (params["instructions"] == items[1]) + 0.1 * params["x"]
            study.add_trial(create_trial(value=value, params=params, distributions=domains))
        assert get_param_importances(study, evaluator=FANOVA)["instructions"] > 0.9
        assert get_param_importances(study)["instructions"] > get_param_importances(study)["y"]


class TestTargets:
    def _study(self) -> Study:
        study = create_study(directions=["maximize", "minimize"])
        for point in _drawn({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, 150, 3):
            domains = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
            study.add_trial(create_trial(values=[point["x"], point["y"]], params=point, distributions=domains))
        return study

    def test_an_objective_by_its_index(self) -> None:
        study = self._study()
        for evaluator in (FANOVA, PedAnovaImportanceEvaluator()):
            assert next(iter(get_param_importances(study, evaluator=evaluator, target=0))) == "x"
            assert next(iter(get_param_importances(study, evaluator=evaluator, target=1))) == "y"
            by_function = get_param_importances(
                study, evaluator=evaluator, target=lambda trial: (trial.values or [0])[1]
            )
            assert by_function == get_param_importances(study, evaluator=evaluator, target=1)

    def test_an_objective_by_its_name(self) -> None:
        study = self._study()
        assert get_param_importances(study, target="Objective 1") == get_param_importances(study, target=1)
        study.set_metric_names(["accuracy", "cost"])
        assert get_param_importances(study, target="cost") == get_param_importances(study, target=1)

    def test_ped_anova_judges_all_of_them_together(self) -> None:
        found = get_param_importances(self._study(), evaluator=PedAnovaImportanceEvaluator())
        assert found == pytest.approx({"x": 0.5, "y": 0.5}, abs=0.35)

    def test_violated_constraints_are_never_the_best(self) -> None:
        study = create_study()
        for point in _drawn({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, 200, 3):
            study.add_trial(
                create_trial(
                    value=point["x"],
                    params=point,
                    distributions={"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)},
                    constraints={"low": 0.5 - point["y"]},
                )
            )
        found = get_param_importances(study)
        assert found["y"] > 0.1
        assert found["x"] > found["y"]

    @pytest.mark.parametrize("target", [2, -1, True, "score"])
    def test_no_such_objective(self, target: Any) -> None:
        with pytest.raises(
            StudyError, match=r"target must be a function of a trial, or the index or name of one of the 2"
        ):
            get_param_importances(self._study(), target=target)

    def test_fanova_wants_to_be_told(self) -> None:
        with pytest.raises(StudyError, match=r"the study has 2 objectives; say which one is meant: target=0"):
            get_param_importances(self._study(), evaluator=FANOVA)

    def test_a_target_that_is_no_number(self) -> None:
        with pytest.raises(StudyError, match=r"target\(trial\) must return a number, and for trial 0 it returned"):
            get_param_importances(self._study(), target=lambda trial: "a")  # type: ignore[arg-type, return-value]


class TestRefusals:
    def test_too_few_trials(self) -> None:
        study = create_study(study_name="empty")
        study.tell(study.ask(), state=TrialState.FAIL)
        with pytest.raises(
            StudyError, match=r"two completed trials with a finite value, and study 'empty' has 0; run more"
        ):
            get_param_importances(study)

    def test_unknown_params(self) -> None:
        study = _study({"x": Float(0.0, 1.0)}, lambda p: p["x"], count=3)
        with pytest.raises(StudyError, match=r"params names 'y', which no completed trial has; there are: x"):
            get_param_importances(study, params=["y"])
        with pytest.raises(StudyError, match=r"params must be a list of names, got 'x'; write params=\['x'\]"):
            get_param_importances(study, params="x")

    def test_wrong_evaluators(self) -> None:
        study = _study({"x": Float(0.0, 1.0)}, lambda p: p["x"], count=3)
        with pytest.raises(StudyError, match=r"evaluator must be an ImportanceEvaluator, got 'fanova' \(str\)"):
            get_param_importances(study, evaluator="fanova")  # type: ignore[arg-type]
        with pytest.raises(StudyError, match=r"n_trees must be a whole number above 0, got 0 \(int\)"):
            FanovaImportanceEvaluator(n_trees=0)
        with pytest.raises(StudyError, match=r"0 < target_quantile < region_quantile <= 1, got target_quantile=0.5"):
            PedAnovaImportanceEvaluator(target_quantile=0.5, region_quantile=0.5)


def test_only_completed_and_finite_trials_count() -> None:
    study = _study({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, lambda p: p["x"], count=40)
    before = get_param_importances(study)
    for state in (TrialState.FAIL, TrialState.PRUNED):
        study.tell(study.ask(), state=state)
    study.add_trial(
        create_trial(value=math.inf, params={"x": 0.5, "y": 0.5}, distributions=dict(study.trials[0].distributions))
    )
    assert get_param_importances(study) == before


def test_params_are_a_choice_of_what_is_said() -> None:
    study = _study(FLAT, lambda p: p["x"], count=60)
    assert set(get_param_importances(study, params=["n", "k"])) == {"n", "k"}
    whole = FANOVA.evaluate(study)
    assert FANOVA.evaluate(study, ["k", "x"]) == pytest.approx({"x": whole["x"], "k": whole["k"]})


def test_what_does_not_vary_has_no_importance() -> None:
    study = _study({"x": Float(0.0, 1.0), "one": Choice("a")}, lambda p: 1.0, count=10)
    assert FANOVA.evaluate(study) == {"x": 0.0, "one": 0.0}
    assert get_param_importances(study, evaluator=FANOVA) == {"x": 0.5, "one": 0.5}


def test_an_evaluator_of_ones_own() -> None:
    class Lengths(ImportanceEvaluator):
        def evaluate(self, study: Study, params: Any = None, *, target: Any = None) -> dict[str, float]:
            return {path: float(len(path)) for path in study.trials[0].params}

    study = _study({"x": Float(0.0, 1.0), "long": Float(0.0, 1.0)}, lambda p: p["x"], count=3)
    assert get_param_importances(study, evaluator=Lengths()) == {"x": 0.2, "long": 0.8}


def test_many_trials_are_no_hindrance() -> None:
    trials: list[FrozenTrial] = _study({"x": Float(0.0, 1.0), "y": Int(0, 3)}, lambda p: p["x"], count=3000).trials
    study = create_study()
    for trial in trials:
        study.add_trial(trial)
    found = FanovaImportanceEvaluator(n_trees=8).evaluate(study)
    assert np.isclose(found["x"], 1.0, atol=0.01)
