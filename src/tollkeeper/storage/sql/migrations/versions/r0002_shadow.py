"""What shadow mode would have refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "shadow_refusals",
        sa.Column("day", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("calls", INSTANT, nullable=False),
        sa.Column("first_at", INSTANT, nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("day", "environment", "customer", "key_id", "meter", "code", name="pk_shadow_refusals"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
