"""The tables of the money: what is owed to and came from the payment provider, periods, invoices, purchases, adjustments.

On the same metadata as `tables`. Instants are microseconds since 1970; quantities and amounts are decimal texts.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text, text

from tollkeeper.storage.sql.tables import INSTANT, metadata

__all__ = ["metadata"]

# What of ours is what of the provider's: customers, products, prices, meters, … `key` is ours, `id` the provider's.
provider_objects = Table(
    "provider_objects",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("made_at", INSTANT, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    Index("uq_provider_objects_id", "provider", "environment", "kind", "id", unique=True),
    sqlite_strict=True,
)

# A provider's subscription as it was last read. `subscription` is ours; canceled is terminal.
provider_subscriptions = Table(
    "provider_subscriptions",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer", Text, nullable=False),
    Column("subscription", Text),
    Column("status", Text, nullable=False),
    Column("plan", Text),
    Column("plan_version", Integer),
    Column("anchor", INSTANT, nullable=False),
    Column("period_start", INSTANT, nullable=False),
    Column("period_end", INSTANT, nullable=False),
    Column("cancel_at", INSTANT),
    Column("ended_at", INSTANT),
    Column("grace_until", INSTANT),
    Column("read_at", INSTANT, nullable=False),
    Column("document", Text, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    Index("ix_provider_subscriptions_customer", "environment", "customer"),
    sqlite_strict=True,
)

# Half-open periods that are billed, one plan version each; with a provider its exact instants. tail: how long after its end (µs)
# usage is billed with it. stale: its totals are to be looked at.
billing_periods = Table(
    "billing_periods",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("customer", Text, primary_key=True),
    Column("start", INSTANT, primary_key=True, autoincrement=False),
    Column("end", INSTANT, nullable=False),
    Column("provider", Text),
    Column("subscription", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("invoice", Text),
    Column("finalized_at", INSTANT),
    Column("stale", Integer, nullable=False),
    Column("tail", INSTANT, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    CheckConstraint("state IN ('open', 'closing', 'invoiced')", name="state"),
    CheckConstraint('"start" <= "end" AND "start" < "end" + tail AND tail >= 0', name="order"),
    CheckConstraint("stale IN (0, 1)", name="stale"),
    Index(
        "ix_billing_periods_stale",
        "environment",
        "customer",
        "start",
        sqlite_where=text("stale = 1"),
        postgresql_where=text("stale = 1"),
    ),
    Index(
        "ix_billing_periods_state",
        "state",
        "end",
        sqlite_where=text("state <> 'invoiced'"),
        postgresql_where=text("state <> 'invoiced'"),
    ),
    sqlite_strict=True,
)

# How much of a meter was put into the outbox for a period, and up to which sequence of the log. `billed`: what the finalised invoice has.
usage_reports = Table(
    "usage_reports",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("customer", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("period_start", INSTANT, primary_key=True, autoincrement=False),
    Column("reported", Text, nullable=False),
    Column("carried", Text, nullable=False),
    Column("billed", Text),
    Column("revision", Integer, nullable=False),
    Column("seq", INSTANT, nullable=False),
    Column("updated_at", INSTANT, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    sqlite_strict=True,
)

# Up to which sequence a reader of the usage log has come.
watermarks = Table(
    "watermarks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seq", INSTANT, nullable=False),
    Column("updated_at", INSTANT, nullable=False),
    sqlite_strict=True,
)

# A side effect owed to the outside. Messages of a lane go one after another: one is at its head, the others are queued behind; the index
# holds it. `head` follows from the status; the index is of it, because a claim that changes the status alone then leaves the index alone.
# `doubt_since`: since when the provider may have it without our knowing.
_WATCHED = "status = 'sending' OR status = 'unknown' OR status = 'rejected' OR status = 'too_old' OR status = 'dead'"
outbox_messages = Table(
    "outbox_messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("environment", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("identifier", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("due_at", INSTANT, nullable=False),
    Column("status", Text, nullable=False),
    Column("head", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_until", INSTANT),
    Column("fence", Integer, nullable=False),
    Column("last_attempt_at", INSTANT),
    Column("doubt_since", INSTANT),
    Column("error", Text),
    Column("settled_at", INSTANT),
    Column("customer", Text),
    Column("meter", Text),
    Column("period_start", INSTANT),
    Column("quantity", Text),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    CheckConstraint(
        "status IN ('queued', 'pending', 'sending', 'unknown', 'sent', 'confirmed', 'rejected', 'too_old', 'carried_forward', 'dead')",
        name="status",
    ),
    CheckConstraint(
        "head IN (0, 1) AND (head = 1) = (status = 'pending' OR status = 'sending' OR status = 'unknown')", name="head"
    ),
    Index("uq_outbox_messages_identifier", "topic", "identifier", unique=True),
    Index(
        "uq_outbox_messages_lane", "lane", unique=True, sqlite_where=text("head = 1"), postgresql_where=text("head = 1")
    ),
    Index(
        "ix_outbox_messages_queued",
        "lane",
        "priority",
        "id",
        sqlite_where=text("status = 'queued'"),
        postgresql_where=text("status = 'queued'"),
    ),
    Index(
        "ix_outbox_messages_due",
        "environment",
        "priority",
        "due_at",
        "id",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
    Index(
        "ix_outbox_messages_watched",
        "status",
        "due_at",
        "id",
        sqlite_where=text(_WATCHED),
        postgresql_where=text(_WATCHED),
    ),
    Index(
        "ix_outbox_messages_period",
        "environment",
        "customer",
        "meter",
        "period_start",
        sqlite_where=text("customer IS NOT NULL"),
        postgresql_where=text("customer IS NOT NULL"),
    ),
    sqlite_strict=True,
)

# A provider's webhook, stored once with its raw bytes. `object` is what it is about.
inbox_events = Table(
    "inbox_events",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("environment", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("object", Text),
    Column("created_at", INSTANT, nullable=False),
    Column("received_at", INSTANT, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", INSTANT, nullable=False),
    Column("error", Text),
    Column("processed_at", INSTANT),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    CheckConstraint("status IN ('pending', 'done', 'ignored', 'dead')", name="status"),
    Index(
        "ix_inbox_events_due",
        "due_at",
        "id",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
    Index(
        "ix_inbox_events_dead",
        "received_at",
        sqlite_where=text("status = 'dead'"),
        postgresql_where=text("status = 'dead'"),
    ),
    Index("ix_inbox_events_received", "received_at", "id"),
    sqlite_strict=True,
)

# Who works on an object of the provider; `fence` grows with each lease, and a commit names the one it holds.
object_leases = Table(
    "object_leases",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("object", Text, primary_key=True),
    Column("lease_until", INSTANT, nullable=False),
    Column("fence", Integer, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    sqlite_strict=True,
)

# Invoices, the provider's and our own. Amounts are decimal texts in major units; `document` holds the lines.
invoices = Table(
    "invoices",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("provider", Text),
    Column("customer", Text, nullable=False),
    Column("subscription", Text),
    Column("number", Text),
    Column("status", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("total", Text, nullable=False),
    Column("amount_paid", Text, nullable=False),
    Column("period_start", INSTANT),
    Column("period_end", INSTANT),
    Column("created_at", INSTANT, nullable=False),
    Column("finalized_at", INSTANT),
    Column("paid_at", INSTANT),
    Column("document", Text, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    Index("ix_invoices_customer", "environment", "customer", "created_at"),
    sqlite_strict=True,
)

# One checkout and what came of it.
purchases = Table(
    "purchases",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("session", Text),
    Column("customer", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("plan", Text),
    Column("plan_version", Integer),
    Column("status", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False),
    Column("completed_at", INSTANT),
    Column("document", Text, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    Index("ix_purchases_customer", "environment", "customer", "created_at"),
    Index(
        "uq_purchases_session",
        "provider",
        "environment",
        "session",
        unique=True,
        sqlite_where=text("session IS NOT NULL"),
        postgresql_where=text("session IS NOT NULL"),
    ),
    sqlite_strict=True,
)

# A signed, explained correction of what was billed. `quantity` in units, `amount` in major units.
adjustments = Table(
    "adjustments",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("customer", Text, nullable=False),
    Column("meter", Text),
    Column("period_start", INSTANT),
    Column("price", Text),
    Column("quantity", Text),
    Column("amount", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("outbox", Text),
    Column("invoice", Text),
    Column("created_at", INSTANT, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    Index("ix_adjustments_customer", "environment", "customer", "created_at"),
    sqlite_strict=True,
)

# The last comparison of ledger and provider, by customer, meter and period; and what was used between two contracts.
drift_checks = Table(
    "drift_checks",
    metadata,
    Column("environment", Text, primary_key=True),
    Column("customer", Text, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("period_start", INSTANT, primary_key=True, autoincrement=False),
    Column("ledger", Text, nullable=False),
    Column("reported", Text, nullable=False),
    Column("provider", Text),
    Column("invoiced", Text),
    Column("difference", Text),
    Column("state", Text, nullable=False),
    Column("explanation", Text, nullable=False),
    Column("period_end", INSTANT, nullable=False),
    Column("checked_at", INSTANT, nullable=False),
    CheckConstraint("environment IN ('live', 'test')", name="environment"),
    sqlite_strict=True,
)
