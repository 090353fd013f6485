"""What is recorded: CloudEvents 1.0 attributes, turned into rows of the usage log.

An id is kept exactly as sent. Canonical UUIDs and ULIDs are packed into 16 bytes; those that carry their time (UUIDv7, ULID) are
deduplicated by a tree in time order, all others by 128 bits of BLAKE2b.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from tollkeeper.core.errors import TollkeeperError
from tollkeeper.core.ids import CROCKFORD, ulid_of
from tollkeeper.core.metering import Aggregation, format_quantity, join_quantity

TEXT: Final = 0
UUID_TIMED: Final = 1
ULID_TIMED: Final = 2
UUID_RANDOM: Final = 3
GATE: Final = 4
"""Kinds of id. GATE ids are made by the gate itself, are unique by construction, and need no dedupe."""

VOID: Final = 5
AMEND: Final = 6
"""Kinds of rows that are no events: they correct the event whose sequence is their id. No correction has a lower kind."""

GATE_SOURCE: Final = "tollkeeper:gate"
"""The `source` of events the gate makes; refused from outside."""

CHECK_SOURCE: Final = "tollkeeper:check"
"""The `source` of a check whose caller gave the id; refused from outside, too: it would take the ids of checks."""

RESERVATION_SOURCE: Final = "tollkeeper:reservation"
"""The `source` of the event by which a reservation is committed."""

GATEWAY_SOURCE: Final = "tollkeeper:gateway"
"""The `source` of the event of a call that a gateway let through by a pass."""

_TO_BASE32 = str.maketrans(CROCKFORD, "0123456789abcdefghijklmnopqrstuv")
_ULID_LETTERS = frozenset(CROCKFORD)


class Fold(NamedTuple):
    """What one event adds to one meter. `meter` is the log's number of it, `cell` the cell's start in seconds."""

    meter: int
    cell: int
    units: int
    nanos: int


FoldTuple: TypeAlias = tuple[int, int, int, int]


class Extra(NamedTuple):
    """What one event adds to one meter beyond its fold: to a group, to a kept value, to the values that were seen.

    `combination` is the JSON array of its dimensions' values (None: the meter has none), capped within the period [start, end) in
    seconds. `value` is what a unique meter counts.
    """

    meter: int
    cell: int
    aggregation: Aggregation
    units: int
    nanos: int
    value: str | None
    combination: str | None
    start: int
    end: int


LogRow: TypeAlias = tuple[
    int,
    str,
    "bytes | str",
    "bytes | None",
    str,
    "str | None",
    str,
    int,
    int,
    "str | None",
    "tuple[FoldTuple, ...]",
    int,
    "tuple[Extra, ...]",
]
"""flags, source, stored id, digest (random ids only), type, subject, customer, time µs, quantity, data, folds, epoch, extras.

A plain tuple, since one is made per event on the hot path. flags = environment + 2 × kind of id (environment: 0 live, 1 test).
`quantity` is what a count meter counts: 1, or the cost of a check. `data` is canonical JSON text. `epoch` is the set of meters it was
judged by. `extras` is empty but for meters that keep more than a number and a sum.
"""


def pack_id(text: str) -> tuple[int, bytes | str]:
    """The kind of an id and how it is stored. Only a form that unpacks to the very same text is packed."""
    length = len(text)
    if length == 36 and text[8] == "-" and text[13] == "-" and text[18] == "-" and text[23] == "-":
        try:
            packed = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            return TEXT, text
        if len(packed) == 16 and text == text.lower() and " " not in text:
            return (UUID_TIMED if text[14] == "7" else UUID_RANDOM), packed
    elif length == 26 and text[0] <= "7" and _ULID_LETTERS.issuperset(text):
        return ULID_TIMED, int(text.translate(_TO_BASE32), 32).to_bytes(16, "big")
    return TEXT, text


def unpack_id(kind: int, stored: bytes | str) -> str:
    """The id as it was sent."""
    if isinstance(stored, str):
        return stored
    if kind in (ULID_TIMED, GATE):
        number = int.from_bytes(stored, "big")
        text = ulid_of(number)
        return f"evt_{text}" if kind == GATE else text
    h = stored.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def digest_id(environment: int, source: str, id: str) -> bytes:
    """128 bits of BLAKE2b over (environment, source, id): the dedupe key of ids that carry no time."""
    return blake2b(f"{environment}{source}\0{id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def quantity_data(property: str, billionths: int) -> str:
    """Canonical data of an event that carries one quantity."""
    return f'{{"{property}":{format_quantity(join_quantity(0, billionths))}}}'


class Event(Protocol):
    """One event as sent: CloudEvents 1.0 attributes and `customer`. `time` None: the moment it arrives. `data`: a JSON object."""

    id: str
    type: str
    source: str
    subject: str | None
    customer: str | None
    time: datetime | None
    data: dict[str, Any] | None


@dataclass(slots=True)
class UsageEvent:
    """An `Event` made in Python."""

    id: str
    type: str
    source: str = "default"
    subject: str | None = None
    customer: str | None = None
    time: datetime | None = None
    data: dict[str, Any] | None = None


class Outcome(NamedTuple):
    """The log's answer for one row: `accepted`, `duplicate` or `conflict`, and the sequence of the event that counts."""

    status: str
    seq: int


class Submission(Protocol):
    """Rows for the next commit: all of gate ids, or all of one client's batch. `outcomes` None: all were accepted.

    After the commit `done` is called once, with `outcomes` or `error` set: on the thread of `loop`, or on the writer's own without one.
    It raises nothing. `early`: nobody waits for it, so the writer may gather more first.
    """

    outcomes: list[Outcome] | None
    error: TollkeeperError | None

    @property
    def rows(self) -> Sequence[LogRow]: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...

    @property
    def early(self) -> bool: ...

    def done(self) -> None: ...


class LoggedEvent(NamedTuple):
    """One event as the log holds it. `data` is what was sent.

    `state`: active, amended (`amended` counts in the place of `data`) or voided (it counts no more), by which `correction`.
    """

    seq: int
    environment: str
    source: str
    id: str
    type: str
    subject: str | None
    customer: str
    time: int
    received_at: int
    epoch: int
    quantity: int
    data: str | None
    state: str = "active"
    correction: str | None = None
    amended: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return self._asdict()
