"""Spaces: activity, validation, sampling, counting, what they become, and the ones that cannot be meant."""

from __future__ import annotations

import json
import math
import pickle
import random
from typing import Any

import pytest

from dspex.errors import DefinitionError, StateError
from dspex.variables import (
    Bool,
    Choice,
    Condition,
    Constraint,
    Demos,
    Entry,
    Float,
    Int,
    ModelChoice,
    Order,
    Pool,
    Prompt,
    Space,
    Subset,
    constraint,
    derived,
    variable,
)


def is_finite(low: int) -> bool:
    return math.isfinite(low)


class Ordered:
    low = variable(Int(0, 9))
    twice = derived(lambda low: 2 * low)
    small = constraint(lambda low: low < 5, reason="has to be small")


def support() -> Space:
    stepwise = (Condition("answer", "stepwise"),)
    return Space(
        [
            Entry("tone", Choice("plain", "warm"), "plain"),
            Entry("depth", Int(1, 5), 3, readers=("retrieve.k",), doc="documents read per question"),
            Entry("answer", Choice("direct", "stepwise"), "direct"),
            Entry("answer.direct.instructions", Prompt(), "", conditions=(Condition("answer", "direct"),)),
            Entry("answer.stepwise.temperature", Float(0.0, 1.0), None, conditions=stepwise),
            Entry("answer.stepwise.vote", Bool(), False, conditions=stepwise),
            Entry(
                "answer.stepwise.votes",
                Int(2, 9),
                2,
                conditions=(*stepwise, Condition("answer.stepwise.vote", True)),
            ),
            Entry("tokens", None, inputs={"depth": "depth"}, compute=lambda depth: 100 * depth),
        ],
        [
            Constraint(
                "short",
                {"votes": "answer.stepwise.votes", "depth": "depth"},
                "many votes on deep answers cost too much",
                lambda votes, depth: votes * depth <= 20,
            )
        ],
    )


class TestMapping:
    def test_paths_and_entries(self) -> None:
        space = support()
        assert space.paths == tuple(space) == tuple(space.keys())
        assert len(space) == 8
        assert space["depth"].domain == Int(1, 5)
        assert "depth" in space
        assert "nope" not in space
        assert 3 not in space
        assert space.get("nope") is None
        assert space.tunable == space.paths[:-1]
        assert space.open_ended == ("answer.direct.instructions",)
        assert repr(space) == "<Space of 8 variables, 7 tunable>"

    def test_an_unknown_path(self) -> None:
        space = support()
        with pytest.raises(StateError, match=r"No variable at path 'depht' in this space\. Did you mean 'depth'\?"):
            space["depht"]
        with pytest.raises(KeyError):
            space["depht"]
        with pytest.raises(StateError, match=r"Did you mean 'answer\.stepwise\.temperature'\?"):
            space["temperature"]
        with pytest.raises(StateError, match=r"No variable at path 'x' in this space\. It has: tone, depth, answer,"):
            space["x"]
        with pytest.raises(StateError, match="It has no variables at all"):
            Space([])["x"]
        with pytest.raises(StateError, match=r"A path is a string such as 'answer\.temperature', not 3 \(int\)"):
            space[3]  # type: ignore[index]  # the test

    def test_equality(self) -> None:
        assert support() == support()
        assert hash(support()) == hash(support())
        assert support() != support().freeze("depth")
        assert support() != "space"


