"""`tollkeeper customers`: who is billed, on which plan, and the people who belong to them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Environment, Json, Verbose, Yes, examples
from tollkeeper.cli.server import connect, pages, segment
from tollkeeper.cli.values import plural, shown_time

app = typer.Typer(help="Create customers, list them, move them between plans.", no_args_is_help=True)
members = typer.Typer(help="The people of a customer, by e-mail.", no_args_is_help=True)
app.add_typer(members, name="members")

Id = Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id of the customer.", show_default=False)]
Most = Annotated[int, typer.Option("--limit", min=1, help="How many to show.")]


@app.command(epilog=examples("tollkeeper customers create 'Acme Ltd' --id acme --plan pro --email ops@acme.example"))
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, as on an invoice.", show_default=False)],
    id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Your own id; one is made otherwise.")] = None,
    email: Annotated[str | None, typer.Option(metavar="ADDRESS", help="E-mail; becomes the first member.")] = None,
    plan: Annotated[str | None, typer.Option(metavar="KEY", help="Plan of the catalog, in live and in test.")] = None,
    currency: Annotated[str | None, typer.Option(metavar="CODE", help="Such as usd; the catalog's otherwise.")] = None,
    zone: Annotated[str, typer.Option(metavar="ZONE", help="Time zone that billing periods follow.")] = "UTC",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Create a customer.

    The same id with the same content answers with the customer that is there. The currency never changes afterwards.
    """
    body: dict[str, Any] = {"id": id, "name": name, "email": email, "plan": plan, "zone": zone}
    if currency is not None:
        body["currency"] = currency
    with connect(verbose) as server:
        customer = server.request("POST", "/v1/customers", body)
    if json:
        terminal.show_json(customer)
        return
    _show(customer)
    if terminal.interactive():
        terminal.note(f"A key for them: tollkeeper keys create --customer {customer['id']}")


@app.command(
    "list", epilog=examples("tollkeeper customers list", "tollkeeper customers list --json | jq -r '.data[].id'")
)
def list_(limit: Most = 100, json: Json = False, verbose: Verbose = False) -> None:
    """List customers, ordered by id."""
    with connect(verbose) as server:
        found, more = pages(server, "/v1/customers", limit)
    if json:
        terminal.show_json({"data": found, "more": more})
        return
    if not found:
        terminal.note("There are no customers yet. Create one: tollkeeper customers create NAME --plan PLAN")
        return
    made = terminal.table("CUSTOMER", "NAME", "PLAN", "CREATED", whole=("CUSTOMER", "CREATED"))
    for customer in found:
        terminal.add_row(made, customer["id"], customer["name"], _plan(customer), shown_time(customer["created_at"]))
    terminal.show_table(made)
    if more:
        terminal.note(f"The first {plural(limit, 'customer')}; there are more: --limit {limit * 10}")


@app.command(epilog=examples("tollkeeper customers show acme"))
def show(customer: Id, json: Json = False, verbose: Verbose = False) -> None:
    """Show one customer and the plans it is on."""
    with connect(verbose) as server:
        found = server.request("GET", f"/v1/customers/{segment(customer)}")
    if json:
        terminal.show_json(found)
    else:
        _show(found)


@app.command(
    epilog=examples(
        "tollkeeper customers move acme pro", "tollkeeper customers move acme pro --version 3 --environment live --yes"
    )
)
def move(
    customer: Id,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Plan to move to.", show_default=False)],
    version: Annotated[int | None, typer.Option(min=1, help="Version of the plan; the one on offer otherwise.")] = None,
    environment: Annotated[Environment | None, typer.Option(help="Only there; both otherwise.")] = None,
    yes: Yes = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Move a customer to another plan, or to another version of its plan.

    The running billing period stays; what was used in it counts against the new quotas.
    """
    target = f"{plan} version {version}" if version else plan
    where = environment or "live and test"
    terminal.confirm(f"Move {customer} to plan {target} in {where}?", yes)
    with connect(verbose) as server:
        body = {"plan": plan, "version": version, "environment": environment}
        moved = server.request("POST", f"/v1/customers/{segment(customer)}/plan", body)
    if json:
        terminal.show_json(moved)
    else:
        _show(moved)


@members.command("list", epilog=examples("tollkeeper customers members list acme"))
def list_members(customer: Id, json: Json = False, verbose: Verbose = False) -> None:
    """List the members of a customer."""
    with connect(verbose) as server:
        found = server.request("GET", f"/v1/customers/{segment(customer)}/members")
    if json:
        terminal.show_json(found)
        return
    if not found:
        terminal.note(f"{customer} has no members. Add one: tollkeeper customers members add {customer} ADDRESS")
        return
    made = terminal.table("MEMBER", "E-MAIL", "NAME", whole=("MEMBER",))
    for member in found:
        terminal.add_row(made, member["id"], member["email"], member["name"])
    terminal.show_table(made)


@members.command("add", epilog=examples("tollkeeper customers members add acme ada@acme.example --name 'Ada L.'"))
def add_member(
    customer: Id,
    email: Annotated[str, typer.Argument(metavar="ADDRESS", help="E-mail address.", show_default=False)],
    name: Annotated[str, typer.Option(metavar="TEXT", help="Name of the person.")] = "",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Add a member; adding one again changes nothing."""
    with connect(verbose) as server:
        member = server.request("POST", f"/v1/customers/{segment(customer)}/members", {"email": email, "name": name})
    if json:
        terminal.show_json(member)
    else:
        terminal.show_fields([("member", member["id"]), ("e-mail", member["email"]), ("name", member["name"])])


@members.command("remove", epilog=examples("tollkeeper customers members remove acme mem_01JD3V5E6QN8Z4V9W1T7B2X3YA"))
def remove_member(
    customer: Id,
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Id of the member.", show_default=False)],
    yes: Yes = False,
    verbose: Verbose = False,
) -> None:
    """Remove a member from a customer."""
    terminal.confirm(f"Remove {member} from {customer}?", yes)
    with connect(verbose) as server:
        server.request("DELETE", f"/v1/customers/{segment(customer)}/members/{segment(member)}")
    terminal.note(f"{member} is removed from {customer}.")


def _plan(customer: dict[str, Any]) -> str:
    if not customer.get("plan"):
        return ""
    version = customer.get("plan_version")
    return f"{customer['plan']} v{version}" if version else str(customer["plan"])


def _show(customer: dict[str, Any]) -> None:
    rows: list[tuple[str, str | Any]] = [
        ("customer", customer["id"]),
        ("name", customer["name"]),
        ("e-mail", customer.get("email") or ""),
        ("currency", customer["currency"]),
        ("zone", customer["zone"]),
        ("created", shown_time(customer["created_at"])),
    ]
    for subscription in customer.get("subscriptions", ()):
        status = "" if subscription["status"] == "active" else f", {subscription['status']}"
        since = shown_time(subscription["started_at"])
        rows.append((f"{subscription['environment']} plan", f"{_plan(subscription)} since {since}{status}"))
    terminal.show_fields(rows)
