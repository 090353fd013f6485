"""What people see: data on stdout, everything else on stderr, colours only on a terminal and never with NO_COLOR."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class Stop(Exception):
    """A command ends here: what and where, how to mend it, and the exit code (1: a negative answer, 2: usage)."""

    def __init__(self, message: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def console(*, stderr: bool = False) -> Console:
    """A console on the present stdout or stderr. Piped, lines are not wrapped."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, soft_wrap=not stream.isatty(), width=None if stream.isatty() else 240)


def styled(text: str, style: str = "") -> Any:
    """Text as it is, whatever brackets it holds."""
    from rich.text import Text

    return Text(text, style=style)


def say(text: str = "", style: str = "") -> None:
    """A line of data, on stdout."""
    console().print(styled(text, style))


def note(text: str, style: str = "dim") -> None:
    """A line for the person, on stderr, so that stdout stays clean for the next command."""
    console(stderr=True).print(styled(text, style))


def warn(text: str) -> None:
    console(stderr=True).print(styled("warning: ", "bold yellow") + styled(text))


def show_error(message: str, *more: str) -> None:
    """`error: what, where`, then how to mend it, each on its own line of stderr."""
    screen = console(stderr=True)
    screen.print(styled("error: ", "bold red") + styled(message))
    for line in more:
        if line:
            screen.print(styled(f"  {line}"))


def show_json(value: Any) -> None:
    """JSON for the next program: letters as they are where stdout can hold them, escaped elsewhere."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=not is_utf8) + "\n")


def table(*headings: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    """An empty table without borders. `right`: headings of numbers; `whole`: headings of what is copied, so never cut."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim", highlight=False)
    for heading in headings:
        kept = heading in whole or heading in right
        made.add_column(heading, justify="right" if heading in right else "left", no_wrap=kept, overflow="fold")
    return made


def add_row(to: Table, *cells: str | Any) -> None:
    """A row of plain text: brackets in a customer's name are no markup."""
    to.add_row(*[styled(cell) if isinstance(cell, str) else cell for cell in cells])


def show_table(made: Table) -> None:
    """Print without the spaces that pad the last column."""
    screen = console()
    with screen.capture() as captured:
        screen.print(made)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def show_fields(pairs: Sequence[tuple[str, str | Any]]) -> None:
    """A thing by its fields, one a line; an empty one is left out."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, ""):
            add_row(made, name, value)
    show_table(made)


def draws(characters: str) -> bool:
    """Whether stdout is a terminal whose encoding has these characters."""
    if not sys.stdout.isatty():
        return False
    try:
        characters.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def interactive() -> bool:
    """Whether a person is there to answer and to read."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone. Raises Stop when the answer is no, or nobody is there to give one."""
    if yes:
        return
    if not interactive():
        raise Stop(f"this needs a yes: {question}", "Nobody is there to ask; give --yes.", 2)
    if not typer.confirm(question, err=True):
        raise Stop("stopped; nothing was changed")
