"""The in-memory storage passes the suite."""

from __future__ import annotations

from dspex.storage import InMemoryStorage, Storage
from dspex.testing.storage import StorageSuite


class TestInMemoryStorage(StorageSuite):
    def open(self) -> Storage:
        return InMemoryStorage()


def test_it_lives_with_the_process() -> None:
    storage = InMemoryStorage()
    assert not storage.shared
    assert repr(storage) == "<InMemoryStorage: 0 studies>"
