"""Run by Alembic. The connection comes from `engine.migrate`, inside one transaction: a failed upgrade changes nothing."""

from __future__ import annotations

from alembic import context

from tollkeeper.storage.sql.money_tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
