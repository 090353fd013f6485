"""docs/how-to/aggregations.md, followed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from proxy.commands import curl, free_port, run, running

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "aggregations.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
[CATALOG] = [text for language, text in BLOCKS if language == "toml"]
SEND, LOOK, COMMAND = [text.strip() for language, text in BLOCKS if language == "sh"]
SENT, GROUPS = [json.loads(text) for language, text in BLOCKS if language == "json"]
[PRINTED] = [text for language, text in BLOCKS if language == "text"]
VALUES = dict(re.findall(r"^\| `(\w+)` \| ([0-9.]+) \|", PAGE, re.MULTILINE))
TOKEN = "admin-token-of-the-tests"


def test_the_page_from_the_catalog_to_each_value(tmp_path: Path) -> None:
    (tmp_path / "tollkeeper.toml").write_text(CATALOG)
    port = str(free_port())
    env = {"PORT": port, "TOLLKEEPER_ADMIN_TOKEN": TOKEN}
    known = {"TOKEN": TOKEN}
    with running(tmp_path, "serve", **env) as server:
        server.wait_for_port(port)
        here = {**env, "TOLLKEEPER_URL": f"http://127.0.0.1:{port}", "PYTHONIOENCODING": "utf-8"}
        assert run(tmp_path, "catalog", "apply", "tollkeeper.toml", "--yes", **here).returncode == 0
        made = run(tmp_path, "customers", "create", "Acme", "--id", "acme", "--plan", "pro", **here)
        assert made.returncode == 0, made.stderr
        told = curl(SEND.replace(":3000", f":{port}"), known).json()
        assert SENT.items() <= told.items(), told
        told = curl(LOOK.replace(":3000", f":{port}"), known).json()
        assert (told["meter"], told["total"]) == (GROUPS["meter"], GROUPS["total"])
        assert [[row["group"], row["value"]] for row in told["data"]] == GROUPS["groups"]
        printed = run(tmp_path, *shlex.split(COMMAND)[1:], **here).stdout
        lines = [re.sub(r"\s*█*$", "", line) for line in PRINTED.splitlines()]
        assert [re.sub(r"\s*█*$", "", line) for line in printed.splitlines()[: len(lines)]] == lines
        assert len(VALUES) == CATALOG.count("[meters.")
        for meter, value in VALUES.items():
            address = f'"http://127.0.0.1:{port}/v1/usage?customer=acme&meter={meter}"'
            found = curl(f'curl -s {address} -H "Authorization: Bearer $TOKEN"', known).json()
            assert found["total"] == value, meter
