"""`tollkeeper stripe`: the catalog at Stripe, and whether everything is in order."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import Json, Verbose, Yes, examples
from tollkeeper.cli.server import connect, load_settings
from tollkeeper.cli.values import plural

app = typer.Typer(help="The catalog at Stripe, and what is wrong with it.", no_args_is_help=True)

ASKING = 180.0
"""Seconds: the server asks Stripe, a few times in a row."""
_SIGNS = {"make": ("+", "green"), "change": ("~", "yellow"), "retire": ("-", "red")}
_VERDICTS = {"ok": ("ok", "green"), "warning": ("note", "yellow"), "failed": ("failed", "red")}


@app.command(epilog=examples("tollkeeper stripe plan"))
def plan(json: Json = False, verbose: Verbose = False) -> None:
    """Show what an apply would make, change and stop selling at Stripe.

    Prices that Stripe cannot express are told, with the reason: they are rated here and put on Stripe's invoice as a line.
    """
    with connect(verbose, ASKING) as server:
        planned = server.request("GET", "/v1/stripe/plan")
    if json:
        terminal.show_json(planned)
    else:
        _show(planned)


@app.command(epilog=examples("tollkeeper stripe apply", "tollkeeper stripe apply --yes"))
def apply(yes: Yes = False, json: Json = False, verbose: Verbose = False) -> None:
    """Make Stripe hold the catalog in force: products, meters, prices, the customers' portal.

    What is there is left alone. A price that was sold is never changed: each version of a plan has its own.
    """
    with connect(verbose, ASKING) as server:
        planned = server.request("GET", "/v1/stripe/plan")
        if planned["changes"]:
            if not json:
                _show(planned)
            terminal.confirm(f"Apply this in the {planned['environment']} account of Stripe?", yes)
        done = server.request("POST", "/v1/stripe/apply")
    if json:
        terminal.show_json(done)
    elif done["changes"]:
        terminal.say(f"Stripe holds the catalog: {plural(len(done['changes']), 'change')} made.", "bold green")
    else:
        terminal.say("Nothing to change: Stripe holds the catalog.")


@app.command(epilog=examples("tollkeeper stripe doctor"))
def doctor(json: Json = False, verbose: Verbose = False) -> None:
    """Say what is wrong between this server and Stripe, and how to mend it.

    Looks at the key and what it may read, the webhook endpoint and its API version, and the catalog. Exit code 1 when something is wrong.
    """
    with connect(verbose, ASKING) as server:
        _show_findings(server.request("GET", "/v1/stripe/doctor"), json)


@app.command(epilog=examples("tollkeeper stripe probe"))
def probe(yes: Yes = False, json: Json = False, verbose: Verbose = False) -> None:
    """Ask a test account what Stripe's documents do not say for sure.

    Decimal and negative values of meters, the scope of identifiers, flat amounts without usage. Makes a few things of its own there and
    takes them away again; takes up to two minutes. Exit code 1 when Stripe does otherwise than Tollkeeper assumes.
    """
    terminal.confirm(
        "Make a meter, a product, a customer and a subscription in the test account, and remove them?", yes
    )
    with connect(verbose, ASKING) as server:
        _show_findings(server.request("POST", "/v1/stripe/probe"), json)


@app.command(
    "import",
    epilog=examples(
        "tollkeeper stripe import",
        "tollkeeper stripe import --price price_1SXk=pro --id-from metadata.user_id",
    ),
)
def import_(
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="PRICE=PLAN", help="A price of Stripe that is of a plan of ours.", show_default=False),
    ] = None,
    id_from: Annotated[
        str, typer.Option(metavar="WHERE", help="Our id of a customer: stripe, email, or metadata.NAME.")
    ] = "stripe",
    yes: Yes = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Take over the customers and running subscriptions that Stripe has already.

    Shows what would be done, and asks. What customers pay stays as it is; what they may do is what the plan says. Exit code 1 when some
    were skipped.
    """
    prices: dict[str, str] = {}
    for one in price or ():
        name, mark, plan = one.partition("=")
        if not (name and mark and plan):
            raise terminal.Stop(f"--price {one}: expected PRICE=PLAN, such as price_1SXk=pro", exit_code=2)
        prices[name] = plan
    wanted = {"prices": prices, "id_from": id_from}
    with connect(verbose, ASKING) as server:
        found = server.request("POST", "/v1/stripe/import", {**wanted, "dry_run": True})
        if found["adopted"] or found["known"]:
            if not json:
                _show_adoptions(found)
            terminal.confirm(f"Take over {plural(found['adopted'], 'subscription')}?", yes)
            found = server.request("POST", "/v1/stripe/import", {**wanted, "dry_run": False})
        elif not json:
            _show_adoptions(found)
    if json:
        terminal.show_json(found)
    else:
        terminal.say(
            f"{found['adopted']} taken over, {found['known']} known before, {found['skipped']} skipped.",
            "bold green" if not found["skipped"] else "",
        )
    if found["skipped"]:
        raise typer.Exit(1)


