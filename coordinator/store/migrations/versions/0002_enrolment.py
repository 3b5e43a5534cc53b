"""Adopted and base nodes, how far a node's start is, and why a boot failed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("instances") as table:
        table.add_column(sa.Column("claimed_cloud_id", sa.String(length=255), nullable=True))
        table.add_column(
            sa.Column("start_step", sa.String(length=128), nullable=False, server_default="")
        )
        table.add_column(sa.Column("start_detail", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("start_step_at", sa.Float(), nullable=True))
        table.add_column(
            sa.Column("boot_cause", sa.String(length=32), nullable=False, server_default="")
        )
        table.add_column(sa.Column("boot_detail", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("enrolments") as table:
        table.add_column(
            sa.Column("kind", sa.String(length=16), nullable=False, server_default="launch")
        )
    op.create_table(
        "adoptions",
        sa.Column("launch_id", sa.String(length=72), nullable=False),
        sa.Column("index_in_launch", sa.Integer(), nullable=False),
        sa.Column("nonce_hash", sa.String(length=64), nullable=False),
        sa.Column("adopted_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("launch_id", "index_in_launch"),
        sa.UniqueConstraint("launch_id", "nonce_hash"),
    )
