"""States: atomic updates, versions, watchers, locks, fingerprints, JSON, many threads."""

from __future__ import annotations

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dspex.errors import StateError
from dspex.variables import (
    Choice,
    Condition,
    Constraint,
    Entry,
    Float,
    Int,
    Prompt,
    Space,
    VariableState,
    constraint,
    derived,
)

SPACE = Space.of(
    constraint(lambda low, high: low <= high, reason="low may not be above high"),
    low=Int(0, 9),
    high=Int(0, 9),
    tone=Choice("plain", "warm"),
    width=derived(lambda low, high: high - low),
)


def state(**values: Any) -> VariableState:
    return SPACE.state({"high": 5, **values})


class TestReading:
    def test_it_is_a_mapping_of_what_can_be_set(self) -> None:
        one = state(low=2)
        assert dict(one) == {"low": 2, "high": 5, "tone": "plain"} == one.to_dict()
        assert list(one.values()) == [2, 5, "plain"]
        assert len(one) == 3
        assert one["width"] == 3
        assert "width" in one
        assert one.get("nope") is None
        assert one.changes() == {"low": 2, "high": 5}
        assert repr(one) == "<VariableState low=2, high=5 (2 of 3 changed)>"
        assert repr(SPACE.state()) == "<VariableState (0 of 3 changed)>"
        assert one.active() == ("low", "high", "tone", "width")

    def test_an_unknown_path(self) -> None:
        with pytest.raises(StateError, match=r"No variable at path 'hihg' in this space\. Did you mean 'high'\?"):
            state()["hihg"]

    def test_equality(self) -> None:
        assert state(low=1) == state(low=1)
        assert state(low=1) != state(low=2)
        assert state(low=1) != {"low": 1}
        with pytest.raises(TypeError):
            hash(state())

    def test_a_state_of_a_state(self) -> None:
        assert VariableState(SPACE, state(low=4)) == state(low=4)
        assert SPACE.state(state(low=4), tone="warm")["tone"] == "warm"


class TestUpdates:
    def test_each_change_is_a_version(self) -> None:
        one = state()
        assert one.version == 0
        assert one.history == ()
        one["low"] = 3
        assert one.update({"low": 4, "tone": "warm", "high": 5}) == 2
        assert one.history == ((1, {"low": (0, 3)}), (2, {"low": (3, 4), "tone": ("plain", "warm")}))
        assert one.update({"low": 4}) == 2
        assert one.update({}) == 2

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"low": 1, "hig": 2}, r"No variable at path 'hig' in this space\. Did you mean 'high'\?"),
            ({"low": 1, "high": "2"}, r"^high = '2' \(str\) does not fit Int\(0, 9\)"),
            (
                {"tone": "warm", "low": 9},
                r"^low may not be above high \(low = 9, high = 5; constraint "
                r"'constraint_1'\)$",
            ),
            ({"low": 1, "width": 2}, r"^width = 2 \(int\): it is derived from low, high and cannot be set"),
        ],
    )
    def test_all_or_nothing(self, values: dict[str, Any], message: str) -> None:
        one = state()
        seen: list[Any] = []
        one.watch("*", seen.append)
        with pytest.raises(StateError, match=message):
            one.update(values)
        assert (one.to_dict(), one.version, seen) == (state().to_dict(), 0, [])

    def test_constraints_see_the_whole_update(self) -> None:
        one = state()
        one.update({"low": 8, "high": 9})
        assert one["width"] == 1

    def test_expected_version(self) -> None:
        one = state()
        assert one.update({"low": 1}, expected_version=0) == 1
        one["tone"] = "warm"
        with pytest.raises(
            StateError,
            match=r"The state is at version 2 and not at 0, as expected: low, tone changed since\. Read it again",
        ):
            one.update({"high": 7}, expected_version=0)
        assert one["high"] == 5

    def test_rollback(self) -> None:
        one = state()
        one["low"] = 1
        one["low"] = 2
        one["tone"] = "warm"
        assert one.rollback(1) == 4
        assert one.to_dict() == state(low=1).to_dict()
        assert one.rollback(3) == 5
        assert one.to_dict() == state(low=2, tone="warm").to_dict()
        assert one.rollback(5) == 5
        assert one.rollback(0) == 6
        assert one == state()
        for wrong in (7, -1, True, "1"):
            with pytest.raises(StateError, match=r"rollback\(.*\): there are the versions 0 to 6\."):
                one.rollback(wrong)  # type: ignore[arg-type]  # the test


