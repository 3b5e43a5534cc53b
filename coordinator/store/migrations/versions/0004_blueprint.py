"""The digest of what an instance was launched with, by which a rollout finds the old ones."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("instances") as table:
        table.add_column(
            sa.Column("blueprint", sa.String(length=64), nullable=False, server_default="")
        )
