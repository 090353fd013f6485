"""docs/how-to/reserve.md, followed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.commands import curl, free_port, run, running
from tollkeeper import Gate

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "reserve.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
[CATALOG] = [text for language, text in BLOCKS if language == "toml"]
[PROGRAM] = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [text.strip() for language, text in BLOCKS if language == "sh"]
ANSWERS = [json.loads(text) for language, text in BLOCKS if language == "json"]

TOKEN = "admin-token-of-the-tests"


def test_over_http(tmp_path: Path) -> None:
    (tmp_path / "tollkeeper.toml").write_text(CATALOG)
    port = str(free_port())
    env = {"PORT": port, "TOLLKEEPER_ADMIN_TOKEN": TOKEN}
    with running(tmp_path, "serve", **env) as server:
        server.wait_for_port(port)
        here = {**env, "TOLLKEEPER_URL": f"http://127.0.0.1:{port}"}
        assert run(tmp_path, "catalog", "apply", "tollkeeper.toml", "--yes", **here).returncode == 0
        made = run(tmp_path, "customers", "create", "Ann", "--plan", "pro", "--json", **here)
        key = run(tmp_path, "keys", "create", "--customer", json.loads(made.stdout)["id"], "--json", **here)
        known = {"TOKEN": TOKEN, "KEY": json.loads(key.stdout)["key"]}
        assert len(COMMANDS) == len(ANSWERS) == 3
        for command, answer in zip(COMMANDS, ANSWERS, strict=True):
            told = curl(command.replace(":3000", f":{port}"), known).json()
            assert answer.items() <= told.items(), told
            known["RESERVATION"] = told.get("reservation", known.get("RESERVATION", ""))


def test_in_a_program(tmp_path: Path) -> None:
    def answer(prompt: str) -> Iterator[str]:
        yield from prompt.split()

    scope: dict[str, Any] = {"answer": answer}
    exec(PROGRAM, scope)
    catalog = tmp_path / "tollkeeper.toml"
    catalog.write_text(CATALOG)
    with Gate.open(str(tmp_path / "toll.db"), catalog=catalog) as gate:
        customer = gate.toll.customers.create("cus", "Ann", plan="pro").customer.id
        key = gate.toll.keys.create(customer).key
        assert list(scope["complete"](gate, key, "one two three")) == ["one", "two", "three"]
        broken = scope["complete"](gate, key, "one two three")
        next(broken)
        broken.close()
        assert gate.usage("tokens", customer=customer).total == "4"
        assert gate.check(key, "tokens", 0).quota.remaining == "99996"  # type: ignore[union-attr]