class TestWatching:
    def test_once_per_update_with_what_matches(self) -> None:
        one = state()
        seen: list[Any] = []
        one.watch("low", lambda changes: seen.append(("low", changes)))
        one.watch("*", lambda changes: seen.append(("*", changes)))
        one.watch("tone", lambda changes: seen.append(("tone", changes)))
        one.update({"low": 1, "high": 6})
        assert seen == [
            ("low", {"low": (0, 1)}),
            ("*", {"low": (0, 1), "high": (5, 6)}),
        ]

    def test_derived_variables_are_watched_too(self) -> None:
        one = state()
        seen: list[Any] = []
        one.watch("width", seen.append)
        one["low"] = 2
        one.update({"low": 1, "high": 4})
        assert seen == [{"width": (5, 3)}]

    def test_a_watch_can_be_ended(self) -> None:
        one = state()
        seen: list[Any] = []
        end = one.watch("low", seen.append)
        one["low"] = 1
        end()
        end()
        one["low"] = 2
        assert seen == [{"low": (0, 1)}]

    def test_a_watcher_may_write(self) -> None:
        one = state()
        seen: list[Any] = []
        one.watch("low", lambda changes: one.update({"tone": "warm"}))
        one.watch("*", seen.append)
        one["low"] = 1
        assert seen == [{"low": (0, 1), "width": (5, 4)}, {"tone": ("plain", "warm")}]

    def test_one_that_raises_stops_neither_the_update_nor_the_others(self) -> None:
        one = state()
        seen: list[Any] = []

        def fail(changes: Any) -> None:
            raise RuntimeError("no")

        one.watch("low", fail)
        one.watch("low", seen.append)
        with pytest.raises(RuntimeError, match="no"):
            one["low"] = 1
        assert (one["low"], seen) == (1, [{"low": (0, 1)}])
        with pytest.raises(RuntimeError, match="no"):
            one["low"] = 2

    def test_a_derived_variable_that_fails_leaves_everything_as_it_was(self) -> None:
        one = Space.of(a=Int(0, 5), b=derived(lambda a: 1 // (a - 3))).state()
        one.watch("b", print)
        with pytest.raises(StateError, match=r"b could not be derived from a = 3"):
            one["a"] = 3
        assert (one["a"], one.version) == (0, 0)

    def test_a_pattern_that_matches_nothing(self) -> None:
        with pytest.raises(
            StateError, match=r"The pattern 'lwo' matches no variable of this space\. Did you mean 'low'"
        ):
            state().watch("lwo", print)

    def test_watchers_see_rollbacks(self) -> None:
        one = state()
        one.update({"low": 1, "tone": "warm"})
        seen: list[Any] = []
        one.watch("*", seen.append)
        one.rollback(0)
        assert seen == [{"low": (1, 0), "tone": ("warm", "plain"), "width": (4, 5)}]


class TestLocking:
    def test_a_locked_path_does_not_change(self) -> None:
        one = VariableState(SPACE, {"high": 5}, locked=["hi*"])
        assert one.locked == ("high",)
        with pytest.raises(
            StateError, match=r"high = 6 \(int\): it is locked at 5 \(int\)\. Call state\.unlock\('high'\)"
        ):
            one.update({"low": 1, "high": 6})
        assert one["low"] == 0
        one.update({"low": 1, "high": 5})
        one.unlock("high")
        one["high"] = 6
        one.lock("*")
        with pytest.raises(StateError, match="it is locked at"):
            one.rollback(0)
        with pytest.raises(StateError, match="matches no variable"):
            one.lock("nope")
        assert VariableState(SPACE, {"high": 1}, locked="low").locked == ("low",)


class TestFingerprint:
    def space(self) -> Space:
        return Space(
            [
                Entry("kind", Choice("a", "b"), "a"),
                Entry("kind.b.k", Int(1, 5), 1, conditions=[Condition("kind", "b")]),
                Entry("t", Float(0, 1), 0.5, tunable=False),
                Entry("twice", None, inputs={"t": "t"}, compute=lambda t: 2 * t),
            ]
        )

    def test_only_active_values_count(self) -> None:
        space = self.space()
        base = space.state().fingerprint
        assert space.state({"kind.b.k": 5}).fingerprint == base
        assert space.state({"kind": "b"}).fingerprint != space.state({"kind": "b", "kind.b.k": 5}).fingerprint
        assert space.state(t=0.25).fingerprint != base
        assert len(base) == 16

    def test_it_is_computed_once_per_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[Any] = []
        monkeypatch.setattr("dspex.variables.state.content_id", lambda json: calls.append(json) or str(len(calls)))
        one = self.space().state()
        assert [one.fingerprint for _ in range(3)] == ["1"] * 3
        one["t"] = 0.25
        assert [one.fingerprint for _ in range(3)] == ["2"] * 3

    def test_what_an_active_derived_variable_reads_counts(self) -> None:
        entries = [
            *self.space().values(),
            Entry("more", None, inputs={"k": "kind.b.k"}, compute=lambda k: k + 1),
        ]
        space = Space(entries)
        assert space.state({"kind.b.k": 5}).fingerprint != space.state().fingerprint

    def test_it_is_of_the_configuration_and_not_of_its_history(self) -> None:
        one = self.space().state()
        base = one.fingerprint
        one["t"] = 0.25
        assert one.fingerprint != base
        one["t"] = 0.5
        assert one.fingerprint == base
        assert self.space().freeze("kind").state().fingerprint == base

    def test_it_is_the_same_in_every_process(self) -> None:
        assert self.space().state().fingerprint == "a7274e75601c5e15"


class TestDiff:
    def test_short_values_on_one_line_and_long_ones_below_each_other(self) -> None:
        space = Space.of(depth=Int(1, 5), instructions=Prompt())
        one = space.state(instructions="Answer.")
        other = space.state(depth=2, instructions="Answer.\nBe brief.")
        assert one.diff(other).changed == {"depth": (1, 2), "instructions": ("Answer.", "Answer.\nBe brief.")}
        assert str(one.diff(other)).splitlines() == [
            "~ depth: 1 → 2",
            "~ instructions:",
            "    - Answer.",
            "    + Answer.",
            "    + Be brief.",
        ]
        assert not one.diff(one)
        assert str(one.diff({"instructions": "Answer."})) == "no difference"

    def test_between_spaces(self) -> None:
        one, other = Space.of(a=Int(1, 5), b=Int(1, 5)).state(), Space.of(b=Int(1, 9), c=Int(1, 5)).state(b=3)
        assert str(one.diff(other)).splitlines() == ["+ c: 1", "- a: 1", "~ b: 1 → 3"]


class TestJson:
    def test_round_trip(self) -> None:
        one = state(low=2)
        one["tone"] = "warm"
        one.lock("low")
        other = VariableState.from_json(json.loads(json.dumps(one.to_json())), SPACE)
        assert other == one
        assert (other.version, other.locked, other["width"]) == (0, ("low",), 3)

    def test_another_space_is_explained_as_a_diff(self) -> None:
        saved = Space.of(depth=Int(1, 5), tone=Choice("plain", "warm")).state().to_json()
        now = Space.of(depth=Int(1, 9), breadth=Int(1, 2))
        with pytest.raises(StateError) as caught:
            VariableState.from_json(saved, now)
        lines = str(caught.value).splitlines()
        assert lines[0].startswith("This state was saved from another space (")
        assert lines[1:4] == [
            "+ breadth: Int(1, 2) (not in the saved state)",
            "- tone: Choice('plain', 'warm') (only in the saved state)",
            "~ depth: Int(1, 5) → Int(1, 9)",
        ]
        assert "take over what fits: space.state({path: value, ...})" in lines[4]

    def test_a_frozen_or_redocumented_space_is_not_another(self) -> None:
        assert VariableState.from_json(state().to_json(), SPACE.freeze("*")) is not None

    def test_other_constraints_are_another_space(self) -> None:
        entries = list(SPACE.values())
        other = Space(entries, [Constraint("c", {"x": "low"}, "because", lambda x: True)])
        with pytest.raises(
            StateError, match="The conditions, derived variables or constraints between them are different"
        ):
            VariableState.from_json(state().to_json(), other)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema": 9}, "This state was written as schema 9, and this dspex reads schema 1"),
            ({"values": {"low": "x"}}, r"low: the saved value = 'x' \(str\) does not fit Int\(0, 9\)"),
            ({"values": 3}, "The JSON of a state is damaged: AttributeError"),
            ({"values": {"nope": 3}}, "No variable at path 'nope'"),
        ],
    )
    def test_damaged_json(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(StateError, match=message):
            VariableState.from_json({**state().to_json(), **change}, SPACE)
        with pytest.raises(StateError, match="The JSON of a state is damaged: KeyError: 'schema'"):
            VariableState.from_json({}, SPACE)


class TestCopies:
    def test_a_copy_goes_its_own_way_and_has_no_watchers(self) -> None:
        one = state()
        seen: list[Any] = []
        one.watch("*", seen.append)
        one["low"] = 1
        other = one.copy()
        other["low"] = 2
        assert (one["low"], len(seen)) == (1, 1)
        assert (other.version, one.version) == (2, 1)
        assert other.rollback(0) == 3
        assert other == state()

    def test_pickle(self) -> None:
        space = Space.of(low=Int(0, 9))
        one = space.state()
        one.watch("*", print)
        one["low"] = 3
        one.lock("low")
        other = pickle.loads(pickle.dumps(one))
        assert (other.to_dict(), other.version, other.history, other.locked) == ({"low": 3}, 1, one.history, ("low",))
        other.unlock("low")
        other["low"] = 4


class TestThreads:
    def test_optimistic_updates_lose_nothing(self) -> None:
        one = Space.of(count=Int(0, 10**6)).state()

        def add(_: int) -> None:
            while True:
                version = one.version
                count = one["count"]
                try:
                    one.update({"count": count + 1}, expected_version=version)
                except StateError:
                    continue
                return

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(add, range(400)))
        # version is read before count, so a stale count always has a stale version
        assert (one["count"], one.version) == (400, 400)

    def test_readers_see_whole_updates_and_watchers_each_update_in_order(self) -> None:
        space = Space.of(constraint(lambda a, b: a == b, reason="always equal"), a=Int(0, 10**6), b=Int(0, 10**6))
        one = space.state()
        seen: list[int] = []
        torn: list[Any] = []
        done = threading.Event()
        one.watch("a", lambda changes: seen.append(changes["a"][1]))

        def read() -> None:
            while not done.is_set():
                values = one.to_dict()
                if values["a"] != values["b"]:
                    torn.append(values)

        reader = threading.Thread(target=read)
        reader.start()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: one.update({"a": n, "b": n}), range(1, 501)))
        done.set()
        reader.join()
        assert torn == []
        assert seen == [changes["a"][1] for _, changes in one.history]
        assert sorted(seen) == list(range(1, 501))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda one: one.update([1]), r"\[1\] \(list\) are no values\. Write a mapping such as"),
        (lambda one: one.update({"low": 1}, expected_version="0"), r"expected_version = '0' \(str\) is no version"),
        (lambda one: one.update({"low": 1}, expected_version=True), r"expected_version = True \(bool\) .*_version=0"),
        (lambda one: one.watch("low", 3), r"watch\('low', 3\): 3 \(int\) cannot be called\. Write a function"),
        (lambda one: VariableState(SPACE, 0), r"0 \(int\) are no values"),
        (lambda one: SPACE.state("low"), r"'low' \(str\) are no values"),
        (lambda one: SPACE.diff("low"), r"diff\('low' \(str\)\): this is no space"),
        (lambda one: SPACE.restrict([Int(1, 2)]), r"restrict\(\[Int\(1, 2\)\] \(list\)\): write a mapping such as"),
    ],
)
def test_arguments_of_the_wrong_type(call: Any, message: str) -> None:
    one = state()
    with pytest.raises(StateError, match=message):
        call(one)
    assert (one.version, dict(one)) == (0, dict(state()))
