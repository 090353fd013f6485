"""docs/how-to/webhooks.md, followed."""

from __future__ import annotations

import json
import re
from pathlib import Path

from proxy.commands import free_port, run, running

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "webhooks.md").read_text()
COMMANDS = [
    line.split()[1:] for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    port = str(free_port())
    env = {
        "PORT": port,
        "TOLLKEEPER_URL": f"http://127.0.0.1:{port}",
        "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests",
        "STRIPE_WEBHOOK_SECRET": "whsec_new,whsec_old",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
    setup, trigger, list_, show, replay, replay_dead = COMMANDS
    assert setup == ["stripe", "webhook", "--write-env"]  # needs an account; its own test has one

    def do(words: list[str], event: str = "") -> str:
        done = run(tmp_path, *(event if word == "$EVENT" else word for word in words))
        assert done.returncode == 0, done.stderr
        return done.stdout

    with running(tmp_path, "serve") as server:
        server.until("listens on")
        event = do(trigger).split()[0]
        [listed] = json.loads(do([*list_, "--json"]))["data"]
        assert (listed["id"], listed["type"], listed["object"]) == (event, "invoice.paid", "in_1")
        assert (listed["status"], listed["environment"]) == ("pending", "test")
        assert event in do(list_)
        shown = do(show, event)
        assert "pending" in shown
        assert '"livemode": false' in shown
        assert json.loads(json.loads(do([*show, "--json"], event))["payload"])["id"] == event
        assert do(replay, event) == f"{event} is pending. See: tollkeeper webhooks show {event}\n"
        assert do(replay_dead) == "0 webhooks made pending again.\n"
        assert server.stop() == 0
        assert server.troubles() == []


def test_an_event_signed_with_a_secret_that_the_server_does_not_have_is_refused(tmp_path: Path) -> None:
    port = str(free_port())
    env = {
        "PORT": port,
        "TOLLKEEPER_URL": f"http://127.0.0.1:{port}",
        "TOLLKEEPER_ADMIN_TOKEN": "admin-token-of-the-tests",
    }
    with running(tmp_path, "serve", **env, STRIPE_WEBHOOK_SECRET="whsec_one") as server:
        server.until("listens on")
        other = run(tmp_path, "webhooks", "trigger", "invoice.paid", **env, STRIPE_WEBHOOK_SECRET="whsec_two")
        assert other.returncode == 2
        assert "webhook_invalid" in other.stderr
        none = run(tmp_path, "webhooks", "trigger", "invoice.paid", **env, STRIPE_WEBHOOK_SECRET="")
        assert none.returncode == 2
        assert "STRIPE_WEBHOOK_SECRET is not set" in none.stderr
        wrong = run(tmp_path, "webhooks", "replay", **env)
        assert wrong.returncode == 2
        missing = run(tmp_path, "webhooks", "show", "evt_none", **env)
        assert (missing.returncode, "not_found" in missing.stderr) == (1, True)
        assert server.stop() == 0
