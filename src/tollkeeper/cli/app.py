"""Every command in the order in which help shows it, and what happens when one fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from tollkeeper import __version__
from tollkeeper.cli import (
    backup,
    catalog,
    check,
    checkout,
    corrections,
    cost,
    customers,
    demo,
    drift,
    events,
    events_import,
    export,
    guide,
    init,
    invoices,
    keys,
    keys_import,
    openapi,
    outbox,
    proxy,
    rate,
    restore,
    sandbox,
    serve,
    settle,
    shadow,
    status,
    stripe,
    subscriptions,
    terminal,
    usage,
    verify,
    webhooks,
    whatif,
    wrap,
)
from tollkeeper.cli.options import LOOK, OPERATE, SELL, START, examples

if TYPE_CHECKING:
    from tollkeeper.client import ApiError

app = typer.Typer(
    name="tollkeeper",
    help="A price, a gate and an exact meter for what you have already built.",
    epilog=examples(
        "tollkeeper init && tollkeeper serve  # a catalog of your own, and its server",
        "tollkeeper usage acme  # what a customer used",
    ),
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"tollkeeper {__version__}\n")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        if terminal.interactive() and sys.stdout.isatty():
            guide.run(main)
        else:
            context.get_help()  # prints it


app.command("demo", rich_help_panel=START, epilog=demo.EXAMPLES)(demo.demo)
app.command("whatif", rich_help_panel=START, epilog=whatif.EXAMPLES)(whatif.whatif)
app.command("wrap", rich_help_panel=START, epilog=wrap.EXAMPLES)(wrap.wrap)
app.command("init", rich_help_panel=START, epilog=init.EXAMPLES)(init.init)
app.command("serve", rich_help_panel=START, epilog=serve.EXAMPLES)(serve.serve)
app.command("proxy", rich_help_panel=START, epilog=proxy.EXAMPLES)(proxy.proxy)
app.command("sandbox", rich_help_panel=START, epilog=sandbox.EXAMPLES)(sandbox.sandbox)
app.add_typer(catalog.app, name="catalog", rich_help_panel=SELL)
events.app.command("import", epilog=events_import.EXAMPLES)(events_import.import_)
events.app.command("void", epilog=corrections.VOID_EXAMPLES)(corrections.void)
events.app.command("amend", epilog=corrections.AMEND_EXAMPLES)(corrections.amend)
events.app.command("corrections", epilog=corrections.TRAIL_EXAMPLES)(corrections.corrections)
keys.app.command("import", epilog=keys_import.EXAMPLES)(keys_import.import_)
customers.app.command("cost", epilog=cost.EXAMPLES)(cost.cost)
app.add_typer(customers.app, name="customers", rich_help_panel=SELL)
app.add_typer(keys.app, name="keys", rich_help_panel=SELL)
app.add_typer(stripe.app, name="stripe", rich_help_panel=SELL)
app.command("checkout", rich_help_panel=SELL, epilog=checkout.EXAMPLES)(checkout.checkout)
app.command("portal", rich_help_panel=SELL, epilog=checkout.PORTAL_EXAMPLES)(checkout.portal)
app.add_typer(subscriptions.app, name="subscriptions", rich_help_panel=SELL)
app.add_typer(invoices.app, name="invoices", rich_help_panel=SELL)
app.command("rate", rich_help_panel=SELL, epilog=rate.EXAMPLES)(rate.rate)
app.command("check", rich_help_panel=OPERATE, epilog=check.EXAMPLES)(check.check)
app.add_typer(events.app, name="events", rich_help_panel=OPERATE)
app.command("settle", rich_help_panel=OPERATE, epilog=settle.EXAMPLES)(settle.settle)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=OPERATE)
app.add_typer(outbox.app, name="outbox", rich_help_panel=OPERATE)
app.command("drift", rich_help_panel=OPERATE, epilog=drift.EXAMPLES)(drift.drift)
app.command("openapi", rich_help_panel=OPERATE, epilog=openapi.EXAMPLES)(openapi.openapi)
app.command("backup", rich_help_panel=OPERATE, epilog=backup.EXAMPLES)(backup.backup)
app.command("restore", rich_help_panel=OPERATE, epilog=restore.EXAMPLES)(restore.restore)
app.command("verify", rich_help_panel=OPERATE, epilog=verify.EXAMPLES)(verify.verify)
app.add_typer(export.app, name="export", rich_help_panel=LOOK)
app.command("usage", rich_help_panel=LOOK, epilog=usage.EXAMPLES)(usage.usage)
app.command("shadow", rich_help_panel=LOOK, epilog=shadow.EXAMPLES)(shadow.shadow)
app.command("status", rich_help_panel=LOOK, epilog=status.EXAMPLES)(status.status)


def build() -> TyperGroup:
    """The command tree: panels in the order of a first week with it, and flags and lists without the word that they are such."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    panels = (START, SELL, OPERATE, LOOK)
    root.commands = dict(
        sorted(root.commands.items(), key=lambda item: panels.index(getattr(item[1], "rich_help_panel", "")))
    )
    _tidy(root)
    return root


