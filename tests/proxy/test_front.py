"""`tollkeeper demo`, `wrap` and `proxy`: what they refuse, what they remember, where they stay. Their first use is in tests/cli."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.catalog import example_catalog
from tollkeeper.core.errors import InvalidRequest, SettingsInvalid
from tollkeeper.demo import demo, remembered_keys
from tollkeeper.demo_api import check_iban, text_statistics
from tollkeeper.first import FIRST_CUSTOMER
from tollkeeper.front import require_meters
from tollkeeper.web.listen import bind
from tollkeeper.web.proxy_options import ProxyOptions
from tollkeeper.web.rules import read_rules

from .commands import curl, free_port, run, running


def test_a_busy_port_is_named_with_the_way_to_another(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0, "--listen") as taken:
        port = taken.getsockname()[1]
        refused = run(tmp_path, "demo", "--listen", str(port), PORT="0")
        assert refused.returncode == 1
        assert f"127.0.0.1:{port} cannot be listened on" in refused.stderr
        assert "--listen" in refused.stderr
        assert refused.stdout == ""


def test_a_busy_port_does_not_use_up_the_keys_that_wrap_shows_once(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0, "--listen") as taken:
        port = str(taken.getsockname()[1])
        for busy in (
            run(tmp_path, "wrap", "http://127.0.0.1:9", "--listen", "0", PORT=port),
            run(tmp_path, "wrap", "http://127.0.0.1:9", "--listen", port, PORT="0"),
        ):
            assert busy.returncode == 1
            assert f"127.0.0.1:{port} cannot be listened on" in busy.stderr
            assert ("--port" in busy.stderr) != ("--listen" in busy.stderr)
    with running(tmp_path, "wrap", "http://127.0.0.1:9", "--listen", "0", PORT="0") as wrap:
        assert [line for line in wrap.until("/v1/usage") if line.startswith("  live  tk_live_")]


def test_wrap_lets_free_paths_through_and_ends_well_on_either_signal(tmp_path: Path) -> None:
    upstream = f"http://127.0.0.1:{free_port()}"
    with running(tmp_path, "wrap", upstream, "--free-path", "/health", "--listen", "0", PORT="0") as wrap:
        told = wrap.until("/v1/usage")
        call = next(line.strip() for line in told if line.startswith("  curl -i"))
        proxy = call.split()[2].rstrip("/")
        assert curl(f"curl {proxy}/health").json()["code"] == "upstream_unreachable"
        assert curl(f"curl {proxy}/healthy").json()["code"] == "NOT_FOUND"
        server = next(line for line in told if line.startswith("Tollkeeper listens on")).split()[3].rstrip(",")
        metrics = curl(f"curl {server}/metrics").body.decode()
        assert 'tollkeeper_proxy_requests_total{outcome="upstream_unreachable"} 1.0' in metrics
        assert 'route="proxy"' in metrics
        assert wrap.stop(signal.SIGTERM) == 0
        assert [line for line in wrap.troubles() if '"level":"error"' in line] == []
    assert not [line for line in told if "is used as it is" in line]
    with running(tmp_path, "wrap", upstream, "--listen", "0", PORT="0") as wrap:
        assert not [line for line in wrap.until("tollkeeper keys create") if "is used as it is" in line]
        assert wrap.stop(signal.SIGINT) == 0


def test_a_key_of_the_demo_that_stopped_working_is_replaced(tmp_path: Path) -> None:
    with Tollkeeper(str(tmp_path / "toll.db")) as toll:
        toll.catalog.apply(example_catalog())
        kept = tmp_path / "keys.json"
        first = remembered_keys(toll, kept)
        assert kept.stat().st_mode & 0o777 == 0o600
        assert remembered_keys(toll, kept) == first
        live = next(key for key in toll.keys.list(FIRST_CUSTOMER).items if key.environment == "live")
        toll.keys.revoke(live.id)
        second = remembered_keys(toll, kept)
        assert (second["live"] != first["live"], second["test"]) == (True, first["test"])
        for broken in ("{", "[]", json.dumps({"live": 1, "test": first["live"]})):
            kept.write_text(broken)
            assert remembered_keys(toll, kept)["live"].startswith("tk_live_")
        assert json.loads(kept.read_text()) == remembered_keys(toll, kept)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match="--folder"):
        demo({}, tmp_path / "file" / "demo", "0")


def test_an_iban_is_checked_by_its_digits_and_its_countrys_length() -> None:
    assert check_iban("GB82 WEST 1234 5698 7654 32")["valid"] is True
    assert check_iban("gb82-west-1234-5698-7654-32")["iban"] == "GB82 WEST 1234 5698 7654 32"
    wrong = [
        "GB82WEST12345698765433",
        "GB82WEST1234569876543",
        "XX82WEST12345698765432",
        "GB",
        "GB82WEST1234569876543٣",
    ]
    assert [check_iban(text)["valid"] for text in wrong] == [False] * 5


def test_a_text_is_counted() -> None:
    told = text_statistics("It’s a well-known fact. Is it?")
    assert (told["words"], told["sentences"], told["longest_word"]) == (6, 2, "well-known")
    assert set(text_statistics("").values()) == {0, ""}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["proxy"], "--upstream"),
        (["proxy", "--upstream", "localhost:8000"], "upstream: an address such as"),
        (["proxy", "--upstream", "http://a"], "There is no catalog yet"),
        (["proxy", "--upstream", "http://a", "--listen", "a:b"], "--listen: HOST:PORT is expected"),
        (["wrap", "http://a", "--listen", "a:b"], "--listen: HOST:PORT is expected"),
        (["demo", "--listen", "a:b"], "--listen: HOST:PORT is expected"),
        (["proxy", "--upstream", "http://a", "--cost", "x"], "quantity"),
        (["proxy", "--upstream", "http://a", "--free", "docs"], "path: a plain path"),
        (["proxy", "--upstream", "http://a", "--price", "/a"], "/path=meter"),
        (["proxy", "--upstream", "http://a", "--key-header", "X_A"], "key header"),
        (["proxy", "--upstream", "http://a", "--key-parameter", ""], "key parameter"),
        (["proxy", "--upstream", "http://a", "--trust-forwarded", "-1"], "trust-forwarded"),
        (["wrap", "http://a", "--free", "x"], "free: expected"),
        (["wrap", "http://a", "--free", "0", "--price", "0"], "nothing to sell"),
        (["wrap", "http://a", "--currency", "xyz"], "ISO 4217"),
        (["wrap", "http://a", "--free-path", "health"], "path: a plain path"),
    ],
)
def test_a_wrong_argument_is_named_and_changes_nothing(
    words: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tollkeeper.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert named in capsys.readouterr().err
    assert os.listdir() == []


def test_a_proxy_needs_meters_that_the_catalog_has(tmp_path: Path) -> None:
    options = ProxyOptions("http://a", read_rules("api_calls", "1", prices=["/b=other"]))
    with Tollkeeper(str(tmp_path / "toll.db")) as toll:
        with pytest.raises(InvalidRequest, match="tollkeeper init"):
            require_meters(toll, options)
        toll.catalog.apply(example_catalog())
        with pytest.raises(InvalidRequest, match="has no meter other; it has api_calls"):
            require_meters(toll, options)


def test_a_proxy_in_front_of_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tollkeeper.toml").write_text(example_catalog())
    port = str(free_port())
    refused = run(tmp_path, "proxy", "--upstream", f"http://localhost:{port}", "--listen", port, PORT="0")
    assert refused.returncode == 2
    assert "is Tollkeeper itself" in refused.stderr
