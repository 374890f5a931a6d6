"""Values as JSON: what is plain, what is registered, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from dspex.errors import DefinitionError, StateError
from dspex.variables import canonical_json, content_id, decode, encode, is_registered, register
from dspex.variables.values import same


@dataclass(frozen=True)
class Money:
    amount: int
    currency: str


@dataclass(frozen=True)
class Wallet:
    notes: tuple[Money, ...]


register("test-money", Money, lambda money: (money.amount, money.currency), lambda pair: Money(*pair))
register("test-wallet", Wallet, lambda wallet: wallet.notes, Wallet)


def test_plain_values_are_their_own_json() -> None:
    value = {"a": [1, 2.5, True, None, "x"], "b": {"c": []}}
    assert encode(value) == value


@pytest.mark.parametrize(
    "value",
    [(1, (2, 3)), {1: "one", (2,): "two"}, {"$type": "trap"}, math.inf, -math.inf, {"a": {"$type": 1}}, ()],
)
def test_what_json_cannot_tell_apart_is_tagged(value: object) -> None:
    assert same(decode(encode(value)), value)


def test_nan_survives() -> None:
    assert math.isnan(decode(encode(math.nan)))


def test_registered_types_may_hold_each_other() -> None:
    wallet = Wallet((Money(5, "EUR"), Money(1, "USD")))
    assert decode(encode({"wallet": wallet})) == {"wallet": wallet}
    assert is_registered(Wallet)
    assert not is_registered(dict)


def test_a_subclass_of_a_registered_type_is_not_that_type() -> None:
    class Coin(Money):
        pass

    with pytest.raises(StateError, match=r"cannot be written as JSON.*register\('coin', Coin, encode=\.\.\."):
        encode(Coin(1, "EUR"))


def test_anything_else_is_refused_loudly() -> None:
    with pytest.raises(
        StateError, match=r"^\{1, 2\} \(set\) cannot be written as JSON: only None, bool, int, float, str, list,"
    ):
        encode({"tags": {1, 2}})


def test_an_unknown_tag_says_what_to_import() -> None:
    with pytest.raises(StateError, match=r"JSON of type 'test-mony'.*Did you mean 'test-money'\?.*Import the module"):
        decode({"$type": "test-mony", "value": [1, "EUR"]})


@pytest.mark.parametrize("json", [{"$type": "tuple"}, {"$type": "dict", "value": 3}, {"$type": "float", "value": "x"}])
def test_damaged_json_is_refused(json: object) -> None:
    with pytest.raises(StateError, match="is damaged"):
        decode(json)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(StateError, match=r"is not JSON\."):
        decode((1, 2))
    with pytest.raises(StateError, match=r"is not JSON: .* Pass it through encode\(\) first\."):
        canonical_json({"a": {1, 2}})
    with pytest.raises(StateError, match="is not JSON"):
        canonical_json(math.nan)


def test_a_tag_stands_for_one_class() -> None:
    with pytest.raises(DefinitionError, match=r"the tag 'test-money' already stands for .*Money\. Give dict a tag"):
        register("test-money", dict, dict, dict)
    with pytest.raises(DefinitionError, match="the tag has to be a non-empty string"):
        register("tuple", Money, lambda money: money.amount, lambda amount: Money(amount, ""))
    register("test-money", Money, lambda money: (money.amount, money.currency), lambda pair: Money(*pair))


def test_content_ids_are_the_same_in_every_process() -> None:
    assert content_id({"b": 2, "a": "é\ud800"}) == content_id({"a": "é\ud800", "b": 2})
    assert content_id(1) == "6b86b273ff34fce1"  # sha256 of the text 1
    assert len({content_id(1), content_id(1.0), content_id(True), content_id("1")}) == 4