def _tidy(command: Any) -> None:
    context = typer.Context(command, help_option_names=["-h", "--help"])
    for parameter in command.get_params(context):
        if getattr(parameter, "is_flag", False) or parameter.nargs == -1:
            parameter.display_type_rich = lambda ctx: None
    for child in getattr(command, "commands", {}).values():
        _tidy(child)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (None: this process's). Returns the exit code.

    0 success, 1 a negative answer, 2 usage, 3 the server is unreachable, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        for position, word in enumerate(words, 1):
            if not word.isprintable() and not _is_text(word):
                raise terminal.Stop(f"argument {position} is not UTF-8 text", exit_code=2)
        result = build().main(args=words, prog_name="tollkeeper", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return 1
    except Exception as fault:
        code = explain(fault, words)
        if code is None:
            raise
        return code
    return result if isinstance(result, int) else 0


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def explain(fault: Exception, words: Sequence[str] = ()) -> int | None:
    """Print what failed, where, and how to mend it. The exit code; None for a fault nobody foresaw, which keeps its traceback."""
    from tollkeeper.client import ApiError, Unreachable
    from tollkeeper.core.errors import CatalogInvalid, InvalidRequest, SettingsInvalid, TollkeeperError

    match fault:
        case terminal.Stop():
            terminal.show_error(fault.message, fault.hint)
            return fault.exit_code
        case typer.Abort():
            terminal.show_error("stopped; nothing was changed")
            return 1
        case typer.TyperException():
            context = getattr(fault, "ctx", None)
            if type(fault).__name__ == "NoArgsIsHelpError":  # its help is printed already
                return 2
            path = context.command_path if context else _command_path(words)
            terminal.show_error(fault.format_message().replace(": Value error, ", ": "), f"See: {path} --help")
            return fault.exit_code
        case Unreachable():
            terminal.show_error(
                str(fault), "Start the server with: tollkeeper serve", "Or name another: TOLLKEEPER_URL=https://…"
            )
            return 3
        case ApiError():
            _show_api_error(fault)
            return 2 if fault.status in (400, 413, 415, 422) and fault.code != CatalogInvalid.code else 1
        case TollkeeperError():
            for line in fault.detail.splitlines():
                terminal.show_error(line)
            return 2 if isinstance(fault, SettingsInvalid | InvalidRequest) else 1
    return None


def _command_path(words: Sequence[str]) -> str:
    """The command that the words name, for faults that do not tell."""
    path, command = "tollkeeper", build()
    for word in words:
        child = getattr(command, "commands", {}).get(word)
        if child is None:
            break
        path, command = f"{path} {word}", child
    return path


def _show_api_error(fault: ApiError) -> None:
    """The server's words; the faults one by one when there are several; how to mend a missing token; the request's id."""
    first, *more = fault.detail.splitlines() or [fault.code]
    errors = fault.problem.get("errors") or ()
    if len(errors) > 1 and not more:
        more = [f"{error.get('field')}: {error.get('message')}" for error in errors]
    if fault.status == 401:
        more.append("Set TOLLKEEPER_ADMIN_TOKEN, or run where `tollkeeper serve` wrote it to .env.")
    if fault.request_id:
        more.append(f"request {fault.request_id}")
    terminal.show_error(f"{first} ({fault.code})", *more)
