"""docs/how-to/stripe.md, followed with the sandbox."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from proxy.commands import free_port, run, running

from .conftest import CATALOG

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "stripe.md").read_text()
COMMANDS = [
    shlex.split(line)[1:] for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    port, stripe = str(free_port()), str(free_port())
    env = {
        "PORT": port,
        "TOLLKEEPER_URL": f"http://127.0.0.1:{port}",
        "TOLLKEEPER_PUBLIC_URL": "https://toll.example.com",
        "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests",
        "STRIPE_SECRET_KEY": "rk_test_anything",
        "STRIPE_API_BASE": f"http://127.0.0.1:{stripe}",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    (tmp_path / "tollkeeper.toml").write_text(CATALOG)
    doctor, plan, apply, webhook, take_over, probe = COMMANDS

    def do(words: list[str], expected: int = 0) -> str:
        done = run(tmp_path, *words)
        assert done.returncode == expected, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    with running(tmp_path, "sandbox", "--listen", f"127.0.0.1:{stripe}") as other:
        other.wait_for_port(stripe)
        with running(tmp_path, "serve") as server:
            server.until("listens on")
            said = do(doctor, expected=1)
            assert "→ tollkeeper stripe apply" in said
            assert "→ tollkeeper stripe webhook" in said
            planned = do(plan)
            assert "+ price pro@1/calls" in planned
            assert "custom@1/calls is rated here and put on Stripe's invoice: it has a minimum or a maximum." in planned
            assert "Stripe holds the catalog: 10 changes made." in do(apply)
            assert "Nothing to change" in do(apply)
            assert "STRIPE_WEBHOOK_SECRET=whsec_" in do(webhook)
            said = do(doctor, expected=1)
            assert "Set STRIPE_WEBHOOK_SECRET." in said
            assert "tollkeeper stripe apply" not in said
            assert "0 taken over, 0 known before, 0 skipped." in do(take_over)
            found = json.loads(do([*probe, "--json"]))
            assert (found["healthy"], len(found["findings"])) == (True, 7)
