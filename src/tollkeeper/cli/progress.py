"""How far something long is, on a terminal; silence elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tollkeeper.cli import terminal

Told = Callable[[int, int], None]


@contextmanager
def bars(*texts: str) -> Iterator[tuple[Told, ...]]:
    """For each step a function to call with (done, of all), as often as one likes; its bar appears with the first call.

    Of 0: nobody knows of how many; the bar moves without an end.
    """
    screen = terminal.console(stderr=True)
    if not screen.is_terminal:
        yield tuple(_quiet for _ in texts)
        return
    from rich.progress import Progress

    with Progress(console=screen, transient=True) as progress:

        def step(text: str) -> Told:
            task = progress.add_task(text, total=None, visible=False)

            def told(done: int, of: int) -> None:
                progress.update(task, completed=done, total=of or None, visible=True)

            return told

        yield tuple(step(text) for text in texts)


def _quiet(done: int, of: int) -> None: ...
