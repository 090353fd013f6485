"""The server that is killed: settings from a folder's `.env`, small runs of ids so that they are written and merged all the time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tollkeeper.server import serve
from tollkeeper.settings import Settings
from tollkeeper.storage.sql.usage.random_ids import RandomIds


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    RandomIds.__init__.__kwdefaults__["flush_at"] = 256  # type: ignore[index]
    serve(Settings.load({}, Path(sys.argv[1])), say)
