"""From what a user writes as ``storage=`` to a storage."""

from __future__ import annotations

import os

from dspex.errors import StorageError
from dspex.storage.base import Storage
from dspex.storage.memory import InMemoryStorage

__all__ = ["get_storage"]


def get_storage(storage: Storage | str | None) -> Storage:
    """A new in-memory storage for ``None``, the database at a URL, or the storage itself.

    Raises:
        StorageError: when the argument is none of these, or the database cannot be opened.

    >>> get_storage(None)
    <InMemoryStorage: 0 studies>
    """
    if storage is None:
        return InMemoryStorage()
    if isinstance(storage, Storage):
        return storage
    if isinstance(storage, os.PathLike):
        raise StorageError(
            f"storage must be a URL, a Storage or None, got {storage!r} ({type(storage).__name__}); "
            f"write storage='sqlite:///{os.fspath(storage)}'"
        )
    from dspex.storage.sql import SQLStorage  # SQLAlchemy is heavy, and a study in memory does without

    return SQLStorage(storage)
