"""`VariableState`: values for a space, validated on every write, with versions, watchers and locks.

A write replaces the whole dict of values, so a reader on another thread sees all of an update or nothing of
it. Watchers are called after the update, outside the lock, in the order of the updates.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from dspex.errors import StateError
from dspex.variables.codec import Json, content_id
from dspex.variables.differences import StateDiff, space_mismatch
from dspex.variables.messages import check_values, shown, unknown_path
from dspex.variables.values import same

if TYPE_CHECKING:
    from dspex.variables.space import Space

__all__ = ["Changes", "VariableState"]

SCHEMA = 1
"""The version of a state's JSON."""

Changes = dict[str, tuple[Any, Any]]
"""path → (old value, new value)"""


@attrs.frozen(eq=False)
class _Watcher:
    paths: frozenset[str]
    callback: Callable[[Changes], None]


class VariableState(Mapping[str, Any]):
    """Values for the variables of a space: a mapping path → value that covers all that can be set.

    A derived variable can be read by its path too, which computes it, but is not among the items. Every write
    is validated, together with the constraints, before anything changes; an update of several paths happens
    as a whole or not at all. Each update that changes something makes a new version. Thread-safe; copies and
    pickles carry everything but the watchers.

    Raises `StateError` for an unknown path, a value that does not fit, and a violated constraint.

    >>> from dspex.variables import Float, Int, Space
    >>> state = Space.of(depth=Int(1, 5), temperature=Float(0.0, 1.0)).state()
    >>> state["depth"] = 4
    >>> state.update({"depth": 2, "temperature": 0.5})
    2
    >>> state.rollback(1)
    3
    >>> dict(state)
    {'depth': 4, 'temperature': 0.0}
    >>> state["depth"] = 9
    Traceback (most recent call last):
    dspex.errors.StateError: depth = 9 (int) does not fit Int(1, 5): write a whole number from 1 to 5.
    """

    __slots__ = (
        "_fingerprint",
        "_history",
        "_lock",
        "_locked",
        "_notifying",
        "_pending",
        "_values",
        "_version",
        "_watchers",
        "space",
    )

    space: Space

    def __init__(self, space: Space, values: Mapping[str, Any] | None = None, *, locked: Iterable[str] = ()) -> None:
        self.space = space
        self._values: dict[str, Any] = space.validate({} if values is None else values)
        self._version = 0
        self._history: list[tuple[int, Changes]] = []
        self._fingerprint: tuple[dict[str, Any], str] | None = None
        self._locked: frozenset[str] = frozenset()
        self._watchers: tuple[_Watcher, ...] = ()
        self._pending: deque[Changes] = deque()
        self._lock = threading.Lock()
        self._notifying = threading.Lock()
        if locked:
            self.lock(*([locked] if isinstance(locked, str) else locked))

    # Reading.

    def __getitem__(self, path: str) -> Any:
        values = self._values
        try:
            return values[path]
        except (KeyError, TypeError):
            if path in self.space:
                return self.space._structure.compute(path, values)
            raise unknown_path(path, self.space.paths) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, path: object) -> bool:
        return path in self.space

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VariableState):
            return NotImplemented
        return self.space == other.space and not self.diff(other)

    __hash__ = None  # type: ignore[assignment]  # it changes; use the fingerprint

    def __repr__(self) -> str:
        changes = self.changes()
        listed = ", ".join(f"{path}={_short(value)}" for path, value in list(changes.items())[:6])
        more = ", ..." if len(changes) > 6 else ""
        count = f"({len(changes)} of {len(self._values)} changed)"
        return f"<VariableState {listed}{more}{' ' if listed else ''}{count}>"

    @property
    def version(self) -> int:
        """How many updates have changed something."""
        return self._version

    @property
    def history(self) -> tuple[tuple[int, Changes], ...]:
        """All updates in order: the version that each made, and its changes path → (old, new)."""
        return tuple(self._history)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as a dict, like ``dict(state)`` but faster."""
        return dict(self._values)

    def changes(self) -> dict[str, Any]:
        """Return only the values that are not the defaults."""
        defaults = self.space._structure.defaults
        return {path: value for path, value in self._values.items() if not same(value, defaults[path])}

    def active(self) -> tuple[str, ...]:
        """Return the active paths in the space's order."""
        return self.space.active(self._values)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the configuration: equal when all active values are equal.

        Inactive values do not count, unless an active derived variable is computed from them. Computed once per
        version.
        """
        cached, values = self._fingerprint, self._values
        if cached is None or cached[0] is not values:  # each version has a dict of its own
            structure = self.space._structure
            json = {path: structure.encode(path, values[path]) for path in structure.active(values).counted}
            cached = (values, content_id(json))
            self._fingerprint = cached
        return cached[1]

    def diff(self, other: VariableState | Mapping[str, Any]) -> StateDiff:
        """Return the values that are different in ``other``; derived ones are left out.

        ``state.update({path: new for path, (_, new) in state.diff(other).changed.items()})`` makes it like
        ``other``.
        """
        mine = self._values
        theirs = other._values if isinstance(other, VariableState) else self.space.validate(other)
        return StateDiff(
            {
                path: (mine[path], theirs[path])
                for path in mine
                if path in theirs and not same(mine[path], theirs[path])
            },
            {path: value for path, value in theirs.items() if path not in mine},
            {path: value for path, value in mine.items() if path not in theirs},
        )

    # Writing.

    def __setitem__(self, path: str, value: Any) -> None:
        self.update({path: value})

    def update(self, values: Mapping[str, Any], *, expected_version: int | None = None) -> int:
        """Write several values as a whole or not at all, and return the version.

        With ``expected_version`` it is refused when the state has changed since. An update that changes
        nothing makes no version and wakes no watcher. Raises `StateError` and changes nothing for an unknown
        path, a value that does not fit, a locked path, a violated constraint and another version than
        expected, or what is no version.
        """
        check_values(values)
        if expected_version is not None and (
            isinstance(expected_version, bool) or not isinstance(expected_version, int)
        ):
            raise StateError(
                f"expected_version = {shown(expected_version)} is no version. Write the number that you read: "
                f"expected_version={self._version}."
            )
        entries = self.space._entries
        valid: dict[str, Any] = {}
        for path, value in values.items():
            entry = entries.get(path)
            if entry is None:
                raise unknown_path(path, entries)
            valid[path] = entry.validate(value)
        with self._lock:
            if expected_version is not None and expected_version != self._version:
                since = sorted({path for version, one in self._history if version > expected_version for path in one})
                raise StateError(
                    f"The state is at version {self._version} and not at {expected_version}, as expected: "
                    f"{', '.join(since) or 'nothing'} changed since. Read it again and repeat the update."
                )
            version = self._commit(valid)
        self._notify()
        return version

    def _commit(self, valid: Mapping[str, Any]) -> int:
        old = self._values
        changes = {path: (old[path], value) for path, value in valid.items() if not same(old[path], value)}
        if not changes:
            return self._version
        for path in changes:
            if path in self._locked:
                raise StateError(
                    f"{path} = {shown(changes[path][1])}: it is locked at {shown(changes[path][0])}. Call "
                    f"state.unlock({path!r}) first."
                )
        new = {**old, **{path: value for path, (_, value) in changes.items()}}
        if self.space._structure.constraints:
            self.space._check_constraints(new, None)
        # Everything that can fail comes before the first thing that changes.
        news = self._with_derived(changes, old, new) if self._watchers else None
        self._values = new
        self._version += 1
        self._history.append((self._version, changes))
        if news is not None:
            self._pending.append(news)
        return self._version

    def rollback(self, version: int) -> int:
        """Make the values those of an earlier version, as a new version on top, and return that.

        Raises `StateError` for a version that never was, and when a locked path would change.
        """
        with self._lock:
            if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= self._version:
                raise StateError(f"rollback({version!r}): there are the versions 0 to {self._version}.")
            values: dict[str, Any] = {}
            for made, changes in reversed(self._history):
                if made <= version:
                    break
                values.update({path: old for path, (old, _) in changes.items()})
            result = self._commit(values)
        self._notify()
        return result

    # Watching and locking.

    def watch(self, pattern: str, callback: Callable[[Changes], None]) -> Callable[[], None]:
        """Call ``callback`` with the changes path → (old, new) of each update that changes a matching path.

        It is called once per update, after it, with the matching changes only, derived variables included;
        what it raises reaches whoever made the update, which stays made. Returns a function that ends the
        watch. Raises `StateError` for a pattern that matches nothing and for what cannot be called.
        """
        if not callable(callback):
            raise StateError(
                f"watch({pattern!r}, {callback!r}): {shown(callback)} cannot be called. Write a function of the "
                f"changes: state.watch({pattern!r}, lambda changes: print(changes))."
            )
        watcher = _Watcher(frozenset(self.space.select(pattern)), callback)
        with self._lock:
            self._watchers = (*self._watchers, watcher)

        def unsubscribe() -> None:
            with self._lock:
                self._watchers = tuple(one for one in self._watchers if one is not watcher)

        return unsubscribe

    def lock(self, *patterns: str) -> None:
        """Refuse writes that would change the matching paths, until `unlock`."""
        chosen = frozenset(self.space.select(*patterns))
        with self._lock:
            self._locked |= chosen

    def unlock(self, *patterns: str) -> None:
        """Allow writes to the matching paths again."""
        chosen = frozenset(self.space.select(*patterns))
        with self._lock:
            self._locked -= chosen

    @property
    def locked(self) -> tuple[str, ...]:
        """The locked paths in the space's order."""
        return tuple(path for path in self.space.paths if path in self._locked)

    def _with_derived(self, changes: Changes, old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
        watched = {path for watcher in self._watchers for path in watcher.paths}
        structure, complete = self.space._structure, dict(changes)
        for path, rule in structure.derived.items():
            if path in watched and rule.compute is not None:
                before, after = structure.compute(path, old), structure.compute(path, new)
                if not same(before, after):
                    complete[path] = (before, after)
        return complete

    def _notify(self) -> None:
        # One thread at a time delivers, in the order of the updates; an update made by a watcher, or by
        # another thread meanwhile, is delivered by the one that is already delivering.
        failure: BaseException | None = None
        while self._pending and self._notifying.acquire(blocking=False):
            try:
                while self._pending:
                    changes = self._pending.popleft()
                    for watcher in self._watchers:
                        matching = {path: change for path, change in changes.items() if path in watcher.paths}
                        if not matching:
                            continue
                        try:
                            watcher.callback(matching)
                        except Exception as error:
                            failure = failure or error
            finally:
                self._notifying.release()
        if failure is not None:
            raise failure

    # Copies and JSON.

    def copy(self) -> VariableState:
        """Return a state of its own with the same values, versions and locks, and no watchers."""
        other = VariableState.__new__(VariableState)
        other.__setstate__(self.__getstate__())
        return other

    __copy__ = copy

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {
                "space": self.space,
                "values": self._values,
                "version": self._version,
                "history": list(self._history),
                "locked": self._locked,
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.space = state["space"]
        self._values = state["values"]
        self._version = state["version"]
        self._history = list(state["history"])
        self._locked = state["locked"]
        self._fingerprint = None
        self._watchers = ()
        self._pending = deque()
        self._lock = threading.Lock()
        self._notifying = threading.Lock()

    def to_json(self) -> dict[str, Json]:
        """Return the values and locks as JSON, for `from_json`; versions and watchers are left out."""
        entries = self.space._entries
        return {
            "schema": SCHEMA,
            "space": self.space.hash,
            "domains": {path: repr(entry.domain) for path, entry in entries.items() if not entry.is_derived},
            "values": {path: entries[path].encode(value) for path, value in self._values.items()},
            "locked": list(self.locked),
        }

    @staticmethod
    def from_json(json: Mapping[str, Any], space: Space) -> VariableState:
        """Return the state that was written, as version 0.

        Raises `StateError` for damaged JSON, that of another schema, and that of another space, saying what
        is different there.
        """
        try:
            if json["schema"] != SCHEMA:
                raise StateError(
                    f"This state was written as schema {json['schema']!r}, and this dspex reads schema "
                    f"{SCHEMA}. Read it with the dspex that wrote it."
                )
            if json["space"] != space.hash:
                raise StateError(space_mismatch(json, space))
            values = {path: _decoded(space, path, value) for path, value in json["values"].items()}
            return VariableState(space, values, locked=json["locked"])
        except (KeyError, TypeError, AttributeError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"The JSON of a state is damaged: {type(error).__name__}: {error}.") from error


def _decoded(space: Space, path: str, value: Json) -> Any:
    try:
        return space[path].decode(value)
    except StateError as error:
        raise StateError(f"{path}: {error}") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
