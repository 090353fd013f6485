"""docs/how-to/reserve.md, followed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from proxy.commands import curl, free_port, run, running
from tollkeeper import Gate

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "reserve.md").read_text()
[PROXIED] = re.findall(r"## In the proxy\n(.*?)\n## ", PAGE, re.DOTALL)
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.replace(PROXIED, ""), re.DOTALL)
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


class Model(BaseHTTPRequestHandler):
    """An API that tells what it used, and knows nothing of the gate."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"text":"four","usage":{"total_tokens":1250}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_in_the_proxy(tmp_path: Path) -> None:
    (tmp_path / "tollkeeper.toml").write_text(CATALOG)
    blocks = re.findall(r"```(\w+)\n(.*?)```", PROXIED, re.DOTALL)
    start, *commands = [text.strip() for language, text in blocks if language == "sh"]
    answers = [json.loads(text) for language, text in blocks if language == "json"]
    api = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    Thread(target=api.serve_forever, daemon=True).start()
    ports = {"3000": str(free_port()), "8080": str(free_port())}
    env = {"PORT": ports["3000"], "TOLLKEEPER_ADMIN_TOKEN": TOKEN}
    here = {**env, "TOLLKEEPER_URL": f"http://127.0.0.1:{ports['3000']}"}
    words = start.replace("localhost:8000", f"127.0.0.1:{api.server_port}").split()[1:]
    assert len(commands) == len(answers) == 2
    with api, running(tmp_path, *words, "--listen", ports["8080"], **env) as server:
        server.wait_for_port(ports["8080"])
        made = run(tmp_path, "customers", "create", "Ann", "--plan", "pro", "--json", **here)
        key = run(tmp_path, "keys", "create", "--customer", json.loads(made.stdout)["id"], "--json", **here)
        for command, answer in zip(commands, answers, strict=True):
            for port, real in ports.items():
                command = command.replace(f":{port}", f":{real}")
            told = curl(command, {"KEY": json.loads(key.stdout)["key"]}).json()
            assert answer.items() <= told.items(), told
        assert server.troubles() == []
        api.shutdown()


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
