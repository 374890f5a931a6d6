"""The tables of `SQLStorage`. Columns are what queries select by; the rest of a row is JSON text."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, MetaData, Table, Text, UniqueConstraint

__all__ = ["SCHEMA_VERSION", "attributes", "evaluations", "meta", "metadata", "owners", "pool", "studies", "trials"]

SCHEMA_VERSION = 2

metadata = MetaData()

meta = Table(
    "dspex_meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

studies = Table(
    "dspex_studies",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("directions", Text, nullable=False),
    Column("space", Text),
    # Counts every change of the study. Raising it locks the row, so that changes of one study are committed
    # in the order of their revisions and a reader that remembers the last one it saw misses none.
    Column("revision", Integer, nullable=False),
    # SQLite would give the id of a deleted study to the next one, and who still holds the former wrote into the latter.
    sqlite_autoincrement=True,
)

attributes = Table(
    "dspex_attributes",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("value", Text, nullable=False),
    Index("dspex_attributes_by_revision", "study_id", "revision"),
)

trials = Table(
    "dspex_trials",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("data", Text, nullable=False),
    Index("dspex_trials_by_revision", "study_id", "revision"),
    Index("dspex_trials_by_state", "study_id", "state", "number"),
)

evaluations = Table(
    "dspex_evaluations",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("trial", Integer, nullable=False),  # -1: of no trial, because NULLs are never equal to one another
    Column("fingerprint", Text, nullable=False),
    Column("example_id", Text, nullable=False),
    Column("rollout", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # 0, and one more for each failed row before it
    Column("status", Text, nullable=False),
    Column("data", Text, nullable=False),
    UniqueConstraint("study_id", "trial", "fingerprint", "example_id", "rollout", "attempt"),
)

pool = Table(
    "dspex_pool",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("data", Text, nullable=False),
    UniqueConstraint("study_id", "path", "item"),
)

owners = Table(
    "dspex_owners",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("seen", Float, nullable=False),
)
