"""The tables of the coordinator, one schema for all components.

Each component has its own SQLite file by default and uses its own tables in it; on one
PostgreSQL database they live side by side. Times are seconds since the epoch. Change a
table here *and* add a migration; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

#: The newest migration. A store at this revision is opened without loading Alembic.
HEAD = "0004"

metadata = MetaData()

# ------------------------------------------------------------------ provisioner

instances = Table(
    "instances",
    metadata,
    Column("node_id", String(80), primary_key=True),
    Column("launch_id", String(72), nullable=False, index=True),
    Column("index_in_launch", Integer, nullable=False),
    Column("pool", String(64), nullable=False),
    Column("cloud", String(64), nullable=False),
    Column("template", String(128), nullable=False, default=""),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False, default=""),
    Column("actor", String(64), nullable=False, default=""),
    Column("wanted_at", Float, nullable=False),
    Column("state_since", Float, nullable=False),
    Column("changed_in", Integer, nullable=False, default=0),
    Column("cloud_id", String(255)),
    Column("addresses", JSON, nullable=False, default=list),
    Column("price", Float),
    Column("unique_id", String(128)),
    Column("variables", JSON, nullable=False, default=dict),
    Column("outputs", JSON, nullable=False, default=dict),
    Column("role", JSON, nullable=False, default=dict),
    Column("boot_timeout", Float, nullable=False, default=300.0),
    Column("launch_timeout", Float, nullable=False, default=300.0),
    Column("boot_deadline", Float),
    Column("launch_deadline", Float),
    Column("drain_deadline", Float),
    Column("next_attempt_at", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("first_listed_at", Float),
    Column("last_listed_at", Float),
    Column("enrolled_at", Float),
    Column("presence_lost_at", Float),
    Column("terminate_called_at", Float),
    Column("protected", Boolean, nullable=False, default=False),
    Column("retryable", Boolean, nullable=False, default=False),
    Column("claimed_cloud_id", String(255)),
    Column("start_step", String(128), nullable=False, default="", server_default=""),
    Column("start_detail", Text, nullable=False, default="", server_default=""),
    Column("start_step_at", Float),
    Column("boot_cause", String(32), nullable=False, default="", server_default=""),
    Column("boot_detail", Text, nullable=False, default="", server_default=""),
    Column("blueprint", String(64), nullable=False, default="", server_default=""),
)
Index("ix_instances_pool_changed", instances.c.pool, instances.c.changed_in)

launches = Table(
    "launches",
    metadata,
    Column("launch_id", String(72), primary_key=True),
    Column("pool", String(64), nullable=False),
    Column("cloud", String(64), nullable=False),
    Column("count", Integer, nullable=False),
    Column("attempt", Integer, nullable=False, default=1),
    Column("token_expires_at", Float),
    Column("user_data_digest", String(64), nullable=False, default="", server_default=""),
    Column("template", String(128), nullable=False, default=""),
    Column("variables", JSON, nullable=False, default=dict),
    Column("settings", JSON, nullable=False, default=dict),
    Column("created_at", Float, nullable=False),
    Column("called_at", Float),
)

transitions = Table(
    "transitions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("node_id", String(80), nullable=False, index=True),
    Column("from_state", String(16)),
    Column("to_state", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", String(64), nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
)

pool_versions = Table(
    "pool_versions",
    metadata,
    Column("pool", String(64), primary_key=True),
    Column("version", Integer, nullable=False, default=0),
    Column("epoch", Integer, nullable=False, default=0),
    Column("owner", String(64), nullable=False, default=""),
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", String(80), primary_key=True),
    Column("pool", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("detail", Text, nullable=False, default=""),
    Column("at", Float, nullable=False, index=True),
)

flags = Table(
    "flags",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", JSON),
)

# ------------------------------------------------------------------ controller

pools = Table(
    "pools",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("section", JSON, nullable=False),
    Column("revision", Integer, nullable=False, default=1),
    Column("added_at", Float, nullable=False),
    Column("memory", JSON, nullable=False, default=dict),
)

pending_batches = Table(
    "pending_batches",
    metadata,
    Column("pool", String(64), primary_key=True),
    Column("batch_id", String(80), nullable=False),
    Column("batch", JSON, nullable=False),
    Column("stored_at", Float, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("pool", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("explanation", JSON, nullable=False),
)
Index("ix_decisions_pool_at", decisions.c.pool, decisions.c.at)

# ------------------------------------------------------------------ registrar

enrolments = Table(
    "enrolments",
    metadata,
    Column("node_id", String(80), primary_key=True),
    Column("nonce_hash", String(64), nullable=False),
    Column("enrolled_at", Float, nullable=False),
    Column("answered", Integer, nullable=False, default=0),
    Column("account_removed_at", Float),
    Column("kind", String(16), nullable=False, default="launch", server_default="launch"),
)

adoptions = Table(
    "adoptions",
    metadata,
    Column("launch_id", String(72), primary_key=True),
    Column("index_in_launch", Integer, primary_key=True, autoincrement=False),
    Column("nonce_hash", String(64), nullable=False),
    Column("adopted_at", Float, nullable=False),
    UniqueConstraint("launch_id", "nonce_hash"),
)

# ------------------------------------------------------------------ everybody

events = Table(
    "events",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False, index=True),
    Column("source", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("actor", String(64), nullable=False, default=""),
    Column("run", String(64), nullable=False, default=""),
    Column("pool", String(64), nullable=False, default=""),
    Column("node", String(80), nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("extra", JSON, nullable=False, default=dict),
)
