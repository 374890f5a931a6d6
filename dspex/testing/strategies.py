"""Hypothesis strategies for domains, spaces and states, to property-test samplers and optimizers with.

They need hypothesis, which comes with the ``test`` extra.

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(states())
    ... def test_a_state_survives_json(state):
    ...     assert type(state).from_json(state.to_json(), state.space) == state
    >>> test_a_state_survives_json()
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

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
    VariableState,
)

__all__ = ["domains", "plain_values", "spaces", "states", "values_of"]

T = TypeVar("T")

_MODELS = ("openai/gpt-4o-mini", "anthropic/claude", "local/smollm2-135m", "mistral/small")
_NAMES = st.sampled_from([f"{letter}{digit}" for letter in "abcdefgh" for digit in range(4)])


@functools.cache
def plain_values(*, max_leaves: int = 8) -> st.SearchStrategy[Any]:
    """Values that the codec knows without registration: scalars, and lists, tuples and dicts of them."""
    scalars: st.SearchStrategy[Any] = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    )
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            | st.dictionaries(st.integers(), inner, max_size=2)
        ),
        max_leaves=max_leaves,
    )


@functools.cache
def _options(minimum: int, maximum: int) -> st.SearchStrategy[list[Any]]:
    # Equality alone would call 1 and True one option; within one type it is what the domains go by.
    option = st.text(max_size=6) | st.integers(-5, 5) | st.booleans() | st.none() | st.sampled_from([0.5, 1.5])
    return st.lists(option, min_size=minimum, max_size=maximum, unique_by=lambda value: (type(value).__name__, value))


@functools.cache
def _floats() -> st.SearchStrategy[Domain[Any]]:
    bound = st.floats(-1e6, 1e6, allow_nan=False, width=32)
    above_zero = st.floats(1e-6, 1e6, allow_nan=False)
    linear = st.tuples(bound, bound).map(lambda pair: Float(min(pair), max(pair)))
    log = st.tuples(above_zero, above_zero).map(lambda pair: Float(min(pair), max(pair), log=True))
    stepped = st.tuples(st.integers(-100, 100), st.integers(0, 60), st.sampled_from([0.05, 0.1, 0.25, 3.0])).map(
        lambda parts: Float(parts[0] / 10, parts[0] / 10 + parts[1] * parts[2], step=parts[2])
    )
    return linear | log | stepped


@functools.cache
def _ints() -> st.SearchStrategy[Domain[Any]]:
    bound, above_zero = st.integers(-1000, 1000), st.integers(1, 10**6)
    stepped = st.tuples(bound, bound, st.integers(1, 7)).map(
        lambda parts: Int(min(parts[:2]), max(parts[:2]), step=parts[2])
    )
    log = st.tuples(above_zero, above_zero).map(lambda pair: Int(min(pair), max(pair), log=True))
    return stepped | log


@st.composite
def _subsets(draw: st.DrawFn) -> Domain[Any]:
    options = draw(_options(1, 5))
    smallest = draw(st.integers(0, len(options)))
    largest = draw(st.none() | st.integers(smallest, len(options)))
    return Subset(*options, min_size=smallest, max_size=largest)


def domains(*, finite: bool = False, open_ended: bool = True) -> st.SearchStrategy[Domain[Any]]:
    """Domains of every kind; ``finite`` leaves the few-valued ones, ``open_ended=False`` drawable ones."""
    return _domains(finite, open_ended)


# Made once: hypothesis works out what it needs to know about a strategy anew for each new object.
@functools.cache
def _domains(finite: bool, open_ended: bool) -> st.SearchStrategy[Domain[Any]]:
    few: st.SearchStrategy[Domain[Any]] = st.one_of(
        st.just(Bool()),
        _options(1, 5).map(lambda options: Choice(*options)),
        st.lists(st.sampled_from(_MODELS), min_size=1, unique=True).map(lambda models: ModelChoice(*models)),
        _subsets(),
        _options(2, 4).map(lambda options: Order(*options)),
        st.tuples(st.integers(-5, 5), st.integers(0, 5)).map(lambda parts: Int(parts[0], sum(parts))),
    )
    if finite:
        return few
    drawable = few | _floats() | _ints()
    if not open_ended:
        return drawable
    limit = st.none() | st.integers(1, 20)
    prompts: st.SearchStrategy[Domain[Any]] = limit.map(lambda size: Prompt(max_chars=size))
    return drawable | prompts | limit.map(lambda size: Demos(max_demos=size))


def values_of(domain: Domain[T]) -> st.SearchStrategy[T]:
    """Values of a domain, as they are after `Domain.validate`."""
    return _values_of(domain)


@functools.lru_cache(maxsize=4096)
def _values_of(domain: Domain[Any]) -> st.SearchStrategy[Any]:
    if isinstance(domain, Prompt):
        return st.text(max_size=domain.max_chars if domain.max_chars is not None else 40)
    if isinstance(domain, Demos):
        demo = st.dictionaries(st.text(min_size=1, max_size=4), plain_values(max_leaves=3), max_size=2)
        largest = 3 if domain.max_demos is None else min(3, domain.max_demos)
        return st.lists(demo, max_size=largest).map(domain.validate)
    if isinstance(domain, Float) and domain.step is None:
        return st.floats(domain.low, domain.high).map(domain.validate)
    if isinstance(domain, Int):
        return st.integers(0, domain.size() - 1).map(lambda index: domain.low + index * domain.step)
    candidates = domain.candidates()
    if candidates is None:
        return st.integers(0, 2**32).map(lambda seed: domain.sample(random.Random(seed)))
    return st.sampled_from(candidates)


@st.composite
def spaces(
    draw: st.DrawFn,
    *,
    min_size: int = 0,
    max_size: int = 8,
    open_ended: bool = True,
    derived: bool = True,
    constraints: bool = True,
) -> Space:
    """Spaces with conditions (nested too), optional variables, frozen ones, derived ones and constraints.

    A constraint never rules out the defaults, and leaves enough for `Space.sample` to find values.
    """
    names: list[str] = draw(st.lists(_NAMES, min_size=min_size, max_size=max_size, unique=True))
    entries: list[Entry] = []
    for name in names:
        conditions: tuple[Condition, ...] = ()
        path = name
        parents = [one for one in entries if one.domain is not None and one.domain.candidates() is not None]
        if draw(st.booleans()) and parents:
            parent = draw(st.sampled_from(parents))
            assert parent.domain is not None
            conditions = (Condition(parent.path, draw(values_of(parent.domain))),)
            path = f"{parent.path}.{name}"
        domain = draw(domains(open_ended=open_ended))
        optional = draw(st.integers(0, 5)) == 0
        default = None if optional else draw(values_of(domain))
        tunable = draw(st.integers(0, 4)) > 0
        entries.append(Entry(path, domain, default, tunable, conditions, doc=draw(st.text(max_size=8))))
    settable = [entry.path for entry in entries]
    if derived and settable and draw(st.booleans()):
        source = draw(st.sampled_from(settable))
        entries.append(Entry("derived", None, inputs={"source": source}, compute=_described))
        if draw(st.booleans()):
            entries.append(Entry("derived_twice", None, inputs={"source": "derived"}, compute=_described))
    rules: list[Constraint] = []
    flags = [
        entry for entry in entries if isinstance(entry.domain, Bool) and entry.default is not None and entry.tunable
    ]
    if constraints and len(flags) >= 2 and draw(st.booleans()):
        one, other = flags[0], flags[1]
        rule = _Not((not one.default, not other.default))
        inputs = {"one": one.path, "other": other.path}
        rules.append(Constraint("not_both", inputs, "these two do not go together", rule))
    return Space(draw(st.permutations(entries)), rules)


@st.composite
def states(draw: st.DrawFn, space: Space | st.SearchStrategy[Space] | None = None) -> VariableState:
    """Valid states of a space, or of any space, with some of the values changed from their defaults."""
    if not isinstance(space, Space):
        space = draw(spaces() if space is None else space)
    assert isinstance(space, Space)
    state = space.state()
    for path in _some(draw, list(state)):
        domain = space[path].domain
        assert domain is not None
        values = state.to_dict() | {path: draw(values_of(domain))}
        if not space.violated(values):
            state[path] = values[path]
    return state


def _some(draw: st.DrawFn, paths: Sequence[str]) -> Sequence[str]:
    chosen: list[str] = draw(st.lists(st.sampled_from(paths), unique=True)) if paths else []
    return chosen


def _described(source: Any) -> str:
    return f"derived from {source!r}"


class _Not:
    """A constraint's check that can be pickled: every pair of values but one."""

    def __init__(self, refused: tuple[Any, Any]) -> None:
        self.refused = refused

    def __call__(self, one: Any, other: Any) -> bool:
        return (one, other) != self.refused