def _show_adoptions(found: dict[str, Any]) -> None:
    made = terminal.table("SUBSCRIPTION", "CUSTOMER", "NAME", "PLAN", "", whole=("SUBSCRIPTION",))
    for one in found["subscriptions"]:
        terminal.add_row(
            made, one["subscription"], one["customer"], one["name"], one["plan"] or "", one["why"] or one["verdict"]
        )
    terminal.show_table(made)


def _show_findings(found: dict[str, Any], json: bool) -> None:
    if json:
        terminal.show_json(found)
    else:
        for finding in found["findings"]:
            word, style = _VERDICTS[finding["verdict"]]
            terminal.say(f"{word:<7} {finding['name']}: {finding['detail']}", style if word != "ok" else "")
            if finding["mend"]:
                terminal.say(f"        → {finding['mend']}")
    if not found["healthy"]:
        raise typer.Exit(1)


@app.command(epilog=examples("tollkeeper stripe webhook", "tollkeeper stripe webhook --write-env"))
def webhook(
    write: Annotated[bool, typer.Option("--write-env", help="Write the secret to .env here.")] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make the webhook endpoint at Stripe, or bring its events up to date.

    It sends to /webhooks/stripe of TOLLKEEPER_PUBLIC_URL, as does an event destination that tells of usage which Stripe throws away. Each
    has a signing secret, shown once: STRIPE_WEBHOOK_SECRET holds both, with a comma between.
    """
    with connect(verbose, ASKING) as server:
        made = server.request("POST", "/v1/stripe/webhook")
    secret = made["secret"]
    if secret and write:
        from tollkeeper.dotenv import read_env, write_env

        path = load_settings().env_path
        before = read_env(path).get("STRIPE_WEBHOOK_SECRET", ("", ""))[0]
        write_env(path, "STRIPE_WEBHOOK_SECRET", ",".join(part for part in (before, secret) if part))
        made = {**made, "secret": None}
        terminal.note(f"The signing secret was written to {path}. Start the server again.")
    if json:
        terminal.show_json(made)
    elif made["secret"]:
        terminal.say(f"{made['id']} sends what is needed. What was made just now signs with, shown this once:")
        terminal.say(f"STRIPE_WEBHOOK_SECRET={secret}")
        terminal.note("Put it into .env, after what stands there and a comma, and start the server again.")
    else:
        terminal.say(f"{made['id']} sends what is needed.", "bold green")


def _show(planned: dict[str, Any]) -> None:
    for change in planned["changes"]:
        sign, style = _SIGNS[change["action"]]
        terminal.say(f"{sign} {change['kind']} {change['key']}", style)
    if not planned["changes"]:
        terminal.say(f"Nothing to change: Stripe holds the catalog ({plural(planned['kept'], 'object')}).")
    for one in planned["rated_here"]:
        terminal.note(
            f"{one['plan']}@{one['version']}/{one['price']} is rated here and put on Stripe's invoice: {one['reason']}."
        )
