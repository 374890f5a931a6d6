"""`Pool`: the candidates of one open-ended variable, append-only, each known by its content."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from dspex.errors import StateError
from dspex.forks import held_at_forks
from dspex.variables.codec import Json, content_id, decode, encode
from dspex.variables.domain import Domain
from dspex.variables.messages import counted, did_you_mean, shown

__all__ = ["Pool", "PoolItem"]


@attrs.frozen
class PoolItem:
    """One candidate: its value, the ids of the items it was made from, and where it came from.

    ``id`` is the content id of the encoded value, ``index`` its place in the pool.
    """

    id: str
    value: Any
    parents: tuple[str, ...] = ()
    source: str = ""
    note: str = ""
    index: int = 0
    metadata: Mapping[str, Any] = attrs.field(factory=dict)


class Pool:
    """The append-only candidates of the variable at ``path``; adding the same content twice adds it once.

    Thread-safe. An item never changes and never leaves, so that a trial that names it by id can be read for
    ever.

    >>> from dspex.variables import Prompt
    >>> pool = Pool("answer.instructions", Prompt())
    >>> first = pool.add("Answer briefly.", source="user")
    >>> second = pool.add("Answer in one word.", parents=[first.id], source="reflection")
    >>> pool.add("Answer briefly.").index, len(pool)
    (0, 2)
    >>> pool[second.id].value
    'Answer in one word.'
    """

    __slots__ = ("_by_id", "_items", "_lock", "domain", "path")

    def __init__(self, path: str, domain: Domain[Any]) -> None:
        if not isinstance(domain, Domain):
            raise StateError(f"Pool({path!r}, {shown(domain)}): the domain is missing. Write Pool({path!r}, Prompt()).")
        self.path = path
        self.domain = domain
        self._items: list[PoolItem] = []
        self._by_id: dict[str, PoolItem] = {}
        self._lock = held_at_forks(threading.Lock(), order=4)

    def add(
        self,
        value: Any,
        *,
        parents: Iterable[str] = (),
        source: str = "",
        note: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> PoolItem:
        """Append a candidate and return its item, or the item that already has this content.

        ``parents`` are ids of items of this pool; ``metadata`` is plain data. Raises `StateError` for a value
        outside the domain and for a parent that the pool does not have.
        """
        value = self.domain.validate(value, name=self.path)
        identity = content_id(self.domain.encode(value))
        if isinstance(parents, str):
            raise StateError(f"{self.path}: parents={parents!r} is one string. Write parents=[{parents!r}].")
        ancestors = tuple(parents)
        details = dict(metadata or {})
        encode(details)  # what cannot be saved is refused now, not when the study is written
        with self._lock:
            known = self._by_id.get(identity)
            if known is not None:
                return known
            if self._items and self._items[-1].id == identity:  # Ctrl-C came between the two lines at the end
                self._by_id[identity] = self._items[-1]
                return self._items[-1]
            for parent in ancestors:
                if parent not in self._by_id:
                    raise StateError(
                        f"{self.path}: the parent {shown(parent)} is not in the "
                        f"pool.{did_you_mean(str(parent), self._by_id)} Write the id of an item: "
                        f"parents=[item.id]."
                    )
            item = PoolItem(identity, value, ancestors, source, note, len(self._items), details)
            # The list first: whoever finds an id may then also reach the item by its index.
            self._items.append(item)
            self._by_id[identity] = item
            return item

    @property
    def items(self) -> tuple[PoolItem, ...]:
        """All items in the order in which they were added."""
        return tuple(self._items)

    @property
    def values(self) -> tuple[Any, ...]:
        """The items' values in the order in which they were added."""
        return tuple([item.value for item in self._items])

    def get(self, id: str) -> PoolItem | None:
        """Return the item with this id, or None."""
        return self._by_id.get(id)

    def find(self, value: Any) -> PoolItem | None:
        """Return the item with this content, or None."""
        if not self.domain.contains(value):
            return None
        return self._by_id.get(content_id(self.domain.encode(self.domain.validate(value))))

    def index(self, id: str) -> int:
        """Return the place of the item with this id; raises `StateError` when there is none."""
        return self[id].index

    def __getitem__(self, id: str | int) -> PoolItem:
        if isinstance(id, int):
            return self._items[id]
        item = self._by_id.get(id)
        if item is None:
            raise StateError(
                f"No candidate {id!r} in the pool of {self.path!r}, which has "
                f"{len(self)}.{did_you_mean(str(id), self._by_id)}"
            )
        return item

    def __contains__(self, id: object) -> bool:
        return id in self._by_id

    def __iter__(self) -> Iterator[PoolItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<Pool of {self.path!r}: {counted(len(self), 'candidate')}>"

    def to_json(self) -> dict[str, Json]:
        """Return the pool as JSON, for `from_json`."""
        return {
            "path": self.path,
            "domain": self.domain.to_json(),
            "items": [
                {
                    "id": item.id,
                    "value": self.domain.encode(item.value),
                    "parents": list(item.parents),
                    "source": item.source,
                    "note": item.note,
                    "metadata": encode(dict(item.metadata)),
                }
                for item in self.items
            ],
        }

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Pool:
        """Return the pool that `to_json` was called on.

        Raises `StateError` for damaged JSON, and when an id does not fit its value.
        """
        try:
            pool = cls(json["path"], Domain.from_json(json["domain"]))
            for row in json["items"]:
                item = pool.add(
                    pool.domain.decode(row["value"]),
                    parents=row["parents"],
                    source=row["source"],
                    note=row["note"],
                    metadata=decode(row["metadata"]),
                )
                if item.id != row["id"]:
                    raise StateError(
                        f"The pool of {pool.path!r} is damaged: the item {row['id']!r} has the content of {item.id!r}."
                    )
        except (KeyError, TypeError) as error:
            raise StateError(f"The JSON of a pool is damaged: {type(error).__name__}: {error}.") from error
        return pool

    def __getstate__(self) -> tuple[str, Domain[Any], tuple[PoolItem, ...]]:
        return (self.path, self.domain, self.items)

    def __setstate__(self, state: tuple[str, Domain[Any], tuple[PoolItem, ...]]) -> None:
        self.path, self.domain, items = state
        self._items = list(items)
        self._by_id = {item.id: item for item in items}
        self._lock = held_at_forks(threading.Lock(), order=4)
