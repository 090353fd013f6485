"""`python -m tollkeeper` is the command `tollkeeper`."""

from __future__ import annotations

import sys

from tollkeeper.cli import main

if __name__ == "__main__":
    sys.exit(main())
