"""The tables of the main database, as the migrations leave them (a test compares the two).

STRICT on SQLite. Instants are microseconds since 1970. `environment` is in the key of everything that is billed.
JSON is text: it is read and written whole, by the codecs of core.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.sql.type_api import TypeEngine

INSTANT: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# pair_id (also in X-usage.db) and signing_secret, both as hex
meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_strict=True,
)

customers = Table(
    "customers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("currency", Text, nullable=False),
    Column("zone", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    sqlite_strict=True,
)

members = Table(
    "members",
    metadata,
    Column("id", Text, primary_key=True),
    Column("customer", Text, ForeignKey("customers.id"), nullable=False),
    Column("email", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Index("uq_members_customer_email", "customer", "email", unique=True),
    sqlite_strict=True,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("customer", Text, ForeignKey("customers.id")),
    Column("environment", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("last4", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("ips", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("expires_at", INSTANT),
    Column("revoked_at", INSTANT),
    Column("last_used_at", INSTANT),
    Column("replaced_by", Text, ForeignKey("api_keys.id")),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    CheckConstraint(
        "(kind = 'customer' AND customer IS NOT NULL) OR (kind = 'server' AND customer IS NULL)", name="kind"
    ),
    Index("uq_api_keys_digest", "digest", unique=True),
    Index("ix_api_keys_customer", "customer", "id"),
    sqlite_strict=True,
)

catalog_versions = Table(
    "catalog_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("document", Text, nullable=False),  # JSON; what `text` meant when it was applied, plan versions included
    Column("fingerprint", Text, nullable=False),
    Column("applied_at", INSTANT, nullable=False),
    sqlite_strict=True,
)

plan_versions = Table(
    "plan_versions",
    metadata,
    Column("plan", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),  # JSON; never changed once written
    Column("archived", Integer, nullable=False),
    sqlite_strict=True,
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer", Text, ForeignKey("customers.id"), nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_version", Integer, nullable=False),
    Column("anchor", INSTANT, nullable=False),
    Column("zone", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", INSTANT, nullable=False),
    Column("ended_at", INSTANT),
    Column("grace_until", INSTANT),
    Column("carried_from", INSTANT),
    ForeignKeyConstraint(["plan", "plan_version"], ["plan_versions.plan", "plan_versions.version"]),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name="ended"),
    Index(
        "uq_subscriptions_current",
        "customer",
        "environment",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index("ix_subscriptions_customer", "customer", "started_at"),
    sqlite_strict=True,
)

shadow_refusals = Table(
    "shadow_refusals",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # UTC days since 1970
    Column("environment", Text, primary_key=True),
    Column("customer", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("calls", INSTANT, nullable=False),
    Column("first_at", INSTANT, nullable=False),
    Column("last_at", INSTANT, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    sqlite_strict=True,
)

limit_overrides = Table(
    "limit_overrides",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("customer", Text, ForeignKey("customers.id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),  # the limit's name, or the quota's meter
    Column("document", Text, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    CheckConstraint("kind IN ('limit', 'quota')", name="kind"),
    sqlite_strict=True,
)
