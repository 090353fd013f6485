"""The money: provider objects and subscriptions, periods, inbox, outbox, invoices, purchases, adjustments, drift."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("subscriptions", sa.Column("grace_until", INSTANT))
    op.add_column("subscriptions", sa.Column("carried_from", INSTANT))
    op.create_table(
        "provider_objects",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("made_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("provider", "environment", "kind", "key", name="pk_provider_objects"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
    op.create_index(
        "uq_provider_objects_id", "provider_objects", ["provider", "environment", "kind", "id"], unique=True
    )
    op.create_table(
        "provider_subscriptions",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("subscription", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("plan", sa.Text),
        sa.Column("plan_version", sa.Integer),
        sa.Column("anchor", INSTANT, nullable=False),
        sa.Column("period_start", INSTANT, nullable=False),
        sa.Column("period_end", INSTANT, nullable=False),
        sa.Column("cancel_at", INSTANT),
        sa.Column("ended_at", INSTANT),
        sa.Column("grace_until", INSTANT),
        sa.Column("read_at", INSTANT, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("provider", "environment", "id", name="pk_provider_subscriptions"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
    op.create_index("ix_provider_subscriptions_customer", "provider_subscriptions", ["environment", "customer"])
    op.create_table(
        "billing_periods",
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("start", INSTANT, nullable=False, autoincrement=False),
        sa.Column("end", INSTANT, nullable=False),
        sa.Column("provider", sa.Text),
        sa.Column("subscription", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("plan_version", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("invoice", sa.Text),
        sa.Column("finalized_at", INSTANT),
        sa.Column("stale", sa.Integer, nullable=False),
        sa.Column("tail", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("environment", "customer", "start", name="pk_billing_periods"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sa.CheckConstraint("state IN ('open', 'closing', 'invoiced')", name="state"),
        sa.CheckConstraint('"start" <= "end" AND "start" < "end" + tail AND tail >= 0', name="order"),
        sa.CheckConstraint("stale IN (0, 1)", name="stale"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_billing_periods_stale",
        "billing_periods",
        ["environment", "customer", "start"],
        sqlite_where=sa.text("stale = 1"),
        postgresql_where=sa.text("stale = 1"),
    )
    op.create_index(
        "ix_billing_periods_state",
        "billing_periods",
        ["state", "end"],
        sqlite_where=sa.text("state <> 'invoiced'"),
        postgresql_where=sa.text("state <> 'invoiced'"),
    )
    op.create_table(
        "usage_reports",
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("period_start", INSTANT, nullable=False, autoincrement=False),
        sa.Column("reported", sa.Text, nullable=False),
        sa.Column("carried", sa.Text, nullable=False),
        sa.Column("billed", sa.Text),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("seq", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("environment", "customer", "meter", "period_start", name="pk_usage_reports"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
    op.create_table(
        "watermarks",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("seq", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_watermarks"),
        sqlite_strict=True,
    )
    head = sa.text("head = 1")
    watched = sa.text(
        "status = 'sending' OR status = 'unknown' OR status = 'rejected' OR status = 'too_old' OR status = 'dead'"
    )
    op.create_table(
        "outbox_messages",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("identifier", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("head", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease_until", INSTANT),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("last_attempt_at", INSTANT),
        sa.Column("doubt_since", INSTANT),
        sa.Column("error", sa.Text),
        sa.Column("settled_at", INSTANT),
        sa.Column("customer", sa.Text),
        sa.Column("meter", sa.Text),
        sa.Column("period_start", INSTANT),
        sa.Column("quantity", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_messages"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sa.CheckConstraint(
            "status IN ('queued', 'pending', 'sending', 'unknown', 'sent', 'confirmed', 'rejected', 'too_old', 'carried_forward', 'dead')",
            name="status",
        ),
        sa.CheckConstraint(
            "head IN (0, 1) AND (head = 1) = (status = 'pending' OR status = 'sending' OR status = 'unknown')",
            name="head",
        ),
        sqlite_strict=True,
    )
    op.create_index("uq_outbox_messages_identifier", "outbox_messages", ["topic", "identifier"], unique=True)
    op.create_index(
        "uq_outbox_messages_lane", "outbox_messages", ["lane"], unique=True, sqlite_where=head, postgresql_where=head
    )
    op.create_index(
        "ix_outbox_messages_queued",
        "outbox_messages",
        ["lane", "priority", "id"],
        sqlite_where=sa.text("status = 'queued'"),
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index(
        "ix_outbox_messages_due",
        "outbox_messages",
        ["environment", "priority", "due_at", "id"],
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_outbox_messages_watched",
        "outbox_messages",
        ["status", "due_at", "id"],
        sqlite_where=watched,
        postgresql_where=watched,
    )
    op.create_index(
        "ix_outbox_messages_period",
        "outbox_messages",
        ["environment", "customer", "meter", "period_start"],
        sqlite_where=sa.text("customer IS NOT NULL"),
        postgresql_where=sa.text("customer IS NOT NULL"),
    )
    op.create_table(
        "inbox_events",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("object", sa.Text),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("processed_at", INSTANT),
        sa.PrimaryKeyConstraint("provider", "id", name="pk_inbox_events"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sa.CheckConstraint("status IN ('pending', 'done', 'ignored', 'dead')", name="status"),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_inbox_events_due",
        "inbox_events",
        ["due_at", "id"],
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "ix_inbox_events_dead",
        "inbox_events",
        ["received_at"],
        sqlite_where=sa.text("status = 'dead'"),
        postgresql_where=sa.text("status = 'dead'"),
    )
    op.create_index("ix_inbox_events_received", "inbox_events", ["received_at", "id"])
    op.create_table(
        "object_leases",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("lease_until", INSTANT, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("provider", "environment", "object", name="pk_object_leases"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
    op.create_table(
        "invoices",
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("subscription", sa.Text),
        sa.Column("number", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("total", sa.Text, nullable=False),
        sa.Column("amount_paid", sa.Text, nullable=False),
        sa.Column("period_start", INSTANT),
        sa.Column("period_end", INSTANT),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("finalized_at", INSTANT),
        sa.Column("paid_at", INSTANT),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("environment", "id", name="pk_invoices"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
    op.create_index("ix_invoices_customer", "invoices", ["environment", "customer", "created_at"])
    op.create_table(
        "purchases",
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("session", sa.Text),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("plan", sa.Text),
        sa.Column("plan_version", sa.Integer),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("completed_at", INSTANT),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("environment", "id", name="pk_purchases"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
    op.create_index("ix_purchases_customer", "purchases", ["environment", "customer", "created_at"])
    op.create_index(
        "uq_purchases_session",
        "purchases",
        ["provider", "environment", "session"],
        unique=True,
        sqlite_where=sa.text("session IS NOT NULL"),
        postgresql_where=sa.text("session IS NOT NULL"),
    )
    op.create_table(
        "adjustments",
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("meter", sa.Text),
        sa.Column("period_start", INSTANT),
        sa.Column("price", sa.Text),
        sa.Column("quantity", sa.Text),
        sa.Column("amount", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("outbox", sa.Text),
        sa.Column("invoice", sa.Text),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("environment", "id", name="pk_adjustments"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
    op.create_index("ix_adjustments_customer", "adjustments", ["environment", "customer", "created_at"])
    op.create_table(
        "drift_checks",
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("period_start", INSTANT, nullable=False, autoincrement=False),
        sa.Column("ledger", sa.Text, nullable=False),
        sa.Column("reported", sa.Text, nullable=False),
        sa.Column("provider", sa.Text),
        sa.Column("invoiced", sa.Text),
        sa.Column("difference", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("explanation", sa.Text, nullable=False),
        sa.Column("period_end", INSTANT, nullable=False),
        sa.Column("checked_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("environment", "customer", "meter", "period_start", name="pk_drift_checks"),
        sa.CheckConstraint("environment IN ('live', 'test')", name="environment"),
        sqlite_strict=True,
    )
