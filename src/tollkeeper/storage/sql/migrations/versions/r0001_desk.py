"""Customers, members, keys, catalog and plan versions, subscriptions, overrides, meta."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA application_id = 0x546F6C6C")
    meta = op.create_table(
        "meta",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_meta"),
        sqlite_strict=True,
    )
    # Made once, with the file: the id that X-usage.db repeats, and the key that signs reservations and links.
    op.bulk_insert(
        meta,
        [
            {"name": "pair_id", "value": secrets.token_hex(16)},
            {"name": "signing_secret", "value": secrets.token_hex(32)},
        ],
    )
    op.create_table(
        "customers",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_customers"),
        sqlite_strict=True,
    )
    op.create_table(
        "members",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_members"),
        sa.ForeignKeyConstraint(["customer"], ["customers.id"], name="fk_members_customer"),
        sqlite_strict=True,
    )
    op.create_index("uq_members_customer_email", "members", ["customer", "email"], unique=True)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("customer", sa.Text),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("last4", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("ips", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.Column("revoked_at", INSTANT),
        sa.Column("last_used_at", INSTANT),
        sa.Column("replaced_by", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(["customer"], ["customers.id"], name="fk_api_keys_customer"),
        sa.ForeignKeyConstraint(["replaced_by"], ["api_keys.id"], name="fk_api_keys_replaced_by"),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_api_keys_environment")),
        sa.CheckConstraint(
            "(kind = 'customer' AND customer IS NOT NULL) OR (kind = 'server' AND customer IS NULL)",
            name=op.f("ck_api_keys_kind"),
        ),
        sqlite_strict=True,
    )
    op.create_index("uq_api_keys_digest", "api_keys", ["digest"], unique=True)
    op.create_index("ix_api_keys_customer", "api_keys", ["customer", "id"])
    op.create_table(
        "catalog_versions",
        sa.Column("version", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("applied_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_catalog_versions"),
        sqlite_strict=True,
    )
    op.create_table(
        "plan_versions",
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("archived", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("plan", "version", name="pk_plan_versions"),
        sqlite_strict=True,
    )
    op.create_table(
        "subscriptions",
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("plan_version", sa.Integer, nullable=False),
        sa.Column("anchor", INSTANT, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.PrimaryKeyConstraint("environment", "id", name="pk_subscriptions"),
        sa.ForeignKeyConstraint(["customer"], ["customers.id"], name="fk_subscriptions_customer"),
        sa.ForeignKeyConstraint(
            ["plan", "plan_version"], ["plan_versions.plan", "plan_versions.version"], name="fk_subscriptions_plan"
        ),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_subscriptions_environment")),
        sa.CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name=op.f("ck_subscriptions_ended")),
        sqlite_strict=True,
    )
    op.create_index(
        "uq_subscriptions_current",
        "subscriptions",
        ["customer", "environment"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_subscriptions_customer", "subscriptions", ["customer", "started_at"])
    op.create_table(
        "limit_overrides",
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("environment", "customer", "kind", "name", name="pk_limit_overrides"),
        sa.ForeignKeyConstraint(["customer"], ["customers.id"], name="fk_limit_overrides_customer"),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_limit_overrides_environment")),
        sa.CheckConstraint("kind IN ('limit', 'quota')", name=op.f("ck_limit_overrides_kind")),
        sqlite_strict=True,
    )
