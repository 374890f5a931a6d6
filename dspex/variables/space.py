"""`Space`: all variables of one program, by path, with the conditions and constraints between them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import attrs

from dspex.errors import DefinitionError, StateError
from dspex.variables.codec import Json, content_id
from dspex.variables.derived import ConstraintDeclaration, Derived
from dspex.variables.describe import describe
from dspex.variables.differences import SpaceDiff
from dspex.variables.domain import Domain
from dspex.variables.entries import Constraint, Entry, entry_from_json
from dspex.variables.handle import Handle
from dspex.variables.messages import did_you_mean, shown, unknown_path
from dspex.variables.pool import Pool
from dspex.variables.state import VariableState
from dspex.variables.structure import Structure
from dspex.variables.variable import Variable

__all__ = ["SCHEMA", "Space"]

SCHEMA = 1
"""The version of a space's JSON."""

_ATTEMPTS = 1000


class Space(Mapping[str, Entry]):
    """An immutable mapping path → `Entry`, with constraints.

    An entry is *active* when all its conditions hold: the variables they name are active and have those values.
    Inactive variables keep their values, but these do not matter: not to constraints, sampling or fingerprints.

    Raises `DefinitionError` for a path that stands there twice, conditions, inputs or constraints that name what is
    not there, and cycles.

    >>> from dspex.variables import Choice, Condition, Float
    >>> space = Space([
    ...     Entry("answer", Choice("direct", "stepwise"), "direct"),
    ...     Entry("answer.stepwise.temperature", Float(0.0, 1.0), 0.5, conditions=[Condition("answer", "stepwise")]),
    ... ])
    >>> space.active({"answer": "direct"})
    ('answer',)
    >>> space.active({"answer": "stepwise"})
    ('answer', 'answer.stepwise.temperature')
    """

    __slots__ = ("_constraints", "_entries", "_hash", "_structure", "open_ended", "paths", "tunable")

    paths: tuple[str, ...]
    """All paths in their order, those of derived variables included."""

    tunable: tuple[str, ...]
    """The paths that are searched."""

    open_ended: tuple[str, ...]
    """The tunable paths whose domain is open-ended."""

    def __init__(self, entries: Iterable[Entry], constraints: Iterable[Constraint] = ()) -> None:
        self._build(list(entries), tuple(constraints), reachable=True)

    def _build(self, entries: list[Entry], constraints: tuple[Constraint, ...], *, reachable: bool) -> None:
        found: dict[str, Entry] = {}
        for entry in entries:
            if not isinstance(entry, Entry):
                raise DefinitionError(
                    f"Space([{shown(entry)}]): this is no Entry. Write Space([Entry('depth', Int(1, 5))]), or "
                    f"Space.of(depth=Int(1, 5))."
                )
            if entry.path in found:
                raise DefinitionError(
                    f"Two variables have the path {entry.path!r}. Give each a path of its own."
                )
            found[entry.path] = entry
        self._entries = found
        self._constraints = constraints
        self._structure = Structure(found, constraints, reachable=reachable)
        self._hash: str | None = None
        self.paths = tuple(found)
        self.tunable = tuple(path for path, entry in found.items() if entry.tunable)
        self.open_ended = tuple(
            path for path in self.tunable if (domain := found[path].domain) is not None and domain.open_ended
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
                argument: source
                if isinstance(source, str)
                else names.get(id(source), source.name or source.label)
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
                    f"Space.of({name}={one!r}): {shown(one)} is no domain. Write Space.of({name}=Choice(...)), or "
                    f"leave {name} out when it is not to be searched."
                )
        rules = [
            Constraint(rule.name or f"constraint_{position}", paths(rule.inputs), rule.reason, rule.fn)
            for position, rule in enumerate(constraints, 1)
        ]
        return cls(entries, rules)

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The constraints between variables."""
        return self._constraints

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
        return self._entries == other._entries and self._constraints == other._constraints

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"<Space of {len(self)} variables, {len(self.tunable)} tunable>"

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
        return VariableState(self, {**(values or {}), **more})

    def active(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the active paths in the space's order; a missing value counts as the default."""
        return self._structure.active(values)[0]

    def is_active(self, path: str, values: Mapping[str, Any]) -> bool:
        """Whether the variable at ``path`` is active."""
        return path in self._structure.active(values)[1] or self[path] is None

    def validate(self, values: Mapping[str, Any], *, partial: bool = False) -> dict[str, Any]:
        """Return the values in their normal form, with defaults for the missing ones unless ``partial``.

        With ``partial``, only constraints between given values are checked. Raises `StateError` for an unknown path
        (with the nearest known one), a value that does not fit, and a violated constraint (with its reason).

        >>> from dspex.variables import Int
        >>> Space.of(depth=Int(1, 5)).validate({"depht": 3})
        Traceback (most recent call last):
        dspex.variables.messages.UnknownPathError: No variable at path 'depht' in this space. Did you mean 'depth'?
        """
        entries = self._entries
        valid: dict[str, Any] = {} if partial else dict(self._structure.defaults)
        for path, value in values.items():
            entry = entries.get(path)
            if entry is None:
                raise unknown_path(path, entries)
            valid[path] = entry.validate(value)
        if self._structure.constraints:
            self._check_constraints(valid, set(valid) if partial else None)
        return valid

    def _check_constraints(self, values: Mapping[str, Any], given: set[str] | None) -> None:
        violated = self.violated(values)
        if given is not None:
            violated = [rule for rule in violated if self._sources(rule.inputs.values()) <= given]
        if violated:
            complete = self._structure.compute_known({**self._structure.defaults, **values})
            raise StateError("; ".join(rule.violation(complete) for rule in violated))

    def _sources(self, paths: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for path in paths:
            inputs = self._entries[path].inputs
            found |= {path} if inputs is None else self._sources(inputs.values())
        return found

    def violated(self, values: Mapping[str, Any]) -> list[Constraint]:
        """Return the constraints that apply to these values (with the defaults of the rest) and do not hold."""
        return self._structure.violated({**self._structure.defaults, **values})

    def compute(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values (with the defaults of the rest) and those of all derived variables.

        >>> from dspex.variables import Int, derived
        >>> Space.of(depth=Int(1, 5), tokens=derived(lambda depth: 100 * depth)).compute({"depth": 2})
        {'depth': 2, 'tokens': 200}
        """
        return self._structure.compute({**self._structure.defaults, **values})

    def compute_one(self, path: str, values: Mapping[str, Any]) -> Any:
        """Return the value of the derived variable at ``path`` for complete values."""
        return self._structure.compute_one(path, values)

    def sample(self, rng: random.Random, *, pools: Mapping[str, Pool] | None = None) -> dict[str, Any]:
        """Draw values for the tunable variables that are active under them; the same ``rng`` draws the same.

        An open-ended variable takes the value of an item of its pool, or its default without one. Constraints are
        met by drawing again; raises `StateError` when that does not succeed.
        """
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
            f"No values were found in {_ATTEMPTS} draws that meet the constraints; {worst!r} was violated most "
            f"({broken[worst]} times). Narrow the domains with space.restrict(...) so that more of their values meet it."
        )

    def _draw(self, rng: random.Random, pools: Mapping[str, Pool]) -> dict[str, Any]:
        drawn: dict[str, Any] = {}
        for path in self._structure.order:
            entry = self._entries[path]
            if not entry.tunable or entry.domain is None:
                continue
            if entry.conditions and path not in self._structure.active(drawn)[1]:
                continue
            if not entry.domain.open_ended:
                drawn[path] = entry.domain.sample(rng)
                continue
            pool = pools.get(path)
            drawn[path] = pool[rng.randrange(len(pool))].value if pool else entry.default
        return drawn

    def size(self) -> int | float:
        """Return how many configurations the tunable variables have, counting only active ones.

        `math.inf` when one is continuous or open-ended. Constraints are not counted, so it is an upper bound.
        """
        return self._structure.size(self._entries)

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
                hint = did_you_mean(pattern, self._entries)
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
            raise StateError(
                f"{', '.join(map(repr, globs))} matches only derived variables, which are never searched."
            )
        return self._with({path: attrs.evolve(self._entries[path], tunable=tunable) for path in chosen})

    def restrict(self, domains: Mapping[str, Domain[Any]] | None = None, /, **more: Domain[Any]) -> Space:
        """Return the space with narrower domains; a default outside the new one becomes its first value.

        Raises `StateError` for a domain with values that the present one does not have.

        >>> from dspex.variables import Int
        >>> Space.of(depth=Int(1, 5)).restrict(depth=Int(2, 3)).defaults()
        {'depth': 2}
        """
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
                raise StateError(
                    f"restrict({path}={domain!r}): this has values that are not in {entry.domain!r}."
                )
            keep = domain.contains(entry.default) or (entry.default is None and entry.optional)
            changed[path] = attrs.evolve(
                entry, domain=domain, default=entry.default if keep else domain.first()
            )
        return self._with(changed)

    def _with(self, changed: Mapping[str, Entry]) -> Space:
        space = Space.__new__(Space)
        entries = [changed.get(path, entry) for path, entry in self._entries.items()]
        # A narrower domain may make a condition impossible: its entries then simply never become active.
        space._build(entries, self._constraints, reachable=False)
        return space

    def diff(self, other: Space) -> SpaceDiff:
        """Return what ``other`` has more, less and differently."""
        added = {path: _what(entry) for path, entry in other._entries.items() if path not in self._entries}
        removed = {path: _what(entry) for path, entry in self._entries.items() if path not in other._entries}
        changed: dict[str, dict[str, tuple[Any, Any]]] = {}
        for path, entry in self._entries.items():
            if path in other._entries and (found := _changes(entry, other._entries[path])):
                changed[path] = found
        mine = {rule.name: rule for rule in self._constraints}
        theirs = {rule.name: rule for rule in other._constraints}
        for name in [*mine, *(name for name in theirs if name not in mine)]:
            label = f"constraint {name!r}"
            if name not in mine:
                added[label] = theirs[name].reason
            elif name not in theirs:
                removed[label] = mine[name].reason
            elif mine[name] != theirs[name]:
                changed[label] = {"rule": (mine[name].to_json(), theirs[name].to_json())}
        return SpaceDiff(added, removed, changed)

    # Text and JSON.

    def describe(self) -> str:
        """Return a table of all variables: path, domain, default, whether it is searched, when it is active."""
        return describe(self)

    @property
    def hash(self) -> str:
        """16 hex digits that name what decides whether a state fits; the same in every process.

        They cover paths, domains, conditions, inputs and constraints. Defaults, docs, the order of the paths and
        what is frozen do not count.
        """
        if self._hash is None:
            rows = []
            for path in sorted(self._entries):
                row = self._entries[path].to_json()
                for name in ("default", "tunable", "doc", "readers"):
                    row.pop(name, None)
                row["conditions"] = sorted(map(content_id, row.get("conditions", [])))
                rows.append(row)
            rules = sorted(
                ([rule.name, dict(rule.inputs)] for rule in self._constraints), key=lambda rule: str(rule[0])
            )
            self._hash = content_id([rows, rules])
        return self._hash

    def to_json(self) -> dict[str, Json]:
        """Return the space as JSON, for `from_json`."""
        return {
            "schema": SCHEMA,
            "hash": self.hash,
            "entries": [entry.to_json() for entry in self._entries.values()],
            "constraints": [rule.to_json() for rule in self._constraints],
        }

    @staticmethod
    def from_json(json: Mapping[str, Any]) -> Space:
        """Return the space that `to_json` was called on, without the functions of derived variables and constraints.

        Raises `StateError` for damaged JSON and for that of a newer dspex.
        """
        try:
            if json["schema"] != SCHEMA:
                raise StateError(
                    f"This space was written as schema {json['schema']!r}, and this dspex reads schema {SCHEMA}. "
                    f"Read it with the dspex that wrote it."
                )
            space = Space.__new__(Space)
            entries = [entry_from_json(one) for one in json["entries"]]
            rules = tuple(
                Constraint(one["name"], dict(one["inputs"]), one["reason"]) for one in json["constraints"]
            )
            space._build(entries, rules, reachable=False)
        except (KeyError, TypeError, AttributeError) as error:
            raise StateError(f"The JSON of a space is damaged: {type(error).__name__}: {error}.") from error
        return space

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (list(self._entries.values()), self._constraints))


def _restored(entries: list[Entry], constraints: tuple[Constraint, ...]) -> Space:
    space = Space.__new__(Space)
    space._build(entries, constraints, reachable=False)
    return space


def _what(entry: Entry) -> str:
    return repr(entry.domain) if entry.inputs is None else f"derived from {', '.join(entry.inputs.values())}"


def _changes(old: Entry, new: Entry) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    properties: dict[str, Callable[[Entry], Any]] = {
        "domain": lambda entry: entry.domain,
        "default": lambda entry: entry.default,
        "tunable": lambda entry: entry.tunable,
        "conditions": lambda entry: tuple(map(str, entry.conditions)),
        "readers": lambda entry: entry.readers,
        "inputs": lambda entry: None if entry.inputs is None else dict(entry.inputs),
        "doc": lambda entry: entry.doc,
    }
    for name, read in properties.items():
        one, two = read(old), read(new)
        if one != two or type(one) is not type(two):
            found[name] = (one, two)
    return found
