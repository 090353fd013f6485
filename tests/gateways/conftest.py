"""An API that knows nothing of the gate, a Tollkeeper, and a gateway between a caller and the API."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateways.parts import part
from proxy.commands import Answer, Running, curl, free_port, run, running, started

DOCS = Path(__file__).parents[2] / "docs" / "how-to"
TOKEN = "admin-token-of-the-tests"
CATALOG = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[meters.searches]
event_type = "search"
aggregation = "count"
[plans.free]
quotas = [{meter = "api_calls", limit = "5", kind = "hard"}]
limits = [{name = "minute", limit = 1000, window_seconds = 60}]
[plans.open]
quotas = [{meter = "api_calls", limit = "5", kind = "soft"}]
"""


class Api(ThreadingHTTPServer):
    """Answers /status/NNN with that status, anything else with 200; `seen` are the heads it got."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status = int(self.path.rpartition("/")[2]) if self.path.startswith("/status/") else 200
        body = b"" if status == 204 else b'{"hello":"world"}'
        self.send_response(status)
        if body:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


class Behind:
    """Everything up. `call` asks the gateway."""

    def __init__(self, folder: Path, kind: str, change: Callable[[str], str]) -> None:
        self.folder = folder
        self.kind = kind
        self.change = change
        self.toll_port, self.port = str(free_port()), str(free_port())
        self.env = {"PORT": self.toll_port, "TOLLKEEPER_ADMIN_TOKEN": TOKEN}
        self.here = {**self.env, "TOLLKEEPER_URL": f"http://127.0.0.1:{self.toll_port}"}
        self.api = Api()
        self.key = self.customer = ""
        self.server: Running

    def new_customer(self, plan: str) -> tuple[str, str]:
        """The id, and a key."""
        made = run(self.folder, "customers", "create", "Ann", "--plan", plan, "--json", **self.here)
        customer: str = json.loads(made.stdout)["id"]
        return customer, self.new_key(customer)

    def new_key(self, customer: str, *options: str) -> str:
        made = run(self.folder, "keys", "create", "--customer", customer, *options, "--json", **self.here)
        key: str = json.loads(made.stdout)["key"]
        return key

    @contextmanager
    def restarted(self) -> Iterator[None]:
        """The server again, on the files it had."""
        with running(self.folder, "serve", **self.env) as self.server:
            self.server.wait_for_port(self.toll_port)
            yield

    def page(self) -> str:
        text = (DOCS / f"{self.kind}.md").read_text()
        for port, real in (("3000", self.toll_port), ("8080", self.port), ("8000", str(self.api.server_port))):
            text = re.sub(rf":{port}\b", f":{real}", text)
        return text

    def config(self) -> str:
        return self.change(self.blocks()[0])

    def blocks(self) -> list[str]:
        """The page's blocks of configuration; the first is the whole, what follows are changes to it."""
        return re.findall(rf"```{self.kind}\n(.*?)```", self.page(), re.DOTALL)

    def command(self) -> list[str]:
        if self.kind == "nginx":
            logs = f"error_log {self.folder}/error.log;\npid {self.folder}/nginx.pid;\n"
            temps = "".join(
                f"{name}_temp_path {self.folder}/{name};\n"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            text = f"daemon off;\nmaster_process off;\n{logs}events {{}}\nhttp {{\n{temps}{self.config()}}}\n"
            path = self.folder / "nginx.conf"
            path.write_text(text.replace("access_log access.log", f"access_log {self.folder}/access.log"))
            return [part("nginx", "nginx-light"), "-p", str(self.folder), "-c", str(path)]
        path = self.folder / "Caddyfile"
        off = "{\n\tadmin off\n\tauto_https off\n}\n"
        path.write_text(off + self.config().replace("output file access.log", f"output file {self.folder}/access.log"))
        return [part("caddy", "caddy"), "run", "--config", str(path), "--adapter", "caddyfile"]

    def call(self, path: str = "/hello", *headers: str, method: str = "GET") -> Answer:
        line = f"curl -X {method} http://127.0.0.1:{self.port}{path}"
        return curl(line + "".join(f" -H '{header}'" for header in headers))

    def allowed(self, path: str = "/hello", *headers: str, method: str = "GET") -> Answer:
        return self.call(path, f"Authorization: Bearer {self.key}", *headers, method=method)

    def used(self, meter: str = "api_calls") -> str:
        answer = run(self.folder, "usage", self.customer, "--meter", meter, "--json", **self.here)
        assert answer.returncode == 0, answer.stderr
        total: str = json.loads(answer.stdout)["total"]
        return total


def settle(up: Behind, code: int = 0) -> dict[str, int]:
    """What `tollkeeper settle` told, which ended with `code`."""
    answer = run(up.folder, "settle", "access.log", "--json", **up.here)
    assert answer.returncode == code, answer.stderr
    told: dict[str, int] = json.loads(answer.stdout)
    return told


@contextmanager
def behind(
    folder: Path, kind: str, change: Callable[[str], str] = lambda text: text, plan: str = "free"
) -> Iterator[Behind]:
    made = Behind(folder, kind, change)
    with ExitStack() as stack:
        stack.callback(made.api.server_close)
        stack.callback(made.api.shutdown)
        threading.Thread(target=made.api.serve_forever, daemon=True).start()
        (folder / "tollkeeper.toml").write_text(CATALOG)
        made.server = stack.enter_context(running(folder, "serve", **made.env))
        made.server.wait_for_port(made.toll_port)
        assert run(folder, "catalog", "apply", "tollkeeper.toml", "--yes", **made.here).returncode == 0
        made.customer, made.key = made.new_customer(plan)
        gateway = stack.enter_context(started(made.command(), folder, HOME=str(folder)))
        gateway.wait_for_port(made.port)
        yield made


@pytest.fixture(params=["nginx", "caddy"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