class TestActivity:
    def test_conditions_nest(self) -> None:
        space = support()
        base = ("tone", "depth", "answer")
        assert space.active({}) == (*base, "answer.direct.instructions", "tokens")
        stepwise = {"answer": "stepwise"}
        assert space.active(stepwise) == (
            *base,
            "answer.stepwise.temperature",
            "answer.stepwise.vote",
            "tokens",
        )
        assert space.is_active("answer.stepwise.votes", {**stepwise, "answer.stepwise.vote": True})
        assert not space.is_active("answer.stepwise.votes", {"answer.stepwise.vote": True})
        with pytest.raises(StateError, match="No variable at path"):
            space.is_active("nope", {})

    def test_a_condition_counts_types(self) -> None:
        space = Space(
            [
                Entry("kind", Choice(1, True), 1),
                Entry("one", Bool(), conditions=[Condition("kind", 1)], default=False),
                Entry("yes", Bool(), conditions=[Condition("kind", True)], default=False),
            ]
        )
        assert space.active({"kind": 1}) == ("kind", "one")
        assert space.active({"kind": True}) == ("kind", "yes")

    def test_a_condition_on_any_value(self) -> None:
        space = Space(
            [
                Entry("tools", Subset("web", "mail"), ()),
                Entry("pages", Int(1, 5), 1, conditions=[Condition("tools", ["web"])]),  # in its normal form
                Entry("plan", Choice({"k": [1]}, {"k": [2]}), {"k": [1]}),
                Entry("extra", Bool(), False, conditions=[Condition("plan", {"k": [2]})]),
                Entry("limit", Float(0, 1), None),
                Entry("unlimited", Bool(), False, conditions=[Condition("limit", None)]),
            ]
        )
        assert space.active({}) == ("tools", "plan", "limit", "unlimited")
        values = {"tools": ("web",), "plan": {"k": [2]}, "limit": 0.5}
        assert space.active(values) == ("tools", "pages", "plan", "extra", "limit")
        assert space["pages"].conditions == (Condition("tools", ("web",)),)

    def test_the_order_of_entries_does_not_matter(self) -> None:
        entries = list(support().values())
        backwards = Space(reversed(entries))
        values = {"answer": "stepwise", "answer.stepwise.vote": True}
        assert set(backwards.active(values)) == set(support().active(values))


