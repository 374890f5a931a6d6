"""States, snapshots, the log, the ledger, what is written of parameters."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from dspex.data import Evaluation, Usage
from dspex.errors import StateError, StorageError, StudyError
from dspex.trials import (
    FrozenTrial,
    Ledger,
    PerView,
    StudyDirection,
    StudyView,
    TrialLog,
    TrialState,
    create_trial,
)
from dspex.trials.params import decode_param, encode_param, fingerprint_of
from dspex.variables import Choice, Float, Int, Prompt


class TestStates:
    def test_the_numbers_are_optunas(self) -> None:
        assert [(state.name, int(state)) for state in TrialState] == [
            ("RUNNING", 0),
            ("COMPLETE", 1),
            ("PRUNED", 2),
            ("FAIL", 3),
            ("WAITING", 4),
        ]
        assert {state for state in TrialState if state.is_finished} == {
            TrialState.COMPLETE,
            TrialState.PRUNED,
            TrialState.FAIL,
        }

    def test_a_direction_is_its_spelling(self) -> None:
        assert StudyDirection.parse("minimize") is StudyDirection.MINIMIZE
        assert StudyDirection.parse(StudyDirection.MAXIMIZE) == "maximize"
        assert [direction.sign for direction in StudyDirection] == [1.0, -1.0]

    @pytest.mark.parametrize("wrong", ["maximise", 1, None])
    def test_another_direction_is_an_error(self, wrong: object) -> None:
        with pytest.raises(StudyError, match=r"direction must be 'minimize' or 'maximize', got .*direction='maximize'"):
            StudyDirection.parse(wrong)


class TestFrozenTrial:
    def test_what_follows_from_its_fields(self) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        trial = FrozenTrial(
            number=3,
            state=TrialState.COMPLETE,
            values=(1.5,),
            intermediate_values={2: 0.1, 10: 0.2, 5: 0.3},
            constraints={"a": 0.0, "b": -1.0},
            datetime_start=start,
            datetime_complete=start + timedelta(seconds=5),
        )
        assert (trial.value, trial.last_step, trial.feasible) == (1.5, 10, True)
        assert trial.duration == timedelta(seconds=5)
        empty = FrozenTrial(number=0, state=TrialState.RUNNING)
        assert (empty.value, empty.last_step, empty.duration, dict(empty.fixed_params)) == (None, None, None, {})
        assert pickle.loads(pickle.dumps(trial)) == trial

    def test_it_is_not_changed(self) -> None:
        trial = FrozenTrial(number=0, state=TrialState.RUNNING)
        with pytest.raises(AttributeError):
            trial.number = 1  # type: ignore[misc]
        with pytest.raises(TypeError):
            trial.params["x"] = 1  # type: ignore[index]

    def test_several_objectives_have_no_single_value(self) -> None:
        trial = FrozenTrial(number=0, state=TrialState.COMPLETE, values=(1.0, 2.0))
        with pytest.raises(StudyError, match=r"trial 0 has 2 objectives.*write trial\.values"):
            _ = trial.value


class TestCreateTrial:
    def test_values_take_their_normal_form(self) -> None:
        trial = create_trial(values=[1, 2], params={"x": 1, "p": "id"}, distributions={"x": Float(0, 2), "p": Prompt()})
        assert trial.values == (1.0, 2.0)
        assert repr(trial.params["x"]) == "1.0"
        assert trial.datetime_complete is not None
        assert create_trial(state=TrialState.WAITING).datetime_start is None

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"value": 1.0, "values": [1.0]}, r"give value= or values=, not both"),
            ({}, r"a COMPLETE trial needs value="),
            ({"value": math.nan}, r"NaN ranks nothing\. Use state=TrialState\.FAIL"),
            ({"value": 1.0, "state": TrialState.FAIL}, r"a FAIL trial has no values, got \(1\.0,\)"),
            ({"value": 1.0, "params": {"k": 1}}, r"must name the same variables: 'k' is only in params"),
            ({"value": 1.0, "distributions": {"k": Int(1, 2)}}, r"'k' is only in distributions"),
        ],
    )
    def test_contradictions(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(StudyError, match=message):
            create_trial(**arguments)

    def test_a_value_outside_its_domain(self) -> None:
        with pytest.raises(StateError, match=r"k = 9 \(int\) does not fit Int\(1, 5\)"):
            create_trial(value=1.0, params={"k": 9}, distributions={"k": Int(1, 5)})


class TestLog:
    @given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40))
    def test_a_cursor_misses_nothing_and_repeats_nothing(self, steps: list[tuple[int, bool]]) -> None:
        log, mirror, cursor = TrialLog(), dict[int, int](), 0
        changed: list[int] = []
        for version, (number, read) in enumerate(steps):
            number = min(number, len(log))
            log.put(FrozenTrial(number=number, state=TrialState.RUNNING, system_attrs={"v": version}))
            changed = [*(n for n in changed if n != number), number]
            if read:
                found, cursor = log.changes(cursor)
                assert [trial.number for trial in found] == changed
                mirror |= {trial.number: trial.system_attrs["v"] for trial in found}
                changed = []
                assert mirror == {trial.number: trial.system_attrs["v"] for trial in log}
        assert [trial.number for trial in log.snapshot()] == list(range(len(log)))

    def test_trials_of_one_read_come_in_any_order(self) -> None:
        log = TrialLog()
        log.put(*(FrozenTrial(number=number, state=TrialState.RUNNING) for number in (2, 0, 1)))
        assert [trial.number for trial in log.changes(0)[0]] == [2, 0, 1]
        assert [trial.number for trial in log[1:]] == [1, 2]
        with pytest.raises(StorageError, match="trial 3 is missing from the study, though trial 5 is there"):
            log.put(FrozenTrial(number=5, state=TrialState.RUNNING))


def _row(example: str, score: float | None = 1.0, **more: Any) -> Evaluation:
    known: dict[str, Any] = {
        "status": "failed" if score is None else "ok",
        "scores": {} if score is None else {"score": score},
        "trial": 0,
        "fingerprint": "f",
    }
    return Evaluation(example_id=example, **{**known, **more})


class TestLedger:
    def test_what_was_paid_for_is_found(self) -> None:
        ledger = Ledger([_row("a"), _row("b", None), _row("a", 0.5, rollout=1)])
        found = ledger.lookup("f", "a")
        assert found is not None
        assert found.score == 1.0
        assert ledger.lookup("f", "a", 1) == ledger[2]
        assert ledger.lookup("f", "b") is None  # a failure is no result
        assert ledger.lookup("g", "a") is None

    def test_a_failed_row_gives_way_and_still_costs(self) -> None:
        ledger = Ledger([_row("a", None, usage=Usage(calls=1, cost=0.5))])
        ledger.append(_row("a", 0.25, usage=Usage(calls=1, cost=0.5)))
        assert [row.score for row in ledger.rows(trial=0)] == [0.25]
        assert len(ledger) == 2
        assert (ledger.usage().calls, ledger.usage().cost) == (2, 1.0)

    def test_a_measured_row_is_final(self) -> None:
        ledger = Ledger([_row("a")])
        for rows in ([_row("a")], [_row("b"), _row("a", None)], [_row("c"), _row("c")]):
            with pytest.raises(StudyError, match=r"has been measured on example '.' \(rollout 0\) already"):
                ledger.append(*rows)
        assert len(ledger) == 1

    def test_scores_and_matrix(self) -> None:
        ledger = Ledger(
            [
                _row("a", 1.0),
                _row("a", 0.0, rollout=1),
                _row("b", 0.25),
                _row("b", 0.5, trial=2),
                _row("c", None, trial=2),
                _row("a", 9.0, trial=None),
                _row("a", None, trial=3),
            ]
        )
        assert ledger.scores(0) == {"a": 0.5, "b": 0.25}
        assert ledger.scores(0, objective="cost") == {}
        matrix = ledger.matrix()
        assert (matrix.trials, matrix.examples) == ((0, 2), ("a", "b"))
        assert repr(matrix.scores) == "((0.5, 0.25), (nan, 0.5))"
        assert repr(ledger.matrix(trials=[3, 0], examples=["b", "z"]).scores) == "((nan, nan), (0.25, nan))"

    def test_rows_by_trial_configuration_and_example(self) -> None:
        ledger = Ledger([_row("a"), _row("b"), _row("a", trial=1, fingerprint="g"), _row("a", trial=None)])
        assert [row.example_id for row in ledger.rows(trial=0)] == ["a", "b"]
        assert [row.trial for row in ledger.rows(example_id="a")] == [0, 1, None]
        assert [row.trial for row in ledger.rows(fingerprint="g")] == [1]
        assert ledger.rows(trial=7) == []
        assert len(ledger.rows()) == len(list(ledger)) == len(ledger[:]) == 4
        assert repr(ledger).startswith("<Ledger: 4 evaluations of 2 trials")


class TestParams:
    def test_none_stays_none_whatever_the_domain(self) -> None:
        for domain in (Float(0.0, 1.0), Prompt(), Choice("a", None)):
            assert decode_param(domain, encode_param(domain, None)) is None

    def test_a_fingerprint_goes_by_value_and_type(self) -> None:
        domains = {"c": Choice(1, True), "x": Float(0.0, 1.0), "p": Prompt()}
        one = fingerprint_of({"c": 1, "x": 0.5, "p": "id"}, domains)
        assert one == fingerprint_of({"x": 0.5, "p": "id", "c": 1}, domains)
        assert one != fingerprint_of({"c": True, "x": 0.5, "p": "id"}, domains)


def test_what_is_kept_for_a_view_goes_with_it() -> None:
    kept: PerView[list[int]] = PerView(list)
    log = TrialLog()
    views = [
        StudyView(directions=(StudyDirection.MINIMIZE,), space=None, ledger=Ledger(), pools={}, log=log)
        for _ in range(2)
    ]
    kept.of(views[0]).append(1)
    assert (kept.of(views[0]), kept.of(views[1])) == ([1], [])
    assert pickle.loads(pickle.dumps(kept)).of(views[0]) == []
    views.clear()
    assert len(kept._kept) == 0
