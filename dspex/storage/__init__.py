"""Where studies are kept: in memory, or in a SQL database (SQLite, PostgreSQL)."""

from typing import TYPE_CHECKING, Any

from dspex.storage.base import Storage
from dspex.storage.memory import InMemoryStorage
from dspex.storage.resolve import get_storage

if TYPE_CHECKING:
    from dspex.storage.sql import SQLStorage

__all__ = ["InMemoryStorage", "SQLStorage", "Storage", "get_storage"]


def __getattr__(name: str) -> Any:
    if name == "SQLStorage":
        from dspex.storage.sql import SQLStorage  # loads SQLAlchemy, so not before it is asked for

        return SQLStorage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
