"""Works on the inbox of a folder until nothing is left, and kills itself at a moment that the seed chooses. Exit code 0: all done."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

from inbox.desk import InboxDesk
from tollkeeper.core.inbox import InboxEvent


def main(folder: Path, seed: int) -> None:
    desk = InboxDesk(folder)
    chance = random.Random(seed)
    left = chance.randrange(1, 25)
    point = chance.choice(("fetch", "apply", "after"))

    def reached(here: str) -> None:
        nonlocal left
        if here == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def fetching(_: InboxEvent) -> None:
        reached("fetch")

    def applying(_: InboxEvent) -> None:
        reached("apply")

    desk.effect.on_fetch, desk.effect.on_apply = fetching, applying
    desk.effect.after = [lambda: reached("after")]
    desk.settle()
    desk.database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
