"""Alembic migrations of the main database. `REVISIONS` in order, so that a start can tell without loading Alembic."""

REVISIONS = ("0001", "0002", "0003")
