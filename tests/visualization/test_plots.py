"""Every plot, by both backends: drawn to an image, and its content checked."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from dspex import visualization
from dspex.data import Evaluation, Usage
from dspex.errors import StudyError
from dspex.importance import FanovaImportanceEvaluator, get_param_importances
from dspex.study import Study, create_study
from dspex.trials import TrialState, create_trial
from dspex.variables import Float, Int
from dspex.visualization import examples, fronts, histories, importances, relations
from dspex.visualization.figure import Axis, Bars, Colors, Figure, Heat, Line, Panel, Points, Texts
from dspex.visualization.fronts import hypervolume
from dspex.visualization.selecting import shorten

pytest.importorskip("matplotlib").use("Agg")
pytest.importorskip("plotly")

NASTY = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    from matplotlib import pyplot

    yield
    pyplot.close("all")


def _of(figure: Figure, kind: type[Any], panel: tuple[int, int] = (0, 0)) -> list[Any]:
    return [layer for layer in figure.panels[panel[0]][panel[1]].layers if isinstance(layer, kind)]


def _named(figure: Figure, name: str) -> Any:
    (found,) = [layer for layer in figure.panels[0][0].layers if getattr(layer, "name", "") == name]
    return found


def _image(axes: Any) -> np.ndarray[Any, Any]:
    from matplotlib.image import imread

    out = BytesIO()
    np.asarray(axes, dtype=object).flat[0].figure.savefig(out, format="png")
    out.seek(0)
    return np.asarray(imread(out))


PLOTS: dict[str, tuple[str, Callable[[Any, Study], Any]]] = {
    "contour": ("flat", lambda backend, study: backend.plot_contour(study)),
    "contour of two": ("flat", lambda backend, study: backend.plot_contour(study, ["rate", "x"])),
    "contour of texts": (
        "program",
        lambda backend, study: backend.plot_contour(study, ["answer", "answer.instructions"]),
    ),
    "cost gain": ("program", lambda backend, study: backend.plot_cost_gain(study)),
    "edf": ("flat", lambda backend, study: backend.plot_edf(study)),
    "example heatmap": ("program", lambda backend, study: backend.plot_example_heatmap(study)),
    "history": ("flat", lambda backend, study: backend.plot_optimization_history(study)),
    "history with bars": (
        "flat",
        lambda backend, study: backend.plot_optimization_history([study, study], error_bar=True),
    ),
    "hypervolume": ("several", lambda backend, study: backend.plot_hypervolume_history(study, [0.0, 1.5])),
    "importances": ("several", lambda backend, study: backend.plot_param_importances(study)),
    "intermediate": ("flat", lambda backend, study: backend.plot_intermediate_values(study)),
    "lineage": ("program", lambda backend, study: backend.plot_prompt_lineage(study, "answer.instructions")),
    "parallel": ("flat", lambda backend, study: backend.plot_parallel_coordinate(study)),
    "parallel of several": ("several", lambda backend, study: backend.plot_parallel_coordinate(study)),
    "pareto": ("several", lambda backend, study: backend.plot_pareto_front(study)),
    "pareto of three": (
        "several",
        lambda backend, study: backend.plot_pareto_front(study, targets=lambda t: (*t.values, t.params["y"])),
    ),
    "rank": ("flat", lambda backend, study: backend.plot_rank(study)),
    "rank of one": ("flat", lambda backend, study: backend.plot_rank(study, ["x"])),
    "slice": ("flat", lambda backend, study: backend.plot_slice(study)),
    "slice of texts": ("program", lambda backend, study: backend.plot_slice(study)),
    "terminator": ("program", lambda backend, study: backend.plot_terminator_improvement(study, plot_error=True)),
    "timeline": ("flat", lambda backend, study: backend.plot_timeline(study)),
}


@pytest.mark.parametrize("name", PLOTS)
def test_matplotlib_draws_it(name: str, request: pytest.FixtureRequest) -> None:
    which, plot = PLOTS[name]
    axes = plot(visualization.matplotlib, request.getfixturevalue(which))
    picture = _image(axes)
    assert picture.shape[0] > 300
    assert picture.shape[1] > 400
    ink = (picture[..., :3] < 0.98).any(axis=-1)
    assert 0.005 < ink.mean() < 0.9  # neither empty nor a blot
    # Something was drawn inside the axes of some panel, and not only around them.
    drawn = [one for one in np.asarray(axes, dtype=object).flat if one.has_data()]
    assert drawn


@pytest.mark.parametrize("name", PLOTS)
def test_plotly_draws_it(name: str, request: pytest.FixtureRequest) -> None:
    which, plot = PLOTS[name]
    figure = plot(visualization, request.getfixturevalue(which))
    page = json.loads(figure.to_json())
    assert page["data"]
    assert page["layout"]["title"]["text"]
    assert "<script" not in figure.to_json()
    assert "NaN" not in figure.to_json()


def test_both_backends_have_the_same_plots() -> None:
    names = {name for name in visualization.__all__ if name.startswith("plot_")}
    assert names == {name for name in visualization.matplotlib.__all__ if name.startswith("plot_")}
    assert visualization.is_available()
    assert visualization.matplotlib.is_available()
    assert visualization.plot_slice.__doc__ == relations.slices.__doc__ == visualization.matplotlib.plot_slice.__doc__


class TestHistories:
    def test_only_feasible_completed_trials_are_best(self, flat: Study) -> None:
        figure = histories.optimization_history(flat)
        done = flat.get_trials(states=[TrialState.COMPLETE])
        good = [trial for trial in done if trial.feasible]
        values, best = _named(figure, "Objective Value"), _named(figure, "Best Value")
        assert list(values.x) == [trial.number for trial in good]
        assert list(values.y) == [trial.value for trial in good]
        assert len(_named(figure, "Infeasible Trial").x) == len(done) - len(good) > 0
        assert list(best.x) == [trial.number for trial in done]
        assert best.y[-1] == flat.best_value
        assert all(a >= b for a, b in zip(best.y, best.y[1:], strict=False) if not math.isnan(a))
        assert "trial 0" in values.hover[0]

    def test_a_target(self, flat: Study, several: Study) -> None:
        durations = histories.optimization_history(flat, target=lambda trial: trial.params["x"], target_name="x")
        assert [layer.name for layer in durations.panels[0][0].layers] == ["Infeasible Trial", "x"]
        best = _named(histories.optimization_history(several, target=0), "Best Value")
        assert best.y[-1] == max(trial.values[0] for trial in several.trials if trial.values)
        with pytest.raises(StudyError, match=r"the study has 2 objectives; say which one is meant: target=0"):
            histories.optimization_history(several)

    def test_several_studies(self, flat: Study, program: Study) -> None:
        names = [layer.name for layer in histories.optimization_history([flat, program]).panels[0][0].layers]
        assert "Best Value of flat" in names
        assert "Best Value of program" in names
        with pytest.raises(StudyError, match=r"study must be a Study or a list of them, got \[\]"):
            histories.optimization_history([])

    def test_error_bars_are_over_the_studies(self) -> None:
        studies = []
        for shift in (0.0, 2.0):
            study = create_study(direction="maximize")
            for value in (1.0, 3.0):
                study.add_trial(create_trial(value=value + shift))
            studies.append(study)
        points, line = histories.optimization_history(studies, error_bar=True).panels[0][0].layers
        assert isinstance(points, Points)
        assert isinstance(line, Line)
        assert (list(points.y), list(points.error or ())) == ([2.0, 4.0], [1.0, 1.0])
        assert (list(line.y), list(line.band or ())) == ([2.0, 4.0], [1.0, 1.0])

    def test_edf(self, flat: Study, program: Study) -> None:
        figure = histories.edf([flat, program])
        for line in _of(figure, Line):
            assert line.y[-1] == 1.0
            assert all(a <= b for a, b in zip(line.y, line.y[1:], strict=False))
        values = sorted(trial.value or 0.0 for trial in program.trials)
        line = _of(histories.edf(program), Line)[0]
        assert line.y[0] == pytest.approx(values.count(values[0]) / len(values))

    def test_intermediate_values_of_pruned_ones_are_dashed(self, flat: Study) -> None:
        lines = _of(histories.intermediate_values(flat), Line)
        by_name = {line.name: line for line in lines}
        assert len(lines) == len([trial for trial in flat.trials if trial.state is not TrialState.FAIL])
        assert by_name["Trial 4"].dash
        assert not by_name["Trial 0"].dash
        assert list(by_name["Trial 0"].x) == [0, 1, 2, 3]

    def test_intermediate_values_of_each_objective(self) -> None:
        study = create_study(directions=["maximize", "minimize"])
        study.set_metric_names(["accuracy", "cost"])
        trial = study.ask()
        trial.report((0.5, 3.0), 1)
        trial.report((0.7, 4.0), 2)
        study.tell(trial, [0.7, 4.0])
        figure = histories.intermediate_values(study)
        assert [panel.y.title for panel in figure.panels[0]] == ["accuracy", "cost"]
        assert list(_of(figure, Line, (0, 1))[0].y) == [3.0, 4.0]

    def test_what_the_next_trial_is_expected_to_gain(self, program: Study) -> None:
        study = create_study(direction="maximize")
        for value in [0.0, 1.0, 3.0, 2.0]:
            study.add_trial(create_trial(value=value))
        early, late = _of(histories.terminator_improvement(study, min_n_trials=3), Line)
        # Of 3 and 2, 1, 0: the spacings times their ranks are 1, 2, 3, so the scale is 2, over 5 for the next of them.
        assert late.y[-1] == pytest.approx(2.0 / 5)
        assert (list(early.x), list(late.x)) == ([1, 2], [2, 3])
        own = histories.terminator_improvement(study, improvement_evaluator=lambda losses: -losses[0], min_n_trials=0)
        assert list(_of(own, Line)[0].y) == [1.0, 3.0, 3.0]
        error = _named(histories.terminator_improvement(program, plot_error=True), "Error")
        scores = [list(program.ledger.scores(trial.number).values()) for trial in program.trials]
        pooled = np.mean([np.var(part, ddof=1) for part in scores])
        assert error.y[-1] == pytest.approx(math.sqrt(pooled / len(scores[program.best_trial.number])))
        with pytest.raises(StudyError, match=r"trial 1 has no scores on several examples in the ledger"):
            histories.terminator_improvement(study, plot_error=True)

    def test_timeline(self, flat: Study) -> None:
        bars = _of(histories.timeline(flat), Bars)
        assert {bar.name for bar in bars} == {"COMPLETE", "FAIL", "INFEASIBLE", "PRUNED"}
        assert sum(len(bar.at) for bar in bars) == 70
        assert all(start < end for bar in bars for start, end in zip(bar.start, bar.end, strict=True))
        recent = _of(histories.timeline(flat, n_recent_trials=5), Bars)
        assert sorted(number for bar in recent for number in bar.at) == [65, 66, 67, 68, 69]
        with pytest.raises(StudyError, match=r"n_recent_trials must be a whole number above 0, got 0"):
            histories.timeline(flat, 0)

    def test_cost_and_gain(self, program: Study) -> None:
        figure = histories.cost_gain(program)
        points, best = _of(figure, Points)[0], _of(figure, Line)[0]
        assert figure.panels[0][0].x.title == "Cost (US dollars)"
        assert points.x[-1] == pytest.approx(program.ledger.usage().cost)
        assert best.y[-1] == program.best_value
        tokens = _of(histories.cost_gain(program, cost="tokens"), Points)[0]
        assert tokens.x[-1] == program.ledger.usage().total_tokens
        rows = _of(histories.cost_gain(program, cost="evaluations"), Points)[0]
        assert rows.x[-1] == len(program.ledger)
        assert _of(histories.cost_gain(program, cost="seconds"), Points)[0].x[-1] == len(program.ledger) * 0.5

    def test_money_of_failed_trials_is_spent_too(self) -> None:
        study = create_study(direction="maximize")
        for number, state in enumerate([TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]):
            trial = study.ask()
            trial.suggest_int("k", 0, 5)
            trial.record(Evaluation(example_id="e", status="ok", scores={"score": 1.0}, usage=Usage(calls=1, cost=1.0)))
            study.tell(trial, float(number) if state is TrialState.COMPLETE else None, state=state)
        points = _of(histories.cost_gain(study), Points)[0]
        assert list(points.x) == [1.0, 3.0]

    def test_unknown_prices(self, flat: Study) -> None:
        study = create_study()
        trial = study.ask()
        trial.record(Evaluation(example_id="e", status="ok", scores={"score": 1.0}, usage=Usage(calls=2, cost=None)))
        study.tell(trial, 1.0)
        with pytest.raises(
            StudyError, match=r"the price of all 2 calls is unknown; write plot_cost_gain\(study, cost="
        ):
            histories.cost_gain(study)
        with pytest.raises(StudyError, match=r"the ledger of study 'flat' is empty"):
            histories.cost_gain(flat)
        with pytest.raises(StudyError, match=r"cost must be 'usd', 'tokens', .* got 'eur'"):
            histories.cost_gain(study, cost="eur")  # type: ignore[arg-type]


class TestNames:
    def test_objectives_are_called_by_their_names(self) -> None:
        study = create_study(directions=["maximize", "minimize"])
        study.set_metric_names(["accuracy", "cost"])
        for x in (0.1, 0.5, 0.9):
            study.add_trial(create_trial(values=[x, x], params={"x": x}, distributions={"x": Float(0.0, 1.0)}))
        assert histories.optimization_history(study, target="cost").panels[0][0].y.title == "cost"
        assert histories.optimization_history(study, target=0).panels[0][0].y.title == "accuracy"
        assert histories.edf(study, target=0, target_name="mine").panels[0][0].x.title == "mine"
        assert fronts.pareto_front(study).panels[0][0].y.title == "cost"
        assert [bar.name for bar in _of(importances.param_importances(study), Bars)] == ["accuracy", "cost"]
        ticks = relations.parallel_coordinate(study).panels[0][0].x.ticks or ()
        assert [label for _, label in ticks] == ["accuracy", "cost", "x"]


class TestRelations:
    def test_slices(self, flat: Study) -> None:
        figure = relations.slices(flat)
        panels = {panel.x.title: panel for row in figure.panels for panel in row}
        assert set(panels) == {"x", "rate", "depth", "model", "model.temperature"}
        assert panels["rate"].x.kind == "log"
        assert [label for _, label in panels["model"].x.ticks or ()] == ["openai/gpt-5-mini-2026-01…", "local/small"]
        done = flat.get_trials(states=[TrialState.COMPLETE])
        drawn = [len(layer.x) for layer in panels["model.temperature"].layers if isinstance(layer, Points)]
        assert sum(drawn) == sum("model.temperature" in trial.params for trial in done)
        assert sum(len(layer.x) for layer in panels["x"].layers if isinstance(layer, Points)) == len(done)

    def test_texts_are_short_labels_with_their_number(self, program: Study) -> None:
        axis = relations.slices(program, ["answer.instructions"]).panels[0][0].x
        labels = [label for _, label in axis.ticks or ()]
        assert labels[0] == "#0 Answer the question."
        assert labels[1].startswith("#1 Answer in $one$")
        assert all(len(label) <= 27 for label in labels)

    def test_of_many_variables_the_most_important_are_drawn(self) -> None:
        study = create_study()
        domains = {f"v{index:02d}": Float(0.0, 1.0) for index in range(30)}
        rng = np.random.default_rng(0)
        for _ in range(60):
            params = {path: float(rng.random()) for path in domains}
            study.add_trial(create_trial(value=params["v17"], params=params, distributions=domains))
        figure = relations.slices(study)
        titles = [panel.x.title for row in figure.panels for panel in row]
        assert len(titles) == 16
        assert "v17" in titles
        assert max(len(row) for row in figure.panels) == 4
        assert len(relations.contour(study).panels) == 5
        assert len(relations.slices(study, list(domains)).panels) == 8

    def test_rank_of_equal_values_is_shared(self) -> None:
        study = create_study()
        for x, value in enumerate([3.0, 1.0, 1.0, 2.0]):
            domains = {"x": Int(0, 5), "y": Int(0, 5)}
            study.add_trial(create_trial(value=value, params={"x": x, "y": x}, distributions=domains))
        (points,) = _of(relations.rank(study), Points)
        assert isinstance(points.color, Colors)
        assert list(points.color.values) == pytest.approx([1.0, 1 / 6, 1 / 6, 2 / 3])
        assert (points.color.ticks or ())[0] == (0.0, "min. (1)")

    def test_contour_has_each_spot_once_at_its_best(self) -> None:
        study = create_study(direction="maximize")
        for x, y, value in [(0, 0, 1.0), (0, 0, 5.0), (1, 1, 2.0), (0, 1, 3.0)]:
            domains = {"x": Int(0, 5), "y": Int(0, 5)}
            study.add_trial(create_trial(value=value, params={"x": x, "y": y}, distributions=domains))
        figure = relations.contour(study)
        (heat,) = _of(figure, Heat)
        assert np.array_equal(heat.z, [[5.0, math.nan], [3.0, 2.0]], equal_nan=True)
        assert not heat.reverse  # darker is larger, which is better here
        assert len(_of(figure, Points)[0].x) == 4

    def test_variables_that_never_meet(self) -> None:
        study = create_study()
        for path in ("x", "y", "x", "y"):
            study.add_trial(
                create_trial(value=1.0, params={path: 1, "k": 2}, distributions={path: Int(0, 5), "k": Int(0, 5)})
            )
        panels = relations.rank(study, ["x", "y", "k"]).panels
        assert panels[0][1].note == "never together"
        assert panels[0][0].note == ""
        assert panels[2][0].layers

    def test_parallel_coordinates_show_what_is_inactive(self, flat: Study) -> None:
        figure = relations.parallel_coordinate(flat)
        labels = [label for _, label in figure.panels[0][0].x.ticks or ()]
        assert labels[0] == "Objective Value"
        texts = [text for layer in _of(figure, Texts) for text in layer.text]
        assert texts.count("inactive") == 1
        crossings = sum(sum(math.isnan(value) for value in line.y) for line in _of(figure, Line))
        assert crossings == len(flat.get_trials(states=[TrialState.COMPLETE]))

    def test_parallel_coordinates_of_several_objectives_are_coloured_by_front(self, several: Study) -> None:
        figure = relations.parallel_coordinate(several)
        assert [label for _, label in figure.panels[0][0].x.ticks or ()][:2] == ["Objective 0", "Objective 1"]
        (points,) = _of(figure, Points)
        assert isinstance(points.color, Colors)
        assert list(points.color.values).count(0.0) == len(several.best_trials)

    def test_refusals(self, flat: Study) -> None:
        with pytest.raises(StudyError, match=r"params names 'y', which no completed trial has; there are: x, rate"):
            relations.slices(flat, ["y"])
        with pytest.raises(StudyError, match=r"params must be a list of names, got 'x'; write params=\['x'\]"):
            relations.rank(flat, "x")
        with pytest.raises(StudyError, match=r"contours need two variables, and there is only 'x'; write plot_slice"):
            relations.contour(flat, ["x"])
        with pytest.raises(StudyError, match=r"params is empty; leave it out, or name some of: x"):
            relations.slices(flat, [])


class TestFronts:
    def test_a_known_pareto_set(self) -> None:
        study = create_study(directions=["maximize", "minimize"])
        for values in [(1.0, 1.0), (2.0, 2.0), (1.0, 2.0), (3.0, 3.0), (2.5, 3.0)]:
            study.add_trial(create_trial(values=values))
        study.add_trial(create_trial(values=(9.0, 0.0), constraints={"c": 1.0}))
        figure = fronts.pareto_front(study, target_names=["score", "cost"])
        best = _named(figure, "Best Trial")
        assert list(zip(best.x, best.y, strict=True)) == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
        assert len(_named(figure, "Trial").x) == 2
        assert list(_named(figure, "Infeasible Trial").x) == [9.0]
        assert (figure.panels[0][0].x.title, figure.panels[0][0].y.title) == ("score", "cost")
        alone = fronts.pareto_front(study, include_dominated_trials=False)
        assert {layer.name for layer in _of(alone, Points)} == {"Infeasible Trial", "Best Trial"}

    def test_the_picture_shows_the_front(self, several: Study) -> None:
        axes = visualization.matplotlib.plot_pareto_front(several)
        front = next(one for one in axes.collections if one.get_label() == "Best Trial")
        drawn = {tuple(point) for point in front.get_offsets().tolist()}
        assert drawn == {trial.values for trial in several.best_trials}
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("Objective 0", "Objective 1")

    def test_hypervolume_grows_with_the_front(self) -> None:
        study = create_study(directions=["minimize", "minimize"])
        for values in [(2.0, 2.0), (3.0, 3.0), (1.0, 3.0), (3.0, 1.0), (5.0, 0.0)]:
            study.add_trial(create_trial(values=values))
        line = _of(fronts.hypervolume_history(study, [4.0, 4.0]), Line)[0]
        assert list(line.y) == [4.0, 4.0, 5.0, 6.0, 6.0]
        upward = create_study(directions=["maximize", "minimize"])
        upward.add_trial(create_trial(values=[1.0, 1.0]))
        assert list(_of(fronts.hypervolume_history(upward, [0.0, 3.0]), Line)[0].y) == [2.0]

    def test_hypervolume_of_three(self) -> None:
        rng = np.random.default_rng(0)
        losses = [tuple(map(float, row)) for row in rng.random((6, 3))]
        cells = (np.arange(60) + 0.5) / 60
        grid = np.stack(np.meshgrid(cells, cells, cells), axis=-1).reshape(-1, 3)
        below = np.any([(grid >= loss).all(axis=1) for loss in losses], axis=0)
        assert hypervolume(losses, (1.0, 1.0, 1.0)) == pytest.approx(below.mean(), abs=0.02)

    def test_refusals(self, flat: Study, several: Study) -> None:
        with pytest.raises(StudyError, match=r"a Pareto front of 2 or 3 objectives can be drawn, and the study has 1"):
            fronts.pareto_front(flat)
        with pytest.raises(StudyError, match=r"target_names must name the 2 objectives, got \['a'\]"):
            fronts.pareto_front(several, target_names=["a"])
        with pytest.raises(StudyError, match=r"targets\(trial\) must return a sequence of numbers, and for trial 0"):
            fronts.pareto_front(several, targets=lambda trial: 1.0)  # type: ignore[arg-type, return-value]
        with pytest.raises(StudyError, match=r"reference_point must have a finite number for each of the 2 objectives"):
            fronts.hypervolume_history(several, [0.0])
        with pytest.raises(StudyError, match=r"a hypervolume needs several objectives"):
            fronts.hypervolume_history(flat, [0.0])


class TestImportances:
    def test_bars_are_the_importances(self, flat: Study) -> None:
        evaluator = FanovaImportanceEvaluator(n_trees=8, seed=0)
        figure = importances.param_importances(flat, evaluator)
        (bars,) = _of(figure, Bars)
        found = get_param_importances(flat, evaluator=evaluator)
        assert list(bars.end) == list(found.values())[::-1]
        assert [label for _, label in figure.panels[0][0].y.ticks or ()] == list(found)[::-1]

    def test_each_objective_has_its_bars(self, several: Study) -> None:
        bars = _of(importances.param_importances(several), Bars)
        assert [bar.name for bar in bars] == ["Objective 0", "Objective 1"]
        assert len(_of(importances.param_importances(several, target=1), Bars)) == 1


class TestExamples:
    def test_the_heat_map_is_the_ledger(self, program: Study) -> None:
        figure = examples.example_heatmap(program)
        (heat,) = _of(figure, Heat)
        assert (len(heat.z), len(heat.z[0])) == (12, 30)
        labels = [label for _, label in figure.panels[0][0].y.ticks or ()]
        means = [np.nanmean(row) for row in heat.z]
        assert means == sorted(means, reverse=True)  # the hardest at the top
        matrix = program.ledger.matrix()
        row = matrix.examples.index(labels[0])
        assert np.array_equal(heat.z[0], [scores[row] for scores in matrix.scores], equal_nan=True)
        part = examples.example_heatmap(program, trials=[3, 5], examples=["question-01", "question-02", "question-03"])
        assert np.array(_of(part, Heat)[0].z).shape == (3, 2)

    def test_no_such_score(self, program: Study, flat: Study) -> None:
        with pytest.raises(StudyError, match=r"has no score 'cost' to show; there are: score"):
            examples.example_heatmap(program, objective="cost")
        with pytest.raises(StudyError, match=r"has no score 'score' to show; it is empty; write trial.record"):
            examples.example_heatmap(flat)

    def test_lineage(self, program: Study) -> None:
        figure = examples.prompt_lineage(program, "answer.instructions")
        edges = [tuple(line.x) for line in _of(figure, Line)]
        assert edges == [(0, 1), (1, 2), (2, 3)]
        points = _of(figure, Points)
        assert {layer.name for layer in points} == {"default", "reflection", "not tried", ""} - (
            set() if any(not layer.name for layer in points) else {""}
        )
        untried = next(layer for layer in points if layer.name == "not tried")
        assert list(untried.x) == [3]
        assert untried.y[0] < min(y for layer in points if layer is not untried for y in layer.y)
        item = program.pool("answer.instructions")[1]
        used = [trial.value for trial in program.trials if trial.params["answer.instructions"] == item.id]
        (height,) = [y for layer in points for x, y in zip(layer.x, layer.y, strict=True) if x == 1]
        assert height == pytest.approx(sum(value or 0.0 for value in used) / len(used))
        assert any("<script>" in text for layer in points for text in layer.hover)

    def test_which_pool(self, program: Study, flat: Study) -> None:
        with pytest.raises(StudyError, match=r"path is needed, because not one variable has candidates but these: \["):
            examples.prompt_lineage(program)
        with pytest.raises(StudyError, match=r"'q' has no candidates in this study; those with candidates are: \[\]"):
            examples.prompt_lineage(flat, "q")


@pytest.mark.parametrize(
    "plot",
    [
        histories.optimization_history,
        histories.edf,
        histories.timeline,
        histories.intermediate_values,
        histories.cost_gain,
        relations.slices,
        relations.rank,
        relations.contour,
        relations.parallel_coordinate,
        importances.param_importances,
        examples.example_heatmap,
    ],
)
def test_an_empty_study_says_what_to_do(plot: Callable[[Study], Figure]) -> None:
    with pytest.raises(StudyError, match=r"run some with|run more with|trial\.re"):
        plot(create_study(study_name="empty"))


def test_one_trial_is_enough() -> None:
    study = create_study()
    study.add_trial(
        create_trial(value=1.0, params={"x": 1.0, "y": 2}, distributions={"x": Float(1, 1), "y": Int(0, 9)})
    )
    for plot in (relations.slices, relations.rank, relations.contour, relations.parallel_coordinate, histories.edf):
        _image(visualization.matplotlib.render(plot(study)))  # type: ignore[operator]
        visualization.plotly.render(plot(study)).to_json()  # type: ignore[operator]


def test_texts_are_text_for_both_backends() -> None:
    axis = Axis(title="$a_1$ <b>", ticks=((0.0, NASTY), (1.0, "$x$")))
    layers = (Points(x=[0.0], y=[0.0], name="<i>", hover=[f"{NASTY}\n$"]), Texts(x=[0.0], y=[0.0], text=["$y^2$ <u>"]))
    figure = Figure(title="<img src=x> $", panels=((Panel(layers=layers, x=axis, y=Axis()),),), legend=True)
    page = visualization.plotly.render(figure).to_json()
    assert not [tag for tag in ("<script", "<img", "<b>", "<i>", "<u>") if tag in page]
    assert "&lt;script&gt;" in page
    axes: Any = visualization.matplotlib.render(figure)
    assert axes.get_xlabel() == r"\$a_1\$ <b>"
    _image(axes)


def test_short_texts() -> None:
    assert shorten("a\n b") == "a b"
    assert shorten(({"q": "1+1", "a": "2"},), 60) == "1 demos: 1+1, 2"
    assert shorten(0.1234567891) == "0.123457"


@pytest.mark.parametrize(("backend", "package"), [("plotly", "plotly"), ("matplotlib", "matplotlib")])
def test_a_missing_backend_is_named(backend: str, package: str, flat: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    room = visualization if backend == "plotly" else visualization.matplotlib
    extra = "plot" if backend == "plotly" else "matplotlib"
    assert not room.is_available()
    with pytest.raises(ImportError, match=rf"is not installed: pip install 'dspex\[{extra}\]'"):
        room.plot_slice(flat)


@pytest.mark.parametrize("name", ["plot_contour", "plot_parallel_coordinate", "plot_rank", "plot_slice"])
def test_a_study_without_a_feasible_trial(name: str) -> None:
    study = create_study()
    for number in range(4):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_float("y", 0.0, 1.0)
        trial.set_constraint("limit", 1.0)
        study.tell(trial, float(number))
    assert getattr(visualization, name)(study).data
    assert getattr(visualization.matplotlib, name)(study) is not None


def test_values_without_an_end_are_named_as_the_reason() -> None:
    study = create_study()
    study.optimize(lambda trial: math.inf, n_trials=2)
    with pytest.raises(StudyError, match=r"no completed trial to plot whose value is finite \(2 trials in all\)"):
        visualization.plot_edf(study)


def test_a_reference_point_is_made_of_numbers() -> None:
    study = create_study(directions=["minimize", "minimize"])
    study.optimize(lambda trial: (1.0, 2.0), n_trials=2)
    for point in ([math.nan, 3.0], ["a", 3.0]):
        with pytest.raises(StudyError, match="reference_point must have a finite number for each of the 2 objectives"):
            visualization.plot_hypervolume_history(study, point)


def test_a_long_path_does_not_run_into_the_next_panel() -> None:
    study = create_study()
    path = "pipeline." * 20 + "answer.temperature"
    study.optimize(lambda trial: trial.suggest_float(path, 0.0, 1.0), n_trials=2)
    (axis,) = [row[0].x for row in relations.slices(study).panels]
    assert len(axis.title) == 40
    assert axis.title.startswith("…")
    assert axis.title.endswith("answer.temperature")
