"""`tollkeeper events import`: a file of usage, counted once however often it is imported."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.csv_records import Unreadable
from tollkeeper.cli.import_rows import Row, Rows, object_text, open_text
from tollkeeper.cli.import_state import COUNTS, State, keep, resume
from tollkeeper.cli.options import Environment, Json, Verbose, examples
from tollkeeper.cli.progress import Told, bars
from tollkeeper.cli.server import connect
from tollkeeper.cli.values import plural

EXAMPLES = examples(
    "tollkeeper events import usage.ndjson",
    "tollkeeper events import usage.csv.gz --type api.call  # for rows that name no type",
    "tollkeeper events import usage.parquet --faults faults.ndjson",
)
BATCH: Final = 2_000
BATCH_BYTES: Final = 4_000_000
SHOWN: Final = 10
Format = Literal["ndjson", "csv", "parquet"]
SUFFIXES: Final[dict[str, Format]] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".parquet": "parquet",
}


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="NDJSON, CSV (both may be gzip) or Parquet.", show_default=False, dir_okay=False
        ),
    ],
    format: Annotated[Format | None, typer.Option(help="When the name does not tell.", show_default=False)] = None,
    type: Annotated[str | None, typer.Option("--type", metavar="NAME", help="Of rows that name none.")] = None,
    source: Annotated[str | None, typer.Option(metavar="NAME", help="Of rows that name none.")] = None,
    environment: Annotated[
        Environment, typer.Option(help="Where to count; test usage bills a test account at most.")
    ] = "live",
    state: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where to remember how far it came; FILE.import otherwise.")
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write every refused row there, as NDJSON.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin at the first row; each counts once.")] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Import usage from a file. Run again, it goes on where it ended; each row counts once.

    Columns or names: id, source, type, subject, customer, time, and data as JSON or as data.NAME. A row without an id gets one, made
    of the file's fingerprint and its line. Rows that are refused are told by line, and the others are counted: exit code 1 then,
    3 when the server went away.
    """
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {file}", param_hint="FILE")
    path = state or file.with_name(file.name + ".import")
    with ExitStack() as opened, bars("reading", "importing") as (reading, importing):
        server = opened.enter_context(connect(verbose))
        found = opened.enter_context(_open(file, format, environment, reading))
        fresh = State(found.fingerprint, server.url, environment, type, source)
        kept = fresh if restart else resume(path, fresh)
        before = kept.line if kept.place else 0
        keep(path, kept)
        out = opened.enter_context(faults.open("a")) if faults else None
        run = _Run(file, server, found, kept, path, out, importing)
        run.run()
    run.tell(json, before)


def _open(file: Path, format: Format | None, environment: str, told: Told) -> AbstractContextManager[Rows]:
    suffixes = [suffix for suffix in file.suffixes if suffix != ".gz"]
    kind = format or SUFFIXES.get(suffixes[-1].lower() if suffixes else "")
    if kind is None:
        raise typer.BadParameter(
            f"{file.name} does not tell its format; name it: ndjson, csv or parquet", param_hint="--format"
        )
    if kind == "parquet":
        from tollkeeper.cli.parquet import open_parquet

        return open_parquet(file, environment, told)
    return open_text(file, kind == "csv", environment, told)


