"""`demo`, `wrap` and `proxy` as a newcomer runs them: processes of their own, and the very commands they print."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx


@contextmanager
def running(folder: Path, *arguments: str, until: str) -> Iterator[str]:
    """What a command printed up to the line that holds `until`; stopped with SIGINT, and then it must have ended well."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TOLLKEEPER_", "STRIPE_"))} | {"PORT": "0"}
    child = subprocess.Popen(
        [sys.executable, "-m", "tollkeeper", *arguments],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.stdout is not None
    lines: list[str] = []
    for line in child.stdout:
        lines.append(line)
        if until in line:
            break
    try:
        assert lines, child.wait()
        assert until in lines[-1], "".join(lines)
        yield "".join(lines)
    finally:
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        child.stdout.close()
        assert child.wait(30) == 0


def curl(text: str, number: int) -> tuple[int, bytes]:
    """Carry out the `number`th printed curl command."""
    command = re.findall(r"curl (?:-i )?(.*)", text)[number]
    url = re.search(r"http://[^\s\"]+", command).group()  # type: ignore[union-attr]
    headers = dict(h.split(": ", 1) for h in re.findall(r'-H "([^"]+)"', command))
    return fetch(url, headers)


def fetch(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_demo_prints_three_commands_that_do_what_it_says(tmp_path: Path) -> None:
    totals = []
    keys = set()
    for _ in range(2):
        with running(tmp_path, "demo", "--listen", "127.0.0.1:0", until="Ctrl-C") as text:
            status, body = curl(text, 0)
            assert (status, json.loads(body)["code"]) == (401, "NOT_FOUND")
            status, body = curl(text, 1)
            assert (status, json.loads(body)["valid"]) == (200, True)
            status, body = curl(text, 2)
            assert status == 200
            totals.append(json.loads(body)["total"])
            keys |= set(re.findall(r"tk_test_\w+", text))
    assert totals == ["1", "2"]
    assert len(keys) == 1
    assert (tmp_path / "tollkeeper-demo" / "keys.json").stat().st_mode & 0o777 == 0o600


def buy(link: str) -> None:
    """Choose the plan on offer and pay it at the sandbox, as a browser does."""
    with httpx.Client(follow_redirects=True) as browser:
        checkout = browser.post(link, data={"plan": "pro"})
        shown = set(re.findall(r'name="([a-z_]+)"', checkout.text))
        typed = {
            "email": "ada@example.com",
            "number": "4242 4242 4242 4242",
            "name": "Ada",
            "expiry": "12 / 34",
            "cvc": "123",
            "do": "pay",
        }
        done = browser.post(checkout.url, data={name: value for name, value in typed.items() if name in shown})
        assert done.status_code == 200
        assert "/done" in str(done.url)


def printed(text: str, words: str, folder: Path) -> str:
    """What the printed command that holds these words says on standard output."""
    command = next(line.strip() for line in text.splitlines() if words in line)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TOLLKEEPER_", "STRIPE_"))} | {"COLUMNS": "200"}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done
    return done.stdout


def until_bought(call: Callable[[], int]) -> None:
    """Ask until the plan holds: the webhook comes by itself."""
    deadline = time.monotonic() + 30
    while call() != 200:
        assert time.monotonic() < deadline


def until_the_next_second() -> None:
    now = int(time.time())
    while int(time.time()) == now:
        pass


def until_paid(text: str, folder: Path) -> str:
    """The list of invoices once both are paid: their webhooks come by themselves."""
    deadline = time.monotonic() + 30
    while (listed := printed(text, "invoices list", folder)).count(" paid ") < 2:
        assert time.monotonic() < deadline, listed
    return listed


def test_the_demo_goes_from_a_refused_call_to_a_paid_invoice(tmp_path: Path) -> None:
    with running(tmp_path, "demo", "--listen", "127.0.0.1:0", until="Ctrl-C") as text:
        link = None
        while link is None:  # the first refusals may be those of the limit, which passes by itself
            status, body = curl(text, 1)
            link = json.loads(body).get("checkout_url") if status == 429 else None
        assert link in text
        until_the_next_second()  # a period begins with its second, and would have the free calls of that second
        buy(link)
        until_bought(lambda: curl(text, 1)[0])
        assert [curl(text, 1)[0] for _ in range(11)] == [200] * 11
        until_the_next_second()  # a contract that began and ended in one second has no period
        printed(text, "subscriptions cancel", tmp_path)
        # twelve calls since the purchase: ten are included, each other one is 0.05
        listed = until_paid(text, tmp_path)
        assert "9.00 USD" in listed
        assert "0.10 USD" in listed, listed


class Upstream(BaseHTTPRequestHandler):
    seen: list[dict[str, str]] = []  # noqa: RUF012 - one list for all, on purpose

    def do_GET(self) -> None:
        Upstream.seen.append({k.lower(): v for k, v in self.headers.items()})
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def upstream() -> Iterator[str]:
    Upstream.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_wrap_prices_an_api_that_knows_nothing_of_it(tmp_path: Path) -> None:
    with upstream() as api:
        arguments = ("wrap", api, "--free", "3", "--price", "0.01", "--currency", "eur", "--listen", "127.0.0.1:0")
        with running(tmp_path, *arguments, until="/v1/usage") as text:
            key = re.search(r"tk_live_\w+", text).group()  # type: ignore[union-attr]
            proxy = re.search(r"gate on (http://\S+)", text).group(1)  # type: ignore[union-attr]
            bearer = {"Authorization": f"Bearer {key}"}
            assert fetch(f"{proxy}/", {})[0] == 401
            assert curl(text, 0) == (200, b"ok")
            assert fetch(f"{proxy}/missing", bearer)[0] == 404  # not a success, so not counted
            assert [fetch(f"{proxy}/", bearer)[0] for _ in range(3)] == [200, 200, 429]
            assert json.loads(curl(text, 1)[1])["total"] == "3"
        asked, *passed = Upstream.seen  # the first asked whether anybody is there
        assert "x-tollkeeper-customer" not in asked
        assert len(passed) == 4
        assert all("authorization" not in headers and headers["x-tollkeeper-customer"] == "first" for headers in passed)
        written = (tmp_path / "tollkeeper.toml").read_text()
        assert 'currency = "eur"' in written
        with running(
            tmp_path, "wrap", api, "--free", "9", "--listen", "127.0.0.1:0", until="tollkeeper keys create"
        ) as text:
            assert "used as it is" in text
            assert key not in text
        assert (tmp_path / "tollkeeper.toml").read_text() == written


def test_wrap_reaches_a_paid_invoice_for_an_api_of_ones_own(tmp_path: Path) -> None:
    with upstream() as api:
        arguments = ("wrap", api, "--free", "0", "--price", "0.5", "--fee", "3", "--listen", "127.0.0.1:0")
        with running(tmp_path, *arguments, until="For real money") as text:
            buy(re.search(r"http://\S+/buy/\S+", text).group())  # type: ignore[union-attr]
            server = re.search(r"listens on (http://[^\s,]+)", text).group(1)  # type: ignore[union-attr]
            until_bought(lambda: 200 if " paid " in printed(text, "invoices list", tmp_path) else 402)
            assert [curl(text, 2)[0] for _ in range(2)] == [200, 200]
            until_the_next_second()
            printed(text, "subscriptions cancel", tmp_path)
            assert "1.00 USD" in until_paid(text, tmp_path)
            assert server in text


def test_wrap_goes_on_when_nothing_answers_yet_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path, "wrap", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", until="/v1/usage") as text:
        assert "Nothing answers at http://127.0.0.1:9 yet" in text
        assert curl(text, 0)[0] == 502
        assert json.loads(curl(text, 1)[1])["total"] == "0"


def test_a_wrong_upstream_meter_or_address_is_named_and_nothing_starts(tmp_path: Path) -> None:
    for arguments, fault in (
        (("wrap", "localhost:8000"), "upstream"),
        (("proxy", "--upstream", "http://127.0.0.1:9", "--meter", "nothing"), "There is no catalog"),
        (("wrap", "http://127.0.0.1:9", "--listen", "here"), "--listen"),
        (("wrap", "http://127.0.0.1:9", "--price", "cheap"), "price"),
    ):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("TOLLKEEPER_", "STRIPE_"))} | {"PORT": "0"}
        command = [sys.executable, "-m", "tollkeeper", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode in (1, 2), done
        assert fault in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "tollkeeper.db").exists()
