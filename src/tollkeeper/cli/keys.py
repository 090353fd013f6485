"""`tollkeeper keys`: the secrets that customers and servers call with."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Customer, Environment, Json, Verbose, Yes, examples
from tollkeeper.cli.server import connect, pages, segment
from tollkeeper.cli.values import INSTANT, instant, plural, shown_span, shown_time, span_seconds

app = typer.Typer(help="Create keys, list, rotate and revoke them.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="Id of the key, from `keys list`.", show_default=False)]


@app.command(
    epilog=examples(
        "tollkeeper keys create --customer acme",
        "tollkeeper keys create --customer acme --environment test --expires 30d",
        "tollkeeper keys create --server --scope check --scope events:write",
        "KEY=$(tollkeeper keys create --customer acme)  # piped, only the key is printed",
    )
)
def create(
    customer: Customer = None,
    server_key: Annotated[
        bool, typer.Option("--server", help="A server key: for your own servers, of no customer.")
    ] = False,
    environment: Annotated[Environment, typer.Option(help="A test key bills a test account at most.")] = "live",
    name: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    scope: Annotated[list[str] | None, typer.Option(metavar="NAME", help="May be given several times.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="WHEN", help=f"{INSTANT}, from now.")] = None,
    ip: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="Allowed address or block; several times.")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Create a key. Its secret is shown once, now.

    On a pipe the secret stands alone on stdout.
    """
    if server_key == (customer is not None):
        raise typer.BadParameter("a key belongs to --customer ID, or is a --server key", param_hint="--customer")
    body: dict[str, Any] = {
        "environment": environment,
        "name": name,
        "scopes": scope or [],
        "expires_at": instant("--expires", expires, datetime.now(UTC), None, ahead=True) if expires else None,
        "ips": ip or [],
    }
    body |= {"kind": "server"} if server_key else {"customer": customer}
    with connect(verbose) as server:
        made = server.request("POST", "/v1/keys", body)
    _show_new(made, json)


@app.command("list", epilog=examples("tollkeeper keys list --customer acme", "tollkeeper keys list --server"))
def list_(
    customer: Customer = None,
    server_keys: Annotated[bool, typer.Option("--server", help="Server keys only.")] = False,
    environment: Annotated[Environment | None, typer.Option(help="Only there.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 100,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List keys in the order they were made; secrets are not kept."""
    query = {"customer": customer, "environment": environment, "kind": "server" if server_keys else None}
    with connect(verbose) as server:
        found, more = pages(server, "/v1/keys", limit, query)
    if json:
        terminal.show_json({"data": found, "more": more})
        return
    if not found:
        terminal.note("There are no such keys. Create one: tollkeeper keys create --customer ID")
        return
    made = terminal.table(
        "KEY ID", "SECRET", "OF", "STATE", "LAST USED", whole=("KEY ID", "SECRET", "STATE", "LAST USED")
    )
    now = datetime.now(UTC)
    for key in found:
        whose = key["customer"] or "server"
        label = f"{whose}: {key['name']}" if key["name"] else whose
        terminal.add_row(made, key["id"], _hint(key), label, _state(key, now), _last_used(key, now))
    terminal.show_table(made)
    if more:
        terminal.note(f"The first {plural(limit, 'key')}; there are more: --limit {limit * 10}")


@app.command(
    epilog=examples(
        "tollkeeper keys rotate key_01JD3V5E6QN8Z4V9W1T7B2X3YA  # the old one works for another day",
        "tollkeeper keys rotate key_01JD3V5E6QN8Z4V9W1T7B2X3YA --overlap 0 --yes",
    )
)
def rotate(
    key_id: KeyId,
    overlap: Annotated[
        str, typer.Option(metavar="SPAN", help="How long the old key still works: 0, 1h, 24h, 7d.")
    ] = "24h",
    yes: Yes = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Replace a key by a new one with the same rights. The new secret is shown once, now."""
    _require_id(key_id)
    seconds = span_seconds("--overlap", overlap)
    ends = f"stops working in {overlap}" if seconds else "stops working at once"
    terminal.confirm(f"Rotate {key_id}? The old key {ends}.", yes)
    with connect(verbose) as server:
        made = server.request("POST", f"/v1/keys/{segment(key_id)}/rotate", {"overlap_seconds": seconds})
    _show_new(made, json)


@app.command(epilog=examples("tollkeeper keys revoke key_01JD3V5E6QN8Z4V9W1T7B2X3YA"))
def revoke(key_id: KeyId, yes: Yes = False, json: Json = False, verbose: Verbose = False) -> None:
    """Stop a key, within a second and for good."""
    _require_id(key_id)
    terminal.confirm(f"Revoke {key_id}? Calls with it are refused from now on.", yes)
    with connect(verbose) as server:
        revoked = server.request("POST", f"/v1/keys/{segment(key_id)}/revoke", {})
    if json:
        terminal.show_json(revoked)
    else:
        terminal.say(f"{revoked['id']} is revoked.")


def _show_new(made: dict[str, Any], json: bool) -> None:
    """A new key: JSON, or for people, or the secret alone when stdout is a pipe."""
    if json:
        terminal.show_json(made)
    elif not sys.stdout.isatty():
        sys.stdout.write(made["key"] + "\n")
        terminal.note(f"{made['id']}; the secret is not shown again.")
    else:
        terminal.say(made["key"], "bold green")
        terminal.show_fields(
            [
                ("key id", made["id"]),
                ("of", made.get("customer") or "server"),
                ("environment", made["environment"]),
                ("scopes", ", ".join(made.get("scopes") or ())),
                ("addresses", ", ".join(made.get("ips") or ())),
                ("expires", shown_time(made.get("expires_at"))),
            ]
        )
        terminal.note("Keep the key now: it is stored as a digest and not shown again.", "yellow")


def _hint(key: dict[str, Any]) -> str:
    return f"{key['environment']} …{key['last4']}"


def _state(key: dict[str, Any], now: datetime) -> str:
    if key["revoked_at"]:
        return "revoked"
    if key["expires_at"]:
        left = datetime.fromisoformat(key["expires_at"]) - now
        return f"{shown_span(left)} left" if left > timedelta(0) else "expired"
    return "active"


def _last_used(key: dict[str, Any], now: datetime) -> str:
    if not key["last_used_at"]:
        return "never"
    return f"{shown_span(now - datetime.fromisoformat(key['last_used_at']))} ago"


def _require_id(text: str) -> None:
    """A secret given in place of an id is not sent anywhere."""
    if text.startswith(("tk_live_", "tk_test_")):
        raise typer.BadParameter("that is a secret; its id stands in `tollkeeper keys list`", param_hint="KEY_ID")
