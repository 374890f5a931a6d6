"""Domains: what belongs, how many, what is drawn, and what a wrong one says."""

from __future__ import annotations

import enum
import json
import math
import pickle
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from dspex.data import Example
from dspex.data.plain import plain_data
from dspex.errors import DefinitionError, StateError
from dspex.variables import (
    Bool,
    Choice,
    Demos,
    Domain,
    Float,
    Int,
    Label,
    ModelChoice,
    Order,
    Prompt,
    Subset,
    content_id,
)
from dspex.variables.readonly import plain_type
from dspex.variables.values import same


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Odd(Int):
    def __init__(self, low: int) -> None:
        super().__init__(low, 9, step=2)


class Named:
    """Something like an LM object."""

    def __init__(self, model: str, temperature: float = 0.0) -> None:
        self.model = model
        self.temperature = temperature

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.model)


def plan_a() -> None: ...


def plan_b() -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(), r"Float\(\): missing a required argument: 'low'\. Write Float\(0\.0, 1\.0\)\."),
        (lambda: Bool(True), r"Bool\(True\): too many positional arguments\. Write Bool\(\)\."),
        (
            lambda: Choice(a=1),
            r"Choice\(a=1\): got an unexpected keyword argument 'a'\. Write Choice\('plain', 'warm'\)\.",
        ),
        (lambda: Prompt(3), r"Prompt\(3\): .*Write variable\(Prompt\(\), default=.* or Prompt\(max_chars=2000\)"),
        (lambda: Demos([]), r"Demos\(\[\]\): .*Write variable\(Demos\(\), default=.* or Demos\(max_demos=4\)"),
        (lambda: Odd(1, 2), r"Odd\(1, 2\): too many positional arguments\. Write Odd\(low: 'int'\)\."),
        (lambda: Choice(math.nan, 1), r"Choice\(nan, 1\): nan \(float\) is equal to nothing.*Write None where"),
        (lambda: Float(1.0, 0.0), r"Float\(1\.0, 0\.0\): low is above high\. Write Float\(0\.0, 1\.0\)\."),
        (lambda: Float(0, math.inf), r"high has to be a finite number, not inf \(float\)\. Write Float\(0\.0, 1\.0\)"),
        (lambda: Float(math.nan, 1), r"low has to be a finite number, not nan \(float\)"),
        (lambda: Float("0", 1), r"Float\('0', 1\): low has to be a finite number, not '0' \(str\)"),
        (lambda: Float(True, 1), r"low has to be a finite number, not True \(bool\)"),
        (lambda: Float(10**400, 10**401), "low has to be a finite number"),
        (lambda: Float(0, 1, log=True), r"a log scale needs low above 0\. Write Float\(1e-05, 1, log=True\)"),
        (
            lambda: Float(0.1, 1, log=True, step=0.1),
            r"log and step exclude each other\. Write Float\(0\.1, 1, log=True\) or Float\(0\.1, 1, step=0\.1\)",
        ),
        (
            lambda: Float(0, 1, step=0),
            r"step has to be a number above 0, not 0 \(int\)\. Write Float\(0, 1, step=0\.1\)",
        ),
        (lambda: Float(0, 1, step=-0.1), "step has to be a number above 0"),
        (lambda: Float(0, 1e300, step=1e-9), "more steps than a float can tell apart"),
        (lambda: Float(0, 1, log="yes"), r"log has to be True or False, not 'yes' \(str\)"),
        (lambda: Int(5, 1), r"Int\(5, 1\): low is above high\. Write Int\(1, 5\)\."),
        (lambda: Int(0.5, 2), r"low has to be a whole number, not 0\.5 \(float\)\. Write Int\(1, 5\), or Float"),
        (lambda: Int(0, True), r"high has to be a whole number, not True \(bool\)"),
        (lambda: Int(0, 9, log=True), r"a log scale needs low of at least 1\. Write Int\(1, 9, log=True\)"),
        (lambda: Int(1, 9, log=True, step=2), "log and step exclude each other"),
        (lambda: Int(1, 9, step=0), r"step has to be a whole number of at least 1, not 0 \(int\)"),
        (lambda: Int(1, 10**400, log=True), "a log scale ends where floats end"),
        (lambda: Int(1, 9, log=None), r"log has to be True or False, not None"),
        (lambda: Choice(), r"Choice\(\): no options to choose from\. Write Choice\('plain', 'warm'\)\."),
        (
            lambda: Choice("a", "b", "a"),
            r"Choice\('a', 'b', 'a'\): the option 'a' \(str\) stands there "
            "twice",
        ),
        (lambda: Choice([1], [1]), "stands there twice"),
        (
            lambda: Choice(["a", "b"]),
            r"a single option that is a collection\. .*: Choice\('a', 'b'\), or "
            r"Choice\(\*op",
        ),
        (lambda: Choice(object(), object()), "has no name under which it could be saved"),
        (lambda: Choice({1}, {2}), "is neither hashable nor plain data"),
        (lambda: Choice({"$label": 1}, 2), "is reserved"),
        (
            lambda: ModelChoice("a", 3),
            r"3 \(int\) is no model\. Write a name such as 'openai/gpt-4o-mini', "
            "or an LM",
        ),
        (lambda: ModelChoice("a", " "), r"' ' \(str\) is no model"),
        (lambda: ModelChoice("a", Named("a")), "two models are called 'a'"),
        (lambda: Subset(), r"Subset\(\): no options to take from"),
        (
            lambda: Subset("a", "b", min_size=3),
            r"Subset\(\.\.\., min_size=3\): min_size has to be a whole .* "
            "0 to 2",
        ),
        (lambda: Subset("a", "b", max_size=-1), "max_size has to be a whole number from 0 to 2"),
        (lambda: Subset("a", "b", min_size=None), "min_size has to be a whole number"),
        (
            lambda: Subset("a", "b", min_size=2, max_size=1),
            r"min_size is above max_size\. Write min_size=1, max_size=2",
        ),
        (lambda: Order("a"), r"Order\('a'\): at least two options are needed"),
        (lambda: Order("a", "a"), "stands there twice"),
        (lambda: Prompt(max_chars=0), r"Prompt\(max_chars=0\): max_chars has to be a whole number above 0"),
        (
            lambda: Demos(max_demos="3"),
            r"Demos\(max_demos='3'\): max_demos has to be a whole number above 0, "
            "not '3'",
        ),
    ],
)
def test_a_wrong_domain_says_what_to_write(make: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()


@pytest.mark.parametrize(
    ("domain", "value", "message"),
    [
        (Float(0, 1), 1.5, r"t = 1\.5 \(float\) does not fit Float\(0\.0, 1\.0\): write a number from 0\.0 to 1\.0\."),
        (Float(0, 1), "0.5", r"t = '0\.5' \(str\) does not fit"),
        (Float(0, 1), True, r"t = True \(bool\) does not fit"),
        (Float(0, 1), math.nan, r"t = nan \(float\) does not fit"),
        (Float(0, 1), 10**400, "does not fit"),
        (Float(0, 1), None, r"t = None does not fit .*: write a number .*, or declare the variable with default=None"),
        (Float(0, 1), Float, r"or to search over it, an instance such as Float\(\.\.\.\)"),
        (Float(0, 1, step=0.25), 0.3, r"a number from 0\.0 to 1\.0 in steps of 0\.25; 0\.25 is the nearest"),
        (Int(1, 5), 3.0, r"t = 3\.0 \(float\) does not fit Int\(1, 5\): write a whole number from 1 to 5\."),
        (Int(1, 5), 0, r"t = 0 \(int\) does not fit"),
        (Int(1, 9, step=2), 4, "write a whole number from 1 to 9 in steps of 2"),
        (Bool(), 1, r"t = 1 \(int\) does not fit Bool\(\): write True or False\."),
        (Choice("plain", "warm"), "wram", r"write one of its options\. Did you mean 'warm'\?"),
        (Choice(1, 2), True, r"t = True \(bool\) does not fit Choice\(1, 2\): write one of its options\."),
        (Choice("a", "b"), [], "write one of its options"),
        (Choice("a", "b"), {1}, "write one of its options"),
        (ModelChoice("openai/gpt-4o-mini"), "openai/gpt4o-mini", "Did you mean 'openai/gpt-4o-mini'"),
        (ModelChoice("a/b"), 3, "write a model's name such as"),
        (ModelChoice("a/b"), Named("a/b"), r"write one of its models\."),
        (ModelChoice(), 3, "write a model's name such as"),
        (Subset("a", "b"), "ab", "write a tuple of its options"),
        (Subset("a", "b"), ["c"], r"write a tuple of its options, not 'c' \(str\)"),
        (Subset("a", "b"), ["a", "a"], r"write each option at most once, not 'a' \(str\) twice"),
        (Subset("a", "b", "c", min_size=1, max_size=2), [], "write a tuple of 1 to 2 of its options"),
        (Order("a", "b"), ["a"], "write a tuple with each of its 2 options once"),
        (Order("a", "b"), {"a", "b"}, "write a tuple with each of its 2 options once"),
        (Order("a", "b"), ["a", "c"], r"once, not 'c' \(str\)"),
        (Prompt(), 3, r"t = 3 \(int\) does not fit Prompt\(\): write a string\."),
        (Prompt(max_chars=3), "four", r"write a string of at most 3 characters \(this has 4\)"),
        (Demos(), "x", "write a tuple of at most 16 Examples"),
        (Demos(max_demos=1), [{}, {}], r"at most 1 Examples \(this has 2\)"),
        (Demos(max_demos=None), 3, r"write a tuple of Examples\."),
        (Demos(), [3], r"t\[0\] = 3 \(int\) is no demo: write an Example such as Example\("),
    ],
)
def test_a_value_that_does_not_fit_says_what_does(domain: Domain[Any], value: Any, message: str) -> None:
    assert not domain.contains(value)
    with pytest.raises(StateError, match=message):
        domain.validate(value, name="t")


@pytest.mark.parametrize(
    ("domain", "given", "normal"),
    [
        (Float(0, 1), 1, 1.0),
        (Float(-1, 1), -0.0, 0.0),
        (Float(0, 1), np.float32(0.5), 0.5),
        (Float(0, 1), np.int64(1), 1.0),
        (Float(0, 1, step=0.1), 0.1 + 0.2, 0.3),
        (Int(1, 5), np.int64(3), 3),
        (Bool(), np.bool_(True), True),
        (Choice(0.0, 1.0), 1, 1.0),
        (Choice(1, 2), 2.0, 2),
        (Choice(1, 2), np.int64(2), 2),
        (Choice(1, True, 1.0), True, True),
        (Choice(1, True, 1.0), 1.0, 1.0),
        (Choice("a", None), None, None),
        (Choice({"k": 1}, {"k": 2}), {"k": 2}, {"k": 2}),
        (Choice((1, 2), (3,)), (3,), (3,)),
        (Choice(Color.RED, Color.BLUE), Color.BLUE, Color.BLUE),
        (ModelChoice(), "a/b", "a/b"),
        (Subset("a", "b", "c"), {"c", "a"}, ("a", "c")),
        (Subset("a", "b", "c"), ["c", "b"], ("b", "c")),
        (Order("a", "b"), ["b", "a"], ("b", "a")),
        (Demos(), [{"a": 1}], ({"a": 1},)),
    ],
)
def test_values_come_back_in_their_normal_form(domain: Domain[Any], given: Any, normal: Any) -> None:
    value = domain.validate(given)
    assert value == normal
    assert plain_type(value) is type(normal)


@pytest.mark.parametrize(
    ("domain", "first"),
    [
        (Float(2, 3), 2.0),
        (Int(4, 5), 4),
        (Bool(), False),
        (Choice("a", "b"), "a"),
        (ModelChoice("a/b", "c/d"), "a/b"),
        (Subset("a", "b"), ()),
        (Subset("a", "b", min_size=1), ("a",)),
        (Order("b", "a"), ("b", "a")),
        (Prompt(), ""),
        (Demos(), ()),
    ],
)
def test_first_values(domain: Domain[Any], first: Any) -> None:
    assert domain.first() == first


@pytest.mark.parametrize(
    ("domain", "size"),
    [
        (Float(0, 1), math.inf),
        (Float(1, 1), 1),
        (Float(0, 1, step=0.25), 5),
        (Float(0, 0.95, step=0.1), 10),
        (Int(1, 10**30), 10**30),
        (Int(1, 9, step=3), 3),
        (Bool(), 2),
        (Choice(1, 2, 3), 3),
        (ModelChoice("a"), 1),
        (ModelChoice(), math.inf),
        (Subset(*range(4)), 16),
        (Subset(*range(4), min_size=1, max_size=2), 10),
        (Order(*range(5)), 120),
        (Prompt(), math.inf),
        (Demos(), math.inf),
    ],
)
def test_sizes(domain: Domain[Any], size: float) -> None:
    assert domain.size() == size


def test_a_repr_is_the_code_that_makes_it() -> None:
    for code in [
        "Float(0.0, 1.0)",
        "Float(0.1, 1.0, log=True)",
        "Float(0.0, 1.0, step=0.5)",
        "Int(1, 9, step=2)",
        "Int(1, 9, log=True)",
        "Bool()",
        "Choice('a', None, 1)",
        "ModelChoice('a/b')",
        "Subset('a', 'b', min_size=1, max_size=2)",
        "Order('a', 'b')",
        "Prompt()",
        "Prompt(max_chars=10)",
        "Demos()",
        "Demos(max_demos=None)",
    ]:
        assert repr(eval(code)) == code


def test_domains_are_immutable_values() -> None:
    domain = Int(1, 5)
    with pytest.raises(AttributeError, match=r"Int\(1, 5\) is immutable; make another Int instead"):
        domain.high = 9
    with pytest.raises(AttributeError, match="is immutable"):
        del domain.high
    assert {Int(1, 5), Int(1, 5), Int(1, 6), Float(1, 5)} == {Int(1, 5), Int(1, 6), Float(1, 5)}
    assert Choice(1, 2) != Choice(True, 2)
    assert Choice("a", "b") != ModelChoice("a", "b")
    assert Int(1, 5) != "Int(1, 5)"


def test_nobody_changes_a_domain_through_its_options() -> None:
    options = [{"k": [1]}, {"k": [2]}]
    domain = Choice(*options)
    options[0]["k"].append(9)
    domain.encode({"k": [1]})["k"].append(9)
    for value in (domain.first(), domain.options[0], domain.validate({"k": [1]}), domain.decode({"k": [1]})):
        with pytest.raises(TypeError, match=r"this list is read-only, .* write list\(x\) for one of your own"):
            value["k"].append(9)
        with pytest.raises(TypeError, match=r"this dict is read-only, .* write dict\(x\) for one of your own"):
            value["j"] = 9
    with pytest.raises(TypeError, match="read-only"):
        Order([1], [2]).first()[0].append(9)
    with pytest.raises(TypeError, match="read-only"):
        Demos().validate([{"a": 1}])[0]["a"] = 2
    assert domain.options == ({"k": [1]}, {"k": [2]})


def test_a_read_only_option_is_the_value_that_was_given() -> None:
    domain = Choice([1, {"a": 2}], [3])
    value = domain.first()
    assert value == [1, {"a": 2}]
    assert repr(value) == "[1, {'a': 2}]"
    assert same(value, [1, {"a": 2}])
    assert not same(value, [True, {"a": 2}])
    assert not same([value], [[1, {"a": True}]])
    assert domain == Choice([1, {"a": 2}], [3]) == Choice(*domain.options)
    assert json.loads(json.dumps(domain.encode(value))) == json.loads(json.dumps(value)) == [1, {"a": 2}]
    assert plain_data(value) == [1, {"a": 2}]
    assert content_id(value) == content_id([1, {"a": 2}])
    assert pickle.loads(pickle.dumps(domain)) == domain
    assert pickle.loads(pickle.dumps(value)) == value


def test_sampling_is_uniform() -> None:
    rng = random.Random(0)
    counts = Counter(Subset("a", "b", "c", max_size=2).sample(rng) for _ in range(7000))
    assert len(counts) == 7
    assert all(850 < count < 1150 for count in counts.values())
    counts = Counter(Order("a", "b", "c").sample(rng) for _ in range(6000))
    assert len(counts) == 6
    assert all(850 < count < 1150 for count in counts.values())
    values = [Float(1e-4, 1, log=True).sample(rng) for _ in range(4000)]
    assert 850 < sum(value < 1e-3 for value in values) < 1150
    logs = Counter(Int(1, 8, log=True).sample(rng) for _ in range(4000))
    assert logs[1] > 2 * logs[4] > logs[8] > 0


def test_huge_ranges_do_not_overflow() -> None:
    rng = random.Random(0)
    wide = Float(-1.7e308, 1.7e308)
    assert all(wide.contains(wide.sample(rng)) for _ in range(100))
    large = Int(1, 10**300, log=True)
    assert all(large.contains(large.sample(rng)) for _ in range(100))
    assert Int(1, 10**400).contains(Int(1, 10**400).sample(rng))


def test_open_ended_domains_cannot_be_drawn_from() -> None:
    assert Prompt.open_ended
    assert Demos.open_ended
    assert not Float.open_ended
    with pytest.raises(StateError, match=r"Prompt\(\) is open-ended.*Draw from a Pool of candidates instead"):
        Prompt().sample(random.Random(0))
    assert Demos().candidates() is None


def test_candidates_are_listed_only_when_few() -> None:
    assert Int(1, 3).candidates() == (1, 2, 3)
    assert Float(0, 0.3, step=0.1).candidates() == (0.0, 0.1, 0.2, 0.3)
    assert Subset("a", "b").candidates() == ((), ("a",), ("b",), ("a", "b"))
    assert Int(1, 10**6).candidates() is None
    assert Float(0, 1).candidates() is None
    assert Order(*range(10)).candidates() is None
    assert Subset(*range(20)).candidates() is None


@pytest.mark.parametrize(
    ("outer", "inner", "covers"),
    [
        (Float(0, 2), Float(0, 1), True),
        (Float(0, 1), Float(0, 2), False),
        (Float(0, 2), Int(0, 2), True),
        (Float(0, 2), Choice(0.5, 1), True),
        (Float(0, 1, step=0.5), Choice(0.0, 0.5), True),
        (Float(0, 1, step=0.5), Float(0, 1), False),
        (Int(0, 9), Int(2, 4), True),
        (Int(0, 9, step=3), Int(3, 9, step=3), True),
        (Int(0, 9, step=3), Int(0, 9), False),
        (Int(0, 10**9), Float(0, 1), False),
        (Choice("a", "b"), Choice("a"), True),
        (Choice("a", "b"), Choice("a", "c"), False),
        (Choice(*range(3000)), Choice(*range(2000)), True),
        (Bool(), Choice(True), True),
        (ModelChoice(), ModelChoice("a"), True),
        (ModelChoice(), Choice("a", "b"), True),
        (ModelChoice(), Prompt(), False),
        (ModelChoice("a", "b"), ModelChoice("a"), True),
        (ModelChoice("a"), ModelChoice(), False),
        (Prompt(), Choice("be brief", "be kind"), True),
        (Prompt(max_chars=5), Prompt(), False),
        (Prompt(), Prompt(max_chars=5), True),
        (Demos(max_demos=4), Demos(max_demos=2), True),
        (Demos(max_demos=4), Demos(), False),
        (Subset("a", "b", "c"), Subset("a", "c"), True),
        (Subset("a", "b"), Subset("b", "a"), False),
        (Subset("a", "b"), Choice(("a",), ("a", "b")), True),
        (Order("a", "b"), Order("b", "a"), True),
        (Order("a", "b"), Order("a", "b", "c"), False),
        (Int(0, 9), Choice("a"), False),
    ],
)
def test_covers(outer: Domain[Any], inner: Domain[Any], covers: bool) -> None:
    assert outer.covers(inner) is covers


class TestOptionsThatAreObjects:
    def test_they_travel_as_labels(self) -> None:
        domain = Choice(plan_a, plan_b, Color.RED)
        assert domain.decode(domain.encode(plan_b)) is plan_b
        assert domain.encode(Color.RED) == {"$label": "Color.RED"}
        loaded = Domain.from_json(domain.to_json())
        assert loaded == domain
        assert isinstance(loaded, Choice)
        assert loaded.options[2] == Label("Color.RED")
        assert loaded.to_json() == domain.to_json()

    def test_models_may_be_objects(self) -> None:
        large = Named("a/large", 0.5)
        domain = ModelChoice("a/small", large)
        assert domain.validate("a/large") is large
        assert domain.validate(Named("a/large", 0.5)) is large
        assert domain.encode(large) == "a/large"
        assert domain.decode("a/large") is large
        assert domain.index(large) == 1
        assert Domain.from_json(domain.to_json()) == domain == ModelChoice("a/small", "a/large")


class TestExamplesAsDemos:
    def test_they_travel_as_examples(self) -> None:
        demos = Demos().validate([Example(question="1+1", answer="2").with_inputs("question")])
        assert Demos().decode(json.loads(json.dumps(Demos().encode(demos)))) == demos
        assert isinstance(demos[0], Example)


class TestModelChoiceOfAnyModel:
    def test_it_has_nothing_to_search(self) -> None:
        with pytest.raises(StateError, match=r"Write default=None beside it"):
            ModelChoice().first()
        with pytest.raises(StateError, match="lists no models to draw from"):
            ModelChoice().sample(random.Random(0))
        assert ModelChoice().candidates() is None


class TestOnesOwnDomain:
    def test_a_subclass_is_known_by_its_name(self) -> None:
        class Even(Domain[int]):
            __slots__ = ("high",)
            high: int

            def __init__(self, high: int) -> None:
                self._set(high=high)

            def validate(self, value: Any, *, name: str = "value") -> int:
                if type(value) is not int or value % 2 or not 0 <= value <= self.high:
                    self._refuse(name, value, f"an even number up to {self.high}")
                return int(value)

            def first(self) -> int:
                return 0

            def size(self) -> int:
                return self.high // 2 + 1

            def sample(self, rng: random.Random) -> int:
                return 2 * rng.randrange(self.size())

            def encode(self, value: int) -> Any:
                return value

            def decode(self, json: Any) -> int:
                return self.validate(json)

            def candidates(self) -> tuple[int, ...] | None:
                return tuple(range(0, self.high + 1, 2))

            def covers(self, other: Domain[Any]) -> bool:
                return all(map(self.contains, other.candidates() or (None,)))

            def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
                return (self.high,), {}

            def _json(self) -> dict[str, Any]:
                return {"high": self.high}

            @classmethod
            def _from_json(cls, json: Any) -> Even:
                return cls(json["high"])

        assert Domain.from_json(Even(8).to_json()) == Even(8)
        assert repr(Even(8)) == "Even(8)"
        with pytest.raises(StateError, match=r"k = 3 \(int\) does not fit Even\(8\): write an even number up to 8"):
            Even(8).validate(3, name="k")

    def test_it_cannot_take_a_name_of_dspex(self) -> None:
        with pytest.raises(DefinitionError, match=r"class Float\(Domain\): dspex has a domain of that name"):
            type("Float", (Domain,), {"__module__": "mine"})

    def test_an_unknown_or_damaged_one_is_explained(self) -> None:
        with pytest.raises(StateError, match=r"No domain of type 'Flaot' is known\. Did you mean 'Float'\?"):
            Domain.from_json({"type": "Flaot"})
        with pytest.raises(StateError, match="No domain of type None"):
            Domain.from_json([])  # type: ignore[arg-type]  # the test
        with pytest.raises(StateError, match="The JSON of a Float domain is damaged"):
            Domain.from_json({"type": "Float", "low": 1})
        with pytest.raises(StateError, match=r"The JSON of a Int domain is damaged.*low is above high"):
            Domain.from_json({"type": "Int", "low": 3, "high": 1, "log": False, "step": 1})
