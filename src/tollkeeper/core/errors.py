"""Failures. A refusal is a value (`core.gate.Decision`); a failure is an exception of this module.

Each class carries `code` (the word an API caller sees) and `permanent` (trying again unchanged cannot help).
The message names the fault, the place and the mend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tollkeeper.core.catalog_faults import Fault


class TollkeeperError(Exception):
    """Something failed inside Tollkeeper."""

    code = "internal_error"
    permanent = False

    def __init__(self, detail: str = "", **extra: Any) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.extra = extra
        super().__init__(self.detail)


class InvalidRequest(TollkeeperError):
    """The request is malformed."""

    code = "invalid_request"
    permanent = True


class TooLarge(TollkeeperError):
    """The request is larger than the limit."""

    code = "too_large"
    permanent = True


class Unauthorized(TollkeeperError):
    """A valid token is needed: send it as `Authorization: Bearer …`."""

    code = "unauthorized"
    permanent = True


class Forbidden(TollkeeperError):
    """This token may not do that."""

    code = "forbidden"
    permanent = True


class NotFound(TollkeeperError):
    """No such thing."""

    code = "not_found"
    permanent = True


class Conflict(TollkeeperError):
    """It exists already, or it changed meanwhile."""

    code = "conflict"
    permanent = True


class CatalogInvalid(TollkeeperError):
    """The catalog has faults; nothing was applied."""

    code = "catalog_invalid"
    permanent = True

    def __init__(self, detail: str = "", faults: Sequence[Fault] = ()) -> None:
        """`faults` are all that were found, each with its file, line, key and what was expected."""
        self.faults = tuple(faults)
        shown = [str(fault) for fault in self.faults]
        super().__init__(detail or "\n".join(shown), **({"faults": shown} if shown else {}))


class SettingsInvalid(TollkeeperError):
    """A setting has a value that it cannot have. The message names the setting, where it was found and what was expected."""

    code = "settings_invalid"
    permanent = True


class StorageUnavailable(TollkeeperError):
    """The database did not take the write. Nothing was acknowledged; try again."""

    code = "storage_unavailable"


class StorageMismatch(TollkeeperError):
    """The database files do not belong together, or to this version of Tollkeeper."""

    code = "storage_mismatch"
    permanent = True


class AlreadyOpen(TollkeeperError):
    """Another process owns these database files."""

    code = "already_open"
    permanent = True


class Unreachable(TollkeeperError):
    """The Tollkeeper server does not answer."""

    code = "unreachable"


class GateUnreachable(Unreachable):
    """The gate in front of this API does not answer, so this call was not judged; try again."""

    code = "gate_unreachable"
