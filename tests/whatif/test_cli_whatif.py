"""`tollkeeper whatif`: any file is read or named, and nothing secret or steering comes out."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import Run
from cli.terminal_session import on_terminal, plain
from tollkeeper.cli import whatif_input
from tollkeeper.cli.whatif_input import Source, batches
from tollkeeper.cli.whatif_tables import columns

from .logs import ALB, caddy, combined, when

START = when("2026-11-05T09:00:00")
SECRET = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"
LOG = "".join(combined(START + timedelta(seconds=s), user=user) + "\n" for s, user in enumerate("aabababaaa"))
PRICE = ("--free", "2", "--price", "0.10")


@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=12),
    st.booleans(),
    st.integers(1, 9),
    st.integers(0, 12),
)
def test_lines_come_whole_and_numbered_whatever_the_pieces_they_are_read_in(
    lines: list[bytes], ends: bool, chunk: int, longest: int
) -> None:
    text = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whatif_input, "CHUNK", chunk)
        patch.setattr(whatif_input, "MAX_LINE", longest)
        raw = io.BufferedReader(io.BytesIO(text))  # type: ignore[arg-type,unused-ignore]
        found: list[str | None] = []
        for number, batch in batches(Source("a", raw, raw, len(text))):
            assert number == len(found) + 1
            found += batch
    expected = text.split(b"\n")
    if not expected[-1]:
        expected.pop()
    whole = [line.decode("utf-8", "replace").removeprefix("\ufeff") for line in expected]
    assert len(found) == len(whole)
    for line, wanted, raw_line in zip(found, whole, expected, strict=True):
        assert line == wanted if len(raw_line) <= longest else line in (None, wanted)
        assert line is None or len(line) <= longest


def test_a_line_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whatif_input, "CHUNK", 1000)
    monkeypatch.setattr(whatif_input, "MAX_LINE", 1000)
    text = b"x" * 5_000_000 + b"\nshort\n" + b"y" * 5_000_000
    raw = io.BufferedReader(io.BytesIO(text))  # type: ignore[arg-type,unused-ignore]
    tracemalloc.start()
    try:
        found = [line for _, lines in batches(Source("a", raw, raw, len(text))) for line in lines]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [None, "short", None]
    assert peak < 100_000


def test_the_answer_is_a_table_piped_and_a_chart_on_a_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(LOG)
    result = run("whatif", "access.log", *PRICE, "--zone", "UTC")
    assert result.code == 0
    assert "\x1b" not in result.out + result.err
    assert "10 calls in 10 lines of 1 log, 2026-11-05 09:00 to 2026-11-05 09:00 (UTC)\n" in result.out
    assert [line.split() for line in result.out.splitlines() if line.startswith(("Free ", "Pro ", "a ", "b "))] == [
        ["Free", "0.00", "0", "4", "-", "6"],
        ["Pro", "0.60", "2", "10", "-", "-"],
        ["a", "7", "7", "0.50", "Pro"],
        ["b", "3", "3", "0.10", "Pro"],
        ["a", "7", "Free:", "5", "(71.4", "%)", "by", "quota"],
        ["b", "3", "Free:", "1", "(33.3", "%)", "by", "quota"],
    ]
    code, seen = on_terminal(["whatif", "access.log", *PRICE], "", tmp_path)
    assert code == 0
    assert "█" * 14 in seen
    assert "\x1b[" in seen
    assert "reading" in plain(seen)
    assert "100%" in plain(seen)


def test_json_has_every_number(run: Run, tmp_path: Path) -> None:
    (tmp_path / "access.log").write_text(LOG + "junk\n")
    found = json.loads(run("whatif", "access.log", *PRICE, "--zone", "Asia/Kathmandu", "--json").out)
    assert (found["calls"], found["lines"], found["by"], found["zone"]) == (10, 11, "user", "Asia/Kathmandu")
    assert found["from"] == "2026-11-05T14:45:00+05:45"
    assert [(plan["key"], plan["earned"], plan["months"]) for plan in found["plans"]] == [
        ("free", "0.00", {"2026-11": "0.00"}),
        ("pro", "0.60", {"2026-11": "0.60"}),
    ]
    assert found["cheapest_fit"] == {"earned": "0.60", "payers": 2, "callers": {"free": 0, "pro": 2}}
    assert found["skipped"] == {"no format that is known": {"lines": 1, "examples": ["access.log:11"]}}
    assert [one["caller"] for one in found["top"]] == ["a", "b"]
    assert found["top"][0]["plans"]["pro"] == {
        "amount": "0.50",
        "counted": 7,
        "refused_by_limit": 0,
        "refused_by_quota": 0,
        "months_over_quota": 0,
    }


def test_packed_and_rotated_logs_are_read_from_the_oldest_on(run: Run, tmp_path: Path) -> None:
    limit = '[plans.p]\nlimits = [{name = "slow", limit = 1, window_seconds = 600}]\n'
    meter = 'currency = "usd"\n[meters.calls]\nevent_type = "api.call"\naggregation = "count"\n'
    (tmp_path / "tollkeeper.toml").write_text(meter + limit)
    for name, minute in (("access.log", 10), ("access.log.1", 0)):
        (tmp_path / name).write_text(combined(START + timedelta(minutes=minute), user="ann") + "\n")
    older = combined(START - timedelta(minutes=1), user="ann") + "\n"
    (tmp_path / "access.log.2.gz").write_bytes(gzip.compress(older.encode()))
    found = json.loads(run("whatif", "access.log", "access.log.1", "access.log.2.gz", "--json").out)
    assert (found["calls"], found["plans"][0]["refused_by_limit"]) == (3, 1)
    assert not [note for note in found["notes"] if "went back" in note]


def test_standard_input_may_be_packed(run: Run, tmp_path: Path) -> None:
    for data in (LOG.encode(), gzip.compress(LOG.encode()), b"\xef\xbb\xbf" + LOG.encode()):
        found = json.loads(run("whatif", "-", *PRICE, "--json", stdin=data).out)
        assert (found["calls"], found["files"]) == (10, ["-"])


def test_packed_logs_that_end_too_early_or_are_damaged_are_read_as_far_as_they_go(run: Run, tmp_path: Path) -> None:
    whole = gzip.compress(
        "".join(combined(START, f"192.0.2.{i % 200}", path=f"/{i:x}") + "\n" for i in range(9000)).encode()
    )
    damaged = bytearray(whole)
    damaged[-5000:-4000] = b"\xff\x00" * 500
    for data, word in (
        (whole[:-2000], "ends too early"),
        (bytes(damaged), "could not be read to its end"),
        (whole + b"tail", ""),
    ):
        (tmp_path / "a.gz").write_bytes(data)
        result = run("whatif", "a.gz", *PRICE, "--json")
        found = json.loads(result.out)
        assert result.code == 0
        assert 1000 < found["calls"] <= 9000
        assert word in " ".join(found["notes"])


HOSTILE = [
    b"\x1b[2J\x1b]0;owned\x07",
    b"\0" * 1000,
    b"\xff\xfe" * 500,
    b"x" * 3_000_000,
    b'{"status": 200, "ts": ' + b"9" * 5000 + b"}",
    b"[" * 60_000,
    b'{"a":' * 10_000,
    combined(START, user="\x1b[31mred\x1b[0m\u202e").encode(),
    combined(START, user="[bold]x[/bold]").encode(),
    combined(START, user="ann\xa0\ud7ff").encode(),
    combined(when("0001-01-01T00:00:00"), user="old").encode(),
    combined(when("9999-12-31T23:59:59"), user="late").encode(),
    combined(START, user="u" * 40_000).encode(),
    combined(START, user="zoë").encode("latin-1"),
    caddy(START, SECRET).encode(),
    ALB.encode(),
]


def test_no_line_breaks_it_and_none_reaches_the_terminal_raw(run: Run, tmp_path: Path) -> None:
    name = "log\x1b[31m.txt"
    (tmp_path / name).write_bytes(b"\n".join(HOSTILE * 2) + b"\n" + LOG.encode())
    for more in ([], ["--json"], ["--by", "key"], ["--by", "network"], ["--count-on", "attempt", "--top", "0"]):
        result = run("whatif", name, *PRICE, *more)
        assert result.code == 0, result.err
        for text in (result.out, result.err):
            assert all(c.isprintable() or c == "\n" for c in text)
    found = json.loads(run("whatif", name, *PRICE, "--json").out)
    assert found["lines"] == 42
    assert found["calls"] + sum(one["lines"] for one in found["skipped"].values()) == 42
    code, seen = on_terminal(["whatif", name, *PRICE], "", tmp_path)
    assert code == 0
    assert "\x1b[2J" not in seen
    assert "\x1b]0;" not in seen


@pytest.mark.parametrize("how", ["header", "query", "basic"])
def test_a_secret_in_the_log_is_nowhere_in_the_answer(run: Run, tmp_path: Path, how: str) -> None:
    line = {
        "header": caddy(START, f"Bearer {SECRET}"),
        "query": combined(START, path=f"/v1?api_key={SECRET}"),
        "basic": caddy(START, "Basic YW5uOnNlY3JldC1wYXNz"),
    }[how]
    (tmp_path / "a.log").write_text("\n".join([line] * 3 + ["broken " + line]))
    for more in ([], ["--json"]):
        result = run("whatif", "a.log", *PRICE, *more)
        assert result.code == 0
        for text in (result.out, result.err):
            for part in (SECRET[9:], "YW5uOnNlY3JldC1wYXNz", "secret-pass"):
                assert part not in text
    shown = "ann " if how == "basic" else "sk_live_…p7dc"
    assert shown in run("whatif", "a.log", *PRICE).out


def test_several_prices_stand_side_by_side(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LOG)
    found = json.loads(run("whatif", "a.log", "--free", "0", "--price", "0.10", "--price", "0.2", "--json").out)
    assert [(plan["key"], plan["name"], plan["earned"]) for plan in found["plans"]] == [
        ("pro_0.10", "Pro at 0.10", "1.00"),
        ("pro_0.2", "Pro at 0.2", "2.00"),
    ]


def test_what_cannot_be_read_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LOG)
    (tmp_path / "b.log").symlink_to("a.log")
    (tmp_path / "a.xz").write_bytes(b"\xfd7zXZ\0\0\0\0")
    (tmp_path / "empty.log").write_text("")
    (tmp_path / "hidden.log").write_text(caddy(START, "REDACTED"))
    (tmp_path / "junk.log").write_text("hello\n" * 5)
    for words, code, said in (
        (["none.log", *PRICE], 2, "none.log cannot be read: No such file or directory"),
        ([".", *PRICE], 2, ". is a folder"),
        (["a.log", "b.log", *PRICE], 2, "b.log is the same file as a.log; its calls would count twice"),
        (["a.log", "a.log", *PRICE], 2, "a.log is the same file as a.log; its calls would count twice"),
        (["-", "-", *PRICE], 2, "- is named twice"),
        (["a.xz", *PRICE], 2, "a.xz is packed with xz"),
        (["empty.log", *PRICE], 1, "no call was found in the logs\n  The logs are empty."),
        (["junk.log", *PRICE], 1, "5 lines skipped, no format that is known: junk.log:1, junk.log:2, junk.log:3, …"),
        (["a.log", *PRICE, "--by", "key"], 1, "none of 10 calls tells its key\n  Group otherwise: --by"),
        (["hidden.log", *PRICE, "--by", "key"], 1, "In Caddy, log_credentials shows it."),
        (["a.log", *PRICE, "--path", "/none"], 1, "10 calls outside of what --path and --free-path let through."),
        (["a.log"], 2, "tollkeeper.toml cannot be read: No such file or directory"),
        (["a.log", "--catalog", "none.toml"], 2, "none.toml cannot be read: No such file or directory"),
        (["a.log", *PRICE, "--catalog", "x.toml"], 2, "give --price and --free, or a catalog"),
        (["a.log", "--price", "much"], 2, "price: expected an amount of money"),
        (["a.log", *PRICE, "--free-path", "health"], 2, "--free-path: a path begins with /"),
        (["x\x1b[2J.log", *PRICE], 2, "x\ufffd[2J.log cannot be read"),
        (["a.log", *PRICE, "--zone", "Mars"], 2, "'Mars' is not an IANA time zone"),
        (["a.log", *PRICE, "--meter", "tokens"], 2, "the catalog has api_calls"),
    ):
        result = run("whatif", *words)
        assert (result.code, said in result.err) == (code, True), result.err
        assert result.out == ""


def test_one_network_alone_is_taken_for_a_proxy(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"{combined(START)}\n" * 1000)
    assert "Nearly all calls come from one network" in run("whatif", "a.log", *PRICE).err


def test_columns_share_days_when_there_are_more_than_fit() -> None:
    assert columns([0, 1, 4, 8], 4) == (" ▁▄█", 8, 1)
    assert columns([1, 8, 4, 0, 0], 3) == ("█▄ ", 8, 2)
