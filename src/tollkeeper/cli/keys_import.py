"""`tollkeeper keys import`: keys that customers hold already, by digest or as a table of plain keys, which are digested here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.csv_records import Record, Unreadable, cells, header_of, records
from tollkeeper.cli.options import Environment, Json, Verbose, examples
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import instant, plural
from tollkeeper.core.keys import NATIVE_PREFIXES, digest, looks_like_key

EXAMPLES = examples(
    "tollkeeper keys import keys.csv  # customer,digest,name,prefix,last4,scopes,expires",
    "tollkeeper keys import plain.csv  # customer,key: each key is digested here, and only the digest is sent",
    "./list-keys | tollkeeper keys import - --environment test",
)

BATCH: Final = 500
SHOWN: Final = 10
SHORTEST: Final = 16
COLUMNS: Final = ("customer", "key", "digest", "name", "prefix", "last4", "scopes", "expires", "environment", "ips")
COUNTS: Final = ("imported", "duplicate", "conflict", "rejected")
_WORDS: Final = re.compile(r"[\s,;]+")


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV with a header; - is stdin.", show_default=False)],
    environment: Annotated[Environment, typer.Option(help="Of keys whose row does not say.")] = "live",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Take over keys made elsewhere, so that no customer has to change one.

    Columns: customer, and digest (SHA-256 of the key, in hexadecimal) or key (the key itself: digested here, and neither sent nor
    printed). Optional: name, prefix, last4, scopes and ips (several with spaces), expires, environment. The file may be imported again:
    a key that is there stays as it is. Exit code 1 when some were not taken.
    """
    totals = dict.fromkeys(COUNTS, 0)
    results: list[dict[str, Any]] = []
    faults: list[str] = []

    def fault(line: int, status: str, detail: str) -> None:
        totals[status] += 1
        results.append({"line": line, "status": status, "id": None, "detail": detail})
        faults.append(f"{file}:{line}: {status}: {detail}")

    with _opened(file) as stream, connect(verbose) as server:
        try:
            found = records(stream)
            header = _header(next(found, None))
            while batch := list(islice(found, BATCH)):
                sent: list[tuple[int, dict[str, Any]]] = []
                for record in batch:
                    try:
                        sent.append((record.line, _row(cells(header, record), environment)))
                    except ValueError as error:
                        fault(record.line, "rejected", str(error))
                for line, result in _answers(server, sent):
                    if result["status"] in ("conflict", "rejected"):
                        fault(line, result["status"], result["detail"])
                    else:
                        totals[result["status"]] += 1
                        results.append({"line": line, "status": result["status"], "id": result["id"], "detail": None})
        except Unreadable as error:
            hint = f"{plural(totals['imported'], 'key')} before it imported; mend it and import the file again."
            raise terminal.Stop(f"{file}:{error}", hint, 2) from None
    if json:
        terminal.show_json({"results": sorted(results, key=lambda one: int(one["line"])), **totals})
    else:
        terminal.say(", ".join(f"{totals[name]:,} {name}" for name in COUNTS if totals[name] or name == "imported"))
    for text in faults[:SHOWN]:
        terminal.show_error(text)
    if len(faults) > SHOWN:
        terminal.show_error(f"and {plural(len(faults) - SHOWN, 'more row')} like these; --json tells all")
    if faults:
        raise typer.Exit(1)


def _opened(file: str) -> AbstractContextManager[IO[bytes]]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as fault:
        raise terminal.Stop(f"{file} cannot be read: {fault.strerror}", exit_code=2) from None


def _header(record: Record | None) -> tuple[str, ...]:
    header = header_of(record)
    # a file without a header begins with a key: its names are not repeated
    unknown = [place for place, name in enumerate(header, 1) if name not in COLUMNS]
    if unknown:
        raise Unreadable(f"1: column {unknown[0]} is not known; expected a header with {', '.join(COLUMNS)}")
    if "customer" not in header:
        raise Unreadable("1: expected a column customer")
    if ("key" in header) == ("digest" in header):
        raise Unreadable("1: expected a column key or a column digest, and not both")
    return header


def _row(row: dict[str, str], environment: str) -> dict[str, Any]:
    """One row as the API takes it. Raises ValueError, whose message repeats nothing of a key."""
    row = {name: value.strip() if name != "key" else value for name, value in row.items()}
    where = row.get("environment") or environment
    made: dict[str, Any] = {"customer": row["customer"], "environment": where, "name": row.get("name", "")}
    if "key" in row:
        made |= digested(row["key"], where)
    else:
        made |= {"digest": row["digest"].removeprefix("sha256:").lower()}
        made |= {name: row.get(name, "") for name in ("prefix", "last4")}
        if not re.fullmatch(r"[0-9a-f]{64}", made["digest"]):
            raise ValueError("digest: the SHA-256 of the key as 64 hexadecimal digits is expected")
    for name, most in (("customer", 64), ("environment", 4), ("name", 200), ("prefix", 12), ("last4", 4)):
        if len(made.get(name, "")) > most:
            raise ValueError(f"{name}: at most {most} characters are expected")
    for name, most in (("scopes", 32), ("ips", 64)):
        made[name] = [word for word in _WORDS.split(row.get(name, "")) if word]
        if len(made[name]) > most:
            raise ValueError(f"{name}: at most {most} are expected")
    if text := row.get("expires", ""):
        try:
            made["expires_at"] = instant("expires", text, datetime.now(UTC), None, ahead=True)
        except typer.BadParameter as fault:
            raise ValueError(f"expires: {fault.message}") from None
    return made


def digested(key: str, environment: str) -> dict[str, str]:
    """The digest of a plain key and what of it may be shown: as much as leaves 12 unknown characters. Raises ValueError."""
    if len(key) < SHORTEST:
        raise ValueError(f"key: at least {SHORTEST} characters are expected; a shorter one can be guessed")
    if len(key) > 512 or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("key: at most 512 printable ASCII characters without spaces are expected")
    native = looks_like_key(key)
    if native not in (None, environment):
        raise ValueError(f"key: this is a key of the environment {native}, and the row says {environment[:8]}")
    prefix = key[:12] if native else key[:8] if len(key) >= 32 else key[:4] if len(key) >= 24 else ""
    if native is None and prefix.startswith(NATIVE_PREFIXES):
        prefix = ""  # it would be taken for a key with a checksum, which this has not
    return {"digest": digest(key).hex(), "prefix": prefix, "last4": key[-4:]}


def _answers(server: Any, sent: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    if sent:
        body = {"keys": [row for _, row in sent]}
        answer = server.request("POST", "/v1/imports/keys", body, repeatable=True)
        for result in answer["results"]:
            yield sent[result["index"]][0], result
