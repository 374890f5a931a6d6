"""The candidates of one open-ended variable, as a study lets them be read and added to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dspex.errors import StudyError
from dspex.samplers.branches import domain_of
from dspex.study.mirror import Mirror
from dspex.trials import PoolRecord
from dspex.variables import Domain, Pool, PoolItem, Space, content_id, encode
from dspex.variables.messages import counted

if TYPE_CHECKING:
    from dspex.study.study import Study

__all__ = ["StudyPool", "as_param", "check_given", "given_param"]


class StudyPool:
    """A `Pool` that belongs to a study: what is added is in the study's storage when `add` returns.

    Reads like a `Pool`. Several processes may add at the same time; all of them see the same order.

    >>> from dspex.study import create_study
    >>> from dspex.variables import Prompt
    >>> pool = create_study().pool("instructions", Prompt())
    >>> item = pool.add("Answer briefly.", source="user")
    >>> pool[item.id].value, len(pool)
    ('Answer briefly.', 1)
    """

    def __init__(self, mirror: Mirror, pool: Pool) -> None:
        self._mirror = mirror
        self._pool = pool

    @property
    def path(self) -> str:
        """The variable's path."""
        return self._pool.path

    @property
    def domain(self) -> Domain[Any]:
        """What a candidate may be."""
        return self._pool.domain

    @property
    def items(self) -> tuple[PoolItem, ...]:
        """All items, oldest first."""
        return self._pool.items

    @property
    def values(self) -> tuple[Any, ...]:
        """The items' values, oldest first."""
        return self._pool.values

    def add(
        self,
        value: Any,
        *,
        parents: Iterable[str] = (),
        source: str = "",
        note: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> PoolItem:
        """Adds a candidate and returns its item, or the item that has this content already.

        Raises:
            StateError: when the value is outside the domain, or a parent is not in the pool.
        """
        domain = self._pool.domain
        encoded = domain.encode(domain.validate(value, name=self.path))
        identity = content_id(encoded)
        known = self._pool.get(identity)
        if known is not None:
            return known
        record = PoolRecord(
            path=self.path,
            id=identity,
            domain=domain.to_json(),
            value=encoded,
            parents=tuple(self._pool[parent].id for parent in _ids(parents)),
            source=source,
            note=note,
            metadata=encode(dict(metadata or {})),
        )
        self._mirror.add_candidates([record])
        return self._pool[identity]

    def get(self, id: str) -> PoolItem | None:
        """The item with this id, or ``None``."""
        return self._pool.get(id)

    def find(self, value: Any) -> PoolItem | None:
        """The item with this content, or ``None``."""
        return self._pool.find(value)

    def __getitem__(self, id: str | int) -> PoolItem:
        return self._pool[id]

    def __contains__(self, id: object) -> bool:
        return id in self._pool

    def __iter__(self) -> Iterator[PoolItem]:
        return iter(self._pool)

    def __len__(self) -> int:
        return len(self._pool)

    def __repr__(self) -> str:
        return f"<StudyPool of {self.path!r}: {counted(len(self), 'candidate')}>"


def _ids(parents: Iterable[str]) -> Iterable[str]:
    return (parents,) if isinstance(parents, str) else parents


def as_param(study: Study, path: str, domain: Domain[Any], value: Any) -> Any:
    """What is stored for a value that was given: of an open-ended variable the id of its candidate."""
    if not domain.open_ended:
        return domain.validate(value, name=path)
    pool = study.pool(path, domain)
    return value if isinstance(value, str) and value in pool else pool.add(value, source="user").id


def check_given(study: Study, space: Space, path: str, value: Any) -> None:
    """Refuse a value that no trial over ``space`` can have.

    Raises:
        StateError: when there is no such path, or the value does not lie in its domain.
        StudyError: when the variable is not searched.
    """
    entry = space[path]
    if not entry.tunable:
        raise StudyError(
            f"{path!r} is not searched, so no trial can be given a value for it; open it with "
            f"space.unfreeze({path!r}) first"
        )
    domain = domain_of(space, path)
    if domain.open_ended and isinstance(value, str) and value in study.pool(path, domain):
        return
    entry.validate(value)


def given_param(study: Study, space: Space, path: str, value: Any) -> Any:
    """What is stored for a value that was given for a variable of a declared space; raises like `check_given`."""
    check_given(study, space, path, value)
    if value is None and space[path].optional:
        return None
    return as_param(study, path, domain_of(space, path), value)
