"""`tollkeeper` alone on a terminal: what do you want to do? It runs the command that it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.options import command_line


class Choice(NamedTuple):
    """One line of the guide. `ask`: questions and options whose answers end the command; a blank answer leaves an option out.

    Without an option the answer is needed: a blank one leads back to the choices.
    """

    what: str
    words: tuple[str, ...]
    ask: tuple[tuple[str, str], ...] = ()


CHOICES = (
    Choice("Try it: a priced example API, ready to call", ("demo",)),
    Choice("Price an API that I run already", ("wrap",), (("Where it answers, such as http://localhost:8000", ""),)),
    Choice(
        "See what a price would have earned, from my access logs",
        ("whatif",),
        (
            ("Log, such as /var/log/nginx/access.log", ""),
            ("Price of each call (blank: the catalog's plans)", "--price"),
        ),
    ),
    Choice("Start a catalog of my own", ("init",)),
    Choice("Create a customer", ("customers", "create"), (("Name of the customer", ""), ("Plan", "--plan"))),
    Choice("Make a key for a customer", ("keys", "create"), (("Id of the customer", "--customer"),)),
    Choice("See who the customers are", ("customers", "list")),
    Choice("Look at usage", ("usage",), (("Meter (blank when there is one)", "--meter"),)),
    Choice("See whether the server is well", ("status",)),
    Choice("Read the help", ("--help",)),
)

QUESTION = "What do you want to do? (number, blank to leave)"


def run(command: Callable[[Sequence[str]], int]) -> None:
    """Ask, show the command, run it, and ask again, until a blank answer."""
    terminal.say("Tollkeeper: a price, a gate and an exact meter for what you have already built.", "bold")
    while True:
        terminal.say()
        for number, choice in enumerate(CHOICES, 1):
            terminal.console().print(terminal.styled(f" {number} ", "bold cyan") + terminal.styled(f" {choice.what}"))
        try:
            answer = typer.prompt(QUESTION, default="", show_default=False, err=True).strip()
        except typer.Abort:  # Ctrl-D or Ctrl-C leaves as a blank does
            terminal.note("")
            return
        if not answer or answer in ("q", "quit", "exit"):
            return
        if not (answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(CHOICES)):
            terminal.show_error(f"{answer!r} is not a number from 1 to {len(CHOICES)}")
            continue
        words = _words(CHOICES[int(answer) - 1])
        if words is None:
            continue
        terminal.note(f"\n$ {command_line(words)}")
        command(words)


def _words(choice: Choice) -> list[str] | None:
    words = list(choice.words)
    for question, option in choice.ask:
        answer = typer.prompt(question, default="", show_default=False, err=True).strip()
        if answer and option:
            words += [option, answer]
        elif answer:
            words.append(answer)
        elif not option:
            return None
    return words