class TestValidation:
    def test_defaults_fill_what_is_missing(self) -> None:
        space = support()
        assert space.validate({"depth": 4}) == {**space.defaults(), "depth": 4}
        assert space.validate({"depth": 4}, partial=True) == {"depth": 4}
        assert "tokens" not in space.defaults()

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"dpeth": 1}, "Did you mean 'depth'"),
            ({"depth": "3"}, r"^depth = '3' \(str\) does not fit Int\(1, 5\): write a whole number from 1 to 5\.$"),
            ({"depth": None}, r"depth = None does not fit Int\(1, 5\)"),
            ({"tokens": 300}, r"^tokens = 300 \(int\): it is derived from depth and cannot be set"),
            ([("depth", 3)], "are no values. Write a mapping such as {'depth': 3}"),
            (
                {"answer": "stepwise", "answer.stepwise.vote": True, "answer.stepwise.votes": 9},
                r"^many votes on deep answers cost too much "
                r"\(answer\.stepwise\.votes = 9, depth = 3; constraint 'short'\)$",
            ),
        ],
    )
    @pytest.mark.parametrize("partial", [False, True])
    def test_what_does_not_fit(self, values: Any, message: str, partial: bool) -> None:
        if partial and "answer" in values:
            values = {**values, "depth": 3}
        with pytest.raises(StateError, match=message):
            support().validate(values, partial=partial)

    def test_none_fits_an_optional_variable(self) -> None:
        assert support().validate({"answer.stepwise.temperature": None})["answer.stepwise.temperature"] is None
        space = Space([Entry("t", Float(0, 1), 0.5, optional=True)])
        assert space.validate({"t": None}) == {"t": None}

    def test_a_constraint_with_an_inactive_variable_does_not_apply(self) -> None:
        assert support().validate({"answer.stepwise.votes": 9})
        assert support().violated({"answer.stepwise.votes": 9, "answer": "stepwise"}) == []

    def test_partial_checks_only_constraints_between_given_values(self) -> None:
        values = {"answer": "stepwise", "answer.stepwise.vote": True, "answer.stepwise.votes": 9}
        assert support().validate(values, partial=True) == values

    def test_constraints_may_read_derived_variables(self) -> None:
        space = Space.of(
            constraint(lambda total: total <= 6, reason="six at most"),
            a=Int(1, 5),
            b=Int(1, 5),
            total=derived(lambda a, b: a + b),
        )
        assert space.validate({"a": 3, "b": 3})
        with pytest.raises(StateError, match=r"six at most \(total = 8; constraint 'constraint_1'\)"):
            space.validate({"a": 4, "b": 4})
        with pytest.raises(StateError, match="six at most"):
            space.validate({"a": 4, "b": 4}, partial=True)
        assert space.validate({"a": 5}, partial=True) == {"a": 5}

    def test_a_constraint_that_raises(self) -> None:
        space = Space.of(constraint(lambda a: 1 // (a - 1) >= 0, reason="because"), a=Int(1, 5))
        with pytest.raises(
            StateError,
            match=r"The constraint 'constraint_1' raised ZeroDivisionError: .*, for a = 1 \(int\)\. It has to",
        ):
            space.validate({})


class TestDerived:
    def test_they_are_computed_from_each_other_in_any_order(self) -> None:
        space = Space(
            [
                Entry("c", None, inputs={"b": "b", "a": "a"}, compute=lambda b, a: a + b),
                Entry("b", None, inputs={"a": "a"}, compute=lambda a: 2 * a),
                Entry("a", Int(1, 5), 1),
            ]
        )
        assert space.compute({"a": 2}) == {"a": 2, "b": 4, "c": 6}
        assert space.state(a=5)["c"] == 15

    def test_one_that_raises(self) -> None:
        space = Space.of(a=Int(0, 5), b=derived(lambda a: 1 // a))
        with pytest.raises(StateError, match=r"b could not be derived from a = 0 \(int\): ZeroDivisionError"):
            space.compute({})

    def test_functions_travel_by_where_they_were_declared(self) -> None:
        space = Space(
            [Entry("low", Int(0, 9), 0), Entry("twice", None, inputs={"low": "low"}, compute=Ordered.twice.fn)],
            [Constraint("small", {"low": "low"}, Ordered.small.reason, Ordered.small.fn)],
        )
        state = pickle.loads(pickle.dumps(space.state(low=3)))
        assert state["twice"] == 6
        with pytest.raises(StateError, match="has to be small"):
            state["low"] = 9
        free = pickle.loads(pickle.dumps(Space.of(constraint(is_finite, reason="finite"), low=Int(0, 9))))
        assert free.violated({}) == []

    def test_json_does_not_carry_functions(self) -> None:
        space = Space.from_json(Space.of(a=Int(0, 5), b=derived(lambda a: 2 * a)).to_json())
        with pytest.raises(StateError, match=r"b is derived, and a space that was read from JSON does not know how"):
            space.compute({})
        assert dict(space.state(a=3)) == {"a": 3}


class TestSampling:
    def test_only_active_tunable_paths(self) -> None:
        space = support().freeze("tone")
        rng = random.Random(0)
        for _ in range(200):
            drawn = space.sample(rng)
            assert set(drawn) == {path for path in space.active(drawn) if path in space.tunable}
            space.validate(drawn)

    def test_a_frozen_choice_keeps_its_branch(self) -> None:
        space = support().freeze("answer")
        assert all("answer.direct.instructions" in space.sample(random.Random(seed)) for seed in range(10))

    @pytest.mark.parametrize("seed", [None, 0.5, True, random])
    def test_what_is_neither_a_generator_nor_a_seed(self, seed: Any) -> None:
        with pytest.raises(StateError, match=r"is no generator of random numbers\. Write space\.sample\(0\)"):
            support().sample(seed)

    def test_open_ended_variables_need_a_pool(self) -> None:
        space = Space.of(instructions=Prompt(), demos=Demos())
        pool = Pool("instructions", Prompt())
        rng = random.Random(0)
        assert space.sample(rng) == {"instructions": "", "demos": ()}
        assert space.sample(rng, pools={"instructions": pool}) == {"instructions": "", "demos": ()}
        pool.add("one")
        pool.add("two")
        drawn = {space.sample(rng, pools={"instructions": pool})["instructions"] for _ in range(50)}
        assert drawn == {"one", "two"}

    def test_constraints_that_nothing_meets(self) -> None:
        space = Space.of(constraint(lambda a: False, reason="never"), a=Int(1, 5))
        with pytest.raises(
            StateError, match=r"No values were found in 1000 draws .*; 'constraint_1' was violated most \(1000 times\)"
        ):
            space.sample(random.Random(0))


class TestSize:
    def test_a_choice_adds_and_independence_multiplies(self) -> None:
        # tone 2 x depth 5 x (direct: 1 | stepwise: (vote no: 1 | vote yes: 8))
        assert support().freeze("*.temperature", "*.instructions").size() == 2 * 5 * (1 + (1 + 8))
        assert support().size() == math.inf
        assert Space([]).size() == 1
        assert support().freeze("*").size() == 1

    def test_values_that_activate_nothing(self) -> None:
        space = Space([Entry("a", Int(1, 10**6), 1), Entry("b", Bool(), False, conditions=[Condition("a", 7)])])
        assert space.size() == 10**6 + 1

    def test_many_choices_in_one_branch_are_not_enumerated_together(self) -> None:
        entries = [Entry("root", Choice("x", "y"), "x")]
        for number in range(40):
            at = f"root.x.{number}"
            entries.append(Entry(at, Choice("p", "q", "r"), "p", conditions=[Condition("root", "x")]))
            entries.append(Entry(f"{at}.p", Bool(), False, conditions=[Condition(at, "p")]))
        assert Space(entries).size() == 1 + 4**40


class TestOtherSpaces:
    def test_freeze_and_unfreeze(self) -> None:
        space = support()
        assert space.freeze("answer.*").tunable == ("tone", "depth", "answer")
        assert space.freeze("answer.*").unfreeze("*.vote").tunable == (*space.tunable[:3], "answer.stepwise.vote")
        assert space.freeze("tone").tunable == tuple(path for path in space.tunable if path != "tone")
        with pytest.raises(StateError, match=r"The pattern 'anwser' matches no variable of this space\. Did you mean"):
            space.freeze("tone", "anwser")
        with pytest.raises(StateError, match=r"'zzz' matches no variable of this space\. It has: tone, depth, answer"):
            space.freeze("zzz")
        with pytest.raises(StateError, match="A pattern is missing"):
            space.freeze()
        with pytest.raises(StateError, match="matches only derived variables"):
            space.unfreeze("tokens")
        with pytest.raises(StateError, match=r"A pattern is a string such as 'answer\.\*', not 3 \(int\)"):
            space.freeze(3)  # type: ignore[arg-type]  # the test

    def test_what_no_search_could_make_active_is_not_tunable(self) -> None:
        space = support()
        direct = ("tone", "depth", "answer.direct.instructions")
        assert space.freeze("answer").tunable == direct
        assert space.restrict(answer=Choice("direct")).tunable == ("tone", "depth", "answer", *direct[2:])
        frozen = space.freeze("answer").describe().splitlines()
        assert [line.split("  ")[0] for line in frozen if "  yes  " in line] == list(direct)
        assert space.freeze("answer").unfreeze("answer").tunable == space.tunable

    def test_a_path_is_its_own_pattern(self) -> None:
        space = Space([Entry("steps[0].k", Bool(), False), Entry("steps0.k", Bool(), False)])
        assert space.select("steps[0].k") == ("steps[0].k", "steps0.k")

    def test_restrict(self) -> None:
        space = support().restrict({"answer.stepwise.temperature": Float(0.2, 0.4)}, depth=Int(4, 5))
        assert space["depth"].default == 4
        assert space["answer.stepwise.temperature"].default is None
        assert space["tone"] == support()["tone"]
        with pytest.raises(
            StateError, match=r"restrict\(depth=Int\(1, 9\)\): this has values that are not in Int\(1, 5\)"
        ):
            support().restrict(depth=Int(1, 9))
        with pytest.raises(StateError, match=r"3 \(int\) is no domain\. Write depth=Choice\(3\)"):
            support().restrict(depth=3)  # type: ignore[arg-type]  # the test
        with pytest.raises(StateError, match="it is derived and has no domain"):
            support().restrict(tokens=Int(1, 9))
        with pytest.raises(StateError, match="Did you mean 'depth'"):
            support().restrict(deptj=Int(1, 9))

    def test_a_branch_that_was_restricted_away_is_never_active(self) -> None:
        space = support().restrict(answer=Choice("direct"))
        assert "answer.stepwise.vote" not in space.active({})
        assert Space.from_json(space.to_json()) == space
        assert space.freeze("*.instructions").size() == 10
        assert "answer.stepwise.vote" not in space.sample(random.Random(0))

    def test_diff(self) -> None:
        old = support()
        new = Space(
            [
                *(entry for entry in old.values() if entry.path not in ("tone", "tokens")),
                Entry("breadth", Int(1, 2), 1),
            ]
        ).restrict(depth=Int(1, 3))
        difference = old.diff(new)
        assert difference
        assert difference.changed == {"depth": {"domain": (Int(1, 5), Int(1, 3))}}
        assert str(difference).splitlines() == [
            "+ breadth: Int(1, 2)",
            "- tone: Choice('plain', 'warm')",
            "- tokens: derived from depth",
            "- constraint 'short': many votes on deep answers cost too much",
            "~ depth: domain Int(1, 5) → Int(1, 3)",
        ]
        assert not old.diff(support())
        assert str(old.diff(support())) == "no difference"
        frozen = old.diff(old.freeze("tone"))
        assert str(frozen) == "~ tone: tunable True → False"


class TestText:
    def test_describe(self) -> None:
        lines = support().describe().splitlines()
        assert lines[0].split() == ["variable", "domain", "default", "tuned", "active", "when", "notes"]
        assert "also read at retrieve.k" in lines[2]
        assert "documents read per question" in lines[2]
        assert "answer = 'stepwise' and answer.stepwise.vote = True" in lines[7]
        assert "derived from depth" in lines[8]
        assert lines[9] == "constraint short: many votes on deep answers cost too much"
        assert lines[10] == "8 variables, 7 tunable, infinitely many configurations"
        assert not any(line != line.rstrip() for line in lines)

    def test_json_and_hash(self) -> None:
        space = support()
        other = Space.from_json(json.loads(json.dumps(space.to_json())))
        assert other == space
        assert other.hash == space.hash
        assert len(space.hash) == 16
        assert space.hash == support().hash
        assert space.hash == space.freeze("*").hash
        assert space.hash != space.restrict(depth=Int(1, 4)).hash
        assert space.hash != Space(space.values()).hash  # without its constraint

    def test_the_hash_is_the_same_in_every_process(self) -> None:
        assert Space.of(depth=Int(1, 5), tone=Choice("plain", "warm")).hash == "f98b888d2dcf9348"

    @pytest.mark.parametrize(
        ("json", "message"),
        [
            ({}, "The JSON of a space is damaged: KeyError: 'schema'"),
            ({"schema": 99}, "This space was written as schema 99, and this dspex reads schema 1"),
            ({"schema": 1, "entries": [{}]}, "The JSON of a space is damaged: KeyError: 'path'"),
            ([], "The JSON of a space is damaged: TypeError"),
            (
                {"schema": 1, "entries": [{"path": "a", "domain": {"type": "Nope"}}]},
                "No domain of type 'Nope' is known",
            ),
        ],
    )
    def test_damaged_json(self, json: Any, message: str) -> None:
        with pytest.raises(StateError, match=message):
            Space.from_json(json)


class TestOf:
    def test_everything_that_a_class_declares(self) -> None:
        space = Space.of(
            constraint(lambda low, high: low <= high, reason="in order"),
            low=Float(0, 1),
            high=variable(Float(0, 1), default=1.0, doc="the end", tunable=False),
            model=ModelChoice("a/b", "c/d"),
            order=Order("x", "y"),
            width=derived(lambda low, high: high - low),
        )
        assert space.defaults() == {"low": 0.0, "high": 1.0, "model": "a/b", "order": ("x", "y")}
        assert (space["high"].doc, space["high"].tunable) == ("the end", False)
        assert space.compute({"low": 0.25})["width"] == 0.75
        with pytest.raises(StateError, match="in order"):
            space.validate({"low": 0.5, "high": 0.25})

    def test_a_value_is_no_domain(self) -> None:
        with pytest.raises(
            DefinitionError, match=r"Space\.of\(depth=3\): 3 \(int\) is no domain\. Write Space\.of\(depth="
        ):
            Space.of(depth=3)  # type: ignore[arg-type]  # the test


class TestWrongSpaces:
    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ([Entry("a", Bool(), False), Entry("a", Bool(), False)], "Two variables have the path 'a'"),
            (["a"], r"Space\(\['a' \(str\)\]\): this is no Entry\. Write Space\(\[Entry\('depth', Int\(1, 5\)\)\]\)"),
            (
                [Entry("kind", Bool(), False), Entry("b", Bool(), False, conditions=[Condition("knid", True)])],
                r"b: its condition names 'knid', which is not in the space\. Did you mean 'kind'\?",
            ),
            (
                [Entry("a", Bool(), False), Entry("b", Bool(), False, conditions=[Condition("a", "x")])],
                r"b: it could never be active, because a = 'x' \(str\) does not fit Bool\(\)",
            ),
            (
                [
                    Entry("a", Bool(), False, conditions=[Condition("b", True)]),
                    Entry("b", Bool(), False, True, [Condition("a", True)]),
                ],
                "a is active only under a condition on itself: a → b → a",
            ),
            (
                [
                    Entry("a", Bool(), False),
                    Entry("d", None, inputs={"a": "a"}),
                    Entry("b", Bool(), False, conditions=[Condition("d", True)]),
                ],
                "b: its condition names 'd', which is derived",
            ),
            (
                [Entry("d", None, inputs={"x": "nope"})],
                r"d: it is derived from 'nope' \(as x\), which is not in the "
                "space",
            ),
            (
                [Entry("d", None, inputs={"x": "e"}), Entry("e", None, inputs={"x": "d"})],
                "d is derived from itself: d → e → d",
            ),
        ],
    )
    def test_entries(self, entries: Any, message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            Space(entries)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Entry("", Bool()), "a path is a string such as 'answer.temperature'"),
            (lambda: Entry("a", None), r"a variable has a domain, and a derived one has inputs"),
            (lambda: Entry("a", Bool(), inputs={"b": "b"}), "a derived variable has inputs but no domain"),
            (lambda: Entry("a", 3), r"Entry\('a', 3 \(int\)\): this is no domain"),
            (
                lambda: Entry("a", Bool(), False, conditions=[("b", True)]),
                r"\('b', True\) \(tuple\) is no condition\. Write conditions=\[Condition\('answer', 'direct'\)\]",
            ),
            (lambda: Entry("a", Int(1, 5), 9), r"the default of a = 9 \(int\) does not fit Int\(1, 5\)"),
        ],
    )
    def test_an_entry(self, make: Any, message: str) -> None:
        with pytest.raises(DefinitionError, match=message):
            make()

    def test_constraints(self) -> None:
        entries = [Entry("depth", Int(1, 5), 1)]
        with pytest.raises(DefinitionError, match=r"The constraint 'c' reads 'dept' \(as x\), .* Did you mean 'depth'"):
            Space(entries, [Constraint("c", {"x": "dept"}, "because", lambda x: True)])
        rule = Constraint("c", {"x": "depth"}, "because", lambda x: True)
        with pytest.raises(DefinitionError, match="Two constraints are called 'c'"):
            Space(entries, [rule, rule])
