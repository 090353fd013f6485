"""docs/how-to/sell.md, followed with the sandbox."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from proxy.commands import free_port, run, running
from selling.test_with_sandbox import CATALOG

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "sell.md").read_text()
COMMANDS = [
    shlex.split(line)[1:] for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
CARD = {
    "number": "4242 4242 4242 4242",
    "expiry": "12 / 40",
    "cvc": "123",
    "name": "Ada",
    "email": "a@b.example",
    "do": "pay",
}


def pay(url: str) -> None:
    with urlopen(url) as answer:
        shown = set(re.findall(r'name="([a-z_]+)"', answer.read().decode()))
    typed = {name: value for name, value in CARD.items() if name in shown}
    opener = Request(url, urlencode(typed).encode(), method="POST")
    with contextlib.suppress(OSError):  # it leads on to the page after the checkout, which need not be there
        urlopen(opener).close()


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    port, stripe = str(free_port()), str(free_port())
    env = {
        "PORT": port,
        "TOLLKEEPER_URL": f"http://127.0.0.1:{port}",
        "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests",
        "STRIPE_SECRET_KEY": "sk_test_anything",
        "STRIPE_API_BASE": f"http://127.0.0.1:{stripe}",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    (tmp_path / "tollkeeper.toml").write_text(CATALOG)
    sandbox, apply, create, checkout, show, invoices, change, pause, resume, cancel = COMMANDS

    def do(words: list[str]) -> str:
        done = run(tmp_path, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def until(words: list[str], path: tuple[str, ...], wanted: object) -> None:
        """The plan follows from the provider's events, which are read every two seconds."""
        for _ in range(100):
            found = json.loads(do([*words, "--json"]))
            for name in path:
                found = found[name] if found is not None else None
            if found == wanted:
                return
        raise AssertionError(found)

    sandbox[2] = f"127.0.0.1:{stripe}"
    with running(tmp_path, *sandbox) as other, running(tmp_path, "serve") as server:
        other.wait_for_port(stripe)
        server.until("listens on")
        do(apply)
        do(create)
        made = json.loads(do([*checkout, "--json"]))
        pay(made["url"])
        until(show, ("subscription", "plan"), "pro")
        [listed] = json.loads(do([*invoices, "--json"]))["data"]
        assert (listed["status"], listed["total"]) == ("paid", "30.00")
        assert "max v1, active" in do(change)
        assert "paused" in do(pause)
        assert "max v1, active" in do(resume)
        assert "free v1, active" in do(cancel)
        assert server.stop() == 0
        assert server.troubles() == []