class _Run:
    """One run over the rest of a file."""

    def __init__(
        self, file: Path, server: Any, rows: Rows, state: State, path: Path, out: IO[str] | None, told: Told
    ) -> None:
        self.file = file
        self.server = server
        self.rows = rows
        self.state = state
        self.path = path
        self.out = out
        self.told = told
        self.shown: list[str] = []
        self.left_out = 0
        self.made_here = 0

    def run(self) -> None:
        """Raises what the client raises; then the state tells of all that was answered."""
        from tollkeeper.client import ClientError

        state = self.state
        if state.done:
            return
        try:
            for batch in _batches(self.rows.rows(state.place, state.line)):
                self._send(batch)
        except Unreadable as fault:
            raise terminal.Stop(
                f"{self.file}:{fault}", f"The rows before it are imported, up to line {state.line - 1:,}.", 2
            ) from None
        except ClientError:
            terminal.note(f"Imported up to line {state.line - 1:,}; the same command goes on from there.")
            raise
        state.done = True
        keep(self.path, state)

    def _send(self, batch: list[Row]) -> None:
        sent: list[tuple[Row, bytes]] = []
        refused: list[tuple[Row, str, str]] = []
        made = unmatched = 0
        for row in batch:
            event = None if row.event is None else self._complete(row)
            if event is None or "time" not in event or "type" not in event:
                refused.append((row, "rejected", row.fault or _missing(event or {})))
                continue
            made += "id" not in (row.event or {})
            sent.append((row, object_text(event).encode()))
        counts = dict.fromkeys(COUNTS, 0)
        if sent:
            body = b"[" + b",".join(text for _, text in sent) + b"]"
            query = {"environment": self.state.environment}
            answer = self.server.request("POST", "/v1/events", body=body, query=query, repeatable=True)
            counts = {name: answer[name] for name in COUNTS}
            for result in answer["results"]:
                if result["status"] in ("conflict", "rejected"):
                    detail = result.get("detail") or result.get("code")
                    refused.append((sent[result["index"]][0], result["status"], str(detail)))
                elif result["status"] == "accepted" and not result["meters"]:
                    unmatched += 1
        counts["rejected"] += len(batch) - len(sent)
        self._refuse(sorted(refused, key=lambda one: one[0].line))
        state, last = self.state, batch[-1]
        state.counts = {name: state.counts[name] + counts[name] for name in COUNTS}
        state.place, state.line = last.place, last.next_line
        state.made += made
        state.unmatched += unmatched
        self.made_here += made
        keep(self.path, state)
        self.told(last.place, self.rows.size)

    def _complete(self, row: Row) -> dict[str, str]:
        event = dict(row.event or {})
        for name, value in (("type", self.state.type), ("source", self.state.source)):
            if value is not None:
                event.setdefault(name, jsonlib.dumps(value))
        event.setdefault("id", jsonlib.dumps(f"{self.rows.fingerprint[:32]}-{row.line}"))
        return event

    def _refuse(self, refused: list[tuple[Row, str, str]]) -> None:
        for row, status, detail in refused:
            if self.out is not None:
                self.out.write(jsonlib.dumps({"line": row.line, "status": status, "detail": detail}) + "\n")
            if len(self.shown) < SHOWN:
                self.shown.append(f"{self.file}:{row.line}: {status}: {detail}")
            else:
                self.left_out += 1
        if self.out is not None:
            self.out.flush()

    def tell(self, json: bool, before: int) -> None:
        """What became of the file, this run and those before it. Raises Exit 1 when rows were refused."""
        state, counts = self.state, self.state.counts
        if json:
            terminal.show_json(
                {**counts, "made_ids": state.made, "unmatched": state.unmatched, "state": str(self.path)}
            )
        else:
            if before:
                terminal.note(f"Went on at line {before:,}; the counts are of all runs. --restart begins anew.")
            terminal.say(", ".join(f"{counts[name]:,} {name}" for name in COUNTS if counts[name] or name == "accepted"))
        for line in self.shown:
            terminal.show_error(line)
        if self.left_out:
            terminal.show_error(f"and {plural(self.left_out, 'more row')} like these; --faults PATH writes all of them")
        if self.made_here:
            terminal.note(
                f"{plural(self.made_here, 'row')} without an id: made of the file's fingerprint and line, such as "
                f"{self.rows.fingerprint[:32]}-2. A changed file would count again."
            )
        if state.unmatched:
            terminal.warn(f"{plural(state.unmatched, 'accepted event')} without a meter: nothing was counted for them")
        if counts["conflict"] or counts["rejected"]:
            raise typer.Exit(1)


def _missing(event: dict[str, str]) -> str:
    name = "type" if "type" not in event else "time"
    reason = "" if name == "type" else ": without one the row would count as of now"
    return f'expected a "{name}"{reason}'


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Of at most BATCH rows and about BATCH_BYTES bytes. What stands before an unreadable place is a batch of its own."""
    batch: list[Row] = []
    size = 0
    fault: Unreadable | None = None
    while True:
        try:
            row = next(rows, None)
        except Unreadable as error:
            row, fault = None, error
        if row is None:
            break
        length = sum(map(len, row.event.values())) if row.event else 0
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch
    if fault is not None:
        raise fault
