"""Logs on standard error: one JSON object a line, or one readable line on a terminal. Standard library logging, no more.

A line never holds a secret: what looks like a key or a bearer token, and every secret named to `setup_logging`, is cut on the way
out, wherever it came from.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from tollkeeper.core.context import REQUEST_ID, TRACE_ID

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# two expressions that each begin with a letter: a sixth of the cost of one with alternatives
_KEY: Final = re.compile(r"tk_(live|test|admin)_[A-Za-z0-9_-]{6,}")
_CREDENTIAL: Final = re.compile(r"([Bb]earer|[Bb]asic) +[A-Za-z0-9._~+/=-]{6,}")
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_QUIET: Final = ("aiohttp.access", "alembic", "asyncio", "sqlalchemy", "uvicorn.access", "urllib3", "opentelemetry")


def setup_logging(level: str = "info", format: str = "auto", *, secrets: Iterable[str] = ()) -> None:
    """Send everything that is logged to standard error. Call once, in a process that serves; a second call replaces the first.

    `level` is debug, info, warning or error. `format` is json, pretty or auto (pretty on a terminal). Run uvicorn with
    `log_config=None, access_log=False`, or it prints in its own way.
    """
    stream = sys.stderr
    pretty = format == "pretty" or (format == "auto" and stream.isatty())
    handler: logging.Handler = logging.StreamHandler(stream)
    handler.setFormatter(PrettyFormatter(secrets, _colours(stream)) if pretty else JsonFormatter(secrets))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, JsonFormatter | PrettyFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    threading.excepthook = _log_thread_failure


class _Formatter(logging.Formatter):
    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secret for secret in secrets if secret)

    def redact(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "****")
        return _CREDENTIAL.sub(r"\1 ****", _KEY.sub(r"tk_\1_****", line))

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What was passed as `extra`, and the request the line belongs to."""
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        for name, variable in (("request_id", REQUEST_ID), ("trace_id", TRACE_ID)):
            value = variable.get()
            if value is not None:
                fields.setdefault(name, value)
        return fields


_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode


class JsonFormatter(_Formatter):
    """`{"time","level","logger","message", …extra, "error":{"type","message","stack"}}`, ASCII, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _utc(record).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in self.fields(record).items():
            line.setdefault(name, value)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = {
                "type": record.exc_info[0].__name__,
                "message": str(record.exc_info[1]),
                "stack": self.formatException(record.exc_info),
            }
        return self.redact(_encode(line))


class PrettyFormatter(_Formatter):
    """`02:17:03.123 INFO  tollkeeper.web  message  name=value`, in UTC; a stack follows on its own lines."""

    def __init__(self, secrets: Iterable[str] = (), colours: bool = False) -> None:
        super().__init__(secrets)
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        shown = level.upper()[:5].ljust(5)
        if self._colours:
            shown = f"\x1b[{_COLOURS.get(level, '0')}m{shown}\x1b[0m"
        moment = _utc(record).strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f"  {name}={_printable(str(value))}" for name, value in self.fields(record).items())
        line = f"{moment} {shown} {record.name}  {_printable(record.getMessage())}{fields}"
        if record.exc_info:
            stack = self.formatException(record.exc_info)
            line += "".join(f"\n  {_printable(text)}" for text in stack.splitlines())
        return self.redact(line)


def _utc(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _printable(text: str) -> str:
    """What somebody sent must not move the cursor of whoever reads the log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _log_thread_failure(failure: threading.ExceptHookArgs) -> None:
    name = failure.thread.name if failure.thread else "unknown"
    value = failure.exc_value or failure.exc_type()
    logging.getLogger("tollkeeper").critical("thread %s failed", name, exc_info=value)
