"""`tollkeeper invoices`: the provider's as they were read, and our own where there is no provider."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Customer, Environment, Json, Verbose, Yes, examples
from tollkeeper.cli.server import connect, pages, segment
from tollkeeper.cli.values import plural, shown_time

app = typer.Typer(help="Invoices: list, show, preview; settle those of your own.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="INVOICE", help="Id of the invoice.", show_default=False)]


@app.command(
    "list", epilog=examples("tollkeeper invoices list", "tollkeeper invoices list --customer acme --status open")
)
def list_(
    customer: Customer = None,
    status: Annotated[str | None, typer.Option(metavar="WORD", help="Such as open or paid.")] = None,
    environment: Annotated[Environment | None, typer.Option(help="The provider's account's otherwise.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to show.")] = 50,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List invoices, the newest first."""
    query = {"environment": environment, "customer": customer, "status": status}
    with connect(verbose) as server:
        found, more = pages(server, "/v1/invoices", limit, query)
    if json:
        terminal.show_json({"data": found, "more": more})
        return
    if not found:
        terminal.note("There are no such invoices" + (f" in {environment}." if environment else "."))
        return
    made = terminal.table("INVOICE", "NUMBER", "CUSTOMER", "STATUS", "TOTAL", "CREATED", whole=("INVOICE", "CREATED"))
    for one in found:
        created = shown_time(one["created_at"])
        terminal.add_row(made, one["id"], one["number"] or "", one["customer"], one["status"], _money(one), created)
    terminal.show_table(made)
    if more:
        terminal.note(f"The first {plural(limit, 'invoice')}; there are more: --limit {limit * 10}")


@app.command(epilog=examples("tollkeeper invoices show in_1SXkT2"))
def show(
    invoice: Id,
    environment: Annotated[Environment | None, typer.Option(help="Of this one alone.")] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show one invoice with its lines."""
    with connect(verbose) as server:
        found = server.request("GET", f"/v1/invoices/{segment(invoice)}", query={"environment": environment})
    _show(found, json)


@app.command(epilog=examples("tollkeeper invoices preview acme"))
def preview(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id of the customer.", show_default=False)],
    environment: Annotated[Environment | None, typer.Option(help="The provider's account's otherwise.")] = None,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show a customer's next invoice as it would be."""
    with connect(verbose) as server:
        path = f"/v1/customers/{segment(customer)}/invoice-preview"
        found = server.request("GET", path, query={"environment": environment})
    _show(found, json)


@app.command(epilog=examples("tollkeeper invoices pay inv_01JD3V5E6QN8Z4V9W1T7B2X3YA"))
def pay(invoice: Id, json: Json = False, verbose: Verbose = False) -> None:
    """Write down that an invoice of your own was paid. The provider's are paid there."""
    with connect(verbose) as server:
        found = server.request("POST", f"/v1/invoices/{segment(invoice)}/pay")
    _show(found, json)


@app.command(epilog=examples("tollkeeper invoices void inv_01JD3V5E6QN8Z4V9W1T7B2X3YA"))
def void(invoice: Id, yes: Yes = False, json: Json = False, verbose: Verbose = False) -> None:
    """Void an invoice of your own."""
    terminal.confirm(f"Void {invoice}? Nobody owes it any more.", yes)
    with connect(verbose) as server:
        found = server.request("POST", f"/v1/invoices/{segment(invoice)}/void")
    _show(found, json)


def _money(one: dict[str, Any]) -> str:
    return f"{one['total']} {one['currency'].upper()}"


def _show(found: dict[str, Any], json: bool) -> None:
    if json:
        terminal.show_json(found)
        return
    rows = [
        ("invoice", found["number"] or found["id"] or "not issued yet"),
        ("customer", found["customer"]),
        ("status", found["status"]),
        ("total", _money(found)),
    ]
    if found["refunded"] != "0":
        rows.append(("refunded", found["refunded"]))
    rows += [(f"dispute {id}", status) for id, status in found["disputes"].items()]
    if found["url"]:
        rows.append(("page", found["url"]))
    terminal.show_fields(rows)
    made = terminal.table("LINE", "QUANTITY", "AMOUNT", "FROM", "TO", whole=("FROM", "TO"))
    for line in found["lines"]:
        span = [shown_time(line[name]) if line[name] else "" for name in ("period_start", "period_end")]
        terminal.add_row(made, line["description"], line["quantity"] or "", line["amount"], *span)
    if found["lines"]:
        terminal.show_table(made)
