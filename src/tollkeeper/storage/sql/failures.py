"""Driver errors as core's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError

from tollkeeper.core.errors import Conflict, StorageUnavailable


@contextmanager
def translated_errors() -> Iterator[None]:
    """A row that broke a key or a reference is Conflict: somebody else was first."""
    try:
        yield
    except IntegrityError as error:
        raise Conflict(f"It changed meanwhile; read it again ({error.orig}).") from error
    except DBAPIError as error:
        raise StorageUnavailable(f"The main database refused: {error.orig}. Nothing was changed.") from error
