"""The laws that every domain, space and state keeps, property-tested."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from dspex.errors import StateError
from dspex.testing.strategies import domains, plain_values, spaces, states, values_of
from dspex.variables import (
    Domain,
    Pool,
    Space,
    VariableState,
    canonical_json,
    content_id,
    decode,
    encode,
)
from dspex.variables.values import same

fast = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Drawn = Any
data = st.data()


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same JSON with the keys of all dicts in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(one, rng)) for key, one in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(one, rng) for one in value] if isinstance(value, list) else value


class TestCodec:
    @fast
    @given(plain_values())
    def test_decode_undoes_encode_through_text(self, value: Any) -> None:
        assert same(decode(json.loads(json.dumps(encode(value)))), value)

    @fast
    @given(plain_values(), st.randoms(use_true_random=False))
    def test_content_ids_do_not_depend_on_the_order_of_keys(self, value: Any, rng: random.Random) -> None:
        assert content_id(encode(value)) == content_id(shuffled(encode(value), rng))

    @fast
    @given(plain_values(), plain_values())
    def test_different_values_have_different_canonical_texts(self, one: Any, other: Any) -> None:
        texts = canonical_json(encode(one)), canonical_json(encode(other))
        assume(texts[0] != texts[1])
        assert not same(one, other)


class TestDomains:
    @fast
    @given(data)
    def test_values_survive_json(self, data: Drawn) -> None:
        domain = data.draw(domains())
        value = data.draw(values_of(domain))
        assert same(domain.decode(json.loads(json.dumps(domain.encode(value)))), value)

    @fast
    @given(data)
    def test_values_belong_and_are_in_normal_form(self, data: Drawn) -> None:
        domain = data.draw(domains())
        value = data.draw(values_of(domain))
        assert domain.contains(value)
        assert same(domain.validate(value), value)

    @fast
    @given(domains())
    def test_a_domain_survives_json_pickle_repr_and_copy(self, domain: Domain[Any]) -> None:
        text = json.dumps(domain.to_json())
        for other in (
            Domain.from_json(json.loads(text)),
            pickle.loads(pickle.dumps(domain)),
            eval(repr(domain), vars(__import__("dspex.variables", fromlist=["*"])).copy()),
            copy.deepcopy(domain),
        ):
            assert other == domain
            assert hash(other) == hash(domain)
            assert repr(other) == repr(domain)

    @fast
    @given(domains(open_ended=False), st.integers())
    def test_samples_belong_and_follow_the_seed(self, domain: Domain[Any], seed: int) -> None:
        one, two = random.Random(seed), random.Random(seed)
        drawn = [domain.sample(one) for _ in range(5)]
        assert same(drawn, [domain.sample(two) for _ in range(5)])
        assert all(domain.contains(value) and same(domain.validate(value), value) for value in drawn)

    @fast
    @given(domains())
    def test_the_first_value_belongs(self, domain: Domain[Any]) -> None:
        assert domain.contains(domain.first())

    @fast
    @given(domains())
    def test_candidates_are_all_values_once_and_as_many_as_the_size(self, domain: Domain[Any]) -> None:
        candidates = domain.candidates()
        if candidates is None:
            assert domain.size() > 1024
        else:
            assert len(candidates) == domain.size()
            assert len({canonical_json(domain.encode(value)) for value in candidates}) == len(candidates)
            assert all(domain.contains(value) for value in candidates)

    @fast
    @given(data)
    def test_what_is_covered_belongs(self, data: Drawn) -> None:
        domain = data.draw(domains())
        other = data.draw(st.just(domain) | domains())
        if domain.covers(other):
            assert domain.contains(data.draw(values_of(other)))
        assert domain.covers(domain)

    @fast
    @given(domains(), st.one_of(plain_values(), st.just(object()), st.just(math.nan)))
    def test_validate_returns_a_normal_form_or_raises_a_state_error(self, domain: Domain[Any], value: Any) -> None:
        if domain.contains(value):
            valid = domain.validate(value)
            assert same(domain.validate(valid), valid)
        else:
            with pytest.raises(StateError, match=r"(?s)^here.*write"):
                domain.validate(value, name="here")


class TestSpaces:
    @few
    @given(spaces(), st.randoms(use_true_random=False))
    def test_json_round_trip_whatever_the_order_of_keys(self, space: Space, rng: random.Random) -> None:
        text = json.dumps(shuffled(space.to_json(), rng))
        other = Space.from_json(json.loads(text))
        assert other == space
        assert (other.hash, hash(other)) == (space.hash, hash(space))
        assert not space.diff(other)
        assert Space.from_json(space.to_json()).describe() == space.describe()

    @few
    @given(spaces(), st.randoms(use_true_random=False))
    def test_the_hash_ignores_the_order_of_entries(self, space: Space, rng: random.Random) -> None:
        entries = list(space._entries.values())
        rng.shuffle(entries)
        assert Space(entries, space.constraints).hash == space.hash

    @few
    @given(spaces())
    def test_the_hash_ignores_what_is_frozen(self, space: Space) -> None:
        assume(any(not entry.is_derived for entry in space._entries.values()))
        frozen = space.freeze("*")
        assert frozen.tunable == ()
        assert frozen.hash == space.hash
        assert frozen.size() == 1
        thawed = space.unfreeze("*")
        assert set(thawed.tunable) == set(space.defaults())

    @few
    @given(spaces(open_ended=False), st.integers())
    def test_samples_are_exactly_the_active_tunable_paths_and_valid(self, space: Space, seed: int) -> None:
        drawn = space.sample(random.Random(seed))
        assert set(drawn) == set(space.active(drawn)) & set(space.tunable)
        assert space.validate(drawn).items() >= drawn.items()
        assert drawn == space.sample(random.Random(seed))

    @few
    @given(spaces())
    def test_open_ended_variables_are_drawn_from_their_pools(self, space: Space) -> None:
        pools = {}
        for path in space.open_ended:
            domain = space[path].domain
            assert domain is not None
            pools[path] = Pool(path, domain)
            pools[path].add(domain.first())
        drawn = space.sample(random.Random(0), pools=pools)
        for path in space.open_ended:
            if path in drawn:
                assert drawn[path] == pools[path].items[0].value

    @few
    @given(states())
    def test_active_follows_the_conditions(self, state: VariableState) -> None:
        space = state.space
        active = set(space.active(state))
        for path, entry in space.items():
            expected = all(one.path in active and same(state[one.path], one.value) for one in entry.conditions)
            assert (path in active) is expected is space.is_active(path, state)

    @few
    @given(spaces(max_size=5, open_ended=False, constraints=False))
    def test_size_counts_the_active_configurations(self, space: Space) -> None:
        assume(all(entry.domain is None or entry.domain.size() <= 12 for entry in space._entries.values()))
        found: set[str] = set()

        def walk(paths: tuple[str, ...], values: dict[str, Any]) -> None:
            if not paths:
                active = space.active(values)
                chosen = {path: space[path].encode(values[path]) for path in values if path in active}
                found.add(canonical_json(chosen))
                return
            domain = space[paths[0]].domain
            assert domain is not None
            for value in domain.candidates() or ():
                walk(paths[1:], {**values, paths[0]: value})

        total = math.prod(space[path].domain.size() for path in space.tunable)  # type: ignore[union-attr]
        assume(total <= 3000)
        walk(space.tunable, {})
        assert space.size() == len(found)

    @few
    @given(spaces())
    def test_pickle(self, space: Space) -> None:
        other = pickle.loads(pickle.dumps(space))
        assert other == space
        assert other.compute({}) == space.compute({})


class TestStates:
    @few
    @given(states())
    def test_json_round_trip(self, state: VariableState) -> None:
        other = VariableState.from_json(json.loads(json.dumps(state.to_json())), state.space)
        assert other == state
        assert other.fingerprint == state.fingerprint
        assert other.version == 0

    @few
    @given(states())
    def test_copies_and_pickles_carry_everything_but_the_watchers(self, state: VariableState) -> None:
        for other in (state.copy(), copy.copy(state), pickle.loads(pickle.dumps(state))):
            assert (other, other.version, other.history, other.locked) == (
                state,
                state.version,
                state.history,
                state.locked,
            )

    @few
    @given(data)
    def test_diff_then_apply_makes_it_the_same(self, data: Drawn) -> None:
        one = data.draw(states())
        other = data.draw(states(one.space))
        difference = one.diff(other)
        one.update({path: new for path, (_, new) in difference.changed.items()})
        assert not one.diff(other)
        assert one == other
        assert one.fingerprint == other.fingerprint

    @few
    @given(data)
    def test_an_update_happens_as_a_whole_or_not_at_all(self, data: Drawn) -> None:
        state = data.draw(states())
        other = data.draw(states(state.space))
        before = (state.to_dict(), state.version, state.history, state.fingerprint)
        seen: list[Any] = []
        if len(state):
            state.watch("*", seen.append)
        with pytest.raises(StateError):
            state.update({**other, "not there": 1})
        assert (state.to_dict(), state.version, state.history, state.fingerprint) == before
        assert seen == []

    @few
    @given(data)
    def test_watchers_are_called_once_per_update_with_what_changed(self, data: Drawn) -> None:
        state = data.draw(states())
        other = data.draw(states(state.space))
        assume(len(state))
        seen: list[Any] = []
        state.watch("*", seen.append)
        expected = state.diff(other).changed
        version = state.version
        state.update(other)
        if not expected:
            assert seen == []
            assert state.version == version
        else:
            (changes,) = seen
            assert {path: change for path, change in changes.items() if path in expected} == expected
            assert {path for path in changes if path not in expected} <= set(state.space) - set(state)
            assert state.version == version + 1

    @few
    @given(data)
    def test_rollback_restores_every_version(self, data: Drawn) -> None:
        state = data.draw(states())
        versions = {state.version: state.to_dict()}
        for _ in range(3):
            state.update(data.draw(states(state.space)))
            versions[state.version] = state.to_dict()
        for version, values in versions.items():
            made = state.rollback(version)
            assert same(state.to_dict(), values)
            assert made == state.version >= version

    @few
    @given(data)
    def test_the_fingerprint_ignores_inactive_values_and_nothing_else(self, data: Drawn) -> None:
        state = data.draw(states())
        other = data.draw(states(state.space))
        counted = set(state.active()) & set(state) | state.space._structure.sources(state.active())
        inactive = {path: value for path, value in other.items() if path not in counted}
        mixed = {**state, **inactive}
        if not state.space.violated(mixed):
            assert state.space.state(mixed).fingerprint == state.fingerprint
        equal = state.active() == other.active() and all(same(state[path], other[path]) for path in counted)
        assert (other.fingerprint == state.fingerprint) is equal

    @few
    @given(states())
    def test_changes_are_what_it_takes_to_make_it_again(self, state: VariableState) -> None:
        assert state.space.state(state.changes()) == state
        assert VariableState(state.space, state) == state
