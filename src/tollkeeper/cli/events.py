"""`tollkeeper events`: usage that did not pass the gate."""

from __future__ import annotations

import json as jsonlib
import sys
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import IO, Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Environment, Json, Verbose, examples
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import INSTANT, instant, plural

app = typer.Typer(help="Send, import and correct usage events.", no_args_is_help=True)

BATCH = 1_000
BATCH_BYTES = 4_000_000
LINE_BYTES = 1_000_000
SHOWN = 10  # faults and refusals shown one by one
COUNTS = ("accepted", "duplicate", "conflict", "rejected")


@app.callback()
def _group() -> None:
    pass


@app.command(
    epilog=examples(
        "tollkeeper events send --type api.call --customer acme",
        "tollkeeper events send --type llm.call --customer acme --data '{\"tokens\": 1250}'",
        "tollkeeper events send < events.ndjson  # one JSON event a line, each with its id",
    )
)
def send(
    type: Annotated[str | None, typer.Option("--type", metavar="NAME", help="Event type, as a meter names it.")] = None,
    customer: Annotated[str | None, typer.Option(metavar="ID", help="Who used it.")] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="ID", help="What caused it, such as a key; instead of --customer.")
    ] = None,
    data: Annotated[str, typer.Option(metavar="JSON", help="An object with the properties that meters read.")] = "{}",
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Sent again, it counts once. Made otherwise.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where the event comes from; ids are its own.")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="WHEN", help=f"{INSTANT} ago. Now otherwise.")] = None,
    environment: Annotated[
        Environment, typer.Option(help="Where to count; test usage bills a test account at most.")
    ] = "live",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Send one event from options, or many from stdin, one JSON object a line.

    All lines are read and checked before the first is sent. Events already counted answer `duplicate`, so the same file may be
    sent again. Exit code 1 when the server takes some of them not.
    """
    if type is not None:
        given = {"source": source, "customer": customer, "subject": subject}
        event = {
            "id": id or str(uuid.uuid4()),
            "type": type,
            "time": instant("--time", time or "now", datetime.now(UTC), None),
        }
        event |= {name: value for name, value in given.items() if value is not None}
        line = jsonlib.dumps(event)[:-1] + f', "data": {read_object(data)}}}'
        _send(iter([(0, line.encode())]), 1, environment, json, verbose)
        return
    if sys.stdin.isatty():
        raise typer.BadParameter("give an event by --type …, or events on stdin: < events.ndjson", param_hint="--type")
    if any((customer, subject, id, time, source)) or data != "{}":
        raise typer.BadParameter(
            "options describe one event and need --type; lines on stdin hold all of theirs", param_hint="--type"
        )
    with tempfile.TemporaryFile() as kept:
        count = _check_lines(sys.stdin.buffer, kept)
        if not count:
            raise terminal.Stop("stdin: no events", "Expected one JSON object a line.", 2)
        kept.seek(0)
        _send(_numbered(kept), count, environment, json, verbose)


def read_object(text: str) -> str:
    """The text of a JSON object, as it was written, so that its decimals stay exact. Raises BadParameter."""
    try:
        value = _parse(text)
    except ValueError as fault:
        raise typer.BadParameter(f"not JSON: {fault}", param_hint="--data") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("expected a JSON object", param_hint="--data")
    return text


def _parse(text: str) -> Any:
    """Raises ValueError for what is not JSON, NaN, nesting without end, and halves of surrogate pairs."""
    try:
        value = jsonlib.loads(text, parse_constant=_refuse_constant)
        jsonlib.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair") from None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_lines(lines: IO[bytes], kept: IO[bytes]) -> int:
    """Read every line, keep them, and count the events. Raises Stop naming the faulty ones; then nothing was sent."""
    faults: list[str] = []
    left_out = count = number = 0
    while line := lines.readline(LINE_BYTES + 1):
        number += 1
        kept.write(line)
        if not line.strip():
            continue
        count += 1
        fault = _fault(line)
        if fault and len(faults) < SHOWN:
            faults.append(f"stdin:{number}: {fault}")
        elif fault:
            left_out += 1
        if len(line) > LINE_BYTES:
            break
    if faults:
        more = [f"and {plural(left_out, 'more faulty line')}"] if left_out else []
        raise terminal.Stop("\n  ".join([*faults, *more]), "Nothing was sent.", 2)
    return count


def _fault(line: bytes) -> str:
    if len(line) > LINE_BYTES:
        return f"expected a line of at most {LINE_BYTES:,} bytes"
    try:
        event = _parse(line.decode())
    except ValueError as fault:
        return f"expected JSON: {fault}"
    if not isinstance(event, dict):
        return "expected a JSON object"
    if not event.get("id"):
        return 'expected an "id", so that the event counts once when the file is sent again'
    return ""


def _numbered(lines: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(lines, 1):
        if line := line.strip():
            yield number, line


def _batches(lines: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    batch: list[tuple[int, bytes]] = []
    size = 0
    for number, line in lines:
        if batch and (len(batch) == BATCH or size + len(line) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((number, line))
        size += len(line)
    if batch:
        yield batch


def _send(lines: Iterator[tuple[int, bytes]], count: int, environment: Environment, json: bool, verbose: bool) -> None:
    """Send lines as they are, `count` in all; each has an id, so a batch may be repeated."""
    from tollkeeper.client import ClientError

    totals = dict.fromkeys(COUNTS, 0)
    results: list[dict[str, Any]] = []
    refused: list[str] = []
    unmatched = answered = 0
    with connect(verbose) as server:
        for batch in _batches(lines):
            try:
                body = b"[" + b",".join(line for _, line in batch) + b"]"
                answer = server.request(
                    "POST", "/v1/events", body=body, query={"environment": environment}, repeatable=True
                )
            except ClientError:
                if answered:
                    terminal.note(
                        f"{plural(answered, 'event')} of {count:,} were answered; send the same again, each counts once."
                    )
                raise
            answered += len(batch)
            for name in COUNTS:
                totals[name] += answer[name]
            for result in answer["results"]:
                number = batch[result["index"]][0]
                if result["status"] in ("conflict", "rejected"):
                    refused.append(_refusal(number, result))
                elif result["status"] == "accepted" and not result["meters"]:
                    unmatched += 1
                if json:
                    results.append({**result, "index": number - 1 if number else 0})
    if json:
        terminal.show_json({"results": results, **totals})
    else:
        terminal.say(", ".join(f"{totals[name]:,} {name}" for name in COUNTS if totals[name] or name == "accepted"))
    for line in islice(refused, SHOWN):
        terminal.show_error(line)
    if len(refused) > SHOWN:
        terminal.show_error(f"and {plural(len(refused) - SHOWN, 'more event')} like these")
    if unmatched:
        were = "event matches" if unmatched == 1 else "events match"
        terminal.warn(
            f"{unmatched:,} accepted {were} no meter, so nothing was counted; compare --type with the catalog"
        )
    if refused:
        raise typer.Exit(1)


def _refusal(number: int, result: dict[str, Any]) -> str:
    place = f"stdin:{number}: " if number else ""
    return f"{place}{result.get('id') or 'event'}: {result['status']}: {result.get('detail') or result.get('code')}"
