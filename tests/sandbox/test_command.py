"""`tollkeeper sandbox` starts one that the official client can use, and says how."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import stripe

from tollkeeper.cli import main


def test_the_command_says_how_to_use_it_and_keeps_its_data(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tollkeeper",
        "sandbox",
        "--listen",
        "127.0.0.1:0",
        "--data",
        str(tmp_path / "s.db"),
    ]
    names = []
    for _ in range(2):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            found = re.search(r"listens on (http://\S+)", process.stderr.readline())
            assert found is not None
            assert f"STRIPE_API_BASE={found[1]}" in process.stderr.readline()
            client = stripe.StripeClient("sk_test_command1", base_addresses={"api": found[1]})
            client.v1.customers.create({"name": f"customer {len(names)}"})
            names.append([row.name for row in client.v1.customers.list().data])
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()
    assert names == [["customer 0"], ["customer 1", "customer 0"]]


def test_an_address_that_is_none_is_refused() -> None:
    assert main(["sandbox", "--listen", "somewhere"]) == 2
