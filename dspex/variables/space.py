"""`Space`: all variables of one program, by path, with the conditions and constraints between them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import attrs

from dspex.errors import DefinitionError, StateError
from dspex.variables.codec import Json
from dspex.variables.counting import count_configurations
from dspex.variables.derived import ConstraintDeclaration, Derived
from dspex.variables.describe import describe
from dspex.variables.differences import SpaceDiff, space_diff
from dspex.variables.domain import Domain
from dspex.variables.entries import Constraint, Entry
from dspex.variables.handle import Handle
from dspex.variables.messages import check_values, counted, did_you_mean, shown, some, unknown_path
from dspex.variables.notebook import space_html
from dspex.variables.pool import Pool
from dspex.variables.serial import space_from_json, space_hash, space_to_json
from dspex.variables.state import VariableState
from dspex.variables.structure import Structure
from dspex.variables.values import same
from dspex.variables.variable import Variable

__all__ = ["Space"]

_ATTEMPTS = 1000


class Space(Mapping[str, Entry]):
    """An immutable mapping path → `Entry`, with constraints.

    An entry is *active* when all its conditions hold: the variables they name are active and have those
    values. Inactive variables keep their values, but these do not matter: not to constraints, sampling or
    fingerprints.

    Raises `DefinitionError` for a path that stands there twice, conditions, inputs or constraints that name
    what is not there, and cycles; and for a condition on a value that its variable cannot have, unless with
    ``reachable=False`` (a domain was narrowed since: what depends on the values that are gone is never active).

    >>> from dspex.variables import Choice, Condition, Int
    >>> space = Space([
    ...     Entry("answer", Choice("direct", "stepwise"), "direct"),
    ...     Entry("answer.stepwise.k", Int(1, 5), 3, conditions=[Condition("answer", "stepwise")]),
    ... ])
    >>> space.active({"answer": "direct"})
    ('answer',)
    >>> space.active({"answer": "stepwise"})
    ('answer', 'answer.stepwise.k')
    """

    __slots__ = ("_entries", "_hash", "_structure", "constraints", "open_ended", "paths", "tunable")

    paths: tuple[str, ...]
    """All paths in their order, those of derived variables included."""

    tunable: tuple[str, ...]
    """The paths that are searched; one that no search could make active is not among them."""

    constraints: tuple[Constraint, ...]
    """What has to hold between variables."""

    open_ended: tuple[str, ...]
    """The tunable paths whose domain is open-ended."""

    def __init__(
        self, entries: Iterable[Entry], constraints: Iterable[Constraint] = (), *, reachable: bool = True
    ) -> None:
        self._build(Structure(entries, tuple(constraints), reachable=reachable))

    def _build(self, structure: Structure) -> None:
        self._structure = structure
        self._entries = entries = structure.entries
        self._hash: str | None = None
        self.constraints = tuple(constraint for constraint, _ in structure.constraints)
        self.paths = structure.paths
        self.tunable = structure.searched()
        self.open_ended = tuple(
            path for path in self.tunable if (domain := entries[path].domain) is not None and domain.open_ended
        )

    @classmethod
    def of(
        cls, *constraints: ConstraintDeclaration, **declarations: Domain[Any] | Variable[Any] | Derived[Any]
    ) -> Space:
        """Return the space of some domains, variables and derived variables by name, for plain functions.

        Constraints are named ``constraint_1``, ``constraint_2``, ... in the order given.

        >>> from dspex.variables import Choice, Float, constraint, variable
        >>> space = Space.of(
        ...     constraint(lambda low, high: low <= high, reason="low may not be above high"),
        ...     low=Float(0.0, 1.0),
        ...     high=variable(Float(0.0, 1.0), default=1.0),
        ...     model=Choice("small", "large"),
        ... )
        >>> space.defaults()
        {'low': 0.0, 'high': 1.0, 'model': 'small'}
        """
        names = {id(one): name for name, one in declarations.items()}

        def paths(inputs: Mapping[str, str | Handle]) -> dict[str, str]:
            return {
                argument: source if isinstance(source, str) else names.get(id(source), source.name or source.label)
                for argument, source in inputs.items()
            }

        entries: list[Entry] = []
        for name, one in declarations.items():
            if isinstance(one, Derived):
                entries.append(Entry(name, None, inputs=paths(one.inputs), compute=one.fn, doc=one.doc))
            elif isinstance(one, Variable):
                entries.append(Entry(name, one.domain, one.default, one.tunable, doc=one.doc))
            elif isinstance(one, Domain):
                entries.append(Entry(name, one, one.first()))
            else:
                raise DefinitionError(
                    f"Space.of({name}={one!r}): {shown(one)} is no domain. Write "
                    f"Space.of({name}=Choice(...)), or leave {name} out when it is not to be searched."
                )
        rules = [
            Constraint(rule.name or f"constraint_{position}", paths(rule.inputs), rule.reason, rule.fn)
            for position, rule in enumerate(constraints, 1)
        ]
        return cls(entries, rules)

    # The mapping.

    def __getitem__(self, path: str) -> Entry:
        try:
            return self._entries[path]
        except (KeyError, TypeError):
            raise unknown_path(path, self._entries) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and path in self._entries

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return self._entries == other._entries and self.constraints == other.constraints

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"<Space of {counted(len(self), 'variable')}, {len(self.tunable)} tunable>"

    def _repr_html_(self) -> str:
        return space_html(self)

    # Values.

    def defaults(self) -> dict[str, Any]:
        """Return the defaults of all variables that are not derived."""
        return dict(self._structure.defaults)

    def state(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> VariableState:
        """Return a state with these values and the defaults of the rest.

        >>> from dspex.variables import Int
        >>> Space.of(depth=Int(1, 5), breadth=Int(1, 5)).state(depth=3)
        <VariableState depth=3 (1 of 2 changed)>
        """
        if values is not None:
            check_values(values)
        return VariableState(self, {**(values or {}), **more})

    def active(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the active paths in the space's order; a missing value counts as the default."""
        return self._structure.active(values).paths

    def is_active(self, path: str, values: Mapping[str, Any]) -> bool:
        """Whether the variable at ``path`` is active."""
        return self[path].path in self._structure.active(values).members

    def validate(self, values: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
        """Return the values in their normal form, with defaults for the missing ones unless ``partial``.

        With ``partial``, only constraints between given values are checked. Raises `StateError` for an
        unknown path (with the nearest known one), a value that does not fit, and a violated constraint (with
        its reason).

        >>> from dspex.variables import Int
        >>> Space.of(depth=Int(1, 5)).validate({"depht": 3})
        Traceback (most recent call last):
        dspex.variables.messages.UnknownPathError: No variable at path 'depht' in this space. \
Did you mean 'depth'?
        """
        check_values(values)
        entries = self._entries
        defaults = self._structure.defaults
        valid: dict[str, Any] = {} if partial else dict(defaults)
        for path, value in values.items():
            if path in valid and value is defaults[path]:
                continue  # which was validated when the entry was made
            entry = entries.get(path)
            if entry is None:
                raise unknown_path(path, entries)
            valid[path] = entry.validate(value)
        if self._structure.constraints:
            complete = {**defaults, **valid}
            self._check_constraints(complete, set(valid) if partial else None)
        return valid

    def _check_constraints(self, complete: Mapping[str, Any], given: set[str] | None) -> None:
        violated = self._structure.violated(complete)
        if given is not None:
            violated = [rule for rule in violated if self._structure.sources(rule.inputs.values()) <= given]
        if violated:
            values = self._structure.with_checked(complete)
            raise StateError("; ".join(rule.violation(values) for rule in violated))

    def violated(self, values: Mapping[str, Any]) -> list[Constraint]:
        """Return the constraints that apply to the values and do not hold; missing values are the defaults."""
        return self._structure.violated({**self._structure.defaults, **values})

    def compute(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values (with the defaults of the rest) and those of all derived variables.

        >>> from dspex.variables import Int, derived
        >>> Space.of(depth=Int(1, 5), tokens=derived(lambda depth: 100 * depth)).compute({"depth": 2})
        {'depth': 2, 'tokens': 200}
        """
        return self._structure.with_derived({**self._structure.defaults, **values})

    def sample(self, rng: random.Random | int, *, pools: Mapping[str, Pool] | None = None) -> dict[str, Any]:
        """Draw values for the tunable variables that are active under them; the same generator or seed draws the same.

        An open-ended variable takes the value of an item of its pool, or its default without one. Constraints
        are met by drawing again; raises `StateError` when that does not succeed.

        >>> from dspex.variables import Int
        >>> space = Space.of(depth=Int(1, 5))
        >>> space.sample(7) == space.sample(random.Random(7))
        True
        """
        if not isinstance(rng, random.Random):
            rng = _generator(rng)
        broken: dict[str, int] = {}
        for _ in range(_ATTEMPTS):
            drawn = self._draw(rng, pools or {})
            violated = self.violated(drawn) if self._structure.constraints else []
            if not violated:
                return {path: drawn[path] for path in self.tunable if path in drawn}
            for rule in violated:
                broken[rule.name] = broken.get(rule.name, 0) + 1
        worst = max(broken, key=lambda name: broken[name])
        raise StateError(
            f"No values were found in {_ATTEMPTS} draws that meet the constraints; {worst!r} was violated "
            f"most ({broken[worst]} times). Narrow the domains with space.restrict(...) so that more of "
            f"their values meet it."
        )

    def _draw(self, rng: random.Random, pools: Mapping[str, Pool]) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        defaults, active = self._structure.defaults, set[str]()
        for path in self._structure.order:
            entry = self._entries[path]
            if entry.conditions and not all(
                one.path in active and same(drawn.get(one.path, defaults[one.path]), one.value)
                for one in entry.conditions
            ):
                continue
            active.add(path)
            if not entry.tunable or entry.domain is None:
                continue
            if not entry.domain.open_ended:
                drawn[path] = entry.domain.sample(rng)
            else:
                pool = pools.get(path)
                drawn[path] = pool[rng.randrange(len(pool))].value if pool else entry.default
        return drawn

    def size(self) -> int | float:
        """Return how many configurations the tunable variables have, counting only active ones.

        `math.inf` when one is continuous or open-ended. Constraints are not counted, so it is an upper bound.
        """
        return count_configurations(self._entries, self._structure.order)

    # Other spaces.

    def select(self, *patterns: str) -> tuple[str, ...]:
        """Return the paths that are equal to a pattern or match it as a glob (``*`` matches dots too).

        Raises `StateError` for a pattern that matches nothing.
        """
        if not patterns:
            raise StateError("A pattern is missing. Write a path, a glob such as 'answer.*', or '*' for all.")
        chosen: set[str] = set()
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise StateError(f"A pattern is a string such as 'answer.*', not {shown(pattern)}.")
            matched = [path for path in self._entries if path == pattern or fnmatchcase(path, pattern)]
            if not matched:
                hint = did_you_mean(pattern, self._entries) or f" It has: {some(self._entries)}."
                raise StateError(f"The pattern {pattern!r} matches no variable of this space.{hint}")
            chosen.update(matched)
        return tuple(path for path in self._entries if path in chosen)

    def freeze(self, *globs: str) -> Space:
        """Return the space with the matching variables taken out of the search.

        >>> from dspex.variables import Int
        >>> Space.of(depth=Int(1, 5), breadth=Int(1, 5)).freeze("d*").tunable
        ('breadth',)
        """
        return self._with_tunable(globs, False)

    def unfreeze(self, *globs: str) -> Space:
        """Return the space with the matching variables taken into the search."""
        return self._with_tunable(globs, True)

    def _with_tunable(self, globs: tuple[str, ...], tunable: bool) -> Space:
        chosen = {path for path in self.select(*globs) if not self._entries[path].is_derived}
        if not chosen:
            raise StateError(f"{', '.join(map(repr, globs))} matches only derived variables, which are never searched.")
        return self._with({path: attrs.evolve(self._entries[path], tunable=tunable) for path in chosen})

    def restrict(self, domains: Mapping[str, Domain[Any]] | None = None, /, **more: Domain[Any]) -> Space:
        """Return the space with narrower domains; a default outside the new one becomes its first value.

        Raises `StateError` for a domain with values that the present one does not have.

        >>> from dspex.variables import Int
        >>> Space.of(depth=Int(1, 5)).restrict(depth=Int(2, 3)).defaults()
        {'depth': 2}
        """
        if domains is not None and not isinstance(domains, Mapping):
            raise StateError(f"restrict({shown(domains)}): write a mapping such as {{'depth': Int(1, 3)}}.")
        changed: dict[str, Entry] = {}
        for path, domain in {**(domains or {}), **more}.items():
            entry = self[path]
            if entry.domain is None:
                raise StateError(f"restrict({path}={domain!r}): it is derived and has no domain.")
            if not isinstance(domain, Domain):
                raise StateError(
                    f"restrict({path}={domain!r}): {shown(domain)} is no domain. Write {path}=Choice({domain!r})."
                )
            if not entry.domain.covers(domain):
                raise StateError(f"restrict({path}={domain!r}): this has values that are not in {entry.domain!r}.")
            keep = domain.contains(entry.default) or (entry.default is None and entry.optional)
            changed[path] = attrs.evolve(entry, domain=domain, default=entry.default if keep else domain.first())
        return self._with(changed)

    def _with(self, changed: Mapping[str, Entry]) -> Space:
        return _unchecked([changed.get(path, entry) for path, entry in self._entries.items()], self.constraints)

    def diff(self, other: Space) -> SpaceDiff:
        """Return what ``other`` has more, less and differently. Raises `StateError` for what is no space."""
        if not isinstance(other, Space):
            raise StateError(f"diff({shown(other)}): this is no space. Write space.diff(program.space()).")
        return space_diff(self._entries, other._entries, self.constraints, other.constraints)

    # Text and JSON.

    def describe(self) -> str:
        """Return a table of all variables: path, domain, default, whether it is tuned, when it is active."""
        return describe(self)

    @property
    def hash(self) -> str:
        """16 hex digits that name what decides whether a state fits; the same in every process.

        They cover paths, domains, conditions, inputs and constraints. Defaults, docs, the order of the paths
        and what is frozen do not count.
        """
        if self._hash is None:
            self._hash = space_hash(self._entries, self.constraints)
        return self._hash

    def to_json(self) -> dict[str, Json]:
        """Return the space as JSON, for `from_json`."""
        return space_to_json(self._entries, self.constraints, self.hash)

    @staticmethod
    def from_json(json: Mapping[str, Any]) -> Space:
        """Return the space that `to_json` was called on; functions (derived, constraints) stay behind.

        Raises `StateError` for damaged JSON and for that of another schema.
        """
        return _unchecked(*space_from_json(json))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_unchecked, (list(self._entries.values()), self.constraints))


def _generator(seed: Any) -> random.Random:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise StateError(
            f"space.sample({seed!r}): {shown(seed)} is no generator of random numbers. Write space.sample(0), with a "
            f"seed, or space.sample(random.Random(0)) for several draws."
        )
    return random.Random(seed)


def _unchecked(entries: Iterable[Entry], constraints: tuple[Constraint, ...]) -> Space:
    # A narrowed domain may have made a condition impossible: its entries then simply never become active.
    space = Space.__new__(Space)
    space._build(Structure(entries, constraints, reachable=False))
    return space
