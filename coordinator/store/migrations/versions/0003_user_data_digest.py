"""The digest of a launch's user-data, which its repeats must have too."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("launches") as table:
        table.add_column(
            sa.Column("user_data_digest", sa.String(length=64), nullable=False, server_default="")
        )
