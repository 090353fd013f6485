from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tollkeeper.core.context import REQUEST_ID, TRACE_ID
from tollkeeper.core.keys import make_secret
from tollkeeper.integrations.logs import setup_logging

KEY = make_secret("live", 123456789)
logger = logging.getLogger("tollkeeper.test")


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was written to standard error, once."""
    root = logging.getLogger()
    before, level, hook = list(root.handlers), root.level, threading.excepthook
    yield lambda: capsys.readouterr().err
    root.handlers[:] = before
    root.setLevel(level)
    threading.excepthook = hook
    logging.captureWarnings(False)


def lines(told: Callable[[], str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told().splitlines()]


def test_a_json_line_holds_time_level_logger_message_and_what_was_added(stderr: Callable[[], str]) -> None:
    setup_logging("info", "json")
    logger.info("hello %s", "wörld\nnext", extra={"customer": "cus_1", "ms": 1.5})
    [line] = lines(stderr)
    time = line.pop("time")
    assert time.endswith("Z")
    assert len(time) == len("2026-11-21T02:17:03.123456Z")
    assert line == {
        "level": "info",
        "logger": "tollkeeper.test",
        "message": "hello wörld\nnext",
        "customer": "cus_1",
        "ms": 1.5,
    }


def test_an_exception_stays_on_its_line(stderr: Callable[[], str]) -> None:
    setup_logging("info", "json")
    try:
        raise ValueError("bad thing")
    except ValueError:
        logger.exception("it failed")
    [line] = lines(stderr)
    assert line["error"]["type"] == "ValueError"
    assert line["error"]["message"] == "bad thing"
    assert "test_logs.py" in line["error"]["stack"]


def test_a_line_names_the_request_it_belongs_to(stderr: Callable[[], str]) -> None:
    setup_logging("info", "json")
    request, trace = REQUEST_ID.set("req_1"), TRACE_ID.set("abc")
    logger.info("inside")
    REQUEST_ID.reset(request)
    TRACE_ID.reset(trace)
    logger.info("outside")
    inside, outside = lines(stderr)
    assert (inside["request_id"], inside["trace_id"]) == ("req_1", "abc")
    assert "request_id" not in outside


@pytest.mark.parametrize("format", ["json", "pretty"])
def test_no_secret_reaches_a_line_whatever_way_it_came(stderr: Callable[[], str], format: str) -> None:
    setup_logging("debug", format, secrets=["correct-horse-battery"])
    logger.info("key %s", KEY)
    logger.info("x", extra={"authorization": f"Bearer {KEY}", "token": "Bearer abc.def-ghi_jkl=="})
    logger.info("tk_admin_AbCd-EfGh_1234567890 and correct-horse-battery")
    try:
        raise RuntimeError(f"cannot use {KEY} with correct-horse-battery")
    except RuntimeError:
        logger.exception("oops")
    text = stderr()
    assert "tk_live_****" in text
    for secret in (KEY, KEY[8:], "abc.def-ghi_jkl", "AbCd-EfGh", "correct-horse-battery"):
        assert secret not in text


def test_what_somebody_sent_cannot_forge_a_line_or_move_the_cursor(stderr: Callable[[], str]) -> None:
    setup_logging("info", "pretty")
    logger.info("path %s", "/a\n02:00:00.000 INFO forged\x1b[2J", extra={"path": "/b\r\x9b"})
    [line] = stderr().splitlines()
    assert "\x1b" not in line
    assert "\x9b" not in line


def test_levels_below_the_setting_and_chatty_libraries_are_left_out(stderr: Callable[[], str]) -> None:
    setup_logging("warning", "json")
    logger.info("no")
    logger.warning("yes")
    logging.getLogger("sqlalchemy.engine").info("no")
    assert [line["message"] for line in lines(stderr)] == ["yes"]


def test_setting_up_twice_writes_each_line_once(stderr: Callable[[], str]) -> None:
    setup_logging("info", "json")
    setup_logging("info", "json")
    logger.info("once")
    assert len(lines(stderr)) == 1


def test_auto_is_json_when_nobody_watches(stderr: Callable[[], str]) -> None:
    setup_logging("info", "auto")
    logger.info("piped")
    assert lines(stderr)[0]["message"] == "piped"


def test_a_thread_that_dies_is_told(stderr: Callable[[], str]) -> None:
    setup_logging("info", "json")

    def fail() -> None:
        raise OSError("no space")

    thread = threading.Thread(target=fail, name="writer-7")
    thread.start()
    thread.join()
    [line] = lines(stderr)
    assert (line["level"], line["message"]) == ("critical", "thread writer-7 failed")
    assert line["error"]["message"] == "no space"
