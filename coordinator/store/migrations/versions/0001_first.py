"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.String(length=80), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id"),
    )
    op.create_index(op.f("ix_batches_at"), "batches", ["at"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("explanation", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_decisions_pool_at", "decisions", ["pool", "at"], unique=False)
    op.create_table(
        "enrolments",
        sa.Column("node_id", sa.String(length=80), nullable=False),
        sa.Column("nonce_hash", sa.String(length=64), nullable=False),
        sa.Column("enrolled_at", sa.Float(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("account_removed_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("node_id"),
    )
    op.create_table(
        "events",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index(op.f("ix_events_time"), "events", ["time"], unique=False)
    op.create_table(
        "flags",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "instances",
        sa.Column("node_id", sa.String(length=80), nullable=False),
        sa.Column("launch_id", sa.String(length=72), nullable=False),
        sa.Column("index_in_launch", sa.Integer(), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("cloud", sa.String(length=64), nullable=False),
        sa.Column("template", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("wanted_at", sa.Float(), nullable=False),
        sa.Column("state_since", sa.Float(), nullable=False),
        sa.Column("changed_in", sa.Integer(), nullable=False),
        sa.Column("cloud_id", sa.String(length=255), nullable=True),
        sa.Column("addresses", sa.JSON(), nullable=False),
        sa.Column("price", sa.Float(), nullable=True),
        sa.Column("unique_id", sa.String(length=128), nullable=True),
        sa.Column("variables", sa.JSON(), nullable=False),
        sa.Column("outputs", sa.JSON(), nullable=False),
        sa.Column("role", sa.JSON(), nullable=False),
        sa.Column("boot_timeout", sa.Float(), nullable=False),
        sa.Column("launch_timeout", sa.Float(), nullable=False),
        sa.Column("boot_deadline", sa.Float(), nullable=True),
        sa.Column("launch_deadline", sa.Float(), nullable=True),
        sa.Column("drain_deadline", sa.Float(), nullable=True),
        sa.Column("next_attempt_at", sa.Float(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_listed_at", sa.Float(), nullable=True),
        sa.Column("last_listed_at", sa.Float(), nullable=True),
        sa.Column("enrolled_at", sa.Float(), nullable=True),
        sa.Column("presence_lost_at", sa.Float(), nullable=True),
        sa.Column("terminate_called_at", sa.Float(), nullable=True),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("retryable", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("node_id"),
    )
    op.create_index(op.f("ix_instances_launch_id"), "instances", ["launch_id"], unique=False)
    op.create_index("ix_instances_pool_changed", "instances", ["pool", "changed_in"], unique=False)
    op.create_index(op.f("ix_instances_state"), "instances", ["state"], unique=False)
    op.create_table(
        "launches",
        sa.Column("launch_id", sa.String(length=72), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("cloud", sa.String(length=64), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("token_expires_at", sa.Float(), nullable=True),
        sa.Column("template", sa.String(length=128), nullable=False),
        sa.Column("variables", sa.JSON(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("called_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("launch_id"),
    )
    op.create_table(
        "pending_batches",
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("batch_id", sa.String(length=80), nullable=False),
        sa.Column("batch", sa.JSON(), nullable=False),
        sa.Column("stored_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("pool"),
    )
    op.create_table(
        "pool_versions",
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("pool"),
    )
    op.create_table(
        "pools",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("section", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("added_at", sa.Float(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "transitions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("node_id", sa.String(length=80), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=True),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_transitions_node_id"), "transitions", ["node_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_transitions_node_id"), table_name="transitions")
    op.drop_table("transitions")
    op.drop_table("pools")
    op.drop_table("pool_versions")
    op.drop_table("pending_batches")
    op.drop_table("launches")
    op.drop_index(op.f("ix_instances_state"), table_name="instances")
    op.drop_index("ix_instances_pool_changed", table_name="instances")
    op.drop_index(op.f("ix_instances_launch_id"), table_name="instances")
    op.drop_table("instances")
    op.drop_table("flags")
    op.drop_index(op.f("ix_events_time"), table_name="events")
    op.drop_table("events")
    op.drop_table("enrolments")
    op.drop_index("ix_decisions_pool_at", table_name="decisions")
    op.drop_table("decisions")
    op.drop_index(op.f("ix_batches_at"), table_name="batches")
    op.drop_table("batches")
